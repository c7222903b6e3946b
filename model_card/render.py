"""What every page is made with: the templates of this folder, and how they write numbers."""

import json
import re
from pathlib import Path
from typing import Any

import jinja2

HERE = Path(__file__).parent
ROOT = HERE.parent


def read_json(path: Path) -> Any:
    """What a JSON file holds."""
    return json.loads(path.read_text("utf-8"))


# What is known about data sets that many people use: their titles, whose photos they are, how they
# are cited. Any other data set goes by the name that its user gave it.
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
    environment.filters |= {
        "count": lambda number: f"{number:,}",
        "duration": duration,
        "plain": plain,
        "interval": interval,
        "percent": percent,
        "points": points,
        "range": range_of,
        "share": share,
        "target": lambda written: f"{100 * float(written):g}%",
        "data_set": title,
    }
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


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} seconds"


def title(name: str) -> str:
    """What a data set is called in text."""
    return DATA_SETS[name]["title"] if name in DATA_SETS else plain(name)


def plain(text: str) -> str:
    """A text as it stands, whatever it would mean in Markdown."""
    return re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", text)
