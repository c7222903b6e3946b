"""Sources, cache, copies and splits: from files on disk to photos ready for training."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_car
from PIL import Image, ImageEnhance
from scipy.io import savemat

from space.photos import load_photo
from space.transforms import to_pixels
from trainer.cache import CachedPhotos, PhotoCache
from trainer.copies import group_copies
from trainer.data import geometry, load_data
from trainer.sources import DataError, label_union, read_source, read_sources
from trainer.splits import (
    EXCLUDED,
    TEST,
    TRAIN,
    VALIDATION,
    Photo,
    apply_split,
    make_split,
    read_split,
    write_split,
)

SIZE = 32


@pytest.fixture
def folders(tmp_path) -> Path:
    """Two classes of ten photos, one photo nested, and files that are no photos."""
    folder = tmp_path / "cars"
    for number, label in enumerate(("BMW M3 Coupe 2012", "Audi A4 Sedan 2012")):
        (folder / label / "more").mkdir(parents=True)
        for seed in range(9):
            draw_car(10 * number + seed).save(folder / label / f"{seed}.png")
        draw_car(10 * number + 9).save(folder / label / "more" / "9.PNG")
        (folder / label / ".DS_Store").write_bytes(b"junk")
    return folder


@pytest.fixture
def stanford(tmp_path) -> Path:
    """The original layout, with one of four files missing; classes count from 1."""
    folder = tmp_path / "stanford"
    (folder / "devkit").mkdir(parents=True)
    (folder / "cars_train").mkdir()
    names = np.array(["AM General Hummer SUV 2000", "Acura RL Sedan 2012"], dtype=object)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names})
    fields = [(f"{n:05}.jpg", 1 + n % 2) for n in range(1, 5)]
    rows = np.array(fields, dtype=[("fname", object), ("class", object)])
    savemat(folder / "devkit" / "cars_train_annos.mat", {"annotations": rows})
    for n in (1, 2, 4):
        draw_car(n).save(folder / "cars_train" / f"{n:05}.jpg")
    return folder


def make_cache(tmp_path, size=SIZE) -> PhotoCache:
    return PhotoCache(tmp_path / "cache", geometry(size))


# Sources


def test_class_folders_are_classes(folders):
    source = read_source(f"cars={folders}")
    assert source.label_names == ["Audi A4 Sedan 2012", "BMW M3 Coupe 2012"]
    assert len(source.photos) == 20
    assert source.photos["path"][9] == "Audi A4 Sedan 2012/more/9.PNG"


def test_the_stanford_layout_counts_classes_from_one(stanford):
    source = read_source(f"cars={stanford}")
    assert source.photos["path"] == [f"cars_train/0000{n}.jpg" for n in (1, 2, 4)]
    assert source.photos["label"] == [1, 0, 0]


def test_missing_files_are_listed(stanford):
    (problem,) = read_source(f"cars={stanford}").problems
    assert (problem.path, problem.reason) == ("cars_train/00003.jpg", "the file is missing")


def test_the_real_stanford_cars_lack_1176_photos(real_data):
    source = read_source(f"stanford_cars={real_data / 'stanford_cars'}")
    assert (len(source.photos), len(source.problems)) == (6968, 1176)
    assert len(source.label_names) == 196
    assert source.label_names[0] == "AM General Hummer SUV 2000"


def test_a_name_alone_is_a_folder_of_marque_data(folders, monkeypatch):
    monkeypatch.setenv("MARQUE_DATA", str(folders.parent))
    assert len(read_source("cars").photos) == 20
    monkeypatch.delenv("MARQUE_DATA")
    with pytest.raises(DataError, match="set MARQUE_DATA"):
        read_source("cars")


@pytest.mark.parametrize("spec", ["=folder", "cars=", "cars=/nowhere", "cars=./nowhere"])
def test_a_source_that_is_not_there_is_refused_by_its_name(spec):
    with pytest.raises(DataError, match=f"--data '?{spec}"):
        read_source(spec)


def test_two_sources_need_two_names(folders):
    with pytest.raises(DataError, match="same name"):
        read_sources([f"cars={folders}", f"cars={folders}"])


def test_label_spaces_are_united_in_order(folders, stanford):
    sources = read_sources([f"stanford={stanford}", f"cars={folders}"])
    assert label_union(sources) == [
        "AM General Hummer SUV 2000",
        "Acura RL Sedan 2012",
        "Audi A4 Sedan 2012",
        "BMW M3 Coupe 2012",
    ]


# The cache


def readers(*paths: Path):
    return [path.read_bytes for path in paths]


def test_the_cache_holds_what_serving_sees(tmp_path):
    path = tmp_path / "car.jpg"
    draw_car(1).save(path)
    cache = make_cache(tmp_path)
    (entry,) = cache.add(readers(path), "")
    seen = to_pixels(geometry(SIZE))(load_photo(path))
    assert torch.equal(torch.from_numpy(cache.pixels()[entry.row].copy()), seen)


def test_a_photo_is_decoded_once_whatever_its_name(tmp_path, monkeypatch):
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    draw_car(1).save(first)
    shutil.copy(first, second)
    (row,) = make_cache(tmp_path).add(readers(first), "")
    monkeypatch.setattr("trainer.cache.load_photo", None)
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


# Copies


def groups_of(tmp_path, *pictures: Image.Image) -> list[str]:
    paths = []
    for number, picture in enumerate(pictures):
        paths.append(tmp_path / f"{number}.png")
        picture.save(paths[-1])
    cache = make_cache(tmp_path, 64)
    entries = cache.add(readers(*paths), "")
    photos = [Photo("s", path.name, "a", e.key, "") for path, e in zip(paths, entries, strict=True)]
    return [p.group for p in group_copies(photos, cache.pixels(), [e.row for e in entries])]


def test_a_resized_recompressed_brightened_copy_is_in_the_same_group(tmp_path):
    original = draw_car(1, size=(320, 240))
    original.resize((200, 150)).save(tmp_path / "small.jpg", quality=40)
    with Image.open(tmp_path / "small.jpg") as small:
        copy = ImageEnhance.Brightness(small).enhance(1.15)
    first, second, third = groups_of(tmp_path, original, copy, draw_car(2, size=(320, 240)))
    assert first == second != third


def test_photos_of_their_own_have_groups_of_their_own(tmp_path):
    assert len(set(groups_of(tmp_path, *(draw_car(seed) for seed in range(20))))) == 20


def black_out(picture: Image.Image) -> Image.Image:
    """The picture with its background painted black, the middle left as it is."""
    width, height = picture.size
    box = (width // 4, height // 4, 3 * width // 4, 3 * height // 4)
    result = Image.new("RGB", picture.size)
    result.paste(picture.crop(box), box)
    return result


def test_a_photo_and_its_blacked_out_sibling_are_one_group(tmp_path):
    original, other = draw_car(1, size=(320, 240)), draw_car(2, size=(320, 240))
    first, sibling, second = groups_of(tmp_path, original, black_out(original), other)
    assert first == sibling != second


def test_different_cars_on_black_are_not_copies(tmp_path):
    colours = ("firebrick", "navy", "gold", "black", "white", "seagreen")
    pictures = [draw_car(seed, colour, (320, 240)) for seed, colour in enumerate(colours)]
    assert len(set(groups_of(tmp_path, *map(black_out, pictures)))) == len(colours)


@pytest.mark.parametrize(
    ("folder", "most_groups", "contradictions"),
    [("stanford_cars", 6968 - 21, (21, 25)), ("algerian_used_cars/DATA", 1400, (0, 2))],
)
def test_copies_among_the_real_photos(real_data, tmp_path, folder, most_groups, contradictions):
    """At least 21 photos of Stanford Cars stand under two labels. Most Algerian ones stand twice,
    and hardly any of one class is taken for one of another."""
    data = load_data((f"cars={real_data / folder}",), make_cache(tmp_path, 256))
    labels: dict[str, set[str]] = {}
    for photo in data.photos:
        labels.setdefault(photo.group, set()).add(photo.label)
    assert len(labels) <= most_groups
    low, high = contradictions
    assert low <= sum(len(names) > 1 for names in labels.values()) <= high


# Splits


def some_photos(classes=4, groups=20, copies=2) -> list[Photo]:
    return [
        Photo(
            "s",
            f"{label}/{group}-{copy}.jpg",
            f"class {label}",
            f"{group}{copy}",
            group=f"{label}-{group}",
        )
        for label in range(classes)
        for group in range(groups)
        for copy in range(copies)
    ]


def test_no_group_straddles_the_split():
    splits = {}
    for photo in make_split(some_photos(), validation=0.2, test=0.3, seed=1):
        assert splits.setdefault(photo.group, photo.split) == photo.split


def test_every_class_gets_its_share():
    photos = make_split(some_photos(copies=1), validation=0.2, test=0.3, seed=1)
    for label in range(4):
        splits = [photo.split for photo in photos if photo.label == f"class {label}"]
        assert [splits.count(name) for name in (TRAIN, VALIDATION, TEST)] == [10, 4, 6]


def test_a_small_class_keeps_a_photo_for_training():
    photos = make_split(some_photos(groups=1), validation=0.5, test=0.4, seed=1)
    assert {photo.split for photo in photos} == {TRAIN}


def test_contradicting_labels_are_excluded():
    photos = [*some_photos(1), Photo("s", "x.jpg", "class 9", "k", group="0-0")]
    excluded = [p.path for p in make_split(photos, 0.2, 0.2, seed=1) if p.split == EXCLUDED]
    assert excluded == ["0/0-0.jpg", "0/0-1.jpg", "x.jpg"]


def test_the_split_depends_on_the_seed_and_not_on_the_order():
    photos = some_photos()
    first = {p.path: p.split for p in make_split(photos, 0.2, 0.2, seed=1)}
    again = {p.path: p.split for p in make_split(photos[::-1], 0.2, 0.2, seed=1)}
    other = {p.path: p.split for p in make_split(photos, 0.2, 0.2, seed=2)}
    assert first == again != other


def test_a_split_file_gives_the_same_split(tmp_path):
    photos = make_split(some_photos(), 0.2, 0.2, seed=1)
    write_split(tmp_path / "split.csv", photos)
    assert apply_split(tmp_path / "split.csv", some_photos()) == photos


def test_a_split_file_that_does_not_fit_is_refused(tmp_path):
    photos = make_split(some_photos(), 0.2, 0.2, seed=1)
    write_split(tmp_path / "split.csv", photos[1:])
    with pytest.raises(DataError, match=r"0/0-0\.jpg of s is not in it"):
        apply_split(tmp_path / "split.csv", photos)
    (tmp_path / "other.csv").write_text("path,label\n")
    with pytest.raises(DataError, match="the columns should be source,path,label,split,group"):
        read_split(tmp_path / "other.csv")


def test_the_bundled_split_keeps_copies_together():
    rows = csv.DictReader(Path("trainer/splits/stanford_cars.csv").read_text().splitlines())
    splits: dict[str, str] = {}
    for row in rows:
        assert splits.setdefault(row["group"], row["split"]) == row["split"]
    assert set(splits.values()) == {TRAIN, VALIDATION, TEST, EXCLUDED}


# All together


def test_load_data_leaves_out_what_is_broken_and_keeps_the_rest(folders, tmp_path):
    (folders / "BMW M3 Coupe 2012" / "broken.jpg").write_bytes(b"junk")
    data = load_data((f"cars={folders}",), make_cache(tmp_path), validation=0.2, test=0.2)
    assert [problem.path for problem in data.problems] == ["BMW M3 Coupe 2012/broken.jpg"]
    assert data.sizes == {TRAIN: 12, VALIDATION: 4, TEST: 4, EXCLUDED: 0}


def test_the_fingerprint_is_of_the_photos_not_of_their_place(folders, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(folders, moved)
    cache = make_cache(tmp_path)
    first = load_data((f"cars={folders}",), cache).fingerprint
    assert load_data((f"cars={moved}",), cache).fingerprint == first
    draw_car(77).save(moved / "BMW M3 Coupe 2012" / "0.png")
    assert load_data((f"cars={moved}",), cache).fingerprint != first
