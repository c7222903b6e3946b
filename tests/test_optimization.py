"""Which layers learn when, and how fast."""

from pathlib import Path

import pytest
import timm
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from space.errors import MarqueError
from trainer.training.config import TrainConfig
from trainer.training.optimization import Schedule, UnfreezeSchedule, build_optimizer, one_cycle
from trainer.training.sampler import EpochSampler


def config(**settings) -> TrainConfig:
    return TrainConfig(data=("cars",), out=Path("x"), **settings)


def network(name: str = "test_efficientnet"):
    return timm.create_model(name, num_classes=4)


def rates(schedule: str, steps: int = 40, **settings) -> list[float]:
    """The share of the peak rate at each of the run's steps."""
    settings = config(schedule=schedule, epochs=10, **settings)
    optimizer = build_optimizer(settings, network())
    followed = Schedule(settings, optimizer, steps // 10)
    found = []
    for step in range(steps):
        followed.before_step(step)
        group = optimizer.param_groups[0]
        found.append(group["lr"] / group["peak_lr"])
    return found


def test_the_learning_rate_rises_then_falls_to_nothing():
    factors = [one_cycle(done / 100, warmup=0.2) for done in range(101)]
    assert factors[0] == pytest.approx(1 / 25)
    assert max(factors) == factors[20] == pytest.approx(1)
    assert factors[:21] == sorted(factors[:21])
    assert factors[20:] == sorted(factors[20:], reverse=True)
    assert factors[-1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("schedule", ["cosine", "poly", "tanh"])
def test_schedules_of_timm_fall_after_the_warm_up(schedule):
    found = rates(schedule, warmup=0.1)
    assert found[0] == pytest.approx(1 / 25, rel=0.01)
    assert found[4:] == sorted(found[4:], reverse=True)
    assert found[4] >= 0.9
    assert found[-1] < 0.1


def test_steps_fall_every_so_many_epochs():
    found = rates("step", warmup=0, decay_epochs=4)
    assert found[0] == found[15] == 1
    assert found[16] == found[31] == pytest.approx(0.1)
    assert found[32] == pytest.approx(0.01)


def test_a_constant_rate_stays():
    assert set(rates("constant", warmup=0)) == {1.0}


def test_a_plateau_lowers_the_rate_and_is_told_again_after_resuming():
    settings = config(schedule="plateau", plateau_patience=1, warmup=0)
    losses = [2.0, 1.0, 1.1, 1.2, 1.3, 0.5]

    def factor(told: list[float]) -> float:
        optimizer = build_optimizer(settings, network())
        schedule = Schedule(settings, optimizer, 4)
        for loss in told:
            schedule.after_epoch(loss)
        schedule.before_step(4 * len(told))
        return optimizer.param_groups[0]["lr"] / settings.lr

    assert [factor(losses[:n]) for n in (2, 3, 4, 5)] == pytest.approx([1, 1, 0.3, 0.3])


def test_the_head_learns_faster_and_norms_do_not_decay():
    model = network()
    groups = build_optimizer(config(lr=0.001, head_lr_factor=4), model).param_groups
    head = {id(p) for p in model.get_classifier().parameters()}
    for group in groups:
        in_head = {id(p) in head for p in group["params"]}
        assert len(in_head) == 1
        assert group["peak_lr"] == pytest.approx(0.004 if in_head.pop() else 0.001)
        assert group["weight_decay"] == (0.05 if group["params"][0].ndim > 1 else 0)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_with_layer_decay_lower_layers_learn_slower():
    model = network("test_vit")
    groups = build_optimizer(config(layer_decay=0.5, lr=0.001), model).param_groups
    rate = {id(p): group["peak_lr"] for group in groups for p in group["params"]}
    stem, block, head = (
        rate[id(model.get_parameter(name))]
        for name in ("patch_embed.proj.weight", "blocks.1.mlp.fc1.weight", "head.weight")
    )
    assert stem < block < 0.001 < head == 0.004


def test_timm_s_optimizers_are_had_by_name_and_others_refused():
    assert type(build_optimizer(config(optimizer="lion"), network())).__name__ == "Lion"
    with pytest.raises(MarqueError, match="--optimizer is adamm; timm has none such"):
        build_optimizer(config(optimizer="adamm"), network())


def learning(model) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_first_the_head_learns_then_the_top_then_all():
    model = network()
    everything = learning(model)
    stages = UnfreezeSchedule(config(head_epochs=1, top_epochs=2, top_share=0.4, epochs=5), model)
    stages.begin(0)
    assert learning(model) == {"classifier.weight", "classifier.bias"}
    assert not any(m.training for m in model.modules() if isinstance(m, _BatchNorm))
    stages.begin(1)
    top = learning(model)
    assert {"classifier.weight", "conv_head.weight"} < top < everything
    assert "conv_stem.weight" not in top
    training = {m.training for m in model.modules() if isinstance(m, _BatchNorm)}
    assert training == {True, False}
    stages.begin(3)
    assert learning(model) == everything
    assert all(m.training for m in model.modules())


def test_frozen_norms_keep_what_the_starting_weights_had():
    model = network()
    before = {n: b.clone() for n, b in model.named_buffers() if "running" in n}
    stages = UnfreezeSchedule(config(freeze_norm=True), model)
    stages.begin(0)
    model(torch.randn(4, 3, 32, 32)).sum().backward()
    assert all(torch.equal(dict(model.named_buffers())[n], b) for n, b in before.items())
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    assert all(m.weight.grad is None for m in norms)
    assert model.conv_stem.weight.grad is not None


def test_each_epoch_has_an_order_of_its_own_and_the_same_one_again():
    order = EpochSampler(torch.arange(50), seed=3)
    first = list(order)
    assert sorted(first) == list(range(50))
    order.set_epoch(1)
    assert list(order) != first
    order.set_epoch(0)
    assert list(order) == first


def test_balanced_drawing_makes_classes_as_frequent():
    targets = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)
    drawn = targets[list(EpochSampler(targets, seed=0, balanced=True))]
    assert len(drawn) == 1000
    counts = torch.bincount(drawn)
    assert counts.min() > 280
    assert counts.max() < 390
