"""The recognizer: photos in, cars out. Every door of Marque answers through it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
from PIL import Image

from space.answers import YEAR, Recognition
from space.boxes import Box
from space.calibration import read_calibration
from space.catalogue import choose, narrowed, read_items
from space.checkpoints import Checkpoint, open_checkpoint
from space.claims import Check, Claim, check
from space.errors import CheckpointError
from space.explain import heat_map, scaled
from space.fusion import fuse
from space.gate import FeatureGate
from space.labels import Car
from space.levels import Levels
from space.memory import Memory, read_memory
from space.network import engine_of
from space.outputs import Outputs, joined
from space.photos import PhotoSource, load_photo
from space.preprocessing import Prepared, Preprocessor
from space.reading import attempt, read_ahead
from space.search import most_like_a_car, scored
from space.transforms import normalize
from space.verdict import DecisionRule

# Photos that go through the network together when many are given; more gains nothing on a CPU.
BATCH_SIZE = 16


class CarRecognizer:
    """Names the cars in photos with one checkpoint. Safe to share between threads.

    Attributes:
        labels: the classes it knows, in the order of the network's outputs.
        cars: the make, model and year that each of them means.
        checkpoint: which one answers, and `source` and `revision` of it.
        rule: how its logits become answers; `rule.calibration` is None when the checkpoint was
            never calibrated, and confidences are the raw softmax then.
        gate: rejects photos that show no car from outside, or None.
        preprocess: from a picture to what the network sees of it.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "cpu",
        *,
        precision: float = 0.98,
        coverage: float = 0.95,
        calibrated: bool = True,
        catalogue: str | Sequence[str] | None = None,
    ):
        """Takes an opened checkpoint; `from_pretrained` opens one by its source.

        Args:
            device: where the network runs.
            precision: the share of auto-tagged answers that should be right, 0 to 1.
            coverage: the share of photos whose class should be among the plausible ones, 0 to 1.
            calibrated: False answers as if the checkpoint had no calibration.
            catalogue: answer with these classes alone, see `within`.

        Raises:
            CheckpointError: the calibration, or the gate, does not fit; or the checkpoint was not
                calibrated for this precision or coverage.
            MarqueError: the catalogue is empty or unknown.
        """
        self.labels = checkpoint.labels
        self.source = checkpoint.source
        self.revision = checkpoint.revision
        self.data_config = checkpoint.data_config
        self.checkpoint = checkpoint
        self._engine = engine_of(checkpoint, device)
        self.preprocess = Preprocessor(checkpoint.data_config, checkpoint.car_crop)
        self.cars: tuple[Car, ...] = checkpoint.cars
        calibration = read_calibration(checkpoint.folder) if calibrated else None
        try:
            self.rule = DecisionRule(
                self.labels, self.cars, Levels(self.cars), calibration, precision, coverage
            )
        except ValueError as error:
            raise CheckpointError(f"{self.source}: {error}") from None
        self.gate: FeatureGate | None = None
        if calibration and calibration.gate is not None:
            self.gate = FeatureGate.read(checkpoint.folder, calibration.gate)
            black = np.zeros((1, *self.data_config["input_size"]), np.uint8)
            self.gate.check(self.forward(black).features.shape[1], checkpoint.folder)
        self._all = self.rule
        self._chosen: np.ndarray | None = None
        self.catalogue: str | None = None
        if catalogue is not None:
            self._confine(catalogue)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path | None = None,
        device: str = "cpu",
        *,
        precision: float = 0.98,
        coverage: float = 0.95,
        calibrated: bool = True,
        catalogue: str | Sequence[str] | None = None,
    ) -> "CarRecognizer":
        """Opens a checkpoint: a folder, `org/name[@revision]`, or None for the bundled default.

        The other arguments are those of the class.

        Raises:
            CheckpointError: see `space.checkpoints.open_checkpoint`, and above.
            MarqueError: see above.
        """
        return cls(
            open_checkpoint(source),
            device,
            precision=precision,
            coverage=coverage,
            calibrated=calibrated,
            catalogue=catalogue,
        )

    def within(self, catalogue: str | Sequence[str] | None) -> "CarRecognizer":
        """The same recognizer, confined to some of its classes; the network is shared.

        Args:
            catalogue: makes, models, years ("2005-2012"), markets (datasets that the checkpoint
                names) or labels, as a list or separated by commas; None for all classes.

        Raises:
            MarqueError: it is empty, or an item is unknown; the message has the nearest names.
        """
        _ = catalogue is not None and self.memory  # read once, not by every copy
        other = copy(self)
        other.rule, other._chosen, other.catalogue = self._all, None, None
        if catalogue is not None:
            other._confine(catalogue)
        return other

    @cached_property
    def memory(self) -> Memory | None:
        """What the checkpoint remembers of held-out photos; None for one without.

        Raises:
            CheckpointError: it is damaged.
        """
        return read_memory(self.checkpoint.folder)

    def _confine(self, catalogue: str | Sequence[str]) -> None:
        items = read_items(catalogue) if isinstance(catalogue, str) else list(catalogue)
        markets = self.memory.markets if self.memory else {}
        self._chosen = choose(items, self._all.labels, self._all.cars, markets)
        self.rule = narrowed(self._all, self._chosen, self.memory)
        self.catalogue = ", ".join(items)

    @overload
    def predict(
        self, photo: PhotoSource, top_k: int = 5, *, box: Box | None = None
    ) -> Recognition: ...

    @overload
    def predict(self, photo: list[PhotoSource], top_k: int = 5) -> list[Recognition]: ...

    def predict(self, photo, top_k=5, *, box=None):
        """Names the most prominent car in a photo, or in each photo of a list.

        Args:
            photo: a path, the bytes of a picture file, a PIL picture, or a list of these.
            top_k: how many classes, makes, models and years to return at most, 1 or more.
            box: where the car is, if that is known; else the most prominent car is found.

        Returns:
            A `Recognition`; for a list, a list of them in the same order, in which a photo that
            cannot be read has its `error` set and costs the others nothing.

        Raises:
            PhotoError: a single photo cannot be read.
            ValueError: top_k is below 1, or a list is given with a box.
        """
        if isinstance(photo, (list, tuple)):
            if box is not None:
                raise ValueError("a box is of one photo; ask for each photo on its own")
            return list(self.stream(photo, top_k))
        _check_top_k(top_k)
        return self._recognize([self.prepare(photo, box)], top_k)[0]

    def predict_all(self, photo: PhotoSource, top_k: int = 5) -> list[Recognition]:
        """Names every car in a photo, the most prominent first.

        Arguments and errors are those of `predict`. Where the detector finds no car, or the gate
        refuses all that it finds, or the checkpoint looks for none, the list holds the one answer
        that `predict` gives.
        """
        _check_top_k(top_k)
        return self._recognize(self._each_car(photo), top_k)

    def predict_car(self, photos: Sequence[PhotoSource], top_k: int = 5) -> Recognition:
        """Names one car from several photos of it, as a listing has them; see `space.fusion`.

        Photos that cannot be read, and those that the gate refuses, as of the inside, do not count
        unless all are such.

        Args:
            photos: of the same car, one or more; as for `predict`.
            top_k: as for `predict`.

        Returns:
            One `Recognition`; with its `error` set where no photo could be read.

        Raises:
            ValueError: there are no photos, or top_k is below 1.
        """
        _check_top_k(top_k)
        if not photos:
            raise ValueError("there are no photos; give one or more of the same car")
        tried = [attempt(lambda photo: [self.prepare(photo)], photo) for photo in photos]
        prepared = [part for some in tried if not isinstance(some, str) for part in some]
        if not prepared:
            return Recognition(error=next(some for some in tried if isinstance(some, str)))
        outputs = self.infer(prepared)
        logits = self._confined(outputs.logits)
        refusals = self.refusals(outputs.features)
        kept = [n for n, refusal in enumerate(refusals) if refusal is None]
        used = kept or list(range(len(prepared)))
        areas = np.array([part.box.area if (part := prepared[n]).box else 1.0 for n in used])
        fused = fuse(logits[used], areas, self._all.calibration)
        (answer,) = self.rule.recognitions(fused, [None if kept else refusals[0]], top_k)
        return replace(answer, catalogue=self.catalogue)

    def check(self, photo: PhotoSource, text: str, *, box: Box | None = None) -> Check:
        """Whether a photo bears out what is said of the car, such as "Golf 2012".

        Args:
            photo, box: as for `predict`.
            text: a make, a model or both, with or without a year.

        Raises:
            PhotoError: the photo cannot be read.
            ValueError: the text is blank.
        """
        if not text.strip():
            raise ValueError("there is nothing to check; say a make or a model, such as Golf 2012")
        prepared = self.prepare(photo, box)
        outputs = self.infer([prepared])
        (recognition,) = self._name([prepared], outputs, 5)
        rule, limits = self.rule, self.rule.calibration
        return check(
            Claim.read(text, rule.cars),
            recognition,
            rule.confidences(self._confined(outputs.logits))[YEAR][0],
            rule.cars,
            limits.agrees if limits else None,
            limits.contradicts if limits else None,
        )

    def stream(self, photos: Iterable[PhotoSource], top_k: int = 5) -> Iterator[Recognition]:
        """Like `predict` of a list, but lazily and in memory that does not grow with it.

        At most two batches of photos (2 × `BATCH_SIZE`) are taken before their answers are.
        """
        for (recognition,) in self._stream(photos, top_k, lambda photo: [self.prepare(photo)]):
            yield recognition

    def stream_all(
        self, photos: Iterable[PhotoSource], top_k: int = 5
    ) -> Iterator[list[Recognition]]:
        """Like `stream`, with the answers of `predict_all` for each photo.

        A photo that cannot be read has one answer, with its `error`.
        """
        return self._stream(photos, top_k, self._each_car)

    def prepare(self, photo: PhotoSource, box: Box | None = None) -> Prepared:
        """Makes a photo, or the car at `box` in it, ready for the network.

        Where the detector finds no plain car, or the gate doubts the one that it finds, the photo
        is searched, and the view that looks most like a car is taken; see `space.search`.

        Raises:
            PhotoError: the photo cannot be read.
        """
        picture = load_photo(photo)
        if box is not None:
            return Prepared(self.preprocess.cut(picture, box), box)
        return most_like_a_car(self.preprocess.views(picture), self.infer, self.gate)

    def _each_car(self, photo: PhotoSource) -> list[Prepared]:
        picture = load_photo(photo)
        cars = self.preprocess.each_car(picture)
        if cars and self.gate:
            cars, scores = scored(cars, self.infer, self.gate)
            if scores.max() < self.gate.threshold:
                cars = []
        return cars or [self.prepare(picture)]

    def forward(self, pixels: np.ndarray) -> Outputs:
        """One pass of the network; its softmax of the logits is the `score` of every prediction.

        Args:
            pixels: uint8, shape (batch, 3, height, width), see `space.preprocessing.Prepared`.
        """
        return self._engine(normalize(pixels, self.data_config))

    def infer(self, prepared: Sequence[Prepared]) -> Outputs:
        """What the network makes of what was prepared, one or more, `BATCH_SIZE` at a time."""
        pixels = [part.pixels for part in prepared if part.outputs is None]
        starts = range(0, len(pixels), BATCH_SIZE)
        batches = [self.forward(np.stack(pixels[at : at + BATCH_SIZE])) for at in starts]
        new = (one for batch in batches for one in batch.each())
        return joined([part.outputs or next(new) for part in prepared])

    def explain(
        self,
        photo: PhotoSource,
        label: str | None = None,
        *,
        against: str | None = None,
        box: Box | None = None,
    ) -> Image.Image:
        """The photo with a heat map over it; see `space.explain.heat_map` for all but what comes
        out: an RGB picture, its long side at most `space.explain.MAX_SIDE` pixels."""
        return heat_map(self, photo, label, against=against, box=box).overlay()

    def heat(self, prepared: Prepared, target: int, other: int | None = None) -> np.ndarray:
        """Grad-CAM of a class, 0 to 1, shape (rows, columns); see `space.network.Engine.cam`."""
        inputs = normalize(prepared.pixels[None], self.data_config)
        return scaled(self._engine.cam(inputs, target, other))

    def best_label(self, prepared: Prepared) -> str:
        """The label of the most likely class."""
        logits = self._confined(self.infer([prepared]).logits)
        return self.rule.labels[int(logits.argmax())]

    def refusals(self, features: np.ndarray) -> list[str | None]:
        """What the gate has against each photo, by its features; None for one that passes."""
        return self.gate.refusals(features) if self.gate else [None] * len(features)

    def _recognize(self, prepared: Sequence[Prepared], top_k: int) -> list[Recognition]:
        return self._name(prepared, self.infer(prepared), top_k) if prepared else []

    def _name(
        self, prepared: Sequence[Prepared], outputs: Outputs, top_k: int
    ) -> list[Recognition]:
        """The answers to what the network made of photos, or of parts of them."""
        refusals = self.refusals(outputs.features)
        answers = self.rule.recognitions(self._confined(outputs.logits), refusals, top_k)
        named = []
        for answer, part, refusal in zip(answers, prepared, refusals, strict=True):
            box, found = part.box, part.cars_found
            if box and found == 0:  # what may be a car is one if the gate says so
                box, found = (None, 0) if refusal else (box, 1)
            named.append(replace(answer, box=box, cars_found=found, catalogue=self.catalogue))
        return named

    def _confined(self, logits: np.ndarray) -> np.ndarray:
        """The logits of the catalogue's classes."""
        return logits if self._chosen is None else logits[:, self._chosen]

    def _stream(
        self,
        photos: Iterable[PhotoSource],
        top_k: int,
        prepare: Callable[[PhotoSource], list[Prepared]],
    ) -> Iterator[list[Recognition]]:
        """For each photo an answer to each of its parts that `prepare` makes ready."""
        _check_top_k(top_k)
        for batch in read_ahead(photos, prepare, BATCH_SIZE):
            yield from self._answers(batch, top_k)

    def _answers(
        self, photos: Sequence[list[Prepared] | str], top_k: int
    ) -> Iterator[list[Recognition]]:
        """The answers of photos whose parts are ready; of others a string says why not."""
        parts = [part for photo in photos if not isinstance(photo, str) for part in photo]
        answers = iter(self._recognize(parts, top_k))
        for photo in photos:
            if isinstance(photo, str):
                yield [Recognition(error=photo)]
            else:
                yield list(islice(answers, len(photo)))


def _check_top_k(top_k: int) -> None:
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; ask for at least 1 answer")
