"""Writes the measured parts of README.md and docs/RESULTS.md: `python -m model_card.pages`.

Their numbers come from the bundled checkpoint's files and from `benchmarks/`, by templates that
stop at whatever is missing. A test holds the pages to what this writes.
"""

import json
import re
from pathlib import Path
from typing import Any

import jinja2

ROOT = Path(__file__).parent.parent
CHECKPOINT = ROOT / "space" / "checkpoint"
BENCHMARKS = ("alone", "gate", "latency", "second_pass", "training", "unknown")

# In README.md, what lies between these lines is written here.
_MEASURED = re.compile(r"(?<=<!-- measured -->\n).*?(?=<!-- /measured -->)", re.DOTALL)


def main() -> None:
    """Writes both pages."""
    (ROOT / "README.md").write_text(readme(), encoding="utf-8")
    (ROOT / "docs" / "RESULTS.md").write_text(results(), encoding="utf-8")


def readme() -> str:
    """The README with its measured part as the files have it now."""
    text = (ROOT / "README.md").read_text("utf-8")
    summary = render("summary.md.jinja", **facts())
    return _MEASURED.sub(lambda _: summary, text)


def results() -> str:
    """The page with everything that was measured on the bundled checkpoint."""
    return render("results.md.jinja", **facts())


def facts() -> dict[str, Any]:
    """What the templates may tell: the JSON files, by name."""
    found = {name: _read(CHECKPOINT / f"{name}.json") for name in ("config", "metrics")}
    found["benchmarks"] = {name: _read(ROOT / "benchmarks" / f"{name}.json") for name in BENCHMARKS}
    found["megabytes"] = (CHECKPOINT / "model.safetensors").stat().st_size / 1e6
    return found


def render(template: str, **values: Any) -> str:
    """A template of this folder with its values.

    Raises:
        jinja2.UndefinedError: a value that it tells is missing.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": percent,
        "interval": interval,
        "range": range_of,
        "points": points,
        "count": lambda number: f"{number:,}",
    }
    return environment.get_template(template).render(values)


def percent(share: float) -> str:
    """A share of 1 in percent, with one decimal."""
    return f"{100 * share:.1f}%"


def points(measured: dict[str, float]) -> str:
    """A difference of shares in points of a hundred, and its 95% interval."""
    value, low, high = (100 * measured[key] for key in ("value", "low", "high"))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def range_of(measured: dict[str, float]) -> str:
    """The 95% interval of what was measured."""
    return f"{percent(measured['low'])} to {percent(measured['high'])}"


def interval(measured: dict[str, float]) -> str:
    """What was measured, with its 95% interval."""
    return f"{percent(measured['value'])} ({range_of(measured)})"


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


if __name__ == "__main__":
    main()
