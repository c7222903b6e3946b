"""Calibration: the confidence map, and which calibration.json is read and which refused."""

import json
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


OPTIONAL = ("fusion", "agrees", "contradicts")  # newer than many checkpoints


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
