"""What a seller says, checked against the photo: agrees, contradicts, cannot tell."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from space.answers import REJECTED, Recognition
from space.catalogue import matching
from space.labels import Car
from space.names import find_make, parse_name

AGREES, CONTRADICTS, CANNOT_TELL = "agrees", "contradicts", "cannot tell"
MODEL_UNKNOWN = "the checkpoint does not know this model, so the photo cannot refute it"
_YEAR = re.compile(r"(?:18|19|20)\d\d")


@dataclass(frozen=True)
class Claim:
    """What a text says about a car, in terms of the classes.

    Attributes:
        text: as it was given.
        classes: the numbers of the classes that it may mean, years aside; empty when none does.
        year: that it names, or None.
        make_only: the make is known and the model is not among the classes, so that a photo can
            support the text, but not refute it.
    """

    text: str
    classes: tuple[int, ...]
    year: int | None
    make_only: bool

    @classmethod
    def read(cls, text: str, cars: Sequence[Car]) -> "Claim":
        """Reads "Golf 2012", "VW Golf", "2012 Volkswagen Golf" or a make."""
        words = text.split()
        told = parse_name(text)
        if told:
            year, name = told.year, f"{told.make} {told.model}"
        else:
            years = [word for word in words if _YEAR.fullmatch(word)] if len(words) > 1 else []
            year = int(years[-1]) if years else None
            name = " ".join(word for word in words if word != str(year))
        classes = matching(name, cars)
        if classes:
            return cls(text, tuple(classes), year, False)
        make = next((find_make(words, n) for n in range(len(words)) if find_make(words, n)), None)
        found = matching(make[0], cars) if make else []
        return cls(text, tuple(found), year, bool(found))


@dataclass(frozen=True)
class Check:
    """Whether a photo bears out what was said.

    Attributes:
        result: "agrees", "contradicts" or "cannot tell".
        reason: why, in plain words.
        confidence: the probability that the photo shows what was said, 0 to 1; None when it cannot
            be told.
        recognition: what the photo shows.
    """

    result: str
    reason: str
    confidence: float | None
    recognition: Recognition

    def as_json(self) -> dict[str, Any]:
        """All of it in types that JSON has."""
        return asdict(self) | {"recognition": self.recognition.as_json()}


def check(
    claim: Claim,
    recognition: Recognition,
    confidences: np.ndarray,
    cars: Sequence[Car],
    agrees: float | None,
    contradicts: float | None,
) -> Check:
    """Compares a claim with the answer to a photo.

    Args:
        recognition: the answer.
        confidences: of all classes, shape (classes,).
        cars: of the classes.
        agrees, contradicts: from which confidence up, and to which down; None for never.
    """
    if recognition.error or recognition.verdict == REJECTED:
        return Check(CANNOT_TELL, recognition.error or recognition.reason, None, recognition)
    if not claim.classes:
        return Check(
            CANNOT_TELL, f"the checkpoint knows no car called {claim.text!r}", None, recognition
        )
    sure = min(1.0, float(confidences[list(claim.classes)].sum()))
    best = recognition.predictions[0]
    shown = " ".join(filter(None, (best.make, best.model)))
    if agrees is not None and sure >= agrees:
        if claim.make_only:
            reason = f"the make agrees; the checkpoint does not know this model of {best.make}"
        else:
            reason = f"the photo shows {shown}" + _about_year(claim, best.year, cars)
        return Check(AGREES, reason, sure, recognition)
    if contradicts is not None and sure <= contradicts and not claim.make_only:
        return Check(CONTRADICTS, f"the photo shows {shown}", sure, recognition)
    if claim.make_only:
        reason = MODEL_UNKNOWN
    else:
        reason = f"the photo may show {shown}, which is not sure enough either way"
    return Check(CANNOT_TELL, reason, sure, recognition)


def _about_year(claim: Claim, year: int | None, cars: Sequence[Car]) -> str:
    if claim.year is None or year == claim.year:
        return ""
    known = {cars[number].year for number in claim.classes} - {None}
    if claim.year not in known:
        return f"; the year {claim.year} cannot be told, as no class names it"
    return f"; it looks more like {year} than {claim.year}" if year else ""
