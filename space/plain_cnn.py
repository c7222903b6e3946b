"""A plain convolutional network to train from noise: the baseline of many a notebook.

timm builds it by its name, `marque_cnn`, wherever this module is imported.
"""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import SelectAdaptivePool2d
from timm.models import register_model
from torch import nn

WIDTHS = (32, 64, 128, 256, 512)


class PlainCnn(nn.Module):
    """Convolutions with batch norm and ReLU, each stage half as wide and high; mean; linear head.

    It answers to what Marque and timm ask of a network.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        pretrained_cfg: dict[str, Any] | None = None,
    ):
        super().__init__()
        stages = []
        width = in_chans
        for following in WIDTHS:
            stages.append(
                nn.Sequential(
                    nn.Conv2d(width, following, 3, stride=2, padding=1, bias=False),
                    nn.BatchNorm2d(following),
                    nn.ReLU(),
                    nn.Conv2d(following, following, 3, padding=1, bias=False),
                    nn.BatchNorm2d(following),
                    nn.ReLU(),
                )
            )
            width = following
        self.stages = nn.Sequential(*stages)
        self.feature_info = [
            {"num_chs": channels, "reduction": 2 ** (stage + 1), "module": f"stages.{stage}"}
            for stage, channels in enumerate(WIDTHS)
        ]
        self.num_classes = num_classes
        self.num_features = width
        self.drop_rate = drop_rate
        self.pretrained_cfg = pretrained_cfg or {}
        self.global_pool = SelectAdaptivePool2d(pool_type="avg", flatten=True)
        self.classifier = nn.Linear(width, num_classes)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Which layers lie how deep, for timm."""
        return {"stem": r"^stages\.0", "blocks": r"^stages\.(\d+)"}

    def get_classifier(self) -> nn.Module:
        """The head."""
        return self.classifier

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """The last stage's maps, shape (batch, 512, height / 32, width / 32)."""
        return self.stages(x)

    def forward_intermediates(
        self, x: torch.Tensor, output_fmt: str = "NCHW"
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The last stage's maps, and those of every stage."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return x, maps

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """From the last stage's maps to logits, or to what the head sees."""
        x = F.dropout(self.global_pool(x), self.drop_rate, self.training)
        return x if pre_logits else self.classifier(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(x))


@register_model
def marque_cnn(pretrained: bool = False, **kwargs: Any) -> PlainCnn:
    """The plain network; it has no pretrained weights."""
    if pretrained:
        raise RuntimeError("marque_cnn has no pretrained weights; train it with --weights none")
    for name in ("pretrained_cfg_overlay", "cache_dir", "features_only"):
        kwargs.pop(name, None)
    # What a fresh network has nothing to inherit from: the usual statistics of ImageNet.
    kwargs["pretrained_cfg"] = {
        "classifier": "classifier",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }
    return PlainCnn(**kwargs)
