"""The gate: what it refuses, with which reason, and which file is none."""

import numpy as np
import pytest
from conftest import SIGHTS, calibrate
from safetensors.numpy import load_file, save_file

from space.errors import CheckpointError
from space.gate import CAR, GATE, KINDS, OTHER, PART, FeatureGate
from space.recognizer import CarRecognizer

# Two channels: the first speaks for a part, the second for something else.
GATE_OF_TWO = FeatureGate(
    np.array([[0.0, 0], [1, 0], [0, 1]], np.float32), np.zeros(3, np.float32), 0.5
)

REASON_OF = {
    CAR: None,
    PART: "this looks like the inside or a part of a car, not a car from outside",
    OTHER: "this does not look like a car",
}


# The gate on what the network saw


@pytest.mark.parametrize(
    ("features", "kind"),
    [((-9, -9), CAR), ((9, 0), PART), ((0, 9), OTHER), ((9, 8), PART), ((8, 9), OTHER)],
)
def test_each_kind_has_its_reason(features, kind):
    (reason,) = GATE_OF_TWO.refusals(np.array([features], np.float32))
    assert reason == REASON_OF[kind]


def test_photo_passes_from_the_threshold_on():
    features = np.zeros((1, 2))
    probability = float(GATE_OF_TWO.probabilities(features)[0, 0])
    for threshold, passes in ((probability, True), (probability + 1e-4, False)):
        gate = FeatureGate(GATE_OF_TWO.weight, GATE_OF_TWO.bias, threshold)
        assert (gate.refusals(features) == [None]) == passes


def test_refusals_keep_the_order_of_the_photos():
    features = np.array([[0.0, 9], [-9, -9], [9, 0]])
    assert GATE_OF_TWO.refusals(features) == [REASON_OF[kind] for kind in (OTHER, CAR, PART)]


def test_probabilities_of_the_kinds_sum_to_one():
    probabilities = GATE_OF_TWO.probabilities(np.random.default_rng(0).normal(size=(20, 2)))
    assert probabilities.shape == (20, len(KINDS))
    assert probabilities.sum(axis=1).tolist() == pytest.approx([1.0] * 20)


def test_gate_that_was_saved_is_read(tmp_path):
    GATE_OF_TWO.save(tmp_path)
    read = FeatureGate.read(tmp_path, 0.25)
    assert np.array_equal(read.weight, GATE_OF_TWO.weight)
    assert np.array_equal(read.bias, GATE_OF_TWO.bias)
    assert read.threshold == 0.25


def test_missing_gate_is_named(calibrated_folder):
    (calibrated_folder / GATE).unlink()
    with pytest.raises(CheckpointError, match=r"gate\.safetensors is missing or damaged.*evaluate"):
        CarRecognizer.from_pretrained(calibrated_folder)


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\x80\x04K\x01."])
def test_damaged_gate_is_named(calibrated_folder, content):
    (calibrated_folder / GATE).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"gate\.safetensors is missing or damaged"):
        CarRecognizer.from_pretrained(calibrated_folder)


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_gate_that_lacks_a_tensor_is_damaged(calibrated_folder, name):
    tensors = load_file(calibrated_folder / GATE)
    del tensors[name]
    save_file(tensors, calibrated_folder / GATE)
    with pytest.raises(CheckpointError, match=f"is missing or damaged .*{name}"):
        CarRecognizer.from_pretrained(calibrated_folder)


@pytest.mark.parametrize(("weight", "bias"), [((2, 5), (2,)), ((3, 5), (2,)), ((3,), (3,))])
def test_gate_of_other_kinds_is_refused(tmp_path, weight, bias):
    save_file({"weight": np.zeros(weight), "bias": np.zeros(bias)}, tmp_path / GATE)
    with pytest.raises(CheckpointError, match="should score the kinds car, part, other"):
        FeatureGate.read(tmp_path, 0.5)


def test_gate_of_another_network_is_refused_before_the_first_photo(calibrated_folder):
    GATE_OF_TWO.save(calibrated_folder)
    with pytest.raises(CheckpointError, match="is for 2 channels, but the network has 440"):
        CarRecognizer.from_pretrained(calibrated_folder)


def test_calibration_without_a_gate_needs_no_file(calibrated_folder):
    calibrate(calibrated_folder, gate=None)
    (calibrated_folder / GATE).unlink()
    recognizer = CarRecognizer.from_pretrained(calibrated_folder)
    assert recognizer.gate is None
    assert recognizer.predict(SIGHTS[OTHER]).verdict != "rejected"
