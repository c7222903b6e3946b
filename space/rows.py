"""The answers of the command line: on the terminal, as CSV and as JSON Lines."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.text import Text

from space.answers import AUTO_TAG, REJECTED, REVIEW, Prediction, Recognition
from space.boxes import Box
from space.claims import Check
from space.printable import printable
from space.recognizer import CarRecognizer

FORMULA = tuple("=+-@\t\r")  # how spreadsheets know formulas
CHECK = ("expected", "check", "check_reason")  # columns of a seller's text


@dataclass(frozen=True)
class Row:
    """One answer.

    Attributes:
        path: of the photo, or what the photos of a group have in common.
        recognition: the answer.
        photos: how many the answer is of, in a group; else 0.
        expected, check: what the seller says, and whether the photo bears it out.
        correction: what a person says that the photo shows.
    """

    path: Path
    recognition: Recognition
    photos: int = 0
    expected: str = ""
    check: Check | None = None
    correction: str = ""


Writer = Callable[[Row], None]


def as_block(console: Console) -> Writer:
    """One photo on the terminal: all its answers."""

    def write(row: Row) -> None:
        path, recognition = row.path, row.recognition
        console.print(Text(printable(path, breaks=True), style="bold"))
        if recognition.error:
            console.print(Text.assemble("  ", (printable(recognition.error), "red")))
        for car in recognition.predictions:
            console.print(Text("  " + _columns(car)))
        if recognition.verdict:
            reason = printable(recognition.reason)
            console.print(Text.assemble("  ", _verdict(recognition), f": {reason}"))
        if row.check:
            said = f"{row.expected}: {row.check.result}, {row.check.reason}"
            console.print(Text("  " + printable(said)))

    return write


def as_line(console: Console) -> Writer:
    """Many photos on the terminal: a line each, with the best answer."""

    def write(row: Row) -> None:
        path, recognition = row.path, row.recognition
        if recognition.error:
            console.print(Text(printable(recognition.error), style="red"))
        else:
            best = _columns(recognition.predictions[0])
            name = (printable(path, breaks=True), "dim")
            told = f"{row.check.result:<11}  " if row.check else ""
            console.print(Text.assemble(told, _verdict(recognition), f"  {best}  ", name))

    return write


def _verdict(recognition: Recognition) -> tuple[str, str]:
    color = {AUTO_TAG: "green", REVIEW: "yellow", REJECTED: "red"}[recognition.verdict]
    return f"{recognition.verdict:<8}", color


def _columns(car: Prediction) -> str:
    make, model = printable(car.make), printable(car.model)
    return f"{car.confidence:6.1%}  {make:<13} {car.year or '':>4}  {model:<32}"


def _cell(value: object) -> object:
    """A cell that no spreadsheet runs: text that begins like a formula has an apostrophe before."""
    dangerous = isinstance(value, str | Path) and str(value).startswith(FORMULA)
    return f"'{value}" if dangerous else value


def csv_columns(top_k: int, grouped: bool, expected: bool, corrected: bool = False) -> list[str]:
    """The columns of a CSV file.

    Args:
        top_k: answers a photo.
        grouped: each row is of several photos.
        expected: what the seller says is checked.
        corrected: a person looked at the answers.
    """
    others = [
        f"{column}_{rank}" for rank in range(2, top_k + 1) for column in ("label", "confidence")
    ]
    first = ["path", "label", "make", "model", "year", "confidence", "verdict", "reason"]
    place = [f"box_{side}" for side in Box._fields]
    more = [*(["photos"] if grouped else []), *(CHECK if expected else [])]
    more += ["correction"] if corrected else []
    return [*first, *others, "error", *place, "cars_found", *more]


def as_csv(file: TextIO, columns: Sequence[str], header: bool = True) -> Writer:
    """One row a car: the best answer in columns of its own, the others, and where the car is.

    Args:
        columns: see `csv_columns`.
        header: whether the file needs its first line.
    """
    output = csv.writer(file)
    if header or not file.tell():
        output.writerow(columns)

    def write(row: Row) -> None:
        told = record(row)
        output.writerow([_cell(_written(told.get(column))) for column in columns])

    return write


def record(row: Row) -> dict[str, object]:
    """An answer by column, see `csv_columns`; what there is nothing of is not in it."""
    recognition = row.recognition
    told: dict[str, object] = {"path": str(row.path), "error": recognition.error}
    for rank, car in enumerate(recognition.predictions, start=1):
        if rank == 1:
            told |= {"label": car.label, "make": car.make, "model": car.model, "year": car.year}
            told |= {"confidence": car.confidence, "verdict": recognition.verdict}
            told["reason"] = recognition.reason
        else:
            told |= {f"label_{rank}": car.label, f"confidence_{rank}": car.confidence}
    if recognition.box:
        sides = zip(Box._fields, recognition.box, strict=True)
        told |= {f"box_{name}": float(side) for name, side in sides}
    told["cars_found"] = recognition.cars_found
    told |= {"photos": row.photos, "expected": row.expected, "correction": row.correction}
    if row.check:
        told |= {"check": row.check.result, "check_reason": row.check.reason}
    return told


def _written(value: object) -> object:
    """A value in a cell: shares with four places, nothing as nothing."""
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else value


def as_json_lines(file: TextIO, recognizer: CarRecognizer) -> Writer:
    """One object a photo, with every answer and the model that gave it."""
    model = {"source": recognizer.source, "revision": recognizer.revision}

    def write(row: Row) -> None:
        path, recognition = row.path, row.recognition
        told: dict[str, object] = {"path": str(path), **recognition.as_json(), "model": model}
        if row.photos:
            told["photos"] = row.photos
        if row.check:
            told["check"] = {"expected": row.expected, **row.check.as_json()}
            del told["check"]["recognition"]  # type: ignore[attr-defined]
        if row.correction:
            told["correction"] = row.correction
        file.write(json.dumps(told, ensure_ascii=False) + "\n")

    return write
