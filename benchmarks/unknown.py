"""Cars of classes that the network never saw: `python -m benchmarks.unknown --data … --new …`.

One class in eight takes no part in training, and of the datasets of --new none does. The network is
trained, measured and rid of the outputs that nothing taught, so that RUN/known is a checkpoint that
has never seen these cars; `benchmarks.extend` adds them to it. Here it is told what happens to them
before that: how many are tagged or rejected, and how well scores tell them from known cars: the
best logit (Hendrycks et al. 2022, arXiv:1911.11132), the best probability (Hendrycks and Gimpel
2017, arXiv:1610.02136) and the energy (Liu et al. 2020, arXiv:2010.03759). All that is of test
photos. Others choose the share of right answers that the limit for the best logit keeps from being
tagged. A finished training is kept, so that the command can go on where it stopped; the result is
written to benchmarks/unknown.json.
"""

import argparse
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logsumexp, softmax

from space.answers import AUTO_TAG, REJECTED, Recognition
from space.checkpoints import file_hash, write_json
from space.errors import MarqueError
from space.recognizer import CarRecognizer
from space.walk import user_path
from trainer import evaluate
from trainer.data.classes import match
from trainer.data.dataset import load_data
from trainer.data.options import add_cache_options, add_data_options, cache_of, columns_of
from trainer.data.sources import read_sources
from trainer.data.splits import EXCLUDED, TEST, Photo, read_split, write_split
from trainer.evaluation.calibrate import fit_calibration
from trainer.evaluation.measure import measure_accuracy, measure_verdicts, recognize
from trainer.evaluation.metrics import Estimate
from trainer.evaluation.predictions import (
    LabeledPhoto,
    Predictions,
    predict_photos,
)
from trainer.evaluation.rejection import ood_metrics
from trainer.extending.forget import forget
from trainer.provenance import command_line, git_revision
from trainer.training.config import TrainConfig, read_recipe
from trainer.training.run import train

RESULT = Path(__file__).with_name("unknown.json")
EVERY = 8  # one class in so many is left out
SHARES = (0.0, 0.02, 0.05, 0.07, 0.1)  # of right answers that may be kept from being tagged
RECIPE = "photos"
CHANGED = {
    "model": "tf_efficientnet_lite1",
    "epochs": 24,
    "lr": 0.001,
    "warmup": 0.15,
    "label_smoothing": 0.05,
    "drop_path": 0.0,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains unless that was done, measures, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_options(parser)
    parser.add_argument("--new", action="append", default=[], metavar="NAME=LOCATION",
                        help="a dataset that takes no part in training at all")  # fmt: skip
    parser.add_argument("--split-file", type=user_path, required=True, metavar="FILE")
    parser.add_argument("--others", type=user_path, required=True, metavar="FOLDER",
                        help="photos that show no car")  # fmt: skip
    parser.add_argument("--out", type=user_path, default=Path("runs/unknown"), metavar="FOLDER",
                        help="where the run is kept (default: %(default)s)")  # fmt: skip
    add_cache_options(parser)
    options = parser.parse_args(arguments)
    if not (options.out / "known" / "model.safetensors").exists():
        _train(options)
    recognizer = CarRecognizer.from_pretrained(options.out / "known")
    known, new = split_by_class(recognizer, options)
    tested = [photo for photo in known if photo.split == TEST]
    for_choice = [photo for photo in new if photo.split != TEST]
    new_tested = [photo for photo in new if photo.split == TEST]
    write_json(
        RESULT,
        {
            "command": command_line("python -m benchmarks.unknown", arguments),
            "recipe": RECIPE,
            "changed": CHANGED,
            "checkpoint": recognizer.revision,
            "split_sha256": file_hash(options.split_file),
            "known_classes": len(recognizer.labels),
            **measure(
                recognizer,
                tested,
                predict_photos(recognizer, [photo.read for photo in tested], "known"),
                new_tested,
                predict_photos(recognizer, [photo.read for photo in new_tested], "unknown"),
            ),
            "choice": compare_shares(
                recognizer,
                for_choice,
                predict_photos(recognizer, [photo.read for photo in for_choice], "for the choice"),
            ),
            "git_revision": git_revision(),
        },
    )


def _train(options: argparse.Namespace) -> None:
    data = load_data(
        options.data, cache_of(options), columns=columns_of(options), split_file=options.split_file
    )
    unknown = set(range(0, len(data.classes.labels), EVERY))
    split_file = options.out.with_suffix(".csv")
    write_split(split_file, known_only(data.photos, unknown))
    checkpoint = options.out / "checkpoint"
    if not (options.out / "done").exists():
        config = TrainConfig(
            **{
                **read_recipe(RECIPE),
                **CHANGED,
                "data": tuple(options.data),
                "split_file": split_file,
            },
            recipe=RECIPE,
            out=options.out,
            cache=options.cache,
            cache_size=options.cache_size,
            resume=(options.out / "resume.safetensors").exists(),
        )
        train(config)
        (options.out / "done").touch()
    data_options = [word for spec in options.data for word in ("--data", spec)]
    failed = evaluate.main([
        str(checkpoint), *data_options, "--split-file", str(split_file),
        "--others", str(options.others), "--robustness", "0", "--scenes", "0",
    ])  # fmt: skip
    if failed:
        raise MarqueError(f"{checkpoint} could not be measured")
    forget(
        str(checkpoint),
        options.out / "known",
        drop=[data.classes.labels[number] for number in sorted(unknown)],
        rename={},
        record={"command": command_line("python -m benchmarks.unknown")},
    )


def known_only(photos: Sequence[Photo], unknown: set[int]) -> list[Photo]:
    """The split without the photos of unknown classes."""
    return [
        replace(photo, split=EXCLUDED) if photo.target in unknown else photo for photo in photos
    ]


@dataclass(frozen=True)
class NewPhoto(LabeledPhoto):
    """A photo of a class that the checkpoint does not know.

    Attributes:
        label: the name of the class; `target` is its number among the new ones of its source.
    """

    label: str


def split_by_class(
    recognizer: CarRecognizer, options: argparse.Namespace
) -> tuple[list[LabeledPhoto], list[NewPhoto]]:
    """The photos of --data and --new that the split uses: of classes that are known, and others."""
    split = read_split(options.split_file)
    number_of = {label: number for number, label in enumerate(recognizer.labels)}
    known: list[LabeledPhoto] = []
    new: list[NewPhoto] = []
    for source in read_sources([*options.data, *options.new], columns_of(options)):
        found = match(source, recognizer.labels, recognizer.cars)
        names = [name for name in source.label_names if found.get(name) not in number_of]
        table = source.photos
        for path, label, read in zip(table["path"], table["label"], source.readers(), strict=True):
            row = split.get((source.name, path))
            if row is None or row["split"] == EXCLUDED:
                continue
            name = source.label_names[label]
            target = names.index(name) if name in names else number_of[found[name]]
            photo = (source.name, path, target, row["split"], row["group"], read)
            if name in names:
                new.append(NewPhoto(*photo, name))
            else:
                known.append(LabeledPhoto(*photo))
    return known, new


def measure(
    recognizer: CarRecognizer,
    known: Sequence[LabeledPhoto],
    predicted: Predictions,
    new: Sequence[NewPhoto],
    predicted_new: Predictions,
) -> dict[str, Any]:
    """What happens to cars that the checkpoint does not know.

    Args:
        known, predicted: test photos of known classes.
        new, predicted_new: photos of other classes.
    """
    targets = np.array([photo.target for photo in known])
    groups = [photo.group for photo in known]
    right = predicted.logits.argmax(axis=1) == targets
    answers = recognize(recognizer, predicted_new)
    scores = {"max_logit": _max_logit, "max_probability": _max_probability, "energy": logsumexp}
    by_source = {}
    for source in sorted({photo.source for photo in new}):
        mine = np.array([photo.source == source for photo in new])
        some = [photo for photo in new if photo.source == source]
        logits = predicted_new.logits[mine]
        by_source[source] = {
            "classes": len({photo.label for photo in some}),
            "photos": len(some),
            "auto_tag": _share(answers, new, source, AUTO_TAG),
            "rejected": _share(answers, new, source, REJECTED),
            "scores": {
                name: ood_metrics(score(predicted.logits, axis=1), score(logits, axis=1))
                for name, score in scores.items()
            },
        }
    return {
        "known": {
            "photos": len(known),
            "top1": measure_accuracy(recognizer.rule, predicted.logits, targets, groups)["top1"],
            **measure_verdicts(recognize(recognizer, predicted), right, groups),
        },
        "unknown": by_source,
    }


def compare_shares(
    recognizer: CarRecognizer, new: Sequence[NewPhoto], predicted: Predictions
) -> list[dict[str, Any]]:
    """How many cars are tagged by the share of right answers that the best logit may keep from it.

    Of known classes these are the held-out photos that calibrate the checkpoint.

    Args:
        new, predicted: photos of other classes.
    """
    memory, rule = recognizer.memory, recognizer.rule
    assert memory
    assert rule.calibration
    groups = [str(group) for group in memory.groups]
    right = memory.logits.argmax(axis=1) == memory.targets
    rows = []
    for share in SHARES:
        calibration = fit_calibration(
            recognizer.labels, recognizer.cars, memory.logits, memory.targets, groups,
            memory.sources, rule.calibration.gate, unfamiliar_share=share,
        )  # fmt: skip
        other = copy(recognizer)
        other.rule = replace(rule, calibration=calibration)
        known = other.rule.recognitions(memory.logits, [None] * len(memory.logits), 1)
        answers = recognize(other, predicted)
        rows.append(
            {
                "share": share,
                "known": measure_verdicts(known, right, groups),
                "unknown": {
                    source: _share(answers, new, source, AUTO_TAG)
                    for source in sorted({photo.source for photo in new})
                },
            }
        )
    return rows


def _share(
    answers: Sequence[Recognition], new: Sequence[NewPhoto], source: str, verdict: str
) -> dict[str, float]:
    """How many of the photos of one source get this verdict."""
    mine = [number for number, photo in enumerate(new) if photo.source == source]
    marks = np.array([answers[number].verdict == verdict for number in mine])
    return Estimate.of_marks(marks, [new[number].group for number in mine])


def _max_logit(logits: np.ndarray, axis: int) -> np.ndarray:
    return logits.max(axis=axis)


def _max_probability(logits: np.ndarray, axis: int) -> np.ndarray:
    return softmax(logits, axis=axis).max(axis=axis)


if __name__ == "__main__":
    main()
