"""Writes what is told of the bundled checkpoint: `python -m model_card.pages`.

These are the measured part of README.md, docs/RESULTS.md, docs/SERVING.md, docs/CATALOGUE.md,
docs/CLUSTER.md and the checkpoint's own card. Their numbers come from its files and from
`benchmarks/`, by templates that stop at whatever is missing. A test holds the pages to what this
writes.

Its figures stay as they are; new ones come with `python -m model_card.card space/checkpoint
--figures FOLDER`, once it was evaluated again.
"""

import re
from typing import Any

from model_card.card import write_card
from model_card.facts import FAITHFULNESS
from model_card.render import ROOT, read_json, render

CHECKPOINT = ROOT / "space" / "checkpoint"
BENCHMARKS = (
    "cluster",
    "extend",
    "fuzz",
    "gate",
    "in_use",
    "install",
    "large_photos",
    "load",
    "memory",
    "serving",
    "training",
    "unknown",
)

# In README.md, what lies between these lines is written here.
_MEASURED = re.compile(r"(?<=<!-- measured -->\n).*?(?=<!-- /measured -->)", re.DOTALL)


def main() -> None:
    """Writes the pages."""
    (ROOT / "README.md").write_text(readme(), encoding="utf-8")
    (ROOT / "docs" / "RESULTS.md").write_text(results(), encoding="utf-8")
    (ROOT / "docs" / "SERVING.md").write_text(serving(), encoding="utf-8")
    (ROOT / "docs" / "CATALOGUE.md").write_text(catalogue(), encoding="utf-8")
    (ROOT / "docs" / "CLUSTER.md").write_text(cluster(), encoding="utf-8")
    write_card(CHECKPOINT)


def readme() -> str:
    """The README with its measured part as the files have it now."""
    text = (ROOT / "README.md").read_text("utf-8")
    summary = render("summary.md.jinja", **facts())
    return _MEASURED.sub(lambda _: summary, text)


def results() -> str:
    """The page with everything that was measured on the bundled checkpoint."""
    return render("results.md.jinja", **facts())


def cluster() -> str:
    """The page about millions of photos."""
    return render("cluster.md.jinja", **facts()["benchmarks"])


def serving() -> str:
    """The page with what answering costs, beside other ways to do it."""
    return render("serving.md.jinja", **facts()["benchmarks"])


def catalogue() -> str:
    """The page about classes of one's own, catalogues, listings and sellers' texts."""
    return render("catalogue.md.jinja", **facts()["benchmarks"])


def facts() -> dict[str, Any]:
    """What the templates may tell: the JSON files, by name."""
    names = ("config", "metrics")
    found = {name: read_json(CHECKPOINT / f"{name}.json") for name in names}
    found["benchmarks"] = {
        name: read_json(ROOT / "benchmarks" / f"{name}.json") for name in BENCHMARKS
    }
    found["faithfulness"] = read_json(FAITHFULNESS)
    found["speed"] = found["metrics"]["speed"]
    found["megabytes"] = (CHECKPOINT / "model.safetensors").stat().st_size / 1e6
    return found


if __name__ == "__main__":
    main()
