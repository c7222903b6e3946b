"""From `--data` to photos ready for training: read, decoded, grouped, split."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from space.errors import DataError
from trainer.data.cache import CachedPhotos, PhotoCache
from trainer.data.classes import Classes, unite
from trainer.data.copies import Copies, find_copies
from trainer.data.exteriors import ExteriorScores, score_exteriors
from trainer.data.source import Columns, Problem, Source
from trainer.data.sources import read_sources
from trainer.data.splits import (
    SPLITS,
    TRAIN,
    Photo,
    Scheme,
    apply_split,
    join_series,
    make_split,
    read_split,
)


@dataclass(frozen=True)
class DataSet:
    """All photos of a run.

    Attributes:
        sources: the datasets they come from.
        classes: what the network's outputs mean.
        photos: every readable photo.
        problems: every photo that is not readable, and why.
        copies: which of the photos are the same photo.
        rows: where each photo's pixels are in the cache.
        readers: for each photo a function that returns its file's bytes.
    """

    sources: list[Source]
    classes: Classes
    photos: list[Photo]
    problems: list[Problem]
    copies: Copies
    rows: list[int]
    readers: list[Callable[[], bytes]]

    @property
    def sizes(self) -> dict[str, int]:
        """How many photos each split has."""
        counts = Counter(photo.split for photo in self.photos)
        return {split: counts[split] for split in SPLITS}

    @property
    def left_out(self) -> list[Problem]:
        """Every photo that takes no part, and why: unreadable ones and excluded ones."""
        excluded = [Problem(p.source, p.path, p.reason) for p in self.photos if p.reason]
        return [*self.problems, *excluded]

    @property
    def fingerprint(self) -> str:
        """A hash of every photo's source, path, label and content, whatever machine it is on."""
        lines = sorted(f"{p.source}\t{p.path}\t{p.label}\t{p.key}\n" for p in self.photos)
        return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()

    def describe(self, split_hash: str) -> dict[str, Any]:
        """Which photos a run was made of.

        Args:
            split_hash: of the run's split file.
        """
        assigned = Counter((photo.source, photo.split) for photo in self.photos)
        unusable = Counter(problem.source for problem in self.problems)
        return {
            "dataset": {
                "fingerprint": self.fingerprint,
                "photos": len(self.photos),
                "unusable": len(self.problems),
                "classes": len(self.classes.labels),
            },
            "split": {"sha256": split_hash, **self.sizes},
            "sources": {
                source.name: {split: assigned[source.name, split] for split in SPLITS}
                | {"unusable": unusable[source.name], "origin": source.origin}
                for source in self.sources
            },
            # Without what a reason names after a colon, which is of one photo.
            "left_out": dict(
                Counter(item.reason.partition(":")[0] for item in self.left_out).most_common()
            ),
        }

    def cached(self, cache: PhotoCache, split: str) -> CachedPhotos:
        """Puts the photos of one split into a cache."""
        chosen = [index for index, photo in enumerate(self.photos) if photo.split == split]
        entries = cache.add([self.readers[index] for index in chosen], f"caching {split} photos")
        for index, entry in zip(chosen, entries, strict=True):
            if entry.row < 0:  # it was readable a moment ago
                raise DataError(f"{self.photos[index].path} changed while it was read")
        return CachedPhotos(cache, entries, [self.photos[index].target for index in chosen])


def read_photos(specs: Sequence[str], cache: PhotoCache, columns: Columns | None = None) -> DataSet:
    """Reads the sources, decodes every photo once into `cache` and finds the copies among them.

    Args:
        specs: `NAME=LOCATION` each, see `trainer.data.sources`.
        cache: where decoded photos go.
        columns: see `read_sources`.

    Returns:
        The photos with their groups, not split yet.

    Raises:
        DataError: a source cannot be read, or no photo is readable.
    """
    sources = read_sources(specs, columns)
    classes = unite(sources)
    photos: list[Photo] = []
    readers: list[Callable[[], bytes]] = []
    rows: list[int] = []
    problems: list[Problem] = []
    for source in sources:
        source_readers = source.readers()
        found = cache.add(source_readers, f"reading {source.name}")
        problems += source.problems
        table = source.photos
        for path, number, official, reader, entry in zip(
            table["path"], table["label"], table["official"], source_readers, found, strict=True
        ):
            if entry.error:
                problems.append(Problem(source.name, path, entry.error))
                continue
            label = source.label_names[number]
            target = classes.targets[source.name, label]
            photos.append(
                Photo(source.name, path, label, entry.key, target=target, official=official)
            )
            readers.append(reader)
            rows.append(entry.row)
    if not photos:
        raise DataError(f"none of the {len(problems)} photos can be read: {problems[0].reason}")
    copies = find_copies([photo.key for photo in photos], cache.pixels(), rows)
    photos = [
        replace(photo, group=group) for photo, group in zip(photos, copies.groups, strict=True)
    ]
    return DataSet(sources, classes, photos, problems, copies, rows, readers)


def load_data(
    specs: Sequence[str],
    cache: PhotoCache,
    *,
    columns: Columns | None = None,
    split_file: Path | None = None,
    scheme: Scheme | None = None,
    seed: int = 0,
    exteriors: bool = True,
    series: Mapping[str, int] | None = None,
    seen: Path | None = None,
) -> DataSet:
    """Reads photos as `read_photos` does, and splits them.

    Args:
        split_file: a split to use; without one a new one is made from the other arguments, see
            `trainer.data.splits.make_split`.
        exteriors: leave photos out that show no car from outside; `split_file` decides otherwise.
        series: for datasets by name, how many neighboring numbers stay together, see
            `trainer.data.splits.join_series`; `split_file` decides otherwise.
        seen: a split file whose training photos, and copies of them, are for training here too,
            see `trainer.data.splits.make_split`; `split_file` decides otherwise.

    Raises:
        DataError: as `read_photos`, or the split file does not fit, or nothing is left to train on.
    """
    data = read_photos(specs, cache, columns)
    for source, length in (series or {}).items():
        data = replace(data, photos=join_series(data.photos, source, length))
    scores = None
    if exteriors and not split_file:
        scores = score_exteriors(data.photos, cache.pixels(), data.rows)
    return split_data(data, scores, split_file=split_file, scheme=scheme, seed=seed, seen=seen)


def _groups_trained_on(path: Path | None, photos: Sequence[Photo]) -> set[str]:
    if not path:
        return set()
    rows = read_split(path)
    trained = {place for place, row in rows.items() if row["split"] == TRAIN}
    return {photo.group for photo in photos if (photo.source, photo.path) in trained}


def split_data(
    data: DataSet,
    scores: ExteriorScores | None = None,
    *,
    split_file: Path | None = None,
    scheme: Scheme | None = None,
    seed: int = 0,
    seen: Path | None = None,
) -> DataSet:
    """Splits photos as `load_data` does.

    Args:
        scores: of the photos, those among them that show no car from outside are left out;
            `split_file` decides otherwise.

    Raises:
        DataError: the split file does not fit, or nothing is left to train on.
    """
    if split_file:
        photos = apply_split(split_file, data.photos)
    else:
        photos = scores.excluding(data.photos) if scores else data.photos
        photos = make_split(photos, scheme or Scheme(), seed, _groups_trained_on(seen, photos))
    data = replace(data, photos=photos)
    if not data.sizes[TRAIN]:
        why = [f"{problem.path} takes no part, {problem.reason}" for problem in data.left_out[:1]]
        raise DataError("; ".join(["the split leaves no photo for training", *why]))
    return data
