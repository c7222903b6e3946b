"""Heads that are not timm's: config.json says which, and only Marque can open them."""

from collections.abc import Sequence
from typing import Any

from torch import nn


class MlpHead(nn.Sequential):
    """Hidden layers with batch norm, ReLU and dropout, then the outputs.

    Attributes:
        hidden: the widths of the hidden layers.
    """

    def __init__(self, features: int, hidden: Sequence[int], outputs: int, dropout: float = 0.0):
        layers: list[nn.Module] = []
        width = features
        for following in hidden:
            layers += [
                nn.Linear(width, following),
                nn.BatchNorm1d(following),
                nn.ReLU(),
                nn.Dropout(dropout),
            ]
            width = following
        super().__init__(*layers, nn.Linear(width, outputs))
        self.hidden = tuple(hidden)
        self.in_features, self.out_features = features, outputs


def replace_classifier(model: Any, head: nn.Module) -> None:
    """Puts a head where a timm network has its linear one."""
    linear = model.get_classifier()
    name = next(name for name, module in model.named_modules() if module is linear)
    model.set_submodule(name, head)
