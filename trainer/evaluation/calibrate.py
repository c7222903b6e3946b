"""Fits calibration.json on validation photos: what confidences mean, and what to do with them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from space.answers import LEVELS
from space.calibration import Calibration, ConfidenceMap, fit_plausible, softmax
from space.labels import Car
from space.levels import Levels
from space.verdict import DecisionRule, fit_thresholds

PRECISIONS = (0.9, 0.95, 0.98, 0.99)
COVERAGES = (0.9, 0.95, 0.99)
# The share of each dataset's validation photos that may count as no known car for their best logit
# alone. Small, because unknown cars look much like known ones, see `benchmarks.unknown`.
UNKNOWN_SHARE = 0.002
_FOLDS = 5


def fit_calibration(
    labels: Sequence[str],
    cars: Sequence[Car],
    logits: np.ndarray,
    targets: np.ndarray,
    groups: Sequence[str],
    sources: np.ndarray,
    gate: float | None = None,
) -> Calibration:
    """Calibrates a checkpoint.

    Args:
        labels, cars: its classes.
        logits: of validation photos, shape (photos, classes).
        targets: the numbers of their classes, shape (photos,).
        groups: of each photo; photos of one group are the same photo.
        sources: the dataset of each photo, shape (photos,).
        gate: the threshold of its gate, see `trainer.evaluation.rejection`.
    """
    levels = Levels(cars)
    temperature = fit_temperature(logits, targets)
    tempered = softmax(logits.astype(np.float64) / temperature)
    confidence = {}
    for level, sums in levels.sums(tempered).items():
        top, best = sums.max(axis=1), sums.argmax(axis=1)
        right = best == levels.index[level][targets]
        confidence[level] = fit_confidence(top, right, groups)
    plausible = fit_plausible(tempered, targets, COVERAGES)
    open_ended = dict.fromkeys(LEVELS)
    draft = Calibration(
        temperature,
        confidence,
        {f"{target:g}": open_ended for target in PRECISIONS},
        plausible,
        # A gate refuses all but a few of what such a limit would, and costs fewer cars.
        known=fit_known(logits, sources) if gate is None else None,
        gate=gate,
    )
    rule = DecisionRule(tuple(labels), tuple(cars), levels, draft, PRECISIONS[0], COVERAGES[0])
    return replace(draft, thresholds=fit_thresholds(rule, logits, targets, PRECISIONS))


def fit_known(logits: np.ndarray, sources: np.ndarray) -> float:
    """The highest limit for the best logit below which at most `UNKNOWN_SHARE` of the photos of
    each dataset lie."""
    best = logits.max(axis=1)
    return min(
        float(np.quantile(best[sources == name], UNKNOWN_SHARE)) for name in np.unique(sources)
    )


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """The temperature with the lowest negative log-likelihood (Guo et al. 2017)."""
    rows = logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        tempered = rows / np.exp(log_temperature)
        right = np.take_along_axis(tempered, targets[:, None], 1)[:, 0]
        return float((logsumexp(tempered, axis=1) - right).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def fit_confidence(
    probability: np.ndarray, right: np.ndarray, groups: Sequence[str]
) -> ConfidenceMap:
    """The map from the best answer's probability to how often it is right.

    Three candidates, of no, two and three parameters: as it is, Platt's sigmoid of the log-odds,
    and beta calibration (Kull et al. 2017). The one with the lowest log loss on photos that it was
    not fitted on, in five folds by group, is fitted on all.
    """
    candidates = [_as_it_is, _platt, _beta]
    folds = min(_FOLDS, len(set(groups)))
    if right.all() or not right.any() or folds < 2:
        return ConfidenceMap()
    losses = np.zeros(len(candidates))
    for fitted, kept in GroupKFold(folds).split(probability, right, groups):
        for number, fit in enumerate(candidates):
            found = fit(probability[fitted], right[fitted])
            losses[number] += _log_loss(found(probability[kept]), right[kept])
    return candidates[int(losses.argmin())](probability, right)


def _log_loss(confidence: np.ndarray, right: np.ndarray) -> float:
    p = confidence.clip(1e-9, 1 - 1e-9)
    return float(-np.where(right, np.log(p), np.log1p(-p)).sum())


def _as_it_is(probability: np.ndarray, right: np.ndarray) -> ConfidenceMap:
    return ConfidenceMap()


def _platt(probability: np.ndarray, right: np.ndarray) -> ConfidenceMap:
    slopes, c = _logistic([_log(probability) - _log(1 - probability)], right)
    return ConfidenceMap(slopes[0], slopes[0], c) if slopes[0] > 0 else ConfidenceMap()


def _beta(probability: np.ndarray, right: np.ndarray) -> ConfidenceMap:
    (a, b), c = _logistic([_log(probability), -_log(1 - probability)], right)
    # With a slope below 0 the map would fall somewhere, and order the answers again.
    return ConfidenceMap(a, b, c) if a > 0 and b > 0 else _platt(probability, right)


def _log(values: np.ndarray) -> np.ndarray:
    return np.log(values.clip(1e-12, 1))


def _logistic(columns: list[np.ndarray], right: np.ndarray) -> tuple[list[float], float]:
    if right.all() or not right.any():
        return [0.0] * len(columns), 0.0
    # All but unpenalised; the trace of a penalty keeps separable photos from infinite slopes.
    found = LogisticRegression(C=1e3, max_iter=1000).fit(np.stack(columns, axis=1), right)
    return found.coef_[0].tolist(), float(found.intercept_[0])
