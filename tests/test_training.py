"""Training from end to end on drawn photos, in processes of its own, as users start it.

What says nothing about processes trains in that of the tests, which has its libraries already.
"""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from conftest import draw_car
from safetensors.torch import load_file

from space.checkpoints import open_checkpoint, read_license
from space.errors import DataError, MarqueError
from trainer.evaluate import main as evaluate
from trainer.training.checkpoints import put_in_place
from trainer.training.config import parse_config
from trainer.training.run import train

ROOT = Path(__file__).parent.parent
CLASSES = {"Audi A4 Sedan 2012": "firebrick", "BMW M3 Coupe 2012": "navy", "Geo Metro 1993": "gold"}
OPTIONS = (
    "--model test_efficientnet --weights none --train-size 32 --test-size 32 --cache-size 40 "
    "--batch-size 8 --split 60/20/20 --keep-non-exteriors --lr 0.003 --epochs 3 "
    "--mixup 0.2 --cutmix 1 --shrink 0.2 --license cc-by-4.0 --no-graph"
).split()


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A folder per class with twenty photos each, one of them broken and one under two labels."""
    folder = tmp_path_factory.mktemp("photos")
    for number, (label, color) in enumerate(CLASSES.items()):
        (folder / label).mkdir()
        for seed in range(20):
            draw_car(100 * number + seed, color).save(folder / label / f"{seed:02}.jpg")
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


def train_here(arguments: list[str]) -> Path:
    """Trains in this process and returns the checkpoint's folder."""
    # Accelerate keeps for a whole process how its first run computes.
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    try:
        return train(parse_config(arguments))
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory) -> Path:
    """A run of three epochs, started with `accelerate launch trainer/train.py`."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    launcher = ("-m", "accelerate.commands.launch", "--cpu", "trainer/train.py")
    result = run(command(photos, out), launcher)
    assert result.returncode == 0, result.stderr
    (out / "printed.txt").write_text(result.stdout)
    return out


def test_a_run_leaves_a_checkpoint_that_opens(finished):
    checkpoint = open_checkpoint(finished / "checkpoint")
    assert checkpoint.labels == tuple(CLASSES)
    assert checkpoint.data_config["input_size"] == (3, 32, 32)
    assert read_license(finished / "checkpoint") == "cc-by-4.0"


def test_training_json_says_how_the_checkpoint_came_to_be(finished):
    training = json.loads((finished / "checkpoint" / "training.json").read_text())
    assert training["config"]["epochs"] == 3
    assert training["command"].startswith("trainer/train.py --data=cars=")
    assert training["dataset"]["fingerprint"].startswith("sha256:")
    assert training["split"]["train"] > training["split"]["validation"] > 0
    assert training["starting_weights"].startswith("none")
    assert training["packages"]["timm"]
    assert training["hardware"]["processor"]
    assert training["hardware"]["threads"] >= 1
    history = read_csv(finished / "log.csv")
    best = max(float(row["validation_top1"]) for row in history)
    assert training["best_epoch"]["validation_top1"] == best


def test_training_json_says_what_each_data_set_gave_and_why_photos_were_left_out(finished):
    training = json.loads((finished / "checkpoint" / "training.json").read_text())
    parts = training["sources"]["cars"]
    assert {split: parts[split] for split in ("train", "validation", "test", "excluded")} == {
        split: count for split, count in training["split"].items() if split != "sha256"
    }
    assert parts["unusable"] == training["dataset"]["unusable"] == 1
    reasons = training["left_out"]
    assert reasons.pop("the same photo stands under 2 labels") == 2
    assert list(reasons.values()) == [1]  # the broken one


def cost_of(run: Path) -> dict[str, float]:
    return json.loads((run / "checkpoint" / "training.json").read_text())["cost"]


def test_training_json_sums_up_what_all_epochs_took(finished):
    history, cost = read_csv(finished / "log.csv"), cost_of(finished)
    assert cost["epochs"] == len(history) == 3  # those after the best one too
    assert cost["seconds"] == pytest.approx(sum(float(row["seconds"]) for row in history))
    assert cost["seconds"] > 0


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
    paid = float(read_csv(out / "log.csv")[0]["seconds"])
    resumed = run(command(photos, out, "--resume"))
    assert resumed.returncode == 0, resumed.stderr
    assert cost_of(out)["epochs"] == 3
    assert cost_of(out)["seconds"] > paid
    assert float(read_csv(out / "log.csv")[0]["seconds"]) == paid
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
    with pytest.raises(MarqueError, match="--epochs is 9, but the run to resume has 3"):
        train_here(command(photos, finished, "--resume", "--epochs=9"))


def test_a_finished_run_is_not_overwritten(photos, finished):
    with pytest.raises(MarqueError, match="add --resume"):
        train_here(command(photos, finished))


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
    assert metrics["top1"]["value"] >= 0.75  # color alone tells these three classes
    assert metrics["top1"]["low"] < metrics["top1"]["value"] <= metrics["top1"]["high"]


def test_a_missing_data_set_is_one_clear_line(tmp_path):
    result = run(["--data=cars=/nowhere/at/all", f"--out={tmp_path / 'x'}"])
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1] == (
        "train: --data cars=/nowhere/at/all: there is no folder /nowhere/at/all"
    )


def test_two_processes_learn_what_one_learns(photos, tmp_path):
    """Without chance in photos or network: each batch is shared between them and none is missed."""
    plain = (
        "--model test_convnext --crop-area 1 --aspect 0 --rotate 0 --flip 0 --color 0 --grey 0 "
        "--erase 0 --dropout 0 --mixup 0 --cutmix 0 --shrink 0"
    ).split()
    launcher = ("-m", "torch.distributed.run", "--nproc_per_node=2", "trainer/train.py")
    one, two = tmp_path / "one", tmp_path / "two"
    for out, with_launcher in ((one, {}), (two, {"launcher": launcher})):
        result = run(
            command(photos, out, *plain),
            **with_launcher,
            ACCELERATE_USE_CPU="1",
            OMP_NUM_THREADS="1",
        )
        assert result.returncode == 0, result.stderr
    alone, together = (load_file(out / "resume.safetensors") for out in (one, two))
    for name, tensor in alone.items():
        assert torch.allclose(tensor, together[name], atol=1e-4), name
    for mine, theirs in zip(read_csv(one / "log.csv"), read_csv(two / "log.csv"), strict=True):
        for column in ("train_loss", "validation_loss", "validation_top1", "validation_top5"):
            assert float(mine[column]) == pytest.approx(float(theirs[column]), abs=1e-3)


def test_the_settings_that_a_run_prints_make_the_same_run(finished, tmp_path):
    printed = (finished / "printed.txt").read_text()
    settings = [line for line in printed.splitlines() if " = " in line]
    recipe = tmp_path / "again.toml"
    recipe.write_text("\n".join(settings) + "\n")
    again = parse_config(["--recipe", str(recipe), "--out", str(tmp_path / "x")])
    told = json.loads((finished / "checkpoint" / "training.json").read_text())["config"]
    assert again.as_json() == told | {"recipe": str(recipe)}


EVERYTHING = {
    "stages": "--head-epochs 1 --top-epochs 1 --weights {start} --freeze-norm",
    "joint": "--head joint --level-loss 0.3 --layer-decay 0.8 --optimizer lamb --schedule cosine",
    "arcface": "--head arcface --mixup 0 --cutmix 0 --schedule constant --patience 2",
    "mlp": "--head mlp --hidden 16-8 --focal 2 --class-weights --drop-path 0.1",
    "balanced": "--balanced --policy trivialaugment --blur 0.5 --jpeg 0.5 --downscale 0.5 "
    "--backgrounds 1 --accumulate 2 --schedule plateau",
    "teacher": "--teacher {start} --teacher-share 0.7 --ema 0 --schedule step --warmup 0",
    "cnn": "--model marque_cnn --optimizer sgd --schedule poly",
    "bf16": "--precision bf16",
}


@pytest.mark.parametrize("settings", EVERYTHING.values(), ids=EVERYTHING)
def test_every_setting_trains_to_a_checkpoint_that_opens_and_evaluates(
    photos, finished, tmp_path, settings
):
    out = tmp_path / "run"
    extra = settings.format(start=finished / "checkpoint").split()
    checkpoint = train_here(command(photos, out, *extra))
    assert open_checkpoint(checkpoint).labels == tuple(CLASSES)
    split = f"--split-file={out / 'split.csv'}"
    assert evaluate([str(checkpoint), f"--data=cars={photos}", split]) == 0


def test_training_stops_early_when_nothing_is_gained(photos, tmp_path):
    out = tmp_path / "early"
    still = "--epochs=30 --lr=1e-12 --schedule=constant --patience=3 --ema=0".split()
    result = run(command(photos, out, *still))
    assert result.returncode == 0, result.stderr
    assert "stopped early: no progress in 3 epochs" in result.stdout
    assert len(read_csv(out / "log.csv")) < 30


def test_a_run_that_diverges_says_so(photos, tmp_path):
    wild = "--lr=1e9 --clip=0 --schedule=constant --warmup=0 --optimizer=sgd".split()
    result = run(command(photos, tmp_path / "wild", *wild))
    assert result.returncode == 1
    assert "the training loss is no longer a number in epoch 1" in result.stderr
    assert "Traceback" not in result.stderr


# The limit counts what malloc keeps for later, and would leave nothing to others; so it keeps none.
LITTLE_MEMORY = """
import resource, sys
import trainer.train
import trainer.training.run
trainer.training.run.keep_freed_memory = lambda: None
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
used = int(status["VmData"].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + {megabytes} * 2**20,) * 2)
sys.exit(trainer.train.main(sys.argv[1:]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's memory limits")
def test_out_of_memory_halves_the_batch_and_keeps_the_effective_size(photos, tmp_path):
    out = tmp_path / "little"
    large = "--epochs=1 --batch-size=32 --train-size=448 --model=test_efficientnet".split()
    result = run(
        command(photos, out, *large),
        ("-c", LITTLE_MEMORY.format(megabytes=1200)),
        OMP_NUM_THREADS="1",
    )
    assert result.returncode == 0, result.stderr
    halved = re.findall(r"going on with --batch-size (\d+) --accumulate (\d+)", result.stdout)
    assert halved[0] == ("16", "2")
    assert all(int(batch) * int(accumulate) == 32 for batch, accumulate in halved)
    assert open_checkpoint(out / "checkpoint").labels == tuple(CLASSES)


@pytest.mark.parametrize(
    ("classes", "count", "cause"),
    [(1, 20, "show one class, 'Audi'"), (2, 5, "a class needs 6 different photos")],
)
def test_too_little_to_train_on_is_refused_before_training(tmp_path, classes, count, cause):
    for number, label in enumerate(("Audi", "Kia")[:classes]):
        (tmp_path / "cars" / label).mkdir(parents=True)
        for seed in range(count):
            draw_car(100 * number + seed).save(tmp_path / "cars" / label / f"{seed}.png")
    with pytest.raises(DataError, match=cause):
        train_here(command(tmp_path / "cars", tmp_path / "run", "--split=80/10/10"))
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_home_folder_is_expanded_in_options(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = parse_config(["--data=cars=~/cars", "--out=~/run", "--cache=~/cache"])
    assert (config.out, config.cache) == (tmp_path / "run", tmp_path / "cache")


@pytest.mark.parametrize("able", [True, False])
def test_a_checkpoint_is_replaced_whole(tmp_path, monkeypatch, able):
    if not able:
        monkeypatch.setattr("trainer.training.checkpoints._exchange", lambda one, other: False)
    target, missing = tmp_path / "checkpoint", 0
    done = threading.Event()

    def watch() -> None:
        nonlocal missing
        while not done.is_set():
            missing += not (target / "whole").exists()

    for number in range(300):
        new = tmp_path / "checkpoint.new"
        new.mkdir()
        (new / "whole").write_text(str(number))
        put_in_place(new, target)
        if not number:
            watcher = threading.Thread(target=watch)
            watcher.start()
    done.set()
    watcher.join()
    assert (target / "whole").read_text() == "299"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    if able and sys.platform == "linux":
        assert missing == 0
