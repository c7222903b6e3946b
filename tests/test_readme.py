"""The README's examples run, and its numbers are those that were measured."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import draw_car

from space.checkpoints import BUNDLED
from space.page import build_page, launch

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = README + (ROOT / "docs" / "API.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:7860"


def example(language: str, containing: str) -> str:
    """The one code block of the README and docs/API.md that contains a text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGES, re.DOTALL)
    (found,) = [block for block in blocks if containing in block]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the examples run: a folder with car.jpg."""
    folder = tmp_path_factory.mktemp("examples")
    draw_car(7).save(folder / "car.jpg")
    return folder


@pytest.fixture(scope="module")
def address(bundled):
    page = build_page(bundled)
    _, url, _ = launch(page, prevent_thread_lock=True, quiet=True)
    yield url.rstrip("/")
    page.close()


@pytest.fixture(scope="module")
def best(bundled, folder) -> str:
    return bundled.predict(folder / "car.jpg").predictions[0].label


def run(command: list[str], folder: Path) -> str:
    result = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_recognizer_example(folder, bundled):
    output = run([sys.executable, "-c", example("python", "CarRecognizer")], folder)
    answer = bundled.predict(folder / "car.jpg")
    first, *lines = output.splitlines()
    assert first == f"{answer.verdict}: {answer.reason}"
    assert len(lines) == 5
    assert answer.predictions[0].make in lines[0]
    assert (folder / "why.png").exists()


def test_the_gradio_client_example(folder, address, best):
    code = example("python", "gradio_client").replace(ADDRESS, address)
    assert best in run([sys.executable, "-c", code], folder)


def test_the_curl_example(folder, address, best):
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    code = example("bash", "curl").replace(ADDRESS, address)
    assert f'"label": "{best}"' in run(["bash", "-c", code], folder)


def test_the_javascript_example(folder, address, best):
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    installed = subprocess.run(
        ["npm", "install", "--silent", "--no-save", "@gradio/client@2.7.0"],
        cwd=folder,
        capture_output=True,
    )
    if installed.returncode:
        pytest.skip("@gradio/client could not be installed")
    (folder / "example.mjs").write_text(example("javascript", "Client").replace(ADDRESS, address))
    assert best in run(["node", "example.mjs"], folder)


@pytest.mark.parametrize(
    ("row", "source"),
    [
        ("listings", "listings_brazil"),
        ("Algerian Used Cars", "algerian_used_cars"),
        ("Stanford Cars, official test", "stanford_cars"),
    ],
)
def test_the_numbers_are_those_of_metrics_json(row, source):
    found = json.loads((BUNDLED / "metrics.json").read_text())["sources"][source]
    (line,) = [line for line in README.splitlines() if line.startswith(f"| {row}")]
    top1, top5, make = (found[name] for name in ("top1", "top5", "make"))
    assert line.split(" | ")[1:] == [
        str(found["photos"]),
        f"{top1['value']:.1%} ({top1['low']:.1%} to {top1['high']:.1%})",
        f"{top5['value']:.1%}",
        f"{make['value']:.1%} |",
    ]


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 200
