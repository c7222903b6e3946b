"""Training from end to end on drawn photos, in processes of its own, as users start it."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import draw_car
from safetensors.torch import load_file

from space.checkpoints import open_checkpoint
from trainer.config import ConfigError, TrainConfig
from trainer.evaluate import main as evaluate

ROOT = Path(__file__).parent.parent
CLASSES = {"Audi A4 Sedan 2012": "firebrick", "BMW M3 Coupe 2012": "navy", "Geo Metro 1993": "gold"}
OPTIONS = (
    "--model test_efficientnet --weights none --train-size 32 --test-size 32 --cache-size 40 "
    "--batch-size 8 --split 60/20/20 --keep-non-exteriors --lr 0.003 --epochs 3 "
    "--mixup 0.2 --cutmix 1 --shrink 0.2"
).split()


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A folder per class with twenty photos each, one of them broken and one under two labels."""
    folder = tmp_path_factory.mktemp("photos")
    for number, (label, colour) in enumerate(CLASSES.items()):
        (folder / label).mkdir()
        for seed in range(20):
            draw_car(100 * number + seed, colour).save(folder / label / f"{seed:02}.jpg")
    (folder / "Geo Metro 1993" / "broken.jpg").write_bytes(b"\xff\xd8 cut short")
    for label in ("Audi A4 Sedan 2012", "BMW M3 Coupe 2012"):
        draw_car(999, "white").save(folder / label / "both.jpg")
    return folder


def command(photos: Path, out: Path, *extra: str) -> list[str]:
    cache = ["--cache", str(photos.parent / "cache")]
    return [f"--data=cars={photos}", f"--out={out}", *cache, *OPTIONS, *extra]


def run(arguments: list[str], launcher: tuple[str, ...] = ("-m", "trainer.train"), **environment):
    return subprocess.run(
        [sys.executable, *launcher, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory) -> Path:
    """A run of three epochs, started with `accelerate launch trainer/train.py`."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    launcher = ("-m", "accelerate.commands.launch", "--cpu", "trainer/train.py")
    result = run(command(photos, out), launcher)
    assert result.returncode == 0, result.stderr
    return out


def test_a_run_leaves_a_checkpoint_that_opens(finished):
    checkpoint = open_checkpoint(finished / "checkpoint")
    assert checkpoint.labels == tuple(CLASSES)
    assert checkpoint.data_config["input_size"] == (3, 32, 32)


def test_training_json_says_how_the_checkpoint_came_to_be(finished):
    training = json.loads((finished / "checkpoint" / "training.json").read_text())
    assert training["config"]["epochs"] == 3
    assert training["command"].startswith("trainer/train.py --data=cars=")
    assert training["dataset"]["fingerprint"].startswith("sha256:")
    assert training["split"]["train"] > training["split"]["validation"] > 0
    assert training["starting_weights"].startswith("none")
    assert training["packages"]["timm"]
    history = read_csv(finished / "log.csv")
    best = max(float(row["validation_top1"]) for row in history)
    assert training["best_epoch"]["validation_top1"] == best


def test_a_run_draws_its_curves(finished):
    assert (finished / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_unusable_photos_are_listed_and_cost_nothing_else(finished):
    broken, *both = read_csv(finished / "left_out.csv")
    assert broken["path"] == "Geo Metro 1993/broken.jpg"
    assert "not a picture" in broken["reason"] or "damaged" in broken["reason"]
    assert {row["path"] for row in both} == {
        f"{label}/both.jpg" for label in ("Audi A4 Sedan 2012", "BMW M3 Coupe 2012")
    }
    assert {row["reason"] for row in both} == {
        "the same photo stands under 2 labels: Audi A4 Sedan 2012; BMW M3 Coupe 2012"
    }


def test_a_photo_under_two_labels_is_excluded(finished):
    rows = {row["path"]: row for row in read_csv(finished / "split.csv")}
    both = [rows[f"{label}/both.jpg"] for label in ("Audi A4 Sedan 2012", "BMW M3 Coupe 2012")]
    assert [row["split"] for row in both] == ["excluded", "excluded"]
    assert both[0]["group"] == both[1]["group"]


def same_weights(first: Path, second: Path) -> bool:
    a, b = load_file(first), load_file(second)
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def test_a_killed_run_resumes_to_the_same_weights(photos, finished, tmp_path):
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer.train", *command(photos, out)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        for line in process.stdout:
            if line.startswith("epoch 1"):
                process.send_signal(signal.SIGKILL)
                break
    assert not (out / "log.csv").read_text().splitlines()[3:], "it was killed too late"
    resumed = run(command(photos, out, "--resume"))
    assert resumed.returncode == 0, resumed.stderr
    assert same_weights(out / "resume.safetensors", finished / "resume.safetensors")
    assert same_weights(
        out / "checkpoint" / "model.safetensors", finished / "checkpoint" / "model.safetensors"
    )


def test_ctrl_c_says_how_to_go_on(photos, tmp_path):
    out = tmp_path / "stopped"
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer.train", *command(photos, out, "--epochs=500")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Ctrl-C may be ignored where the tests run in the background; it is not for a user.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    for line in process.stdout:
        if line.startswith("epoch 1"):
            process.send_signal(signal.SIGINT)
            break
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in errors
    assert "Traceback" not in errors


def test_resuming_with_other_settings_is_refused(photos, finished):
    result = run(command(photos, finished, "--resume", "--epochs=9"))
    assert result.returncode == 1
    assert "--epochs is 9, but the run to resume has 3" in result.stderr


def test_a_finished_run_is_not_overwritten(photos, finished):
    result = run(command(photos, finished))
    assert result.returncode == 1
    assert "add --resume" in result.stderr


def test_two_processes_train_together_on_the_same_photos(photos, finished, tmp_path):
    out = tmp_path / "two"
    launcher = ("-m", "torch.distributed.run", "--nproc_per_node=2", "trainer/train.py")
    result = run(command(photos, out), launcher, ACCELERATE_USE_CPU="1", OMP_NUM_THREADS="1")
    assert result.returncode == 0, result.stderr
    training = json.loads((out / "checkpoint" / "training.json").read_text())
    alone = json.loads((finished / "checkpoint" / "training.json").read_text())
    assert training["processes"] == 2
    assert training["split"] == alone["split"]
    assert len((out / "log.csv").read_text().splitlines()) == 4


def test_training_learns_what_tells_the_classes_apart(photos, tmp_path):
    out = tmp_path / "learning"
    arguments = command(photos, out, "--epochs=25", "--train-size=48", "--cache-size=64")
    result = run([*arguments, "--test-size=48", "--mixup=0", "--cutmix=0", "--shrink=0"])
    assert result.returncode == 0, result.stderr
    status = evaluate(
        [str(out / "checkpoint"), f"--data=cars={photos}", f"--split-file={out / 'split.csv'}"]
    )
    metrics = json.loads((out / "checkpoint" / "metrics.json").read_text())
    assert status == 0
    assert metrics["split"]["name"] == "test"
    assert metrics["top1"]["value"] >= 0.75  # colour alone tells these three classes
    assert metrics["top1"]["low"] < metrics["top1"]["value"] <= metrics["top1"]["high"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "--epochs is 0; it must be at least 1"),
        ({"split": "0/50/50"}, "--split: the split '0/50/50' is none"),
        ({"split": "90/0/10"}, "the epoch is chosen on validation photos"),
        ({"train_size": 8}, "--train-size is 8"),
        ({"start_size": 256, "train_size": 160}, "--start-size is 256"),
        ({"precision": "int8"}, "--precision is int8"),
        ({"ema": 1.0}, "--ema is 1.0"),
        ({"lr": 0.0}, "--lr is 0.0"),
        ({"mixup": -0.1}, "--mixup is -0.1; it must not be negative"),
        ({"shrink": 1.5}, "--shrink is 1.5; it must be between 0 and 1"),
        ({"cutmix": 1.0, "batch_size": 7}, "--batch-size is 7; mixup and CutMix need pairs"),
    ],
)
def test_bad_settings_are_refused_by_name(settings, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(data=("cars",), out=Path("runs/x"), **settings)


def test_training_grows_its_photos_when_asked():
    config = TrainConfig(data=("cars",), out=Path("x"), epochs=8, start_size=96, train_size=160)
    assert [config.size_at(epoch) for epoch in range(8)] == [96, 96, 128, 128, 160, 160, 160, 160]


def test_a_missing_data_set_is_one_clear_line(tmp_path):
    result = run(["--data=cars=/nowhere/at/all", f"--out={tmp_path / 'x'}"])
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1] == (
        "train: --data cars=/nowhere/at/all: there is no folder /nowhere/at/all"
    )
