"""The gate: is this a car from outside at all? It looks at the photo before any answer counts.

It is a linear classifier on what the recognizer's own network saw on its way to the answer, so it
costs next to nothing; `python -m trainer.evaluate` makes it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from space.calibration import softmax
from space.errors import CheckpointError

GATE = "gate.safetensors"

# What a photo shows, in the order of the gate's outputs.
CAR, PART, OTHER = "car", "part", "other"
KINDS = (CAR, PART, OTHER)

# Why a photo is refused, by what it shows.
REASONS = {
    PART: "this looks like the inside or a part of a car, not a car from outside",
    OTHER: "this does not look like a car",
}


@dataclass(frozen=True)
class FeatureGate:
    """A linear classifier on the features of `space.outputs.Outputs`.

    Attributes:
        weight, bias: float32, shapes (kinds, channels) and (kinds,).
        threshold: the least probability of a car with which a photo passes.
    """

    weight: np.ndarray
    bias: np.ndarray
    threshold: float

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Of each kind, shape (batch, kinds)."""
        return softmax(features @ self.weight.T + self.bias)

    def refusals(self, features: np.ndarray) -> list[str | None]:
        """For each photo why it is refused, or None."""
        return [
            None if row[0] >= self.threshold else REASONS[KINDS[1 + int(row[1:].argmax())]]
            for row in self.probabilities(features)
        ]

    def check(self, channels: int, folder: Path) -> None:
        """Whether it fits a network, asked when a checkpoint is opened rather than at a photo.

        Raises:
            CheckpointError: the network's features have other channels.
        """
        if self.weight.shape[1] != channels:
            raise CheckpointError(
                f"{folder / GATE} is for {self.weight.shape[1]} channels, but the network has "
                f"{channels}; write it again with `python -m trainer.evaluate`"
            )

    def save(self, folder: Path) -> None:
        """Writes the weights into a checkpoint folder; the threshold belongs to the calibration."""
        weight = np.ascontiguousarray(self.weight)
        save_file({"weight": weight, "bias": self.bias}, folder / GATE)

    @classmethod
    def read(cls, folder: Path, threshold: float) -> "FeatureGate":
        """Opens the gate of a checkpoint folder.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        try:
            if not (folder / GATE).is_file():  # a pipe would be waited for, for ever
                raise OSError("it is not a file")
            tensors = load_file(folder / GATE)
            weight, bias = (tensors[name].astype(np.float32) for name in ("weight", "bias"))
        except (SafetensorError, OSError, KeyError) as error:
            raise CheckpointError(
                f"{folder / GATE} is missing or damaged ({error}), but the calibration beside it "
                "needs it; write both again with `python -m trainer.evaluate`"
            ) from None
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise CheckpointError(f"{folder / GATE} holds values that are not finite")
        if weight.ndim != 2 or bias.shape != (len(KINDS),) or len(weight) != len(KINDS):
            raise CheckpointError(f"{folder / GATE} should score the kinds {', '.join(KINDS)}")
        return cls(weight, bias, threshold)
