"""What people read about the bundled checkpoint says what its files say."""

import json
from pathlib import Path

import jinja2
import pytest

from model_card import pages
from model_card.card import card
from model_card.render import render
from space.checkpoints import BUNDLED, file_hash

ROOT = Path(__file__).parent.parent


def test_the_readme_says_what_was_measured():
    assert (ROOT / "README.md").read_text("utf-8") == pages.readme()
    assert "first answer" in pages.readme()


def test_the_results_page_says_what_was_measured():
    assert (ROOT / "docs" / "RESULTS.md").read_text("utf-8") == pages.results()


def test_the_page_on_serving_says_what_was_measured():
    assert (ROOT / "docs" / "SERVING.md").read_text("utf-8") == pages.serving()


def test_the_page_on_clusters_says_what_was_measured():
    assert (ROOT / "docs" / "CLUSTER.md").read_text("utf-8") == pages.cluster()


def test_the_table_of_what_is_installed_names_all_that_is_pinned():
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    pinned = [line.partition("==")[0] for line in lines if "==" in line]
    told = (ROOT / "docs" / "SERVING.md").read_text("utf-8")
    assert [name for name in pinned if f"\n| `{name}` | " not in told] == []


def test_the_bundled_checkpoint_has_its_card():
    shown = set()
    told = card(BUNDLED, lambda name, shows: shown.add(name) or f"![{shows}](figures/{name})")
    assert (BUNDLED / "README.md").read_text("utf-8") == told
    drawn = json.loads((BUNDLED / "metrics.json").read_text("utf-8"))["figures"]
    assert {path.name: file_hash(path) for path in BUNDLED.glob("figures/*")} == {
        name: drawn[name] for name in shown
    }


def test_another_measurement_makes_another_page():
    facts = pages.facts()
    facts["metrics"]["top1"] = {"value": 0.12345, "low": 0.1, "high": 0.2}
    assert "12.3% (10.0% to 20.0%)" in render("results.md.jinja", **facts)


@pytest.mark.parametrize("template", ["results.md.jinja", "summary.md.jinja"])
def test_a_missing_number_stops_the_page(template):
    facts = pages.facts()
    del facts["metrics"]["verdicts"]["auto_tag_precision"]
    with pytest.raises(jinja2.UndefinedError, match="auto_tag_precision"):
        render(template, **facts)


def test_what_the_pages_tell_was_measured_with_the_weights_that_are_bundled():
    metrics, gate, calibration = (
        json.loads((ROOT / name).read_text("utf-8"))
        for name in (
            "space/checkpoint/metrics.json",
            "benchmarks/gate.json",
            "space/checkpoint/calibration.json",
        )
    )
    assert gate["checkpoint"] == metrics["speed"]["checkpoint"] == metrics["weights"]
    assert calibration["weights_sha256"].startswith(metrics["weights"].removeprefix("sha256:"))
