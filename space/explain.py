"""Grad-CAM: which part of the photo spoke for a class, drawn over it."""

import copy
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.image import show_cam_on_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from timm.layers import SelectAdaptivePool2d

from space.boxes import Box
from space.transforms import normalize

MAX_SIDE = 1024  # of the overlay, in pixels: enough for a screen
_FRAME = 2  # pixels of the line around what the network saw
_PHOTO_SHARE = 0.55  # of the colors of the overlay; the rest is heat

# From a network and its layers to what makes heat maps of them, as the classes of
# pytorch_grad_cam do.
Method = Callable[[Any, list[torch.nn.Module]], BaseCAM]


def last_stage(model: Any) -> torch.nn.Module:
    """The last of a timm network's stages."""
    return model.get_submodule(model.feature_info[-1]["module"])


def pooled_layer(model: Any) -> torch.nn.Module:
    """The part of a timm network whose output is averaged for the classifier.

    In EfficientNets there is one more layer between it and the last stage, in others none.
    """
    before = last_stage(model)
    for part in model.children():
        if any(isinstance(module, SelectAdaptivePool2d) for module in part.modules()):
            return before
        before = part
    return last_stage(model)


class Explainer:
    """Makes Grad-CAM heat maps (Selvaraju et al. 2017, arXiv:1610.02391).

    Its hooks would make a network unsafe to share between threads, so it works on a copy of its
    own, made at the first use, one photo at a time.
    """

    def __init__(self, model: Any, data_config: Mapping[str, Any]):
        self._source = model
        self._copy: Any = None
        self._data_config = data_config
        self._lock = threading.Lock()

    def heat(self, pixels: torch.Tensor, target: int, method: Method = GradCAM) -> np.ndarray:
        """Heat 0..1 of shape (height, width) for the class `target` of one photo's pixels.

        The heat is that of the layer which the classifier averages: there Grad-CAM is the class's
        score itself, taken apart by place (CAM, Zhou et al. 2016, arXiv:1512.04150). Other methods
        are there to be measured beside it, by `trainer.evaluation.faithfulness`.
        """
        with self._lock:
            if self._copy is None:
                self._copy = copy.deepcopy(self._source).requires_grad_(True)
            model = self._copy
            device = next(model.parameters()).device
            with torch.enable_grad(), method(model, [pooled_layer(model)]) as cam:
                inputs = normalize(pixels.to(device), self._data_config)
                return cam(input_tensor=inputs, targets=[ClassifierOutputTarget(target)])[0]


def overlay(picture: Image.Image, heat: np.ndarray, seen: Box) -> Image.Image:
    """Heat laid over the part of a picture that the network saw.

    Args:
        picture: the photo, RGB.
        heat: 0 to 1, shape (rows, columns).
        seen: where it belongs; what lies around it stays as it is, and a frame parts both.

    Returns:
        RGB, in the picture's proportions, at most `MAX_SIDE` pixels long.
    """
    picture = picture.copy()
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    width, height = picture.size
    # Not `space.boxes.corners`: with a border the network saw more than the photo.
    left, upper = round(seen.left * width), round(seen.upper * height)
    right, lower = round(seen.right * width), round(seen.lower * height)
    size = max(1, right - left), max(1, lower - upper)
    stretched = Image.fromarray(heat).resize(size, Image.Resampling.BICUBIC)
    laid = Image.new("F", picture.size)
    laid.paste(stretched, (left, upper))
    drawn = show_cam_on_image(
        np.asarray(picture, np.float32) / 255,
        np.asarray(laid).clip(0, 1),
        use_rgb=True,
        image_weight=_PHOTO_SHARE,
    )
    covered = Image.new("L", picture.size)
    covered.paste(255, (left, upper, left + size[0], upper + size[1]))
    picture.paste(Image.fromarray(drawn), mask=covered)
    if covered.getextrema() != (255, 255):
        draw = ImageDraw.Draw(picture)
        sides = left, upper, left + size[0] - 1, upper + size[1] - 1
        # Dark beneath light, to be seen on any photo.
        draw.rectangle(sides, outline="black", width=2 * _FRAME)
        draw.rectangle(sides, outline="white", width=_FRAME)
    return picture
