"""Tables of addresses, whose photos are downloaded once into a folder beside the table."""

import csv
from pathlib import Path

from space.labels import Car
from trainer.collection.pipeline import PHOTOS, collect, is_complete
from trainer.data.source import Columns, DataError, File, Problem, Source, from_files


def read(name: str, location: str, columns: Columns) -> Source:
    """Reads FILE.csv by way of FILE.csv.collected/, which `trainer.collection` fills.

    Once every address is settled, nothing is downloaded any more. Insides stay in: whoever reads a
    source decides about them. A label may be spelled otherwise than in its folder's name.

    Raises:
        DataError: the table cannot be understood, or none of its photos could be had.
    """

    file = Path(location)
    if not file.is_file():
        raise DataError(f"--data {name}={location}: there is no file {location}")
    folder = file.with_name(f"{file.name}.collected")
    if not is_complete(file, folder):
        collect(file, folder, keep_non_exteriors=True)
    with (folder / "photos.csv").open(newline="", encoding="utf-8") as index:
        rows = list(csv.DictReader(index))
    with (folder / "left_out.csv").open(newline="", encoding="utf-8") as index:
        problems = [
            Problem(name, row["url"] or row["reason"].partition(":")[0], row["reason"])
            for row in csv.DictReader(index)
        ]
    if not rows:
        reason = f": {problems[0].path}: {problems[0].reason}" if problems else ""
        raise DataError(f"--data {name}={location}: no photo could be had{reason}")
    cars = {
        row["label"]: Car(row["make"], row["model"], int(row["year"]) if row["year"] else None)
        for row in sorted(rows, key=lambda row: row["label"])
    }
    files = [File(row["path"], row["label"]) for row in rows]
    return from_files(name, folder / PHOTOS, files, cars, problems)
