"""Heat maps laid over photos."""

import numpy as np
from PIL import Image, ImageDraw

from space.boxes import Box

MAX_SIDE = 1024  # of the overlay, in pixels: enough for a screen
_FRAME = 2  # pixels of the line around what the network saw
_PHOTO_SHARE = 0.55  # of the colors of the overlay; the rest is heat


def scaled(cam: np.ndarray) -> np.ndarray:
    """A map stretched to 0 to 1; one without any heat, or of no places, stays cold.

    Args:
        cam: at least 0, shape (rows, columns).
    """
    if not cam.size or not np.isfinite(cam).all() or cam.max() <= cam.min():
        return np.zeros((1, 1), np.float32)
    return (cam - cam.min()) / (cam.max() - cam.min())


def overlay(picture: Image.Image, heat: np.ndarray, seen: Box) -> Image.Image:
    """Heat laid over the part of a picture that the network saw.

    Args:
        picture: the photo, RGB.
        heat: 0 to 1, shape (rows, columns).
        seen: where it belongs; what lies around it stays as it is, and a frame parts both.

    Returns:
        RGB, in the picture's proportions, at most `MAX_SIDE` pixels long.
    """
    picture = picture.copy()
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    width, height = picture.size
    # Not `space.boxes.corners`: with a border the network saw more than the photo.
    left, upper = round(seen.left * width), round(seen.upper * height)
    right, lower = round(seen.right * width), round(seen.lower * height)
    size = max(1, right - left), max(1, lower - upper)
    stretched = Image.fromarray(heat).resize(size, Image.Resampling.BICUBIC)
    laid = Image.new("F", picture.size)
    laid.paste(stretched, (left, upper))
    share = np.asarray(picture, np.float32) * _PHOTO_SHARE
    mixed = share + (1 - _PHOTO_SHARE) * _jet(np.asarray(laid).clip(0, 1))
    drawn = (255 * mixed / max(mixed.max(), 1)).astype(np.uint8)
    covered = Image.new("L", picture.size)
    covered.paste(255, (left, upper, left + size[0], upper + size[1]))
    picture.paste(Image.fromarray(drawn), mask=covered)
    if covered.getextrema() != (255, 255):
        draw = ImageDraw.Draw(picture)
        sides = left, upper, left + size[0] - 1, upper + size[1] - 1
        # Dark beneath light, to be seen on any photo.
        draw.rectangle(sides, outline="black", width=2 * _FRAME)
        draw.rectangle(sides, outline="white", width=_FRAME)
    return picture


def _jet(heat: np.ndarray) -> np.ndarray:
    """The color of each place, blue to red; from shape (rows, columns), 0 to 1, to (…, 3) of 255.

    Matplotlib's and OpenCV's "jet", which people know from heat maps.
    """
    peaks = np.array([0.75, 0.5, 0.25], np.float32)
    return 255 * (1.5 - np.abs(4 * (heat[..., None] - peaks))).clip(0, 1)
