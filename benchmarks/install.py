"""What Marque costs to install and to start: `python -m benchmarks.install`.

A fresh virtual environment gets `requirements.txt`. Told are seconds and bytes, also those of
each distribution. Then `marque photo.jpg` is taken apart in new processes of that environment.
Nothing else should run meanwhile. Written to benchmarks/install.json.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

from benchmarks.drawn_car import draw_car
from space.checkpoints import write_json
from trainer.provenance import git_revision, processor

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).with_name("install.json")
ROUNDS = 7

# Run in the fresh environment.
_DISTRIBUTIONS = """
import importlib.metadata as metadata, json
print(json.dumps({
    found.metadata["Name"].lower().replace("-", "_"): {
        "bytes": sum(file.locate().stat().st_size for file in found.files or ()
                     if file.locate().is_file()),
    } for found in metadata.distributions()}))
"""
# In the order in which `python -m space photo.jpg` comes to them.
_STEPS = """
import json, sys, time
steps, last = {}, time.perf_counter()
def step(name):
    global last
    now = time.perf_counter()
    steps[name], last = 1000 * (now - last), now
import numpy
step("import numpy")
import PIL.Image
step("import Pillow")
import onnxruntime
step("import ONNX Runtime")
import space.cli
from space.recognizer import CarRecognizer
step("import the rest")
recognizer = CarRecognizer.from_pretrained()
step("open the checkpoint")
recognizer.preprocess._detector._opened()
step("open the detector")
recognizer.predict(sys.argv[1])
step("answer the first photo")
recognizer.predict(sys.argv[1])
step("answer it again")
print(json.dumps(steps))
"""


def main() -> None:
    """Measures and writes the result."""
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder))
    print(json.dumps(found, indent=1))
    write_json(RESULT, found)


def measure(folder: Path) -> dict[str, Any]:
    """All of it, in an empty folder."""
    environment = folder / "environment"
    venv.create(environment, with_pip=True)
    python = str(environment / "bin" / "python")
    started = time.perf_counter()
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "-r", str(ROOT / "requirements.txt")], check=True)
    seconds = time.perf_counter() - started
    photo = folder / "car.jpg"
    draw_car(0, size=(1024, 683)).save(photo)
    rounds = [json.loads(_run(python, _STEPS, str(photo))) for _ in range(ROUNDS + 1)]
    return {
        "seconds": seconds,
        "bytes": sum(file.stat().st_size for file in environment.rglob("*") if file.is_file()),
        "distributions": json.loads(_run(python, _DISTRIBUTIONS)),
        # The first round compiles.
        "start_ms": {
            name: statistics.median(each[name] for each in rounds[1:]) for name in rounds[0]
        },
        "python": sys.version.split()[0],
        "processor": processor(),
        "git_revision": git_revision(),
    }


def _run(python: str, code: str, *arguments: str) -> str:
    command = [python, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
