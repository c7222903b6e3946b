"""The loss: each part against what it is defined to be."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from space.labels import parse_label
from trainer.training.config import TrainConfig
from trainer.training.losses import Objective, distillation, inverse_frequency, with_margin

CARS = [
    parse_label(label)
    for label in ("Audi A4 Sedan 2012", "Audi A4 Sedan 2009", "Audi TT Coupe 2012", "BMW M3 2012")
]
COUNTS = torch.tensor([10, 10, 10, 10])


def objective(counts: torch.Tensor = COUNTS, teach=None, **settings) -> Objective:
    settings = {"label_smoothing": 0.0} | settings
    config = TrainConfig(data=("cars",), out=Path("x"), **settings)
    return Objective(config, CARS, counts, teach)


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


TARGETS = torch.tensor([0, 1, 2, 3, 0, 1])
NO_INPUTS = torch.zeros(6, 3, 1, 1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_extras_it_is_cross_entropy(logits, smoothing):
    loss = objective(label_smoothing=smoothing)(logits, TARGETS, NO_INPUTS)
    assert loss == pytest.approx(F.cross_entropy(logits, TARGETS, label_smoothing=smoothing).item())


def test_mixed_targets_are_shares(logits):
    shares = 0.3 * F.one_hot(TARGETS, 4) + 0.7 * F.one_hot(TARGETS.flip(0), 4)
    loss = objective()(logits, shares, NO_INPUTS)
    parts = 0.3 * F.cross_entropy(logits, TARGETS) + 0.7 * F.cross_entropy(logits, TARGETS.flip(0))
    assert loss == pytest.approx(parts.item(), rel=1e-5)


def test_the_focal_loss_cares_less_for_photos_that_are_right(logits):
    gamma = 2.0
    right = logits.softmax(1).gather(1, TARGETS[:, None])[:, 0]
    expected = (-((1 - right) ** gamma) * right.log()).mean()
    assert objective(focal=gamma)(logits, TARGETS, NO_INPUTS) == pytest.approx(expected.item())


def test_class_weights_make_classes_count_alike():
    counts = torch.tensor([100, 10, 1, 9])
    weights = inverse_frequency(counts)
    assert weights[0] * 100 == pytest.approx((weights[2] * 1).item())
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1)
    uneven = objective(counts, class_weights=True)
    rare = uneven(torch.zeros(1, 4), torch.tensor([2]), NO_INPUTS[:1])
    frequent = uneven(torch.zeros(1, 4), torch.tensor([0]), NO_INPUTS[:1])
    assert rare / frequent == pytest.approx(100, rel=1e-4)


def test_mistakes_within_the_make_cost_less_with_a_level_loss():
    loss = objective(level_loss=1.0)
    plain = objective()

    def extra(wrong: int) -> float:
        sure = 8 * F.one_hot(torch.tensor([wrong]), 4).float()
        target = torch.tensor([0])
        return (loss(sure, target, NO_INPUTS[:1]) - plain(sure, target, NO_INPUTS[:1])).item()

    other_year, other_model, other_make = extra(1), extra(2), extra(3)
    assert other_year < 0.1 < other_model < other_make


def test_arcface_adds_its_margin_to_the_angle():
    angles = torch.tensor([[0.5, 1.0], [3.0, 0.2]])
    harder = with_margin(20 * angles.cos(), torch.tensor([0, 0]), "arcface", 0.3, 20.0)
    assert harder[0, 0] == pytest.approx(20 * math.cos(0.8), abs=1e-4)
    assert harder[0, 1] == pytest.approx(20 * math.cos(1.0), abs=1e-4)
    assert harder[1, 0] == pytest.approx(-20)  # and never beyond pi, where it would turn


def test_cosface_takes_its_margin_from_the_cosine():
    harder = with_margin(torch.tensor([[8.0, 2.0]]), torch.tensor([1]), "cosface", 0.25, 10.0)
    assert torch.allclose(harder, torch.tensor([[8.0, -0.5]]))


def test_a_margin_can_be_learnt_at_the_ends_of_the_cosine():
    logits = torch.tensor([[24.0, -24.0]], requires_grad=True)
    with_margin(logits, torch.tensor([0]), "arcface", 0.3, 24.0).sum().backward()
    assert logits.grad.isfinite().all()


def test_distillation_is_nothing_where_both_agree(logits):
    assert distillation(logits, logits + 5, 2.0) == pytest.approx(0, abs=1e-6)
    assert distillation(logits, logits.flip(0), 2.0) > 0.1


def test_a_teacher_takes_its_share_of_the_loss(logits):
    teacher = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    seen = []

    def teach(inputs: torch.Tensor) -> torch.Tensor:
        seen.append(inputs)
        return teacher

    loss = objective(teach=teach, teacher="x", teacher_share=0.25)(logits, TARGETS, NO_INPUTS)
    plain = F.cross_entropy(logits, TARGETS)
    assert loss == pytest.approx((0.75 * plain + 0.25 * distillation(logits, teacher, 2.0)).item())
    assert seen[0] is NO_INPUTS
