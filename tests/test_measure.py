"""From logits to metrics.json: numbers that can be worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from space.answers import Recognition
from space.calibration import Calibration, ConfidenceMap
from space.labels import Car
from space.levels import Levels
from space.verdict import DecisionRule
from trainer.evaluation.measure import (
    _f1_macro,
    measure_accuracy,
    measure_crossings,
    measure_plausible,
    measure_thresholds,
    measure_verdicts,
)
from trainer.evaluation.predictions import LabeledPhoto, Predictions

CARS = (
    Car("Audi", "A4", 2008),
    Car("Audi", "A4", 2012),
    Car("Audi", "TT", 2012),
    Car("Clio", "", None),
)
LABELS = ("Audi A4 2008", "Audi A4 2012", "Audi TT 2012", "Clio")
SAME = ConfidenceMap()
CALIBRATION = Calibration(
    temperature=1.0,
    confidence={"make": SAME, "model": SAME, "year": SAME},
    thresholds={"0.9": {"make": 0.8, "model": 0.8, "year": 0.7}},
    plausible={"0.9": 0.25},
)
RULE = DecisionRule(LABELS, CARS, Levels(CARS), CALIBRATION, 0.9, 0.9)
ROWS = [
    [0.60, 0.30, 0.05, 0.05],  # truly the first: right
    [0.60, 0.30, 0.05, 0.05],  # truly the second: make and model right, year wrong
    [0.30, 0.10, 0.55, 0.05],  # truly the first: make alone right
    [0.02, 0.02, 0.01, 0.95],  # truly the last: right, and it has no year
    [0.90, 0.05, 0.03, 0.02],  # truly the last: all wrong
]
LOGITS = np.log(ROWS)
TARGETS = np.array([0, 1, 0, 3, 3])
GROUPS = list("abcde")


def test_accuracy_of_each_rank():
    found = measure_accuracy(RULE, LOGITS, TARGETS, GROUPS)
    assert (found["photos"], found["groups"]) == (5, 5)
    assert found["top1"]["value"] == 0.4
    assert found["top3"]["value"] == 0.8
    assert found["make"]["value"] == 0.8
    assert found["model"]["value"] == 0.6


def test_the_year_is_judged_where_make_and_model_are_right():
    found = measure_accuracy(RULE, LOGITS, TARGETS, GROUPS)
    for name in ("year_given_model", "year_given_model_of_several"):
        assert found[name]["photos"] == 2  # the first two; a Clio has no year
        assert found[name]["value"] == 0.5


def test_copies_count_as_one_in_the_interval_only():
    alone = measure_accuracy(RULE, LOGITS, TARGETS, GROUPS)["top1"]
    copies = measure_accuracy(RULE, LOGITS, TARGETS, list("aabbc"))["top1"]
    assert alone["value"] == copies["value"]
    assert alone != copies


def test_macro_f1_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    best, targets = rng.integers(0, 7, 300), rng.integers(0, 6, 300)
    weights = rng.integers(0, 4, 300)
    present = np.unique(targets[weights > 0])
    expected = f1_score(
        targets, best, labels=present, average="macro", sample_weight=weights, zero_division=0
    )
    assert _f1_macro(best, targets, weights) == pytest.approx(expected)


def test_thresholds_have_precision_and_coverage_together():
    found = measure_thresholds(RULE, LOGITS, TARGETS, GROUPS)["0.9"]
    assert found["year"]["photos"] == 2  # 0.95 right, 0.90 wrong
    assert found["year"]["precision"]["value"] == 0.5
    assert found["year"]["coverage"]["value"] == 0.4
    assert found["make"]["photos"] == 5
    assert found["make"]["precision"]["value"] == 0.8


def test_a_threshold_that_was_never_reached_covers_nothing():
    none = replace(CALIBRATION, thresholds={"0.9": dict.fromkeys(("make", "model", "year"))})
    rule = replace(RULE, calibration=none)
    found = measure_thresholds(rule, LOGITS, TARGETS, GROUPS)["0.9"]["year"]
    assert found["precision"] is None
    assert found["coverage"]["value"] == 0


def test_plausible_sets_are_counted():
    found = measure_plausible(RULE, LOGITS, TARGETS, GROUPS)["0.9"]
    assert found["coverage"]["value"] == 0.8  # all but the last
    assert found["mean_size"] == (2 + 2 + 2 + 1 + 1) / 5
    assert found["one_class"] == 0.4
    assert found["largest"] == 2


def test_verdicts_are_counted_with_what_they_promise():
    verdicts = ("auto-tag", "auto-tag", "review", "rejected", "review")
    recognitions = [Recognition(verdict=verdict, level="year") for verdict in verdicts]
    right = np.array([True, False, True, True, False])
    found = measure_verdicts(recognitions, right, GROUPS)
    assert found["auto_tag"]["value"] == 0.4
    assert found["auto_tag_precision"]["value"] == 0.5
    assert found["rejected"]["value"] == 0.2
    assert found["levels"] == {"year": 5}
    nothing = measure_verdicts(recognitions[2:], right[2:], GROUPS[2:])
    assert nothing["auto_tag_precision"] is None


def test_crossings_count_answers_with_classes_of_other_data_sets():
    def photo(source: str, target: int, group: str) -> LabeledPhoto:
        return LabeledPhoto(source, group, target, "test", group, bytes)

    # The last class stands in both, and is never a crossing.
    taught = [photo("a", 0, "t"), photo("a", 3, "u"), photo("b", 1, "v"), photo("b", 3, "w")]
    tested = [photo("a", 0, "1"), photo("a", 0, "2"), photo("b", 1, "3"), photo("b", 1, "4")]
    best = np.eye(4)[[0, 1, 3, 1]]
    predictions = Predictions(best, best, [None] * 4, np.zeros(4, bool))
    found = measure_crossings(taught, tested, predictions)
    assert found["a"]["any"]["value"] == found["a"]["b"]["value"] == 0.5
    assert found["b"]["any"]["value"] == found["b"]["a"]["value"] == 0
