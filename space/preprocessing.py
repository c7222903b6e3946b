"""From a photo to what the network sees of it: the car, cut out of the photo as it was taken.

Serving, evaluation and training all go through `Preprocessor`, so that a car is framed alike
everywhere.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from space.boxes import WHOLE, Box, corners, crop, grown, inside
from space.detector import Detector
from space.outputs import Outputs
from space.transforms import seen_part, to_pixels

SMALL = 0.05  # of the photo: where the most prominent car takes less, others are looked for


@dataclass(frozen=True)
class CarCrop:
    """How a checkpoint wants cars cut out of photos.

    Attributes:
        margin: how much is kept around the detector's box on each side, as a share of the box's
            width or height, 0 to 1.

    Raises:
        ValueError: the margin is none.
    """

    margin: float

    def __post_init__(self):
        margin = self.margin
        if isinstance(margin, bool) or not isinstance(margin, (int, float)):
            raise ValueError(f"the margin of a car crop is a number, not {margin!r}")
        if not 0 <= margin <= 1:
            raise ValueError(f"the margin of a car crop is from 0 to 1, not {margin}")

    def region(self, box: Box | None) -> Box:
        """The part of a photo to look at: the car and its margin, or all where there is no car."""
        return WHOLE if box is None else grown(box, self.margin)


class Prepared(NamedTuple):
    """What the network sees of a photo, or of one car in it.

    Attributes:
        pixels: uint8, shape (3, height, width).
        box: the car as the detector found it; None where the whole photo is looked at.
        cars_found: how many vehicles the detector found in the photo; None where it was not asked.
        outputs: what the network makes of it, where it was asked already.
    """

    pixels: np.ndarray
    box: Box | None = None
    cars_found: int | None = None
    outputs: Outputs | None = None


class Preprocessor:
    """Cuts the car out of a photo and shrinks it to the network's input. Safe between threads."""

    def __init__(
        self,
        data_config: Mapping[str, Any],
        car_crop: CarCrop | None = None,
        detector: Detector | None = None,
    ):
        """Takes the preprocessing of a checkpoint.

        Args:
            data_config: see `space.transforms.to_pixels`.
            car_crop: None looks at the whole photo.
            detector: the one that is shipped by default; not asked without a `car_crop`.
        """
        self.car_crop = car_crop
        self._data_config = data_config
        self._to_pixels = to_pixels(data_config)
        self._detector = detector or Detector()

    def views(self, picture: Image.Image) -> Iterator[Prepared]:
        """What the car of an upright RGB picture may be; searched no further than is asked for.

        Yields:
            The most prominent car that the detector finds; all of the picture where there is none,
            or a `SMALL` one, since the detector passes over cars that are very close, cut off or
            far away. After that, wherever in the picture one may be.
        """
        boxes = self.boxes(picture)
        found = None if boxes is None else len(boxes)
        box = boxes[0] if boxes and boxes[0].area >= SMALL else None
        yield Prepared(self.cut(picture, box), box, found)
        if boxes is not None:
            for maybe in self._detector.search(picture):
                yield Prepared(self.cut(picture, maybe.box), maybe.box, found)

    def each_car(self, picture: Image.Image) -> list[Prepared]:
        """Every car that the detector finds, the most prominent first."""
        boxes = self.boxes(picture) or []
        return [Prepared(self.cut(picture, box), box, len(boxes)) for box in boxes]

    def boxes(self, picture: Image.Image) -> list[Box] | None:
        """The cars in a picture, the most prominent first; None where nothing looks for them."""
        if self.car_crop is None:
            return None
        return [detection.box for detection in self._detector.detect(picture)]

    def cut(self, picture: Image.Image, box: Box | None) -> np.ndarray:
        """The pixels of a car whose box is known; of the whole picture if that is None."""
        region = self.car_crop.region(box) if self.car_crop else WHOLE
        return self._to_pixels(crop(picture, region))

    def seen(self, size: tuple[int, int], box: Box | None) -> Box:
        """The part of a photo that the network sees when the car is at `box`.

        Args:
            size: width and height of the photo in pixels.
        """
        region = self.car_crop.region(box) if self.car_crop else WHOLE
        left, upper, right, lower = corners(region, size)
        return inside(region, seen_part((right - left, lower - upper), self._data_config))
