"""Answers need no PyTorch: everything that people use runs where only requirements.txt is."""

import os
import re
import subprocess
import sys
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from apps import address
from conftest import draw_car
from gradio_client import Client, handle_file
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "torchvision", "timm", "pytorch_grad_cam", "cv2", "transformers", "datasets")

# Before anything else of a process: whatever requirements.txt does not bring cannot be imported.
BLOCKER = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""


def brought() -> set[str]:
    """The packages that requirements.txt brings, those that they need included."""
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    found: set[str] = set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        wanted += map(Requirement, distribution(name).requires or [])
    return found


@pytest.fixture(scope="module")
def light(tmp_path_factory) -> dict[str, str]:
    """The environment of a process in which only these packages are there."""
    there = brought()
    missing = {
        module
        for module, packages in packages_distributions().items()
        if not any(canonicalize_name(package) in there for package in packages)
    }
    assert set(HEAVY) <= missing
    folder = tmp_path_factory.mktemp("light")
    missing -= {"pip", "setuptools", "_distutils_hack"}
    (folder / "sitecustomize.py").write_text(BLOCKER.format(missing=sorted(missing)))
    return os.environ | {"PYTHONPATH": str(folder), "NO_PROXY": "127.0.0.1"}


def run(code: str, light: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=light, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("photo") / "car.jpg"
    draw_car(3, size=(640, 480)).save(path)
    return str(path)


def test_the_recognizer_answers_and_explains(light, photo, bundled, tmp_path):
    code = """
import sys
from space.recognizer import CarRecognizer
recognizer = CarRecognizer.from_pretrained()
print(recognizer.predict(sys.argv[1]).predictions[0].label)
recognizer.explain(sys.argv[1]).save(sys.argv[2])
"""
    output = run(code, light, photo, str(tmp_path / "heat.png"))
    assert output.strip() == bundled.predict(photo).predictions[0].label
    with Image.open(tmp_path / "heat.png") as heat:
        assert heat.tobytes() == bundled.explain(photo).tobytes()


def test_the_command_line_answers(light, photo, tmp_path):
    code = "import sys; from space.cli import main; sys.exit(main(sys.argv[1:]))"
    run(code, light, photo, "--jsonl", str(tmp_path / "answers.jsonl"))
    assert "predictions" in (tmp_path / "answers.jsonl").read_text("utf-8")


def test_the_page_answers_and_explains(light, photo, bundled, tmp_path):
    log = tmp_path / "log.txt"
    environment = {
        key: value for key, value in light.items() if not key.startswith(("MARQUE_", "GRADIO_"))
    }
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-u", "app.py"],
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        client = Client(address(process, log), verbose=False, download_files=str(tmp_path))
        answer = client.predict(handle_file(photo), api_name="/predict")
        best = bundled.predict(photo).predictions[0]
        assert answer["predictions"][0]["label"] == best.label
        with Image.open(client.predict(handle_file(photo), api_name="/explain")) as heat:
            assert heat.size == (640, 480)
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("module", ["space.cli", "space.page", "space.recognizer", "app"])
def test_nothing_heavy_is_imported_where_it_is_there(module):
    code = f"import sys, {module}; print([m for m in {HEAVY} if m in sys.modules])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_checkpoint_without_a_graph_says_what_to_do(light, tiny_checkpoint):
    code = """
import sys
from space.checkpoints import open_checkpoint
from space.errors import CheckpointError
try:
    open_checkpoint(sys.argv[1])
except CheckpointError as error:
    print(error)
"""
    output = run(code, light, str(tiny_checkpoint))
    assert re.search(r"needs PyTorch here .*requirements-train\.txt.*trainer\.export", output)
    assert output.count("\n") == 1
