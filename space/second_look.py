"""A second look, for cars far away: the network looks again, closer, where it saw something.

The maps that the classifier averages say where in the photo the answer came from. If that is a
small part of it, the part is cut out of the photo as it was taken, with all the detail that was
lost when the photo was shrunk for the first pass, and goes through the network too. It is the
cheapest form of what attention networks for fine-grained classes do (Fu et al. 2017, RA-CNN; Hu et
al. 2019, WS-DAN, arXiv:1901.09891), and needs neither training nor a detector.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image

from space.boxes import WHOLE, Box

# Of what is kept of a photo for a second look, in pixels: a box of a third of it still has more
# than networks take in.
DETAIL = 1024

_CELL = 8  # pixels of the enlarged heat map for each of its places


def box_around(heat: torch.Tensor, share: float, margin: float) -> Box:
    """The box around the warm region that holds the most heat.

    Args:
        heat: of any scale, shape (rows, columns), see `space.network.Sight`.
        share: from which heat on a place is warm, 0 at the coldest place to 1 at the hottest.
        margin: how much the box grows on each side, as a share of its own width or height.

    Returns:
        The box; `WHOLE` where there is no heat.
    """
    if not heat.numel():
        return WHOLE
    heat = (heat - heat.min()) / (heat.max() - heat.min()).clamp(min=1e-12)
    size = [_CELL * side for side in heat.shape]
    smooth = F.interpolate(heat[None, None], size, mode="bicubic", align_corners=False)
    smooth = smooth[0, 0].clamp(min=0)
    top = smooth.max()
    if not top > 0:
        return WHOLE
    region = _warmest_region(smooth, smooth >= share * top)
    (upper, lower), (left, right) = (
        (int(line.nonzero()[0]) / len(line), (int(line.nonzero()[-1]) + 1) / len(line))
        for line in (region.any(dim=1), region.any(dim=0))
    )
    across, down = margin * (right - left), margin * (lower - upper)
    return Box(
        max(0.0, left - across),
        max(0.0, upper - down),
        min(1.0, right + across),
        min(1.0, lower + down),
    )


def _warmest_region(heat: torch.Tensor, warm: torch.Tensor) -> torch.Tensor:
    """The connected part of `warm` with the most heat; both of shape (rows, columns)."""
    best, most = warm, -1.0
    left = warm.clone()
    while left.any():
        region = torch.zeros_like(warm)
        region.view(-1)[int(left.view(-1).int().argmax())] = True
        grown = _spread(region) & warm
        while not torch.equal(grown, region):
            region, grown = grown, _spread(grown) & warm
        if (held := float(heat[region].sum())) > most:
            best, most = region, held
        left &= ~region
    return best


def _spread(region: torch.Tensor) -> torch.Tensor:
    """The region and all that touches it."""
    return F.max_pool2d(region[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0


def seen_part(size: tuple[int, int], data_config: Mapping[str, Any]) -> Box:
    """The part of a photo that the network is shown; beyond the photo where it is padded.

    Args:
        size: width and height of the photo in pixels.
        data_config: the geometry, see `space.transforms.GEOMETRY_KEYS`.
    """
    mode, share = data_config["crop_mode"], data_config["crop_pct"]
    if mode == "squash":
        width = height = share
    else:  # the short side, or with "border" the long one, is what is cut to the input's size
        rows, columns = data_config["input_size"][1:]
        scales = columns / size[0], rows / size[1]
        scale = (min if mode == "border" else max)(scales) / share
        width, height = columns / scale / size[0], rows / scale / size[1]
    return Box((1 - width) / 2, (1 - height) / 2, (1 + width) / 2, (1 + height) / 2)


def crop(picture: Image.Image, box: Box, data_config: Mapping[str, Any]) -> Image.Image:
    """Cuts out of a photo what a box of its heat map frames; arguments as for `place`."""
    return picture.crop(place(picture.size, box, data_config))


def place(
    size: tuple[int, int], box: Box, data_config: Mapping[str, Any]
) -> tuple[int, int, int, int]:
    """Where in a photo a box of its heat map lies: left, upper, right, lower, at least one pixel.

    Args:
        size: width and height of the photo in pixels.
        box: in shares of what the network was shown, see `seen_part`.
    """
    seen = seen_part(size, data_config)
    sides = []
    for side, start, end, low, high in (
        (size[0], seen.left, seen.right, box.left, box.right),
        (size[1], seen.upper, seen.lower, box.upper, box.lower),
    ):
        first = math.floor(side * (start + low * (end - start)))
        last = math.ceil(side * (start + high * (end - start)))
        first = min(max(first, 0), side - 1)
        sides.append((first, min(max(last, first + 1), side)))
    (left, right), (upper, lower) = sides
    return left, upper, right, lower


@dataclass(frozen=True)
class SecondLook:
    """When to look again, where, and what to make of it.

    Attributes:
        share, margin: which box, see `box_around`.
        largest: the largest share of the photo's area that is worth a second pass, 0 to 1.
        weight: of the second answer in the mean of both, 0 to 1. The mean of logits is, but for a
            constant, that of log-probabilities, and keeps the scale by which unknown cars are
            told, see `space.verdict.Judge.unknown`.
    """

    share: float
    margin: float
    largest: float
    weight: float

    def box(self, heat: torch.Tensor) -> Box | None:
        """Where to look again in a photo, or None; its heat as for `box_around`."""
        box = box_around(heat, self.share, self.margin)
        return box if box.area <= self.largest else None


# What `python -m benchmarks.second_pass --choose` found best on 260 validation photos.
CHOSEN = SecondLook(share=0.35, margin=0.1, largest=0.45, weight=0.5)
