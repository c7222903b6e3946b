"""The detector: where the cars are in a photo."""

import hashlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import draw_car
from PIL import Image

from benchmarks.drawn_car import draw_car as draw_benchmark_car
from space.boxes import WHOLE, Box, corners, crop, grown
from space.detector import (
    DOUBTFUL_SCORE,
    MAX_CARS,
    MAX_DOUBTFUL,
    MAX_OVERLAP,
    MIN_SCORE,
    NANODET,
    Detection,
    Detector,
)
from space.photos import load_photo
from space.preprocessing import SMALL


@pytest.fixture(scope="module")
def detector():
    return Detector()


@pytest.fixture(scope="module")
def cars(real_data):
    """Three whole photos of the training half: one car each, the box is nearly the photo."""
    folder = real_data / "stanford_cars" / "cars_train"
    return [load_photo(folder / f"{number:05}.jpg") for number in (2, 3, 5)]


@pytest.fixture(scope="module")
def scenery(real_data):
    """Real photos without a vehicle, large enough to stand a car in."""
    paths = random.Random(0).sample(sorted((real_data / "not_cars").glob("*.jpg")), 40)
    return [load_photo(path) for path in paths]


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.lower, other.lower) - max(one.upper, other.upper)
    shared = max(0.0, width) * max(0.0, height)
    return shared / (one.area + other.area - shared)


def scene(background: Image.Image, cars, places, size=(1200, 800)):
    """Cars pasted into a scene at (left, upper, width in pixels); returns it and their boxes."""
    picture = background.resize(size)
    boxes = []
    for car, (left, upper, width) in zip(cars, places, strict=True):
        pasted = car.resize((width, round(width * car.height / car.width)))
        picture.paste(pasted, (left, upper))
        right, lower = left + pasted.width, upper + pasted.height
        boxes.append(Box(left / size[0], upper / size[1], right / size[0], lower / size[1]))
    return picture, boxes


# Boxes


def test_a_grown_box_ends_at_the_frame():
    assert grown(Box(0.4, 0.4, 0.6, 0.8), 0.5) == pytest.approx((0.3, 0.2, 0.7, 1.0))
    assert grown(WHOLE, 0.3) == WHOLE


@pytest.mark.parametrize("box", [Box(0.999, 0.999, 1, 1), Box(0.5, 0.5, 0.5001, 0.5001)])
def test_a_crop_has_a_pixel_at_least(box):
    assert min(crop(Image.new("RGB", (40, 30)), box).size) >= 1


def test_a_crop_is_the_part_itself():
    picture = draw_car(1, size=(160, 120))
    box = Box(0.25, 0.5, 0.75, 1.0)
    assert corners(box, picture.size) == (40, 60, 120, 120)
    cut = crop(picture, box)
    assert np.array_equal(np.asarray(cut), np.asarray(picture)[60:120, 40:120])
    assert crop(picture, WHOLE) is picture


# The file


def test_the_committed_network_is_the_one_that_the_docs_name():
    """Its hash changes only together with the script that makes it."""
    digest = hashlib.sha256(NANODET.read_bytes()).hexdigest()
    assert digest == "97db88aa17f4759bd3d97f7b62f044a9df0d2920415446dd7457a5eb3767b5e5"
    assert NANODET.stat().st_size < 8e6
    notices = NANODET.parent
    assert "Apache License" in (notices / "LICENSE-APACHE").read_text("utf-8")
    assert "MIT License" in (notices / "LICENSE-MIT").read_text("utf-8")


# Photos


def test_the_box_of_a_photo_that_is_all_car_is_nearly_the_photo(detector, cars):
    for car in cars:
        found = detector.detect(car)
        assert found
        assert overlap(found[0].box, WHOLE) > 0.8


def test_photos_without_a_vehicle_give_no_box(detector, scenery):
    assert sum(bool(detector.detect(photo)) for photo in scenery) <= 1
    assert detector.detect(Image.new("RGB", (300, 200), "gray")) == []


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size", [(1024, 683), (4032, 3024)])
def test_the_drawn_car_of_the_benchmarks_is_found(detector, size, seed):
    (found,) = detector.detect(draw_benchmark_car(seed, size))
    assert found.box.area > SMALL


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (417, 2)])
def test_odd_sizes_are_no_error(detector, size):
    assert detector.detect(Image.new("RGB", size, "gray")) == []
    assert detector.search(Image.new("RGB", size, "gray")) == []


def test_a_small_car_in_a_scene_is_found_where_it_stands(detector, cars, scenery):
    picture, (place,) = scene(scenery[0], cars[:1], [(700, 450, 300)])
    assert overlap(detector.detect(picture)[0].box, place) > 0.7


def test_a_search_finds_what_one_look_passes_over(detector, cars, scenery):
    found = 0
    for number in range(12):
        picture, (place,) = scene(scenery[number], cars[number % 3 :][:1], [(700, 450, 150)])
        search = detector.search(picture)
        assert len(search) <= MAX_DOUBTFUL
        assert [item.score for item in search] == sorted((s.score for s in search), reverse=True)
        for item in search:
            assert 0 <= item.box.left < item.box.right <= 1
            assert 0 <= item.box.upper < item.box.lower <= 1
            assert item.score >= DOUBTFUL_SCORE
        found += any(overlap(item.box, place) > 0.6 for item in search)
    assert found >= 11
    assert detector.search(Image.new("RGB", (300, 200), "gray")) == []


def test_every_car_of_a_scene_is_found_the_largest_first(detector, cars, scenery):
    picture, places = scene(scenery[1], cars, [(40, 60, 260), (360, 250, 520), (920, 560, 200)])
    found = detector.detect(picture)
    assert len(found) == 3
    best = [max(places, key=lambda place: overlap(place, item.box)) for item in found]
    assert best[0] == places[1]
    assert set(best) == set(places)
    assert all(overlap(place, item.box) > 0.6 for place, item in zip(best, found, strict=True))


def test_a_car_park_gives_the_most_prominent_twelve(detector, cars, scenery):
    grid = [(20 + 240 * (n % 5), 20 + 190 * (n // 5), 200) for n in range(20)]
    picture, _ = scene(scenery[2], [cars[n % 3] for n in range(20)], grid)
    found = detector.detect(picture)
    assert len(found) == MAX_CARS
    assert [item.prominence for item in found] == sorted(
        (item.prominence for item in found), reverse=True
    )


def test_boxes_are_shares_of_the_photo_and_far_enough_apart(detector, real_data):
    folder = real_data / "listings_brazil"
    paths = random.Random(1).sample(sorted(folder.rglob("*.jpg")), 60)
    found = [detector.detect(load_photo(path)) for path in paths]
    assert sum(map(bool, found)) >= 57
    for detections in found:
        for number, (box, score) in enumerate(detections):
            assert 0 <= box.left < box.right <= 1
            assert 0 <= box.upper < box.lower <= 1
            assert MIN_SCORE <= score <= 1
            for other in detections[:number]:
                assert overlap(box, other.box) <= MAX_OVERLAP + 1e-6


def test_prominence_prefers_what_is_large_sure_and_in_the_middle():
    middle = Detection(Box(0.3, 0.3, 0.7, 0.7), 0.6)
    assert middle.prominence > Detection(Box(0.0, 0.0, 0.4, 0.4), 0.6).prominence
    assert middle.prominence > Detection(Box(0.4, 0.4, 0.6, 0.6), 0.7).prominence
    assert middle.prominence > Detection(Box(0.3, 0.3, 0.7, 0.7), 0.5).prominence


def test_threads_share_one_detector(cars):
    detector = Detector()
    expected = [Detector().detect(car) for car in cars]
    ready = threading.Barrier(6)

    def detect(number):
        ready.wait()
        return detector.detect(cars[number % 3])

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(detect, range(6)))
    assert found == expected * 2
