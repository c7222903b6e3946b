"""Where the cars are in a photo: NanoDet-g, run by ONNX Runtime.

The network (Lyu 2020, https://github.com/RangiLyu/nanodet) was trained on COCO. How it became
`nanodet/nanodet.onnx`, and its licenses, stand in `nanodet/README.md`.
"""

import math
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from space.boxes import Box, crop, inside
from space.runtime import open_session

NANODET = Path(__file__).parent / "nanodet" / "nanodet.onnx"

MIN_SCORE = 0.35  # from which on something counts as a vehicle
DOUBTFUL_SCORE = 0.15  # from which on something may be one where no other is found
MAX_OVERLAP = 0.5  # intersection over union from which on two boxes are the same vehicle
MAX_CARS = 12
MAX_DOUBTFUL = 3  # like DOUBTFUL_SCORE chosen on validation photos, see docs/EXPERIMENTS.md
QUARTER = 0.6  # of width and height; four quarters of a photo overlap by a third of that

_MEAN = np.array([103.53, 116.28, 123.675], np.float32)  # of blue, green and red
_STD = np.array([57.375, 57.12, 58.395], np.float32)


class Detection(NamedTuple):
    """A vehicle: where it is, and how sure the detector is, 0 to 1."""

    box: Box
    score: float

    @property
    def prominence(self) -> float:
        """How likely the photo is of this car: it is large, sure, and near the middle."""
        across = (self.box.left + self.box.right) / 2 - 0.5
        down = (self.box.upper + self.box.lower) / 2 - 0.5
        return self.box.area * self.score * (1 - math.hypot(across, down))


class Detector:
    """Finds cars, vans, trucks and buses. Safe to share between threads.

    The network is opened at the first photo, on as many threads as ONNX Runtime likes best.
    """

    def __init__(self, path: Path = NANODET):
        self._path = path
        self._lock = threading.Lock()
        self._session: Any = None

    def detect(self, picture: Image.Image) -> list[Detection]:
        """Finds the vehicles in a picture.

        Args:
            picture: RGB, of any size.

        Returns:
            At most `MAX_CARS`, the most prominent first; none where there is no vehicle.
        """
        found = self._find(picture, MIN_SCORE)
        return sorted(found, key=lambda detection: -detection.prominence)[:MAX_CARS]

    def search(
        self, picture: Image.Image, least: float = DOUBTFUL_SCORE, most: int = MAX_DOUBTFUL
    ) -> list[Detection]:
        """Where a car may be in a picture in which `detect` finds none, or a small one.

        The picture is looked at again, and closer in four overlapping quarters, and what may be a
        vehicle counts too. It takes five times as long as `detect`.

        Args:
            picture: RGB, of any size.
            least: the score from which on something may be a vehicle.
            most: how many to return at most.

        Returns:
            The surest first.
        """
        found = self._find(picture, least)
        rest = 1 - QUARTER
        for left, upper in ((0.0, 0.0), (rest, 0.0), (0.0, rest), (rest, rest)):
            region = Box(left, upper, left + QUARTER, upper + QUARTER)
            found += [
                Detection(inside(region, box), score)
                for box, score in self._find(crop(picture, region), least)
            ]
        if not found:
            return []
        boxes, scores = (np.array(values) for values in zip(*found, strict=True))
        return [found[k] for k in _suppressed(boxes, scores)[:most]]

    def _find(self, picture: Image.Image, least: float) -> list[Detection]:
        """What one look finds, the surest first."""
        session = self._opened()
        (images,) = session.get_inputs()
        pixels, scale = _letterboxed(picture, side=images.shape[-1])
        scores, boxes = session.run(["scores", "boxes"], {images.name: pixels})
        chosen = np.flatnonzero(scores >= least)
        width, height = picture.size
        sides = np.array([width, height, width, height], np.float64) * scale
        shares = (boxes[chosen] / sides).clip(0, 1)
        kept = _suppressed(shares, scores[chosen])
        found = [Detection(Box(*shares[k].tolist()), float(scores[chosen][k])) for k in kept]
        return [detection for detection in found if detection.box.area > 0]

    def _opened(self) -> Any:
        with self._lock:
            if self._session is None:
                self._session = open_session(self._path)
        return self._session


def _letterboxed(picture: Image.Image, side: int) -> tuple[np.ndarray, float]:
    """The network's input, (1, 3, side, side), and by what the picture was scaled to fit in.

    The picture lies in the upper left corner; the rest is the mean color.
    """
    scale = side / max(picture.size)
    width, height = (max(1, round(length * scale)) for length in picture.size)
    small = picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    pixels = np.zeros((1, 3, side, side), np.float32)
    blue_first = np.asarray(small, np.float32)[:, :, ::-1]
    pixels[0, :, :height, :width] = ((blue_first - _MEAN) / _STD).transpose(2, 0, 1)
    return pixels, scale


def _suppressed(boxes: np.ndarray, scores: np.ndarray) -> list[int]:
    """Non-maximum suppression: the numbers of boxes of which no surer one overlaps much.

    Args:
        boxes: shape (boxes, 4).
        scores: shape (boxes,).
    """
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    rest = np.argsort(-scores, kind="stable")
    while rest.size:
        best, rest = int(rest[0]), rest[1:]
        kept.append(best)
        upper_left = np.maximum(boxes[rest, :2], boxes[best, :2])
        lower_right = np.minimum(boxes[rest, 2:], boxes[best, 2:])
        shared = (lower_right - upper_left).clip(min=0).prod(axis=1)
        union = areas[rest] + areas[best] - shared
        rest = rest[shared <= MAX_OVERLAP * union]
    return kept
