"""Tables of cars' specifications: cleaned, written in one form, and joined to classes.

A cleaned table is keyed by make, model and year. What is taken out of it, and by which rules, says
`space.spec_columns`.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from space.errors import DataError
from space.labels import Car
from space.names import normal
from space.spec_columns import (
    Blanked,
    Value,
    check_horsepower,
    check_range,
    read_column,
    written,
)
from space.tables import (
    MAKE_COLUMNS,
    MODEL_COLUMNS,
    YEAR_COLUMNS,
    find_column,
    read_car,
    read_cells,
)

Identity = tuple[str, str, int | None]


@dataclass(frozen=True)
class Specifications:
    """A cleaned table.

    Attributes:
        columns: without make, model and year.
        cars: the cars in the table's order.
        values: for each of them the value of each column; None where there is none.
        blanked: what was taken out.
    """

    columns: tuple[str, ...]
    cars: tuple[Car, ...]
    values: tuple[tuple[Value, ...], ...]
    blanked: tuple[Blanked, ...]

    @cached_property
    def rows(self) -> dict[Identity, int]:
        """The row of each car."""
        return {_identity(car): number for number, car in enumerate(self.cars)}

    def write(self, path: Path) -> None:
        """Writes the table as a CSV `make,model,year,…`."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["make", "model", "year", *self.columns])
            for car, values in zip(self.cars, self.values, strict=True):
                texts = [written(value) for value in values]
                writer.writerow([car.make, car.model, car.year or "", *texts])


@dataclass(frozen=True)
class Match:
    """The specifications found for a car.

    Attributes:
        car: as the table has it.
        values: by column.
        how: "exact"; otherwise what had to be given up: "without body style", "another year", or
            both, joined by a comma.
    """

    car: Car
    values: dict[str, Value]
    how: str


def read_specifications(path: Path) -> Specifications:
    """Reads and cleans a table of specifications.

    Raises:
        DataError: it cannot be read, or has no columns of makes and models.
    """
    columns, rows = read_cells(path)
    keys = [find_column(columns, names) for names in (MAKE_COLUMNS, MODEL_COLUMNS, YEAR_COLUMNS)]
    make, model, year = keys
    if not make or not model:
        raise DataError(
            f"{path} needs columns make and model, and year if it has it; "
            f"its columns are {', '.join(columns)}"
        )
    further = [column for column in columns if column not in keys]
    cars: list[tuple[str, Car]] = []
    cells: list[dict[str, str]] = []
    blanked = []
    for number, row in enumerate(rows, start=1):
        if not any(row.values()):
            continue
        try:
            car = read_car(row[make], row[model], row[year] if year else "")
        except ValueError as error:
            blanked.append(Blanked(str(number), "", f"{row[make]} {row[model]}", str(error)))
            continue
        cars.append((str(number), car))
        cells.append({column: row[column] for column in further})
    return clean(further, cars, cells, blanked)


def clean(
    columns: Sequence[str],
    cars: Sequence[tuple[str, Car]],
    cells: Sequence[dict[str, str]],
    blanked: Iterable[Blanked] = (),
) -> Specifications:
    """Cleans rows of text: one row a car, numbers as numbers, the impossible taken out.

    Args:
        columns: as their table names them; a unit stands in brackets.
        cars: for each row what it is called in `Blanked.row`, and its car.
        cells: for each row its text by column.
        blanked: what was taken out before.
    """
    out = list(blanked)
    names = [name for name, _ in cars]
    parsed: dict[str, list[Value]] = {}
    for column in columns:
        name, values = read_column(column, [row[column] for row in cells], names, out)
        while name in parsed:
            name += "_2"
        parsed[name] = values
    for name, values in parsed.items():
        check_range(name, values, names, out)
    check_horsepower(parsed, [car for _, car in cars], names, out)
    return _merge(parsed, cars, out)


def join(
    cars: Iterable[Car], specifications: Specifications, years_apart: int = 1
) -> tuple[dict[Car, Match], list[Car]]:
    """Finds the specifications of cars.

    Make, model and year count first. Where they find nothing, the words of a body style at the
    model's end are given up, as in Stanford's "Audi A5 Coupe 2012"; where that finds nothing, the
    nearest year within `years_apart` counts, the earlier of two. Other words of a model are never
    given up: a "Corvette ZR1" has not the horsepower of a Corvette. A car without a year finds only
    a row without one.

    Returns:
        What was found for a car, and the cars for which nothing was.
    """
    rows = specifications.rows
    found: dict[Car, Match] = {}
    missing = []
    for car in cars:
        for apart, model in _attempts(car, years_apart):
            year = car.year + apart if car.year else None
            number = rows.get((normal(car.make), normal(model), year))
            if number is not None:
                given_up = ["without body style"] * (normal(model) != normal(car.model))
                given_up += ["another year"] * (apart != 0)
                values = dict(
                    zip(specifications.columns, specifications.values[number], strict=True)
                )
                how = ", ".join(given_up) or "exact"
                found[car] = Match(specifications.cars[number], values, how)
                break
        else:
            missing.append(car)
    return found, missing


# What Stanford Cars and sellers write behind a model. Longer names first.
_BODY_STYLES = (
    "extended cab", "regular cab", "crew cab", "quad cab", "club cab", "supercab", "passenger van",
    "cargo van", "station wagon", "sedan", "coupe", "convertible", "hatchback", "wagon", "suv",
    "minivan", "van", "cab", "pickup", "roadster", "2dr", "4dr",
)  # fmt: skip


def _attempts(car: Car, years_apart: int) -> list[tuple[int, str]]:
    """Years to add and models to look for, in order."""
    models = [car.model]
    while True:
        shorter = models[-1]
        for style in _BODY_STYLES:
            if shorter.casefold().endswith(f" {style}"):
                models.append(shorter[: -len(style) - 1].strip())
                break
        else:
            break
    years = [0]
    if car.year:
        years += [sign * apart for apart in range(1, years_apart + 1) for sign in (-1, 1)]
    return [(apart, model) for apart in years for model in models]


def _identity(car: Car) -> Identity:
    return normal(car.make), normal(car.model), car.year


def _merge(
    columns: dict[str, list[Value]], cars: Sequence[tuple[str, Car]], out: list[Blanked]
) -> Specifications:
    """One row a car. Rows of the same car fill each other's gaps; the first one's value counts.

    A column whose values differ within most of the cars that have several says something about
    photos or offers, not about cars; it is left out.
    """
    members: dict[Identity, list[int]] = defaultdict(list)
    for index, (_, car) in enumerate(cars):
        members[_identity(car)].append(index)
    several = [rows for rows in members.values() if len(rows) > 1]
    kept = {}
    for name, values in columns.items():
        known = [[values[index] for index in rows if values[index] is not None] for rows in several]
        known = [found for found in known if len(found) > 1]
        differing = sum(len(set(found)) > 1 for found in known)
        if differing * 2 > len(known):
            reason = f"differs between rows of the same car, in {differing} of {len(known)} cars"
            out.append(Blanked("", name, "", reason))
        else:
            kept[name] = values
    result = []
    for rows in members.values():
        first, *others = rows
        merged: list[Value] = []
        for name, values in kept.items():
            source = next((index for index in rows if values[index] is not None), first)
            merged.append(values[source])
            for index in rows:
                if values[index] not in (None, values[source]):
                    text = written(values[index])
                    reason = f"row {cars[source][0]} of the same car has {written(merged[-1])}"
                    out.append(Blanked(cars[index][0], name, text, reason))
        for index in others:
            label = " ".join(filter(None, (cars[index][1].make, cars[index][1].model)))
            reason = f"the same car as row {cars[first][0]}; put together with it"
            out.append(Blanked(cars[index][0], "", label, reason))
        result.append((cars[first][1], tuple(merged)))
    return Specifications(
        tuple(kept), tuple(car for car, _ in result), tuple(row for _, row in result), tuple(out)
    )
