"""The gate: is this a car from outside at all? It looks at the photo before any answer counts.

Two gates can stand there. `FeatureGate`, the one that `trainer.evaluate` makes, is a linear
classifier on what the recogniser's own network saw on its way to the answer, so it costs next to
nothing. `ClassifierGate` is any checkpoint that Marque has trained to tell exteriors from the rest.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from space.answers import quoted
from space.checkpoints import Checkpoint, CheckpointError
from space.network import engine_of
from space.transforms import normalize, to_pixels

GATE = "gate.safetensors"

# What a photo shows, in the order of the gate's outputs.
CAR, PART, OTHER = "car", "part", "other"
KINDS = (CAR, PART, OTHER)

_REASONS = {
    PART: "this looks like the inside or a part of a car, not a car from outside",
    OTHER: "this does not look like a car",
}


@dataclass(frozen=True)
class FeatureGate:
    """A linear classifier on the features of `space.network.Sight`.

    Attributes:
        weight, bias: float32 on the CPU, shapes (kinds, channels) and (kinds,).
        threshold: the least probability of a car with which a photo passes.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    threshold: float

    def probabilities(self, features: torch.Tensor) -> torch.Tensor:
        """Of each kind, shape (batch, kinds)."""
        return (features.float().cpu() @ self.weight.T + self.bias).softmax(dim=1)

    def refusals(self, features: torch.Tensor) -> list[str | None]:
        """For each photo why it is refused, or None."""
        return [
            None if row[0] >= self.threshold else _REASONS[KINDS[1 + int(row[1:].argmax())]]
            for row in self.probabilities(features)
        ]

    def save(self, folder: Path) -> None:
        """Writes the weights into a checkpoint folder; the threshold belongs to the calibration."""
        save_file({"weight": self.weight, "bias": self.bias}, folder / GATE)

    @classmethod
    def read(cls, folder: Path, threshold: float) -> "FeatureGate":
        """Opens the gate of a checkpoint folder.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        try:
            tensors = load_file(folder / GATE)
            weight, bias = tensors["weight"].float(), tensors["bias"].float()
        except (SafetensorError, OSError, KeyError) as error:
            raise CheckpointError(
                f"{folder / GATE} is missing or damaged ({error}), but the calibration beside it "
                "needs it; write both anew with `python -m trainer.evaluate`"
            ) from None
        if weight.ndim != 2 or bias.shape != (len(KINDS),) or len(weight) != len(KINDS):
            raise CheckpointError(f"{folder / GATE} should score the kinds {', '.join(KINDS)}")
        return cls(weight, bias, threshold)


class ClassifierGate:
    """A checkpoint that tells photos of cars from outside from others.

    It can be trained like any other: from a folder with one folder of exteriors, whose name holds
    "exterior", and others for whatever is not wanted.
    """

    def __init__(self, checkpoint: Checkpoint, threshold: float = 0.5):
        """Takes an opened checkpoint.

        Args:
            threshold: the least probability of all classes called exterior with which a photo
                passes, 0 to 1.

        Raises:
            CheckpointError: none of its classes, or all of them, are called exterior.
        """
        self._wanted = torch.tensor(["exterior" in label.lower() for label in checkpoint.labels])
        if not self._wanted.any() or self._wanted.all():
            raise CheckpointError(
                f"{checkpoint.source} cannot be a gate: one of its classes should be called "
                f"exterior and another one not; they are {quoted(checkpoint.labels[:5])}"
            )
        self._labels = checkpoint.labels
        self._engine = engine_of(checkpoint)
        self._data_config = checkpoint.data_config
        self._threshold = threshold
        self._to_pixels = to_pixels(checkpoint.data_config)

    def to_pixels(self, picture: Image.Image) -> torch.Tensor:
        """What the network is shown of a photo: uint8, shape (3, height, width)."""
        return torch.from_numpy(self._to_pixels(picture))

    def refusals(self, pixels: torch.Tensor) -> list[str | None]:
        """For each photo why it is refused, or None.

        Args:
            pixels: a batch of what `to_pixels` returns, uint8, shape (batch, 3, height, width).
        """
        sight = self._engine(normalize(pixels, self._data_config))
        probabilities = sight.logits.softmax(dim=1)
        return [
            None
            if row[self._wanted].sum() >= self._threshold
            else f"this looks like {self._labels[int(row.masked_fill(self._wanted, 0).argmax())]}, "
            "not a car from outside"
            for row in probabilities
        ]
