"""A second look, for cars far away: the network looks again, closer, where it saw something.

The maps that the classifier averages say where in the photo the answer came from. If that is a
small part of it, the part is cut out of the photo as it was taken, with all the detail that was
lost when the photo was shrunk for the first pass, and goes through the network too. It is the
cheapest form of what attention networks for fine-grained classes do (Fu et al. 2017, RA-CNN; Hu et
al. 2019, WS-DAN, arXiv:1901.09891), and needs neither training nor a detector.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image

from space.gate import look_closely
from space.transforms import normalize, to_pixels

# What counts as heat: what speaks for the best answer, or whatever the network reacts to.
Heat = Literal["evidence", "activity"]
HEATS: tuple[Heat, ...] = ("evidence", "activity")

# What two answers become: their mean, a mean in which the second counts twice, the surer one, or
# the second alone.
Combination = Literal["mean", "leaning", "surer", "second"]
COMBINATIONS: tuple[Combination, ...] = ("mean", "leaning", "surer", "second")

_CELL = 8  # pixels of the enlarged heat map for each of its places


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


def heat_maps(
    model: Any, maps: torch.Tensor, logits: torch.Tensor, heat: Heat
) -> torch.Tensor | None:
    """Where a timm network saw something, from what its pass gave anyway.

    Args:
        maps: what its classifier averages: the first that `forward_intermediates` returns.
        logits: shape (photos, classes).
        heat: "evidence" is each place's own logit of the best class, which for a linear head on
            averaged maps is the class activation map (Zhou et al. 2016, arXiv:1512.04150), and
            works for other heads too; "activity" is the length of each place's vector.

    Returns:
        0 to 1 for each photo, shape (photos, rows, columns), zero at the coldest place; or None if
        the network has no maps, as those have none that cut a photo into tokens.
    """
    if maps.ndim != 4 or maps.shape[1] != model.num_features or maps.shape[2:] == (1, 1):
        return None
    photos, channels, rows, columns = maps.shape
    if heat == "activity":
        values = maps.norm(dim=1)
    else:
        places = maps.permute(0, 2, 3, 1).reshape(-1, channels, 1, 1)
        each = model.forward_head(places).view(photos, rows * columns, -1)
        best = logits.argmax(dim=1).view(-1, 1, 1).expand(-1, rows * columns, 1)
        values = each.gather(2, best).view(photos, rows, columns)
    values = values.float()
    values = values - values.amin(dim=(1, 2), keepdim=True)
    return values / values.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)


def box_around(heat: torch.Tensor, share: float, margin: float) -> Box:
    """The box around the warm region that holds the most heat.

    Args:
        heat: 0 to 1, shape (rows, columns), on any device.
        share: from which heat on a place is warm, 0 to 1.
        margin: how much the box grows on each side, as a share of its own width or height.

    Returns:
        The box; `WHOLE` where there is no heat.
    """
    size = [_CELL * side for side in heat.shape]
    smooth = F.interpolate(heat.cpu()[None, None], size, mode="bicubic", align_corners=False)
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
    """Cuts out of a photo what a box of its heat map frames: at least one pixel.

    Args:
        box: in shares of what the network was shown, see `seen_part`.
    """
    seen = seen_part(picture.size, data_config)
    sides = []
    for side, start, end, low, high in (
        (picture.width, seen.left, seen.right, box.left, box.right),
        (picture.height, seen.upper, seen.lower, box.upper, box.lower),
    ):
        first = math.floor(side * (start + low * (end - start)))
        last = math.ceil(side * (start + high * (end - start)))
        first = min(max(first, 0), side - 1)
        sides.append((first, min(max(last, first + 1), side)))
    (left, right), (upper, lower) = sides
    return picture.crop((left, upper, right, lower))


def combined(first: torch.Tensor, second: torch.Tensor, combination: Combination) -> torch.Tensor:
    """One answer of two, logits of shape (photos, classes) each and as the result.

    The mean of logits is, but for a constant, that of log-probabilities, and keeps the scale by
    which unknown cars are told, see `space.verdict.Judge.unknown`.
    """
    if combination == "second":
        return second
    if combination == "mean":
        return (first + second) / 2
    if combination == "leaning":
        return (first + 2 * second) / 3
    surer = second.softmax(dim=1).amax(dim=1) > first.softmax(dim=1).amax(dim=1)
    return torch.where(surer[:, None], second, first)


@dataclass(frozen=True)
class SecondLook:
    """When to look again, where, and what to make of it.

    Attributes:
        heat, share, margin: which box, see `heat_maps` and `box_around`.
        largest: the largest share of the photo's area that is worth a second pass, 0 to 1.
        combination: see `combined`.
    """

    heat: Heat = "activity"
    share: float = 0.35
    margin: float = 0.1
    largest: float = 0.55
    combination: Combination = "leaning"

    def boxes(self, model: Any, maps: torch.Tensor, logits: torch.Tensor) -> list[Box | None]:
        """For each photo where to look again, or None; arguments as for `heat_maps`."""
        heats = heat_maps(model, maps, logits, self.heat)
        if heats is None:
            return [None] * len(logits)
        boxes = (box_around(heat, self.share, self.margin) for heat in heats)
        return [box if box.area <= self.largest else None for box in boxes]

    def look(
        self, model: Any, pictures: Sequence[Image.Image], data_config: Mapping[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor, list[Box | None]]:
        """Looks at photos once, and at those twice whose car seems small.

        It changes nothing in the network, so threads may share that.

        Args:
            model: a timm network, in evaluation mode.
            pictures: upright RGB pictures; the larger, the more there is to see at the second look.
            data_config: how the network wants them, see `space.transforms`.

        Returns:
            Logits (photos, classes) and features (photos, channels), float32 on the CPU, and for
            each photo the box that was looked at again, in shares of what the network was shown,
            or None. The features are those of the first look, see `space.gate.look`.
        """
        prepare = to_pixels(data_config)

        def inputs(some: Sequence[Image.Image]) -> torch.Tensor:
            pixels = torch.stack([prepare(picture) for picture in some])
            normal = normalize(pixels.to(next(model.parameters()).device), data_config)
            return normal.contiguous(memory_format=torch.channels_last)

        with torch.inference_mode():
            logits, features, maps = look_closely(model, inputs(pictures))
            boxes = self.boxes(model, maps, logits)
            again = [number for number, box in enumerate(boxes) if box]
            if again:
                parts = [
                    crop(pictures[number], box, data_config)
                    for number, box in enumerate(boxes)
                    if box
                ]
                second = model(inputs(parts))
                logits[again] = combined(logits[again], second, self.combination)
            return logits.float().cpu(), features.float().cpu(), boxes
