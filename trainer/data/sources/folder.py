"""Anyone's photos: one folder per class, or files whose names say what they show."""

import re
from pathlib import Path

from space.errors import DataError
from space.labels import Car
from space.names import car_label, car_of, find_make, parse_file_name
from trainer.data.source import OFFICIAL, Columns, File, Problem, Source, from_files, photos_below


def read(name: str, location: str, columns: Columns) -> Source:
    """Reads a folder whose folders are classes.

    A folder's name is its label: "2023 Acura MDX", "Acura MDX 2023", a bare brand, or any text.
    Folders within a folder that is named like a make are its models, and years within those:
    BMW/X5/ is the class "BMW X5", BMW/X5/2019/ is "BMW X5 2019". Where all folders at the top are
    parts (train, test, val), the classes lie in them, and one list of classes holds for all parts.
    Folders around everything count for nothing. Photos in no folder of a class are problems.
    """
    folder = _existing(name, location)
    paths, problems = photos_below(folder, name)
    around = _around(paths)
    tops = [path.split("/")[around:] for path in paths]
    parted = all(top[0].lower() in OFFICIAL for top in tops if len(top) > 1) and any(
        len(top) > 2 for top in tops
    )
    photos = []
    for path, (*folders, _) in zip(paths, tops, strict=True):
        official = OFFICIAL[folders.pop(0).lower()] if parted and folders else ""
        if folders:
            photos.append(File(path, _label(folders), official))
        else:
            problems.append(Problem(name, path, "it lies in no folder of a class"))
    if not photos:
        raise DataError(
            f"--data {name}={location}: no photo lies in a folder of its own class there; "
            "if the file names say what they show, write "
            f"{name}=filenames:{location}"
        )
    cars = {label: car_of(label) for label in sorted({photo.label for photo in photos})}
    return from_files(name, folder, photos, cars, problems)


def read_file_names(name: str, location: str, columns: Columns) -> Source:
    """Reads a folder whose files are named like "bmw_x5_2019_01.jpg".

    Photos whose name holds no make that is known, or more than one, are problems, never a class.
    """
    folder = _existing(name, location)
    photos = []
    cars: dict[str, Car] = {}
    paths, problems = photos_below(folder, name)
    for path in paths:
        car = parse_file_name(Path(path).stem)
        if car is None:
            problems.append(Problem(name, path, "its name holds no make that is known, or several"))
            continue
        label = car_label(car)
        cars[label] = car
        photos.append(File(path, label))
    if not photos:
        raise DataError(f"--data {name}=filenames:{location}: no file name there holds a make")
    return from_files(name, folder, photos, dict(sorted(cars.items())), problems)


def _around(paths: list[str]) -> int:
    """How many folders lie around everything and are neither a class, a make nor a part."""
    for depth in range(min((path.count("/") for path in paths), default=0)):
        names = {path.split("/")[depth] for path in paths}
        name = next(iter(names))
        words = re.split(r"[\s_]+", name.strip())
        found = find_make(words)
        is_make = found is not None and found[1] == len(words)
        deeper = any(path.count("/") > depth + 1 for path in paths)
        if len(names) > 1 or not deeper or is_make or name.lower() in OFFICIAL:
            return depth
    return 0


def _label(folders: list[str]) -> str:
    """The class of a photo in nested folders."""
    first, *below = folders
    words = re.split(r"[\s_]+", first.strip())
    found = find_make(words)
    if not below or found is None or found[1] < len(words):
        return first
    has_year = len(below) > 1 and re.fullmatch(r"(?:19|20)\d\d", below[1])
    return " ".join([first, *below[: 2 if has_year else 1]])


def _existing(name: str, location: str) -> Path:
    folder = Path(location)
    if not folder.is_dir():
        raise DataError(f"--data {name}={location}: there is no folder {location}")
    return folder
