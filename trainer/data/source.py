"""What every dataset is read into, whatever its layout."""

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from datasets import ClassLabel, Dataset, Features, Image, Value

from space.labels import Car, unfit_text
from space.walk import is_folder, photos_in

# What the parts of published datasets are called, and which official part they are.
OFFICIAL = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Columns:
    """Which columns of a Hub dataset hold the picture and its class."""

    image: str = "image"
    label: str = "label"


@dataclass(frozen=True)
class Problem:
    """A photo that cannot be used, and why."""

    source: str
    path: str
    reason: str


@dataclass(frozen=True)
class Source:
    """A dataset.

    Attributes:
        name: how splits and reports call it.
        photos: columns `path` (relative to the source, the photo's name everywhere), `image`
            (undecoded: {"bytes", "path"}), `label` (a `ClassLabel` of the dataset's own names)
            and `official` (the part its authors put the photo in: "train", "validation", "test",
            or "" where they made no parts).
        cars: for each label, the make, model and year that it means.
        problems: photos that the dataset names but does not have, or that name no class.
        origin: what other people know it by: "stanford_cars", "algerian_used_cars", or `org/name`
            on the Hub; "" for a dataset of one's own.
    """

    name: str
    photos: Dataset
    cars: tuple[Car, ...]
    problems: tuple[Problem, ...] = ()
    origin: str = ""

    @property
    def label_names(self) -> list[str]:
        return self.photos.features["label"].names

    def readers(self) -> list[Callable[[], bytes]]:
        """For each photo, in order, a function that reads its file's bytes when it is called."""
        return [partial(_read, self.photos, row) for row in range(len(self.photos))]


def _read(photos: Dataset, row: int) -> bytes:
    image = photos[row]["image"]
    return Path(image["path"]).read_bytes() if image["bytes"] is None else image["bytes"]


def content_key(content: bytes) -> str:
    """What identifies a photo's file: the SHA-256 of its bytes."""
    return hashlib.sha256(content).hexdigest()


def features(label_names: list[str]) -> Features:
    """The columns of `Source.photos`."""
    return Features(
        path=Value("string"),
        image=Image(decode=False),
        label=ClassLabel(names=label_names),
        official=Value("string"),
    )


@dataclass(frozen=True)
class File:
    """A photo on disk: its path relative to the source's folder, its label, its official part."""

    path: str
    label: str
    official: str = ""


def from_files(
    name: str,
    folder: Path,
    files: Iterable[File],
    cars: dict[str, Car],
    problems: Iterable[Problem] = (),
) -> Source:
    """A source of files below a folder; files that are missing become problems.

    Args:
        cars: every label, in order, and the car that it means.
    """
    present, missing = [], []
    for file in files:
        if os.path.isfile(folder / file.path):  # noqa: PTH113  (Path's raises without a right)
            present.append(file)
        else:
            missing.append(Problem(name, file.path, "the file is missing"))
    index = {label: number for number, label in enumerate(cars)}
    photos = Dataset.from_dict(
        {
            "path": [file.path for file in present],
            "image": [{"bytes": None, "path": str(folder / file.path)} for file in present],
            "label": [index[file.label] for file in present],
            "official": [file.official for file in present],
        },
        features=features(list(cars)),
    )
    return Source(name, photos, tuple(cars.values()), (*problems, *missing))


def photos_below(folder: Path, name: str = "") -> tuple[list[str], list[Problem]]:
    """Every photo at any depth, as a path relative to the folder, in the same order anywhere.

    Args:
        name: of the source, for the problems.

    Returns:
        The paths, and what cannot be used: names that no table of a run can hold, and folders that
        cannot be listed.
    """
    paths, problems = [], []
    for found in photos_in(folder):
        path = found.relative_to(folder).as_posix()
        if unfit := unfit_text(path):
            problems.append(Problem(name, printable(path), f"its name holds {unfit}; rename it"))
        elif is_folder(found):
            reason = "the folder cannot be listed; allow it with `chmod u+rx`"
            problems.append(Problem(name, path, reason))
        else:
            paths.append(path)
    return sorted(paths), problems


def printable(path: str) -> str:
    """A path as tables in UTF-8 can hold it."""
    return path.encode("utf-8", "backslashreplace").decode()
