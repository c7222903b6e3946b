"""Tables as people have them, whatever their encoding and delimiter, and the cars in them."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from space.errors import DataError
from space.labels import Car
from space.names import find_make, normal

MAKE_COLUMNS = ("make", "brand", "manufacturer", "marque", "carmake")
MODEL_COLUMNS = ("model", "modelname", "carmodel")
YEAR_COLUMNS = ("year", "modelyear", "productionyear", "caryear")

# What people write into a cell to say that there is nothing.
_NOTHING = {"", "na", "nan", "none", "null", "nil", "tbd", "tba", "unknown", "other", "missing"}

_ADDRESS = re.compile(r"(?:https?:)?//\S", re.IGNORECASE)


def is_blank(text: str) -> bool:
    """Whether a cell says nothing: empty, a dash, "n/a", "- TBD -", "unknown"."""
    return normal(text) in _NOTHING


def read_cells(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Reads a table whatever its encoding and delimiter.

    Returns:
        The names of its columns, unnamed ones left out, and each row's stripped cells. Rows that
        are wholly empty count, so that the numbers of the others are those of the file.

    Raises:
        DataError: the file is not there, is empty, or has no header.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"the table {path} cannot be read: {error.strerror}") from None
    text = _decode(content).lstrip("\r\n")
    rows = _split(text)
    if not rows:
        raise DataError(f"the table {path} is empty")
    header = [" ".join(cell.split()) for cell in rows[0]]
    if any(_ADDRESS.match(cell) for cell in header):
        raise DataError(
            f"the first line of {path} holds an address where the columns' names should be; put a "
            "line such as url,label above it"
        )
    names: dict[int, str] = {}
    for number, name in enumerate(header):
        if name and name not in names.values():
            names[number] = name
    if not names:
        raise DataError(f"the first line of {path} names no column")
    # The cells of a short row are empty, those beyond the header have no column.
    return list(names.values()), [
        {name: row[number].strip() if number < len(row) else "" for number, name in names.items()}
        for row in rows[1:]
    ]


def find_column(columns: Iterable[str], names: Sequence[str]) -> str | None:
    """The column with the first of these names, in any case and punctuation."""
    by_name = {normal(column): column for column in reversed(list(columns))}
    return next((by_name[name] for name in names if name in by_name), None)


def read_car(make: str, model: str, year: str) -> Car:
    """The car of three cells, its make in the spelling of `space.names`.

    Raises:
        ValueError: there is no make or model, or the year is none.
    """
    if is_blank(make):
        raise ValueError("it names no make")
    if is_blank(model):
        raise ValueError("it names no model")
    number = None
    if not is_blank(year):
        match = re.fullmatch(r"((?:18|19|20)\d\d)(?:\.0+)?", year.strip())
        if not match:
            raise ValueError(f"its year {year!r} is none")
        number = int(match[1])
    make, words = make_of(make), model.split()
    found = find_make(words)
    if found and found[0] == make and found[1] < len(words):  # "BMW" and "BMW X5"
        words = words[found[1] :]
    return Car(make, " ".join(words), number)


def _decode(content: bytes) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):  # "Unicode text" of Excel
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")  # the Latin-1 of Windows


def _split(text: str) -> list[list[str]]:
    first = re.split(r"[\r\n]", text, maxsplit=1)[0]
    delimiter = max(",;\t|", key=lambda mark: len(next(csv.reader([first], delimiter=mark), [])))
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error:
        # A quote somewhere is never closed, and would swallow every row below. Line by line it
        # costs its own row alone.
        lines = [line[: csv.field_size_limit()] for line in io.StringIO(text, newline=None)]
        return [next(csv.reader([line], delimiter=delimiter), []) for line in lines]


def make_of(text: str) -> str:
    """A make in its one spelling, or as it stands where it is not known."""
    words = re.split(r"[\s_]+", text.strip())
    found = find_make(words)
    return found[0] if found and found[1] == len(words) else " ".join(words)
