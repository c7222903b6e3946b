"""How well the audit finds what is known: `python -m benchmarks.findings`.

Needs `algerian_used_cars` and `stanford_cars` in MARQUE_DATA. What is known is labeled by eye and
kept as file names beside this file: 80 blacked-out photos drawn at random with their originals, and
the photos of no exterior. Wrong labels are planted: 3% of the groups of photos get another class.
Written to benchmarks/findings.json.
"""

import argparse
import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from space.checkpoints import write_json
from space.walk import user_path
from trainer.auditing.mislabels import suspect_labels
from trainer.data.cache import PhotoCache, geometry
from trainer.data.dataset import DataSet, read_photos
from trainer.data.exteriors import ExteriorScores, score_exteriors
from trainer.evaluation.metrics import Estimate
from trainer.provenance import git_revision

HERE = Path(__file__).parent
RESULT = HERE / "findings.json"
PLANTED = 0.03  # of the groups
SEEDS = 3


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=user_path, default=Path(".cache/photos"))
    options = parser.parse_args()
    cache = PhotoCache(options.cache, geometry(256))
    algerian = read_photos(["algerian_used_cars"], cache)
    scores = score_exteriors(algerian.photos, cache.pixels(), algerian.rows)
    stanford = read_photos(["stanford_cars"], cache)
    result = {
        "command": "python -m benchmarks.findings",
        "git_revision": git_revision(),
        "algerian_used_cars": {
            "photos": len(algerian.photos),
            "groups": len({photo.group for photo in algerian.photos}),
            "same_file_again": len(algerian.photos) - len({p.key for p in algerian.photos}),
            "blacked_out": len(algerian.copies.siblings),
            "siblings": siblings(algerian),
            "no_exterior": no_exterior(algerian, scores),
            "wrong_labels": [wrong_labels(algerian, scores, seed) for seed in range(SEEDS)],
        },
        "stanford_cars": {
            "photos": len(stanford.photos),
            "groups": len({photo.group for photo in stanford.photos}),
            "groups_under_several_labels": contradictions(stanford),
        },
    }
    write_json(RESULT, result)
    print(RESULT.read_text())


def siblings(data: DataSet) -> dict[str, Any]:
    """Precision and recall of the originals found for the sample labeled by eye."""
    number = {photo.path: index for index, photo in enumerate(data.photos)}
    original = {photo: other for photo, other, _ in data.copies.siblings}
    rows = _rows("algerian_siblings.csv")
    right = found = 0
    for row in rows:
        other = original.get(number[row["photo"]])
        found += other is not None
        if other is not None and row["original"]:
            right += data.photos[other].key == data.photos[number[row["original"]]].key
    known = sum(bool(row["original"]) for row in rows)
    return {
        "sample": len(rows),
        "have_an_original": known,
        "precision": asdict(Estimate.of(right, found)),
        "recall": asdict(Estimate.of(right, known)),
    }


def no_exterior(data: DataSet, scores: ExteriorScores) -> dict[str, int]:
    """How many of the photos of no exterior are found, and how many others."""
    found = {data.photos[index].path for index in scores.no_exterior.nonzero()[0]}
    known = {row["photo"] for row in _rows("algerian_no_exterior.csv")}
    return {"known": len(known), "found": len(known & found), "false_alarms": len(found - known)}


def wrong_labels(data: DataSet, scores: ExteriorScores, seed: int) -> dict[str, Any]:
    """Precision and recall of wrong labels among which some were planted.

    Labels that were wrong before count as false alarms, so the precision is a lower bound.
    """
    random = np.random.default_rng(seed)
    groups = np.array([photo.group for photo in data.photos])
    targets = np.array([photo.target for photo in data.photos])
    names = np.unique(groups)
    chosen = random.choice(names, round(PLANTED * len(names)), replace=False)
    classes = targets.max() + 1
    shift = dict(zip(chosen, random.integers(1, classes, len(chosen)), strict=True))
    planted = np.array([group in shift for group in groups])
    wrong = [
        int((target + shift.get(group, 0)) % classes)
        for target, group in zip(targets, groups, strict=True)
    ]
    suspects = suspect_labels(scores.features, wrong, groups.tolist(), seed)
    told = {groups[suspect.photo] for suspect in suspects}
    right = len(told & set(chosen))
    return {
        "planted_groups": len(chosen),
        "planted_photos": int(planted.sum()),
        "told_groups": len(told),
        "precision": asdict(Estimate.of(right, len(told))),
        "recall": asdict(Estimate.of(right, len(chosen))),
    }


def contradictions(data: DataSet) -> int:
    """Groups of one photo that stand under several labels."""
    labels: dict[str, set[int]] = {}
    for photo in data.photos:
        labels.setdefault(photo.group, set()).add(photo.target)
    return sum(len(found) > 1 for found in labels.values())


def _rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((HERE / name).read_text("utf-8").splitlines()))


if __name__ == "__main__":
    main()
