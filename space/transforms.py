"""The one way from a picture to a network's input, shared by serving, validation and the cache.

It is timm's own evaluation transform in Pillow and numpy; `tests/test_transforms.py` holds both
against each other.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from space.boxes import Box

# The keys of a timm `pretrained_cfg` that say how a photo becomes numbers.
GEOMETRY_KEYS = ("input_size", "interpolation", "crop_pct", "crop_mode")
DATA_KEYS = (*GEOMETRY_KEYS, "mean", "std")

FILTERS = {filter.name.lower(): filter for filter in Image.Resampling}
_IMAGENET_MEAN = (0.485, 0.456, 0.406)  # what timm fills a border with unless told otherwise


def to_pixels(data_config: Mapping[str, Any]) -> Callable[[Image.Image], np.ndarray]:
    """The geometric half: an RGB picture to uint8 pixels of shape (3, height, width).

    It stops before normalization, so that pixels can be cached and batched as bytes.

    Args:
        data_config: timm's `GEOMETRY_KEYS`; for the crop mode "border" the mean as well.

    Raises:
        ValueError: an interpolation that Pillow does not know.
    """
    height, width = data_config["input_size"][1:]
    share, mode = data_config["crop_pct"], data_config["crop_mode"]
    scaled = math.floor(height / share), math.floor(width / share)
    if data_config["interpolation"] not in FILTERS:
        raise ValueError(f"there is no interpolation {data_config['interpolation']!r}")
    filter = FILTERS[data_config["interpolation"]]
    fill: tuple[int, ...] = (0, 0, 0)
    if mode == "border":
        fill = tuple(round(255 * value) for value in data_config.get("mean", _IMAGENET_MEAN))

    def transform(picture: Image.Image) -> np.ndarray:
        size = _scaled_size(picture.size, scaled, mode)
        if picture.size != size:
            picture = picture.resize(size, filter)
        if picture.size != (width, height):
            canvas = Image.new("RGB", (width, height), fill)
            canvas.paste(picture, (_offset(size[0], width), _offset(size[1], height)))
            picture = canvas
        return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))

    return transform


def _scaled_size(size: tuple[int, int], scaled: tuple[int, int], mode: str) -> tuple[int, int]:
    """What a picture is resized to, width and height; `scaled` is (height, width)."""
    width, height = size
    rows, columns = scaled
    if mode == "squash":
        return columns, rows
    if mode != "border" and rows == columns:  # the short side, as torchvision rounds the long one
        return (
            (rows, int(rows * height / width))
            if width <= height
            else (int(rows * width / height), rows)
        )
    ratio = (max if mode == "border" else min)(height / rows, width / columns)
    # A picture that is a thousand times as long as high would be shrunk to nothing.
    return max(1, round(width / ratio)), max(1, round(height / ratio))


def _offset(size: int, wanted: int) -> int:
    """Where a side lies in the middle of the wanted one; below 0 where it is cut off."""
    return (wanted - size) // 2 if wanted > size else -round((size - wanted) / 2)


def seen_part(size: tuple[int, int], data_config: Mapping[str, Any]) -> Box:
    """The part of a picture that `to_pixels` keeps; beyond the picture where it adds a border.

    Args:
        size: width and height of the picture in pixels.
        data_config: timm's `GEOMETRY_KEYS`.
    """
    mode, share = data_config["crop_mode"], data_config["crop_pct"]
    if mode == "squash":
        width = height = share
    else:  # the short side, or with "border" the long one, is what is cut to the input's size
        rows, columns = data_config["input_size"][1:]
        scales = columns / size[0], rows / size[1]
        scale = (min if mode == "border" else max)(scales) / share
        width, height = columns / scale / size[0], rows / scale / size[1]
    return Box((1 - width) / 2, (1 - height) / 2, (1 + width) / 2, (1 + height) / 2)


def normalize(pixels: np.ndarray, data_config: Mapping[str, Any]) -> np.ndarray:
    """The arithmetic half: pixels 0..255 of shape (batch, 3, height, width) to network input."""
    mean, std = (
        np.array(data_config[key], np.float32).reshape(1, 3, 1, 1) for key in ("mean", "std")
    )
    return (pixels.astype(np.float32) / np.float32(255) - mean) / std
