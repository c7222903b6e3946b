"""What Marque answers: plain data, the same for Python, the command line and the endpoints."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from space.boxes import Box

AUTO_TAG, REVIEW, REJECTED = "auto-tag", "review", "rejected"

# How much an answer says, from little to much: each level includes the ones before it.
MAKE, MODEL, YEAR = "make", "model", "year"
LEVELS = (MAKE, MODEL, YEAR)


@dataclass(frozen=True)
class Prediction:
    """One class and how sure the answer is.

    Attributes:
        label: the class's name as the dataset writes it.
        make, model, year: what the label says; year is None when it gives none.
        confidence: the probability that this is the car, 0 to 1; calibrated if the checkpoint is.
        score: the softmax of the network, 0 to 1, as timm and transformers give it.
    """

    label: str
    make: str
    model: str
    year: int | None
    confidence: float
    score: float


@dataclass(frozen=True)
class MakeScore:
    """A make and the probability of it, whatever the model; 0 to 1."""

    make: str
    confidence: float


@dataclass(frozen=True)
class ModelScore:
    """A model of a make and the probability of it, whatever the year; 0 to 1."""

    make: str
    model: str
    confidence: float


@dataclass(frozen=True)
class YearScore:
    """A year of the first prediction's model, and the probability of both together; 0 to 1."""

    year: int
    confidence: float


@dataclass(frozen=True)
class Plausible:
    """The classes among which the right one is, in `coverage` of all photos of known cars.

    Attributes:
        labels: best first, never empty.
        coverage: such as 0.95; None when the checkpoint was not calibrated, and `labels` is then
            the best answer alone.
    """

    labels: tuple[str, ...]
    coverage: float | None


@dataclass(frozen=True)
class Recognition:
    """The answer to one photo.

    Attributes:
        verdict: "auto-tag": the first prediction can be taken as it stands; "review": a person
            should look at it; "rejected": no known car from outside. Empty when the photo could
            not be read.
        reason: why, in plain words.
        level: how much of the first prediction is sure: "year", "model", "make", or None.
        predictions: the most likely classes, best first.
        makes, models: the most likely makes and models, best first, each summed over its classes.
        years: the years of the first prediction's model, best first; empty when it has none.
        plausible: the classes that the right one is among.
        error: why the photo could not be read, if so; all else is empty then.
        box: which car was named, as shares of the photo's width and height; None where the whole
            photo was looked at, and where what was looked at is no car.
        cars_found: how many vehicles are in the photo; None where the checkpoint looks for none.
        catalogue: what the answer was confined to, as it was asked for; None for all classes.
    """

    verdict: str = ""
    reason: str = ""
    level: str | None = None
    predictions: tuple[Prediction, ...] = ()
    makes: tuple[MakeScore, ...] = ()
    models: tuple[ModelScore, ...] = ()
    years: tuple[YearScore, ...] = ()
    plausible: Plausible | None = None
    error: str | None = None
    box: Box | None = None
    cars_found: int | None = None
    catalogue: str | None = None

    def as_json(self) -> dict[str, Any]:
        """All of it in types that JSON has; the box as [left, upper, right, lower]."""
        return asdict(self) | {"box": list(self.box) if self.box else None}


def quoted(names: Sequence[str]) -> str:
    """Names in a sentence: "a", "a or b", "a, b or c"."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
