"""Augmentation of whole batches, on the device that trains, from the cached pixels.

One random affine map a photo does crop, aspect, flip and rotation at once, so that the photo is
interpolated once; colour is one more pass.
"""

import math

import torch
import torch.nn.functional as F

MIN_AREA = 0.4  # of the photo that a crop keeps
ASPECT = 0.2  # stretched or squeezed by up to this share
MAX_DEGREES = 8.0
COLOUR = 0.35  # brightness, contrast and saturation by up to this share
GREY_PROBABILITY = 0.05
ERASE_PROBABILITY = 0.3
ERASE_AREA = (0.02, 0.15)
SHRUNK_SIDE = (0.4, 0.9)  # of the frame that a shrunk photo fills


def augment(pixels: torch.Tensor, size: int, shrink: float = 0.0) -> torch.Tensor:
    """Random crops, flips, rotations, colours and erasures.

    Args:
        pixels: uint8, shape (batch, 3, height, width).
        size: side of the square result.
        shrink: the share of photos that are not cropped but put small into a larger frame, 0 to 1.

    Returns:
        float 0..255, shape (batch, 3, size, size). Draws from torch's global generator.
    """
    images = pixels.float()
    # Bilinear sampling skips pixels when it shrinks by much; a smooth reduction goes first.
    near = math.ceil(size * 1.25)
    if images.shape[-1] > near * 1.2:
        images = F.interpolate(images, (near, near), mode="bilinear", antialias=True)
    images = _warp(images, size, shrink)
    images = _recolour(images)
    return _erase(images)


def _uniform(count: int, low: float, high: float, like: torch.Tensor) -> torch.Tensor:
    # Drawn on the CPU: the same numbers whatever the device.
    return torch.empty(count).uniform_(low, high).to(like.device)


def _warp(images: torch.Tensor, size: int, shrink: float) -> torch.Tensor:
    n = len(images)
    side = _uniform(n, MIN_AREA, 1.0, images).sqrt()
    shrunk = torch.zeros(n, dtype=torch.bool, device=images.device)
    if shrink:
        shrunk = _uniform(n, 0, 1, images) < shrink
        side = torch.where(shrunk, 1 / _uniform(n, *SHRUNK_SIDE, images), side)
    stretch = (_uniform(n, -1, 1, images) * math.log1p(ASPECT)).exp().sqrt()
    widest = torch.where(shrunk, math.inf, 1.0)
    width = torch.minimum(side * stretch, widest)
    height = torch.minimum(side / stretch, widest)
    angle = _uniform(n, -MAX_DEGREES, MAX_DEGREES, images).deg2rad()
    flip = torch.where(_uniform(n, 0, 1, images) < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3, device=images.device)
    theta[:, 0, 0] = width * angle.cos() * flip
    theta[:, 0, 1] = -height * angle.sin()
    theta[:, 1, 0] = width * angle.sin() * flip
    theta[:, 1, 1] = height * angle.cos()
    theta[:, 0, 2] = _uniform(n, -1, 1, images) * (1 - width)
    theta[:, 1, 2] = _uniform(n, -1, 1, images) * (1 - height)
    grid = F.affine_grid(theta, [n, 3, size, size], align_corners=False)
    warped = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    if not shrunk.any():
        return warped
    outside = (grid.abs().amax(dim=3) > 1)[:, None] & shrunk.view(n, 1, 1, 1)
    return torch.where(outside, _surroundings(images, size), warped)


def _surroundings(images: torch.Tensor, size: int) -> torch.Tensor:
    """What stands around shrunk photos: another photo of the batch, blurred or of one colour."""
    others = images.roll(1, dims=0)
    blurred = F.interpolate(
        F.adaptive_avg_pool2d(others, 8), (size, size), mode="bilinear", align_corners=False
    )
    flat = others.mean(dim=(2, 3), keepdim=True)
    plain = (_uniform(len(images), 0, 1, images) < 0.5).view(-1, 1, 1, 1)
    return torch.where(plain, flat, blurred)


def _recolour(images: torch.Tensor) -> torch.Tensor:
    n = len(images)

    def factor() -> torch.Tensor:
        return _uniform(n, 1 - COLOUR, 1 + COLOUR, images).view(n, 1, 1, 1)

    grey = _grey(images)
    saturation = factor()
    saturation[_uniform(n, 0, 1, images) < GREY_PROBABILITY] = 0
    images = torch.lerp(grey, images, saturation)
    mean = grey.mean(dim=(2, 3), keepdim=True)
    images = torch.lerp(mean, images, factor())
    return (images * factor()).clamp_(0, 255)


def _grey(images: torch.Tensor) -> torch.Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True)


def _erase(images: torch.Tensor) -> torch.Tensor:
    """Random Erasing (Zhong et al. 2017, arXiv:1708.04896) with a grey patch."""
    size = images.shape[-1]
    erased = torch.rand(len(images)) < ERASE_PROBABILITY
    for index in erased.nonzero().flatten().tolist():
        area = torch.empty(1).uniform_(*ERASE_AREA).item() * size * size
        ratio = math.exp(torch.empty(1).uniform_(-1, 1).item())
        height = min(size, max(1, round(math.sqrt(area * ratio))))
        width = min(size, max(1, round(math.sqrt(area / ratio))))
        top = int(torch.randint(size - height + 1, ()))
        left = int(torch.randint(size - width + 1, ()))
        images[index, :, top : top + height, left : left + width] = 127.5
    return images
