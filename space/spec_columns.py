"""Columns of specifications: text made values, and the impossible taken out.

Every value that is taken out is listed with its row and the reason. What counts as impossible:

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
from space.names import normal
from space.tables import is_blank

Value = float | str | None

# Words in a column's name, and what its values may be. The first line that fits counts; lengths
# are in meters, masses in kilograms, and wheels in inches.
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


def written(value: Value) -> str:
    """A value as it is written: whole numbers without a point, nothing as nothing."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return str(int(value)) if value.is_integer() else repr(value)


def read_column(
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
                reason = "is not a number"
            elif own and own != unit:
                value, reason = None, f"is in {own}, the column in {unit or 'no unit'}"
        elif text:
            reason = "says that there is nothing" if is_blank(text) else "is not a number"
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


def check_range(name: str, values: list[Value], rows: Sequence[str], out: list[Blanked]) -> None:
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
        size = to_litres(value) if "displacement" in quantity else value * scale
        if size is None or not low <= size <= high:
            values[index] = None
            bounds = f"{low / scale:.4g} to {high / scale:.4g}"
            out.append(
                Blanked(rows[index], name, written(value), f"no car has it: {bounds} is possible")
            )


def to_litres(value: float) -> float:
    """Displacement in litres; tables write 3.5, 35 (the point lost) or 3500 (cm³) for the same."""
    if value < 10:
        return value
    return value / 10 if value < 100 else value / 1000


def check_horsepower(
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
        per_litre = value / (to_litres(size) or 1) if isinstance(size, float) else 0
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
        out.append(Blanked(rows[index], name, written(power[index]), reason))
        power[index] = None


def write_blanked(path: Path, blanked: Iterable[Blanked]) -> None:
    """Writes what was taken out of a table as a CSV `row,column,value,reason`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["row", "column", "value", "reason"])
        writer.writerows([item.row, item.column, item.value, item.reason] for item in blanked)
