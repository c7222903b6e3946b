"""What every page is made with: the templates of this folder, and how they write numbers."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2

HERE = Path(__file__).parent
ROOT = HERE.parent


def read_json(path: Path) -> Any:
    """What a JSON file holds."""
    return json.loads(path.read_text("utf-8"))


# What is known about datasets that many people use: their titles, whose photos they are, how they
# are cited. Any other dataset goes by the name that its user gave it.
DATA_SETS: dict[str, dict[str, str]] = read_json(HERE / "data_sets.json")


def render(template: str, **values: Any) -> str:
    """A template of this folder with its values.

    Raises:
        jinja2.UndefinedError: a value that it tells is missing.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= FILTERS
    return environment.get_template(template).render(values)


def percent(value: float) -> str:
    """A share of 1 in percent, with one decimal."""
    return f"{100 * value:.1f}%"


def share(measured: dict[str, float] | None) -> str:
    """What was measured, without its interval; None is a share of no photos."""
    return "–" if measured is None else percent(measured["value"])


def interval(measured: dict[str, float] | None) -> str:
    """What was measured, with its 95% interval."""
    return "–" if measured is None else f"{share(measured)} ({range_of(measured)})"


def range_of(measured: dict[str, float]) -> str:
    """The 95% interval of what was measured."""
    return f"{percent(measured['low'])} to {percent(measured['high'])}"


def points(measured: dict[str, float]) -> str:
    """A difference of shares in points of a hundred, and its 95% interval."""
    value, low, high = (100 * measured[key] for key in ("value", "low", "high"))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def decimals(value: float, places: int) -> str:
    """A number with so many decimals."""
    return f"{float(value):.{places}f}"


def count(number: int) -> str:
    """How many, with commas between thousands."""
    return f"{int(number):,}"


def millions(number: float) -> str:
    """A large number in millions, with one decimal."""
    return f"{number / 1e6:.1f}"


def target(written: str) -> str:
    """A share that was asked for, as JSON has it for a name: "0.98" is 98%."""
    return f"{100 * float(written):g}%"


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} seconds"


def title(name: str) -> str:
    """What a dataset is called."""
    return DATA_SETS[name]["title"] if name in DATA_SETS else name


def data_set(name: str) -> str:
    """What a dataset is called, in Markdown."""
    return plain(title(name))


def plain(text: Any) -> str:
    """A text or a number as it stands, whatever it would mean in Markdown."""
    return re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", str(text))


# A number or a text of a JSON file gets into a page by one of these.
FILTERS: dict[str, Callable[..., str]] = {
    "count": count,
    "data_set": data_set,
    "decimals": decimals,
    "duration": duration,
    "interval": interval,
    "millions": millions,
    "percent": percent,
    "plain": plain,
    "points": points,
    "range": range_of,
    "share": share,
    "target": target,
}
