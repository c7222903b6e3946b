"""Calibrates a checkpoint and measures it: `python -m trainer.evaluate CHECKPOINT …`.

The checkpoint is opened as a user would open it. On validation photos it learns what its
confidences mean and when to refuse a photo; on test photos, which took no part in that nor in
training, all of it is measured. The checkpoint gets

    calibration.json    what its confidences mean, see `space.calibration`
    memory.safetensors  held-out photos as the network sees them, see `space.memory`
    gate.safetensors    which photos it refuses, see `space.gate`; with --others
    metrics.json        everything that was measured

and the folder of --out the figures and tables. Photos that people may not pass on are in the
gallery among them: look at it, and keep it.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from space.checkpoints import CALIBRATION, METRICS, WEIGHTS, file_hash, write_json
from space.errors import DataError, MarqueError
from space.gate import GATE
from space.recognizer import CarRecognizer
from space.walk import user_path
from trainer.data.options import add_data_options, columns_of
from trainer.data.source import photos_below
from trainer.data.splits import TEST, TRAIN, VALIDATION
from trainer.evaluation import measure, rejection
from trainer.evaluation.calibrate import fit_calibration
from trainer.evaluation.memory import remember
from trainer.evaluation.predictions import LabeledPhoto, find_photos, predict_photos
from trainer.evaluation.rejection import GateData
from trainer.evaluation.report import write_report
from trainer.evaluation.scenes import measure_scenes
from trainer.heap import keep_freed_memory
from trainer.provenance import command_line, git_revision
from trainer.training.checkpoints import seal


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    options = _parser().parse_args(arguments)
    keep_freed_memory()
    try:
        metrics = evaluate(options)
    except MarqueError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    metrics["command"] = command_line("python -m trainer.evaluate", arguments)
    metrics |= _speed_of(options.checkpoint, metrics["weights"])
    write_json(options.checkpoint / METRICS, metrics)
    _print(metrics)
    return 0


def _speed_of(folder: Path, weights: str) -> dict[str, Any]:
    """What `benchmarks.latency` measured of the same weights, to be kept."""
    with suppress(OSError, ValueError):
        earlier = json.loads((folder / METRICS).read_text("utf-8"))
        if earlier["weights"] == weights:
            return {"speed": earlier["speed"]} if "speed" in earlier else {}
    return {}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=user_path, help="a checkpoint folder")
    add_data_options(parser)
    parser.add_argument("--split-file", type=user_path, metavar="FILE",
                        help="the run's split.csv, or one of trainer/splits/ (default: the "
                        "parts that the dataset's authors made)")  # fmt: skip
    parser.add_argument("--split", choices=(TRAIN, VALIDATION, TEST), default=TEST,
                        help="the photos to measure on (default: %(default)s)")  # fmt: skip
    parser.add_argument("--others", type=user_path, metavar="FOLDER",
                        help="photos that show no car, or the name of their folder in "
                        "MARQUE_DATA; with them the checkpoint gets a gate, and without them "
                        "it refuses nothing but cars unlike all that it knows")  # fmt: skip
    parser.add_argument("--non-exteriors", "--no-exteriors", type=user_path, metavar="FILE",
                        help="CSV with a column photo: paths in the datasets that show "
                        "the inside or a part of a car")  # fmt: skip
    parser.add_argument("--keep-calibration", action="store_true",
                        help="measure with the calibration that the checkpoint has")  # fmt: skip
    parser.add_argument("--robustness", type=int, default=400, metavar="PHOTOS",
                        help="how many test photos to corrupt in each way; 0 for none "
                        "(default: %(default)s)")  # fmt: skip
    parser.add_argument("--scenes", type=int, default=300, metavar="PHOTOS",
                        help="how many test photos of each dataset to paste into photos of "
                        "--others; 0 for none (default: %(default)s)")  # fmt: skip
    parser.add_argument("--out", type=user_path, metavar="FOLDER",
                        help="where figures and tables go (default: evaluation/ beside "
                        "the checkpoint)")  # fmt: skip
    return parser


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """Calibrates and measures as the options say; returns what metrics.json holds.

    Raises:
        CheckpointError: the checkpoint cannot be opened.
        DataError: photos are missing, cannot be read, or their class is unknown.
    """
    revision = git_revision()  # before the checkpoint changes, which may lie among the code
    recognizer = CarRecognizer.from_pretrained(
        options.checkpoint, calibrated=options.keep_calibration
    )
    photos = find_photos(recognizer, options.data, options.split_file, columns_of(options))
    tested = [photo for photo in photos if photo.split == options.split]
    if not tested:
        raise DataError(f"{_split_name(options)} has no {options.split} photo")
    others = read_others(options.others) if options.others else []
    samples = _gate_data(recognizer, photos, others, options.non_exteriors)
    if samples and not options.keep_calibration:
        recognizer.gate = rejection.fit_gate(samples)  # it says where in a photo the car is
    # Before anything is written: a photo that cannot be read leaves the checkpoint as it was.
    predictions = predict_photos(recognizer, [photo.read for photo in tested], options.split)
    if not options.keep_calibration:
        calibrate(recognizer, options.checkpoint, photos, options.split_file)
        recognizer = CarRecognizer.from_pretrained(options.checkpoint)
    metrics: dict[str, Any] = {
        "split": {
            "name": options.split,
            "file_sha256": file_hash(options.split_file) if options.split_file else None,
            "photos": len(tested),
        },
        "weights": recognizer.revision,
        "git_revision": revision,
        "data": sorted({photo.source for photo in tested}),
        **measure.measure_all(recognizer, tested, predictions),
    }
    judged: list[tuple[GateData, np.ndarray]] = []
    if recognizer.gate:
        held_out = rejection.held_out_crops(recognizer, photos)
        judged = rejection.judged(recognizer.gate, samples, [held_out])
        metrics["rejection"] = measure.measure_rejection(recognizer, tested, predictions, judged)
    if len(metrics["data"]) > 1:
        metrics["crossings"] = measure.measure_crossings(photos, tested, predictions)
    if others and options.scenes:
        metrics["scenes"] = measure_scenes(recognizer, tested, others, options.scenes)
    if options.robustness:
        metrics["robustness"] = measure.measure_robustness(recognizer, tested, options.robustness)
    folder = options.out or options.checkpoint.parent / "evaluation"
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as draft:
        write_report(Path(draft), recognizer, tested, predictions, metrics, judged)
        files = sorted(Path(draft).iterdir())
        # By these the model card knows figures of this evaluation from those of another.
        metrics["figures"] = {path.name: file_hash(path) for path in files if path.suffix == ".png"}
        for path in files:
            path.replace(folder / path.name)
    return metrics


def _split_name(options: argparse.Namespace) -> str:
    return str(options.split_file or "the official split")


def read_others(given: Path) -> list[Callable[[], bytes]]:
    """Readers of photos that show no car.

    Args:
        given: their folder, or its name in MARQUE_DATA.

    Raises:
        DataError: there is no such folder, or no photo in it.
    """
    folder = given
    if not folder.is_dir():  # like a dataset, it may lie in the folder that MARQUE_DATA names
        folder = Path(os.environ.get("MARQUE_DATA", "")) / folder
    if not folder.is_dir():
        raise DataError(f"--others {given}: there is no such folder")
    readers = [(folder / path).read_bytes for path in photos_below(folder)[0]]
    if not readers:
        raise DataError(f"--others {given}: there is no photo in it")
    return readers


def _gate_data(
    recognizer: CarRecognizer,
    photos: Sequence[LabeledPhoto],
    others: Sequence[Callable[[], bytes]],
    non_exteriors: Path | None,
) -> list[GateData]:
    """What the gate learns from; nothing without photos of other things."""
    if not others:
        return []
    samples = rejection.cars_and_parts(recognizer, photos)
    samples.append(rejection.drawn(recognizer))
    samples.append(rejection.augmented(recognizer, rejection.OTHER, rejection.OTHERS, others))
    if non_exteriors:
        wanted = rejection.read_paths(non_exteriors)
        some = [photo for photo in photos if photo.path in wanted]
        if not some:
            raise DataError(f"--non-exteriors {non_exteriors}: none of its photos is there")
        samples.append(
            rejection.augmented(
                recognizer,
                rejection.PART,
                rejection.NO_EXTERIORS,
                [photo.read for photo in some],
                [photo.group for photo in some],
            )
        )
    return samples


def calibrate(
    recognizer: CarRecognizer,
    folder: Path,
    photos: Sequence[LabeledPhoto],
    split_file: Path | None,
) -> None:
    """Writes calibration.json, and gate.safetensors if the recognizer has a gate.

    Raises:
        DataError: there are no validation photos.
    """
    chosen = [photo for photo in photos if photo.split == VALIDATION]
    if not chosen:
        raise DataError(
            f"{split_file or 'the official split'} has no validation photo to calibrate on; "
            "measure with the calibration that there is by --keep-calibration, or name another "
            "--split-file"
        )
    predictions = predict_photos(recognizer, [photo.read for photo in chosen], VALIDATION)
    sources = np.array([photo.source for photo in chosen])
    gate = recognizer.gate
    threshold = rejection.fit_threshold(gate, predictions.features) if gate else None
    calibration = fit_calibration(
        recognizer.labels,
        recognizer.cars,
        predictions.logits,
        np.array([photo.target for photo in chosen]),
        [photo.group for photo in chosen],
        sources,
        threshold,
        np.array([box.area if box else 1.0 for box in predictions.boxes]),
    )
    memory = remember(recognizer, photos, chosen, predictions)
    # The calibration last, since it is what asks for the gate.
    (folder / CALIBRATION).unlink(missing_ok=True)
    (folder / GATE).unlink(missing_ok=True)
    if gate:
        gate.save(folder)
    memory.save(folder)
    write_json(
        folder / CALIBRATION,
        {
            **calibration.as_json(),
            "weights_sha256": file_hash(folder / WEIGHTS),
            "split": {
                "name": VALIDATION,
                "file_sha256": file_hash(split_file) if split_file else None,
                "photos": len(chosen),
            },
        },
    )
    seal(folder)


def _print(metrics: dict[str, Any]) -> None:
    for name in ("top1", "top5", "make", "model"):
        print(f"{name:5} {_words(metrics[name])}")
    after = metrics["calibration"]["after"]["year"]
    print(
        f"ECE   {after['ece']:.1%} (perfect confidences would show {after['ece_if_perfect']:.1%})"
    )
    verdicts = metrics["verdicts"]
    print(f"tagged {_words(verdicts['auto_tag'])}, right {_words(verdicts['auto_tag_precision'])}")
    print(f"on {metrics['split']['photos']} {metrics['split']['name']} photos")


def _words(share: dict[str, float] | None) -> str:
    if not share:
        return "none"
    return f"{share['value']:.1%} (95%: {share['low']:.1%} to {share['high']:.1%})"


if __name__ == "__main__":
    sys.exit(main())
