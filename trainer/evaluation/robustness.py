"""Photos as people take them: dark, blurred, compressed, tilted, cut off.

Each corruption turns an upright RGB picture into another one. None draws a random number, and each
is as strong on a small picture as on a large one, so that what they do to a recognizer can be
measured again and compared between datasets. It is the idea of ImageNet-C (Hendrycks and
Dietterich 2019, arXiv:1903.12261), with what happens to photos of cars.
"""

import io
import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter
from scipy.ndimage import affine_transform

STOPS = 3  # fewer than the photo had; each halves the light
BLUR = 0.01  # standard deviation of the blur, as a share of the long side
JPEG_QUALITY = 20
JPEG_SIDE = 640  # pixels of the long side
SMALL_SIDE = 96  # pixels of the long side
DEGREES = 10.0  # anticlockwise
KEPT = 0.75  # of each side, when the photo is cropped


def dark(picture: Image.Image) -> Image.Image:
    """At dusk, or in a garage: an eighth of the light.

    The exposure is taken back as a camera would, in linear light; what was dark already sinks into
    the steps of 8 bits.
    """
    levels = np.arange(256) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    linear /= 2**STOPS
    levels = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return picture.point([round(255 * level) for level in levels] * 3)


def blurred(picture: Image.Image) -> Image.Image:
    """Out of focus."""
    return picture.filter(ImageFilter.GaussianBlur(BLUR * max(picture.size)))


def jpeg(picture: Image.Image) -> Image.Image:
    """Sent on through messengers and marketplaces, which shrink photos and press them hard.

    Without the shrinking, the blocks of a large photo would be too fine to be seen.
    """
    file = io.BytesIO()
    _shrunk(picture, JPEG_SIDE).save(file, "JPEG", quality=JPEG_QUALITY)
    with Image.open(file) as result:
        return result.convert("RGB")


def small(picture: Image.Image) -> Image.Image:
    """A thumbnail of a listing. Pictures that are smaller stay as they are."""
    return _shrunk(picture, SMALL_SIDE)


def tilted(picture: Image.Image) -> Image.Image:
    """The phone was not held straight.

    The frame stays as it is: what turns out of it is lost, as it would be with a phone. What turns
    in at the corners the photo does not have, so the colors of its border are drawn out into them:
    black corners would be a sign that no phone gives, a mirror image would show pieces of the car a
    second time, and a frame without corners would have to be a crop.
    """
    cos, sin = math.cos(math.radians(DEGREES)), math.sin(math.radians(DEGREES))
    turn = np.array([[cos, sin], [-sin, cos]])  # where a pixel (row, column) of the result is from
    pixels = np.asarray(picture)
    middle = (np.array(pixels.shape[:2]) - 1) / 2
    offset = middle - turn @ middle
    channels = [
        affine_transform(pixels[:, :, channel], turn, offset, order=1, mode="nearest")
        for channel in range(3)
    ]
    return Image.fromarray(np.stack(channels, axis=2))


def grey(picture: Image.Image) -> Image.Image:
    """A scan or a photo from a camera without colors; the paint tells nothing any more."""
    return picture.convert("L").convert("RGB")


def cropped(picture: Image.Image) -> Image.Image:
    """One end of the car is out of the frame: the right quarter, and an eighth above and below.

    The frame keeps its shape, so that nothing is stretched.
    """
    width, height = picture.size
    keep_width, keep_height = _part(width, KEPT), _part(height, KEPT)
    top = (height - keep_height) // 2
    return picture.crop((0, top, keep_width, top + keep_height))


CORRUPTIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "dark": dark,
    "blurred": blurred,
    "jpeg": jpeg,
    "small": small,
    "tilted": tilted,
    "grey": grey,
    "cropped": cropped,
}


def _shrunk(picture: Image.Image, side: int) -> Image.Image:
    """A copy whose long side has at most so many pixels."""
    picture = picture.copy()
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture


def _part(side: int, share: float) -> int:
    """A share of a side in pixels, at least one."""
    return max(1, round(side * share))
