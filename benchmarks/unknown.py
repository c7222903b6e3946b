"""Cars of classes that the network never saw: `python -m benchmarks.unknown --data …`.

A fifth of the classes takes no part in training. On test photos of these and of the known classes,
scores that could tell the two apart are compared: the best logit (Hendrycks et al. 2022,
arXiv:1911.11132), the best probability (Hendrycks and Gimpel 2017, arXiv:1610.02136) and the
energy (Liu et al. 2020, arXiv:2010.03759). A finished training is kept, so that the command can go
on where it stopped; the result is written to benchmarks/unknown.json.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logsumexp, softmax

from space.checkpoints import write_json
from space.recognizer import CarRecognizer
from space.walk import user_path
from trainer.data.dataset import load_data
from trainer.data.options import add_cache_options, add_data_options, cache_of, columns_of
from trainer.data.splits import EXCLUDED, TEST, Photo, write_split
from trainer.evaluation.measure import measure_accuracy
from trainer.evaluation.predictions import find_photos, predict_photos
from trainer.evaluation.rejection import ood_metrics
from trainer.provenance import command_line, git_revision
from trainer.training.config import TrainConfig
from trainer.training.run import train

RESULT = Path(__file__).with_name("unknown.json")
EVERY = 5  # one class in so many is left out
RECIPE = {
    "model": "tf_efficientnet_lite1",
    "epochs": 12,
    "start_size": 96,
    "train_size": 128,
    "test_size": 160,
    "lr": 0.001,
}


def main() -> None:
    """Trains unless that was done, measures, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_options(parser)
    parser.add_argument("--split-file", type=user_path, required=True, metavar="FILE")
    parser.add_argument("--out", type=user_path, default=Path("runs/unknown"), metavar="FOLDER",
                        help="where the run is kept (default: %(default)s)")  # fmt: skip
    add_cache_options(parser)
    options = parser.parse_args()
    data = load_data(
        options.data, cache_of(options), columns=columns_of(options), split_file=options.split_file
    )
    unknown = set(range(0, len(data.classes.labels), EVERY))
    split_file = options.out.with_suffix(".csv")
    write_split(split_file, known_only(data.photos, unknown))
    if not (options.out / "done").exists():
        config = TrainConfig(
            data=tuple(options.data),
            out=options.out,
            split_file=split_file,
            cache=options.cache,
            cache_size=options.cache_size,
            resume=(options.out / "resume.safetensors").exists(),
            **RECIPE,  # type: ignore[arg-type]
        )
        train(config)
        (options.out / "done").touch()
    recognizer = CarRecognizer.from_pretrained(options.out / "checkpoint")
    found = measure(recognizer, options, unknown)
    print(found)
    write_json(RESULT, found)


def known_only(photos: Sequence[Photo], unknown: set[int]) -> list[Photo]:
    """The split without the photos of unknown classes."""
    return [
        replace(photo, split=EXCLUDED) if photo.target in unknown else photo for photo in photos
    ]


def measure(
    recognizer: CarRecognizer, options: argparse.Namespace, unknown: set[int]
) -> dict[str, Any]:
    """How well each score tells test photos of unknown classes from those of known ones."""
    photos = find_photos(recognizer, options.data, options.split_file, columns_of(options))
    tested = [photo for photo in photos if photo.split == TEST]
    predictions = predict_photos(recognizer, [photo.read for photo in tested], TEST)
    targets = np.array([photo.target for photo in tested])
    strange = np.isin(targets, list(unknown))
    # The outputs of classes that nothing taught say nothing.
    known = [number for number in range(len(recognizer.labels)) if number not in unknown]
    logits = predictions.logits[:, known]
    scores = {
        "max_logit": logits.max(axis=1),
        "max_probability": softmax(logits, axis=1).max(axis=1),
        "energy": logsumexp(logits, axis=1),
    }
    accuracy = measure_accuracy(
        recognizer.rule,
        predictions.logits[~strange],
        targets[~strange],
        [photo.group for photo, odd in zip(tested, strange, strict=True) if not odd],
    )
    return {
        "command": command_line("python -m benchmarks.unknown"),
        "recipe": RECIPE,
        "left_out_classes": len(unknown),
        "known_classes": len(known),
        "known_photos": int((~strange).sum()),
        "unknown_photos": int(strange.sum()),
        "known_top1": accuracy["top1"],
        "scores": {
            name: ood_metrics(score[~strange], score[strange]) for name, score in scores.items()
        },
        "git_revision": git_revision(),
    }


if __name__ == "__main__":
    main()
