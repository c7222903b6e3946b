"""PyTorch's part: the network of a checkpoint, built and run by it.

Answers need none of it where a checkpoint has its graph (`space.network`). Training, evaluation of
heat maps, and checkpoints of other makers that have no graph do.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import VisionTransformer
from torch import nn

from space import plain_cnn  # noqa: F401  (tells timm of marque_cnn)
from space.checkpoints import CONFIG, WEIGHTS
from space.errors import CheckpointError
from space.heads import MlpHead, replace_classifier
from space.network import contrast
from space.outputs import Outputs


def load_network(folder: Path, config: Mapping[str, Any], num_classes: int) -> Any:
    """The network of a checkpoint folder in evaluation mode, float32, its weights loaded.

    Args:
        config: what its config.json holds.
        num_classes: outputs of the head.

    Raises:
        CheckpointError: the network cannot be built, or the weights do not fit it.
    """
    model = _build(folder, config, num_classes)
    _load_weights(model, folder / WEIGHTS)
    return model.eval()


def _build(folder: Path, config: Mapping[str, Any], num_classes: int) -> Any:
    architecture = config.get("architecture")
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        raise CheckpointError(
            f"{folder / CONFIG}: timm {timm.__version__} knows no architecture {architecture!r}"
        )
    model_args = config.get("model_args") or {}
    try:
        model: Any = timm.create_model(
            architecture, pretrained=False, num_classes=num_classes, **model_args
        )
        if hidden := config.get("mlp_head"):
            features = model.get_classifier().in_features
            replace_classifier(model, MlpHead(features, hidden, num_classes))
        return model
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{folder / CONFIG}: {architecture} cannot be built with {model_args}: {error}"
        ) from None


def _load_weights(model: torch.nn.Module, path: Path) -> None:
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from None
    expected = model.state_dict()
    wrong = [f"{name} is missing" for name in expected if name not in tensors]
    wrong += [f"{name} does not belong to the network" for name in tensors if name not in expected]
    wrong += [
        f"{name} has shape {tuple(tensors[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    wrong += [
        f"{name} holds values that are not finite"
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(f"{path} does not fit the network: {'; '.join(wrong[:3])}{more}")
    model.load_state_dict(tensors, strict=True)


def normalize(pixels: torch.Tensor, data_config: Mapping[str, Any]) -> torch.Tensor:
    """`space.transforms.normalize` of tensors, on their device."""
    mean = torch.tensor(data_config["mean"], device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(data_config["std"], device=pixels.device).view(1, 3, 1, 1)
    return (pixels.float().div_(255) - mean) / std


class FeatureExtractor(nn.Module):
    """A timm network that tells all that an `Engine` does.

    Args of `forward`:
        inputs: normalized, shape (photos, 3, height, width).
        target: the number of the class that `cam` is of, int64, shape ().

    Returns of `forward`:
        logits, features: see `space.outputs.Outputs`.
        cam: of the first photo, shape (1, rows, columns): what `space.network.Engine.cam` shows
            where it is above 0.
    """

    def __init__(self, model: Any):
        super().__init__()
        self.model = model
        self.slopes: Slopes = Slopes(model)

    def forward(
        self, inputs: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See the class."""
        final, stages, start = self.stages(inputs)
        pooled = self.model.forward_head(final, pre_logits=True)
        features = torch.cat([*(stage.mean(dim=(2, 3)) for stage in stages), pooled], dim=1)
        # Grad-CAM: each map counts by the mean of its slopes.
        grid = stages[-1].shape[-2:]
        maps = self._maps(self.slopes.values(start), grid)
        slopes = self._maps(self.slopes(start, target), grid)
        cam = (slopes.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1)
        return self.model.forward_head(final), features, cam

    def stages(self, inputs: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
        """What the head takes, the maps of every stage, and what `slopes` takes of one photo."""
        if not _reads_class_token(self.model):
            final, stages = self.model.forward_intermediates(inputs, output_fmt="NCHW")
            return final, stages, final[:1]
        final, stages = self.model.forward_intermediates(
            inputs, output_fmt="NCHW", return_prefix_tokens=True
        )
        spatial, prefix = stages[-2]
        start = torch.cat([prefix, spatial.flatten(2).transpose(1, 2)], dim=1)
        return final, [stage for stage, _ in stages], start[:1]

    def _maps(self, values: torch.Tensor, grid: torch.Size) -> torch.Tensor:
        """Channels first, in rows and columns, without tokens that stand for no place."""
        if values.ndim == 3:
            places = values[:, values.shape[1] - grid[0] * grid[1] :]
            return places.transpose(1, 2).unflatten(2, tuple(grid))
        if getattr(self.model, "output_fmt", "NCHW") == "NHWC":
            return values.permute(0, 3, 1, 2)
        return values


def _reads_class_token(model: Any) -> bool:
    """Whether a vision transformer answers from a token of its own, apart from those of places."""
    return isinstance(model, VisionTransformer) and model.global_pool == "token"


class Slopes(nn.Module):
    """How the score of a class grows with the values that its heat map is made of.

    These are what the head of the network takes. A vision transformer that answers from its class
    token takes nothing of the places there; what its last attention takes stands in, as is usual.
    """

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def values(self, start: torch.Tensor) -> torch.Tensor:
        """What the heat map is made of, from what `FeatureExtractor.stages` calls the start."""
        return self.model.blocks[-1].norm1(start) if _reads_class_token(self.model) else start

    def forward(self, start: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Shaped as the values, of one photo; `target` is the number of the class."""
        with torch.enable_grad():
            values = self.values(start).detach().requires_grad_(True)
            final = values
            if _reads_class_token(self.model):
                block = self.model.blocks[-1]
                final = start + block.ls1(block.attn(values))
                final = self.model.norm(final + block.ls2(block.mlp(block.norm2(final))))
            score = self.model.forward_head(final)[0].index_select(0, target.reshape(1)).sum()
            return torch.autograd.grad(score, values)[0]


class TorchEngine:
    """Runs a network in PyTorch, on any device; see `space.network.Engine`."""

    def __init__(self, model: Any, device: str = "cpu"):
        self._device = torch.device(device)
        self._extractor = FeatureExtractor(
            model.to(self._device, memory_format=torch.channels_last)
        )

    def __call__(self, inputs: np.ndarray) -> Outputs:
        """See `Engine`."""
        logits, features, _ = self._look(inputs, 0)
        return Outputs(logits, features)

    def cam(self, inputs: np.ndarray, target: int, other: int | None = None) -> np.ndarray:
        """See `Engine`."""
        return contrast(lambda number: self.evidence(inputs, number), target, other)

    def evidence(self, inputs: np.ndarray, target: int) -> np.ndarray:
        """See `Engine`."""
        return self._look(inputs, target)[2][0]

    @torch.no_grad()
    def _look(self, inputs: np.ndarray, target: int) -> list[np.ndarray]:
        batch = torch.from_numpy(np.ascontiguousarray(inputs)).to(
            self._device, memory_format=torch.channels_last
        )
        found = self._extractor(batch, torch.tensor(target, device=self._device))
        return [part.detach().float().cpu().numpy() for part in found]
