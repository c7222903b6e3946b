"""Heads: what they compute, and that the linear head they are kept as answers alike."""

import copy
from dataclasses import replace

import pytest
import timm
import torch
from conftest import TINY_LABELS

from space.checkpoints import open_checkpoint
from space.errors import CheckpointError, MarqueError
from space.heads import MlpHead
from space.labels import parse_label
from trainer.data.cache import geometry
from trainer.training.checkpoints import save_checkpoint
from trainer.training.heads import CosineHead, JointHead, attach_head, fold_head
from trainer.training.settings import NetworkSettings

CARS = [
    parse_label(label)
    for label in (
        "Audi A4 Sedan 2012",
        "Audi A4 Sedan 2009",
        "Audi TT Coupe 2012",
        "BMW M3 Coupe 2012",
    )
]


def network(settings: NetworkSettings, name: str = "test_efficientnet"):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=len(CARS))
    attach_head(model, settings, CARS)
    return model


@pytest.fixture
def photos() -> torch.Tensor:
    return torch.randn(8, 3, 64, 64)


def test_a_joint_head_starts_as_the_linear_head_that_it_replaces(photos):
    plain = network(NetworkSettings()).eval()
    joint = network(NetworkSettings(head="joint")).eval()
    assert torch.allclose(joint(photos), plain(photos), atol=1e-6)


def test_in_a_joint_head_classes_of_a_make_learn_from_each_other():
    model = network(NetworkSettings(head="joint")).eval()
    head = model.get_classifier()
    assert isinstance(head, JointHead)
    torch.nn.init.zeros_(head.classes.weight)  # all classes are equally likely at first
    before = head.fold().weight
    torch.nn.functional.cross_entropy(
        head(torch.ones(1, head.classes.in_features)), torch.tensor([0])
    ).backward()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter -= parameter.grad
    change = (head.fold().weight - before).mean(dim=1)
    same_model, same_make, other_make = change[1], change[2], change[3]
    assert change[0] > same_model > same_make > other_make


@pytest.mark.parametrize("head", ["joint", "arcface"])
def test_the_linear_head_that_is_kept_answers_alike(photos, head):
    model = network(NetworkSettings(head=head))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        model(photos).square().mean().backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        folded = fold_head(copy.deepcopy(model))
        assert type(folded.get_classifier()) is torch.nn.Linear
        assert torch.allclose(folded(photos), model(photos), atol=1e-5)
        assert set(folded.state_dict()) == set(
            timm.create_model("test_efficientnet", num_classes=4).state_dict()
        )


def test_a_cosine_head_gives_cosines_and_is_kept_with_the_same_order():
    torch.manual_seed(0)
    linear = torch.nn.Linear(16, 5)
    head = CosineHead(linear, scale=10.0).train()
    features = torch.randn(32, 16)
    cosines = head(features)
    assert cosines.abs().max() <= 10 + 1e-4
    kept = head.fold()(features)
    assert torch.equal(cosines.argsort(dim=1), kept.argsort(dim=1))
    lengths = features.norm(dim=1, keepdim=True)
    assert torch.allclose(kept, cosines * lengths / lengths.mean(), atol=1e-4)


def test_a_checkpoint_with_an_mlp_head_opens_again(photos, tmp_path):
    settings = NetworkSettings(head="mlp", hidden="32-16")
    model = network(settings).eval()
    assert isinstance(model.get_classifier(), MlpHead)
    config = geometry(64) | {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    save_checkpoint(
        tmp_path,
        model,
        architecture="test_efficientnet",
        model_args={},
        labels=TINY_LABELS[:4],
        data_config=config,
        training={},
        dtype=torch.float32,
    )
    again = open_checkpoint(tmp_path).model
    with torch.no_grad():
        assert torch.allclose(again(photos), model(photos), atol=1e-6)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"mlp_head"', '"other_head"'))
    with pytest.raises(CheckpointError, match="does not belong to the network"):
        open_checkpoint(tmp_path)


def test_an_mlp_head_has_the_widths_asked_for():
    model = network(NetworkSettings(head="mlp"))
    shapes = [
        (module.in_features, module.out_features)
        for module in model.get_classifier()
        if isinstance(module, torch.nn.Linear)
    ]
    assert shapes == [(256, 2048), (2048, 1024), (1024, 4)]


def test_a_network_without_a_linear_head_is_refused():
    model = timm.create_model("test_efficientnet", num_classes=0)
    with pytest.raises(MarqueError, match="not one linear layer; take --head linear"):
        attach_head(model, replace(NetworkSettings(), head="joint"), CARS)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "marque_cnn"])
def test_heads_go_on_other_networks(name):
    for head in ("joint", "cosface", "mlp"):
        size = 160 if name == "test_vit" else 64
        assert network(NetworkSettings(head=head), name)(torch.randn(2, 3, size, size)).shape == (
            2,
            4,
        )
