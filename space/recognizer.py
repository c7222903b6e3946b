"""The recogniser: photos in, cars out. Every door of Marque answers through it."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, overload

import torch
from PIL import Image

from space.answers import Recognition
from space.calibration import read_calibration
from space.checkpoints import Checkpoint, CheckpointError, open_checkpoint
from space.explain import Explainer
from space.gate import GATE, ClassifierGate, FeatureGate
from space.labels import Car
from space.levels import Levels
from space.network import Sight, engine_of
from space.photos import PhotoError, PhotoSource, load_photo
from space.second_look import DETAIL, Box, SecondLook, crop
from space.transforms import normalize, to_pixels
from space.verdict import Judge

# Photos that go through the network together when many are given; more gains nothing on a CPU.
BATCH_SIZE = 16


class View(NamedTuple):
    """A photo made ready to be looked at.

    Attributes:
        pixels: what the network sees of it, uint8, shape (3, height, width).
        picture: the photo itself, RGB, shrunk to a size that takes little memory; None where
            nothing is looked at again.
        gate_pixels: what a classifier that stands before the network sees; None without one.
    """

    pixels: torch.Tensor
    picture: Image.Image | None
    gate_pixels: torch.Tensor | None


class Look(NamedTuple):
    """What came of looking at a batch of photos, at some of them twice.

    Attributes:
        logits: of both looks together, shape (photos, classes).
        features: of the first look, shape (photos, channels), see `space.network.Sight`.
        boxes: which part of each photo was looked at again, in shares of what the network was
            shown of it; None where one look was enough.
    """

    logits: torch.Tensor
    features: torch.Tensor
    boxes: list[Box | None]


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
        second_look: when and where photos are looked at again, or None.
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
        second_look: SecondLook | None = None,
    ):
        """Takes an opened checkpoint; `from_pretrained` opens one by its source.

        Args:
            device: where the network runs.
            precision: the share of auto-tagged answers that should be right, 0 to 1.
            coverage: the share of photos whose class should be among the plausible ones, 0 to 1.
            gate: a checkpoint that tells exteriors from other photos, to stand in for the one that
                the checkpoint itself may have; see `space.gate.ClassifierGate`.
            calibrated: False answers as if the checkpoint had no calibration.
            second_look: for a checkpoint without calibration, which otherwise says that itself.

        Raises:
            CheckpointError: the calibration, or a gate, does not fit; or the checkpoint was not
                calibrated for this precision or coverage.
        """
        self.labels = checkpoint.labels
        self.source = checkpoint.source
        self.revision = checkpoint.revision
        self.data_config = checkpoint.data_config
        self.model = checkpoint.model.to(device, memory_format=torch.channels_last)
        self._engine = engine_of(checkpoint, device)
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
        self.second_look = calibration.second_look if calibration else second_look
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
        second_look: SecondLook | None = None,
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
            second_look=second_look,
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
        return self._recognize([self.view(photo)], top_k)[0]

    def stream(self, photos: Iterable[PhotoSource], top_k: int = 5) -> Iterator[Recognition]:
        """Like `predict` of a list, but lazily and in memory that does not grow with it."""
        _check_top_k(top_k)
        photos = iter(photos)
        while batch := list(islice(photos, BATCH_SIZE)):
            readable: list[View] = []
            errors: list[str | None] = []
            for photo in batch:
                try:
                    readable.append(self.view(photo))
                    errors.append(None)
                except PhotoError as error:
                    errors.append(str(error))
                except Exception as error:  # whatever one photo raises is the row of that photo
                    name = photo if isinstance(photo, str | Path) else "the photo"
                    errors.append(f"{name} cannot be used: {str(error) or type(error).__name__}")
            recognitions = iter(self._recognize(readable, top_k) if readable else ())
            for reason in errors:
                yield Recognition(error=reason) if reason else next(recognitions)

    def pixels(self, photo: PhotoSource) -> torch.Tensor:
        """A photo as the network sees it before normalisation: uint8, shape (3, height, width).

        Raises:
            PhotoError: the photo cannot be read.
        """
        return torch.from_numpy(self._to_pixels(load_photo(photo)))

    def view(self, photo: PhotoSource) -> View:
        """Makes a photo ready to be looked at.

        Raises:
            PhotoError: the photo cannot be read.
        """
        picture = load_photo(photo)
        pixels = torch.from_numpy(self._to_pixels(picture))
        gate_pixels = self._classifier_gate.to_pixels(picture) if self._classifier_gate else None
        if self.second_look is None:
            return View(pixels, None, gate_pixels)
        picture.thumbnail((DETAIL, DETAIL))
        return View(pixels, picture, gate_pixels)

    def sight(self, pixels: torch.Tensor) -> Sight:
        """One pass of the network.

        Args:
            pixels: a batch of what `pixels` returns.
        """
        return self._engine(normalize(pixels, self.data_config))

    def look(self, views: Sequence[View]) -> Look:
        """Looks at photos, and at those again in which the car is small.

        The softmax of the logits is the `score` of every prediction.
        """
        logits, features, heat = self.sight(torch.stack([view.pixels for view in views]))
        boxes: list[Box | None] = [None] * len(views)
        if self.second_look is None:
            return Look(logits, features, boxes)
        parts = {}
        for number, view in enumerate(views):
            boxes[number] = box = self.second_look.box(heat[number])
            if box and view.picture:
                parts[number] = torch.from_numpy(
                    self._to_pixels(crop(view.picture, box, self.data_config))
                )
        if parts:
            again = list(parts)
            closer = self.sight(torch.stack(list(parts.values()))).logits
            logits[again] = logits[again].lerp(closer, self.second_look.weight)
        return Look(logits, features, boxes)

    def explain(self, photo: PhotoSource, label: str | None = None) -> Image.Image:
        """The photo with a Grad-CAM heat map over it: where the network saw the class.

        The heat is that of the first look; a frame is around the part that was looked at again.

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
        view = self.view(picture)
        look = self.look([view])
        target = int(look.logits.argmax()) if label is None else self.labels.index(label)
        return self._explainer.overlay(picture, view.pixels[None], target, look.boxes[0])

    def _check_gate(self, gate: FeatureGate, folder: Path) -> None:
        """Fails here rather than at the first photo."""
        black = torch.zeros(1, *self.data_config["input_size"], dtype=torch.uint8)
        channels = self.sight(black).features.shape[1]
        if gate.weight.shape[1] != channels:
            raise CheckpointError(
                f"{folder / GATE} is for {gate.weight.shape[1]} channels, but the network has "
                f"{channels}; write it anew with `python -m trainer.evaluate`"
            )

    def _recognize(self, views: list[View], top_k: int) -> list[Recognition]:
        logits, features, _ = self.look(views)
        refusals: list[str | None] = [None] * len(views)
        if self.gate:
            refusals = self.gate.refusals(features)
        if self._classifier_gate:
            seen = [view.gate_pixels for view in views if view.gate_pixels is not None]
            refusals = self._classifier_gate.refusals(torch.stack(seen))
        return self.judge.recognitions(logits, refusals, top_k)


def _check_top_k(top_k: int) -> None:
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; ask for at least 1 answer")
