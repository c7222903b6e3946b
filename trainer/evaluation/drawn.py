"""Pictures drawn by code that show no photo of a car: what people upload by mistake."""

import random
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_SIZE = (480, 360)


def drawings(count: int, seed: int = 0) -> Iterator[tuple[str, Image.Image]]:
    """Yields (kind, picture), the kinds in turn; RGB, 480x360."""
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        yield kind, KINDS[kind](random.Random(f"{seed}/{kind}/{number}"))


def _colour(rng: random.Random) -> tuple[int, int, int]:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def _canvas(color) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", _SIZE, color)
    return picture, ImageDraw.Draw(picture)


def _words(rng: random.Random, count: int) -> str:
    return " ".join(
        "".join(rng.choice("aeiounrtslmdkp") for _ in range(rng.randint(2, 9)))
        for _ in range(count)
    )


def _plain(rng: random.Random) -> Image.Image:
    return _canvas(_colour(rng))[0]


def _gradient(rng: random.Random) -> Image.Image:
    first, last = np.array(_colour(rng)), np.array(_colour(rng))
    ramp = np.linspace(0, 1, _SIZE[0])[None, :, None]
    rows = np.broadcast_to(first + (last - first) * ramp, (_SIZE[1], _SIZE[0], 3))
    return Image.fromarray(rows.astype(np.uint8)).rotate(rng.choice((0, 180)))


def _noise(rng: random.Random) -> Image.Image:
    side = rng.choice((8, 40, 480))
    cells = np.random.default_rng(rng.randrange(2**32)).integers(0, 256, (side, side, 3))
    return Image.fromarray(cells.astype(np.uint8)).resize(_SIZE, Image.Resampling.BILINEAR)


def _text(rng: random.Random) -> Image.Image:
    picture, draw = _canvas("white" if rng.random() < 0.8 else _colour(rng))
    font = ImageFont.load_default(rng.choice((12, 16, 24)))
    for y in range(20, 340, rng.choice((18, 26, 36))):
        draw.text((20, y), _words(rng, rng.randint(3, 10)), fill="black", font=font)
    return picture


def _screenshot(rng: random.Random) -> Image.Image:
    picture, draw = _canvas(rng.choice(["white", "whitesmoke", "#1e1e1e"]))
    accent = _colour(rng)
    draw.rectangle((0, 0, _SIZE[0], 36), fill=accent)
    draw.text((12, 10), _words(rng, 2), fill="white", font=ImageFont.load_default(14))
    for row in range(rng.randint(3, 6)):
        top = 50 + row * 52
        draw.rounded_rectangle((12, top, 468, top + 44), 8, outline="grey")
        draw.rectangle((20, top + 8, 52, top + 36), fill=_colour(rng))
        draw.text((64, top + 14), _words(rng, 4), fill="grey", font=ImageFont.load_default(13))
    return picture


def _chart(rng: random.Random) -> Image.Image:
    picture, draw = _canvas("white")
    draw.line((40, 20, 40, 320, 460, 320), fill="black", width=2)
    for x in range(60, 440, 40):
        draw.rectangle((x, rng.randint(40, 300), x + 26, 319), fill=_colour(rng))
    return picture


def _sketch(rng: random.Random) -> Image.Image:
    """The outline of a car, as a child draws it."""
    picture, draw = _canvas("white")
    left, base = rng.randint(30, 90), rng.randint(220, 280)
    body = [
        (left, base), (left, base - 60), (left + 70, base - 70), (left + 130, base - 130),
        (left + 240, base - 130), (left + 290, base - 65), (left + 350, base - 55),
        (left + 350, base), (left, base),
    ]  # fmt: skip
    draw.line(body, fill=rng.choice(["black", "blue", "red"]), width=rng.randint(2, 6))
    for x in (left + 70, left + 270):
        draw.ellipse((x - 34, base - 34, x + 34, base + 34), outline="black", width=4)
    return picture


def _road(rng: random.Random) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture, draw = _canvas(rng.choice(["lightblue", "lightgrey", "wheat"]))
    draw.rectangle((0, 290, _SIZE[0], 360), fill="dimgrey")
    return picture, draw


def _wheels(draw: ImageDraw.ImageDraw, xs: tuple[int, ...], radius: int = 28) -> None:
    for x in xs:
        draw.ellipse((x - radius, 300 - radius, x + radius, 300 + radius), fill="black")
        draw.ellipse((x - 12, 288, x + 12, 312), fill="silver")


def _bus(rng: random.Random) -> Image.Image:
    picture, draw = _road(rng)
    draw.rounded_rectangle((30, 90, 450, 295), 14, fill=_colour(rng))
    for x in range(46, 430, 56):
        draw.rectangle((x, 112, x + 44, 180), fill="lightcyan", outline="black")
    _wheels(draw, (110, 370))
    return picture


def _lorry(rng: random.Random) -> Image.Image:
    picture, draw = _road(rng)
    draw.rectangle((20, 80, 330, 290), fill=_colour(rng))
    draw.rounded_rectangle((338, 150, 460, 290), 10, fill=_colour(rng))
    draw.rectangle((390, 165, 452, 215), fill="lightcyan")
    _wheels(draw, (80, 150, 400), 32)
    return picture


def _motorcycle(rng: random.Random) -> Image.Image:
    picture, draw = _road(rng)
    color = _colour(rng)
    for x in (130, 350):
        draw.ellipse((x - 60, 190, x + 60, 310), outline="black", width=14)
    draw.line((130, 250, 220, 180, 310, 180, 350, 250), fill=color, width=12)
    draw.line((310, 180, 330, 130, 370, 125), fill="black", width=8)
    draw.ellipse((200, 140, 300, 190), fill=color)
    return picture


KINDS: dict[str, Callable[[random.Random], Image.Image]] = {
    "plain color": _plain,
    "gradient": _gradient,
    "noise": _noise,
    "text": _text,
    "screenshot": _screenshot,
    "chart": _chart,
    "sketch of a car": _sketch,
    "drawn bus": _bus,
    "drawn lorry": _lorry,
    "drawn motorcycle": _motorcycle,
}
