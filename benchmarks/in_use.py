"""Catalogues, listings and sellers' texts on test photos: `python -m benchmarks.in_use --data …`.

- Catalogues: every market that the checkpoint names, and makes of at least 100 test photos, on
  photos of their classes: first answers and auto-tags with all classes and inside the catalogue.
- Listings: test photos of one class and group, two to five of them, as one car: the first answer
  to one photo, and to all of them fused.
- Sellers' texts: each photo against its own make and model, and against those of another class, of
  the same make where there is one.

Everything was fitted on validation photos. Written to benchmarks/in_use.json.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from space.answers import AUTO_TAG, YEAR
from space.catalogue import choose, narrowed
from space.checkpoints import BUNDLED, file_hash, write_json
from space.fusion import fuse
from space.recognizer import CarRecognizer
from space.verdict import DecisionRule
from space.walk import user_path
from trainer.data.options import add_data_options, columns_of
from trainer.data.splits import TEST
from trainer.evaluation.calibrate import compare_with_texts
from trainer.evaluation.metrics import Estimate
from trainer.evaluation.predictions import LabeledPhoto, find_photos, predict_photos
from trainer.provenance import command_line, git_revision

PATH = Path(__file__).with_suffix(".json")
FEWEST = 100  # test photos of a catalogue
MOST = 5  # photos of a listing


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_options(parser)
    parser.add_argument("--split-file", type=user_path, required=True, metavar="FILE")
    parser.add_argument("--model", type=user_path, default=BUNDLED, metavar="FOLDER")
    options = parser.parse_args(arguments)
    recognizer = CarRecognizer.from_pretrained(options.model)
    photos = find_photos(recognizer, options.data, options.split_file, columns_of(options))
    tested = [photo for photo in photos if photo.split == TEST]
    found = predict_photos(recognizer, [photo.read for photo in tested], TEST)
    refused = np.array([bool(refusal) for refusal in recognizer.refusals(found.features)])
    areas = np.array([box.area if box else 1.0 for box in found.boxes])
    write_json(
        PATH,
        {
            "command": command_line("python -m benchmarks.in_use", arguments),
            "checkpoint": recognizer.revision,
            "split_sha256": file_hash(options.split_file),
            "photos": len(tested),
            "catalogues": catalogues(recognizer, tested, found.logits, refused),
            "listings": listings(recognizer, tested, found.logits, areas),
            "claims": claims(recognizer, tested, found.logits, refused),
            "git_revision": git_revision(),
        },
    )


def catalogues(
    recognizer: CarRecognizer,
    photos: Sequence[LabeledPhoto],
    logits: np.ndarray,
    refused: np.ndarray,
) -> dict[str, Any]:
    """Each catalogue on photos of its classes."""
    memory = recognizer.memory
    assert memory is not None
    targets = np.array([photo.target for photo in photos])
    groups = np.array([photo.group for photo in photos])
    makes = Counter(recognizer.cars[target].make for target in targets)
    names = [*memory.markets, *(make for make, n in makes.most_common() if n >= FEWEST)]
    result = {}
    for name in names:
        numbers = choose([name], recognizer.labels, recognizer.cars, memory.markets)
        place = np.full(len(recognizer.labels), -1)
        place[numbers] = np.arange(len(numbers))
        inside = place[targets] >= 0
        rule = narrowed(recognizer.rule, numbers, memory)
        some = groups[inside].tolist()
        result[name] = {
            "classes": len(numbers),
            "photos": int(inside.sum()),
            "everything": _answers(
                recognizer.rule, logits[inside], targets[inside], refused[inside], some
            ),
            "catalogue": _answers(
                rule, logits[inside][:, numbers], place[targets[inside]], refused[inside], some
            ),
        }
    return result


def _answers(
    rule: DecisionRule,
    logits: np.ndarray,
    targets: np.ndarray,
    refused: np.ndarray,
    groups: Sequence[str],
) -> dict[str, Any]:
    refusals = ["refused" if some else None for some in refused]
    answers = rule.recognitions(logits, refusals, 1)
    right = logits.argmax(axis=1) == targets
    tagged = np.array([answer.verdict == AUTO_TAG for answer in answers])
    of_tagged = [group for group, chosen in zip(groups, tagged, strict=True) if chosen]
    covered = rule.plausible(logits)[np.arange(len(targets)), targets]
    return {
        "top1": Estimate.of_marks(right, groups),
        "auto_tag": Estimate.of_marks(tagged, groups),
        "auto_tag_precision": Estimate.of_marks(right[tagged], of_tagged),
        "coverage": Estimate.of_marks(covered, groups),
    }


def listings(
    recognizer: CarRecognizer,
    photos: Sequence[LabeledPhoto],
    logits: np.ndarray,
    areas: np.ndarray,
) -> dict[str, Any]:
    """First answers to one photo of a car and to several, for each dataset that has such cars."""
    cars: dict[tuple[str, str, int], list[int]] = defaultdict(list)
    for number, photo in enumerate(photos):
        cars[photo.source, photo.group, photo.target].append(number)
    result: dict[str, Any] = {}
    for name in sorted({photo.source for photo in photos}):
        some = [(k, v[:MOST]) for k, v in cars.items() if k[0] == name and len(v) > 1]
        if not some:
            continue
        single, fused, sure = [], [], []
        for (_, _, target), numbers in some:
            both = fuse(logits[numbers], areas[numbers], recognizer.rule.calibration)
            single.append(float((logits[numbers].argmax(axis=1) == target).mean()))
            fused.append(int(both.argmax()) == target)
            sure.append(float(recognizer.rule.confidences(both)[YEAR].max()))
        groups = [group for (_, group, _), _ in some]
        result[name] = {
            "cars": len(some),
            "photos": sum(len(numbers) for _, numbers in some),
            "one_photo": Estimate.of_values(single, groups),
            "fused": Estimate.of_marks(np.array(fused), groups),
            "confidence": float(np.mean(sure)),
        }
    return result


def claims(
    recognizer: CarRecognizer,
    photos: Sequence[LabeledPhoto],
    logits: np.ndarray,
    refused: np.ndarray,
) -> dict[str, Any]:
    """What is said of right and wrong texts, half of each."""
    rule = recognizer.rule
    calibration = rule.calibration
    assert calibration is not None
    kept = np.flatnonzero(~refused)
    targets = np.array([photo.target for photo in photos])[kept]
    values, marks, rows = compare_with_texts(rule, logits[kept], targets, seed=1)
    names = np.array([photos[number].group for number in kept[rows]])
    none = np.zeros(len(values), bool)
    agrees = values >= calibration.agrees if calibration.agrees is not None else none
    limit = calibration.contradicts
    contradicts = values <= limit if limit is not None else none
    return {
        "texts": len(values),
        "agrees": {
            "said_of_right": Estimate.of_marks(agrees[marks], names[marks].tolist()),
            "precision": Estimate.of_marks(marks[agrees], names[agrees].tolist()),
        },
        "contradicts": {
            "said_of_wrong": Estimate.of_marks(contradicts[~marks], names[~marks].tolist()),
            "precision": Estimate.of_marks(~marks[contradicts], names[contradicts].tolist()),
        },
    }


if __name__ == "__main__":
    main()
