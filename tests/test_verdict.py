"""Verdicts: from logits to an answer, on classes and logits chosen by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from space.answers import AUTO_TAG, LEVELS, MAKE, MODEL, REJECTED, REVIEW, YEAR, Recognition, quoted
from space.calibration import Calibration, ConfidenceMap, softmax
from space.labels import Car
from space.levels import Levels
from space.verdict import UNFAMILIAR, DecisionRule

CARS = (
    Car("Audi", "A4 Sedan", 2008),
    Car("Audi", "A4 Sedan", 2012),
    Car("Audi", "TT Coupe", 2012),
    Car("BMW", "X5 SUV", 2007),
    Car("Renault", "Clio", None),  # as the Algerian photos are labeled: no year
    Car("Renault", "Megane", None),
    Car("Fiat", "", None),  # a label that is a make only
)
LABELS = tuple(" ".join(f"{c.make} {c.model} {c.year or ''}".split()) for c in CARS)
PLAIN = Calibration(
    temperature=1.0,
    confidence=dict.fromkeys(LEVELS, ConfidenceMap()),
    thresholds={"0.98": dict.fromkeys(LEVELS, 0.75), "0.995": dict.fromkeys(LEVELS, 0.9)},
    plausible={"0.95": 0.1, "0.99": 0.01},
)
MAPS = {
    MAKE: ConfidenceMap(0.6, 1.4, -0.7),
    MODEL: ConfidenceMap(1.5, 0.5, 0.2),
    YEAR: ConfidenceMap(0.8, 0.9, 0.6),
}


def rule(calibration: Calibration | None = PLAIN, cars=CARS, precision=0.98, coverage=0.95):
    labels = LABELS if cars == CARS else tuple(f"class {i}" for i in range(len(cars)))
    return DecisionRule(labels, tuple(cars), Levels(cars), calibration, precision, coverage)


def logits_of(*probabilities: float) -> np.ndarray:
    """Of one photo with these probabilities of the first classes; the rest is shared evenly."""
    rest = (1 - sum(probabilities)) / max(1, len(CARS) - len(probabilities))
    filled = [*probabilities, *[rest] * (len(CARS) - len(probabilities))]
    return np.log(np.array([filled]).clip(1e-9))


def answer(*probabilities: float, top_k: int = 5, refusal=None, **options) -> Recognition:
    (found,) = rule(**options).recognitions(logits_of(*probabilities), [refusal], top_k)
    return found


def with_thresholds(make: float | None, model: float | None, year: float | None) -> Calibration:
    return replace(PLAIN, thresholds={"0.98": {MAKE: make, MODEL: model, YEAR: year}})


def test_a_car_unlike_known_ones_is_not_tagged_however_sure_the_answer_is():
    logits = 20 * np.eye(len(CARS))[:1]
    for shift, familiar in ((0.0, True), (-15.0, False)):  # the probabilities are the same
        decided = rule(replace(PLAIN, familiar=10.0))
        (found,) = decided.recognitions(logits + shift, [None], 5)
        assert found.predictions[0].confidence > 0.99
        assert found.verdict == (AUTO_TAG if familiar else REVIEW)
        assert found.level == (YEAR if familiar else None)
        assert (found.reason == UNFAMILIAR) != familiar
    (found,) = decided.recognitions(logits - 15, ["no car"], 5)
    assert (found.verdict, found.reason) == (REJECTED, "no car")


# Confidences


@pytest.fixture(scope="module")
def random_logits() -> np.ndarray:
    """From sure to clueless."""
    logits = np.random.default_rng(0).normal(size=(400, len(CARS)))
    return (logits * np.logspace(-2, 1.5, 400)[:, None]).astype(np.float32)


HARSH = dict.fromkeys(LEVELS, ConfidenceMap(3, 0.2, -2))  # far below the raw probabilities
KIND = dict.fromkeys(LEVELS, ConfidenceMap(0.2, 3, 2))  # far above


@pytest.mark.parametrize("maps", [PLAIN.confidence, MAPS, HARSH, KIND])
@pytest.mark.parametrize("temperature", [0.3, 1, 4])
def test_confidences_are_in_order_and_no_class_exceeds_the_best(random_logits, maps, temperature):
    calibration = replace(PLAIN, confidence=maps, temperature=temperature)
    found = rule(calibration).confidences(random_logits)[YEAR]
    order = np.argsort(-random_logits, axis=1)
    assert (np.diff(np.take_along_axis(found, order, 1), axis=1) <= 0).all()
    assert np.array_equal(found.argmax(axis=1), random_logits.argmax(axis=1))


@pytest.mark.parametrize("maps", [PLAIN.confidence, MAPS, HARSH, KIND])
def test_confidences_sum_to_one_unless_the_best_is_a_cap(random_logits, maps):
    scores = rule(replace(PLAIN, confidence=maps)).confidences(random_logits)
    for level in LEVELS:
        assert scores[level].dtype == np.float64
        assert scores[level].min() >= 0
        assert (scores[level].sum(axis=1) <= 1 + 1e-9).all()
    second, best = np.sort(scores[YEAR], axis=1)[:, -2:].T
    capped = second > best * (1 - 1e-6)
    assert (capped | (np.abs(scores[YEAR].sum(axis=1) - 1) < 1e-9)).all()


@pytest.mark.parametrize("maps", [PLAIN.confidence, MAPS, HARSH, KIND])
def test_make_is_never_less_sure_than_model_nor_model_than_class(random_logits, maps):
    asked = rule(replace(PLAIN, confidence=maps))
    scores = asked.confidences(random_logits)
    best = random_logits.argmax(axis=1)
    rows = np.arange(len(best))
    sure = [scores[lvl][rows, asked.levels.index[lvl][best]] for lvl in LEVELS]
    assert (sure[0] >= sure[1]).all()
    assert (sure[1] >= sure[2]).all()


def test_class_may_be_best_although_another_make_has_more_together():
    """The best class and the best make part; the chain of the class holds all the same."""
    scores = rule(replace(PLAIN, confidence=MAPS)).confidences(logits_of(0.2, 0.2, 0.2, 0.3))
    levels = Levels(CARS)
    bmw, x5 = levels.makes.index("BMW"), levels.models.index(("BMW", "X5 SUV"))
    assert scores[YEAR][0, 3] == scores[YEAR].max()
    assert scores[MAKE][0, bmw] >= scores[MODEL][0, x5] >= scores[YEAR][0, 3]


def test_best_confidence_is_that_of_the_map():
    scores = rule(replace(PLAIN, confidence=MAPS)).confidences(logits_of(0.6, 0.2))
    expected = MAPS[YEAR](np.array(0.6))
    assert scores[YEAR][0, 0] == pytest.approx(float(expected))
    rest = (1 - float(expected)) / 0.4
    assert scores[YEAR][0, 1:3].tolist() == pytest.approx([0.2 * rest, 0.04 * rest])


def test_temperature_divides_the_logits():
    logits = logits_of(0.5, 0.3, 0.1)
    warm = rule(replace(PLAIN, temperature=2.0)).confidences(logits)[YEAR]
    assert warm[0].tolist() == pytest.approx(softmax(logits / 2)[0].tolist())


def test_score_is_the_softmax_whatever_the_calibration():
    calibration = replace(PLAIN, temperature=3.0, confidence=MAPS)
    found = answer(0.5, 0.3, top_k=7, calibration=calibration)
    raw = dict(zip(LABELS, softmax(logits_of(0.5, 0.3))[0].tolist(), strict=True))
    assert {car.label: car.score for car in found.predictions} == pytest.approx(raw)
    assert found.predictions[0].confidence != pytest.approx(0.5, abs=1e-3)


def test_confidence_never_exceeds_one(random_logits):
    """A sum of probabilities may be a hair above 1."""
    cars = [Car("Audi", "A4 Sedan", 2000 + i) for i in range(len(CARS))]
    asked = rule(cars=cars)
    assert asked.confidences(random_logits)[MAKE].max() > 1
    for found in asked.recognitions(random_logits, [None] * len(random_logits), 9):
        assert found.makes[0].confidence <= 1
        assert found.models[0].confidence <= 1


def test_certainty_is_finite():
    logits = np.full((1, len(CARS)), -1e4)
    logits[0, 1] = 1e4
    for maps in (PLAIN.confidence, MAPS):
        scores = rule(replace(PLAIN, confidence=maps)).confidences(logits)
        assert all(np.isfinite(scores[level]).all() for level in LEVELS)
        assert scores[YEAR][0, 1] > 0.99


# Verdicts


@pytest.mark.parametrize(
    ("thresholds", "verdict", "level"),
    [
        ((0.75, 0.75, 0.75), AUTO_TAG, YEAR),
        ((1.0, 1.0, 0.75), AUTO_TAG, YEAR),  # the finest decides
        ((0.75, 0.75, 0.7500001), REVIEW, MODEL),
        ((0.75, 0.8750001, 0.7500001), REVIEW, MAKE),
        ((0.9375, 0.8750001, 0.7500001), REVIEW, MAKE),
        ((0.9375001, 0.8750001, 0.7500001), REVIEW, None),
        ((0.5, 0.5, None), REVIEW, MODEL),
        ((0.5, None, None), REVIEW, MAKE),
        ((None, None, None), REVIEW, None),
    ],
)
def test_level_is_reached_exactly_at_its_threshold(thresholds, verdict, level):
    """The make has 15/16, the model 7/8, the class 3/4: exact in binary."""
    exact = np.array([[0.125, 0.75, 0.0625, 0.0625, 0, 0, 0]])
    asked = rule(with_thresholds(*thresholds))
    scores = {level: values[0] for level, values in asked.levels.sums(exact).items()}
    assert [float(scores[lvl].max()) for lvl in LEVELS] == [0.9375, 0.875, 0.75]
    found = asked._recognition(scores, exact[0], exact[0] > 0.1, None, True, 5)
    assert (found.verdict, found.level) == (verdict, level)


@pytest.mark.parametrize("best", range(len(CARS)))
def test_thresholds_that_no_photo_reached_never_tag(best):
    logits = np.zeros((1, len(CARS)))
    logits[0, best] = 50
    (found,) = rule(with_thresholds(None, None, None)).recognitions(logits, [None], 5)
    assert found.predictions[0].confidence == pytest.approx(1)
    assert (found.verdict, found.level) == (REVIEW, None)
    assert (
        found.reason == "fewer than 98% of answers this confident were right on validation photos"
    )


def test_tag_says_how_many_such_answers_are_right():
    assert (
        answer(0.02, 0.95).reason == "98% of answers this confident were right on validation photos"
    )
    assert (
        answer(0.02, 0.95, precision=0.995).reason
        == "99.5% of answers this confident were right on validation photos"
    )


@pytest.mark.parametrize("top_k", [1, 5])
def test_unsure_year_names_the_span_of_years(top_k):
    found = answer(0.45, 0.5, top_k=top_k)
    assert (found.verdict, found.level) == (REVIEW, MODEL)
    assert found.reason == "sure of Audi A4 Sedan, year unsure: 2008–2012"


def test_year_not_worth_naming_is_not_named():
    found = answer(0.001, 0.9, 0.09, calibration=with_thresholds(0.8, 0.8, 0.95))
    assert found.reason == "sure of Audi A4 Sedan, year unsure"
    assert [score.year for score in found.years] == [2012, 2008]


@pytest.mark.parametrize("top_k", [1, 5])
def test_unsure_model_names_the_models_of_that_make(top_k):
    found = answer(0.2, 0.4, 0.38, top_k=top_k)
    assert (found.verdict, found.level) == (REVIEW, MAKE)
    assert found.reason == "sure of Audi, model unsure: A4 Sedan or TT Coupe"


def test_unsure_model_is_told_although_none_is_worth_naming():
    """The likeliest models may all be of other makes than the best class."""
    cars = [*(Car("Audi", f"A{i}", None) for i in range(200)), Car("BMW", "", None)]
    asked = rule(with_thresholds(0.005, None, None), cars=cars)
    logits = np.zeros((1, len(cars)))
    logits[0, 7] = 0.1
    (found,) = asked.recognitions(logits, [None], 1)
    assert (found.level, found.reason) == (MAKE, "sure of Audi, model unsure")


def test_nothing_sure_counts_the_plausible_classes():
    found = answer(0.3, 0.05, 0.0, 0.3, 0.25)
    assert (found.verdict, found.level) == (REVIEW, None)
    assert found.reason == "the car is one of 3 classes, 95 times in 100"


def test_nothing_sure_and_one_class_plausible():
    found = answer(0.05, 0.6, 0.05, 0.09, 0.07, 0.07)
    assert len(found.plausible.labels) == 1
    assert (
        found.reason == "fewer than 98% of answers this confident were right on validation photos"
    )


# Classes that say less than a year


def test_class_without_a_year_is_tagged_at_its_model():
    found = answer(0, 0, 0, 0, 0.9, 0.05)
    assert (found.verdict, found.level) == (AUTO_TAG, MODEL)
    assert found.predictions[0].year is None
    assert found.years == ()


def test_class_without_a_year_backs_off_to_its_make():
    found = answer(0, 0, 0, 0, 0.5, 0.45)
    assert (found.verdict, found.level) == (REVIEW, MAKE)
    assert found.reason == "sure of Renault, model unsure: Clio or Megane"


def test_class_that_is_a_make_only_is_tagged_at_its_make():
    found = answer(0, 0, 0, 0, 0, 0.05, 0.95)
    assert (found.verdict, found.level) == (AUTO_TAG, MAKE)
    assert (found.predictions[0].model, found.predictions[0].year) == ("", None)


def test_class_that_is_a_make_only_is_tagged_when_only_makes_have_a_threshold():
    found = answer(0, 0, 0, 0, 0, 0.05, 0.95, calibration=with_thresholds(0.9, None, None))
    assert (found.verdict, found.level) == (AUTO_TAG, MAKE)


def test_class_with_a_year_and_no_model_is_worded_without_one():
    cars = [Car("BMW", "", 2007), Car("BMW", "", 2012), Car("Audi", "TT", 2012)]
    logits = np.log([[0.5, 0.45, 0.05]])
    (found,) = rule(cars=cars).recognitions(logits, [None], 5)
    assert found.reason == "sure of BMW, year unsure: 2007–2012"


def test_years_are_those_of_the_first_model_with_shared_years_summed():
    cars = [Car("Audi", "A4", 2012), Car("Audi", "A4", 2008), Car("Audi", "A4", 2012), *CARS[2:4]]
    logits = np.log([[0.25, 0.35, 0.3, 0.05, 0.05]])
    (found,) = rule(cars=cars).recognitions(logits, [None], 5)
    assert found.predictions[0].year == 2008
    assert {score.year: score.confidence for score in found.years} == pytest.approx(
        {2012: 0.55, 2008: 0.35}, abs=1e-6
    )
    assert found.years[0].year == 2012


# The plausible set


@pytest.mark.parametrize(
    ("coverage", "probabilities", "expected"),
    [
        (0.95, (0.02, 0.6, 0.3), LABELS[1:3]),
        (0.99, (0.04, 0.6, 0.3), (LABELS[1], LABELS[2], LABELS[0], *LABELS[3:])),
        (0.95, (0.0, 0.99), LABELS[1:2]),
    ],
)
def test_plausible_are_the_classes_above_the_threshold_best_first(
    coverage, probabilities, expected
):
    found = answer(*probabilities, coverage=coverage).plausible
    assert found.labels == expected
    assert found.coverage == coverage


@pytest.mark.parametrize("calibration", [None, PLAIN, replace(PLAIN, plausible={"0.95": 1.0})])
def test_plausible_set_always_holds_the_best(random_logits, calibration):
    refusals = [None, "no car"] * 200
    for found in rule(calibration).recognitions(random_logits, refusals, 1):
        assert found.plausible.labels[0] == found.predictions[0].label


def test_plausible_set_does_not_depend_on_top_k():
    assert answer(0.3, 0.3, 0.2, top_k=1).plausible == answer(0.3, 0.3, 0.2, top_k=7).plausible


# Rejected and uncalibrated


def test_refusal_of_the_gate_is_the_reason():
    found = answer(0.0, 0.99, refusal="this does not look like a car")
    assert (found.verdict, found.level) == (REJECTED, None)
    assert found.reason == "this does not look like a car"
    assert found.predictions[0].label == LABELS[1]


@pytest.mark.parametrize(("known", "verdict"), [(3.0, AUTO_TAG), (3.0001, REJECTED)])
def test_class_is_known_from_the_least_logit_on(known, verdict):
    logits = np.full((1, len(CARS)), -5.0)
    logits[0, 1] = 3.0
    (found,) = rule(replace(PLAIN, known=known)).recognitions(logits, [None], 5)
    assert found.verdict == verdict
    if verdict == REJECTED:
        assert found.reason == "this is unlike all 7 classes that the checkpoint knows"
        assert found.level is None


def test_known_is_a_logit_before_the_temperature():
    logits = np.full((1, len(CARS)), -5.0)
    logits[0, 1] = 3.0
    calibration = replace(PLAIN, known=2.0, temperature=2.0)
    (found,) = rule(calibration).recognitions(logits, [None], 5)
    assert found.verdict != REJECTED


def test_gate_speaks_before_unlike_all_classes():
    found = answer(0.5, calibration=replace(PLAIN, known=99.0), refusal="a wheel")
    assert found.reason == "a wheel"


def test_uncalibrated_is_never_tagged_and_says_so(random_logits):
    refusals = [None] * len(random_logits)
    for row, found in enumerate(rule(None).recognitions(random_logits, refusals, 7)):
        assert (found.verdict, found.level) == (REVIEW, None)
        assert "uncalibrated" in found.reason
        assert found.plausible == found.plausible.__class__((found.predictions[0].label,), None)
        raw = softmax(random_logits)[row].max()
        assert found.predictions[0].confidence == found.predictions[0].score
        assert found.predictions[0].score == pytest.approx(float(raw))


def test_uncalibrated_is_rejected_where_a_gate_refuses():
    assert answer(0.5, calibration=None, refusal="a wheel").verdict == REJECTED


# Batches and shares


def test_photo_alone_is_judged_as_in_a_batch(random_logits):
    asked = rule(replace(PLAIN, confidence=MAPS, known=0.5))
    refusals = [None if row % 3 else "no car" for row in range(len(random_logits))]
    together = asked.recognitions(random_logits, refusals, 7)
    for row in range(0, len(random_logits), 7):
        (alone,) = asked.recognitions(random_logits[row : row + 1], refusals[row : row + 1], 7)
        assert alone.reason == together[row].reason
        assert (alone.verdict, alone.level) == (together[row].verdict, together[row].level)
        assert alone.plausible == together[row].plausible
        for one, other in zip(alone.predictions, together[row].predictions, strict=True):
            assert one.label == other.label
            assert math.isclose(one.confidence, other.confidence, abs_tol=1e-12)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"precision": 0.5}, r"precision is 0\.5; the checkpoint was calibrated for 0\.98, 0\.995"),
        ({"coverage": 0.9}, r"coverage is 0\.9; the checkpoint was calibrated for 0\.95, 0\.99"),
    ],
)
def test_share_that_was_not_calibrated_is_refused(options, cause):
    with pytest.raises(ValueError, match=cause):
        rule(**options)
    rule(None, **options)  # an uncalibrated checkpoint has nothing to offer, and never tags


@pytest.mark.parametrize(
    ("names", "text"),
    [("a", "a"), ("ab", "a or b"), ("abc", "a, b or c"), ("abcd", "a, b, c or d")],
)
def test_names_are_put_into_a_sentence(names, text):
    assert quoted(names) == text
