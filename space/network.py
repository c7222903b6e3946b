"""The network at work: normalized photos in, and out what it makes of them.

Two engines run it. ONNX Runtime answers on a CPU several times as fast as PyTorch does; it needs
the network's graph, which `python -m trainer.export` writes into a checkpoint as model.onnx. The
graph holds no weights: they stay in model.safetensors, the one place for them, which the graph
names as its external data. Without a graph, and on other devices, PyTorch runs the network.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors import SafetensorError, safe_open

from space.checkpoints import GRAPH, WEIGHTS, Checkpoint
from space.errors import CheckpointError
from space.outputs import Outputs
from space.runtime import open_session

# What goes into a graph and what comes out of it.
INPUT, TARGET = "inputs", "target"
OUTPUTS = ("logits", "features", "cam")
FINER = 0.6  # how much the other class counts in a Finer-CAM, as in its paper


class Engine(Protocol):
    """Runs a network on normalized inputs, float32, (photos, 3, height, width)."""

    def __call__(self, inputs: np.ndarray) -> Outputs:
        """Runs the network on a batch."""
        ...

    def cam(self, inputs: np.ndarray, target: int, other: int | None = None) -> np.ndarray:
        """Where the evidence for a class lies: Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391).

        Args:
            inputs: one photo.
            target: the number of the class.
            other: the number of a class that the evidence must not speak for, see `contrast`.

        Returns:
            float32, at least 0, shape (rows, columns) of the maps that the network averages for its
            classifier.
        """
        ...

    def evidence(self, inputs: np.ndarray, target: int) -> np.ndarray:
        """The same map with the evidence against the class, below 0."""
        ...


def contrast(cam: Callable[[int], np.ndarray], target: int, other: int | None) -> np.ndarray:
    """What a map shows: the evidence for a class, above 0, less that for another one.

    With another class it is Finer-CAM (Zhang et al. 2025, arXiv:2501.11309): Grad-CAM of the score
    of the class less `FINER` times that of the other, which is the same difference of their maps.

    Args:
        cam: gives the map of a class, with its negative evidence.
    """
    evidence = cam(target)
    if other is not None:
        evidence = evidence - FINER * cam(other)
    return np.maximum(evidence, 0)


class OnnxEngine:
    """Runs a checkpoint's graph in ONNX Runtime, on the CPU.

    Raises:
        CheckpointError: the graph is damaged, or does not fit the weights or the classes.
    """

    def __init__(self, folder: Path, classes: int, input_size: Sequence[int]):
        weights = read_weights(folder)
        # From memory: the Hub's cache links each file from elsewhere, so that the graph would look
        # in vain for the weights beside it. And thus no graph can name another file.
        try:
            self._session = open_session((folder / GRAPH).read_bytes(), weights)
            inputs = {found.name: found.shape for found in self._session.get_inputs()}
            outputs = {output.name: output.shape for output in self._session.get_outputs()}
            fits = (
                tuple(inputs) == (INPUT, TARGET)
                and tuple(outputs) == OUTPUTS
                and outputs["logits"][1:] == [classes]
                and inputs[INPUT][1:] == list(input_size)
            )
        # ONNX Runtime's errors have no class of their own, and a graph can be wrong in many ways.
        except Exception as error:
            raise CheckpointError(f"{_cannot(folder)} ({error})") from None
        if not fits:
            raise CheckpointError(_cannot(folder))
        # Kept for as long as the session, which does not own what it was given.
        self._weights = weights

    def __call__(self, inputs: np.ndarray) -> Outputs:
        """See `Engine`."""
        return Outputs(*self._run(inputs, 0, Outputs._fields))

    def cam(self, inputs: np.ndarray, target: int, other: int | None = None) -> np.ndarray:
        """See `Engine`."""
        return contrast(lambda number: self.evidence(inputs, number), target, other)

    def evidence(self, inputs: np.ndarray, target: int) -> np.ndarray:
        """See `Engine`."""
        return self._run(inputs, target, ["cam"])[0][0]

    def _run(self, inputs: np.ndarray, target: int, outputs: Sequence[str]) -> list[np.ndarray]:
        feed = {INPUT: np.ascontiguousarray(inputs), TARGET: np.array(target)}
        return self._session.run(list(outputs), feed)


def read_weights(folder: Path) -> Mapping[str, np.ndarray]:
    """The tensors of a checkpoint that take part in its answers, as they are stored.

    Raises:
        CheckpointError: the file is damaged, or holds a value that is not finite.
    """
    path = folder / WEIGHTS
    try:
        with safe_open(path, "np") as file:
            # Batch norms count their batches in training, which no graph asks for.
            names = [n for n in file.keys() if not n.endswith("num_batches_tracked")]  # noqa: SIM118
            weights = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from None
    for name, tensor in weights.items():
        if not np.isfinite(tensor).all():
            raise CheckpointError(f"{path}: {name} holds values that are not finite")
    return weights


def engine_of(checkpoint: Checkpoint, device: str = "cpu") -> Engine:
    """The fastest engine that can run a checkpoint on a device.

    Raises:
        CheckpointError: the checkpoint's graph does not fit it, or there is none and no PyTorch.
    """
    if device == "cpu" and checkpoint.has_graph:
        size = checkpoint.data_config["input_size"]
        return OnnxEngine(checkpoint.folder, len(checkpoint.labels), size)
    network = checkpoint.model
    from space.pytorch import TorchEngine

    return TorchEngine(network, device)


def _cannot(folder: Path) -> str:
    return (
        f"{folder / GRAPH} does not fit the checkpoint beside it; write it again with "
        f"`python -m trainer.export {folder}`, or remove it"
    )
