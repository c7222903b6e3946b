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
from space.labels import parse_label
from space.recognizer import CarRecognizer
from trainer.provenance import git_revision
from trainer.sources import DataError, read_sources
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
    parser.add_argument("--data", action="append", required=True, metavar="NAME=SOURCE",
                        help="as for training; may be given several times")  # fmt: skip
    parser.add_argument("--split-file", type=Path, required=True, metavar="FILE",
                        help="the run's split.csv, or one of trainer/splits/")  # fmt: skip
    parser.add_argument("--split", choices=SPLITS, default=TEST, help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        recognizer = CarRecognizer.from_pretrained(options.checkpoint)
        metrics = evaluate(recognizer, options.data, options.split_file, options.split)
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
    recognizer: CarRecognizer, specs: Sequence[str], split_file: Path, split: str
) -> dict[str, Any]:
    """Measures one split of the data sets.

    Returns:
        What metrics.json holds, without the command: the shares of photos whose class is the
        first answer (`top1`) or among the first five (`top5`), and whose make is the most likely
        one (`make`), with the split they were measured on.

    Raises:
        DataError: no photo of the split is there, one cannot be read, or its class is unknown.
    """
    photos = _photos_of(specs, split_file, split)
    unknown = sorted({label for _, label, _ in photos} - set(recognizer.labels))
    if unknown:
        raise DataError(f"the checkpoint does not know {len(unknown)} classes: {unknown[:3]}")
    answers = recognizer.stream((read() for _, _, read in photos), top_k=5)
    top1 = top5 = make = 0
    progress = tqdm(zip(photos, answers, strict=True), total=len(photos), unit="photo")
    for (path, label, _), answer in progress:
        if answer.error:
            raise DataError(f"{path}: {answer.error}")
        names = [prediction.label for prediction in answer.predictions]
        top1 += names[0] == label
        top5 += label in names
        make += answer.makes[0].make == parse_label(label).make
    count = len(photos)
    return {
        "split": {"name": split, "file_sha256": file_hash(split_file), "photos": count},
        "weights": recognizer.revision,
        "git_revision": git_revision(),
        "top1": asdict(Share.of(top1, count)),
        "top5": asdict(Share.of(top5, count)),
        "make": asdict(Share.of(make, count)),
    }


def _photos_of(
    specs: Sequence[str], split_file: Path, split: str
) -> list[tuple[str, str, Callable[[], bytes]]]:
    """(path, label, reader of its bytes) of every photo that the file puts into the split."""
    rows = read_split(split_file)
    photos = [
        (path, rows[source.name, path]["label"], reader)
        for source in read_sources(specs)
        for path, reader in zip(source.photos["path"], source.readers(), strict=True)
        if rows.get((source.name, path), {}).get("split") == split
    ]
    wanted = sum(row["split"] == split for row in rows.values())
    if len(photos) < wanted or not photos:
        raise DataError(
            f"{split_file} names {wanted} {split} photos, but --data has only {len(photos)} of them"
        )
    return photos


if __name__ == "__main__":
    sys.exit(main())
