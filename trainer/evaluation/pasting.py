"""Scenes: a car's photo in a real photo of something else, so that the car is a part of it.

Real surroundings are what makes a small car hard: borders that are drawn outward and blurred show
nothing that could be mistaken for a car.
"""

import random

from PIL import Image, ImageOps

# What the car's photo takes of the scene's area.
AREAS = {"a half": 1 / 2, "a quarter": 1 / 4, "a tenth": 1 / 10, "a twentieth": 1 / 20}


def pasted(
    picture: Image.Image, background: Image.Image, area: float, rng: random.Random
) -> Image.Image:
    """A scene with a photo somewhere in it, at the size that it has.

    The scene has the photo's proportions and as many more pixels as it takes: a better camera,
    farther away.

    Args:
        picture: the car's photo, RGB.
        background: what stands around it, RGB; it is cut to the photo's proportions and resized.
        area: the share of the scene that the photo takes, above 0 to 1.
        rng: says where.
    """
    width, height = (round(side / area**0.5) for side in picture.size)
    scene = ImageOps.fit(background, (width, height), Image.Resampling.BICUBIC)
    left, upper = rng.randint(0, width - picture.width), rng.randint(0, height - picture.height)
    scene.paste(picture, (left, upper))
    return scene
