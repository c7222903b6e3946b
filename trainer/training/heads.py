"""Heads that training may put on a network, and the plain linear head that they are kept as.

A checkpoint opens in timm and transformers because its head is timm's own. So a head that only
shapes how the classes are learned is folded into the linear layer that gives the same answers.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from space.errors import MarqueError
from space.heads import MlpHead, replace_classifier
from space.labels import Car
from space.levels import Levels
from trainer.training.settings import MARGIN_HEADS, NetworkSettings


class JointHead(nn.Module):
    """A linear head whose outputs are sums: of the class, of its model and of its make.

    Classes of one make share what makes them look alike, which rare classes learn from frequent
    ones. It starts as the linear head that it replaces.
    """

    make_of: torch.Tensor
    model_of: torch.Tensor

    def __init__(self, linear: nn.Linear, levels: Levels):
        super().__init__()
        self.classes = linear
        self.make = _zero_linear(linear.in_features, len(levels.makes))
        self.model = _zero_linear(linear.in_features, len(levels.models))
        self.register_buffer("make_of", torch.from_numpy(levels.index["make"]), persistent=False)
        self.register_buffer("model_of", torch.from_numpy(levels.index["model"]), persistent=False)

    def fold(self) -> nn.Linear:
        """The linear head that gives the same outputs."""
        folded = nn.Linear(self.classes.in_features, self.classes.out_features)
        with torch.no_grad():
            folded.weight.copy_(self._weight())
            folded.bias.copy_(self._bias())
        return folded

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return F.linear(features, self._weight(), self._bias())

    def _weight(self) -> torch.Tensor:
        return (
            self.classes.weight + self.make.weight[self.make_of] + self.model.weight[self.model_of]
        )

    def _bias(self) -> torch.Tensor:
        return self.classes.bias + self.make.bias[self.make_of] + self.model.bias[self.model_of]


def _zero_linear(features: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(features, outputs)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


class CosineHead(nn.Module):
    """Outputs that are cosines between features and classes, times a scale: for margin losses.

    The linear head that it is kept as divides by the mean length of the features instead of by the
    length of each. That changes how sure an answer is, which calibration measures, and never which
    answer is first. (ArcFace: Deng et al. 2018, arXiv:1801.07698; CosFace: Wang et al. 2018,
    arXiv:1801.09414.)
    """

    norm: torch.Tensor

    def __init__(self, linear: nn.Linear, scale: float):
        super().__init__()
        self.weight = linear.weight
        self.scale = scale
        # A mean over the last few hundred batches, as batch norm keeps one.
        self.register_buffer("norm", torch.tensor(0.0))

    def fold(self) -> nn.Linear:
        """The linear head that puts the classes in the same order."""
        folded = nn.Linear(self.weight.shape[1], self.weight.shape[0])
        with torch.no_grad():
            folded.weight.copy_(self._folded_weight())
            folded.bias.zero_()
        return folded

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return F.linear(features, self._folded_weight())
        length = features.detach().float().norm(dim=1).mean()
        self.norm.copy_(torch.where(self.norm == 0, length, self.norm.lerp(length, 0.02)))
        return self.scale * F.linear(F.normalize(features), F.normalize(self.weight))

    def _folded_weight(self) -> torch.Tensor:
        return F.normalize(self.weight) * (self.scale / self.norm.clamp_min(1e-6))


def attach_head(model: Any, settings: NetworkSettings, cars: Sequence[Car]) -> None:
    """Replaces the linear head of a timm network by the one that the settings name.

    Raises:
        MarqueError: the network's head is not one linear layer.
    """
    if settings.head == "linear":
        return
    linear = model.get_classifier()
    if not isinstance(linear, nn.Linear):
        raise MarqueError(
            f"--head is {settings.head}, but the head of this network is a "
            f"{type(linear).__name__}, not one linear layer; take --head linear"
        )
    if settings.head == "mlp":
        head: nn.Module = MlpHead(
            linear.in_features, settings.hidden_widths, linear.out_features, settings.dropout
        )
    elif settings.head in MARGIN_HEADS:
        head = CosineHead(linear, settings.margin_scale)
    else:
        head = JointHead(linear, Levels(cars))
    replace_classifier(model, head)


def fold_head(model: Any) -> Any:
    """The network with a head that others can open too; changes the network that it is given."""
    head = model.get_classifier()
    if isinstance(head, (JointHead, CosineHead)):
        replace_classifier(model, head.fold())
    return model
