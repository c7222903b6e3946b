"""Toy cars drawn by code, to try everything without a photo."""

import random

from PIL import Image, ImageDraw

# Color alone tells the classes, so that any network learns them in a minute.
CLASSES = {
    "Audi A4 Sedan 2012": "firebrick",
    "BMW M3 Coupe 2012": "navy",
    "Geo Metro Convertible 1993": "gold",
    "Land Rover Range Rover SUV 2012": "darkgreen",
}


def draw_car(
    seed: int, color: str = "firebrick", size: tuple[int, int] = (160, 120)
) -> Image.Image:
    """A toy car on a road; the seed moves it about, the color may tell a class."""
    rng = random.Random(seed)
    width, height = size
    picture = Image.new("RGB", size, rng.choice(["lightblue", "lightgrey", "wheat"]))
    draw = ImageDraw.Draw(picture)
    left, top = rng.uniform(0.05, 0.2) * width, rng.uniform(0.35, 0.45) * height
    right, bottom = left + 0.7 * width, top + 0.3 * height
    draw.rectangle((0, bottom, width, height), fill="dimgrey")
    draw.rectangle((left, top, right, bottom), fill=color)
    draw.polygon(
        [(left + 0.15 * width, top), (left + 0.25 * width, top - 0.2 * height),
         (left + 0.5 * width, top - 0.2 * height), (left + 0.6 * width, top)],
        fill=color,
    )  # fmt: skip
    radius = 0.09 * height
    for x in (left + 0.15 * width, left + 0.55 * width):
        draw.ellipse((x - radius, bottom - radius, x + radius, bottom + radius), fill="black")
    for _ in range(200):  # specks, so that no two pictures are copies
        x, y = rng.randrange(width), rng.randrange(height)
        draw.rectangle((x, y, x + 3, y + 3), fill=tuple(rng.randrange(256) for _ in range(3)))
    return picture
