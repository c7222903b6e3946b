"""What is measured on scenes, see `trainer.evaluation.pasting`."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from space.answers import MAKE, REJECTED
from space.photos import load_photo
from space.preprocessing import Prepared
from space.recognizer import CarRecognizer
from trainer.evaluation.measure import AS_IT_IS, measure_verdicts, recognize
from trainer.evaluation.metrics import Estimate
from trainer.evaluation.pasting import AREAS, pasted
from trainer.evaluation.predictions import LabeledPhoto, predict_pictures, read_pictures


def measure_scenes(
    recognizer: CarRecognizer,
    photos: Sequence[LabeledPhoto],
    backgrounds: Sequence[Callable[[], bytes]],
    count: int,
) -> dict[str, dict[str, dict[str, Any]]]:
    """What finding the car, and the gate, are worth when the car is a part of the photo.

    Args:
        photos: to judge by.
        backgrounds: readers of photos without cars.
        count: how many photos of each dataset are pasted.

    Returns:
        For each dataset and size of the car in the scene: `top1` and `make` of the answers;
        `whole_photo`, the top-1 had the whole scene been looked at; `car_found`; the verdicts, see
        `measure_verdicts`; and `right_but_rejected`, the share of photos whose first answer is
        right and that are rejected all the same.
    """
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for source in sorted({photo.source for photo in photos}):
        mine = [photo for photo in photos if photo.source == source]
        chosen = random.Random(0).sample(mine, min(count, len(mine)))
        result[source] = {
            name: _measure_size(recognizer, chosen, backgrounds, name, area)
            for name, area in {AS_IT_IS: None, **AREAS}.items()
        }
    return result


def _measure_size(
    recognizer: CarRecognizer,
    photos: Sequence[LabeledPhoto],
    backgrounds: Sequence[Callable[[], bytes]],
    name: str,
    area: float | None,
) -> dict[str, Any]:
    whole_photos: list[Prepared] = []

    def scenes() -> Iterator[Image.Image]:
        rng = random.Random(0)  # the same backgrounds for every size
        for picture in read_pictures([photo.read for photo in photos], name):
            background, place = rng.choice(backgrounds), random.Random(rng.random())
            if area:
                picture = pasted(picture, load_photo(background()), area, place)
            whole_photos.append(Prepared(recognizer.preprocess.cut(picture, None)))
            yield picture

    predictions = predict_pictures(recognizer, scenes(), name)
    groups = [photo.group for photo in photos]
    targets = np.array([photo.target for photo in photos])
    right = predictions.logits.argmax(axis=1) == targets
    make = recognizer.rule.levels.index[MAKE]
    named = recognizer.rule.confidences(predictions.logits)[MAKE].argmax(axis=1)
    answers = recognize(recognizer, predictions)
    rejected = np.array([answer.verdict == REJECTED for answer in answers])
    found = {
        "photos": len(photos),
        "top1": Estimate.of_marks(right, groups),
        "make": Estimate.of_marks(named == make[targets], groups),
        **measure_verdicts(answers, right, groups),
        "right_but_rejected": Estimate.of_marks(right & rejected, groups),
    }
    if recognizer.preprocess.car_crop:
        logits = recognizer.infer(whole_photos).logits
        found["whole_photo"] = Estimate.of_marks(logits.argmax(axis=1) == targets, groups)
        found["car_found"] = float(np.mean([box is not None for box in predictions.boxes]))
    return found
