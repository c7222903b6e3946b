"""From logits and true classes to the numbers of metrics.json."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import evaluate
import numpy as np
import torch
from sklearn.metrics import f1_score

from space.answers import AUTO_TAG, LEVELS, MAKE, MODEL, REJECTED, YEAR, Recognition
from space.verdict import Judge
from trainer.evaluation.calibrate import chain, right_at
from trainer.evaluation.metrics import Calibration, PrecisionRecallF1, Share, TopK, ranks


def measure_accuracy(
    judge: Judge, logits: torch.Tensor, targets: np.ndarray, groups: Sequence[str]
) -> dict[str, Any]:
    """How often the answers are right.

    Args:
        logits: shape (photos, classes).
        targets: the numbers of the photos' classes, shape (photos,).
        groups: of each photo, for the intervals.

    Returns:
        `top1`, `top3`, `top5`; `make` and `model` (make and model): whether the most likely one is
        right; `year_given_model`: whether the year is, of photos whose make and model are right,
        and `year_given_model_of_several` of those alone whose model has several years to choose
        from; precision, recall and F1, macro over the classes that occur and weighted.
    """
    scores = judge.confidences(logits)
    rank = ranks(logits.numpy(), targets)
    result: dict[str, Any] = {"photos": len(targets), "groups": len(set(groups))}
    for k in (1, 3, 5):
        result[f"top{k}"] = Share.of_marks(rank < k, groups)
    for level in (MAKE, MODEL):
        right = scores[level].argmax(dim=1) == judge.levels.index[level][targets]
        result[level] = Share.of_marks(right.numpy(), groups)
    result |= _measure_years(judge, logits, targets, groups)
    best = logits.argmax(dim=1).numpy()
    found = evaluate.combine([TopK(), PrecisionRecallF1()])  # type: ignore[list-item]
    del found  # the two take different predictions; each is asked alone
    result |= PrecisionRecallF1().compute(predictions=best, references=targets)
    present = np.unique(targets)
    macro = Share.bootstrapped(
        lambda weights: f1_score(
            targets, best, labels=present, average="macro", sample_weight=weights, zero_division=0
        ),
        groups,
    )
    result["f1_macro"] = asdict(macro)
    return result


def _measure_years(
    judge: Judge, logits: torch.Tensor, targets: np.ndarray, groups: Sequence[str]
) -> dict[str, Any]:
    right = right_at(judge.levels, logits, targets)
    has_year = np.array([car.year is not None for car in judge.cars])
    model_of = judge.levels.index[MODEL].numpy()
    of_several = np.bincount(model_of, weights=has_year)[model_of] > 1
    names = np.asarray(groups)
    result = {}
    for name, counts in (
        ("year_given_model", has_year),
        ("year_given_model_of_several", of_several),
    ):
        asked = right[MODEL] & counts[targets]
        result[name] = {"photos": int(asked.sum())} | Share.of_marks(
            right[YEAR][asked], names[asked].tolist()
        )
    return result


def measure_calibration(
    judge: Judge, logits: torch.Tensor, targets: np.ndarray
) -> dict[str, dict[str, Any]]:
    """What confidences are worth, `before` and `after` calibration, for each level."""
    metric = Calibration()
    result: dict[str, dict[str, Any]] = {}
    for name, asked in (("before", replace(judge, calibration=None)), ("after", judge)):
        scores = asked.confidences(logits)
        result[name] = {
            level: metric.compute(
                predictions=_summing_to_one(scores[level]),
                references=judge.levels.index[level][targets].numpy(),
            )
            for level in LEVELS
        }
    return result


def _summing_to_one(scores: torch.Tensor) -> np.ndarray:
    return scores.clamp(0, 1).numpy()


def measure_thresholds(
    judge: Judge, logits: torch.Tensor, targets: np.ndarray, groups: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """For each target precision and level: the threshold, and its precision and coverage here."""
    assert judge.calibration
    sure, right = chain(judge, logits), right_at(judge.levels, logits, targets)
    names = np.asarray(groups)
    result: dict[str, dict[str, Any]] = {}
    for target, thresholds in judge.calibration.thresholds.items():
        result[target] = {}
        for level, threshold in thresholds.items():
            kept = sure[level] >= (2 if threshold is None else threshold)
            result[target][level] = {
                "threshold": threshold,
                "photos": int(kept.sum()),
                "precision": Share.of_marks(right[level][kept], names[kept].tolist()) or None,
                "coverage": Share.of_marks(kept, groups),
            }
    return result


def measure_plausible(
    judge: Judge, logits: torch.Tensor, targets: np.ndarray, groups: Sequence[str]
) -> dict[str, Any]:
    """For each coverage asked for: the one found here, and how large the sets are."""
    assert judge.calibration
    result = {}
    for coverage in judge.calibration.plausible:
        inside = replace(judge, coverage=float(coverage)).plausible(logits).numpy()
        sizes = inside.sum(axis=1)
        result[coverage] = {
            "coverage": Share.of_marks(inside[np.arange(len(targets)), targets], groups),
            "mean_size": float(sizes.mean()),
            "median_size": float(np.median(sizes)),
            "one_class": float((sizes == 1).mean()),
            "largest": int(sizes.max()),
        }
    return result


def measure_verdicts(
    recognitions: Sequence[Recognition], right: np.ndarray, groups: Sequence[str]
) -> dict[str, Any]:
    """What users meet: the share of each verdict, and how often `auto-tag` is right.

    Args:
        right: whether each first prediction is, bool, shape (photos,).
    """
    verdicts = np.array([recognition.verdict for recognition in recognitions])
    tagged = verdicts == AUTO_TAG
    names = np.asarray(groups)
    return {
        "auto_tag": Share.of_marks(tagged, groups),
        "auto_tag_precision": Share.of_marks(right[tagged], names[tagged].tolist()) or None,
        "rejected": Share.of_marks(verdicts == REJECTED, groups),
        "levels": dict(Counter(str(recognition.level) for recognition in recognitions)),
    }
