"""From probabilities to an answer that can be acted on: how sure, how much of it, and why."""

from dataclasses import dataclass

import torch

from space.answers import (
    AUTO_TAG,
    LEVELS,
    MAKE,
    MODEL,
    REJECTED,
    REVIEW,
    YEAR,
    MakeScore,
    ModelScore,
    Plausible,
    Prediction,
    Recognition,
    YearScore,
    quoted,
)
from space.calibration import Calibration, ConfidenceMap
from space.labels import Car
from space.levels import Levels

_UNCALIBRATED = (
    "the checkpoint has no calibration.json: its confidences are uncalibrated, and nothing is "
    "tagged without a look"
)
_WORTH_NAMING = 0.01  # the least probability of a year that a doubt speaks of


@dataclass(frozen=True)
class Judge:
    """Turns logits into recognitions.

    Attributes:
        labels, cars: of the classes.
        levels: the classes summed up.
        calibration: of the checkpoint, or None.
        precision: the share of auto-tagged answers that should be right; one of the targets in
            `calibration.thresholds`.
        coverage: the share of photos whose class should be in the plausible set; likewise.
    """

    labels: tuple[str, ...]
    cars: tuple[Car, ...]
    levels: Levels
    calibration: Calibration | None
    precision: float
    coverage: float

    def __post_init__(self):
        if self.calibration:
            _entry(self.calibration.thresholds, self.precision, "precision")
            _entry(self.calibration.plausible, self.coverage, "coverage")

    def confidences(self, logits: torch.Tensor) -> dict[str, torch.Tensor]:
        """For each level how sure each make, model or class is.

        Args:
            logits: shape (photos, classes).

        Returns:
            float64; shapes (photos, makes), (photos, models) and (photos, classes). The best make
            is never less sure than the best model of it, nor that than its best class.
        """
        calibration = self.calibration
        sums = self.levels.sums(self._tempered(logits))
        if calibration is None:
            return sums
        scores = {level: _mapped(sums[level], calibration.confidence[level]) for level in LEVELS}
        for lower, higher in ((YEAR, MODEL), (MODEL, MAKE)):
            for row, best in enumerate(scores[lower].argmax(dim=1).tolist()):
                above = self._parent(lower, best)
                scores[higher][row, above] = scores[higher][row, above].max(
                    scores[lower][row, best]
                )
        return scores

    def plausible(self, logits: torch.Tensor) -> torch.Tensor:
        """Which classes are in the conformal set of each photo, bool, shape (photos, classes).

        The best class always is, so that the set is never empty, which only adds coverage.
        """
        probabilities = self._tempered(logits)
        inside = probabilities == probabilities.amax(dim=1, keepdim=True)
        if self.calibration:
            inside |= probabilities >= self.calibration.plausible[f"{self.coverage:g}"]
        return inside

    def recognitions(
        self, logits: torch.Tensor, refusals: list[str | None], top_k: int
    ) -> list[Recognition]:
        """The answers to a batch.

        Args:
            logits: shape (photos, classes).
            refusals: for each photo what the gate has against it, or None.
            top_k: how many classes, makes, models and years to name at most.
        """
        scores = self.confidences(logits)
        raw = logits.double().softmax(dim=1)
        sets = self.plausible(logits)
        unlike = f"this is unlike all {len(self.labels)} classes that the checkpoint knows"
        unknown = self.unknown(logits)
        return [
            self._recognition(
                {level: scores[level][row] for level in LEVELS},
                raw[row],
                sets[row],
                refusals[row] or (unlike if unknown[row] else None),
                top_k,
            )
            for row in range(len(logits))
        ]

    def _tempered(self, logits: torch.Tensor) -> torch.Tensor:
        temperature = self.calibration.temperature if self.calibration else 1.0
        return (logits.double() / temperature).softmax(dim=1)

    def _parent(self, level: str, number: int) -> int:
        """The model of a class, or the make of a model."""
        if level == YEAR:
            return int(self.levels.index[MODEL][number])
        return self.levels.makes.index(self.levels.models[number][0])

    def unknown(self, logits: torch.Tensor) -> torch.Tensor:
        """Which photos are unlike every class: the best logit (Hendrycks et al. 2022,
        arXiv:1911.11132) is low; bool, shape (photos,)."""
        known = self.calibration.known if self.calibration else None
        best = logits.max(dim=1).values
        return torch.zeros_like(best, dtype=torch.bool) if known is None else best < known

    def _recognition(
        self,
        scores: dict[str, torch.Tensor],
        raw: torch.Tensor,
        inside: torch.Tensor,
        refusal: str | None,
        top_k: int,
    ) -> Recognition:
        predictions = tuple(
            Prediction(self.labels[i], car.make, car.model, car.year, confidence, float(raw[i]))
            for i, confidence in _best(scores[YEAR], top_k)
            for car in (self.cars[i],)
        )
        makes = tuple(MakeScore(self.levels.makes[i], c) for i, c in _best(scores[MAKE], top_k))
        models = tuple(
            ModelScore(*self.levels.models[i], c) for i, c in _best(scores[MODEL], top_k)
        )
        best = predictions[0]
        years = self._years(scores[YEAR], best, top_k)
        order = scores[YEAR].argsort(descending=True, stable=True)
        plausible = Plausible(
            tuple(self.labels[i] for i in order.tolist() if inside[i]),
            self.coverage if self.calibration else None,
        )
        finest = YEAR if best.year is not None else MODEL if best.model else MAKE
        level = self._level(scores, finest)
        if refusal:
            verdict, reason, level = REJECTED, refusal, None
        elif self.calibration is None:
            verdict, reason = REVIEW, _UNCALIBRATED
        elif level == finest:
            verdict, reason = AUTO_TAG, f"of answers this sure {self.precision:.0%} are right"
        else:
            verdict, reason = REVIEW, self._doubt(level, best, models, years, plausible)
        return Recognition(verdict, reason, level, predictions, makes, models, years, plausible)

    def _years(self, scores: torch.Tensor, best: Prediction, top_k: int) -> tuple[YearScore, ...]:
        """The years of a model; a year that several classes share has the sum of them."""
        sums: dict[int, float] = {}
        for car, confidence in zip(self.cars, scores.tolist(), strict=True):
            if car.year is not None and (car.make, car.model) == (best.make, best.model):
                sums[car.year] = min(1.0, sums.get(car.year, 0.0) + confidence)
        ranked = sorted(sums.items(), key=lambda item: -item[1])
        return tuple(YearScore(year, confidence) for year, confidence in ranked[:top_k])

    def _level(self, scores: dict[str, torch.Tensor], finest: str) -> str | None:
        """How much of the best class, which says up to `finest`, is sure enough."""
        if self.calibration is None:
            return None
        best = int(scores[YEAR].argmax())
        thresholds = self.calibration.thresholds[f"{self.precision:g}"]
        for level in reversed(LEVELS):
            threshold = thresholds[level]
            if threshold is not None and scores[level][self.levels.index[level][best]] >= threshold:
                return min(level, finest, key=LEVELS.index)
        return None

    def _doubt(
        self,
        level: str | None,
        best: Prediction,
        models: tuple[ModelScore, ...],
        years: tuple[YearScore, ...],
        plausible: Plausible,
    ) -> str:
        """What is sure and what is not."""
        if level == MODEL:
            span = sorted(score.year for score in years if score.confidence >= _WORTH_NAMING)
            between = f": {span[0]}–{span[-1]}" if len(span) > 1 else ""
            return f"sure of {best.make} {best.model}, year unsure{between}"
        if level == MAKE:
            some = [score.model for score in models[:3] if score.make == best.make]
            return f"sure of {best.make}, model unsure: {quoted(some)}"
        if len(plausible.labels) > 1:
            times = f"{100 * self.coverage:g} times in 100"
            return f"the car is one of {len(plausible.labels)} classes, {times}"
        return f"of answers this sure fewer than {self.precision:.0%} are right"


def _entry(table, share: float, name: str) -> None:
    if f"{share:g}" not in table:
        offered = ", ".join(table)
        raise ValueError(f"{name} is {share:g}; the checkpoint was calibrated for {offered}")


def _mapped(probabilities: torch.Tensor, confidence: ConfidenceMap) -> torch.Tensor:
    """Calibrates the best of each row, and scales the others so that the row still sums to one.

    None of the others ends above the best.
    """
    top, index = probabilities.max(dim=1, keepdim=True)
    best = confidence(top)
    others = probabilities.scatter(1, index, 0)
    rest = others.sum(dim=1, keepdim=True).clamp(min=1e-300)
    return (others * ((1 - best) / rest)).minimum(best).scatter(1, index, best)


def _best(scores: torch.Tensor, top_k: int) -> list[tuple[int, float]]:
    values, indices = scores.topk(min(top_k, len(scores)))
    # A sum of probabilities may end a hair above 1.
    return [(i, min(v, 1.0)) for i, v in zip(indices.tolist(), values.tolist(), strict=True)]
