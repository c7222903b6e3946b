"""Fused networks: the same answers, from fewer layers; others are left alone."""

import pytest
import timm
import torch
from torch import nn

from space.checkpoints import open_checkpoint
from space.fusion import fused


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def trained(name: str):
    """A network whose batch norms do something, as those of a trained one."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "resnet18", "marque_cnn"])
@torch.inference_mode()
def test_a_fused_network_answers_alike_without_batch_norms(name):
    model = trained(name)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    copied = fused(model, (3, 64, 64))
    photos = torch.randn(4, 3, 64, 64)
    assert norms(model) > 0
    assert norms(copied) <= 1  # of a test_resnet, one follows no convolution by name
    assert torch.allclose(copied(photos), model(photos), rtol=1e-3, atol=1e-4)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_the_bundled_network_is_fused():
    checkpoint = open_checkpoint()
    assert norms(fused(checkpoint.model, checkpoint.data_config["input_size"])) == 0


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_networks_without_batch_norms_stay_as_they_are(name):
    model = trained(name)
    photos = torch.randn(2, 3, 160, 160)
    with torch.inference_mode():
        assert torch.equal(fused(model, (3, 160, 160))(photos), model(photos))


class Crossed(nn.Module):
    """Names its norm after a convolution that it does not follow."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3)

    def forward(self, x):
        return self.norm(self.second(self.first(x))).mean(dim=(2, 3))


def test_a_network_that_fusion_would_change_is_left_alone():
    model = Crossed().eval()
    nn.init.uniform_(model.norm.weight, 2, 3)
    assert fused(model, (3, 32, 32)) is model
