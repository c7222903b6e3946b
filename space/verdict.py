"""From probabilities to an answer that can be acted on: how sure, how much of it, and why."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
from space.calibration import Calibration, ConfidenceMap, softmax
from space.labels import Car
from space.levels import Levels

_UNCALIBRATED = (
    "the checkpoint has no calibration.json: its confidences are uncalibrated, and nothing is "
    "tagged without a look"
)
UNFAMILIAR = "this may be a car that the checkpoint does not know"
WORTH_NAMING = 0.01  # the least probability of a year or a model that a doubt speaks of
_TINY = 1e-300  # in place of zero below a fraction


@dataclass(frozen=True)
class DecisionRule:
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

    def confidences(self, logits: np.ndarray) -> dict[str, np.ndarray]:
        """For each level how sure each make, model or class is.

        Args:
            logits: shape (photos, classes).

        Returns:
            float64; shapes (photos, makes), (photos, models) and (photos, classes). Classes keep
            the order that the network gives them. The make of the best class is never less sure
            than its model, nor that than the class.
        """
        calibration = self.calibration
        sums = self.levels.sums(self._tempered(logits))
        if calibration is None:
            return sums
        scores = {level: _mapped(sums[level], calibration.confidence[level]) for level in LEVELS}
        best = scores[YEAR].argmax(axis=1)
        for lower, level in ((YEAR, MODEL), (MODEL, MAKE)):
            floor = np.take_along_axis(scores[lower], self.levels.index[lower][best, None], 1)
            scores[level] = _raised(scores[level], self.levels.index[level][best, None], floor)
        return scores

    def plausible(self, logits: np.ndarray) -> np.ndarray:
        """Which classes are in the conformal set of each photo, bool, shape (photos, classes).

        The best class always is, so that the set is never empty, which only adds coverage.
        """
        probabilities = self._tempered(logits)
        inside = probabilities == probabilities.max(axis=1, keepdims=True)
        if self.calibration:
            inside |= probabilities >= self.calibration.plausible[f"{self.coverage:g}"]
        return inside

    def recognitions(
        self, logits: np.ndarray, refusals: list[str | None], top_k: int
    ) -> list[Recognition]:
        """The answers to a batch.

        Args:
            logits: shape (photos, classes).
            refusals: for each photo what the gate has against it, or None.
            top_k: how many classes, makes, models and years to name at most.
        """
        scores = self.confidences(logits)
        raw = softmax(logits)
        sets = self.plausible(logits)
        unlike = f"this is unlike all {len(self.labels)} classes that the checkpoint knows"
        unknown, familiar = self.unknown(logits), self.familiar(logits)
        return [
            self._recognition(
                {level: scores[level][row] for level in LEVELS},
                raw[row],
                sets[row],
                refusals[row] or (unlike if unknown[row] else None),
                bool(familiar[row]),
                top_k,
            )
            for row in range(len(logits))
        ]

    def _tempered(self, logits: np.ndarray) -> np.ndarray:
        temperature = self.calibration.temperature if self.calibration else 1.0
        return softmax(logits.astype(np.float64) / temperature)

    def unknown(self, logits: np.ndarray) -> np.ndarray:
        """Which photos are unlike every class: the best logit (Hendrycks et al. 2022,
        arXiv:1911.11132) is low; bool, shape (photos,)."""
        known = self.calibration.known if self.calibration else None
        best = logits.max(axis=1)
        return np.zeros(len(best), bool) if known is None else best < known

    def familiar(self, logits: np.ndarray) -> np.ndarray:
        """Which photos are enough like a class to be tagged, by the best logit; bool, shape
        (photos,)."""
        least = self.calibration.familiar if self.calibration else None
        best = logits.max(axis=1)
        return np.ones(len(best), bool) if least is None else best >= least

    def _recognition(
        self,
        scores: dict[str, np.ndarray],
        raw: np.ndarray,
        inside: np.ndarray,
        refusal: str | None,
        familiar: bool,
        top_k: int,
    ) -> Recognition:
        ranked = _best(scores[YEAR])
        predictions = tuple(
            Prediction(self.labels[i], car.make, car.model, car.year, confidence, float(raw[i]))
            for i, confidence in ranked[:top_k]
            for car in (self.cars[i],)
        )
        makes = tuple(MakeScore(self.levels.makes[i], c) for i, c in _best(scores[MAKE]))
        models = tuple(ModelScore(*self.levels.models[i], c) for i, c in _best(scores[MODEL]))
        best = predictions[0]
        years = self._years(ranked, best)
        plausible = Plausible(
            tuple(self.labels[i] for i, _ in ranked if inside[i]),
            self.coverage if self.calibration else None,
        )
        finest = YEAR if best.year is not None else MODEL if best.model else MAKE
        level = self._level(scores, ranked[0][0], finest) if familiar else None
        if refusal:
            verdict, reason, level = REJECTED, refusal, None
        elif self.calibration is None:
            verdict, reason = REVIEW, _UNCALIBRATED
        elif not familiar:
            verdict, reason = REVIEW, UNFAMILIAR
        elif level == finest:
            # Of validation photos, for that is where the threshold was seen to hold.
            share = _percent(self.precision)
            verdict = AUTO_TAG
            reason = f"{share} of answers this confident were right on validation photos"
        else:
            verdict, reason = REVIEW, self._doubt(level, best, models, years, plausible)
        return Recognition(
            verdict,
            reason,
            level,
            predictions,
            makes[:top_k],
            models[:top_k],
            years[:top_k],
            plausible,
        )

    def _years(self, ranked: list[tuple[int, float]], best: Prediction) -> tuple[YearScore, ...]:
        """The years of a model; a year that several classes share has the sum of them."""
        sums: dict[int, float] = {}
        for i, confidence in ranked:
            car = self.cars[i]
            if car.year is not None and (car.make, car.model) == (best.make, best.model):
                sums[car.year] = min(1.0, sums.get(car.year, 0.0) + confidence)
        years = sorted(sums.items(), key=lambda item: -item[1])
        return tuple(YearScore(year, confidence) for year, confidence in years)

    def _level(self, scores: dict[str, np.ndarray], best: int, finest: str) -> str | None:
        """How much of the class `best`, which says up to `finest`, is sure enough."""
        if self.calibration is None:
            return None
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
        """What is sure and what is not; `models` and `years` are all there are, best first."""
        if level == MODEL:
            span = sorted(score.year for score in years if score.confidence >= WORTH_NAMING)
            between = f": {span[0]}–{span[-1]}" if len(span) > 1 else ""
            return f"sure of {best.make} {best.model}".rstrip() + f", year unsure{between}"
        if level == MAKE:
            some = [
                score.model
                for score in models
                if score.make == best.make and score.model and score.confidence >= WORTH_NAMING
            ]
            among = f": {quoted(some[:3])}" if len(some) > 1 else ""
            return f"sure of {best.make}, model unsure{among}"
        if len(plausible.labels) > 1:
            times = f"{100 * self.coverage:g} times in 100"
            return f"the car is one of {len(plausible.labels)} classes, {times}"
        share = _percent(self.precision)
        return f"fewer than {share} of answers this confident were right on validation photos"


def _entry(table, share: float, name: str) -> None:
    if f"{share:g}" not in table:
        offered = ", ".join(table)
        raise ValueError(f"{name} is {share:g}; the checkpoint was calibrated for {offered}")


def _percent(share: float) -> str:
    return f"{100 * share:g}%"


def _mapped(probabilities: np.ndarray, confidence: ConfidenceMap) -> np.ndarray:
    """Calibrates the best of each row, and scales the others so that the row still sums to one.

    Where that would lift the second best above the best, they are scaled to stay below it, and the
    row sums to less.
    """
    index = probabilities.argmax(axis=1)[:, None]
    best = confidence(np.take_along_axis(probabilities, index, 1))
    others = _with(probabilities, index, np.zeros(1))
    fill = (1 - best) / others.sum(axis=1, keepdims=True).clip(_TINY)
    below = best * (1 - 1e-9) / others.max(axis=1, keepdims=True).clip(_TINY)
    return _with(others * np.minimum(fill, below), index, best)


def _raised(scores: np.ndarray, index: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Lifts one entry of each row to `floor`; the others make room, so that none exceeds one.

    Args:
        scores: shape (photos, n).
        index, floor: which entry, and the least it may be; shape (photos, 1).
    """
    lifted = np.maximum(np.take_along_axis(scores, index, 1), floor)
    others = _with(scores, index, np.zeros(1))
    room = (1 - lifted) / others.sum(axis=1, keepdims=True).clip(_TINY)
    return _with(others * room.clip(max=1), index, lifted)


def _with(scores: np.ndarray, index: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A copy with one entry of each row replaced."""
    changed = scores.copy()
    np.put_along_axis(changed, index, values, 1)
    return changed


def _best(scores: np.ndarray) -> list[tuple[int, float]]:
    """The numbers of all entries with their scores, best first."""
    order = np.argsort(-scores, kind="stable")
    # A sum of probabilities may end a hair above 1.
    return [(i, min(v, 1.0)) for i, v in zip(order.tolist(), scores[order].tolist(), strict=True)]


def fit_thresholds(
    rule: DecisionRule, logits: np.ndarray, targets: np.ndarray, precisions: Sequence[float]
) -> dict[str, dict[str, float | None]]:
    """For each precision and level the confidence from which answers are that often right.

    Args:
        rule: its thresholds are not used.
        logits, targets: of held-out photos, shapes (photos, classes) and (photos,).
        precisions: below 1.
    """
    sure, hits = chain(rule, logits), right_at(rule.levels, logits, targets)
    return {
        f"{wanted:g}": {level: fit_threshold(sure[level], hits[level], wanted) for level in LEVELS}
        for wanted in precisions
    }


def fit_threshold(confidence: np.ndarray, right: np.ndarray, target: float) -> float | None:
    """The lowest confidence from which on at least `target` of the answers are right, or None.

    Among so few answers that a single wrong one would miss the target, it is not seen to be
    reached: 98% takes 50.

    Args:
        confidence, right: shape (photos,); photos below 0 take no part.
        target: below 1.
    """
    confidence, right = confidence[confidence >= 0], right[confidence >= 0]
    order = np.argsort(-confidence, kind="stable")
    precision = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    values = confidence[order]
    # A threshold takes all answers of one confidence or none.
    last_of_its_kind = np.append(values[1:] < values[:-1], True)
    enough = np.arange(1, len(order) + 1) >= round(1 / (1 - target))
    reached = np.flatnonzero((precision >= target) & last_of_its_kind & enough)
    return float(values[reached[-1]]) if len(reached) else None


def chain(rule: DecisionRule, logits: np.ndarray) -> dict[str, np.ndarray]:
    """For each level how sure the best class's make, model and year are, shape (photos,); -1 where
    the car may be of no class, so that it reaches no threshold."""
    scores = rule.confidences(logits)
    best = logits.argmax(axis=1)
    unfamiliar = ~rule.familiar(logits)
    sure = {}
    for level in LEVELS:
        index = rule.levels.index[level][best][:, None]
        sure[level] = np.take_along_axis(scores[level], index, 1)[:, 0].clip(max=1)
        sure[level][unfamiliar] = -1
    return sure


def right_at(levels: Levels, logits: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """For each level whether the best class's make, model, or all of it is right, (photos,)."""
    best = logits.argmax(axis=1)
    return {level: levels.index[level][best] == levels.index[level][targets] for level in LEVELS}
