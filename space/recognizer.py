"""The recogniser: photos in, cars out. Every door of Marque answers through it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import overload

import torch
from PIL import Image

from space.checkpoints import Checkpoint, open_checkpoint
from space.explain import Explainer
from space.labels import Car
from space.photos import PhotoError, PhotoSource, load_photo
from space.transforms import normalize, to_pixels

# Photos that go through the network together when many are given; more gains nothing on a CPU.
BATCH_SIZE = 16


@dataclass(frozen=True)
class Prediction:
    """One class and how sure the network is of it.

    Attributes:
        label: the class's name as the data set writes it.
        make, model, year: what the label says; year is None when it gives none.
        confidence: softmax probability, 0 to 1.
    """

    label: str
    make: str
    model: str
    year: int | None
    confidence: float


@dataclass(frozen=True)
class MakeScore:
    """A make and the summed confidence of all its classes, 0 to 1."""

    make: str
    confidence: float


@dataclass(frozen=True)
class Recognition:
    """The answer to one photo.

    Attributes:
        predictions: the most likely classes, best first.
        makes: the most likely makes, best first.
        error: why the photo could not be read, if so; both lists are empty then.
    """

    predictions: tuple[Prediction, ...] = ()
    makes: tuple[MakeScore, ...] = ()
    error: str | None = None


class CarRecognizer:
    """Names the cars in photos with one checkpoint. Safe to share between threads.

    Attributes:
        labels: the classes it knows, in the order of the network's outputs.
        cars: the make, model and year that each of them means.
        source, revision: which checkpoint answers; see `space.checkpoints.Checkpoint`.
    """

    def __init__(self, checkpoint: Checkpoint, device: str | torch.device = "cpu"):
        """Takes an opened checkpoint; `from_pretrained` opens one by its source."""
        self.labels = checkpoint.labels
        self.source = checkpoint.source
        self.revision = checkpoint.revision
        self.data_config = checkpoint.data_config
        self.model = checkpoint.model.to(device).to(memory_format=torch.channels_last)
        self._device = torch.device(device)
        self._to_pixels = to_pixels(checkpoint.data_config)
        self.cars: tuple[Car, ...] = checkpoint.cars
        self._makes = tuple(sorted({car.make for car in self.cars}))
        index = {make: position for position, make in enumerate(self._makes)}
        self._make_of_class = torch.tensor([index[car.make] for car in self.cars])
        self._explainer = Explainer(self.model, checkpoint.data_config)

    @classmethod
    def from_pretrained(
        cls, source: str | Path | None = None, device: str | torch.device = "cpu"
    ) -> "CarRecognizer":
        """Opens a checkpoint: a folder, `org/name[@revision]`, or None for the bundled default.

        Raises:
            CheckpointError: see `space.checkpoints.open_checkpoint`.
        """
        return cls(open_checkpoint(source), device)

    @overload
    def predict(self, photo: PhotoSource, top_k: int = 5) -> Recognition: ...

    @overload
    def predict(self, photo: list[PhotoSource], top_k: int = 5) -> list[Recognition]: ...

    def predict(self, photo, top_k=5):
        """Names the car in a photo, or the car in each photo of a list.

        Args:
            photo: a path, the bytes of a picture file, a PIL picture, or a list of these.
            top_k: how many classes and makes to return at most, 1 or more.

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
        return self._recognize([self._read(photo)], top_k)[0]

    def stream(self, photos: Iterable[PhotoSource], top_k: int = 5) -> Iterator[Recognition]:
        """Like `predict` of a list, but lazily and in memory that does not grow with it."""
        _check_top_k(top_k)
        photos = iter(photos)
        while batch := list(islice(photos, BATCH_SIZE)):
            readable: list[torch.Tensor] = []
            errors: list[str | None] = []
            for photo in batch:
                try:
                    readable.append(self._read(photo))
                    errors.append(None)
                except PhotoError as error:
                    errors.append(str(error))
            recognitions = iter(self._recognize(readable, top_k) if readable else ())
            for reason in errors:
                yield Recognition(error=reason) if reason else next(recognitions)

    def probabilities(self, pixels: torch.Tensor) -> torch.Tensor:
        """Class probabilities, (batch, classes), of uint8 pixels (batch, 3, height, width)."""
        with torch.inference_mode():
            inputs = normalize(pixels.to(self._device), self.data_config)
            logits = self.model(inputs.contiguous(memory_format=torch.channels_last))
            return logits.float().softmax(dim=1).cpu()

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
        if label is None:
            target = int(self.probabilities(pixels).argmax())
        else:
            target = self.labels.index(label)
        return self._explainer.overlay(picture, pixels, target)

    def _read(self, photo: PhotoSource) -> torch.Tensor:
        return self._to_pixels(load_photo(photo))

    def _recognize(self, pixels: list[torch.Tensor], top_k: int) -> list[Recognition]:
        probabilities = self.probabilities(torch.stack(pixels))
        makes = torch.zeros(len(pixels), len(self._makes))
        makes.index_add_(1, self._make_of_class, probabilities)
        return [
            Recognition(
                predictions=tuple(
                    Prediction(self.labels[i], car.make, car.model, car.year, confidence)
                    for i, confidence in _best(row, top_k)
                    for car in (self.cars[i],)
                ),
                makes=tuple(
                    MakeScore(self._makes[i], confidence)
                    for i, confidence in _best(make_row, top_k)
                ),
            )
            for row, make_row in zip(probabilities, makes, strict=True)
        ]


def _check_top_k(top_k: int) -> None:
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; ask for at least 1 answer")


def _best(scores: torch.Tensor, top_k: int) -> list[tuple[int, float]]:
    values, indices = scores.topk(min(top_k, len(scores)))
    # A sum of float32 probabilities may end a hair above 1.
    return [(i, min(v, 1.0)) for i, v in zip(indices.tolist(), values.tolist(), strict=True)]
