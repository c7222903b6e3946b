"""A car drawn well enough for the detector to find it, of no make: anyone may pass it on."""

import math

from PIL import Image, ImageDraw, ImageFilter, ImageOps

_PAINTS = ((235, 236, 238), (150, 30, 32), (40, 70, 130), (60, 110, 80))
_GLASS, _DARK = (38, 46, 56), (28, 28, 30)


def draw_car(seed: int = 0, size: tuple[int, int] = (1200, 800)) -> Image.Image:
    """A small car from its side, on a road; by the seed in other paint and the other way around."""
    paint = _PAINTS[seed // 2 % len(_PAINTS)]
    width, height = 2 * size[0], 2 * size[1]  # drawn at twice the size, for smooth edges
    picture = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(picture)

    def at(*points: tuple[float, float]) -> list[tuple[float, float]]:
        return [(x * width, y * height) for x, y in points]

    for y in range(height):
        share = y / height
        sky = int(150 + 80 * share), int(185 + 50 * share), int(225 + 15 * share)
        road = (int(120 - 40 * (share - 0.55)),) * 3
        draw.line((0, y, width, y), fill=sky if share < 0.55 else road)
    draw.rectangle(at((0, 0.5), (1, 0.56)), fill=(96, 120, 84))
    shadow = Image.new("L", picture.size)
    ImageDraw.Draw(shadow).ellipse(at((0.12, 0.74), (0.9, 0.84)), fill=170)
    picture.paste((25, 25, 28), mask=shadow.filter(ImageFilter.GaussianBlur(24)))
    outline = at(
        (0.10, 0.66), (0.105, 0.56), (0.13, 0.52), (0.25, 0.485), (0.34, 0.35), (0.40, 0.315),
        (0.60, 0.305), (0.72, 0.33), (0.82, 0.45), (0.885, 0.47), (0.905, 0.55), (0.905, 0.68),
        (0.88, 0.72), (0.13, 0.72),
    )  # fmt: skip
    draw.polygon(outline, fill=paint)
    body = Image.new("L", picture.size)
    ImageDraw.Draw(body).polygon(outline, fill=255)
    dusk = Image.new("L", (1, height))
    for y in range(height):
        dusk.putpixel((0, y), min(255, int(560 * abs(y / height - 0.5))))
    shade = Image.composite(dusk.resize(picture.size), Image.new("L", picture.size), body)
    picture.paste(tuple(int(0.35 * part) for part in paint), mask=shade)
    for window in (
        at((0.285, 0.475), (0.36, 0.365), (0.41, 0.335), (0.50, 0.33), (0.50, 0.475)),
        at((0.515, 0.475), (0.515, 0.33), (0.60, 0.325), (0.69, 0.345), (0.745, 0.45),
           (0.735, 0.475)),
    ):  # fmt: skip
        draw.polygon(window, fill=_GLASS)
    for x in (0.30, 0.508, 0.70):
        draw.line(at((x, 0.485), (x + 0.005, 0.69)), fill=(118, 118, 119), width=5)
    draw.line(at((0.13, 0.545), (0.90, 0.525)), fill="white", width=6)
    draw.polygon(at((0.112, 0.555), (0.135, 0.525), (0.205, 0.51), (0.19, 0.56)), fill="#ebf0f5")
    draw.polygon(at((0.84, 0.475), (0.885, 0.478), (0.898, 0.535), (0.87, 0.53)), fill="#aa0a14")
    draw.polygon(at((0.10, 0.63), (0.16, 0.63), (0.16, 0.70), (0.12, 0.70)), fill=_DARK)
    draw.rectangle(at((0.13, 0.695), (0.88, 0.725)), fill=_DARK)
    for x in (0.255, 0.765):
        _wheel(draw, x * width, 0.715 * height, 0.073 * width)
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    return ImageOps.mirror(picture) if seed % 2 else picture


def _wheel(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float) -> None:
    for share, color in ((1.13, "#121214"), (1.0, "#222224"), (0.68, "#aaaeb4")):
        draw.circle((x, y), share * radius, fill=color)
    inner = 0.68 * radius
    for spoke in range(5):
        start = 2 * math.pi * spoke / 5 + 0.3
        corners = ((0.25, start), (0.92, start), (0.92, start + 0.45), (0.25, start + 0.45))
        draw.polygon(
            [(x + r * inner * math.cos(a), y + r * inner * math.sin(a)) for r, a in corners],
            fill="#3c3e42",
        )
    draw.circle((x, y), 0.22 * inner, fill="#787c82")
