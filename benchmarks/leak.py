"""Measures what a leaking split claims: `python -m benchmarks.leak --data algerian_used_cars`.

The same photos, network, recipe and seeds, twice: split photo by photo, as the published systems
split them, and split by whole groups of the same photo. What the first one's test accuracy is above
the second one's, no user will ever see. Finished runs are kept, so that the command can go on
where it stopped, and the result is written to benchmarks/leak.json.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t

from space.checkpoints import write_json
from space.recognizer import CarRecognizer
from space.walk import user_path
from trainer.data.dataset import DataSet, load_data
from trainer.data.exteriors import score_exteriors
from trainer.data.options import add_cache_options, add_data_options, cache_of, columns_of
from trainer.data.splits import TEST, TRAIN, Photo, Scheme, make_split, write_split
from trainer.evaluation.measure import measure_accuracy
from trainer.evaluation.predictions import find_photos, predict_photos
from trainer.provenance import PACKAGES, git_revision, package_versions
from trainer.training.config import TrainConfig
from trainer.training.run import train

RESULT = Path(__file__).with_name("leak.json")
SCHEME = "70/10/20"
RECIPE = {
    "model": "tf_efficientnet_lite0",
    "epochs": 8,
    "train_size": 128,
    "test_size": 160,
    "lr": 0.001,
}


def main() -> None:
    """Trains two networks a seed and writes what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_options(parser)
    add_cache_options(parser)
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: %(default)s)")
    parser.add_argument("--runs", type=user_path, default=Path("runs/leak"), metavar="FOLDER",
                        help="where the runs go (default: %(default)s)")  # fmt: skip
    options = parser.parse_args()
    cache = cache_of(options)
    data = load_data(options.data, cache, columns=columns_of(options), exteriors=False)
    scores = score_exteriors(data.photos, cache.pixels(), data.rows)
    photos = scores.excluding(data.photos)
    rows = []
    for seed in range(options.seeds):
        for kind in ("random", "grouped"):
            folder = options.runs / f"{kind}-{seed}"
            assigned = split_photos(photos, kind, seed)
            rows.append(run(options, folder, assigned, photos, kind, seed))
            print(json.dumps(rows[-1], indent=2), flush=True)
            write_json(RESULT, summary(options.data, data, rows))


def split_photos(photos: Sequence[Photo], kind: str, seed: int) -> list[Photo]:
    """The same photos either way: those that a grouped split leaves out are left out of both."""
    grouped = make_split(photos, Scheme.parse(SCHEME), seed)
    if kind == "grouped":
        return grouped
    alone = [
        replace(photo, group=f"{photo.source}/{photo.path}", reason=photo.reason)
        for photo in grouped
    ]
    return make_split(alone, Scheme.parse(SCHEME), seed)


def run(
    options: argparse.Namespace,
    folder: Path,
    assigned: Sequence[Photo],
    photos: Sequence[Photo],
    kind: str,
    seed: int,
) -> dict[str, Any]:
    """Trains on one split, unless that is done, and measures its test."""
    split_file = folder.with_suffix(".csv")
    write_split(split_file, assigned)
    done = folder / "done"
    if not done.exists():
        config = TrainConfig(
            data=tuple(options.data),
            out=folder,
            split_file=split_file,
            seed=seed,
            cache=options.cache,
            cache_size=options.cache_size,
            resume=(folder / "resume.safetensors").exists(),
            **RECIPE,  # type: ignore[arg-type]
        )
        train(config)
        done.touch()
    recognizer = CarRecognizer.from_pretrained(folder / "checkpoint")
    group_of = {(photo.source, photo.path): photo.group for photo in photos}
    trained = {group_of[p.source, p.path] for p in assigned if p.split == TRAIN}
    tested = [
        photo for photo in find_photos(recognizer, options.data, split_file) if photo.split == TEST
    ]
    predictions = predict_photos(recognizer, [photo.read for photo in tested], TEST)
    targets = np.array([photo.target for photo in tested])
    # What a photo is a copy of, whatever the split says.
    groups = [group_of[photo.source, photo.path] for photo in tested]
    metrics = measure_accuracy(recognizer.rule, predictions.logits, targets, groups)
    # The test photos of which no copy was trained on.
    clean = np.array([group not in trained for group in groups])
    honest = measure_accuracy(
        recognizer.rule,
        predictions.logits[torch.from_numpy(clean)],
        targets[clean],
        [group for group, ok in zip(groups, clean, strict=True) if ok],
    )
    count, clean_count = metrics["photos"], honest["photos"]
    return {
        "split": kind,
        "seed": seed,
        "train": sum(photo.split == TRAIN for photo in assigned),
        "test": count,
        "leaked": 1 - clean_count / count,
        "top1": metrics["top1"],
        "make": metrics["make"],
        "clean": {"photos": clean_count, "top1": honest["top1"]},
    }


def summary(specs: Sequence[str], data: DataSet, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All runs, and the mean over the seeds with a 95% interval (Student's t)."""
    found: dict[str, Any] = {
        "command": "python -m benchmarks.leak " + " ".join(f"--data {spec}" for spec in specs),
        "recipe": {**RECIPE, "scheme": SCHEME},
        "fingerprint": data.fingerprint,
        "git_revision": git_revision(),
        "packages": package_versions(PACKAGES),
        "runs": list(rows),
    }
    top1 = {
        kind: [row["top1"]["value"] for row in rows if row["split"] == kind]
        for kind in ("random", "grouped")
    }
    top1["inflation"] = [a - b for a, b in zip(top1["random"], top1["grouped"], strict=False)]
    top1["leaked"] = [row["leaked"] for row in rows if row["split"] == "random"]
    for name, values in top1.items():
        if len(values) > 1:
            found[name] = mean_with_interval(values)
    return found


def mean_with_interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and 95% interval of a few independent values."""
    mean = statistics.mean(values)
    half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return {"value": mean, "low": mean - float(half), "high": mean + float(half)}


if __name__ == "__main__":
    main()
