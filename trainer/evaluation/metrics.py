"""The measures, as metrics of the `evaluate` library that need no Hub, and their intervals.

References are class numbers. What a metric returns are shares and means as plain numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import datasets
import evaluate
import numpy as np
from scipy.stats import norm
from sklearn.metrics import precision_recall_fscore_support

BINS = 15  # of equal width, as in Guo et al. 2017
_RESAMPLES = 1000
_Z = float(norm.ppf(0.975))


@dataclass(frozen=True)
class Estimate:
    """A share or another statistic, with the ends of its 95% interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, successes: int, count: int) -> "Estimate":
        """A share of independent photos, with Wilson's interval."""
        low, high = wilson(successes, count)
        return cls(successes / count, float(low), float(high))

    @classmethod
    def bootstrapped(
        cls, statistic: Callable[[np.ndarray], float], groups: Sequence[str]
    ) -> "Estimate":
        """A statistic of photos that are not independent: whole groups are drawn again.

        The percentile bootstrap (Efron 1979), 1,000 times.

        Args:
            statistic: takes how often each photo counts, shape (photos,).
            groups: of each photo; photos of one group are the same photo.
        """
        names, number = np.unique(groups, return_inverse=True)
        draws = np.random.default_rng(0).multinomial(
            len(names), np.full(len(names), 1 / len(names)), size=_RESAMPLES
        )
        values = [statistic(draw[number]) for draw in draws]
        low, high = np.nanquantile(values, [0.025, 0.975])
        return cls(float(statistic(np.ones(len(number)))), float(low), float(high))

    @classmethod
    def of_marks(cls, marks: np.ndarray, groups: Sequence[str]) -> dict[str, float]:
        """The share of photos with a mark, bool, shape (photos,); as a plain dict.

        Where all photos have it or none has, resampling knows no spread; Wilson's interval over
        the groups stands in.
        """
        if not len(marks):
            return {}
        if marks.all() or not marks.any():
            groups_marked = len(set(groups))
            return asdict(cls.of(groups_marked if marks.all() else 0, groups_marked))
        return asdict(cls.bootstrapped(lambda weights: weights @ marks / weights.sum(), groups))

    @classmethod
    def of_values(cls, values: Sequence[float], groups: Sequence[str]) -> dict[str, float]:
        """The mean of a number of each photo, as `of_marks` takes them."""
        column = np.asarray(values, np.float64)
        return asdict(cls.bootstrapped(lambda weights: weights @ column / weights.sum(), groups))

    @classmethod
    def of_change(
        cls, one: np.ndarray, other: np.ndarray, groups: Sequence[str]
    ) -> dict[str, float]:
        """The share of photos marked in `one` less that in `other`, as `of_marks` takes them."""
        return cls.of_values(one.astype(float) - other, groups)


def _info(description: str, citation: str, **features: Any) -> evaluate.MetricInfo:
    return evaluate.MetricInfo(
        description=description,
        citation=citation,
        inputs_description="predictions and references, one a photo",
        features=datasets.Features({**features, "references": datasets.Value("int64")}),
    )


_CLASS = datasets.Value("int64")
_ROW = datasets.Sequence(datasets.Value("float64"))


class PrecisionRecallF1(evaluate.Metric):
    """Macro (over the classes that occur) and weighted; predictions are class numbers."""

    def _info(self):
        return _info("precision, recall and F1", "", predictions=_CLASS)

    def _compute(self, predictions, references):
        return {
            f"{name}_{average}": float(value)
            for average in ("macro", "weighted")
            for name, value in zip(
                ("precision", "recall", "f1"),
                precision_recall_fscore_support(
                    references,
                    predictions,
                    labels=np.unique(references),
                    average=average,
                    zero_division=0,
                )[:3],
                strict=True,
            )
        }


class CalibrationErrors(evaluate.Metric):
    """How far confidences are from how often they are right; predictions are probabilities.

    `ece` and `classwise_ece` are in shares, 0 to 1, over 15 bins of equal width (Guo et al. 2017,
    Kull et al. 2019); `nll` in nats; `brier` is the sum over classes, 0 to 2. `ece_if_perfect` is
    what the same number of photos would show of confidences that were exactly right: the noise
    below which an ECE says nothing.
    """

    def _info(self):
        return _info("calibration", "arXiv:1706.04599, arXiv:1910.12656", predictions=_ROW)

    def _compute(self, predictions, references):
        rows, targets = np.asarray(predictions, np.float64), np.asarray(references)
        confidence = rows.max(axis=1)
        right = rows.argmax(axis=1) == targets
        hits = np.zeros_like(rows)
        hits[np.arange(len(rows)), targets] = 1
        rng = np.random.default_rng(0)
        perfect = [ece(confidence, rng.random(len(rows)) < confidence) for _ in range(200)]
        return {
            "ece": ece(confidence, right),
            "ece_if_perfect": float(np.mean(perfect)),
            "classwise_ece": float(
                np.mean([ece(rows[:, c], hits[:, c]) for c in range(rows.shape[1])])
            ),
            "nll": float(-np.log(rows[np.arange(len(rows)), targets].clip(1e-12)).mean()),
            "brier": float(((rows - hits) ** 2).sum(axis=1).mean()),
        }


def ranks(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """How many classes score above the right one, shape (photos,); scores (photos, classes)."""
    return (scores > scores[np.arange(len(scores)), targets][:, None]).sum(axis=1)


def ece(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error, 0 to 1, of confidences and whether they were right."""
    bins, _ = confidence_bins(confidence)
    gaps = np.bincount(bins, weights=confidence - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def wilson(successes: Any, counts: Any) -> tuple[np.ndarray, np.ndarray]:
    """The ends of Wilson's 95% interval of shares, 0 to 1 (Wilson 1927).

    Args:
        successes, counts: numbers, or arrays of one shape; no count is 0.
    """
    share, n = np.asarray(successes) / counts, np.asarray(counts)
    center = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    # Rounding must not part an end from a share of 0 or 1.
    return np.minimum(center - half, share).clip(0), np.maximum(center + half, share).clip(max=1)


def confidence_bins(confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bin of each photo, of `BINS` of equal width, and how many photos each bin has."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return bins, np.bincount(bins, minlength=BINS)
