"""The measures: against numbers worked out by hand, and against the libraries they come from."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from trainer.evaluation.metrics import CalibrationErrors, Estimate, PrecisionRecallF1, ece, ranks

ROWS = np.array([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
TARGETS = np.array([0, 2, 0, 0])


def test_ranks_count_the_classes_above_the_right_one():
    assert ranks(ROWS, TARGETS).tolist() == [0, 1, 2, 0]


def test_precision_recall_and_f1_are_those_of_scikit_learn():
    best = ROWS.argmax(axis=1)
    found = PrecisionRecallF1().compute(predictions=best, references=TARGETS)
    for average in ("macro", "weighted"):
        expected = precision_recall_fscore_support(
            TARGETS, best, labels=[0, 2], average=average, zero_division=0
        )
        names = ("precision", "recall", "f1")
        assert [found[f"{name}_{average}"] for name in names] == pytest.approx(expected[:3])


def test_calibration_errors_by_hand():
    found = CalibrationErrors().compute(predictions=ROWS, references=TARGETS)
    # Bins of a fifteenth: 0.7 right, 0.6 right, and 0.5 twice wrong in one bin.
    assert found["ece"] == pytest.approx((0.3 + 0.4 + 1.0) / 4)
    assert found["nll"] == pytest.approx(-np.log([0.7, 0.4, 0.2, 0.6]).mean())
    hits = np.eye(3)[TARGETS]
    assert found["brier"] == pytest.approx(((ROWS - hits) ** 2).sum(axis=1).mean())
    expected = np.mean([ece(ROWS[:, c], hits[:, c]) for c in range(3)])
    assert found["classwise_ece"] == pytest.approx(expected)


def test_confidences_that_are_exactly_right_show_the_noise_they_are_told_to():
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.5, 1, 3000)
    right = rng.random(3000) < confidence
    rows = np.stack([confidence, 1 - confidence], axis=1)
    found = CalibrationErrors().compute(predictions=rows, references=np.where(right, 0, 1))
    assert 0.005 < found["ece_if_perfect"] < 0.03
    assert found["ece"] < 2 * found["ece_if_perfect"]


def test_metrics_need_no_hub(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = PrecisionRecallF1().compute(predictions=[0, 1], references=[0, 1])
    assert found["f1_macro"] == 1.0


def test_the_interval_of_independent_photos_is_wilsons():
    share = Estimate.of(8, 10)
    assert (round(share.value, 3), round(share.low, 3), round(share.high, 3)) == (0.8, 0.490, 0.943)


def test_copies_widen_the_interval():
    """A hundred photos of ten groups know as much as ten photos."""
    marks = np.repeat([True] * 7 + [False] * 3, 10)
    alone = Estimate.of_marks(marks, [str(number) for number in range(100)])
    copies = Estimate.of_marks(marks, [str(number // 10) for number in range(100)])
    assert alone["value"] == copies["value"] == 0.7
    assert copies["high"] - copies["low"] > 2 * (alone["high"] - alone["low"])


def test_the_bootstrap_agrees_with_wilson_where_photos_are_independent():
    marks = np.arange(400) % 5 > 0
    found = Estimate.of_marks(marks, [str(number) for number in range(400)])
    wilson = Estimate.of(320, 400)
    assert found["low"] == pytest.approx(wilson.low, abs=0.01)
    assert found["high"] == pytest.approx(wilson.high, abs=0.01)


def test_a_share_of_all_or_of_none_still_has_an_interval():
    assert Estimate.of_marks(np.ones(20, bool), ["a", "b"] * 10)["low"] == Estimate.of(2, 2).low
    assert Estimate.of_marks(np.zeros(20, bool), [str(n) for n in range(20)])["high"] > 0.1
    assert Estimate.of_marks(np.zeros(0, bool), []) == {}
