"""From a photo to what the network sees of it: whole, or the car cut out of it."""

import numpy as np
import pytest
from conftest import TINY_DATA_CONFIG, FoundAt, draw_car
from PIL import Image

from space.boxes import WHOLE, Box, corners, crop, grown, inside
from space.detector import Detection
from space.photos import load_photo
from space.preprocessing import SMALL, CarCrop, Prepared, Preprocessor
from space.transforms import to_pixels

LEFT, RIGHT = Box(0.1, 0.3, 0.4, 0.6), Box(0.55, 0.25, 0.95, 0.75)


@pytest.fixture
def picture() -> Image.Image:
    return draw_car(1, size=(400, 200))


def first_view(preprocess: Preprocessor, picture: Image.Image) -> Prepared:
    return next(preprocess.views(picture))


def test_without_a_car_crop_the_photo_is_looked_at_whole_and_no_detector_asked(picture):
    (prepared,) = Preprocessor(TINY_DATA_CONFIG, None, FoundAt(LEFT)).views(picture)
    assert np.array_equal(prepared.pixels, to_pixels(TINY_DATA_CONFIG)(picture))
    assert (prepared.box, prepared.cars_found) == (None, None)


def test_the_car_is_cut_out_of_the_photo_as_it_was_taken(picture):
    preprocess = Preprocessor(TINY_DATA_CONFIG, CarCrop(0.1), FoundAt(RIGHT, LEFT))
    prepared = first_view(preprocess, picture)
    # A tenth of 160 and of 100 pixels around (220, 50, 380, 150).
    expected = to_pixels(TINY_DATA_CONFIG)(picture.crop((204, 40, 396, 160)))
    assert np.array_equal(prepared.pixels, expected)
    assert (prepared.box, prepared.cars_found) == (RIGHT, 2)


def test_photo_in_which_no_car_is_found_is_looked_at_whole(picture):
    (prepared,) = Preprocessor(TINY_DATA_CONFIG, CarCrop(0.1), FoundAt()).views(picture)
    assert np.array_equal(prepared.pixels, to_pixels(TINY_DATA_CONFIG)(picture))
    assert (prepared.box, prepared.cars_found) == (None, 0)


def test_a_photo_is_searched_once_a_second_view_is_asked_for(picture):
    detector, searched = FoundAt(RIGHT), []
    detector.search = lambda picture: searched.append(picture) or [Detection(LEFT, 0.3)]
    views = Preprocessor(TINY_DATA_CONFIG, CarCrop(0.0), detector).views(picture)
    assert (next(views).box, searched) == (RIGHT, [])
    assert ([view.box for view in views], searched) == ([LEFT], [picture])


def test_where_a_car_is_small_the_whole_photo_and_all_that_may_be_one_are_views(picture):
    small = Box(0.7, 0.7, 0.9, 0.9)
    assert small.area < SMALL <= LEFT.area
    detector = FoundAt(small)
    detector.search = lambda picture: [Detection(LEFT, 0.3), Detection(small, 0.2)]
    preprocess = Preprocessor(TINY_DATA_CONFIG, CarCrop(0.0), detector)
    views = list(preprocess.views(picture))
    assert [(view.box, view.cars_found) for view in views] == [(None, 1), (LEFT, 1), (small, 1)]
    for view in views:
        assert np.array_equal(view.pixels, preprocess.cut(picture, view.box))


def test_each_car_is_cut_out_for_itself(picture):
    preprocess = Preprocessor(TINY_DATA_CONFIG, CarCrop(0.0), FoundAt(RIGHT, LEFT))
    each = preprocess.each_car(picture)
    assert [(car.box, car.cars_found) for car in each] == [(RIGHT, 2), (LEFT, 2)]
    for car in each:
        assert np.array_equal(car.pixels, to_pixels(TINY_DATA_CONFIG)(crop(picture, car.box)))
        assert np.array_equal(car.pixels, preprocess.cut(picture, car.box))


def test_known_box_is_framed_as_a_found_one():
    assert CarCrop(0.2).region(LEFT) == grown(LEFT, 0.2)
    assert CarCrop(0.2).region(None) == WHOLE


@pytest.mark.parametrize("margin", [-0.01, 1.01, float("nan"), float("inf"), 10**400, "0.1", True])
def test_margin_that_is_none_is_refused(margin):
    with pytest.raises(ValueError, match="the margin of a car crop"):
        CarCrop(margin)


def test_car_in_a_real_photo_is_found_and_cut_out(real_data):
    """A car pasted into a scene: what is cut out lies where it was pasted, and is most of it."""
    car = load_photo(real_data / "stanford_cars" / "cars_train" / "00002.jpg").resize((360, 240))
    scene = Image.new("RGB", (1200, 800), (120, 130, 140))
    scene.paste(car, (800, 500))
    preprocess = Preprocessor(TINY_DATA_CONFIG, CarCrop(0.05))
    found = first_view(preprocess, scene)
    assert found.box is not None
    left, upper, right, lower = corners(found.box, scene.size)
    assert 790 < left < right < 1170
    assert 490 < upper < lower < 750
    assert (right - left) * (lower - upper) > 0.5 * 360 * 240
    assert np.array_equal(found.pixels, preprocess.cut(scene, found.box))


# What the network was shown


@pytest.mark.parametrize("mode", ["squash", "center", "border"])
@pytest.mark.parametrize("share", [1.0, 0.8])
@pytest.mark.parametrize("size", [(640, 160), (150, 600), (301, 299)])
@pytest.mark.parametrize("box", [None, Box(0.2, 0.1, 0.8, 0.9)])
def test_what_the_network_saw_is_where_it_is_said_to_be(mode, share, size, box):
    data_config = TINY_DATA_CONFIG | {"crop_mode": mode, "crop_pct": share}
    preprocess = Preprocessor(data_config, CarCrop(0.05), FoundAt(*([box] if box else [])))
    width, height = size
    picture = Image.new("RGB", size, "black")
    # A sixth of the short side, a little off the middle, where every mode shows it.
    side = min(size) // 6
    patch = (width // 2 + side // 2, height // 2 - side, width // 2 + 3 * side // 2, height // 2)
    picture.paste("white", patch)
    shown = first_view(preprocess, picture).pixels[0] > 128
    rows, columns = np.nonzero(shown.any(axis=1))[0], np.nonzero(shown.any(axis=0))[0]
    ends = columns[0] / 64, rows[0] / 64, (columns[-1] + 1) / 64, (rows[-1] + 1) / 64
    found = inside(preprocess.seen(size, box), Box(*ends))
    # Up to the rounding of the network's 64 pixels.
    slack = 2 * max(size) / 64 / share
    assert corners(found, size) == pytest.approx(patch, abs=slack)
