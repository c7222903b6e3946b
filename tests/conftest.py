"""What several test modules share: photos drawn by code, a tiny checkpoint, the real photos."""

import os

# Before anything imports these libraries: no analytics, no version checks.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hub import LocalHub
from PIL import Image

from space.answers import MAKE, MODEL, YEAR
from space.boxes import Box
from space.calibration import Calibration, ConfidenceMap
from space.checkpoints import BUNDLED, CALIBRATION, WEIGHTS, file_hash, write_json
from space.detector import Detection, Detector
from space.gate import CAR, KINDS, OTHER, PART, FeatureGate
from space.recognizer import CarRecognizer
from trainer.audit import main as audit
from trainer.data.cache import PhotoCache, geometry
from trainer.data.toys import draw_car
from trainer.evaluation.drawn import drawings
from trainer.training.checkpoints import save_checkpoint
from trainer.training.graph import export

TINY_LABELS = ("Audi A4 Sedan 2012", "Land Rover Range Rover SUV 2012", "Audi TT Coupe", "BMW")
COLOURS = dict(zip(TINY_LABELS, ("red", "blue", "green", "gold"), strict=True))
TINY_DATA_CONFIG = {
    "input_size": (3, 64, 64),
    "interpolation": "bicubic",
    "crop_pct": 1.0,
    "crop_mode": "squash",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
}


def save_tiny_checkpoint(folder: Path, seed: int) -> Path:
    """Writes a tiny untrained network with four classes; the seed gives its weights."""
    torch.manual_seed(seed)
    save_checkpoint(
        folder,
        timm.create_model("test_efficientnet", num_classes=len(TINY_LABELS)),
        architecture="test_efficientnet",
        model_args={},
        labels=TINY_LABELS,
        data_config=TINY_DATA_CONFIG,
        training={"note": "untrained, for tests"},
    )
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint", seed=0)


@pytest.fixture(scope="session")
def exported_checkpoint(tiny_checkpoint, tmp_path_factory) -> Path:
    """The tiny checkpoint with a graph for ONNX Runtime."""
    folder = tmp_path_factory.mktemp("exported") / "checkpoint"
    export(shutil.copytree(tiny_checkpoint, folder))
    return folder


@pytest.fixture(scope="session")
def tiny_recognizer(tiny_checkpoint) -> CarRecognizer:
    return CarRecognizer.from_pretrained(tiny_checkpoint)


# Chosen, not measured: the untrained network's logits hardly differ, hence the temperature. With
# the default precision nearly every answer is auto-tagged, with 0.9 none can be.
DEFAULT = Calibration(
    temperature=0.01,
    confidence={
        MAKE: ConfidenceMap(0.9, 1.1, 0.3),
        MODEL: ConfidenceMap(0.8, 1.2, 0.2),
        YEAR: ConfidenceMap(0.7, 1.3, 0.1),
    },
    thresholds={
        "0.9": dict.fromkeys((MAKE, MODEL, YEAR)),
        "0.98": dict.fromkeys((MAKE, MODEL, YEAR), 0.05),
    },
    plausible={"0.9": 0.3, "0.95": 0.15},
    known=-1.0,
    gate=0.5,
)
# What the gate of the tests takes for each kind; a toy car may be any.
SIGHTS = {
    CAR: draw_car(0),
    PART: Image.new("RGB", (160, 120), "black"),
    OTHER: Image.new("RGB", (160, 120), "white"),
}


def calibrate(folder: Path, **changes) -> Path:
    """Writes the chosen calibration, with changes, and a gate that knows the SIGHTS by heart."""
    recognizer = CarRecognizer.from_pretrained(folder)
    features = recognizer.infer([recognizer.prepare(SIGHTS[kind]) for kind in KINDS]).features
    FeatureGate(20 * features, -10 * (features**2).sum(axis=1), 0.5).save(folder)
    calibration = replace(DEFAULT, **changes)
    hashed = {"weights_sha256": file_hash(folder / WEIGHTS)}
    write_json(folder / CALIBRATION, hashed | calibration.as_json())
    return folder


@pytest.fixture(scope="session")
def calibrated_checkpoint(tiny_checkpoint, tmp_path_factory) -> Path:
    """The tiny checkpoint with a calibration and a gate."""
    folder = tmp_path_factory.mktemp("calibrated") / "checkpoint"
    return calibrate(shutil.copytree(tiny_checkpoint, folder))


@pytest.fixture(scope="session")
def calibrated_recognizer(calibrated_checkpoint) -> CarRecognizer:
    return CarRecognizer.from_pretrained(calibrated_checkpoint)


@pytest.fixture
def calibrated_folder(calibrated_checkpoint, tmp_path) -> Path:
    """A calibrated checkpoint that a test may spoil."""
    return shutil.copytree(calibrated_checkpoint, tmp_path / "calibrated")


class FoundAt(Detector):
    """A detector that finds cars where it is told to; drawn cars are none to the real one."""

    def __init__(self, *boxes: Box):
        super().__init__()
        self._boxes = boxes

    def detect(self, picture: Image.Image) -> list[Detection]:
        return [Detection(box, 0.9) for box in self._boxes]

    def search(self, picture: Image.Image, least: float = 0, most: int = 9) -> list[Detection]:
        return self.detect(picture)


@pytest.fixture(scope="session")
def bundled() -> CarRecognizer:
    """The checkpoint that comes with Marque: real trained weights."""
    assert BUNDLED.is_dir(), "the bundled checkpoint is missing"
    return CarRecognizer.from_pretrained()


@pytest.fixture
def folders(tmp_path) -> Path:
    """Two classes of ten photos, one photo nested, and files that are no photos."""
    folder = tmp_path / "cars"
    for number, label in enumerate(("BMW M3 Coupe 2012", "Audi A4 Sedan 2012")):
        (folder / label / "more").mkdir(parents=True)
        for seed in range(9):
            draw_car(10 * number + seed).save(folder / label / f"{seed}.png")
        draw_car(10 * number + 9).save(folder / label / "more" / "9.PNG")
        (folder / label / ".DS_Store").write_bytes(b"junk")
    return folder


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """Two datasets of drawn cars with a split, photos of other things, and a list of parts."""
    tmp_path = tmp_path_factory.mktemp("drawn")
    rows = ["source,path,label,split,group"]
    number = 0
    for source in ("one", "two"):
        for label in TINY_LABELS:
            # The same car may be written otherwise in another dataset.
            name = "2012 audi a4 sedan" if (source, label) == ("two", TINY_LABELS[0]) else label
            folder = tmp_path / source / name
            folder.mkdir(parents=True)
            for split in ("train", "validation", "test") * 4:
                number += 1
                draw_car(number, COLOURS[label]).save(folder / f"{number}.png")
                rows.append(f"{source},{name}/{number}.png,{name},{split},g{number // 2}")
    part = tmp_path / "one" / TINY_LABELS[1] / "part.png"
    draw_car(99).crop((60, 60, 90, 90)).save(part)
    rows.append(f"one,{TINY_LABELS[1]}/part.png,{TINY_LABELS[1]},excluded,part")
    (tmp_path / "parts.csv").write_text(f"photo\n{TINY_LABELS[1]}/part.png\n")
    (tmp_path / "split.csv").write_text("\n".join(rows) + "\n")
    others = tmp_path / "others"
    others.mkdir()
    for index, (_, picture) in enumerate(drawings(12, seed=7)):
        picture.save(others / f"{index}.png")
    return tmp_path


def evaluation_of(checkpoint, folder, *more: str, names=("one", "two")) -> list[str]:
    """The command line that evaluates a checkpoint on the `drawn` datasets in a folder."""
    specs = [f"--data={name}={folder / name}" for name in names]
    few = [
        "--robustness=8",
        "--scenes=4",
        f"--split-file={folder / 'split.csv'}",
    ]
    return [str(checkpoint), *specs, *few, *more]


@pytest.fixture(scope="session")
def measured(tiny_checkpoint, drawn, tmp_path_factory):
    """A run whose checkpoint was measured with everything there is."""
    from trainer.evaluate import main as evaluate  # takes a while, and few tests need it

    run = tmp_path_factory.mktemp("measured")
    folder = shutil.copytree(tiny_checkpoint, run / "checkpoint")
    others, parts = f"--others={drawn / 'others'}", f"--non-exteriors={drawn / 'parts.csv'}"
    assert evaluate(evaluation_of(folder, drawn, others, parts)) == 0
    return run


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photos that MARQUE_DATA names."""
    if not os.environ.get("MARQUE_DATA"):
        pytest.skip("MARQUE_DATA is not set: no real photos to test on")
    return Path(os.environ["MARQUE_DATA"]).resolve()


@pytest.fixture(scope="session")
def real_cache(tmp_path_factory) -> PhotoCache:
    """A cache that all tests on real photos share, so that each photo is decoded once."""
    place = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):  # the workers share it too
        place = place.parent
    return PhotoCache(place / "real-cache", geometry(256))


@pytest.fixture(scope="session")
def algerian_report(real_data, real_cache, tmp_path_factory) -> Path:
    """The audit of the real Algerian photos, made once for all tests that read it."""
    out = tmp_path_factory.mktemp("algerian") / "report"
    spec = f"--data=algerian_used_cars={real_data / 'algerian_used_cars'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.audit.cache_of", lambda options: real_cache)
        assert audit([spec, f"--out={out}"]) == 0
    return out


@pytest.fixture(scope="module")
def hub() -> Iterator[LocalHub]:
    """A Hub that a module has to itself; ada may write to `ada` and `org`, bob to `bob`."""
    with LocalHub() as hub:
        hub.add_user("hf_ada", "ada", "org")
        hub.add_user("hf_bob", "bob")
        yield hub


@pytest.fixture(scope="module")
def call(hub, tmp_path_factory) -> Iterator[Callable[..., Any]]:
    """Calls functions as ada, in another process."""
    with hub.client(tmp_path_factory.mktemp("hf_home"), token="hf_ada") as call:
        yield call


@pytest.fixture(scope="module")
def reader(hub, tmp_path_factory) -> Iterator[Callable[..., Any]]:
    """Calls functions as nobody, in another process whose cache starts empty."""
    with hub.client(tmp_path_factory.mktemp("reader")) as call:
        yield call


# Modules whose tests start processes, train or evaluate: what `-m "not slow"` leaves out.
SLOW = {
    f"test_{name}"
    for name in (
        "browser card catalogue evaluate extend exteriors gate_training light machines notebook "
        "provenance publish recipes server speed_benchmark strangers streaming trackers training"
    ).split()
}


def pytest_collection_modifyitems(items: list[pytest.Item]):
    """Marks tests by what they need: `slow` and `real`, see CONTRIBUTING.md."""
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker("slow")
        if "real_data" in getattr(item, "fixturenames", ()):
            item.add_marker("real")


def pytest_sessionfinish(session, exitstatus):
    """Where MARQUE_NO_SKIP is set, as in CI beside the real photos, a skipped test is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if os.environ.get("MARQUE_NO_SKIP") and skipped:
        reporter.write_line(f"{len(skipped)} tests were skipped where none may be", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
