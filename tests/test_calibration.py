"""Calibration: the confidence map, and which calibration.json is read and which refused."""

import json
import os
import re
import shutil

import numpy as np
import pytest
from conftest import DEFAULT, calibrate, save_tiny_checkpoint

from space.answers import LEVELS, YEAR
from space.calibration import Calibration, ConfidenceMap, read_calibration
from space.checkpoints import CALIBRATION, SERVING_FILES
from space.errors import CheckpointError
from space.gate import GATE
from space.recognizer import CarRecognizer
from trainer.training.checkpoints import seal
from trainer.training.graph import export

MAPS = [ConfidenceMap(), ConfidenceMap(0.7, 1.3, 0.1), ConfidenceMap(2, 0, -1), ConfidenceMap(0, 3)]


def change(folder, **changes):
    """Changes calibration.json; a value of ... takes its key away."""
    path = folder / CALIBRATION
    content = json.loads(path.read_text("utf-8")) | changes
    kept = {key: value for key, value in content.items() if value is not ...}
    path.write_text(json.dumps(kept), "utf-8")


# The map


def test_map_is_that_of_beta_calibration():
    p = np.array([0.1, 0.5, 0.9])
    odds = p**0.7 / (1 - p) ** 1.3 * np.e**0.1
    found = ConfidenceMap(0.7, 1.3, 0.1)(p)
    assert found.tolist() == pytest.approx((odds / (1 + odds)).tolist())


def test_map_of_ones_changes_nothing():
    p = np.random.default_rng(0).random(100)
    assert np.array_equal(ConfidenceMap()(p), p)
    assert ConfidenceMap(1, 1, 1e-12)(p).tolist() == pytest.approx(p.tolist(), abs=1e-6)


@pytest.mark.parametrize("confidence", MAPS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_map_rises_and_stays_between_0_and_1(confidence, dtype):
    found = confidence(np.linspace(0, 1, 1001, dtype=dtype))
    assert found.dtype == dtype
    assert np.isfinite(found).all()
    assert 0 <= found.min() <= found.max() <= 1
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize("numbers", [(-0.1, 1, 0), (1, -0.1, 0)])
def test_map_that_falls_is_refused(numbers):
    with pytest.raises(ValueError, match="must rise"):
        ConfidenceMap(*numbers)


# The file


def test_calibration_that_was_written_is_read(calibrated_checkpoint):
    assert read_calibration(calibrated_checkpoint) == DEFAULT


def test_nulls_are_read(calibrated_folder):
    never = {target: dict.fromkeys(LEVELS) for target in DEFAULT.thresholds}
    calibrate(calibrated_folder, known=None, gate=None, thresholds=never)
    calibration = read_calibration(calibrated_folder)
    assert (calibration.known, calibration.gate) == (None, None)
    assert calibration.thresholds["0.98"][YEAR] is None


def test_second_look_of_an_older_calibration_is_passed_over(calibrated_folder):
    change(calibrated_folder, second_look={"share": 0.35, "margin": 0.1})
    assert read_calibration(calibrated_folder) == DEFAULT


def test_checkpoint_without_calibration_has_none(tiny_checkpoint):
    assert read_calibration(tiny_checkpoint) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}"])
def test_file_that_is_no_calibration_is_refused(calibrated_folder, content):
    (calibrated_folder / CALIBRATION).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"calibration\.json is damaged .*trainer\.evaluate"):
        CarRecognizer.from_pretrained(calibrated_folder)


OPTIONAL = ("familiar", "fusion", "agrees", "contradicts")  # newer than many checkpoints


@pytest.mark.parametrize("key", sorted({*DEFAULT.as_json(), "weights_sha256"}.difference(OPTIONAL)))
def test_missing_part_is_named(calibrated_folder, key):
    change(calibrated_folder, **{key: ...})
    with pytest.raises(CheckpointError, match=f"is damaged .*{key}"):
        read_calibration(calibrated_folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0},
        {"temperature": -1.0},
        {"temperature": "warm"},
        {"temperature": float("nan")},
        {"temperature": True},
        {"confidence": {}},
        {"confidence": {key: {"a": 1, "b": 1, "c": 0, "d": 0} for key in LEVELS}},
        {"confidence": {key: {"a": -1, "b": 1, "c": 0} for key in LEVELS}},
        {"confidence": {key: {"a": 1, "b": 1, "c": None} for key in LEVELS}},
        {"thresholds": []},
        {"thresholds": {"0.98": {"year": 0.5}}},
        {"thresholds": {"0.98": dict.fromkeys(LEVELS, "0.5")}},
        {"plausible": {"0.95": None}},
        {"plausible": [0.95]},
        {"known": "far"},
        {"gate": float("inf")},
    ],
)
def test_value_that_makes_no_sense_is_refused(calibrated_folder, changes):
    change(calibrated_folder, **changes)
    with pytest.raises(CheckpointError, match=r"calibration\.json is damaged"):
        read_calibration(calibrated_folder)


def test_calibration_of_other_weights_is_refused(calibrated_folder, tmp_path):
    other = save_tiny_checkpoint(tmp_path / "other", seed=1)
    shutil.copy(other / "model.safetensors", calibrated_folder)
    with pytest.raises(CheckpointError, match="measured with other weights than"):
        CarRecognizer.from_pretrained(calibrated_folder)


def test_calibration_cannot_be_made_of_nonsense():
    with pytest.raises(ValueError, match="above 0"):
        Calibration(0, DEFAULT.confidence, DEFAULT.thresholds, DEFAULT.plausible)


def test_calibration_and_gate_come_along_from_the_hub():
    assert {CALIBRATION, GATE} <= set(SERVING_FILES)


# What the calibration vouches for


def sealed(folder):
    seal(folder)
    CarRecognizer.from_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["config.json", "classes.txt", "gate.safetensors", "model.onnx"])
def test_a_file_that_was_changed_is_named(calibrated_folder, exported_checkpoint, name):
    shutil.copy(exported_checkpoint / "model.onnx", calibrated_folder)
    sealed(calibrated_folder)
    content = (calibrated_folder / name).read_bytes()
    # Something that it opens with all the same.
    changed = {"config.json": content + b"\n", "classes.txt": content.replace(b"\n", b"\r\n")}
    (calibrated_folder / name).write_bytes(changed.get(name, content[:-1] + b"\x01"))
    with pytest.raises(CheckpointError, match=rf"{re.escape(name)} (is|does|holds|should)"):
        CarRecognizer.from_pretrained(calibrated_folder)


def test_a_graph_that_is_gone_or_written_again_is_no_change(calibrated_folder):
    export(calibrated_folder)
    sealed(calibrated_folder)
    (calibrated_folder / "model.onnx").unlink()
    CarRecognizer.from_pretrained(calibrated_folder)
    export(calibrated_folder)
    CarRecognizer.from_pretrained(calibrated_folder)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"temperature": 1e9}, "temperature"),
        ({"temperature": float("inf")}, "not a finite number"),
        ({"gate": float("nan")}, "not a finite number"),
        ({"gate": 1.5}, "not a share"),
        ({"plausible": {"0.95": -0.1}}, "not a share"),
        ({"plausible": {"often": 0.5}}, "could not convert"),
        ({"thresholds": {"0.98": {"make": 2, "model": None, "year": None}}}, "not a share"),
        ({"confidence": {level: {"a": 1e300} for level in ("make", "model", "year")}}, "up to 1e"),
        ({"fusion": 3}, "not a share"),
        ({"contradicts": "0"}, "not a finite number"),
    ],
)
def test_absurd_numbers_are_refused(calibrated_folder, changes, cause):
    path = calibrated_folder / "calibration.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(CheckpointError, match=rf"calibration\.json is damaged .*{cause}"):
        CarRecognizer.from_pretrained(calibrated_folder)


def test_a_gate_that_is_a_pipe_is_not_waited_for(calibrated_folder):
    (calibrated_folder / "gate.safetensors").unlink()
    os.mkfifo(calibrated_folder / "gate.safetensors")
    with pytest.raises(CheckpointError, match="it is not a file"):
        CarRecognizer.from_pretrained(calibrated_folder)
