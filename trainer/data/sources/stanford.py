"""Stanford Cars (Krause et al. 2013): 196 classes of make, model, body and year.

Three layouts: the original one (`cars_train/`, `cars_test/` and the devkit's `.mat` files), a
mirror with one folder per class, whose names may differ in case and punctuation, and Parquet on
the Hub (`trainer.data.sources.hub`).
"""

from importlib.resources import files
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from space.labels import Car, parse_label
from trainer.data.names import normal
from trainer.data.source import (
    OFFICIAL,
    Columns,
    DataError,
    File,
    Problem,
    Source,
    from_files,
    photos_below,
)

LABELS = tuple(files(__package__).joinpath("stanford_cars.txt").read_text("utf-8").splitlines())
_CARS: dict[str, Car] = {label: parse_label(label) for label in LABELS}
_LABEL_OF = {normal(label): label for label in LABELS}

# The .mat of each half, and the folder of its photos. The test half's labels are a file of its own.
_HALVES = (
    ("train", "cars_train_annos.mat", "cars_train"),
    ("test", "cars_test_annos_withlabels.mat", "cars_test"),
)


# One file for all photos, which lie in `car_ims/`, as the authors publish it too.
_ALL = "cars_annos.mat"


def read(name: str, location: str, columns: Columns) -> Source:
    """Reads a folder in the original layout or with one folder per class."""
    folder = Path(location)
    if not folder.is_dir():
        raise DataError(f"--data {name}={location}: there is no such folder")
    if devkit := find_devkit(folder):
        return _read_original(name, folder, devkit)
    return _read_mirror(name, folder)


def find_devkit(folder: Path) -> Path | None:
    """The folder with the annotations, wherever people have it: Kaggle's is `car_devkit/devkit`."""
    for pattern in ("", "devkit", "car_devkit/devkit", "*", "*/devkit", "*/car_devkit/devkit"):
        for path in sorted(folder.glob(pattern)) if pattern else [folder]:
            if (path / "cars_meta.mat").is_file() or (path / _ALL).is_file():
                return path
    return folder / "devkit" if (folder / "devkit").is_dir() else None


def match_label(text: str) -> str | None:
    """The one of the 196 names that a text writes in another case or punctuation."""
    return _LABEL_OF.get(normal(text))


def _read_original(name: str, folder: Path, devkit: Path) -> Source:
    if not (devkit / "cars_meta.mat").is_file() and (devkit / _ALL).is_file():
        return _read_all(name, folder, devkit / _ALL)
    labels = [str(label) for label in _load(devkit / "cars_meta.mat", "class_names")]
    photos = []
    for half, annotations, photo_folder in _HALVES:
        for path in (devkit / annotations, devkit.parent / annotations, folder / annotations):
            if path.is_file():
                photos += _annotated(path, labels, _photo_folder(folder, photo_folder), half)
                break
    if not photos:
        raise DataError(f"{devkit} holds no {_HALVES[0][1]}")
    return from_files(name, folder, photos, {label: parse_label(label) for label in labels})


def _photo_folder(folder: Path, called: str) -> str:
    """Where the photos of one half lie below the data set's folder."""
    for pattern in (f"{called}/{called}", called, f"*/{called}/{called}", f"*/{called}"):
        for path in sorted(folder.glob(pattern)):
            if path.is_dir():
                return path.relative_to(folder).as_posix()
    return called


def _read_all(name: str, folder: Path, path: Path) -> Source:
    labels = [str(label) for label in _load(path, "class_names")]
    base = path.parent.relative_to(folder)
    try:
        photos = [
            File(
                (base / str(row.relative_im_path)).as_posix(),
                labels[_index(row, labels)],
                "test" if int(row.test) else "train",
            )
            for row in np.atleast_1d(_load(path, "annotations"))
        ]
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not an annotation file of Stanford Cars: {error}") from error
    return from_files(name, folder, photos, {label: parse_label(label) for label in labels})


def _annotated(path: Path, labels: list[str], photo_folder: str, half: str) -> list[File]:
    """The photos of one half; the classes of the .mat count from 1."""
    try:
        return [
            File(f"{photo_folder}/{row.fname}", labels[_index(row, labels)], half)
            for row in np.atleast_1d(_load(path, "annotations"))
        ]
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not an annotation file of Stanford Cars: {error}") from error


def _index(row, labels: list[str]) -> int:
    """The place of a row's class among the labels; the devkit's numbers count from 1."""
    number = int(getattr(row, "class"))
    if not 1 <= number <= len(labels):
        raise ValueError(
            f"{getattr(row, 'fname', 'a photo')} has the class {number}, "
            f"and classes go from 1 to {len(labels)}"
        )
    return number - 1


def _load(path: Path, key: str):
    try:
        return loadmat(path, squeeze_me=True, struct_as_record=False)[key]
    except Exception as error:  # scipy raises nearly anything on broken files
        raise DataError(f"{path} is not a file of the Stanford Cars devkit: {error}") from error


def _read_mirror(name: str, folder: Path) -> Source:
    """One folder per class, at any depth; `train` and `test` above it are the official halves."""
    photos, problems = [], []
    for path in photos_below(folder):
        *above, class_name, _ = ("", *path.split("/"))
        label = match_label(class_name)
        if label is None:
            reason = f"the folder {class_name!r} is none of the 196 classes"
            problems.append(Problem(name, path, reason))
        else:
            halves = [OFFICIAL[part] for part in above if part in OFFICIAL]
            photos.append(File(path, label, halves[-1] if halves else ""))
    if not photos:
        raise DataError(f"--data {name}={folder}: no folder there is named like a class")
    return from_files(name, folder, photos, _CARS, problems)
