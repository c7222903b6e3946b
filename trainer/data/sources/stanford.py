"""Stanford Cars (Krause et al. 2013): 196 classes of make, model, body and year.

Three layouts: the original one (`cars_train/`, `cars_test/` and the devkit's `.mat` files), a
mirror with one folder per class, whose names may differ in case and punctuation, and Parquet on
the Hub (`trainer.data.sources.hub`).
"""

from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from space.errors import DataError
from space.labels import Car, parse_label, unfit_text
from space.names import normal
from space.walk import is_folder
from trainer.data.source import OFFICIAL, Columns, File, Problem, Source, from_files, photos_below
from trainer.data.sources.mat import read_array

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

# Where people have the devkit and the photos below the dataset's folder, Kaggle among them.
_PLACES = ("", "*/")
_DEVKITS = ("", "devkit", "car_devkit/devkit")


def read(name: str, location: str, columns: Columns) -> Source:
    """Reads a folder in the original layout or with one folder per class."""
    folder = Path(location)
    if not folder.is_dir():
        raise DataError(f"--data {name}={location}: there is no such folder")
    if devkit := find_devkit(folder):
        return _read_original(name, folder, devkit)
    return _read_mirror(name, folder)


def find_devkit(folder: Path) -> Path | None:
    """The folder with the annotations, wherever people have it."""
    for path in _below(folder, _DEVKITS):
        if (path / "cars_meta.mat").is_file() or (path / _ALL).is_file():
            return path
    return folder / "devkit" if (folder / "devkit").is_dir() else None


def match_label(text: str) -> str | None:
    """The one of the 196 names that a text writes in another case or punctuation."""
    return _LABEL_OF.get(normal(text))


def _below(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """The folders of these names below a dataset's folder, or below a folder in it."""
    for place in _PLACES:
        for name in names:
            for path in sorted(folder.glob(place + name)) if place + name else [folder]:
                if is_folder(path):
                    yield path


def _read_original(name: str, folder: Path, devkit: Path) -> Source:
    if not (devkit / "cars_meta.mat").is_file() and (devkit / _ALL).is_file():
        return _read_all(name, folder, devkit / _ALL)
    labels = _labels(devkit / "cars_meta.mat")
    photos = []
    for half, annotations, photo_folder in _HALVES:
        for path in (devkit / annotations, devkit.parent / annotations, folder / annotations):
            if path.is_file():
                twice = (f"{photo_folder}/{photo_folder}", photo_folder)
                found = next(_below(folder, twice), folder / photo_folder)
                photos += _photos(path, labels, found.relative_to(folder), "fname", half)
                break
    if not photos:
        raise DataError(f"{devkit} holds no {_HALVES[0][1]}")
    return from_files(name, folder, photos, {label: parse_label(label) for label in labels})


def _read_all(name: str, folder: Path, path: Path) -> Source:
    labels = _labels(path)
    photos = _photos(path, labels, path.parent.relative_to(folder), "relative_im_path")
    return from_files(name, folder, photos, {label: parse_label(label) for label in labels})


def _labels(path: Path) -> list[str]:
    labels = _array(path, "class_names")
    if not labels or not all(isinstance(label, str) and label.strip() for label in labels):
        raise DataError(f"{path} is not a file of the Stanford Cars devkit: a class has no name")
    if len(set(labels)) < len(labels):
        raise DataError(f"{path} is not a file of the Stanford Cars devkit: a class stands twice")
    return labels


def _photos(
    path: Path, labels: list[str], base: Path, file_field: str, half: str | None = None
) -> list[File]:
    """The photos of an annotation file.

    Args:
        base: where the named files lie below the dataset's folder.
        half: the official part; by default each row's field `test` says it.
    """
    photos = []
    try:
        for row in _array(path, "annotations"):
            file = row[file_field]
            if not isinstance(file, str) or unfit_text(file) or ".." in Path(file).parts:
                raise ValueError(f"{file!r} is not the name of a photo")
            (number,) = row["class"]
            if number not in range(1, len(labels) + 1):  # the devkit counts from 1
                raise ValueError(
                    f"{file} has the class {number}, and classes go from 1 to {len(labels)}"
                )
            part = half or ("test" if row["test"][0] else "train")
            photos.append(File((base / file).as_posix(), labels[int(number) - 1], part))
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not an annotation file of Stanford Cars: {error}") from error
    return photos


def _array(path: Path, wanted: str) -> list[Any]:
    try:
        found = read_array(path, wanted)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a file of the Stanford Cars devkit: {error}") from error
    return found if isinstance(found, list) else [found]


def _read_mirror(name: str, folder: Path) -> Source:
    """One folder per class, at any depth; `train` and `test` above it are the official halves."""
    photos = []
    paths, problems = photos_below(folder, name)
    for path in paths:
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
