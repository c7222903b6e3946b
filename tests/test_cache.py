"""The cache of decoded photos: what is in it, and what happens when it is damaged."""

import shutil
from pathlib import Path

import numpy as np
import torch
from conftest import draw_car

from space.photos import load_photo
from space.transforms import to_pixels
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
    rows = [entry.row for entry in cache.add(readers(*paths), "")]
    photos = CachedPhotos(cache, rows, [5, 6, 7])
    pixels, targets = photos.__getitems__([2, 0])
    assert torch.equal(pixels, torch.from_numpy(cache.pixels()[[rows[2], rows[0]]]))
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
