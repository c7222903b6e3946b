"""Scenes: a photo in another, and what is measured on them."""

import random

import pytest
from conftest import draw_car
from PIL import Image

from trainer.evaluation.pasting import AREAS, pasted


@pytest.mark.parametrize("area", AREAS.values())
def test_a_scene_holds_the_whole_photo_at_its_size_and_takes_its_share(area):
    car = draw_car(1, size=(320, 240))
    background = Image.new("RGB", (100, 300), "magenta")
    scene = pasted(car, background, area, random.Random(1))
    assert 320 * 240 / (scene.width * scene.height) == pytest.approx(area, rel=0.01)
    assert scene.width / scene.height == pytest.approx(4 / 3, rel=0.01)
    corners = [
        (x, y)
        for x in range(scene.width - 319)
        for y in range(scene.height - 239)
        if scene.getpixel((x, y)) == car.getpixel((0, 0))
    ]
    assert any(scene.crop((x, y, x + 320, y + 240)).tobytes() == car.tobytes() for x, y in corners)


def test_scenes_differ_by_what_places_the_photo_and_by_nothing_else():
    car, background = draw_car(1), draw_car(2)
    first = pasted(car, background, 0.25, random.Random(1))
    assert first.tobytes() == pasted(car, background, 0.25, random.Random(1)).tobytes()
    assert first.tobytes() != pasted(car, background, 0.25, random.Random(2)).tobytes()
