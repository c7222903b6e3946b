"""The one way from a photo to a network's input, shared by serving, validation and the cache."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from PIL import Image
from timm.data import create_transform

# The keys of a timm `pretrained_cfg` that say how a photo becomes numbers.
GEOMETRY_KEYS = ("input_size", "interpolation", "crop_pct", "crop_mode")
DATA_KEYS = (*GEOMETRY_KEYS, "mean", "std")


def to_pixels(data_config: Mapping[str, Any]) -> Callable[[Image.Image], torch.Tensor]:
    """The geometric half: an RGB picture to uint8 pixels of shape (3, height, width).

    This is timm's own evaluation transform, stopped before normalisation, so that the pixels can
    be cached and batched as bytes.
    """
    geometry = {key: data_config[key] for key in GEOMETRY_KEYS}
    return create_transform(**geometry, is_training=False, normalize=False)


def normalize(pixels: torch.Tensor, data_config: Mapping[str, Any]) -> torch.Tensor:
    """The arithmetic half: pixels 0..255 of shape (batch, 3, height, width) to network input."""
    mean = torch.tensor(data_config["mean"], device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(data_config["std"], device=pixels.device).view(1, 3, 1, 1)
    return (pixels.float().div_(255) - mean) / std
