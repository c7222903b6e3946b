"""One network for all datasets, or one for each: `python -m benchmarks.alone NAME=CHECKPOINT …`.

    python -m benchmarks.alone stanford_cars=runs/stanford/checkpoint \\
      algerian_used_cars=runs/algerian/checkpoint \\
      --split-file trainer/splits/stanford_and_algerian.csv

The bundled checkpoint and those of one dataset alone answer the same test photos of that set.
Written to benchmarks/alone.json, with the difference on the same photos.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from space.answers import MAKE
from space.checkpoints import write_json
from space.recognizer import CarRecognizer
from space.walk import user_path
from trainer.data.splits import TEST
from trainer.evaluation.metrics import Estimate, ranks
from trainer.evaluation.predictions import find_photos, predict_photos
from trainer.provenance import command_line, git_revision

RESULT = Path(__file__).with_name("alone.json")
MEASURES = ("top1", "top5", "make")


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("alone", nargs="+", metavar="NAME=CHECKPOINT",
                        help="a dataset of MARQUE_DATA and what was trained on it")  # fmt: skip
    parser.add_argument("--split-file", type=user_path, required=True, metavar="FILE")
    options = parser.parse_args()
    joint = opened(None)
    sets: dict[str, Any] = {}
    for pair in options.alone:
        name, _, folder = pair.partition("=")
        alone = opened(folder)
        together, groups = marks(joint, name, options.split_file)
        apart, _ = marks(alone, name, options.split_file)
        sets[name] = {"photos": len(groups), "weights": alone.revision}
        for measure in MEASURES:
            sets[name][measure] = {
                "joint": Estimate.of_marks(together[measure], groups),
                "alone": Estimate.of_marks(apart[measure], groups),
                "joint_less_alone": Estimate.of_change(together[measure], apart[measure], groups),
            }
    found = {
        "command": command_line("python -m benchmarks.alone"),
        "weights": joint.revision,
        "sets": sets,
        "git_revision": git_revision(),
    }
    print(found)
    write_json(RESULT, found)


def opened(checkpoint: str | None) -> CarRecognizer:
    """A recognizer as it is before calibration, whether it was evaluated or not."""
    return CarRecognizer.from_pretrained(checkpoint, calibrated=False)


def marks(
    recognizer: CarRecognizer, name: str, split_file: Path
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Which test photos of a dataset are right by each measure, and the group of each."""
    photos = [p for p in find_photos(recognizer, [name], split_file) if p.split == TEST]
    predictions = predict_photos(recognizer, [photo.read for photo in photos], name)
    targets = np.array([photo.target for photo in photos])
    rank = ranks(predictions.logits, targets)
    make = recognizer.rule.levels.index[MAKE]
    best = recognizer.rule.confidences(predictions.logits)[MAKE].argmax(axis=1)
    found = {"top1": rank < 1, "top5": rank < 5, "make": best == make[targets]}
    return found, [photo.group for photo in photos]


if __name__ == "__main__":
    main()
