"""How many photos a new class needs: `python -m benchmarks.extend CHECKPOINT --data … --new …`.

The checkpoint is one that has not seen some classes of these datasets: RUN/known of
`benchmarks.unknown`. Those of each dataset are added to it with 5, 10, 20, 50 and 100 photos each,
drawn from the training and validation photos of the split, several times. What is told is the first
answer on test photos: of the new classes among all classes, and of the old ones before and after.
Written to benchmarks/extend.json, and drawn to docs/extend.svg.
"""

import argparse
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.unknown import NewPhoto, split_by_class
from space.checkpoints import file_hash, open_checkpoint, write_json
from space.recognizer import CarRecognizer
from space.walk import user_path
from trainer.data.options import add_data_options
from trainer.data.splits import TEST
from trainer.evaluation.metrics import Estimate
from trainer.evaluation.predictions import predict_photos
from trainer.extending.extend import views_of
from trainer.extending.head import RowFitter
from trainer.extending.rewrite import open_head
from trainer.provenance import command_line, git_revision

PATH = Path(__file__).with_suffix(".json")
PLOT = Path(__file__).parent.parent / "docs" / "extend.svg"
COUNTS = (5, 10, 20, 50, 100)
SEEDS = 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=user_path)
    add_data_options(parser)
    parser.add_argument("--new", action="append", default=[], metavar="NAME=LOCATION",
                        help="another dataset with classes that it has not seen")  # fmt: skip
    parser.add_argument("--split-file", type=user_path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    checkpoint = open_checkpoint(options.checkpoint)
    head, recognizer = open_head(checkpoint), CarRecognizer(checkpoint)
    known, new = split_by_class(recognizer, options)
    tested = [photo for photo in known if photo.split == TEST]
    found = predict_photos(recognizer, [photo.read for photo in tested], "old classes")
    features = found.features[:, -head.weight.shape[1] :]
    targets, groups = np.array([p.target for p in tested]), [p.group for p in tested]
    before = features @ head.weight.T + head.bias
    fitter = RowFitter(head)
    result: dict[str, Any] = {
        "command": command_line("python -m benchmarks.extend", arguments),
        "checkpoint": recognizer.revision,
        "split_sha256": file_hash(options.split_file),
        "draws": SEEDS,
        "old_classes": len(head.bias),
        "old_test_photos": len(tested),
        "old_before": Estimate.of_marks(before.argmax(axis=1) == targets, groups),
        "sources": {
            source: _curve(
                recognizer,
                fitter,
                [photo for photo in new if photo.source == source],
                (features, targets, groups),
            )
            for source in sorted({photo.source for photo in new})
        },
        "git_revision": git_revision(),
    }
    write_json(PATH, result)
    draw(result)


def _curve(
    recognizer: CarRecognizer,
    fitter: RowFitter,
    new: Sequence[NewPhoto],
    tested: tuple[np.ndarray, np.ndarray, list[str]],
) -> dict[str, Any]:
    """First answers by the number of photos of each new class of one dataset.

    Args:
        tested: features, targets and groups of test photos of old classes.
    """
    head, classes = fitter.head, len({photo.label for photo in new})
    targets = np.array([photo.target for photo in new])
    views = views_of(recognizer, [photo.read for photo in new])[:, :, -head.weight.shape[1] :]
    test = [number for number, photo in enumerate(new) if photo.split == TEST]
    pool: dict[int, list[int]] = defaultdict(list)
    for number, photo in enumerate(new):
        if photo.split != TEST:
            pool[photo.target].append(number)
    old_features, old_targets, old_groups = tested
    rows = []
    for count in COUNTS:
        if count > np.median([len(some) for some in pool.values()]):
            break
        right, kept = [], []
        for seed in range(SEEDS):
            rng = random.Random(f"{seed}/{count}")
            chosen = [
                number
                for _, some in sorted(pool.items())
                for number in rng.sample(some, min(count, len(some)))
            ]
            added = fitter.fit(views[chosen], targets[chosen], classes)
            full = (
                np.concatenate([head.weight, added.weight]),
                np.concatenate([head.bias, added.bias]),
            )
            logits = views[test, 0] @ full[0].T + full[1]
            right.append(logits.argmax(axis=1) == len(head.bias) + targets[test])
            kept.append((old_features @ full[0].T + full[1]).argmax(axis=1) == old_targets)
        rows.append(
            {
                "photos_per_class": count,
                "new": Estimate.of_marks(
                    np.concatenate(right), [new[n].group for n in test] * SEEDS
                ),
                "old": Estimate.of_marks(np.concatenate(kept), old_groups * SEEDS),
            }
        )
    return {"new_classes": classes, "new_test_photos": len(test), "rows": rows}


def draw(result: dict[str, Any]) -> None:
    """The curves, as a figure: one part for each dataset."""
    sources = result["sources"]
    figure, parts = plt.subplots(
        1, len(sources), figsize=(3.6 * len(sources), 3.2), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axes, (source, curve) in zip(parts[0], sources.items(), strict=True):
        counts = [row["photos_per_class"] for row in curve["rows"]]
        for key, label in (("new", "new classes"), ("old", "old classes")):
            values, low, high = (
                [100 * row[key][end] for row in curve["rows"]] for end in ("value", "low", "high")
            )
            axes.plot(counts, values, marker="o", label=label)
            axes.fill_between(counts, low, high, alpha=0.2)
        axes.axhline(100 * result["old_before"]["value"], linestyle=":", color="gray", linewidth=1)
        axes.set(
            title=f"{curve['new_classes']} of {source}", xscale="log", xticks=counts,
            xticklabels=[str(count) for count in counts], xlabel="photos of each new class",
        )  # fmt: skip
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    parts[0, 0].set_ylabel("first answer right, %")
    parts[0, 0].legend()
    with matplotlib.rc_context({"svg.hashsalt": "marque"}):
        figure.savefig(PLOT, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
