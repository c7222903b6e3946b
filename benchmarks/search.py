"""Chooses how a photo without a plain car is searched: `python -m benchmarks.search --data … `.

Where the detector finds no car, or a small one, `Detector.search` names places where one may be,
and the view of these and of the whole photo with the best logit is taken. Compared are the least
score of a place, how many places are looked at, and what chooses among the views: on validation
photos as they are and pasted into real photos of other things, whose answer should be right and
pass the gate, and on photos of other things, which should not. Written to benchmarks/search.json.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from space.calibration import softmax
from space.checkpoints import file_hash, write_json
from space.detector import Detector
from space.photos import load_photo
from space.preprocessing import SMALL
from space.recognizer import CarRecognizer
from space.walk import user_path
from trainer.data.options import add_data_options, columns_of
from trainer.data.splits import VALIDATION
from trainer.evaluate import read_others
from trainer.evaluation.pasting import AREAS, pasted
from trainer.evaluation.predictions import find_photos
from trainer.provenance import command_line, git_revision

RESULT = Path(__file__).with_suffix(".json")
SCORES = (0.1, 0.15, 0.2, 0.25, 0.3)
PLACES = (0, 1, 2, 3, 6, 10)
AS_IT_IS, OTHERS = "as it is", "other things"


class Views:
    """What the network sees of one picture, and makes of it.

    Attributes:
        scores: of the places where a car may be, the surest first; none where one is plain.
        logits, passes: of each view, the whole picture first; whether it passes the gate.
        car: the gate's probability of a car in each view.
    """

    def __init__(self, recognizer: CarRecognizer, detector: Detector, picture: Image.Image):
        """Looks everywhere."""
        cut = recognizer.preprocess.cut
        found = detector.detect(picture)
        if found and found[0].box.area >= SMALL:
            self.scores, boxes = [], [found[0].box]
        else:
            places = detector.search(picture, min(SCORES), max(PLACES))
            self.scores, boxes = [place.score for place in places], [p.box for p in places]
        whole = [] if len(boxes) == 1 and not self.scores else [cut(picture, None)]
        outputs = recognizer.forward(np.stack(whole + [cut(picture, box) for box in boxes]))
        assert recognizer.gate
        self.logits = outputs.logits
        self.car = recognizer.gate.probabilities(outputs.features)[:, 0]
        self.passes = self.car >= recognizer.gate.threshold

    def taken(self, least: float, most: int, by: str) -> int:
        """The number of the view that would be taken."""
        ways: dict[str, Callable[[], np.ndarray]] = {
            "best logit": lambda: self.logits.max(axis=1),
            "best probability": lambda: softmax(self.logits).max(axis=1),
            "gate": lambda: self.car,
        }
        count = 1 + sum(score >= least for score in self.scores[:most])
        return int(ways[by]()[:count].argmax())


def main(arguments: Sequence[str] | None = None) -> None:
    """Tries all, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_options(parser)
    parser.add_argument("--split-file", type=user_path, required=True, metavar="FILE")
    parser.add_argument("--others", type=user_path, required=True, metavar="FOLDER",
                        help="photos of other things, to paste cars into")  # fmt: skip
    parser.add_argument("--photos", type=int, default=100, help="of each dataset")
    options = parser.parse_args(arguments)
    recognizer, detector = CarRecognizer.from_pretrained(), Detector()
    photos = find_photos(recognizer, options.data, options.split_file, columns_of(options))
    backgrounds = read_others(options.others)
    rng = random.Random(0)
    seen: dict[str, list[tuple[Views, int]]] = {}
    for source in sorted({photo.source for photo in photos}):
        mine = [p for p in photos if p.source == source and p.split == VALIDATION]
        for photo in tqdm(rng.sample(mine, min(options.photos, len(mine))), desc=source):
            picture, background = load_photo(photo.read()), load_photo(rng.choice(backgrounds)())
            scenes = {name: pasted(picture, background, area, rng) for name, area in AREAS.items()}
            for name, scene in ({AS_IT_IS: picture} | scenes).items():
                views = Views(recognizer, detector, scene)
                seen.setdefault(f"{source}, {name}", []).append((views, photo.target))
    for read in tqdm(backgrounds, desc=OTHERS):
        views = Views(recognizer, detector, load_photo(read()))
        seen.setdefault(OTHERS, []).append((views, -1))
    write_json(
        RESULT,
        {
            "command": command_line("python -m benchmarks.search", arguments),
            "checkpoint": recognizer.revision,
            "split_sha256": file_hash(options.split_file),
            "photos": {name: len(some) for name, some in seen.items()},
            "rows": [
                measure(seen, least, most, by)
                for by in ("best logit", "best probability", "gate")
                for least, most in [(1.0, 0), *((s, n) for s in SCORES for n in PLACES[1:])]
            ],
            "git_revision": git_revision(),
        },
    )


def measure(
    seen: dict[str, list[tuple[Views, int]]], least: float, most: int, by: str
) -> dict[str, Any]:
    """The share of photos that are right and pass, and of others that are refused."""
    shares = {}
    for name, some in seen.items():
        taken = [(views, views.taken(least, most, by), target) for views, target in some]
        shares[name] = float(
            np.mean([
                (views.passes[n] and views.logits[n].argmax() == target) if target >= 0
                else not views.passes[n]
                for views, n, target in taken
            ])
        )  # fmt: skip
    refused = shares.pop(OTHERS)
    plain = [share for name, share in shares.items() if name.endswith(AS_IT_IS)]
    return {
        "by": by,
        "least_score": least,
        "places": most,
        "right": float(np.mean(list(shares.values()))),
        "right_as_it_is": float(np.mean(plain)),
        "others_refused": refused,
    }


if __name__ == "__main__":
    main()
