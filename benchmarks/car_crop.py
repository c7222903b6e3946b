"""Chooses the margin around a car: `python -m benchmarks.car_crop --data … --split-file …`.

How many answers are right when the network is shown the whole photo, and when it is shown the car
that the detector finds, with several margins around it: on validation photos as they are, and
pasted into real photos of other things (`trainer.evaluation.scenes`). The margin to take has the
highest mean, over every dataset and size in the scene, of the share of right answers; among those
within a tenth of a point of it, the smallest.
"""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from space.boxes import crop
from space.detector import Detector
from space.photos import load_photo
from space.preprocessing import CarCrop
from space.recognizer import CarRecognizer
from space.transforms import to_pixels
from trainer.data.options import add_data_options, columns_of
from trainer.data.source import photos_below
from trainer.data.splits import VALIDATION
from trainer.evaluation.metrics import Estimate
from trainer.evaluation.pasting import AREAS, pasted
from trainer.evaluation.predictions import LabeledPhoto, find_photos

MARGINS: tuple[float, ...] = (0.0, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2)
SLACK = 0.001  # of the share of right answers: margins that are so close are as good
AS_IT_IS = "as it is"
WHOLE_PHOTO, CAR_FOUND = "whole photo", "car found"


def main() -> None:
    """Tries all margins, prints what came out, and chooses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_options(parser)
    parser.add_argument("--split-file", type=Path, required=True, metavar="FILE")
    parser.add_argument("--others", type=Path, required=True, metavar="FOLDER",
                        help="photos of other things, to paste cars into")  # fmt: skip
    options = parser.parse_args()
    recognizer = CarRecognizer.from_pretrained()
    photos = find_photos(recognizer, options.data, options.split_file, columns_of(options))
    photos = [photo for photo in photos if photo.split == VALIDATION]
    backgrounds = [options.others / path for path in photos_below(options.others)[0]]
    found = measure(recognizer, photos, backgrounds, MARGINS)
    print(json.dumps(found, indent=1))
    print(f"the margin is {chosen(found['conditions']):g}")


def measure(
    recognizer: CarRecognizer,
    photos: Sequence[LabeledPhoto],
    backgrounds: Sequence[Path],
    margins: Sequence[float],
) -> dict[str, Any]:
    """How many answers are right for each dataset, size in the scene and way to look."""
    detector = Detector()
    rng = random.Random(0)
    rows: dict[tuple[str, str], list[dict[str, bool]]] = {}
    groups: dict[str, list[str]] = {}
    for photo in tqdm(photos, unit="photo"):
        groups.setdefault(photo.source, []).append(photo.group)
        picture = load_photo(photo.read())
        background = load_photo(rng.choice(backgrounds))
        scenes = {name: pasted(picture, background, area, rng) for name, area in AREAS.items()}
        for name, scene in ({AS_IT_IS: picture} | scenes).items():
            right = _right(recognizer, detector, scene, photo.target, margins)
            rows.setdefault((photo.source, name), []).append(right)
    conditions = {}
    for (source, name), marks in rows.items():
        conditions[f"{source}, {name}"] = {
            way: Estimate.of_marks(np.array([mark[way] for mark in marks]), groups[source])
            for way in marks[0]
        }
    return {"photos": len(photos), "conditions": conditions}


def _right(
    recognizer: CarRecognizer,
    detector: Detector,
    picture: Image.Image,
    target: int,
    margins: Sequence[float],
) -> dict[str, bool]:
    """Whether the first answer is right, for each way to look, and whether a car was found."""
    detections = detector.detect(picture)
    box = detections[0].box if detections else None
    parts = {WHOLE_PHOTO: picture} | {
        f"margin {margin:g}": crop(picture, CarCrop(margin).region(box)) for margin in margins
    }
    prepare = to_pixels(recognizer.data_config)
    pixels = np.stack([prepare(part) for part in parts.values()])
    best = recognizer.forward(pixels).logits.argmax(axis=1)
    right = {way: int(number) == target for way, number in zip(parts, best, strict=True)}
    return right | {CAR_FOUND: box is not None}


def chosen(conditions: dict[str, dict[str, dict[str, float]]]) -> float:
    """The margin that is best by the criterion above."""
    means = {
        margin: float(np.mean([row[f"margin {margin:g}"]["value"] for row in conditions.values()]))
        for margin in MARGINS
    }
    print(json.dumps(means))
    return min(margin for margin, mean in means.items() if mean >= max(means.values()) - SLACK)


if __name__ == "__main__":
    main()
