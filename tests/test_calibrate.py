"""Calibration is fitted on some photos and holds on others."""

from dataclasses import replace

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from sklearn.base import BaseEstimator, ClassifierMixin

from space.answers import LEVELS, MAKE, MODEL, YEAR
from space.calibration import fit_plausible, softmax
from space.labels import parse_label
from space.levels import Levels
from space.verdict import DecisionRule, chain, fit_threshold, right_at
from trainer.evaluation.calibrate import (
    COVERAGES,
    UNFAMILIAR_SHARE,
    fit_calibration,
    fit_confidence,
    fit_familiar,
    fit_known,
    fit_temperature,
)
from trainer.evaluation.metrics import ece

LABELS = tuple(
    f"{make} {model} {year}"
    for make in ("Audi", "BMW", "Fiat")
    for model in ("One", "Two")
    for year in (2007, 2012)
)
CARS = tuple(parse_label(label) for label in LABELS)
LEVELS_OF = Levels(CARS)


def photos(count: int, seed: int, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax, after division by the temperature, is exactly right."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, len(LABELS))).astype(np.float32)
    probabilities = softmax(logits)
    targets = np.array([rng.choice(len(LABELS), p=row) for row in probabilities])
    return logits * temperature, targets


def alone(count: int) -> list[str]:
    return [str(number) for number in range(count)]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_is_found_again(temperature):
    assert fit_temperature(*photos(4000, 0, temperature)) == pytest.approx(temperature, rel=0.08)


@pytest.mark.parametrize("power", [0.4, 1.0, 3.0])
def test_confidences_are_right_on_other_photos(power):
    """Top probabilities that are distorted by a power become honest again."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.05, 0.99, 6000)
    right = rng.random(6000) < truth
    shown = truth**power
    mapped = fit_confidence(shown[:3000], right[:3000], alone(3000))
    confidence = mapped(shown[3000:])
    assert ece(confidence, right[3000:]) < 0.03
    order = np.argsort(shown[3000:])
    assert (np.diff(confidence[order]) >= 0).all()


def test_answers_that_are_all_right_change_nothing():
    found = fit_confidence(np.linspace(0.5, 1, 20), np.ones(20, bool), alone(20))
    assert (found.a, found.b, found.c) == (1, 1, 0)


def test_the_threshold_is_the_lowest_that_reaches_the_target():
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    right = np.array([True, True, False, True, False])
    assert fit_threshold(confidence, right, 0.5) == 0.5
    assert fit_threshold(confidence, right, 0.75) == 0.6
    assert fit_threshold(confidence, right, 0.6) == 0.5
    assert fit_threshold(confidence, ~right, 0.9) is None


def test_a_threshold_takes_equal_confidences_together():
    right = np.array([True, True, False, False])
    assert fit_threshold(np.array([0.9, 0.8, 0.8, 0.5]), right, 0.6) == 0.8
    assert fit_threshold(np.array([0.9, 0.8, 0.7, 0.5]), right, 0.6) == 0.7
    assert fit_threshold(np.array([0.9, 0.8, 0.8, 0.5]), right, 0.7) is None


def test_few_right_answers_do_not_show_that_a_target_is_reached():
    confidence = np.linspace(0.99, 0.5, 60)
    right = np.arange(60) != 40
    assert fit_threshold(confidence[:49], np.ones(49, bool), 0.98) is None
    assert fit_threshold(confidence, right, 0.98) == confidence[-1]


class AsGiven(ClassifierMixin, BaseEstimator):
    """Lets MAPIE work on probabilities that are there already."""

    def __init__(self, classes: int):
        self.classes_ = np.arange(classes)

    def fit(self, rows, targets):
        return self

    def predict(self, rows):
        return rows.argmax(axis=1)

    def predict_proba(self, rows):
        return rows

    def __sklearn_is_fitted__(self):
        return True


def test_conformal_sets_are_those_of_mapie_and_hold_their_coverage():
    logits, targets = photos(3000, 0)
    probabilities = softmax(logits)
    fitted, kept = slice(0, 1500), slice(1500, 3000)
    least = fit_plausible(probabilities[fitted], targets[fitted], COVERAGES)
    oracle = SplitConformalClassifier(
        AsGiven(probabilities.shape[1]),
        confidence_level=list(COVERAGES),
        conformity_score="lac",
        prefit=True,
    ).conformalize(probabilities[fitted], targets[fitted])
    _, sets = oracle.predict_set(probabilities[kept])
    for number, coverage in enumerate(COVERAGES):
        inside = probabilities[kept] >= least[f"{coverage:g}"]
        assert (inside == sets[:, :, number]).mean() > 0.999  # but for ties in the last digit
        assert inside[np.arange(1500), targets[kept]].mean() == pytest.approx(coverage, abs=0.02)


def test_a_coverage_that_few_photos_cannot_promise_takes_every_class():
    probabilities = np.eye(3)[[0, 1, 2, 0]] * 0.7 + 0.1
    assert fit_plausible(probabilities, np.array([0, 1, 2, 0]), COVERAGES)["0.99"] == 0.0


@pytest.fixture(scope="module")
def judged() -> tuple[DecisionRule, np.ndarray, np.ndarray]:
    """A judge calibrated on some photos, and others to judge it by."""
    calibration = fit_calibration(
        LABELS, CARS, *photos(3000, 0, 0.6), alone(3000), np.array(["one"] * 3000), gate=0.5
    )
    logits, targets = photos(3000, 1, 0.6)
    return DecisionRule(LABELS, CARS, LEVELS_OF, calibration, 0.9, 0.95), logits, targets


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_is_calibrated(judged, level):
    rule, logits, targets = judged
    scores = rule.confidences(logits)[level]
    right = scores.argmax(axis=1) == rule.levels.index[level][targets]
    assert ece(scores.max(axis=1), right) < 0.03


def test_thresholds_keep_what_they_promise_on_other_photos(judged):
    rule, logits, targets = judged
    sure, right = chain(rule, logits), right_at(rule.levels, logits, targets)
    for level in LEVELS:
        threshold = rule.calibration.thresholds["0.9"][level]
        kept = sure[level] >= threshold
        assert kept.sum() > 150
        assert right[level][kept].mean() == pytest.approx(0.9, abs=0.03)


def test_coarser_levels_are_never_less_sure_nor_less_right(judged):
    rule, logits, targets = judged
    sure, right = chain(rule, logits), right_at(rule.levels, logits, targets)
    for finer, coarser in ((YEAR, MODEL), (MODEL, MAKE)):
        assert (sure[coarser] >= sure[finer]).all()
        assert (right[coarser] >= right[finer]).all()


def test_calibration_never_changes_the_answer(judged):
    rule, logits, _ = judged
    raw = replace(rule, calibration=None)
    assert np.array_equal(
        rule.confidences(logits)[YEAR].argmax(axis=1), raw.confidences(logits)[YEAR].argmax(axis=1)
    )


def test_few_right_answers_are_kept_from_being_tagged_by_their_best_logit(judged):
    rule, logits, targets = judged
    right = logits.argmax(axis=1) == targets
    unfamiliar = ~rule.familiar(logits)
    # Of other photos than those that the limit was fitted on.
    assert unfamiliar[right].mean() == pytest.approx(UNFAMILIAR_SHARE, abs=0.03)
    for sure in chain(rule, logits).values():
        assert ((sure < 0) == unfamiliar).all()
    for level, threshold in rule.calibration.thresholds["0.9"].items():
        assert threshold > 0, level


def test_without_a_right_answer_nothing_is_familiar_or_not():
    assert fit_familiar(np.eye(3), np.array([1, 2, 0]), 0.1) is None


def test_few_known_cars_count_as_unknown_and_none_where_there_is_a_gate(judged):
    rule, logits, _ = judged
    assert rule.calibration.known is None
    one = np.array(["one"] * len(logits))
    known = fit_known(logits, one)
    rule = replace(rule, calibration=replace(rule.calibration, known=known))
    assert rule.unknown(logits).mean() < 0.01
    assert rule.unknown(np.full((1, len(LABELS)), -20.0)).all()
