"""The network at work: normalised photos in, and out what it makes of them.

Two engines run it. ONNX Runtime answers on a CPU several times as fast as PyTorch does; it needs
the network's graph, which `python -m trainer.export` writes into a checkpoint as model.onnx. The
graph holds no weights: they stay in model.safetensors, the one place for them, which the graph
names as its external data. Without a graph, and on other devices, PyTorch runs the network.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import torch
from safetensors import safe_open
from torch import nn

from space.checkpoints import WEIGHTS, Checkpoint, CheckpointError

GRAPH = "model.onnx"
INPUT = "inputs"


class Sight(NamedTuple):
    """What a network makes of a batch of photos in one pass.

    Attributes:
        logits: shape (photos, classes).
        features: shape (photos, channels): the mean of each stage's maps, then the input of the
            classifier.
        heat: shape (photos, rows, columns): how strongly the network reacts to each place, the
            length of the vector that the classifier averages. Its rows and columns are zero for
            networks that average no maps, as those that cut a photo into tokens.
    """

    logits: torch.Tensor
    features: torch.Tensor
    heat: torch.Tensor


class Eyes(nn.Module):
    """A timm network that tells a `Sight` of its normalised inputs, (photos, 3, height, width)."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor) -> Sight:
        final, stages = self.model.forward_intermediates(inputs, output_fmt="NCHW")
        pooled = self.model.forward_head(final, pre_logits=True)
        features = torch.cat([*(stage.mean(dim=(2, 3)) for stage in stages), pooled], dim=1)
        if final.ndim == 4 and final.shape[1] == self.model.num_features:
            heat = final.norm(dim=1)
        else:
            heat = final.new_zeros(len(final), 0, 0)
        return Sight(self.model.forward_head(final), features, heat)


class TorchEngine:
    """Runs a network in PyTorch, on any device."""

    def __init__(self, model: Any, device: str | torch.device = "cpu"):
        self._eyes = Eyes(model)
        self._device = torch.device(device)

    @torch.no_grad()
    def __call__(self, inputs: torch.Tensor) -> Sight:
        """Looks at normalised inputs, float32, (photos, 3, height, width); answers on the CPU."""
        inputs = inputs.to(self._device).contiguous(memory_format=torch.channels_last)
        return Sight(*(found.float().cpu() for found in self._eyes(inputs)))


class OnnxEngine:
    """Runs a checkpoint's graph in ONNX Runtime, on the CPU.

    Raises:
        CheckpointError: the graph is damaged, or does not fit the weights or the classes.
    """

    def __init__(self, folder: Path, classes: int, input_size: Sequence[int]):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # what is wrong is said below
        weights = read_weights(folder)
        # From memory: the Hub's cache links each file from elsewhere, so that the graph would look
        # in vain for the weights beside it. And thus no graph can name another file.
        options.add_external_initializers(
            list(weights),
            [onnxruntime.OrtValue.ortvalue_from_numpy(tensor) for tensor in weights.values()],
        )
        try:
            self._session = onnxruntime.InferenceSession(
                (folder / GRAPH).read_bytes(), options, providers=["CPUExecutionProvider"]
            )
            (found_input,) = self._session.get_inputs()
            outputs = {output.name: output.shape for output in self._session.get_outputs()}
            fits = (
                tuple(outputs) == Sight._fields
                and outputs["logits"][1:] == [classes]
                and found_input.shape[1:] == list(input_size)
            )
        # ONNX Runtime's errors have no class of their own, and a graph can be wrong in many ways.
        except Exception as error:
            raise CheckpointError(f"{_cannot(folder)} ({error})") from None
        if not fits:
            raise CheckpointError(_cannot(folder))
        # Kept for as long as the session, which does not own what it was given.
        self._weights = weights

    def __call__(self, inputs: torch.Tensor, outputs: Sequence[str] = Sight._fields) -> Sight:
        """As `TorchEngine`; of `outputs` that are not asked for, the result holds nothing."""
        found = self._session.run(list(outputs), {INPUT: inputs.contiguous().numpy()})
        tensors = dict(zip(outputs, map(torch.from_numpy, found), strict=True))
        return Sight(*(tensors.get(name, torch.empty(0)) for name in Sight._fields))


def read_weights(folder: Path) -> Mapping[str, np.ndarray]:
    """The tensors of a checkpoint that take part in its answers, as they are stored."""
    with safe_open(folder / WEIGHTS, "np") as file:
        # Batch norms count their batches in training, which no graph asks for.
        names = [name for name in file.keys() if not name.endswith("num_batches_tracked")]  # noqa: SIM118
        return {name: file.get_tensor(name) for name in names}


def engine_of(
    checkpoint: Checkpoint, device: str | torch.device = "cpu"
) -> OnnxEngine | TorchEngine:
    """The fastest engine that can run a checkpoint on a device.

    Raises:
        CheckpointError: the checkpoint's graph does not fit it.
    """
    if torch.device(device).type == "cpu" and (checkpoint.folder / GRAPH).is_file():
        size = checkpoint.data_config["input_size"]
        return OnnxEngine(checkpoint.folder, len(checkpoint.labels), size)
    return TorchEngine(checkpoint.model, device)


def _cannot(folder: Path) -> str:
    return (
        f"{folder / GRAPH} does not fit the checkpoint beside it; write it anew with "
        f"`python -m trainer.export {folder}`, or remove it"
    )
