"""Which photo is trained on, which chooses the epoch, which judges the result.

A split is a CSV file `source,path,label,split,group` that names every photo, so that anyone can
train and test on the same ones. Photos of one group are the same photo and stay together.
"""

import csv
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.sources import DataError

TRAIN, VALIDATION, TEST, EXCLUDED = "train", "validation", "test", "excluded"
SPLITS = (TRAIN, VALIDATION, TEST, EXCLUDED)
_COLUMNS = ("source", "path", "label", "split", "group")


@dataclass(frozen=True)
class Photo:
    """A photo of a data set and its place in the split.

    Attributes:
        source, path: which photo; `path` is relative to the source.
        label: its class.
        key: the hash of its file's bytes.
        group: photos with the same group are the same photo.
        split: one of `SPLITS`; excluded photos are in a group with contradicting labels.
    """

    source: str
    path: str
    label: str
    key: str
    group: str
    split: str = EXCLUDED


def make_split(photos: Sequence[Photo], validation: float, test: float, seed: int) -> list[Photo]:
    """Deals out the photos: stratified by class, whole groups at a time, the same on any machine.

    Groups whose photos carry different labels are excluded: nobody knows which label is right.

    Args:
        photos: their `split` is ignored.
        validation, test: the shares of each class, 0 to 1; a class of two groups or more always
            keeps one for training.
        seed: another seed deals otherwise.
    """
    groups: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        groups[photo.group].append(photo)
    classes: dict[str, list[str]] = defaultdict(list)
    for group, members in groups.items():
        if len({photo.label for photo in members}) == 1:
            classes[members[0].label].append(group)
    split_of_group = {}
    for label, names in sorted(classes.items()):
        names = sorted(names)
        random.Random(f"{seed}/{label}").shuffle(names)
        n_test = min(round(len(names) * test), len(names) - 1)
        n_validation = min(round(len(names) * validation), len(names) - 1 - n_test)
        for position, group in enumerate(names):
            split_of_group[group] = (
                TEST
                if position < n_test
                else VALIDATION
                if position < n_test + n_validation
                else TRAIN
            )
    return [replace(photo, split=split_of_group.get(photo.group, EXCLUDED)) for photo in photos]


def write_split(path: Path, photos: Iterable[Photo]) -> None:
    """Writes the split file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for photo in photos:
            writer.writerow([getattr(photo, column) for column in _COLUMNS])


def read_split(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    """Reads a split file: (source, path) to its row.

    Raises:
        DataError: it cannot be read, or is no split file.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != _COLUMNS:
                raise DataError(f"{path}: the columns should be {','.join(_COLUMNS)}")
            rows = {(row["source"], row["path"]): row for row in reader}
    except OSError as error:
        raise DataError(f"the split file {path} cannot be read: {error.strerror}") from None
    for (source, name), row in rows.items():
        if row["split"] not in SPLITS:
            raise DataError(f"{path}: {name} of {source} has the unknown split {row['split']!r}")
    return rows


def apply_split(path: Path, photos: Sequence[Photo]) -> list[Photo]:
    """Gives the photos at hand the places that a split file names for them.

    Raises:
        DataError: not a split file, or a photo at hand is missing from it or labelled otherwise.
    """
    named = read_split(path)
    result = []
    for photo in photos:
        row = named.get((photo.source, photo.path))
        where = f"{path}: the photo {photo.path} of {photo.source}"
        if row is None:
            raise DataError(f"{where} is not in it; split anew, or remove the photo")
        if row["label"] != photo.label:
            raise DataError(f"{where} is {row['label']!r} there and {photo.label!r} here")
        result.append(replace(photo, split=row["split"], group=row["group"]))
    return result
