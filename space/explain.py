"""Heat maps laid over photos."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from space.boxes import Box
from space.photos import PhotoSource, load_photo

if TYPE_CHECKING:
    from space.recognizer import CarRecognizer

MAX_SIDE = 1024  # of the overlay, in pixels: enough for a screen
_FRAME = 2  # pixels of the line around what the network saw
_HOTTEST = 0.85  # how much of the photo the hottest place covers

# Of matplotlib's "inferno", whose lightness rises evenly: (share of the heat, red, green, blue).
_INFERNO = np.array(
    [
        (0.0, 0, 0, 4),
        (0.125, 31, 12, 72),
        (0.25, 85, 15, 109),
        (0.375, 136, 34, 106),
        (0.5, 186, 54, 85),
        (0.625, 227, 89, 51),
        (0.75, 249, 140, 10),
        (0.875, 249, 201, 50),
        (1.0, 252, 255, 164),
    ]
)


def scaled(cam: np.ndarray) -> np.ndarray:
    """A map stretched to 0 to 1; one without any heat, or of no places, stays cold.

    Args:
        cam: at least 0, shape (rows, columns).
    """
    if not cam.size or not np.isfinite(cam).all() or cam.max() <= cam.min():
        return np.zeros((1, 1), np.float32)
    return (cam - cam.min()) / (cam.max() - cam.min())


def for_screen(picture: Image.Image) -> Image.Image:
    """A copy of at most `MAX_SIDE` pixels a side."""
    picture = picture.copy()
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    return picture


@dataclass(frozen=True)
class HeatMap:
    """Where a network saw a class in a photo.

    Attributes:
        picture: the photo, RGB.
        heat: 0 to 1, shape (rows, columns).
        seen: the part of the photo that the network saw, to which the heat belongs.
    """

    picture: Image.Image
    heat: np.ndarray
    seen: Box

    @cached_property
    def photo(self) -> Image.Image:
        """The photo, at most `MAX_SIDE` pixels long."""
        return for_screen(self.picture)

    def layer(self) -> Image.Image:
        """The heat alone, to lie over `photo`: RGBA of its size, transparent where it is cold."""
        width, height = size = self.photo.size
        left, upper, right, lower = self._sides(size)
        laid = Image.new("F", (width, height))
        inside = max(1, right - left), max(1, lower - upper)
        laid.paste(
            Image.fromarray(self.heat).resize(inside, Image.Resampling.BICUBIC), (left, upper)
        )
        heat = np.asarray(laid).clip(0, 1)
        colors = [np.interp(heat, _INFERNO[:, 0], _INFERNO[:, channel]) for channel in (1, 2, 3)]
        alpha = 255 * _HOTTEST * heat  # the photo stays legible, and untouched where it is cold
        layer = Image.fromarray(np.stack([*colors, alpha], axis=-1).round().astype(np.uint8))
        if (left, upper, right, lower) != (0, 0, width, height):
            draw = ImageDraw.Draw(layer)
            sides = left, upper, left + inside[0] - 1, upper + inside[1] - 1
            # Dark beneath light, to be seen on any photo.
            draw.rectangle(sides, outline="black", width=2 * _FRAME)
            draw.rectangle(sides, outline="white", width=_FRAME)
        return layer

    def overlay(self) -> Image.Image:
        """The photo with the heat over it, and a frame around what the network saw if that is not
        all; RGB."""
        laid = Image.alpha_composite(self.photo.convert("RGBA"), self.layer())
        return laid.convert("RGB")

    def _sides(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        # Not `space.boxes.corners`: with a border the network saw more than the photo.
        width, height = size
        seen = self.seen
        return (
            round(seen.left * width),
            round(seen.upper * height),
            round(seen.right * width),
            round(seen.lower * height),
        )


def heat_map(
    recognizer: "CarRecognizer",
    photo: PhotoSource,
    label: str | None = None,
    *,
    against: str | None = None,
    box: Box | None = None,
) -> HeatMap:
    """Where a network saw a class: Grad-CAM, over the car that was named.

    Args:
        photo, box: as for `CarRecognizer.predict`.
        label: the class to explain; by default the most likely one.
        against: show what speaks for `label` and not for this class (Finer-CAM).

    Raises:
        PhotoError: the photo cannot be read.
        ValueError: the checkpoint knows no such label.
    """
    labels = recognizer.labels
    for name in (label, against):
        if name is not None and name not in labels:
            raise ValueError(
                f"unknown label {name!r}; give one of the {len(labels)} class names exactly as the "
                f"predictions write them, for example {labels[0]!r}"
            )
    picture = load_photo(photo)
    prepared = recognizer.prepare(picture, box)
    target = labels.index(label or recognizer.best_label(prepared))
    other = None if against is None else labels.index(against)
    seen = recognizer.preprocess.seen(picture.size, prepared.box)
    return HeatMap(picture, recognizer.heat(prepared, target, other), seen)
