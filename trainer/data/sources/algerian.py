"""Algerian Used Cars: 20 folders of models sold in Algeria, 12 makes, no years.

The folders' names are as its authors typed them; what they mean stands in the table below. Nearly
every photo stands twice, once with its background blacked out; `trainer.data.copies` finds the
pairs.
"""

from pathlib import Path

from space.errors import DataError
from space.labels import Car
from space.names import normal
from trainer.data.source import Columns, File, Problem, Source, from_files, photos_below

_CARS = {
    "Golf": Car("Volkswagen", "Golf", None),
    "bmw serie 1": Car("BMW", "1 Series", None),
    "chevrolet spark": Car("Chevrolet", "Spark", None),
    "chevroulet aveo": Car("Chevrolet", "Aveo", None),
    "clio": Car("Renault", "Clio", None),
    "duster": Car("Dacia", "Duster", None),
    "hyundai i10": Car("Hyundai", "i10", None),
    "hyundai tucson": Car("Hyundai", "Tucson", None),
    "logan": Car("Dacia", "Logan", None),
    "megane": Car("Renault", "Mégane", None),
    "mercedes class a": Car("Mercedes-Benz", "A-Class", None),
    "nemo citroen": Car("Citroën", "Nemo", None),
    "octavia": Car("Škoda", "Octavia", None),
    "picanto": Car("Kia", "Picanto", None),
    "polo": Car("Volkswagen", "Polo", None),
    "sandero": Car("Dacia", "Sandero", None),
    "seat ibiza": Car("SEAT", "Ibiza", None),
    "symbol": Car("Renault", "Symbol", None),
    "toyota corolla": Car("Toyota", "Corolla", None),
    "volkswagen tiguan": Car("Volkswagen", "Tiguan", None),
}
LABELS = tuple(_CARS)
_LABEL_OF = {normal(label): label for label in LABELS}


def read(name: str, location: str, columns: Columns) -> Source:
    """Reads the class folders below a folder, at any depth."""
    folder = Path(location)
    if not folder.is_dir():
        raise DataError(f"--data {name}={location}: there is no such folder")
    photos = []
    paths, problems = photos_below(folder, name)
    for path in paths:
        class_name = path.split("/")[-2] if "/" in path else ""
        label = match_label(class_name)
        if label is None:
            reason = f"the folder {class_name!r} is none of the 20 classes"
            problems.append(Problem(name, path, reason))
        else:
            photos.append(File(path, label))
    if not photos:
        raise DataError(f"--data {name}={location}: none of the 20 class folders is there")
    return from_files(name, folder, photos, _CARS, problems)


def match_label(text: str) -> str | None:
    """The one of the 20 names that a text writes in another case or punctuation."""
    return _LABEL_OF.get(normal(text))
