"""Data sets, read through `datasets` into one form whatever their layout.

A source is written `NAME=FOLDER_OR_HUB_ID` in every command. Plain `NAME` means the folder of that
name under the environment variable `MARQUE_DATA`. What lies there decides how it is read:

    devkit/*.mat    the original layout of Stanford Cars
    *.parquet       Parquet as the Hub stores it, in a folder or by Hub id
    folders         one folder per class
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import httpx2
from datasets import ClassLabel, Dataset, Features, Image, Value, concatenate_datasets, load_dataset
from datasets.exceptions import DatasetsError
from scipy.io import loadmat

from space.photos import PHOTO_SUFFIXES


class DataError(ValueError):
    """A data set cannot be read; the message says which, why, and what to do."""


@dataclass(frozen=True)
class Problem:
    """A photo that cannot be used, and why."""

    source: str
    path: str
    reason: str


@dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
        name: how splits and reports call it.
        photos: columns `path` (relative to the source, the photo's name everywhere), `image`
            (undecoded: {"bytes", "path"}) and `label` (a `ClassLabel`).
        problems: photos that the data set names but does not have.
    """

    name: str
    photos: Dataset
    problems: tuple[Problem, ...] = ()

    @property
    def label_names(self) -> list[str]:
        return self.photos.features["label"].names

    def readers(self) -> Iterable[Callable[[], bytes]]:
        """For each photo, in order, a function that reads its file's bytes."""
        for image in self.photos["image"]:
            yield _reader(image)


def _reader(image: dict) -> Callable[[], bytes]:
    if image["bytes"] is not None:
        return lambda: image["bytes"]
    return lambda: Path(image["path"]).read_bytes()


def read_sources(specs: Iterable[str]) -> list[Source]:
    """Reads each `NAME=FOLDER_OR_HUB_ID`.

    Raises:
        DataError: a source is not found, not understood, empty, or a name is given twice.
    """
    sources = [read_source(spec) for spec in specs]
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise DataError(f"two data sets have the same name: {', '.join(names)}")
    return sources


def read_source(spec: str) -> Source:
    """Reads one `NAME=FOLDER_OR_HUB_ID`; see the module's head for what it may be."""
    name, separator, location = spec.partition("=")
    if not name or (separator and not location):
        raise DataError(f"--data {spec!r}: write NAME=FOLDER_OR_HUB_ID")
    if not separator:
        if not os.environ.get("MARQUE_DATA"):
            raise DataError(
                f"--data {spec}: say where it lies ({spec}=FOLDER_OR_HUB_ID), "
                "or set MARQUE_DATA to the folder that holds it"
            )
        location = str(Path(os.environ["MARQUE_DATA"]) / name)
    folder = Path(location)
    if folder.is_dir():
        if (folder / "devkit" / "cars_train_annos.mat").is_file():
            source = _read_stanford(name, folder)
        elif any(folder.rglob("*.parquet")):
            source = _read_parquet(name, location)
        else:
            source = _read_class_folders(name, folder)
    elif location.count("/") == 1 and not location.startswith((".", "/", "~")):
        source = _read_parquet(name, location)
    else:
        raise DataError(f"--data {spec}: there is no folder {location}")
    if not len(source.photos):
        raise DataError(f"--data {spec}: no photo found there")
    return source


def label_union(sources: Iterable[Source]) -> list[str]:
    """One class list for several sources: the first's labels in its order, then what is new."""
    return list(dict.fromkeys(label for source in sources for label in source.label_names))


def content_key(content: bytes) -> str:
    """What identifies a photo's file: the SHA-256 of its bytes."""
    return hashlib.sha256(content).hexdigest()


def _features(label_names: list[str]) -> Features:
    return Features(
        path=Value("string"), image=Image(decode=False), label=ClassLabel(names=label_names)
    )


def _from_files(
    name: str, folder: Path, files: list[tuple[str, int]], label_names: list[str]
) -> Source:
    """A source of (path relative to the folder, label index) pairs; the files may be missing."""
    present, problems = [], []
    for path, label in files:
        if (folder / path).is_file():
            present.append((path, label))
        else:
            problems.append(Problem(name, path, "the file is missing"))
    photos = Dataset.from_dict(
        {
            "path": [path for path, _ in present],
            "image": [{"bytes": None, "path": str(folder / path)} for path, _ in present],
            "label": [label for _, label in present],
        },
        features=_features(label_names),
    )
    return Source(name, photos, tuple(problems))


def _read_stanford(name: str, folder: Path) -> Source:
    """`cars_train/NNNNN.jpg` and a devkit whose classes count from 1."""
    devkit = folder / "devkit"
    try:
        meta = loadmat(devkit / "cars_meta.mat", squeeze_me=True)
        annotations = loadmat(
            devkit / "cars_train_annos.mat", squeeze_me=True, struct_as_record=False
        )["annotations"]
        label_names = [str(label) for label in meta["class_names"]]
        files = [(f"cars_train/{row.fname}", int(getattr(row, "class")) - 1) for row in annotations]
    except (OSError, KeyError, ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{devkit} is not the devkit of Stanford Cars: {error}") from error
    return _from_files(name, folder, files, label_names)


def _read_class_folders(name: str, folder: Path) -> Source:
    """`CLASS/photo.jpg`; photos in folders below a class belong to it."""
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    files = [
        (str(path.relative_to(folder).as_posix()), index)
        for index, class_name in enumerate(classes)
        for path in sorted((folder / class_name).rglob("*"))
        if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file()
    ]
    if not files:
        raise DataError(f"{folder} holds no folders of photos, one folder per class")
    return _from_files(name, folder, files, classes)


def _read_parquet(name: str, location: str) -> Source:
    """Parquet with an `image` column and a `label` column that knows its names.

    Of several splits only `train` is read: the official test half stays untouched.
    """
    try:
        splits = load_dataset(location)
    except (OSError, ValueError, DatasetsError, httpx2.HTTPError) as error:
        raise DataError(f"{name}={location} cannot be read as Parquet: {error}") from error
    table = splits["train"] if "train" in splits else concatenate_datasets(list(splits.values()))
    label = table.features.get("label")
    if not isinstance(table.features.get("image"), Image) or not isinstance(label, ClassLabel):
        raise DataError(
            f"{name}={location} needs a column `image` of pictures and a column `label` "
            f"of class labels; it has {dict(table.features)}"
        )
    table = table.select_columns(["image", "label"]).cast_column("image", Image(decode=False))
    return Source(name, table.add_column("path", _row_names(table)).cast(_features(label.names)))


def _row_names(table: Dataset) -> list[str]:
    """Unique names for rows that may carry no file name, or the same one twice."""
    return [
        f"{index:06d}-{Path(image['path'] or 'photo').name}"
        for index, image in enumerate(table["image"])
    ]
