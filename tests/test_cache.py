"""The cache of decoded photos: what is in it, and what happens when it is damaged."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_car
from PIL import Image

from space.boxes import WHOLE, Box
from space.detector import Detection
from space.photos import load_photo
from space.transforms import to_pixels
from trainer.data.boxes import CarBoxes
from trainer.data.cache import CachedPhotos, PhotoCache, geometry

SIZE = 32


def make_cache(tmp_path, size=SIZE) -> PhotoCache:
    return PhotoCache(tmp_path / "cache", geometry(size))


def readers(*paths: Path):
    return [path.read_bytes for path in paths]


def test_the_cache_holds_what_serving_sees(tmp_path):
    path = tmp_path / "car.jpg"
    draw_car(1).save(path)
    cache = make_cache(tmp_path)
    (entry,) = cache.add(readers(path), "")
    seen = to_pixels(geometry(SIZE))(load_photo(path))
    assert np.array_equal(cache.pixels()[entry.row], seen)


def test_a_photo_is_decoded_once_whatever_its_name(tmp_path, monkeypatch):
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    draw_car(1).save(first)
    shutil.copy(first, second)
    (row,) = make_cache(tmp_path).add(readers(first), "")
    monkeypatch.setattr("trainer.data.cache.load_photo", None)
    assert make_cache(tmp_path).add(readers(second), "") == [row]


def test_a_changed_photo_is_decoded_anew(tmp_path):
    path = tmp_path / "car.png"
    draw_car(1).save(path)
    cache = make_cache(tmp_path)
    (before,) = cache.add(readers(path), "")
    draw_car(2).save(path)
    (after,) = cache.add(readers(path), "")
    assert after.row != before.row


def test_other_settings_are_another_cache(tmp_path):
    path = tmp_path / "car.png"
    draw_car(1).save(path)
    make_cache(tmp_path).add(readers(path), "")
    assert make_cache(tmp_path, SIZE * 2).pixels().shape == (0, 3, SIZE * 2, SIZE * 2)


def test_broken_and_vanished_photos_are_entries_with_a_reason(tmp_path):
    good, broken, gone = (tmp_path / name for name in ("good.png", "broken.png", "gone.png"))
    draw_car(1).save(good)
    broken.write_bytes(good.read_bytes()[:300])
    entries = make_cache(tmp_path).add(readers(broken, good, gone), "")
    assert [entry.row for entry in entries] == [-1, 0, -1]
    assert "damaged" in entries[0].error
    assert "cannot be read" in entries[2].error


def test_a_damaged_row_is_decoded_again(tmp_path):
    path = tmp_path / "car.png"
    draw_car(1).save(path)
    cache = make_cache(tmp_path)
    (entry,) = cache.add(readers(path), "")
    expected = cache.pixels()[entry.row].copy()
    rows = next((tmp_path / "cache").rglob("rows.uint8"))
    content = bytearray(rows.read_bytes())
    content[100] ^= 255
    rows.write_bytes(content)
    (entry,) = cache.add(readers(path), "")
    assert np.array_equal(cache.pixels()[entry.row], expected)


def test_a_cache_cut_short_by_a_kill_is_completed(tmp_path):
    paths = [tmp_path / f"{seed}.png" for seed in range(3)]
    for seed, path in enumerate(paths):
        draw_car(seed).save(path)
    cache = make_cache(tmp_path)
    cache.add(readers(*paths), "")
    expected = cache.pixels().copy()
    rows = next((tmp_path / "cache").rglob("rows.uint8"))
    rows.write_bytes(rows.read_bytes()[: -SIZE * SIZE])
    index = next((tmp_path / "cache").rglob("index.csv"))
    index.write_text(index.read_text()[:-5])
    entries = cache.add(readers(*paths), "")
    assert np.array_equal(cache.pixels()[[entry.row for entry in entries]], expected)


def test_cached_photos_come_in_batches(tmp_path):
    paths = [tmp_path / f"{seed}.png" for seed in range(3)]
    for seed, path in enumerate(paths):
        draw_car(seed).save(path)
    cache = make_cache(tmp_path)
    entries = cache.add(readers(*paths), "")
    photos = CachedPhotos(cache, entries, [5, 6, 7])
    pixels, boxes, targets = photos.__getitems__([2, 0])
    rows = [entries[2].row, entries[0].row]
    assert torch.equal(pixels, torch.from_numpy(cache.pixels()[rows]))
    assert boxes.tolist() == [[0.0, 0.0, 1.0, 1.0]] * 2
    assert targets.tolist() == [7, 5]


def test_bad_line_of_the_index_costs_one_photo(tmp_path):
    paths = [tmp_path / f"{seed}.png" for seed in range(3)]
    for seed, path in enumerate(paths):
        draw_car(seed).save(path)
    cache = make_cache(tmp_path)
    before = cache.add(readers(*paths), "")
    index = next((tmp_path / "cache").rglob("index.csv"))
    lines = index.read_bytes().splitlines(keepends=True)
    lines[1] = b'"\xff\x00' + b"1" * 200_000 + b"\n"
    index.write_bytes(b"".join(lines))
    after = cache.add(readers(*paths), "")
    assert [entry.row for entry in after] == [before[0].row, 3, before[2].row]


def test_photo_that_fails_behind_the_door_is_an_entry(tmp_path, monkeypatch):
    path = tmp_path / "car.png"
    draw_car(1).save(path)
    cache = make_cache(tmp_path)

    def fail(_):
        raise MemoryError

    monkeypatch.setattr(cache, "_transform", fail)
    assert cache.add(readers(path), "")[0].error == "cannot be used: MemoryError"
    monkeypatch.undo()
    assert make_cache(tmp_path).add(readers(path), "")[0].row == 0  # it is not held against it


class OneBox:
    """In the place of a detector: the same box in every photo."""

    def __init__(self, *found: Detection):
        self._found = list(found)

    def detect(self, picture: Image.Image) -> list[Detection]:
        return self._found


def test_the_car_and_what_stands_around_it_are_kept(tmp_path):
    picture = Image.new("RGB", (400, 200), "blue")
    picture.paste("red", (100, 50, 200, 150))
    picture.save(tmp_path / "0.png")
    box = Box(0.25, 0.25, 0.5, 0.75)
    boxes = CarBoxes(tmp_path, OneBox(Detection(box, 0.9)))
    cache = PhotoCache(tmp_path / "cache", geometry(60), boxes, margin=0.25)
    (entry,) = cache.add(readers(tmp_path / "0.png"), "")
    assert entry.box == pytest.approx((1 / 6, 1 / 6, 5 / 6, 5 / 6))
    red = cache.pixels()[entry.row][0] > 127
    assert red[10:50, 10:50].mean() > 0.95
    assert red.mean() == pytest.approx(4 / 9, abs=0.03)
    again = PhotoCache(tmp_path / "cache", geometry(60), boxes, margin=0.25)
    assert again.add(readers(tmp_path / "0.png"), "") == [entry]


def test_a_photo_without_a_car_is_kept_whole(tmp_path):
    draw_car(0).save(tmp_path / "0.png")
    boxes = CarBoxes(tmp_path, OneBox())
    cropped = PhotoCache(tmp_path / "cache", geometry(60), boxes, margin=0.25)
    whole = PhotoCache(tmp_path / "cache", geometry(60))
    (entry,) = cropped.add(readers(tmp_path / "0.png"), "")
    whole.add(readers(tmp_path / "0.png"), "")
    assert entry.box == WHOLE
    assert np.array_equal(cropped.pixels(), whole.pixels())


def test_boxes_are_found_once(tmp_path):
    box = Box(0.25, 0.25, 0.5, 0.75)
    assert CarBoxes(tmp_path, OneBox(Detection(box, 0.9))).find("a", draw_car(0)) == box
    assert CarBoxes(tmp_path, OneBox()).find("a", draw_car(0)) == box
    assert CarBoxes(tmp_path, OneBox()).find("b", draw_car(1)) is None
