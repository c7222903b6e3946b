"""Tables of cars' specifications: cleaned, written in one form, and joined to classes.

A cleaned table is keyed by make, model and year. Every value that is taken out of it is listed with
its row and the reason. What counts as impossible:

- A quantity outside of `RANGES`, which span every car ever sold by a wide margin.
- More than `MAX_HP_PER_LITRE` horsepower from a litre of displacement: a lost decimal point makes
  740 of 74.0 and stays within the range of horsepower.
- Horsepower more than `MAX_FACTOR` times the median of the same make and model over its other
  years, or less than that share of it; this also judges electric cars, which have no displacement.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from space.labels import Car
from trainer.names import normal
from trainer.sources.base import DataError
from trainer.sources.table import (
    MAKE_COLUMNS,
    MODEL_COLUMNS,
    YEAR_COLUMNS,
    find_column,
    is_blank,
    read_car,
    read_cells,
)

Identity = tuple[str, str, int | None]
Value = float | str | None

# Words in a column's name, and what its values may be. The first line that fits counts; lengths
# are in metres, masses in kilograms, and wheels in inches.
RANGES: tuple[tuple[frozenset[str], float, float], ...] = (
    (frozenset({"horsepower", "hp", "bhp", "ps"}), 5, 2500),
    (frozenset({"msrp", "price"}), 300, 20_000_000),
    (frozenset({"wheel", "wheels", "rim"}), 8, 30),
    (frozenset({"wheelbase"}), 1.2, 6),
    (frozenset({"width"}), 0.9, 2.8),
    (frozenset({"height"}), 0.8, 3.5),
    (frozenset({"length"}), 1.8, 8),
    (frozenset({"weight", "mass"}), 250, 6000),
    (frozenset({"capacity", "seats", "passengers"}), 1, 20),
    (frozenset({"doors"}), 1, 7),
    (frozenset({"cylinders"}), 1, 18),
    (frozenset({"mpg"}), 4, 250),
    (frozenset({"displacement"}), 0.2, 30),
)
MAX_HP_PER_LITRE = 350.0  # turbocharged hybrids of two litres reach about 335
MAX_FACTOR = 3.0
_FEWEST_YEARS = 4  # from which a median says what is usual

_UNIT = {"mm": 0.001, "cm": 0.01, "m": 1, "in": 0.0254, "ft": 0.3048, "kg": 1, "lb": 0.4536}
_UNIT |= {"lbs": 0.4536}
_SIGNS = {"$": "usd", "€": "eur", "£": "gbp", '"': "in", "″": "in", "inch": "in", "inches": "in"}
_NUMBER = re.compile(
    r"(?P<before>[$€£]?)\s*(?P<number>[-+]?[\d.,]*\d)\s*(?P<after>[^\W\d_]*|[\"″$€£])"
)
_NUMERIC_SHARE = 0.8  # of a column's values, from which the others are no values


@dataclass(frozen=True)
class Blanked:
    """A value that was taken out; with an empty column, a whole row, and an empty row a column."""

    row: str
    column: str
    value: str
    reason: str


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

    def write(self, path: Path) -> None:
        """Writes the table as a CSV `make,model,year,…`."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["make", "model", "year", *self.columns])
            for car, values in zip(self.cars, self.values, strict=True):
                texts = ["" if value is None else _text(value) for value in values]
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
        name, values = _read_column(column, [row[column] for row in cells], names, out)
        while name in parsed:
            name += "_2"
        parsed[name] = values
    for name, values in parsed.items():
        _check_range(name, values, names, out)
    _check_horsepower(parsed, [car for _, car in cars], names, out)
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
    rows = {_identity(car): number for number, car in enumerate(specifications.cars)}
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


def _text(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return str(int(value)) if value.is_integer() else repr(value)


def _read_column(
    column: str, texts: Sequence[str], rows: Sequence[str], out: list[Blanked]
) -> tuple[str, list[Value]]:
    """A column's name in the one form, and its values; numbers where nearly all are numbers."""
    name = re.sub(r"\W+", "_", column.casefold()).strip("_")
    bracket = re.search(r"[(\[]([^)\]]+)[)\]]\s*$", column)
    unit = _unit(bracket[1]) if bracket else ""
    numbers = [_NUMBER.fullmatch(text) for text in texts]
    filled = sum(not is_blank(text) for text in texts)
    if sum(match is not None for match in numbers) < max(1, filled * _NUMERIC_SHARE):
        for row, text in zip(rows, texts, strict=True):
            if text and is_blank(text):
                out.append(Blanked(row, name, text, "says that there is nothing"))
        return name, [None if is_blank(text) else " ".join(text.split()) for text in texts]
    units = {_unit(match["before"] or match["after"]) for match in numbers if match}
    if not unit and len(units) == 1:
        unit = units.pop()
        name = "_".join(filter(None, (name, unit)))
    values: list[Value] = []
    for row, text, match in zip(rows, texts, numbers, strict=True):
        value, reason = None, ""
        if match:
            value = _number(match["number"])
            own = _unit(match["before"] or match["after"])
            if value is None:
                reason = "is no number"
            elif own and own != unit:
                value, reason = None, f"is in {own}, the column in {unit or 'no unit'}"
        elif text:
            reason = "says that there is nothing" if is_blank(text) else "is no number"
        if reason:
            out.append(Blanked(row, name, text, reason))
        values.append(value)
    return name, values


def _unit(text: str) -> str:
    text = text.strip().casefold()
    return _SIGNS.get(text, text)


def _number(text: str) -> float | None:
    if re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?", text):
        text = text.replace(",", "")
    text = re.sub(r"^([-+]?\d+),(\d+)$", r"\1.\2", text)  # a decimal comma
    try:
        return float(text)
    except ValueError:
        return None


def _check_range(name: str, values: list[Value], rows: Sequence[str], out: list[Blanked]) -> None:
    words = name.split("_")
    limits = next((limits for limits in RANGES if limits[0] & set(words)), None)
    if limits is None:
        return
    quantity, low, high = limits
    scale = 1.0
    if quantity & {"wheelbase", "width", "height", "length", "weight"}:
        if words[-1] not in _UNIT:
            return  # without a unit nobody knows what is impossible
        scale = _UNIT[words[-1]]
    for index, value in enumerate(values):
        if not isinstance(value, float):
            continue
        size = _litres(value) if "displacement" in quantity else value * scale
        if size is None or not low <= size <= high:
            values[index] = None
            bounds = f"{low / scale:.4g} to {high / scale:.4g}"
            out.append(
                Blanked(rows[index], name, _text(value), f"no car has it: {bounds} is possible")
            )


def _litres(value: float) -> float | None:
    """Displacement in litres; tables write 3.5, 35 (the point lost) or 3500 (cm³) for the same."""
    if value < 10:
        return value
    return value / 10 if value < 100 else value / 1000


def _check_horsepower(
    columns: dict[str, list[Value]], cars: Sequence[Car], rows: Sequence[str], out: list[Blanked]
) -> None:
    quantity = RANGES[0][0]
    name = next((name for name in columns if quantity & set(name.split("_"))), None)
    if name is None:
        return
    power = columns[name]
    litres = next((columns[other] for other in columns if "displacement" in other.split("_")), None)
    suspects: dict[int, str] = {}
    years: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, (value, car) in enumerate(zip(power, cars, strict=True)):
        if not isinstance(value, float):
            continue
        size = litres[index] if litres else None
        per_litre = value / (_litres(size) or 1) if isinstance(size, float) else 0
        if per_litre > MAX_HP_PER_LITRE:
            suspects[index] = f"{per_litre:.0f} hp from a litre, above {MAX_HP_PER_LITRE:.0f}"
        else:
            years[normal(car.make), normal(car.model)].append(index)
    for members in years.values():
        known = [value for index in members if isinstance(value := power[index], float)]
        if len(members) < _FEWEST_YEARS:
            continue
        usual = median(known)
        for index, value in zip(members, known, strict=True):
            if not usual / MAX_FACTOR <= value <= usual * MAX_FACTOR:
                suspects[index] = f"the model has {usual:.0f} hp in the median of its years"
    for index, reason in sorted(suspects.items()):
        out.append(Blanked(rows[index], name, _text(power[index] or 0.0), reason))
        power[index] = None


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
                    text = _text(values[index] or "")
                    reason = f"row {cars[source][0]} of the same car has {_text(merged[-1] or '')}"
                    out.append(Blanked(cars[index][0], name, text, reason))
        for index in others:
            label = " ".join(filter(None, (cars[index][1].make, cars[index][1].model)))
            reason = f"the same car as row {cars[first][0]}; put together with it"
            out.append(Blanked(cars[index][0], "", label, reason))
        result.append((cars[first][1], tuple(merged)))
    return Specifications(
        tuple(kept), tuple(car for car, _ in result), tuple(row for _, row in result), tuple(out)
    )


def write_blanked(path: Path, blanked: Iterable[Blanked]) -> None:
    """Writes what was taken out of a table as a CSV `row,column,value,reason`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["row", "column", "value", "reason"])
        writer.writerows([item.row, item.column, item.value, item.reason] for item in blanked)
