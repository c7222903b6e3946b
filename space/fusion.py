"""Batch norms taken into the convolutions before them: the same answers in fewer steps."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Of the largest logit; what rounding may change and a wrong fusion would exceed by far.
_TOLERANCE = 1e-3


def fused(model: Any, input_size: Sequence[int]) -> Any:
    """A copy of a network in evaluation mode that gives the same answers faster on a CPU.

    A batch norm that follows a convolution scales and shifts what that gives, which other weights
    of the convolution do as well. Which norm follows which convolution is read off the order in
    which a module names its parts, and then tried: a network whose answers change stays as it is.

    Args:
        input_size: (3, height, width) of its inputs.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return model
    copied = copy.deepcopy(model)
    for parent in copied.modules():
        before: nn.Module | None = None
        for name, child in list(parent.named_children()):
            if isinstance(before, nn.Conv2d) and isinstance(child, nn.BatchNorm2d):
                fusion = fuse_conv_bn_eval(before, child)
                before.weight, before.bias = fusion.weight, fusion.bias
                rest = child.act if isinstance(child, BatchNormAct2d) else nn.Identity()
                setattr(parent, name, rest)
            before = child
    with torch.inference_mode():
        inputs = torch.randn(1, *input_size, generator=torch.Generator().manual_seed(0))
        inputs = inputs.to(next(model.parameters()).device)
        expected, given = model(inputs), copied(inputs)
    if (given - expected).abs().max() > _TOLERANCE * expected.abs().max():
        return model
    return copied
