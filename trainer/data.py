"""From `--data` to photos ready for training: read, decoded, grouped, split."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.cache import Entry, PhotoCache
from trainer.copies import group_copies
from trainer.sources import DataError, Problem, label_union, read_sources
from trainer.splits import SPLITS, TRAIN, Photo, apply_split, make_split

# How photos are shrunk, for training and in use alike: squeezed to a square, so that nothing of
# the car is cropped away; on Stanford Cars that beats cropping.
INTERPOLATION, CROP_PCT, CROP_MODE = "bicubic", 1.0, "squash"


def geometry(size: int) -> dict[str, Any]:
    """The geometric part of a data config for a square input of `size` pixels."""
    return {
        "input_size": (3, size, size),
        "interpolation": INTERPOLATION,
        "crop_pct": CROP_PCT,
        "crop_mode": CROP_MODE,
    }


@dataclass(frozen=True)
class DataSet:
    """All photos of a run.

    Attributes:
        labels: the class names in the order of the network's outputs.
        photos: every usable photo with its split.
        problems: every photo that is not usable, and why.
    """

    labels: list[str]
    photos: list[Photo]
    problems: list[Problem]
    _readers: list[Callable[[], bytes]]

    @property
    def sizes(self) -> dict[str, int]:
        """How many photos each split has."""
        counts = Counter(photo.split for photo in self.photos)
        return {split: counts[split] for split in SPLITS}

    @property
    def fingerprint(self) -> str:
        """A hash of every photo's source, path, label and content, whatever machine it is on."""
        lines = sorted(f"{p.source}\t{p.path}\t{p.label}\t{p.key}\n" for p in self.photos)
        return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()

    def cached(self, cache: PhotoCache, split: str) -> tuple[list[int], list[int]]:
        """Puts the photos of one split into a cache; returns their rows and class indices."""
        chosen = [index for index, photo in enumerate(self.photos) if photo.split == split]
        entries = cache.add([self._readers[index] for index in chosen], f"caching {split} photos")
        index_of = {label: index for index, label in enumerate(self.labels)}
        for index, entry in zip(chosen, entries, strict=True):
            if entry.row < 0:  # it was readable a moment ago
                raise DataError(f"{self.photos[index].path} changed while it was read")
        return (
            [entry.row for entry in entries],
            [index_of[self.photos[index].label] for index in chosen],
        )


def load_data(
    specs: tuple[str, ...],
    cache: PhotoCache,
    *,
    split_file: Path | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
) -> DataSet:
    """Reads the sources, decodes every photo once into `cache`, and splits what is usable.

    Args:
        specs: `NAME=FOLDER_OR_HUB_ID` each.
        cache: where decoded photos go.
        split_file: a split to use; without one a new one is dealt from the other arguments, see
            `trainer.splits.make_split`.

    Raises:
        DataError: a source cannot be read, no photo is usable, or the split file does not fit.
    """
    sources = read_sources(specs)
    photos: list[Photo] = []
    readers: list[Callable[[], bytes]] = []
    entries: list[Entry] = []
    problems: list[Problem] = []
    for source in sources:
        source_readers = list(source.readers())
        found = cache.add(source_readers, f"reading {source.name}")
        problems += source.problems
        for path, label, reader, entry in zip(
            source.photos["path"], source.photos["label"], source_readers, found, strict=True
        ):
            if entry.error:
                problems.append(Problem(source.name, path, entry.error))
                continue
            name = source.label_names[label]
            photos.append(Photo(source.name, path, name, entry.key, group=""))
            readers.append(reader)
            entries.append(entry)
    if not photos:
        raise DataError(f"none of the {len(problems)} photos can be read: {problems[0].reason}")
    photos = group_copies(photos, cache.pixels(), [entry.row for entry in entries])
    if split_file:
        photos = apply_split(split_file, photos)
    else:
        photos = make_split(photos, validation, test, seed)
    data = DataSet(label_union(sources), photos, problems, readers)
    if not data.sizes[TRAIN]:
        raise DataError("the split leaves no photo for training")
    return data
