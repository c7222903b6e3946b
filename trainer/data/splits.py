"""Which photo is trained on, which chooses the epoch, which judges the result.

A split is a CSV file `source,path,label,split,group` that names every photo, so that anyone can
train and test on the same ones. Photos of one group are the same photo and stay together.
"""

import csv
import random
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from space.errors import DataError
from trainer.data.tables import read_rows

TRAIN, VALIDATION, TEST, EXCLUDED = "train", "validation", "test", "excluded"
SPLITS = (TRAIN, VALIDATION, TEST, EXCLUDED)
_COLUMNS = ("source", "path", "label", "split", "group")

# Where a scheme speaks of training and test alone, this share of the training photos is set apart
# to choose the epoch, so that the test photos need not.
_VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class Photo:
    """A photo of a dataset and its place in the split.

    Attributes:
        source, path: which photo; `path` is relative to the source.
        label: its class, as the source calls it.
        key: the hash of its file's bytes.
        group: photos with the same group are the same photo.
        target: the number of its class among all classes of the run.
        official: the part that the dataset's authors put it in, see `Source.photos`.
        split: one of `SPLITS`.
        reason: why it is excluded; empty when it is not.
    """

    source: str
    path: str
    label: str
    key: str
    group: str = ""
    target: int = 0
    official: str = ""
    split: str = EXCLUDED
    reason: str = ""


@dataclass(frozen=True)
class Scheme:
    """How photos are split into training, validation and test.

    Attributes:
        validation, test: shares of each class, 0 to 1.
        fold, folds: for k-fold cross-validation: the number of the fold that is the test, counted
            from 1, and how many there are; 0 otherwise.
        official: the parts of the dataset's authors are kept; a dataset that has no official
            test is split by `validation` and the same share for the test.
    """

    validation: float = 0.1
    test: float = 0.1
    fold: int = 0
    folds: int = 0
    official: bool = False

    @classmethod
    def parse(cls, text: str) -> "Scheme":
        """Reads "70/15/15" (training, validation, test), "90/10", "official" or "fold:2/5".

        Raises:
            DataError: none of these.
        """
        if text == "official":
            return cls(_VALIDATION_SHARE, 0.0, official=True)
        if match := re.fullmatch(r"fold:(\d+)/(\d+)", text):
            fold, folds = int(match[1]), int(match[2])
            if 1 <= fold <= folds and folds >= 2:
                return cls(_VALIDATION_SHARE * (1 - 1 / folds), 1 / folds, fold, folds)
        elif re.fullmatch(r"\d+(?:/\d+){1,2}", text):
            shares = [int(number) / 100 for number in text.split("/")]
            if round(sum(shares) * 100) == 100 and shares[0] > 0:
                if len(shares) == 2:
                    return cls(_VALIDATION_SHARE * shares[0], shares[1])
                return cls(shares[1], shares[2])
        raise DataError(
            f"the split {text!r} is none: write training/validation/test in percent (70/15/15), "
            "training/test (90/10), official, or a fold of cross-validation (fold:2/5)"
        )


_WITHOUT_PARTS = Scheme(_VALIDATION_SHARE, _VALIDATION_SHARE)


def join_series(photos: Sequence[Photo], source: str, length: int) -> list[Photo]:
    """Puts photos of one class that were taken in turn, by their files' numbers, into one group.

    Sellers photograph one car from several sides, and scraped files keep that order: numbers
    that are equal when divided by `length` may show one car.

    Args:
        photos: with the groups of copies. A group of several classes stays as it is.
        source: the dataset with such files; the last number in a file's name is its number.
        length: numbers that make one series.

    Raises:
        DataError: `length` is below 2, or no photo is of that source.
    """
    if length < 2 or source not in {photo.source for photo in photos}:
        raise DataError(
            f"--series {source}={length}: give the name of a dataset of this run, and a number "
            "of 2 or more"
        )
    targets: dict[str, set[int]] = defaultdict(set)
    for photo in photos:
        targets[photo.group].add(photo.target)
    parent: dict[str, str] = {}

    def root(group: str) -> str:
        while group in parent:
            group = parent[group]
        return group

    first: dict[tuple[int, int], str] = {}
    for photo in photos:
        numbers = re.findall(r"\d+", Path(photo.path).stem)
        if photo.source != source or not numbers or len(targets[photo.group]) > 1:
            continue
        group = root(photo.group)
        other = root(first.setdefault((photo.target, int(numbers[-1]) // length), group))
        if group != other:
            parent[max(group, other)] = min(group, other)
    return [replace(photo, group=root(photo.group)) for photo in photos]


def make_split(
    photos: Sequence[Photo], scheme: Scheme, seed: int, seen: Collection[str] = ()
) -> list[Photo]:
    """Deals out the photos: stratified by class, whole groups at a time, the same on any machine.

    A group whose photos carry different labels is excluded: nobody knows which label is right. So
    is the group of a photo that has a reason to be excluded already.

    Args:
        photos: their `split` is ignored.
        scheme: of two shares and in folds, a tenth of what is not tested on is for validation. A
            class of two groups or more always keeps one for training.
        seed: another seed splits differently.
        seen: groups that a network has trained on which is to be trained further. They are assigned
            to training, since they would flatter it in validation and test. The official test
            and the folds stay as they are.

    Raises:
        DataError: the official parts are asked for, but no photo is in the official test.
    """
    groups: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        groups[photo.group].append(photo)
    reasons: dict[str, str] = {}
    classes: dict[int, list[str]] = defaultdict(list)
    for group, members in groups.items():
        reason = _reason_to_exclude(members)
        if reason:
            reasons[group] = reason
        else:
            classes[members[0].target].append(group)
    split_of_group: dict[str, str] = {}
    parted = {photo.source for photo in photos if photo.official == TEST}
    if scheme.official and not parted:
        parts = dict(Counter(photo.official or "no part" for photo in photos))
        raise DataError(
            f"the official split needs photos of the official test; there are {parts}. "
            "Make another one, such as 80/10/10"
        )
    tested = {p.group for p in photos if p.official == TEST} if scheme.official else set()
    for names in classes.values():
        label = groups[min(names)][0].label
        if not scheme.official:
            split_of_group |= _split_class(label, sorted(names), groups, scheme, seed, seen)
            continue
        kept = [name for name in names if any(p.source in parted for p in groups[name])]
        others = sorted(set(names).difference(kept))
        split_of_group |= _split_class(label, sorted(kept), groups, scheme, seed, seen)
        split_of_group |= _split_class(label, others, groups, _WITHOUT_PARTS, seed, seen)
    result = []
    for photo in photos:
        split = split_of_group.get(photo.group, EXCLUDED)
        reason = photo.reason or reasons.get(photo.group, "")
        if split == TEST and photo.group in tested and photo.official != TEST:
            split, reason = EXCLUDED, "a copy of a photo of the official test"
        result.append(replace(photo, split=split, reason=reason))
    return result


def _reason_to_exclude(members: Sequence[Photo]) -> str:
    for photo in members:
        if photo.reason:
            return photo.reason
    if len({photo.target for photo in members}) > 1:
        labels = sorted({photo.label for photo in members})
        return f"the same photo stands under {len(labels)} labels: {'; '.join(labels)}"
    return ""


def fewest_photos(scheme: Scheme) -> int | None:
    """How many different photos a class needs to have one for validation; None if never."""
    shares = replace(scheme, official=False)
    for count in range(2, 1000):
        if VALIDATION in _split_class("", [str(n) for n in range(count)], {}, shares, 0).values():
            return count
    return None


def _split_class(
    label: str,
    names: list[str],
    groups: dict[str, list[Photo]],
    scheme: Scheme,
    seed: int,
    seen: Collection[str] = (),
) -> dict[str, str]:
    """Where each group of one class goes."""
    assigned: dict[str, str] = {}
    if scheme.official:
        for name in names:
            parts = {photo.official for photo in groups[name]}
            for part in (TEST, VALIDATION):
                if part in parts:
                    assigned.setdefault(name, part)
        names = [name for name in names if name not in assigned]
        if VALIDATION in assigned.values():
            return assigned | dict.fromkeys(names, TRAIN)
    random.Random(f"{seed}/{label}").shuffle(names)
    if scheme.folds:
        tested = names[scheme.fold - 1 :: scheme.folds]
        names = [name for name in names if name not in tested]
        if not names:  # a class of one group is trained on in every fold
            names, tested = tested, []
        assigned = dict.fromkeys(tested, TEST)
    names.sort(key=lambda name: name in seen)
    new = sum(name not in seen for name in names)
    n_test = 0 if scheme.folds else min(round(len(names) * scheme.test), len(names) - 1, new)
    share = scheme.validation / (1 - scheme.test) if scheme.folds else scheme.validation
    n_validation = max(0, min(round(len(names) * share), len(names) - 1 - n_test, new - n_test))
    for position, name in enumerate(names):
        assigned[name] = (
            TEST if position < n_test else VALIDATION if position < n_test + n_validation else TRAIN
        )
    return assigned


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
        DataError: it cannot be read, or is not a split file.
    """
    try:
        rows = {(row["source"], row["path"]): row for row in read_rows(path, _COLUMNS)}
    except DataError as error:
        raise DataError(f"the split file {error}") from None
    for (source, name), row in rows.items():
        if row["split"] not in SPLITS:
            raise DataError(f"{path}: {name} of {source} has the unknown split {row['split']!r}")
    return rows


def _check_groups(path: Path, rows: Iterable[dict[str, str]]) -> None:
    """Refuses a split whose groups straddle it: its test would be trained on."""
    split_of_group: dict[str, str] = {}
    for row in rows:
        if row["split"] != EXCLUDED:
            split = split_of_group.setdefault(row["group"], row["split"])
            if split != row["split"]:
                raise DataError(
                    f"{path}: photos of the group {row['group']} are the same photo, but stand in "
                    f"{split} and {row['split']}, {row['path']} of {row['source']} among them"
                )


def apply_split(path: Path, photos: Sequence[Photo]) -> list[Photo]:
    """Gives the photos at hand the places that a split file names for them.

    Raises:
        DataError: not a split file, one that parts photos of one group, or a photo at hand is
            missing from it or labeled otherwise.
    """
    named = read_split(path)
    _check_groups(path, named.values())
    result = []
    for photo in photos:
        row = named.get((photo.source, photo.path))
        where = f"{path}: the photo {photo.path} of {photo.source}"
        if row is None:
            raise DataError(f"{where} is not in it; split again, or remove the photo")
        if row["label"] != photo.label:
            raise DataError(f"{where} is {row['label']!r} there and {photo.label!r} here")
        reason = "excluded by the split file" if row["split"] == EXCLUDED else ""
        result.append(replace(photo, split=row["split"], group=row["group"], reason=reason))
    return result
