"""Conditions under which a recognizer is tested: what they do to a picture, and what they leave."""

import numpy as np
import pytest
from conftest import draw_car
from PIL import Image, ImageDraw

from trainer.evaluation.robustness import CORRUPTIONS, JPEG_SIDE, SMALL_SIDE

SIZES = [(320, 240), (120, 160), (1, 1), (2, 3), (1500, 1), (1, 900), (1200, 7)]
MAY_SHRINK = {"jpeg", "small", "cropped"}

every_corruption = pytest.mark.parametrize("name", CORRUPTIONS)


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, float)


@every_corruption
def test_the_result_is_another_picture_always_the_same(name):
    picture = draw_car(1, size=(320, 240))
    before = picture.tobytes()
    first, second = CORRUPTIONS[name](picture), CORRUPTIONS[name](picture)
    assert first.mode == "RGB"
    assert first is not picture
    assert first.tobytes() == second.tobytes() != before
    assert picture.tobytes() == before


@every_corruption
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "{}x{}".format(*size))
def test_pictures_of_any_shape_come_through(name, size):
    result = CORRUPTIONS[name](Image.new("RGB", size, "teal"))
    assert result.mode == "RGB"
    width, height = result.size
    assert 1 <= width <= size[0]
    assert 1 <= height <= size[1]
    if name not in MAY_SHRINK:
        assert result.size == size


@every_corruption
def test_a_condition_is_as_strong_on_a_large_picture_as_on_a_small_one(name):
    large = draw_car(1, size=(1280, 960))
    ordinary = large.resize((640, 480), Image.Resampling.LANCZOS)
    one, other = (
        pixels(CORRUPTIONS[name](picture).resize((64, 48), Image.Resampling.BOX))
        for picture in (large, ordinary)
    )
    assert np.abs(one - other).mean() < 3


def test_dark_takes_light_and_keeps_order():
    ramp = Image.fromarray(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2))
    row = pixels(CORRUPTIONS["dark"](ramp))[0, :, 0]
    assert (np.diff(row) >= 0).all()
    assert row[0] == 0
    # An eighth of the light of white is sRGB 99, of mid grey 46.
    assert (row[255], row[128]) == (99, 46)


def test_blurred_spreads_an_edge_and_keeps_the_light():
    edge = Image.new("RGB", (200, 100), "black")
    edge.paste("white", (100, 0, 200, 100))
    row = pixels(CORRUPTIONS["blurred"](edge))[50, :, 0]
    assert 0 < row[99] < 128 < row[101] < 255
    assert row[:90].max() == 0
    assert row.mean() == pytest.approx(127.5, abs=1)


def test_jpeg_and_small_have_their_sizes():
    picture = draw_car(1, size=(1600, 1200))
    assert CORRUPTIONS["jpeg"](picture).size == (JPEG_SIDE, JPEG_SIDE * 3 // 4)
    assert CORRUPTIONS["small"](picture).size == (SMALL_SIDE, SMALL_SIDE * 3 // 4)
    tiny = draw_car(1, size=(60, 40))
    assert CORRUPTIONS["small"](tiny).tobytes() == tiny.tobytes()


def test_tilted_turns_anticlockwise_about_the_middle_and_has_no_black_corners():
    picture = Image.new("RGB", (201, 101), "wheat")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((95, 45, 105, 55), fill="red")
    draw.ellipse((175, 45, 185, 55), fill="blue")
    result = pixels(CORRUPTIONS["tilted"](picture))
    rows, columns = np.nonzero((result[..., 0] > 200) & (result[..., 1] < 60))
    assert (rows.mean(), columns.mean()) == pytest.approx((50, 100), abs=1)
    rows, columns = np.nonzero((result[..., 2] > 200) & (result[..., 0] < 60))
    # 80 px to the right of the middle: 80 sin 10° higher, 80 cos 10° to the right.
    assert (rows.mean(), columns.mean()) == pytest.approx((50 - 13.9, 100 + 78.8), abs=1)
    for corner in (result[0, 0], result[0, -1], result[-1, 0], result[-1, -1]):
        assert corner.tolist() == [245, 222, 179]


def test_grey_has_no_colour():
    result = pixels(CORRUPTIONS["grey"](draw_car(1)))
    assert (np.ptp(result, axis=2) == 0).all()


def test_cropped_loses_the_right_end_and_keeps_the_shape():
    picture = draw_car(1, size=(320, 240))
    result = CORRUPTIONS["cropped"](picture)
    assert result.size == (240, 180)
    assert result.tobytes() == picture.crop((0, 30, 240, 210)).tobytes()
