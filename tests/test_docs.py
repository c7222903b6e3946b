"""Figures in the docs stand in files that a command wrote; links lead somewhere."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def numbers(content: Any) -> list[float]:
    """Every number in a JSON file, at any depth."""
    if isinstance(content, dict):
        return [number for value in content.values() for number in numbers(value)]
    if isinstance(content, list):
        return [number for value in content for number in numbers(value)]
    if isinstance(content, bool) or not isinstance(content, int | float):
        return []
    return [content]


def measured(name: str) -> list[float]:
    return numbers(json.loads((ROOT / name).read_text()))


@pytest.mark.parametrize(
    ("page", "files"),
    [
        ("docs/LEAK.md", ("benchmarks/leak.json",)),
        ("docs/AUDIT.md", ("benchmarks/findings.json",)),
    ],
)
def test_every_share_in_a_page_was_measured(page, files):
    text = (ROOT / page).read_text("utf-8")
    shares = re.findall(r"(\d+\.\d)(?:%| points| to)", text)
    known = {f"{100 * number:.1f}" for name in files for number in measured(name)}
    assert len(shares) > 5
    assert [share for share in shares if share not in known] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []
