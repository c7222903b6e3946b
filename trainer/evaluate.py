"""Measures a checkpoint as a user would meet it: `python -m trainer.evaluate CHECKPOINT …`.

The checkpoint is opened anew, every photo goes in as a file, and what comes out is compared with
its label. The result is written into the checkpoint as metrics.json.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

if not __package__:  # run as a script: the repository is the place to import from, not trainer/
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from scipy.stats import binomtest
from tqdm import tqdm

from space.checkpoints import CheckpointError, file_hash, write_json
from space.labels import Car
from space.recognizer import CarRecognizer, Recognition
from trainer.classes import match
from trainer.options import add_data_options, columns_of
from trainer.provenance import git_revision
from trainer.source import Columns, DataError
from trainer.sources import read_sources
from trainer.splits import SPLITS, TEST, read_split

METRICS = "metrics.json"


@dataclass(frozen=True)
class Share:
    """A share of photos, 0 to 1, with the ends of its 95% interval (Wilson's)."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, successes: int, count: int) -> "Share":
        interval = binomtest(successes, count).proportion_ci(0.95, method="wilson")
        return cls(successes / count, float(interval.low), float(interval.high))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainer.evaluate", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a checkpoint folder")
    add_data_options(parser)
    parser.add_argument("--split-file", type=Path, required=True, metavar="FILE",
                        help="the run's split.csv, or one of trainer/splits/")  # fmt: skip
    parser.add_argument("--split", choices=SPLITS, default=TEST, help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        recognizer = CarRecognizer.from_pretrained(options.checkpoint)
        columns = columns_of(options)
        metrics = evaluate(recognizer, options.data, options.split_file, options.split, columns)
    except (CheckpointError, DataError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    command = ["trainer.evaluate", *(sys.argv[1:] if arguments is None else arguments)]
    metrics["command"] = "python -m " + shlex.join(command)
    write_json(options.checkpoint / METRICS, metrics)
    for name in ("top1", "top5", "make"):
        share = metrics[name]
        print(f"{name:5} {share['value']:.1%}  (95%: {share['low']:.1%} to {share['high']:.1%})")
    print(f"on {metrics['split']['photos']} {options.split} photos")
    return 0


def evaluate(
    recognizer: CarRecognizer,
    specs: Sequence[str],
    split_file: Path,
    split: str,
    columns: Columns | None = None,
) -> dict[str, Any]:
    """Measures one split of the data sets.

    Returns:
        What metrics.json holds, without the command: the shares of photos whose class is the
        first answer (`top1`) or among the first five (`top5`), and whose make is the most likely
        one (`make`), with the split they were measured on; with several data sets the same for
        each of them under `sources`.

    Raises:
        DataError: no photo of the split is there, one cannot be read, or its class is unknown.
    """
    photos = _photos_of(recognizer, specs, split_file, split, columns)
    answers = recognizer.stream((photo.read() for photo in photos), top_k=5)
    progress = tqdm(zip(photos, answers, strict=True), total=len(photos), unit="photo")
    marks: dict[str, list[tuple[bool, bool, bool]]] = {}
    for photo, answer in progress:
        if answer.error:
            raise DataError(f"{photo.path}: {answer.error}")
        marks.setdefault(photo.source, []).append(_mark(photo, answer))
    metrics: dict[str, Any] = {
        "split": {"name": split, "file_sha256": file_hash(split_file), "photos": len(photos)},
        "weights": recognizer.revision,
        "git_revision": git_revision(),
        **_shares([mark for rows in marks.values() for mark in rows]),
    }
    if len(marks) > 1:
        metrics["sources"] = {
            name: {"photos": len(rows), **_shares(rows)} for name, rows in marks.items()
        }
    return metrics


@dataclass(frozen=True)
class _Photo:
    """A photo to be judged by: its class is written as the checkpoint writes it."""

    source: str
    path: str
    label: str
    car: Car
    read: Callable[[], bytes]


def _mark(photo: _Photo, answer: Recognition) -> tuple[bool, bool, bool]:
    """Whether the class comes first, is among the first five, and whether the make is right."""
    names = [prediction.label for prediction in answer.predictions]
    return names[0] == photo.label, photo.label in names, answer.makes[0].make == photo.car.make


def _shares(marks: Sequence[tuple[bool, bool, bool]]) -> dict[str, Any]:
    return {
        name: asdict(Share.of(sum(column), len(marks)))
        for name, column in zip(("top1", "top5", "make"), zip(*marks, strict=True), strict=True)
    }


def _photos_of(
    recognizer: CarRecognizer,
    specs: Sequence[str],
    split_file: Path,
    split: str,
    columns: Columns | None,
) -> list[_Photo]:
    """Every photo that the file puts into the split."""
    rows = read_split(split_file)
    car_of = dict(zip(recognizer.labels, recognizer.cars, strict=True))
    photos, unknown = [], set()
    sources = read_sources(specs, columns)
    for source in sources:
        known = match(source, recognizer.labels, recognizer.cars)
        for path, reader in zip(source.photos["path"], source.readers(), strict=True):
            row = rows.get((source.name, path), {})
            if row.get("split") != split:
                continue
            label = known.get(row["label"])
            if label is None:
                unknown.add(row["label"])
            else:
                photos.append(_Photo(source.name, path, label, car_of[label], reader))
    if unknown:
        some = ", ".join(sorted(unknown)[:3])
        raise DataError(f"the checkpoint does not know {len(unknown)} of the classes: {some}")
    given = {source.name for source in sources}
    wanted = sum(row["split"] == split for (name, _), row in rows.items() if name in given)
    if len(photos) < wanted or not photos:
        raise DataError(
            f"{split_file} names {wanted} {split} photos, but --data has only {len(photos)} of them"
        )
    return photos


if __name__ == "__main__":
    sys.exit(main())
