"""Fits calibration.json on validation photos: what confidences mean, and what to do with them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from space.answers import LEVELS, MAKE, MODEL, YEAR
from space.calibration import Calibration, ConfidenceMap, fit_plausible, log_softmax, softmax
from space.fusion import fuse
from space.labels import Car
from space.levels import Levels
from space.verdict import DecisionRule, fit_threshold, fit_thresholds

PRECISIONS = (0.9, 0.95, 0.98, 0.99)
COVERAGES = (0.9, 0.95, 0.99)
# The share of each dataset's validation photos that may count as no known car for their best logit
# alone. Small, because unknown cars look much like known ones, see `benchmarks.unknown`.
UNKNOWN_SHARE = 0.002
# The share of right answers to validation photos that are not tagged because the car may be of no
# known class. Chosen on cars that a network never saw, see docs/EXPERIMENTS.md.
UNFAMILIAR_SHARE = 0.07
_FOLDS = 5
POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the number of photos of one car
CLAIMS = 0.98  # how often agreeing with, and contradicting, a seller should be right


def fit_calibration(
    labels: Sequence[str],
    cars: Sequence[Car],
    logits: np.ndarray,
    targets: np.ndarray,
    groups: Sequence[str],
    sources: np.ndarray,
    gate: float | None = None,
    areas: np.ndarray | None = None,
    unfamiliar_share: float = UNFAMILIAR_SHARE,
) -> Calibration:
    """Calibrates a checkpoint.

    Args:
        labels, cars: its classes.
        logits: of validation photos, shape (photos, classes).
        targets: the numbers of their classes, shape (photos,).
        groups: of each photo; photos of one group are the same photo.
        sources: the dataset of each photo, shape (photos,).
        gate: the threshold of its gate, see `trainer.evaluation.rejection`.
        areas: the share of each photo that the car takes, shape (photos,); all of it by default.
        unfamiliar_share: of the right answers, may not be tagged for their best logit.
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
        familiar=fit_familiar(logits, targets, unfamiliar_share),
        gate=gate,
    )
    rule = DecisionRule(tuple(labels), tuple(cars), levels, draft, PRECISIONS[0], COVERAGES[0])
    agrees, contradicts = fit_claims(rule, logits, targets)
    whole = np.ones(len(targets)) if areas is None else areas
    return replace(
        draft,
        thresholds=fit_thresholds(rule, logits, targets, PRECISIONS),
        fusion=fit_fusion(logits, whole, targets, groups, draft),
        agrees=agrees,
        contradicts=contradicts,
    )


def fit_known(logits: np.ndarray, sources: np.ndarray) -> float:
    """The highest limit for the best logit below which at most `UNKNOWN_SHARE` of the photos of
    each dataset lie."""
    best = logits.max(axis=1)
    return min(
        float(np.quantile(best[sources == name], UNKNOWN_SHARE)) for name in np.unique(sources)
    )


def fit_familiar(logits: np.ndarray, targets: np.ndarray, share: float) -> float | None:
    """The limit for the best logit below which this share of the right answers lies; None where no
    answer is right."""
    right = logits.argmax(axis=1) == targets
    return float(np.quantile(logits[right].max(axis=1), share)) if right.any() else None


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


def fit_fusion(
    logits: np.ndarray,
    areas: np.ndarray,
    targets: np.ndarray,
    groups: Sequence[str],
    calibration: Calibration,
) -> float:
    """The power by which several photos of one car are surer than one, see `space.fusion`.

    Args:
        logits: of validation photos, shape (photos, classes).
        areas: the share of each photo that the car takes, shape (photos,).
        targets, groups: of each; photos of one class and group count as photos of one car.

    Returns:
        One of `POWERS`: the one with the lowest negative log-likelihood; 0 without such groups.
    """
    cars: dict[tuple[str, int], list[int]] = defaultdict(list)
    for number, (group, target) in enumerate(zip(groups, targets.tolist(), strict=True)):
        cars[group, target].append(number)
    several = [(target, some) for (_, target), some in sorted(cars.items()) if len(some) > 1]
    losses = []
    for power in POWERS:
        tried = replace(calibration, fusion=power)
        loss = 0.0
        for target, some in several:
            fused = fuse(logits[some], areas[some], tried)
            loss -= float(log_softmax(fused / calibration.temperature)[0, target])
        losses.append(loss)
    return POWERS[int(np.argmin(losses))] if several else 0.0


def fit_claims(
    rule: DecisionRule, logits: np.ndarray, targets: np.ndarray
) -> tuple[float | None, float | None]:
    """From which confidence a photo bears out what is said, and to which it refutes it.

    Each validation photo is compared once with its own make and model and once with those of
    another class, of the same make where there is one: what is said is right half of the time.

    Returns:
        `agrees`, the lowest limit above which at least `CLAIMS` of the agreements are right, and
        `contradicts`, the highest below which as many of the contradictions are; None for never.
    """
    values, right, _ = compare_with_texts(rule, logits, targets, seed=0)
    agrees = fit_threshold(values, right, CLAIMS)
    contradicts = fit_threshold(1 - values, ~right, CLAIMS)
    return agrees and max(agrees, 0.5), None if contradicts is None else 1 - contradicts


def compare_with_texts(
    rule: DecisionRule, logits: np.ndarray, targets: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Photos against what could be said of them: once the truth, once another make and model.

    Args:
        logits, targets: of photos, shapes (photos, classes) and (photos,).
        seed: of which other class, of the same make where there is one.

    Returns:
        The confidence that what is said is right, whether it is, and the number of the photo, each
        of shape (texts,): first all true ones, then all wrong ones.
    """
    rng = np.random.default_rng(seed)
    scores = rule.confidences(logits)[YEAR]
    models, makes = rule.levels.index[MODEL], rule.levels.index[MAKE]
    own, other, rows = [], [], []
    for row, target in enumerate(targets.tolist()):
        near = np.flatnonzero((makes == makes[target]) & (models != models[target]))
        rest = near if len(near) else np.flatnonzero(models != models[target])
        if not len(rest):
            continue
        own.append(scores[row][models == models[target]].sum())
        other.append(scores[row][models == models[rng.choice(rest)]].sum())
        rows.append(row)
    values = np.array(own + other).clip(0, 1)
    return values, np.arange(len(values)) < len(own), np.array(rows + rows, int)
