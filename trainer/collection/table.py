"""Reads a collector's table: addresses of photos, what they show, and any further columns.

Nobody writes such tables by one rule. Encoding, delimiter and the meaning of columns are found out
from the file; a row that cannot be used is a problem of its own and costs no other row.
"""

import ast
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from space.errors import DataError
from space.labels import Car
from space.names import car_label, car_of, normal, spelling
from space.tables import (
    MAKE_COLUMNS,
    MODEL_COLUMNS,
    YEAR_COLUMNS,
    find_column,
    is_blank,
    make_of,
    read_car,
    read_cells,
)
from trainer.data.source import Problem

_LABEL_COLUMNS = ("label", "class", "classname", "classlabel")
_NAME_COLUMNS = ("name", "car", "carname", "vehicle", "title")  # behind make and model
_PICTURE_WORDS = {"image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "pic"}
_ADDRESS_WORDS = {"url", "urls", "uri", "link", "links", "src", "href", "address"}

_ADDRESS = re.compile(r"(?:https?:)?//\S", re.IGNORECASE)
# Addresses may hold commas, bars and blanks; a separator is one only where another one follows.
_BETWEEN = re.compile(r"[\s|;,]+(?=(?:[a-z][a-z0-9+.-]*:)?//)", re.IGNORECASE)


@dataclass(frozen=True)
class Line:
    """A usable row.

    Attributes:
        number: its line number among all rows, the first below the header being 1.
        urls: the addresses of its photos.
        label: its class; rows that name the same car alike have the same one.
        car: the car that the label means.
        cells: every further column, stripped, empty where nothing stands.
    """

    number: int
    urls: tuple[str, ...]
    label: str
    car: Car
    cells: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A collector's table.

    Attributes:
        lines: what can be used.
        problems: what cannot, by row number, and why.
        address_columns: where the addresses of photos were found.
        unused: columns of other addresses, which are neither photos nor properties of a car.
    """

    lines: tuple[Line, ...]
    problems: tuple[Problem, ...]
    address_columns: tuple[str, ...]
    unused: tuple[str, ...]


def read_table(path: Path, source: str) -> Table:
    """Reads a table of addresses.

    Args:
        source: what its problems are filed under.

    Raises:
        DataError: it cannot be read, or has no column of addresses or none of labels.
    """
    columns, rows = read_cells(path)
    addresses, unused = _address_columns(columns, rows)
    if not addresses:
        raise DataError(
            f"{path} has no column of addresses; name one url, image or photo. It has "
            f"{', '.join(columns)}"
        )
    label = _label_column(columns, rows)
    make, model, year = (
        find_column(columns, names) for names in (MAKE_COLUMNS, MODEL_COLUMNS, YEAR_COLUMNS)
    )
    if not label and not make:
        raise DataError(
            f"{path} has no column that says what the photos show; name one label, or have make, "
            f"model and year. It has {', '.join(columns)}"
        )
    further = [column for column in columns if column not in {*addresses, *unused, label}]
    if make and not label:
        further = [column for column in further if column not in {make, model, year}]
    lines, problems = [], []
    spelled: dict[str, Car] = {}
    for number, row in enumerate(rows, start=1):
        if not any(row.values()):
            continue
        urls, bad = _addresses([row[column] for column in addresses])
        problems += [Problem(source, f"row {number}: {text}", "is not an address") for text in bad]
        try:
            if label:
                car = _car_of(row[label])
            elif model:
                car = read_car(row[make or ""], row[model], row[year] if year else "")
            else:
                if is_blank(row[make or ""]):
                    raise ValueError("it names no make")
                car = Car(make_of(row[make or ""]), "", None)
            if not urls and not bad:
                raise ValueError("it has no address")
        except ValueError as error:
            problems.append(Problem(source, f"row {number}: {' '.join(urls)}".strip(), str(error)))
            continue
        car = spelled.setdefault(spelling(car_label(car)), car)
        cells = {column: row[column] for column in further}
        if urls:
            lines.append(Line(number, tuple(urls), car_label(car), car, cells))
    return Table(tuple(lines), tuple(problems), tuple(addresses), tuple(unused))


def _address_columns(columns: list[str], rows: list[dict[str, str]]) -> tuple[list[str], list[str]]:
    """The columns of photos' addresses, and those of other addresses."""
    holding = []
    for column in columns:
        values = [row[column] for row in rows if not is_blank(row[column])]
        if sum(bool(_ADDRESS.search(value)) for value in values) * 2 > len(values):
            holding.append(column)
    words = {
        column: set(re.findall("[a-z]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", column).lower()))
        for column in columns
    }
    chosen = (
        [column for column in holding if _is_of_pictures(column, words[column])]
        or [column for column in holding if words[column] & _ADDRESS_WORDS]
        or holding
        # No value is an address: the rows will say so, one by one.
        or [c for c in columns if words[c] & (_ADDRESS_WORDS | _PICTURE_WORDS)][:1]
    )
    return chosen, [column for column in holding if column not in chosen]


def _is_of_pictures(column: str, words: set[str]) -> bool:
    return bool(words & _PICTURE_WORDS) or normal(column).startswith(tuple(_PICTURE_WORDS))


def _label_column(columns: list[str], rows: list[dict[str, str]]) -> str | None:
    """The column that names the class; None where make and model do it better."""
    names = find_column(columns, MAKE_COLUMNS) and find_column(columns, MODEL_COLUMNS)
    label = find_column(columns, _LABEL_COLUMNS)
    # Numbers of classes say less than makes and models do.
    if label and not (names and not any(re.search(r"[^\W\d]", row[label]) for row in rows)):
        return label
    return None if names else find_column(columns, _NAME_COLUMNS)


def _addresses(cells: Iterable[str]) -> tuple[list[str], list[str]]:
    """The addresses in some cells, and what stands there without being one."""
    urls, bad = [], []
    for cell in cells:
        if is_blank(cell):
            continue
        for text in _pieces(cell):
            text = text.strip(" \t\r\n|;,\"'<>")
            if text.startswith("//"):
                text = f"https:{text}"
            if re.match(r"https?://[^/\s]", text, re.IGNORECASE):
                urls.append(re.sub(r"\s", "%20", text))
            elif text:
                bad.append(text)
    return list(dict.fromkeys(urls)), bad


def _pieces(cell: str) -> list[str]:
    if cell.startswith("["):
        for read in (json.loads, ast.literal_eval):  # the second, for what Python programs wrote
            try:
                found = read(cell)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
            if isinstance(found, list) and all(isinstance(text, str) for text in found):
                return found
        cell = cell.strip("[]")
    return _BETWEEN.split(cell)


def _car_of(label: str) -> Car:
    if is_blank(label):
        raise ValueError("it has no label")
    return car_of(label)
