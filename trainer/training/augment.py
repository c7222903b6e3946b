"""Augmentation of whole batches, on the device that trains, from the cached pixels.

One random affine map a photo does crop, aspect, flip and rotation at once, so that the photo is
interpolated once; color is one more pass. What can only be done photo by photo (blur, JPEG, the
published policies) costs more and is for a share of the photos.
"""

import io
import math

import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms import v2

from trainer.data.copies import BLACK
from trainer.training.settings import AugmentationSettings

ERASE_AREA = (0.02, 0.15)
SHRUNK_SIDE = (0.4, 0.9)  # of the frame that a shrunk photo fills
# How far training moves the sides of a car's box outward, as shares of its width or height; inward
# where negative.
BOX_MARGIN = (-0.10, 0.18)
BLUR = (0.002, 0.015)  # standard deviation, as a share of the side
JPEG_QUALITY = (15, 70)
DOWNSCALED_SIDE = (0.25, 0.7)  # of the photo, before it is scaled up again
# A background counts as painted out when it is this share of the photo and of its border.
BLACKED_OUT = 0.15
BLACK_BORDER = 0.6

_POLICIES = {
    "randaugment": v2.RandAugment,  # Cubuk et al. 2019, arXiv:1909.13719
    "trivialaugment": v2.TrivialAugmentWide,  # Müller and Hutter 2021, arXiv:2103.10158
    "augmix": v2.AugMix,  # Hendrycks et al. 2019, arXiv:1912.02781
}


class Augment:
    """Random changes to batches of photos, as strong as the settings say."""

    def __init__(self, settings: AugmentationSettings):
        self._settings = settings
        policy = _POLICIES.get(settings.policy)
        self._policy = policy() if policy else None

    def __call__(self, pixels: torch.Tensor, boxes: torch.Tensor, size: int) -> torch.Tensor:
        """Changes each photo of a batch in its own way.

        Args:
            pixels: uint8, shape (batch, 3, height, width).
            boxes: where the cars are in them, in shares of width and height, shape (batch, 4).
            size: side of the square result.

        Returns:
            float 0..255, shape (batch, 3, size, size). Draws from torch's global generator.
        """
        settings = self._settings
        if settings.backgrounds:
            pixels = replace_backgrounds(pixels, settings.backgrounds)
        # Bilinear sampling skips pixels when it shrinks by much; a smooth reduction goes first,
        # on the bytes: the rounding cannot be seen, and CPUs are much faster at it.
        windows = _windows(boxes, settings)
        near = math.ceil(size * 1.25 / (windows[:, 2:] - windows[:, :2]).median().item())
        if pixels.shape[-1] > near * 1.2:
            pixels = v2.functional.resize(pixels, [near, near])
        images = _warp(pixels.float(), windows, size, settings)
        images = _recolour(images, settings)
        if self._policy:
            for index in range(len(images)):
                images[index] = self._policy(images[index].byte()).float()
        for share, degrade in (
            (settings.downscale, _downscaled),
            (settings.blur, _blurred),
            (settings.jpeg, _pressed),
        ):
            for index in _drawn(len(images), share):
                images[index] = degrade(images[index])
        return _erase(images, settings.erase)


def _uniform(count: int, low: float, high: float, like: torch.Tensor) -> torch.Tensor:
    # Drawn on the CPU: the same numbers whatever the device.
    return torch.empty(count).uniform_(low, high).to(like.device)


def _draw(low: float, high: float) -> float:
    return torch.empty(()).uniform_(low, high).item()


def _drawn(count: int, share: float) -> list[int]:
    """The photos that a change happens to; draws nothing when it happens to none."""
    return (torch.rand(count) < share).nonzero().flatten().tolist() if share else []


def replace_backgrounds(pixels: torch.Tensor, share: float) -> torch.Tensor:
    """Puts another photo of the batch where a background was painted black.

    Args:
        pixels: uint8, shape (batch, 3, height, width).
        share: of the photos with a blacked-out background that get another one, 0 to 1.
    """
    black = pixels.amax(dim=1, keepdim=True) <= BLACK
    border = torch.cat([black[..., 0, :], black[..., -1, :], black[..., 0], black[..., -1]], dim=-1)
    chosen = (
        (black.float().mean(dim=(1, 2, 3)) >= BLACKED_OUT)
        & (border.float().mean(dim=(1, 2)) >= BLACK_BORDER)
        & (_uniform(len(pixels), 0, 1, pixels) < share)
    )
    if not chosen.any():
        return pixels
    # Paint and car meet in a fringe of dark pixels, which the mask takes in as well; specks of
    # black within the car stay, being smaller than what the erosion takes away.
    mask = black.float()
    mask = -F.max_pool2d(-mask, 5, stride=1, padding=2)
    mask = F.max_pool2d(mask, 7, stride=1, padding=3) > 0
    others = pixels.roll(1, dims=0)
    return torch.where(mask & chosen.view(-1, 1, 1, 1), others, pixels)


def _windows(boxes: torch.Tensor, settings: AugmentationSettings) -> torch.Tensor:
    """The part of each photo that training sees: the car's box, as loose or tight as detectors are.

    Args:
        boxes: shares of width and height, shape (batch, 4).

    Returns:
        As `boxes`; where a box is the whole photo, so is the part.
    """
    n = len(boxes)
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    moves = _uniform(n * 4, *BOX_MARGIN, boxes).view(n, 4) * sides
    outward = torch.tensor([-1.0, -1.0, 1.0, 1.0], device=boxes.device)
    windows = (boxes + moves * outward).clamp(0, 1)
    whole = boxes.new_tensor([0.0, 0.0, 1.0, 1.0])
    loose = _uniform(n, 0, 1, boxes) < settings.loose
    windows[loose | (boxes == whole).all(dim=1)] = whole
    return windows


def _warp(
    images: torch.Tensor, windows: torch.Tensor, size: int, settings: AugmentationSettings
) -> torch.Tensor:
    n = len(images)
    side = _uniform(n, settings.crop_area, 1.0, images).sqrt()
    shrunk = torch.zeros(n, dtype=torch.bool, device=images.device)
    if settings.shrink:
        shrunk = _uniform(n, 0, 1, images) < settings.shrink
        side = torch.where(shrunk, 1 / _uniform(n, *SHRUNK_SIDE, images), side)
    stretch = (_uniform(n, -1, 1, images) * math.log1p(settings.aspect)).exp().sqrt()
    widest = torch.where(shrunk, math.inf, 1.0)
    width = torch.minimum(side * stretch, widest)
    height = torch.minimum(side / stretch, widest)
    angle = _uniform(n, -settings.rotate, settings.rotate, images).deg2rad()
    flip = torch.where(_uniform(n, 0, 1, images) < settings.flip, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3, device=images.device)
    theta[:, 0, 0] = width * angle.cos() * flip
    theta[:, 0, 1] = -height * angle.sin()
    theta[:, 1, 0] = width * angle.sin() * flip
    theta[:, 1, 1] = height * angle.cos()
    theta[:, 0, 2] = _uniform(n, -1, 1, images) * (1 - width)
    theta[:, 1, 2] = _uniform(n, -1, 1, images) * (1 - height)
    # So far within the window; now the window within the photo.
    theta[:, :, :2] *= (windows[:, 2:] - windows[:, :2])[..., None]
    theta[:, :, 2] *= windows[:, 2:] - windows[:, :2]
    theta[:, :, 2] += windows[:, :2] + windows[:, 2:] - 1
    grid = F.affine_grid(theta, [n, 3, size, size], align_corners=False)
    warped = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    if not shrunk.any():
        return warped
    outside = (grid.abs().amax(dim=3) > 1)[:, None] & shrunk.view(n, 1, 1, 1)
    return torch.where(outside, _surroundings(images, size), warped)


def _surroundings(images: torch.Tensor, size: int) -> torch.Tensor:
    """What stands around shrunk photos: another photo of the batch, blurred or of one color."""
    others = images.roll(1, dims=0)
    blurred = F.interpolate(
        F.adaptive_avg_pool2d(others, 8), (size, size), mode="bilinear", align_corners=False
    )
    flat = others.mean(dim=(2, 3), keepdim=True)
    plain = (_uniform(len(images), 0, 1, images) < 0.5).view(-1, 1, 1, 1)
    return torch.where(plain, flat, blurred)


def _recolour(images: torch.Tensor, settings: AugmentationSettings) -> torch.Tensor:
    n = len(images)

    def factor() -> torch.Tensor:
        return _uniform(n, 1 - settings.color, 1 + settings.color, images).view(n, 1, 1, 1)

    if not (settings.color or settings.grey):
        return images
    grey = _grey(images)
    saturation = factor()
    saturation[_uniform(n, 0, 1, images) < settings.grey] = 0
    images = torch.lerp(grey, images, saturation)
    mean = grey.mean(dim=(2, 3), keepdim=True)
    images = torch.lerp(mean, images, factor())
    return (images * factor()).clamp_(0, 255)


def _grey(images: torch.Tensor) -> torch.Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True)


def _downscaled(image: torch.Tensor) -> torch.Tensor:
    size = image.shape[-1]
    small = max(8, round(size * _draw(*DOWNSCALED_SIDE)))
    image = F.interpolate(image[None], (small, small), mode="bilinear", antialias=True)
    return F.interpolate(image, (size, size), mode="bilinear", align_corners=False)[0]


def _blurred(image: torch.Tensor) -> torch.Tensor:
    sigma = max(0.3, image.shape[-1] * _draw(*BLUR))
    return v2.functional.gaussian_blur(image, 2 * math.ceil(2 * sigma) + 1, sigma)


def _pressed(image: torch.Tensor) -> torch.Tensor:
    file = io.BytesIO()
    v2.functional.to_pil_image(image.byte().cpu()).save(
        file, "JPEG", quality=round(_draw(*JPEG_QUALITY))
    )
    with Image.open(file) as compressed:
        return v2.functional.pil_to_tensor(compressed).to(image.device).float()


def _erase(images: torch.Tensor, share: float) -> torch.Tensor:
    """Random Erasing (Zhong et al. 2017, arXiv:1708.04896) with a grey patch."""
    size = images.shape[-1]
    for index in _drawn(len(images), share):
        area = _draw(*ERASE_AREA) * size * size
        ratio = math.exp(_draw(-1, 1))
        height = min(size, max(1, round(math.sqrt(area * ratio))))
        width = min(size, max(1, round(math.sqrt(area / ratio))))
        top = int(torch.randint(size - height + 1, ()))
        left = int(torch.randint(size - width + 1, ()))
        images[index, :, top : top + height, left : left + width] = 127.5
    return images
