"""Datasets of the Hub by id, and folders of Parquet files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
from datasets import ClassLabel, Dataset, Image, Value, concatenate_datasets, load_dataset
from datasets.exceptions import DatasetsError

from space.errors import DataError
from space.labels import Car
from space.names import car_of
from trainer.data.source import OFFICIAL, Columns, Problem, Source, features
from trainer.data.sources.stanford import match_label

# What reading from the Hub may raise.
READ_ERRORS = (OSError, ValueError, DatasetsError, httpx2.HTTPError)


def read(name: str, location: str, columns: Columns) -> Source:
    """Reads a Hub id or a folder that `datasets` can load, all its parts.

    Names that are one of the 196 of Stanford Cars in another case or punctuation get its spelling.
    A row without a class is a problem.
    """
    tables, texts, problems = [], [], []
    labels: dict[str, None] = {}  # in the dataset's own order
    for part, table in open_parts(name, location).items():
        check_columns(name, location, table.features, columns)
        named = _label_names(table, columns.label)
        labels |= dict.fromkeys(_order(table, columns.label, named))
        table = _pictures(table, columns.image, part)
        unnamed = [row for row, text in enumerate(named) if not text]
        problems += [Problem(name, table[row]["path"], "it has no class") for row in unnamed]
        tables.append(table.select([row for row, text in enumerate(named) if text]))
        texts += [text for text in named if text]
    index = {label: number for number, label in enumerate(labels)}
    photos = concatenate_datasets(tables).add_column("label", [index[text] for text in texts])
    cars: tuple[Car, ...] = tuple(car_of(label) for label in labels)
    return Source(name, photos.cast(features(list(labels))), cars, tuple(problems))


def open_parts(name: str, location: str, **how: Any) -> dict[str, Any]:
    """The parts of a dataset by their names, as `datasets` reads them.

    Args:
        how: `streaming=True` and the like, see `datasets.load_dataset`.

    Raises:
        DataError: there is none, or the Hub cannot be reached.
    """
    try:
        return load_dataset(location, **how)
    except READ_ERRORS as error:
        raise DataError(f"--data {name}={location} cannot be loaded: {error}") from error


def check_columns(
    name: str, location: str, found: Mapping[str, Any] | None, columns: Columns
) -> None:
    """Raises a DataError when a part has no pictures or no named classes where they should be."""
    found = found or {}
    if not isinstance(found.get(columns.image), Image) or not _has_names(found.get(columns.label)):
        raise DataError(
            f"--data {name}={location} needs a column {columns.image!r} of pictures and a "
            f"column {columns.label!r} of named classes; it has {dict(found)}; --image-column "
            "and --label-column name others"
        )


def _has_names(label: object) -> bool:
    """Whether a column says what its classes are called: numbers alone are no names."""
    text = isinstance(label, Value) and label.dtype in ("string", "large_string")
    return isinstance(label, ClassLabel) or text


def _label_names(table: Dataset, column: str) -> list[str]:
    """The class of every row as text, empty where it has none."""
    label = table.features[column]
    if isinstance(label, ClassLabel):  # -1 is how unlabeled test rows are written
        return [
            spelled(label.names[value]) if value is not None and value >= 0 else ""
            for value in table[column]
        ]
    return ["" if value is None else spelled(str(value).strip()) for value in table[column]]


def _order(table: Dataset, column: str, named: list[str]) -> list[str]:
    """Every class in the order in which it gets its number."""
    label = table.features[column]
    if isinstance(label, ClassLabel):
        return [spelled(text) for text in label.names]
    return sorted(set(named) - {""})


def _pictures(table: Dataset, column: str, part: str) -> Dataset:
    """The columns of `Source.photos` that do not depend on the class."""
    table = table.select_columns([column])
    if column != "image":
        table = table.rename_column(column, "image")
    table = table.cast_column("image", Image(decode=False))
    # Rows may carry no file name, or the same one twice.
    paths = [
        f"{part}/{number:06d}-{Path(image['path'] or 'photo').name}"
        for number, image in enumerate(table["image"])
    ]
    table = table.add_column("path", paths)
    return table.add_column("official", [OFFICIAL.get(part, "")] * len(paths))


def spelled(label: str) -> str:
    """The name of a class as Stanford Cars spells it, if it is one of its classes."""
    return match_label(label) or label
