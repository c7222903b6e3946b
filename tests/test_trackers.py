"""What --tracker shows is what log.csv says."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainer.toys import main as draw_toys

ROOT = Path(__file__).parent.parent
# Starts training where a package is as good as not installed.
WITHOUT = (
    "import sys; sys.modules[sys.argv.pop(1)] = None; "
    "from trainer.train import main; sys.exit(main())"
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "toys"
    draw_toys([str(folder), "--each=10"])
    return folder


def train(photos: Path, out: Path, tracker: str, start: list[str]):
    data = [f"--data=cars={photos}", f"--cache={photos.parent / 'cache'}", f"--out={out}"]
    small = ["--train-size=32", "--test-size=32", "--cache-size=40", "--no-graph"]
    return subprocess.run(
        [sys.executable, *start, "--recipe=smoke", *data, *small, f"--tracker={tracker}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def tracked(photos, tmp_path_factory) -> Path:
    """A run that TensorBoard was told about."""
    out = tmp_path_factory.mktemp("tracked")
    result = train(photos, out, "tensorboard", ["trainer/train.py"])
    assert result.returncode == 0, result.stderr
    return out


def test_tensorboard_shows_what_the_log_says(tracked):
    rows = list(csv.DictReader((tracked / "log.csv").read_text().splitlines()))
    events = EventAccumulator(str(tracked / "marque"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == set(rows[0]) - {"epoch"}
    for name in events.Tags()["scalars"]:
        shown = events.Scalars(name)
        assert [event.step for event in shown] == [int(row["epoch"]) for row in rows]
        logged = [float(row[name]) for row in rows]
        assert [event.value for event in shown] == pytest.approx(logged, rel=1e-6)


def test_tensorboard_is_told_the_settings(tracked):
    (settings,) = (tracked / "marque").rglob("hparams.yml")
    assert "model: test_efficientnet" in settings.read_text()


def test_the_checkpoint_holds_nothing_of_the_tracker(tracked):
    names = {path.name for path in (tracked / "checkpoint").iterdir()}
    assert names == {"config.json", "model.safetensors", "classes.txt", "training.json"}


@pytest.mark.parametrize("tracker", ["trackio", "tensorboard"])
def test_a_tracker_that_is_not_installed_is_named_with_what_brings_it(photos, tmp_path, tracker):
    result = train(photos, tmp_path, tracker, ["-c", WITHOUT, tracker])
    assert result.returncode == 1
    assert f"--tracker is {tracker}, which is not installed" in result.stderr
    assert f"pip install {tracker}" in result.stderr
    assert "Traceback" not in result.stderr
