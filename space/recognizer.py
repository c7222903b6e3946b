"""The recogniser: photos in, cars out. Every door of Marque answers through it."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import overload

import torch
from PIL import Image

from space.answers import Recognition
from space.calibration import read_calibration
from space.checkpoints import Checkpoint, CheckpointError, open_checkpoint
from space.explain import Explainer
from space.fusion import fused
from space.gate import GATE, ClassifierGate, FeatureGate, look
from space.labels import Car
from space.levels import Levels
from space.photos import PhotoError, PhotoSource, load_photo
from space.transforms import normalize, to_pixels
from space.verdict import Judge

# Photos that go through the network together when many are given; more gains nothing on a CPU.
BATCH_SIZE = 16


class CarRecognizer:
    """Names the cars in photos with one checkpoint. Safe to share between threads.

    Attributes:
        labels: the classes it knows, in the order of the network's outputs.
        cars: the make, model and year that each of them means.
        source, revision: which checkpoint answers; see `space.checkpoints.Checkpoint`.
        judge: how its logits become answers; `judge.calibration` is None when the checkpoint was
            never calibrated, and confidences are the raw softmax then.
        gate: the checkpoint's own gate, or None.
        gated: whether photos that show no car from outside are rejected, by that or another gate.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str | torch.device = "cpu",
        *,
        precision: float = 0.98,
        coverage: float = 0.95,
        gate: Checkpoint | None = None,
        calibrated: bool = True,
    ):
        """Takes an opened checkpoint; `from_pretrained` opens one by its source.

        Args:
            device: where the network runs.
            precision: the share of auto-tagged answers that should be right, 0 to 1.
            coverage: the share of photos whose class should be among the plausible ones, 0 to 1.
            gate: a checkpoint that tells exteriors from other photos, to stand in for the one that
                the checkpoint itself may have; see `space.gate.ClassifierGate`.
            calibrated: False answers as if the checkpoint had no calibration.

        Raises:
            CheckpointError: the calibration, or a gate, does not fit; or the checkpoint was not
                calibrated for this precision or coverage.
        """
        self.labels = checkpoint.labels
        self.source = checkpoint.source
        self.revision = checkpoint.revision
        self.data_config = checkpoint.data_config
        model = checkpoint.model.to(device)
        # Before the memory format: the fused weights would not have it.
        model = fused(model, checkpoint.data_config["input_size"])
        self.model = model.to(memory_format=torch.channels_last)
        self._device = torch.device(device)
        self._to_pixels = to_pixels(checkpoint.data_config)
        self.cars: tuple[Car, ...] = checkpoint.cars
        self._explainer = Explainer(self.model, checkpoint.data_config)
        calibration = read_calibration(checkpoint.folder) if calibrated else None
        try:
            self.judge = Judge(
                self.labels, self.cars, Levels(self.cars), calibration, precision, coverage
            )
        except ValueError as error:
            raise CheckpointError(f"{self.source}: {error}") from None
        self._classifier_gate = ClassifierGate(gate) if gate else None
        self.gate: FeatureGate | None = None
        if gate is None and calibration and calibration.gate is not None:
            self.gate = FeatureGate.read(checkpoint.folder, calibration.gate)
            self._check_gate(self.gate, checkpoint.folder)
        self.gated = bool(self.gate or self._classifier_gate)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path | None = None,
        device: str | torch.device = "cpu",
        *,
        precision: float = 0.98,
        coverage: float = 0.95,
        gate: str | Path | None = None,
        calibrated: bool = True,
    ) -> "CarRecognizer":
        """Opens a checkpoint: a folder, `org/name[@revision]`, or None for the bundled default.

        The other arguments are those of the class; `gate` is named like a checkpoint.

        Raises:
            CheckpointError: see `space.checkpoints.open_checkpoint`, and above.
        """
        return cls(
            open_checkpoint(source),
            device,
            precision=precision,
            coverage=coverage,
            gate=open_checkpoint(gate) if gate else None,
            calibrated=calibrated,
        )

    @overload
    def predict(self, photo: PhotoSource, top_k: int = 5) -> Recognition: ...

    @overload
    def predict(self, photo: list[PhotoSource], top_k: int = 5) -> list[Recognition]: ...

    def predict(self, photo, top_k=5):
        """Names the car in a photo, or the car in each photo of a list.

        Args:
            photo: a path, the bytes of a picture file, a PIL picture, or a list of these.
            top_k: how many classes, makes, models and years to return at most, 1 or more.

        Returns:
            A `Recognition`; for a list, a list of them in the same order, in which a photo that
            cannot be read has its `error` set and costs the others nothing.

        Raises:
            PhotoError: a single photo cannot be read.
            ValueError: top_k is below 1.
        """
        if isinstance(photo, (list, tuple)):
            return list(self.stream(photo, top_k))
        _check_top_k(top_k)
        return self._recognize([self._prepare(photo)], top_k)[0]

    def stream(self, photos: Iterable[PhotoSource], top_k: int = 5) -> Iterator[Recognition]:
        """Like `predict` of a list, but lazily and in memory that does not grow with it."""
        _check_top_k(top_k)
        photos = iter(photos)
        while batch := list(islice(photos, BATCH_SIZE)):
            readable: list[tuple[torch.Tensor, ...]] = []
            errors: list[str | None] = []
            for photo in batch:
                try:
                    readable.append(self._prepare(photo))
                    errors.append(None)
                except PhotoError as error:
                    errors.append(str(error))
            recognitions = iter(self._recognize(readable, top_k) if readable else ())
            for reason in errors:
                yield Recognition(error=reason) if reason else next(recognitions)

    def pixels(self, photo: PhotoSource) -> torch.Tensor:
        """A photo as the network sees it before normalisation: uint8, shape (3, height, width).

        Raises:
            PhotoError: the photo cannot be read.
        """
        return self._to_pixels(load_photo(photo))

    def look(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The network's logits (batch, classes) and its features (batch, channels), float32.

        Args:
            pixels: a batch of what `pixels` returns.
        """
        with torch.inference_mode():
            logits, features = look(self.model, self._inputs(pixels))
            return logits.float().cpu(), features.float().cpu()

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """The network's logits alone; their softmax is the `score` of every prediction."""
        with torch.inference_mode():
            return self.model(self._inputs(pixels)).float().cpu()

    def _inputs(self, pixels: torch.Tensor) -> torch.Tensor:
        inputs = normalize(pixels.to(self._device), self.data_config)
        return inputs.contiguous(memory_format=torch.channels_last)

    def explain(self, photo: PhotoSource, label: str | None = None) -> Image.Image:
        """The photo with a Grad-CAM heat map over it: where the network saw the class.

        Args:
            photo: as for `predict`.
            label: the class to explain; by default the most likely one.

        Returns:
            An RGB picture with the photo's proportions, its long side at most
            `space.explain.MAX_SIDE` pixels.

        Raises:
            PhotoError: the photo cannot be read.
            ValueError: the checkpoint knows no such label.
        """
        if label is not None and label not in self.labels:
            raise ValueError(
                f"unknown label {label!r}; give one of the {len(self.labels)} class names exactly "
                f"as the predictions write them, for example {self.labels[0]!r}"
            )
        picture = load_photo(photo)
        pixels = self._to_pixels(picture)[None]
        target = int(self.logits(pixels).argmax()) if label is None else self.labels.index(label)
        return self._explainer.overlay(picture, pixels, target)

    def _check_gate(self, gate: FeatureGate, folder: Path) -> None:
        """Fails here rather than at the first photo."""
        black = torch.zeros(1, *self.data_config["input_size"], dtype=torch.uint8)
        channels = self.look(black)[1].shape[1]
        if gate.weight.shape[1] != channels:
            raise CheckpointError(
                f"{folder / GATE} is for {gate.weight.shape[1]} channels, but the network has "
                f"{channels}; write it anew with `python -m trainer.evaluate`"
            )

    def _prepare(self, photo: PhotoSource) -> tuple[torch.Tensor, ...]:
        """The photo's pixels for the recogniser, and for the classifier that stands before it."""
        picture = load_photo(photo)
        if self._classifier_gate is None:
            return (self._to_pixels(picture),)
        return self._to_pixels(picture), self._classifier_gate.to_pixels(picture)

    def _recognize(self, photos: list[tuple[torch.Tensor, ...]], top_k: int) -> list[Recognition]:
        pixels, *gate_pixels = (torch.stack(column) for column in zip(*photos, strict=True))
        refusals: list[str | None] = [None] * len(photos)
        if self.gate:
            logits, features = self.look(pixels)
            refusals = self.gate.refusals(features)
        else:
            logits = self.logits(pixels)
        if self._classifier_gate:
            refusals = self._classifier_gate.refusals(*gate_pixels)
        return self.judge.recognitions(logits, refusals, top_k)


def _check_top_k(top_k: int) -> None:
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; ask for at least 1 answer")
