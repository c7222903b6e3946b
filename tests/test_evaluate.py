"""`python -m trainer.evaluate`: what it writes, and which photos it judges by."""

import csv
import json
import shutil

import pytest
from conftest import TINY_LABELS, draw_car, evaluation_of

from space.recognizer import CarRecognizer
from trainer.evaluate import main
from trainer.evaluation.measure import AS_IT_IS
from trainer.evaluation.pasting import AREAS
from trainer.evaluation.robustness import CORRUPTIONS


@pytest.fixture
def checkpoint(tiny_checkpoint, tmp_path):
    """A copy that a test may write into."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "run" / "checkpoint")


@pytest.fixture
def photos(drawn, tmp_path):
    """A copy of them that a test may change."""
    return shutil.copytree(drawn, tmp_path / "photos")


@pytest.fixture
def evaluated(measured, tmp_path):
    """A copy of its checkpoint that a test may write into."""
    return shutil.copytree(measured, tmp_path / "measured") / "checkpoint"


def test_everything_is_measured_and_written(evaluated):
    metrics = json.loads((evaluated / "metrics.json").read_text())
    tested = 2 * 4 * 4
    assert metrics["split"]["photos"] == metrics["photos"] == tested
    assert metrics["command"].startswith("python -m trainer.evaluate ")
    assert {name: found["photos"] for name, found in metrics["sources"].items()} == {
        "one": 16,
        "two": 16,
    }
    for name in ("top1", "top3", "top5", "make", "model", "f1_macro"):
        assert 0 <= metrics[name]["low"] <= metrics[name]["value"] <= metrics[name]["high"] <= 1
    assert metrics["top5"]["value"] == 1.0  # the checkpoint has four classes
    assert set(metrics["calibration"]["after"]) == {"make", "model", "year"}
    assert set(metrics["thresholds"]) == {"0.9", "0.95", "0.98", "0.99"}
    assert set(metrics["plausible"]) == {"0.9", "0.95", "0.99"}
    assert set(metrics["robustness"]) == {AS_IT_IS, *CORRUPTIONS}
    assert set(metrics["crossings"]["one"]) == {"any", "two"}
    assert set(metrics["scenes"]) == {"one", "two"}
    for sizes in metrics["scenes"].values():
        assert list(sizes) == [AS_IT_IS, *AREAS]
        assert {found["photos"] for found in sizes.values()} == {4}
    rejection = metrics["rejection"]
    assert set(rejection["exteriors"]) == {"one", "two"}
    assert {"photos of other things", "insides and parts", "drawings"} <= set(rejection["others"])


def test_the_figures_lie_beside_the_checkpoint(measured):
    names = {path.name for path in (measured / "evaluation").iterdir()}
    assert {
        "classes.csv", "classes.png", "confusion.csv", "confusion_counts.png",
        "confusion_shares.png", "worst_pairs.csv", "worst_pairs.png", "reliability.png",
        "reliability_levels.png", "risk_coverage.png", "robustness.png", "rejection.png",
        "gallery.png",
    } <= names  # fmt: skip


def test_the_checkpoint_opens_calibrated_with_its_gate(evaluated):
    recognizer = CarRecognizer.from_pretrained(evaluated)
    assert recognizer.rule.calibration
    assert recognizer.gate
    recognition = recognizer.predict(draw_car(3))
    assert recognition.verdict in ("auto-tag", "review", "rejected")
    assert recognition.plausible.coverage == 0.95


def test_a_kept_calibration_stays_as_it_is(evaluated, photos):
    before = (evaluated / "calibration.json").read_bytes()
    more = ["--keep-calibration", "--robustness=0"]
    assert main([*evaluation_of(evaluated, photos, names=("one",)), *more]) == 0
    assert (evaluated / "calibration.json").read_bytes() == before
    metrics = json.loads((evaluated / "metrics.json").read_text())
    assert metrics["split"]["photos"] == 16
    assert "sources" not in metrics
    assert "robustness" not in metrics
    assert "photos of other things" not in metrics["rejection"]["others"]


def test_without_photos_of_other_things_there_is_no_gate(checkpoint, photos):
    more = ["--robustness=0"]
    assert main([*evaluation_of(checkpoint, photos), *more]) == 0
    assert not (checkpoint / "gate.safetensors").exists()
    assert CarRecognizer.from_pretrained(checkpoint).gate is None


def test_test_photos_play_no_part_in_the_calibration(checkpoint, photos):
    """Other test photos and other labels of theirs: the same calibration."""
    more = ["--robustness=0"]
    assert main([*evaluation_of(checkpoint, photos), *more]) == 0
    first = json.loads((checkpoint / "calibration.json").read_text())
    with (photos / "split.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["split"] == "test":
            draw_car(1000, "black").save(photos / row["source"] / row["path"])
    assert main([*evaluation_of(checkpoint, photos), *more]) == 0
    assert json.loads((checkpoint / "calibration.json").read_text()) == first


def test_without_a_split_file_the_official_test_is_measured(checkpoint, photos, tmp_path):
    """The number that papers state, by anyone, with the calibration that a checkpoint has."""
    for part, seeds in (("train", (1,)), ("test", (2, 3))):
        for label in TINY_LABELS:
            (tmp_path / "cars" / part / label).mkdir(parents=True)
            for seed in seeds:
                draw_car(seed).save(tmp_path / "cars" / part / label / f"{seed}.png")
    arguments = [str(checkpoint), f"--data=cars={tmp_path / 'cars'}", "--keep-calibration"]
    assert main([*arguments, "--robustness=0"]) == 0
    metrics = json.loads((checkpoint / "metrics.json").read_text())
    assert metrics["split"] == {"name": "test", "file_sha256": None, "photos": 8}


def test_the_official_split_needs_parts_and_validation_photos(checkpoint, photos, tmp_path, capsys):
    assert main([str(checkpoint), f"--data=one={photos / 'one'}"]) == 1
    assert "one has no official parts; name a split file" in capsys.readouterr().err
    for part in ("train", "test"):
        (tmp_path / "cars" / part / TINY_LABELS[0]).mkdir(parents=True)
        draw_car(1).save(tmp_path / "cars" / part / TINY_LABELS[0] / "1.png")
    assert main([str(checkpoint), f"--data=cars={tmp_path / 'cars'}"]) == 1
    assert "the official split has no validation photo" in capsys.readouterr().err


def test_photos_that_are_missing_are_counted(checkpoint, photos, capsys):
    (photos / "one" / TINY_LABELS[3] / next((photos / "one" / TINY_LABELS[3]).iterdir())).unlink()
    assert main(evaluation_of(checkpoint, photos)) == 1
    assert "names 97 photos of one, two, but --data has only 96 of them" in capsys.readouterr().err


def test_a_class_that_the_checkpoint_does_not_know_is_named(checkpoint, tmp_path, capsys):
    (tmp_path / "one" / "Zaz 965").mkdir(parents=True)
    draw_car(1).save(tmp_path / "one" / "Zaz 965" / "1.png")
    (tmp_path / "split.csv").write_text(
        "source,path,label,split,group\none,Zaz 965/1.png,Zaz 965,test,a\n"
    )
    assert main(evaluation_of(checkpoint, tmp_path, names=("one",))) == 1
    assert "does not know 1 of the classes: Zaz 965" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--others=/nowhere", "there is no such folder"),
        ("--others=empty", "there is no photo in it"),
        ("--non-exteriors=nowhere.csv", "cannot be read"),
        ("--non-exteriors=split.csv", "the columns should be photo"),
    ],
)
def test_wrong_options_are_refused_with_the_reason(
    checkpoint, photos, capsys, option, message, monkeypatch
):
    monkeypatch.chdir(photos)
    (photos / "empty").mkdir()
    others = [] if option.startswith("--others") else ["--others=others"]
    assert main(evaluation_of(checkpoint, photos, option, *others)) == 1
    assert message in capsys.readouterr().err


def test_a_failure_leaves_the_old_calibration(evaluated, photos, capsys):
    before = (evaluated / "calibration.json").read_bytes()
    with (photos / "split.csv").open(newline="") as file:
        broken = [row for row in csv.DictReader(file) if row["split"] == "test"][-1]
    (photos / broken["source"] / broken["path"]).write_bytes(b"no picture")
    assert main(evaluation_of(evaluated, photos)) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert (evaluated / "calibration.json").read_bytes() == before
