"""Boxes around cars, as shares of a photo's width and height."""

from typing import NamedTuple

from PIL import Image


class Box(NamedTuple):
    """A part of a photo, in shares of its width and height, 0 to 1."""

    left: float
    upper: float
    right: float
    lower: float

    @property
    def area(self) -> float:
        """Its share of the photo's area."""
        return (self.right - self.left) * (self.lower - self.upper)


WHOLE = Box(0.0, 0.0, 1.0, 1.0)


def grown(box: Box, margin: float) -> Box:
    """The box with each side moved out, no farther than the photo goes.

    Args:
        margin: by how much, as a share of the box's own width or height.
    """
    across, down = margin * (box.right - box.left), margin * (box.lower - box.upper)
    return Box(
        max(0.0, box.left - across),
        max(0.0, box.upper - down),
        min(1.0, box.right + across),
        min(1.0, box.lower + down),
    )


def inside(region: Box, box: Box) -> Box:
    """A box of a region of a photo as a box of that photo."""
    across, down = region.right - region.left, region.lower - region.upper
    return Box(
        region.left + box.left * across,
        region.upper + box.upper * down,
        region.left + box.right * across,
        region.upper + box.lower * down,
    )


def within(region: Box, box: Box) -> Box:
    """A box of a photo as a box of that region of the photo which holds it."""
    across, down = region.right - region.left, region.lower - region.upper
    return Box(
        (box.left - region.left) / across,
        (box.upper - region.upper) / down,
        (box.right - region.left) / across,
        (box.lower - region.upper) / down,
    )


def corners(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box in whole pixels of a picture of `size` (width, height), at least one pixel a side."""
    width, height = size
    left = min(round(box.left * width), width - 1)
    upper = min(round(box.upper * height), height - 1)
    right, lower = round(box.right * width), round(box.lower * height)
    return left, upper, max(right, left + 1), max(lower, upper + 1)


def crop(picture: Image.Image, box: Box) -> Image.Image:
    """The part of a picture, with all the detail that it has there."""
    return picture if box == WHOLE else picture.crop(corners(box, picture.size))
