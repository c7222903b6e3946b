"""How many photos a new class needs: `python -m benchmarks.extend CHECKPOINT --new NAME --data …`.

Classes that the checkpoint has never seen are added with 5, 10, 20, 50 and 100 photos each, drawn
from the training and validation photos of the split, several times. What is told is the first
answer on test photos: of the new classes among all classes, and of the old ones before and after.
Written to benchmarks/extend.json, and drawn to docs/extend.svg.
"""

import argparse
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from space.checkpoints import file_hash, open_checkpoint, write_json
from space.recognizer import CarRecognizer
from space.walk import user_path
from trainer.data.options import add_data_options, columns_of
from trainer.data.sources import read_source
from trainer.data.splits import EXCLUDED, TEST, read_split
from trainer.evaluation.metrics import Estimate
from trainer.evaluation.predictions import find_photos, predict_photos
from trainer.extending.head import fit_rows, handicap, whitening
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
    parser.add_argument("--new", required=True, metavar="NAME=LOCATION", help="the new classes")
    add_data_options(parser)
    parser.add_argument("--split-file", type=user_path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    checkpoint = open_checkpoint(options.checkpoint)
    head, recognizer = open_head(checkpoint), CarRecognizer(checkpoint)
    width, old = head.weight.shape[1], len(head.bias)
    photos = find_photos(recognizer, options.data, options.split_file, columns_of(options))
    tested = [photo for photo in photos if photo.split == TEST]
    found = predict_photos(recognizer, [photo.read for photo in tested], "old classes")
    old_features, old_targets = found.features[:, -width:], np.array([p.target for p in tested])
    old_groups = [photo.group for photo in tested]
    new = _new(recognizer, options.new, options.split_file, width)
    white = whitening(head.memory)
    before = old_features @ head.weight.T + head.bias
    rows = []
    for count in COUNTS:
        right, kept = [], []
        for seed in range(SEEDS):
            chosen = _draw(new, count, seed)
            weight, bias = fit_rows(
                new["features"][chosen], new["targets"][chosen], new["classes"],
                head.weight, head.bias, head.memory, white,
            )  # fmt: skip
            held = np.concatenate(
                [head.memory.logits, head.memory.features @ weight.T + bias], axis=1
            )
            bias = bias - handicap(held, head.memory.targets, old)
            full = np.concatenate([head.weight, weight]), np.concatenate([head.bias, bias])
            test = new["test"]
            logits = new["features"][test] @ full[0].T + full[1]
            right.append(logits.argmax(axis=1) == old + new["targets"][test])
            kept.append((old_features @ full[0].T + full[1]).argmax(axis=1) == old_targets)
        groups = [new["groups"][n] for n in test] * SEEDS
        rows.append(
            {
                "photos_per_class": count,
                "new": Estimate.of_marks(np.concatenate(right), groups),
                "old": Estimate.of_marks(np.concatenate(kept), old_groups * SEEDS),
            }
        )
    result: dict[str, Any] = {
        "command": command_line("python -m benchmarks.extend", arguments),
        "checkpoint": recognizer.revision,
        "split_sha256": file_hash(options.split_file),
        "draws": SEEDS,
        "new_classes": new["classes"],
        "new_test_photos": len(new["test"]),
        "old_test_photos": len(tested),
        "old_before": Estimate.of_marks(before.argmax(axis=1) == old_targets, old_groups),
        "rows": rows,
        "git_revision": git_revision(),
    }
    write_json(PATH, result)
    draw(result)


def _new(recognizer: CarRecognizer, spec: str, split_file: Path, width: int) -> dict[str, Any]:
    """Features, classes, groups and splits of the new photos."""
    source = read_source(spec)
    split = read_split(split_file)
    readers: list[Callable[[], bytes]] = []
    targets: list[int] = []
    groups: list[str] = []
    test: list[int] = []
    pool: list[int] = []
    table = source.photos
    for path, number, reader in zip(table["path"], table["label"], source.readers(), strict=True):
        row = split.get((source.name, path))
        if row is None or row["split"] == EXCLUDED:
            continue
        (test if row["split"] == TEST else pool).append(len(readers))
        readers.append(reader)
        targets.append(number)
        groups.append(row["group"])
    found = predict_photos(recognizer, readers, "new classes")
    return {
        "features": found.features[:, -width:],
        "targets": np.array(targets),
        "groups": groups,
        "test": test,
        "pool": pool,
        "classes": len(source.label_names),
    }


def _draw(new: dict[str, Any], count: int, seed: int) -> list[int]:
    """So many photos of each class, or all of a smaller one."""
    rng = random.Random(f"{seed}/{count}")
    by_class: dict[int, list[int]] = defaultdict(list)
    for number in new["pool"]:
        by_class[int(new["targets"][number])].append(number)
    return [
        number
        for _, some in sorted(by_class.items())
        for number in rng.sample(some, min(count, len(some)))
    ]


def draw(result: dict[str, Any]) -> None:
    """The curve, as a figure."""
    figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
    counts = [row["photos_per_class"] for row in result["rows"]]
    for key, label in (("new", "new classes"), ("old", "old classes")):
        values, low, high = (
            [100 * row[key][end] for row in result["rows"]] for end in ("value", "low", "high")
        )
        axes.plot(counts, values, marker="o", label=label)
        axes.fill_between(counts, low, high, alpha=0.2)
    axes.axhline(100 * result["old_before"]["value"], linestyle=":", color="gray", linewidth=1)
    axes.set(
        xscale="log", xticks=counts, xticklabels=[str(count) for count in counts],
        xlabel="photos of each new class", ylabel="first answer right, %",
    )  # fmt: skip
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    with matplotlib.rc_context({"svg.hashsalt": "marque"}):
        figure.savefig(PLOT, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
