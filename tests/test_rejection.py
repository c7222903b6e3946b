"""The gate: what teaches it, what judges it, and that the two are kept apart."""

import random
from dataclasses import replace

import numpy as np
import pytest
from conftest import draw_car

from space.gate import CAR, KINDS, OTHER, PART
from trainer.evaluation.drawn import KINDS as DRAWN
from trainer.evaluation.drawn import drawings
from trainer.evaluation.rejection import (
    REFUSED_SHARE,
    GateData,
    crop_of_a_part,
    cross_val_scores,
    fit_gate,
    fit_threshold,
    ood_metrics,
)

CENTRES = {CAR: (3.0, 0.0), PART: (0.0, 3.0), OTHER: (-3.0, -3.0)}


def gate_data(kind: str, count: int, seed: int, name: str = "") -> GateData:
    """Features around a center of their kind, and noise in the other channels."""
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 0.5, (count, 6))
    features[:, :2] += CENTRES[kind]
    groups = tuple(f"{kind}{seed}/{number}" for number in range(count))
    tensor = features.astype(np.float32) * 10 + 4  # as unscaled as real features are
    return GateData(kind, name or kind, tensor, np.zeros((count, 2)), groups)


@pytest.fixture(scope="module")
def samples() -> list[GateData]:
    return [gate_data(CAR, 200, 0), gate_data(PART, 30, 1), gate_data(OTHER, 60, 2)]


def test_the_gate_tells_kinds_apart_on_features_it_has_not_seen(samples):
    gate = fit_gate(samples)
    for kind in KINDS:
        found = gate.probabilities(gate_data(kind, 100, 9).features).argmax(axis=1)
        assert (found == KINDS.index(kind)).mean() > 0.97


def test_a_kind_that_nothing_taught_is_never_the_answer(samples):
    gate = fit_gate([samples[0], samples[2]])
    rows = gate.probabilities(gate_data(PART, 50, 9).features)
    assert rows[:, KINDS.index(PART)].max() == 0
    assert (gate.probabilities(gate_data(CAR, 50, 9).features)[:, 0] > 0.5).all()
    assert (gate.probabilities(gate_data(OTHER, 50, 9).features)[:, 0] < 0.5).all()


def test_the_threshold_spares_exteriors(samples):
    gate = fit_gate(samples)
    exteriors = np.r_[gate_data(CAR, 500, 3).features, gate_data(CAR, 500, 4).features - 15]
    threshold = fit_threshold(gate, exteriors)

    def refused(threshold):
        return (gate.probabilities(exteriors)[:, 0] < threshold).mean()

    assert 0 < refused(threshold) <= REFUSED_SHARE < refused(np.nextafter(threshold, 2))


def test_one_odd_car_does_not_open_the_gate(samples):
    gate = fit_gate(samples)
    exteriors = gate_data(CAR, 500, 3).features
    odd = np.r_[exteriors[:-1], exteriors[-1:] - 40]
    lowest = gate.probabilities(odd)[:, 0].min()
    assert lowest < gate.probabilities(exteriors)[:, 0].min()
    assert fit_threshold(gate, odd) > lowest


def test_photos_that_teach_are_judged_by_gates_they_did_not_teach():
    """One group of parts lies where cars lie: gates that have not learned it take it for cars."""
    odd = gate_data(CAR, 3, 7)
    parts = gate_data(PART, 30, 1)
    parts = GateData(
        PART,
        "parts",
        np.concatenate([parts.features, odd.features]),
        np.zeros((33, 2)),
        (*parts.groups, "odd", "odd", "odd"),
    )
    scores = cross_val_scores([gate_data(CAR, 200, 0), parts, gate_data(OTHER, 60, 2)], parts)
    taught = fit_gate([gate_data(CAR, 200, 0), parts, gate_data(OTHER, 60, 2)])
    assert scores[:30].max() < scores[30:].min()
    assert (scores[30:] > taught.probabilities(odd.features)[:, 0]).all()


def test_a_photo_is_judged_by_what_looks_most_like_a_car_in_it(samples):
    gate = fit_gate(samples)
    other, car = (gate_data(kind, 2, 5).features for kind in (OTHER, CAR))
    views = other[:1], np.stack([other[1], car[1]])
    hidden = GateData(OTHER, "o", other, np.zeros((2, 2)), ("a", "b"), views=views)
    plain = replace(hidden, views=())
    np.testing.assert_allclose(plain.scores(gate), gate.probabilities(other)[:, 0])
    assert hidden.scores(gate)[0] == pytest.approx(plain.scores(gate)[0])
    assert hidden.scores(gate)[1] == pytest.approx(gate.probabilities(car[1:])[0, 0])
    assert hidden.only(np.array([1])).scores(gate) == hidden.scores(gate)[1:]


def test_one_group_alone_is_judged_without_it(samples):
    single = GateData(PART, "one", samples[1].features[:4], np.zeros((4, 2)), ("a",) * 4)
    assert len(cross_val_scores([samples[0], samples[2], single], single)) == 4


def test_separation_by_hand():
    found = ood_metrics(np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.65, 0.1]))
    assert found["auroc"] == 7 / 8
    assert found["fpr_at_95_tpr"] == 0.5
    assert ood_metrics(np.array([0.9, 0.8]), np.array([0.1])) == {"auroc": 1, "fpr_at_95_tpr": 0}


def test_crops_of_parts_are_close_and_inside():
    picture = draw_car(1, size=(400, 300))
    for seed in range(20):
        width, height = crop_of_a_part(picture, random.Random(seed)).size
        assert 0.1 * 400 < width < 0.31 * 400
        assert 0.1 * 300 < height < 0.31 * 300
    assert crop_of_a_part(draw_car(1).resize((1, 1)), random.Random(0)).size == (1, 1)


def test_drawings_are_of_every_kind_and_come_out_the_same_again():
    drawn = list(drawings(2 * len(DRAWN)))
    assert [kind for kind, _ in drawn] == [*DRAWN, *DRAWN]
    assert {picture.mode for _, picture in drawn} == {"RGB"}
    again = [picture.tobytes() for _, picture in drawings(2 * len(DRAWN))]
    assert again == [picture.tobytes() for _, picture in drawn]
    assert len(set(again)) == len(again)
    other = [picture.tobytes() for _, picture in drawings(len(DRAWN), seed=1)]
    assert not set(other) & set(again)


@pytest.mark.parametrize("kind", list(DRAWN))
def test_the_bundled_checkpoint_refuses_what_is_no_car(bundled, kind):
    """Other drawings than those that taught its gate."""
    pictures = [picture for name, picture in drawings(30, seed=5) if name == kind]
    assert {answer.verdict for answer in bundled.predict(pictures)} == {"rejected"}
