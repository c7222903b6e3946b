"""Is a second look worth its time: `python -m benchmarks.second_pass --data … --split-file …`.

Photos as they are, with the car far away or cut off: how many answers are right after one pass,
after a second one over the part that the first points at (`space.second_look`), and after other
ways to spend a second pass: the photo mirrored, its middle. Measured on test photos, into
benchmarks/second_pass.json. `--choose` says instead which look of many is best on validation
photos, and writes nothing.
"""

import argparse
import copy
import itertools
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm import tqdm

from space.checkpoints import write_json
from space.photos import load_photo
from space.recognizer import CarRecognizer, View
from space.second_look import CHOSEN, SecondLook, box_around, crop
from trainer.data.options import add_data_options, columns_of
from trainer.data.splits import TEST, VALIDATION
from trainer.evaluation.metrics import Share
from trainer.evaluation.photos import JudgedPhoto, find_photos
from trainer.evaluation.robustness import FAR, cropped, distant, far
from trainer.provenance import command_line, git_revision

RESULT = Path(__file__).with_name("second_pass.json")
ROUNDS = 60  # of the timing; the first few warm up
WARM_UP = 10

AS_IT_IS, CROPPED = "as it is", "cropped"
FARTHER = 0.125**0.5  # of each side of the frame, hence an eighth of its area
CONDITIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    AS_IT_IS: lambda picture: picture,
    "far": far,
    "farther": lambda picture: distant(picture, FARTHER),
    # Where the middle of the photo is of no help.
    "far, aside": lambda picture: distant(picture, FAR, 0.9, 0.8),
    # Where there is more to see at a second look, as in what a phone takes.
    "far, large photo": lambda picture: distant(picture, FAR, enlarged=True),
    CROPPED: cropped,
}

# What is tried: every field of a `SecondLook`.
SHARES, MARGINS = (0.25, 0.35, 0.5), (0.1, 0.2)
LARGEST, WEIGHTS = (0.4, 0.45, 0.5, 0.55, 0.6, 0.7), (1 / 2, 2 / 3, 1.0)

MIDDLE = 0.6  # of each side
# The share of photos, as they are or cropped, that a look may cost.
HARM = 0.005


@dataclass(frozen=True)
class Answers:
    """What was answered to photos under one condition.

    Attributes:
        one: logits of the first pass, shape (photos, classes).
        areas: for each look what share of a photo its box takes, shape (photos,).
        again: logits of the second pass of each look, and of the other passes, shapes (photos,
            classes). Where the box of a look is too large for all, nan.
    """

    one: torch.Tensor
    areas: dict[SecondLook, torch.Tensor]
    again: dict[SecondLook | str, torch.Tensor]

    def of(self, look: SecondLook) -> torch.Tensor:
        """Logits after a second look."""
        both = self.one.lerp(self.again[_box_of(look)], look.weight)
        return torch.where(self.twice(look)[:, None], both, self.one)

    def twice(self, look: SecondLook) -> torch.Tensor:
        """Which photos were looked at again, bool, shape (photos,)."""
        return self.areas[_box_of(look)] <= look.largest


def _box_of(look: SecondLook) -> SecondLook:
    """The look that stands for all with the same boxes."""
    return replace(look, largest=max(LARGEST), weight=0.0)


def main() -> None:
    """Chooses unless that was done, measures, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_options(parser)
    parser.add_argument("--split-file", type=Path, required=True, metavar="FILE")
    parser.add_argument("--choose", action="store_true",
                        help="look for the best look on validation photos")  # fmt: skip
    parser.add_argument("--photos", type=int, default=0, metavar="NUMBER",
                        help="only so many, drawn by chance")  # fmt: skip
    options = parser.parse_args()
    recognizer = CarRecognizer.from_pretrained()
    photos = find_photos(recognizer, options.data, options.split_file, columns_of(options))
    photos = [p for p in photos if p.split == (VALIDATION if options.choose else TEST)]
    if options.photos:
        photos = random.Random(0).sample(photos, min(options.photos, len(photos)))
    if options.choose:
        print(json.dumps(choose(recognizer, photos), indent=1))
        return
    found = {
        "command": command_line("python -m benchmarks.second_pass"),
        "checkpoint": recognizer.revision,
        "look": asdict(CHOSEN),
        **measure(recognizer, photos, CHOSEN),
        "time": measure_time(recognizer, photos, CHOSEN),
        "git_revision": git_revision(),
    }
    print(json.dumps(found, indent=1))
    write_json(RESULT, found)


def choose(recognizer: CarRecognizer, photos: Sequence[JudgedPhoto]) -> list[dict[str, Any]]:
    """The looks with most answers right under all conditions together, the best ten first.

    Photos that are as they are or cropped may lose `HARM` by it at most; of looks that are as good,
    those that look twice at fewest photos come first.
    """
    boxes = [
        SecondLook(share, margin, max(LARGEST), weight=0.0)
        for share, margin in itertools.product(SHARES, MARGINS)
    ]
    answers = answer(recognizer, photos, boxes, others=False)
    targets = torch.tensor([photo.target for photo in photos])
    before = {name: _right(found.one, targets).mean() for name, found in answers.items()}
    tried = []
    for box, largest, weight in itertools.product(boxes, LARGEST, WEIGHTS):
        look = replace(box, largest=largest, weight=weight)
        gains = {
            name: float(_right(found.of(look), targets).mean() - before[name])
            for name, found in answers.items()
        }
        twice = float(np.mean([found.twice(look).float().mean() for found in answers.values()]))
        harmless = min(gains[AS_IT_IS], gains[CROPPED]) >= -HARM
        gain = round(float(np.mean(list(gains.values()))), 6)
        tried.append((harmless, gain, -twice, look, gains))
    tried.sort(key=lambda row: row[:3], reverse=True)
    return [
        {"look": asdict(look), "harmless": harmless, "gains": gains, "looked_twice": -once}
        for harmless, _, once, look, gains in tried[:10]
    ]


def answer(
    recognizer: CarRecognizer,
    photos: Sequence[JudgedPhoto],
    boxes: Sequence[SecondLook],
    others: bool,
) -> dict[str, Answers]:
    """All passes over photos under each condition.

    Args:
        boxes: the looks whose boxes are passed; what they differ in otherwise comes later.
        others: whether to spend passes in the other ways too.
    """
    rows: dict[str, list[tuple[torch.Tensor, dict, dict]]] = {name: [] for name in CONDITIONS}
    for photo in tqdm(photos, unit="photo"):
        picture = load_photo(photo.read())
        for name, change in CONDITIONS.items():
            changed = change(picture)
            logits, _, heat = recognizer.sight(recognizer.pixels(changed)[None])
            areas, parts = {}, {}
            for look in boxes:
                box = box_around(heat[0], look.share, look.margin)
                areas[look] = box.area
                if box.area <= look.largest:
                    parts[look] = crop(changed, box, recognizer.data_config)
            if others:
                parts |= other_parts(changed)
            again = dict.fromkeys([*boxes, *parts], torch.full_like(logits[0], torch.nan))
            if parts:
                pixels = torch.stack([recognizer.pixels(part) for part in parts.values()])
                again |= dict(zip(parts, recognizer.sight(pixels).logits, strict=True))
            rows[name].append((logits[0], areas, again))
    return {
        name: Answers(
            torch.stack([row[0] for row in found]),
            {key: torch.tensor([row[1][key] for row in found]) for key in found[0][1]},
            {key: torch.stack([row[2][key] for row in found]) for key in found[0][2]},
        )
        for name, found in rows.items()
    }


def other_parts(picture: Image.Image) -> dict[Any, Image.Image]:
    """What else could go through the network."""
    width, height = (MIDDLE * side for side in picture.size)
    left, top = (picture.width - width) / 2, (picture.height - height) / 2
    sides = [round(side) for side in (left, top, left + width, top + height)]
    return {
        "mirrored": ImageOps.mirror(picture),
        "middle": picture.crop(sides),  # type: ignore[arg-type]
    }


def measure(
    recognizer: CarRecognizer, photos: Sequence[JudgedPhoto], look: SecondLook
) -> dict[str, Any]:
    """How many answers are right, and by how many more than after one pass, with intervals."""
    answers = answer(recognizer, photos, [_box_of(look)], others=True)
    targets = torch.tensor([photo.target for photo in photos])
    groups = [photo.group for photo in photos]
    conditions = {}
    for name, found in answers.items():
        ways = {
            "one pass": found.one,
            "second look": found.of(look),
            "mirrored": (found.one + found.again["mirrored"]) / 2,
            "middle": (found.one + found.again["middle"]) / 2,
        }
        before = _right(found.one, targets)
        conditions[name] = {
            "looked_twice": float(found.twice(look).float().mean()),
            **{way: _gain(_right(logits, targets), before, groups) for way, logits in ways.items()},
        }
    return {"photos": len(photos), "groups": len(set(groups)), "conditions": conditions}


def _right(logits: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
    return (logits.argmax(dim=1) == targets).numpy()


def _gain(right: np.ndarray, before: np.ndarray, groups: Sequence[str]) -> dict[str, Any]:
    """The share of photos that are right, and how much more that is on the same photos."""
    return {
        "top1": Share.of_marks(right, groups),
        "gain": Share.of_change(right, before, groups),
    }


def measure_time(
    recognizer: CarRecognizer, photos: Sequence[JudgedPhoto], look: SecondLook
) -> Mapping[str, Any]:
    """What one photo costs, from decoded picture to logits, in turn: medians and their ratios."""
    picture = load_photo(photos[0].read())

    def at(largest: float) -> Callable[[], object]:
        asked = copy.copy(recognizer)
        asked.second_look = replace(look, largest=largest)
        return lambda: asked.look([View(asked.pixels(picture), picture, None)])

    ways = {
        "one pass": lambda: recognizer.sight(recognizer.pixels(picture)[None]),
        "heat alone": at(0.0),
        "second pass": at(1.0),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - started)
    counted = {name: np.array(column[WARM_UP:]) for name, column in times.items()}
    return {
        "threads": torch.get_num_threads(),
        "milliseconds": {name: 1000 * float(np.median(t)) for name, t in counted.items()},
        "ratio_to_one_pass": {
            name: float(np.median(t / counted["one pass"])) for name, t in counted.items()
        },
    }


if __name__ == "__main__":
    main()
