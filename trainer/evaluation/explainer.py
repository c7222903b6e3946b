"""Heat maps by any method of pytorch-grad-cam, to be measured beside the one that Marque shows."""

import copy
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from timm.layers import SelectAdaptivePool2d

from space.pytorch import normalize

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
