"""A part of the classes to answer with: makes, years, a market, models or labels.

A dealer who sells five models, or a site for one market, is answered better when nothing else is
possible. Probabilities are renormalized over the catalogue, and thresholds and plausible sets are
fitted again on the held-out photos of its classes that the checkpoint remembers
(`space.memory`), so that what they promise holds inside it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from space.calibration import Calibration, fit_plausible, softmax
from space.errors import MarqueError
from space.labels import Car
from space.levels import Levels
from space.memory import Memory
from space.names import find_make, normal, parse_name
from space.verdict import DecisionRule, fit_thresholds

_YEARS = re.compile(r"((?:18|19|20)\d\d)(?:\s*[-–]\s*((?:18|19|20)\d\d))?")


def read_items(text: str) -> list[str]:
    """The items of a catalogue: separated by commas, or the lines of a .txt file.

    Raises:
        MarqueError: the file cannot be read.
    """
    if text.strip().lower().endswith(".txt"):
        try:
            text = Path(text.strip()).expanduser().read_text("utf-8-sig").replace("\n", ",")
        except (OSError, UnicodeDecodeError) as error:
            raise MarqueError(f"the catalogue {text.strip()} cannot be read: {error}") from None
    return [item for part in text.split(",") if (item := " ".join(part.split()))]


def choose(
    items: Sequence[str],
    labels: Sequence[str],
    cars: Sequence[Car],
    markets: Mapping[str, Sequence[int]],
) -> np.ndarray:
    """The numbers of the classes that a catalogue allows, in their order.

    Labels, markets, makes and models add up; years narrow what the others allow, or all classes
    where there are no others. A class that names no year is in every range of years.

    Args:
        items: such as "Audi", "VW Golf", "2005-2012", a market or a label.
        labels, cars: of all classes.
        markets: the classes of each dataset that the checkpoint names.

    Raises:
        MarqueError: nothing is given, an item is unknown, or nothing is left.
    """
    if not items:
        raise MarqueError("the catalogue is empty; name makes, models, years, a market or labels")
    numbers = {label: number for number, label in enumerate(labels)}
    chosen: set[int] = set()
    years: list[tuple[int, int]] = []
    named = False
    for item in items:
        if item in numbers:
            chosen.add(numbers[item])
        elif item in markets:
            chosen.update(markets[item])
        elif span := _YEARS.fullmatch(item):
            first, last = int(span[1]), int(span[2] or span[1])
            years.append((min(first, last), max(first, last)))
            continue
        else:
            found = matching(item, cars)
            if not found:
                raise MarqueError(_unknown(item, labels, cars, markets))
            chosen.update(found)
        named = True
    kept = [
        number
        for number in (sorted(chosen) if named else range(len(labels)))
        if not years or _within(cars[number].year, years)
    ]
    if not kept:
        raise MarqueError(
            f"the catalogue {', '.join(items)} holds none of the {len(labels)} classes; the years "
            "that they name are "
            + ", ".join(str(year) for year in sorted({car.year for car in cars if car.year}))
        )
    return np.array(kept)


def matching(name: str, cars: Sequence[Car]) -> list[int]:
    """The classes that a name may mean: their make is its make, their model begins with its model
    and their year, where both have one, is its year."""
    words = name.split()
    make = find_make(words)
    if make and make[1] == len(words):
        return [n for n, car in enumerate(cars) if normal(car.make) == normal(make[0])]
    told = parse_name(name)
    if told is None:
        found = [n for n, car in enumerate(cars) if normal(car.make) == normal(name)]
        return found or [n for n, car in enumerate(cars) if _has_model(car.model, name)]
    return [
        number
        for number, car in enumerate(cars)
        if normal(car.make) == normal(told.make)
        and _has_model(car.model, told.model)
        and (told.year is None or car.year is None or car.year == told.year)
    ]


def _has_model(model: str, asked: str) -> bool:
    """Whether the words of a model begin with those that are asked for."""
    have, want = [normal(w) for w in model.split()], [normal(w) for w in asked.split()]
    return bool(want) and have[: len(want)] == want


def _within(year: int | None, spans: Sequence[tuple[int, int]]) -> bool:
    return year is None or any(first <= year <= last for first, last in spans)


def _unknown(
    item: str, labels: Sequence[str], cars: Sequence[Car], markets: Mapping[str, Sequence[int]]
) -> str:
    names = list(dict.fromkeys([*(car.make for car in cars), *markets, *labels]))
    by_fold = {name.casefold(): name for name in names}
    near = [by_fold[n] for n in get_close_matches(item.casefold(), by_fold, n=3, cutoff=0.4)]
    meant = f"; the nearest names are {', '.join(near)}" if near else ""
    return f"the checkpoint knows no {item!r} for a catalogue{meant}"


def narrowed(rule: DecisionRule, chosen: np.ndarray, memory: Memory | None) -> DecisionRule:
    """A decision rule over some of the classes, calibrated for them.

    Args:
        rule: over all classes.
        chosen: the numbers of those that are left.
        memory: held-out photos; None leaves the rule without thresholds, so that nothing is tagged.
    """
    labels = tuple(rule.labels[number] for number in chosen)
    cars = tuple(rule.cars[number] for number in chosen)
    found = replace(rule, labels=labels, cars=cars, levels=Levels(cars))
    calibration = rule.calibration
    if calibration is None or len(chosen) == len(rule.labels):
        return found
    never: Calibration = replace(
        calibration,
        thresholds={
            target: dict.fromkeys(levels) for target, levels in calibration.thresholds.items()
        },
        known=None,  # a limit for the best logit of all classes
    )
    found = replace(found, calibration=never)
    if memory is None:
        return found
    place = np.full(len(rule.labels), -1)
    place[chosen] = np.arange(len(chosen))
    inside = place[memory.targets] >= 0
    logits, targets = memory.logits[inside][:, chosen], place[memory.targets[inside]]
    if not len(targets):
        return found
    tempered = softmax(logits / calibration.temperature)
    coverages = [float(coverage) for coverage in calibration.plausible]
    refitted = replace(never, plausible=fit_plausible(tempered, targets, coverages))
    found = replace(found, calibration=refitted)
    targets_of = [float(target) for target in calibration.thresholds]
    thresholds = {
        target: {
            level: _higher(calibration.thresholds[target][level], limit)
            for level, limit in levels.items()
        }
        for target, levels in fit_thresholds(found, logits, targets, targets_of).items()
    }
    return replace(found, calibration=replace(refitted, thresholds=thresholds))


def _higher(everywhere: float | None, here: float | None) -> float | None:
    """The stricter of two thresholds: a few lucky photos do not lower what many have set."""
    return None if everywhere is None or here is None else max(everywhere, here)
