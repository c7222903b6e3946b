"""What trainer.evaluate draws: the figures and tables of one evaluation, in one folder."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from space.answers import LEVELS, YEAR
from space.recognizer import CarRecognizer
from space.verdict import chain
from trainer.evaluation.figures.charts import (
    Confidences,
    write_rejection,
    write_reliability,
    write_risk_coverage,
    write_robustness,
)
from trainer.evaluation.figures.classes import write_classes
from trainer.evaluation.figures.confusion import write_confusion
from trainer.evaluation.figures.gallery import Shown, write_gallery
from trainer.evaluation.figures.outcome import Outcome
from trainer.evaluation.figures.pairs import write_worst_pairs
from trainer.evaluation.measure import AS_IT_IS, recognize
from trainer.evaluation.predictions import LabeledPhoto, Predictions
from trainer.evaluation.rejection import GateData

_SHOWN = 8  # right answers in the gallery, and as many wrong ones


def write_report(
    folder: Path,
    recognizer: CarRecognizer,
    photos: Sequence[LabeledPhoto],
    predictions: Predictions,
    metrics: Mapping[str, Any],
    others: Sequence[tuple[GateData, np.ndarray]],
) -> None:
    """Writes all figures and tables.

    Args:
        photos, predictions: what was measured on.
        metrics: what metrics.json holds.
        others: what shows no car from outside, see `trainer.evaluation.rejection.judged`.
    """
    split = metrics["split"]["name"]
    targets = np.array([photo.target for photo in photos])
    best = predictions.logits.argmax(axis=1)
    outcome = Outcome(recognizer.labels, recognizer.cars, targets, best, split)
    write_confusion(folder, outcome)
    write_worst_pairs(folder, outcome)
    write_classes(folder, outcome)
    _draw_confidences(folder, recognizer, predictions, targets, metrics)
    if "robustness" in metrics:
        shares = {
            name: tuple(found["top1"][end] for end in ("value", "low", "high"))
            for name, found in metrics["robustness"].items()
        }
        (clean, _, _), count = shares.pop(AS_IT_IS), metrics["robustness"][AS_IT_IS]["photos"]
        write_robustness(folder, clean, shares, count, split)
    if recognizer.gate:
        gate = recognizer.gate
        cars = gate.probabilities(predictions.features)[:, 0]
        scores = {f"car exteriors, {split}": cars} | {sample.name: row for sample, row in others}
        write_rejection(folder, scores, gate.threshold)
    _draw_gallery(folder, recognizer, photos, predictions, targets == best, split)


def _draw_confidences(
    folder: Path,
    recognizer: CarRecognizer,
    predictions: Predictions,
    targets: np.ndarray,
    metrics: Mapping[str, Any],
) -> None:
    split, rule = metrics["split"]["name"], recognizer.rule

    def panel(when: str, level: str) -> Confidences:
        asked = rule if when == "after" else replace(rule, calibration=None)
        scores = asked.confidences(predictions.logits)[level]
        top, best = scores.max(axis=1), scores.argmax(axis=1)
        right = best == rule.levels.index[level][targets]
        name = f"{level}, {when} calibration"
        ece = metrics["calibration"][when][level]["ece"]
        return Confidences(name, top.clip(max=1), right, ece)

    both = [panel("before", YEAR), panel("after", YEAR)]
    write_reliability(folder / "reliability.png", both, split)
    levels = [panel("after", level) for level in LEVELS]
    write_reliability(folder / "reliability_levels.png", levels, split)
    if rule.calibration:
        right = predictions.logits.argmax(axis=1) == targets
        thresholds = {
            target: levels[YEAR] for target, levels in rule.calibration.thresholds.items()
        }
        sure = chain(rule, predictions.logits)[YEAR]
        write_risk_coverage(folder, sure, right, thresholds, split, YEAR)


def _draw_gallery(
    folder: Path,
    recognizer: CarRecognizer,
    photos: Sequence[LabeledPhoto],
    predictions: Predictions,
    right: np.ndarray,
    split: str,
) -> None:
    rng = np.random.default_rng(0)

    def shown(numbers: np.ndarray) -> list[Shown]:
        chosen = rng.permutation(numbers)[:_SHOWN]
        some = replace(
            predictions,
            logits=predictions.logits[chosen],
            features=predictions.features[chosen],
        )
        return [
            Shown(
                recognizer.explain(photos[number].read(), answer.predictions[0].label),
                recognizer.labels[photos[number].target],
                answer.predictions[0].label,
                answer.predictions[0].confidence,
                answer.verdict,
            )
            for number, answer in zip(chosen, recognize(recognizer, some), strict=True)
        ]

    write_gallery(
        folder,
        shown(np.flatnonzero(right)),
        shown(np.flatnonzero(~right)),
        len(photos),
        split,
    )
