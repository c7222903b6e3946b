"""From logits and true classes to the numbers of metrics.json."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from space.answers import AUTO_TAG, LEVELS, MAKE, MODEL, REJECTED, YEAR, Recognition
from space.recognizer import CarRecognizer
from space.verdict import DecisionRule, chain, right_at
from trainer.evaluation.metrics import CalibrationErrors, Estimate, PrecisionRecallF1, ranks
from trainer.evaluation.predictions import LabeledPhoto, Predictions, predict_photos
from trainer.evaluation.rejection import (
    DRAWN,
    GateData,
    ood_metrics,
)
from trainer.evaluation.robustness import CORRUPTIONS

AS_IT_IS = "as it is"  # the photos of the robustness test before anything is done to them


def measure_accuracy(
    rule: DecisionRule, logits: np.ndarray, targets: np.ndarray, groups: Sequence[str]
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
    scores = rule.confidences(logits)
    rank = ranks(logits, targets)
    result: dict[str, Any] = {"photos": len(targets), "groups": len(set(groups))}
    for k in (1, 3, 5):
        result[f"top{k}"] = Estimate.of_marks(rank < k, groups)
    for level in (MAKE, MODEL):
        right = scores[level].argmax(axis=1) == rule.levels.index[level][targets]
        result[level] = Estimate.of_marks(right, groups)
    result |= _measure_years(rule, logits, targets, groups)
    best = logits.argmax(axis=1)
    result |= PrecisionRecallF1().compute(predictions=best, references=targets)
    macro = Estimate.bootstrapped(lambda weights: _f1_macro(best, targets, weights), groups)
    result["f1_macro"] = asdict(macro)
    return result


def _f1_macro(best: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> float:
    """Macro F1 over the classes that occur, of weighted photos; a thousand a second."""
    classes = int(max(best.max(), targets.max())) + 1

    def total(numbers: np.ndarray, counted: np.ndarray) -> np.ndarray:
        return np.bincount(numbers[counted], weights[counted], minlength=classes)

    everything = np.ones(len(targets), bool)
    occurs = total(targets, everything)
    hits, named = total(targets, best == targets), total(best, everything)
    present = occurs > 0
    return float((2 * hits[present] / (named + occurs)[present]).mean())


def _measure_years(
    rule: DecisionRule, logits: np.ndarray, targets: np.ndarray, groups: Sequence[str]
) -> dict[str, Any]:
    right = right_at(rule.levels, logits, targets)
    has_year = np.array([car.year is not None for car in rule.cars])
    model_of = rule.levels.index[MODEL]
    of_several = np.bincount(model_of, weights=has_year)[model_of] > 1
    names = np.asarray(groups)
    result = {}
    for name, counts in (
        ("year_given_model", has_year),
        ("year_given_model_of_several", of_several),
    ):
        asked = right[MODEL] & counts[targets]
        result[name] = {"photos": int(asked.sum())} | Estimate.of_marks(
            right[YEAR][asked], names[asked].tolist()
        )
    return result


def measure_calibration(
    rule: DecisionRule, logits: np.ndarray, targets: np.ndarray
) -> dict[str, dict[str, Any]]:
    """What confidences are worth, `before` and `after` calibration, for each level."""
    metric = CalibrationErrors()
    result: dict[str, dict[str, Any]] = {}
    for name, asked in (("before", replace(rule, calibration=None)), ("after", rule)):
        scores = asked.confidences(logits)
        result[name] = {
            level: metric.compute(
                predictions=_summing_to_one(scores[level]),
                references=rule.levels.index[level][targets],
            )
            for level in LEVELS
        }
    return result


def _summing_to_one(scores: np.ndarray) -> np.ndarray:
    return scores.clip(0, 1)


def measure_thresholds(
    rule: DecisionRule, logits: np.ndarray, targets: np.ndarray, groups: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """For each target precision and level: the threshold, and its precision and coverage here."""
    assert rule.calibration
    sure, right = chain(rule, logits), right_at(rule.levels, logits, targets)
    names = np.asarray(groups)
    result: dict[str, dict[str, Any]] = {}
    for target, thresholds in rule.calibration.thresholds.items():
        result[target] = {}
        for level, threshold in thresholds.items():
            kept = sure[level] >= (2 if threshold is None else threshold)
            result[target][level] = {
                "threshold": threshold,
                "photos": int(kept.sum()),
                "precision": Estimate.of_marks(right[level][kept], names[kept].tolist()) or None,
                "coverage": Estimate.of_marks(kept, groups),
            }
    return result


def measure_plausible(
    rule: DecisionRule, logits: np.ndarray, targets: np.ndarray, groups: Sequence[str]
) -> dict[str, Any]:
    """For each coverage asked for: the one found here, and how large the sets are."""
    assert rule.calibration
    result = {}
    for coverage in rule.calibration.plausible:
        inside = replace(rule, coverage=float(coverage)).plausible(logits)
        sizes = inside.sum(axis=1)
        result[coverage] = {
            "coverage": Estimate.of_marks(inside[np.arange(len(targets)), targets], groups),
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
        "auto_tag": Estimate.of_marks(tagged, groups),
        "auto_tag_precision": Estimate.of_marks(right[tagged], names[tagged].tolist()) or None,
        "rejected": Estimate.of_marks(verdicts == REJECTED, groups),
        "levels": dict(Counter(str(recognition.level) for recognition in recognitions)),
    }


def measure_all(
    recognizer: CarRecognizer, photos: Sequence[LabeledPhoto], predictions: Predictions
) -> dict[str, Any]:
    """Accuracy, over all and apart by dataset and background; confidences, verdicts and sets."""
    rule, logits = recognizer.rule, predictions.logits
    targets = np.array([photo.target for photo in photos])
    groups = [photo.group for photo in photos]
    sources = np.array([photo.source for photo in photos])
    backgrounds = np.where(predictions.backgroundless, "removed", "original")

    def apart(names: np.ndarray) -> dict[str, Any]:
        return {
            str(name): measure_accuracy(rule, logits[mine], targets[mine], _those(groups, mine))
            for name in np.unique(names[names != ""])
            for mine in (names == name,)
        }

    result = measure_accuracy(rule, logits, targets, groups)
    if recognizer.preprocess.car_crop:
        result["car_found"] = _found(predictions)
    if len(set(sources)) > 1:
        result["sources"] = apart(sources)
    # Only datasets that have many of both tell what a background is worth.
    both = [
        name
        for name in np.unique(sources)
        if 0.1 < predictions.backgroundless[sources == name].mean() < 0.9
    ]
    if both:
        named = np.char.add(np.char.add(sources, ", "), backgrounds)
        result["backgrounds"] = apart(np.where(np.isin(sources, both), named, ""))
    result["calibration"] = measure_calibration(rule, logits, targets)
    recognitions = recognize(recognizer, predictions)
    right = logits.argmax(axis=1) == targets
    result["verdicts"] = measure_verdicts(recognitions, right, groups)
    if rule.calibration:
        result["thresholds"] = measure_thresholds(rule, logits, targets, groups)
        result["plausible"] = measure_plausible(rule, logits, targets, groups)
    return result


def measure_crossings(
    photos: Sequence[LabeledPhoto], tested: Sequence[LabeledPhoto], predictions: Predictions
) -> dict[str, dict[str, Any]]:
    """How often a car is answered with a class that only other datasets have.

    Datasets differ in cameras, crops and backgrounds too; a network that has learned these answers
    with the market that a picture looks like.

    Args:
        photos: all of the datasets, which say what classes each has.
        tested, predictions: those to judge by.

    Returns:
        For each dataset: the share of its photos so answered (`any`), and the share answered with
        a class of each other one.
    """
    classes: dict[str, set[int]] = {}
    for photo in photos:
        classes.setdefault(photo.source, set()).add(photo.target)
    best = predictions.logits.argmax(axis=1)
    sources = np.array([photo.source for photo in tested])
    groups = [photo.group for photo in tested]
    result: dict[str, dict[str, Any]] = {}
    for name in sorted(set(sources)):
        mine = sources == name
        strange = ~np.isin(best[mine], list(classes[name]))
        own_groups = _those(groups, mine)
        result[name] = {"any": Estimate.of_marks(strange, own_groups)}
        for other in sorted(classes.keys() - {name}):
            marks = strange & np.isin(best[mine], list(classes[other]))
            result[name][other] = Estimate.of_marks(marks, own_groups)
    return result


def _found(predictions: Predictions) -> float:
    """In which share of the photos the detector found a car."""
    return float(np.mean([box is not None for box in predictions.boxes]))


def recognize(recognizer: CarRecognizer, predictions: Predictions) -> list[Recognition]:
    """The answers to photos that the network has looked at already."""
    refusals = recognizer.refusals(predictions.features)
    return recognizer.rule.recognitions(predictions.logits, refusals, top_k=1)


def _those(names: Sequence[str], chosen: np.ndarray) -> list[str]:
    return np.asarray(names)[chosen].tolist()


def measure_rejection(
    recognizer: CarRecognizer,
    photos: Sequence[LabeledPhoto],
    predictions: Predictions,
    others: Sequence[tuple[GateData, np.ndarray]],
) -> dict[str, Any]:
    """How many photos are refused, of exteriors by dataset and of everything else by kind.

    Args:
        photos, predictions: exteriors to judge by.
        others: what shows no car from outside, see `trainer.evaluation.rejection.judged`.
    """
    gate, rule = recognizer.gate, recognizer.rule
    assert gate
    cars = gate.probabilities(predictions.features)[:, 0]
    unknown = rule.unknown(predictions.logits)
    sources = np.array([photo.source for photo in photos])
    groups = [photo.group for photo in photos]
    result: dict[str, Any] = {"threshold": gate.threshold, "exteriors": {}, "others": {}}
    for name in np.unique(sources):
        mine = sources == name
        marks = ((cars < gate.threshold) | unknown)[mine]
        result["exteriors"][str(name)] = {
            "photos": int(mine.sum()),
            "by_gate": int((cars < gate.threshold)[mine].sum()),
            "rejected": Estimate.of_marks(marks, _those(groups, mine)),
        }
    for sample, scores in others:
        marks = (scores < gate.threshold) | rule.unknown(sample.logits)
        found = {
            "photos": len(scores),
            "kind": sample.kind,
            "by_gate": int((scores < gate.threshold).sum()),
            "rejected": Estimate.of_marks(marks, sample.groups),
            **ood_metrics(cars, scores),
        }
        if sample.name == DRAWN:
            names = np.asarray(sample.groups)
            found["kinds"] = {
                kind: {
                    "photos": int((names == kind).sum()),
                    "rejected": int(marks[names == kind].sum()),
                }
                for kind in dict.fromkeys(sample.groups)
            }
        result["others"][sample.name] = found
    return result


def measure_robustness(
    recognizer: CarRecognizer, photos: Sequence[LabeledPhoto], count: int
) -> dict[str, Any]:
    """The same photos as they are and corrupted in each way: how many answers are still right."""
    chosen = random.Random(0).sample(list(photos), min(count, len(photos)))
    targets = np.array([photo.target for photo in chosen])
    groups = [photo.group for photo in chosen]
    readers = [photo.read for photo in chosen]
    result: dict[str, Any] = {}
    for name, change in ((AS_IT_IS, None), *CORRUPTIONS.items()):
        predictions = predict_photos(recognizer, readers, name, change)
        right = predictions.logits.argmax(axis=1) == targets
        scores = recognizer.rule.confidences(predictions.logits)
        make = recognizer.rule.levels.index[MAKE]
        result[name] = {
            "photos": len(chosen),
            "top1": Estimate.of_marks(right, groups),
            "top5": Estimate.of_marks(ranks(predictions.logits, targets) < 5, groups),
            "make": Estimate.of_marks(scores[MAKE].argmax(axis=1) == make[targets], groups),
            **({"car_found": _found(predictions)} if recognizer.preprocess.car_crop else {}),
            **measure_verdicts(recognize(recognizer, predictions), right, groups),
        }
    return result
