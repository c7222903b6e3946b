"""Copies among photos: resized, recompressed, brightened, blacked out."""

import csv
from pathlib import Path

import pytest
from conftest import draw_car
from PIL import Image, ImageEnhance

from trainer.data.cache import PhotoCache, geometry
from trainer.data.copies import Copies, find_copies
from trainer.data.dataset import read_photos

LABELLED = Path("benchmarks/algerian_siblings.csv")


def copies_of(tmp_path: Path, *pictures: Image.Image) -> Copies:
    paths = []
    for number, picture in enumerate(pictures):
        paths.append(tmp_path / f"{number}.png")
        picture.save(paths[-1])
    cache = PhotoCache(tmp_path / "cache", geometry(64))
    entries = cache.add([path.read_bytes for path in paths], "")
    return find_copies([e.key for e in entries], cache.pixels(), [e.row for e in entries])


def black_out(picture: Image.Image) -> Image.Image:
    """The picture with its background painted black, the middle left as it is."""
    width, height = picture.size
    box = (width // 4, height // 4, 3 * width // 4, 3 * height // 4)
    result = Image.new("RGB", picture.size)
    result.paste(picture.crop(box), box)
    return result


def shrink(picture: Image.Image, tmp_path: Path) -> Image.Image:
    """The picture smaller, compressed and brighter."""
    picture.resize((200, 150)).save(tmp_path / "small.jpg", quality=40)
    with Image.open(tmp_path / "small.jpg") as small:
        return ImageEnhance.Brightness(small).enhance(1.15)


def test_a_resized_recompressed_brightened_copy_is_in_the_same_group(tmp_path):
    original = draw_car(1, size=(320, 240))
    copies = copies_of(tmp_path, original, shrink(original, tmp_path), draw_car(2, size=(320, 240)))
    first, second, third = copies.groups
    assert first == second != third
    assert [pair[:2] for pair in copies.near] == [(0, 1), (1, 0)]
    assert copies.near[0][2] > 0.9


def test_photos_of_their_own_have_groups_of_their_own(tmp_path):
    copies = copies_of(tmp_path, *(draw_car(seed) for seed in range(20)))
    assert len(set(copies.groups)) == 20
    assert copies.near == copies.siblings == []
    assert len(set(copies.hashes)) == 20


def test_identical_files_are_one_group_and_no_near_copies(tmp_path):
    copies = copies_of(tmp_path, draw_car(1), draw_car(2), draw_car(1))
    assert copies.groups[0] == copies.groups[2] != copies.groups[1]
    assert copies.near == []
    assert copies.hashes[0] == copies.hashes[2] != copies.hashes[1]


def test_a_photo_and_its_blacked_out_sibling_are_one_group(tmp_path):
    original, other = draw_car(1, size=(320, 240)), draw_car(2, size=(320, 240))
    copies = copies_of(tmp_path, original, black_out(original), other)
    first, sibling, second = copies.groups
    assert first == sibling != second
    assert [pair[:2] for pair in copies.siblings] == [(1, 0)]


def test_copies_of_copies_are_one_group(tmp_path):
    original = draw_car(1, size=(320, 240))
    copies = copies_of(tmp_path, black_out(original), shrink(original, tmp_path), original)
    assert len(set(copies.groups)) == 1


def test_different_cars_on_black_are_not_copies(tmp_path):
    colors = ("firebrick", "navy", "gold", "black", "white", "seagreen")
    pictures = [draw_car(seed, color, (320, 240)) for seed, color in enumerate(colors)]
    assert len(set(copies_of(tmp_path, *map(black_out, pictures)).groups)) == len(colors)


def test_blacked_out_siblings_of_a_sample_labeled_by_eye(real_data, real_cache):
    """80 blacked-out photos drawn at random; their originals were sought by eye among the five
    photos nearest to each where it is not black. Five have none."""
    data = read_photos([f"algerian_used_cars={real_data / 'algerian_used_cars'}"], real_cache)
    number = {photo.path: index for index, photo in enumerate(data.photos)}
    original = {photo: other for photo, other, _ in data.copies.siblings}
    rows = list(csv.DictReader(LABELLED.read_text().splitlines()))
    right = wrong = missed = 0
    for row in rows:
        found = original.get(number[row["photo"]])
        if found is None:
            missed += bool(row["original"])
        elif row["original"] and data.photos[found].key == data.photos[number[row["original"]]].key:
            right += 1
        else:
            wrong += 1
    assert (len(rows), right + missed) == (80, 75)
    precision, recall = right / (right + wrong), right / (right + missed)
    assert precision >= 0.98
    assert recall >= 0.95


@pytest.mark.parametrize(
    ("folder", "most_groups", "contradictions"),
    [("stanford_cars", 10769 - 21, (21, 25)), ("algerian_used_cars", 1400, (0, 2))],
)
def test_copies_among_the_real_photos(real_data, real_cache, folder, most_groups, contradictions):
    """At least 21 photos of Stanford Cars stand under two labels. Most Algerian ones stand twice,
    and hardly any of one class is taken for one of another."""
    data = read_photos([f"{folder}={real_data / folder}"], real_cache)
    labels: dict[str, set[str]] = {}
    for photo in data.photos:
        labels.setdefault(photo.group, set()).add(photo.label)
    assert len(labels) <= most_groups
    low, high = contradictions
    assert low <= sum(len(names) > 1 for names in labels.values()) <= high
