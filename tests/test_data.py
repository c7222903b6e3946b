"""From `--data` to photos ready for training."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_car
from PIL import Image
from test_copies import black_out, shrink

from space.errors import DataError
from trainer.data.cache import PhotoCache, geometry
from trainer.data.dataset import load_data, read_photos
from trainer.data.splits import EXCLUDED, TEST, TRAIN, VALIDATION, Scheme, write_split
from trainer.make_split import main as make_split


def make_cache(tmp_path: Path) -> PhotoCache:
    return PhotoCache(tmp_path / "cache", geometry(64))


def test_load_data_leaves_out_what_is_broken_and_keeps_the_rest(folders, tmp_path):
    (folders / "BMW M3 Coupe 2012" / "broken.jpg").write_bytes(b"junk")
    data = load_data(
        [f"cars={folders}"], make_cache(tmp_path), scheme=Scheme(0.2, 0.2), exteriors=False
    )
    assert [problem.path for problem in data.problems] == ["BMW M3 Coupe 2012/broken.jpg"]
    assert data.sizes == {TRAIN: 12, VALIDATION: 4, TEST: 4, EXCLUDED: 0}


def test_a_split_that_leaves_nothing_to_train_on_says_why(folders, tmp_path):
    split = tmp_path / "split.csv"
    data = read_photos([f"cars={folders}"], make_cache(tmp_path))
    out = [replace(photo, split=EXCLUDED, reason="a drawing") for photo in data.photos]
    write_split(split, out)
    with pytest.raises(DataError, match=r"no photo for training; .*0\.png takes no part"):
        load_data([f"cars={folders}"], make_cache(tmp_path), split_file=split)


def test_the_fingerprint_is_of_the_photos_not_of_their_place(folders, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(folders, moved)
    cache = make_cache(tmp_path)
    first = read_photos([f"cars={folders}"], cache).fingerprint
    assert read_photos([f"cars={moved}"], cache).fingerprint == first
    draw_car(77).save(moved / "BMW M3 Coupe 2012" / "0.png")
    assert read_photos([f"cars={moved}"], cache).fingerprint != first


def draw_scene(seed: int) -> Image.Image:
    """A car before large colored shapes: toy cars on plain ground are too alike to be photos."""
    shapes = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(shapes).resize((320, 240), Image.Resampling.BICUBIC)
    return Image.blend(picture, draw_car(seed, size=(320, 240)), 0.3)


@pytest.fixture
def planted(tmp_path) -> Path:
    """Three classes of 24 photos with planted copies, siblings and conflicts.

    Of each class photos 0 to 5 have an exact copy, 6 to 11 a near copy, 12 to 17 a blacked-out
    sibling, whose numbers do not match up; photos 22 and 23 stand in the next class as well.
    """
    folder = tmp_path / "planted"
    labels = ("Audi A4", "BMW M3", "Geo Metro")
    for label in labels:
        (folder / label).mkdir(parents=True)
    for number, label in enumerate(labels):
        for seed in range(24):
            picture = draw_scene(100 * number + seed)
            path = folder / label / f"car{seed:02}.png"
            picture.save(path)
            if seed < 6:
                shutil.copy(path, folder / label / f"again{40 - seed}.png")
            elif seed < 12:
                shrink(picture, tmp_path).save(folder / label / f"small{40 - seed}.jpg")
            elif seed < 18:
                black_out(picture).save(folder / label / f"back{40 - seed}.png")
            elif seed >= 22:
                shutil.copy(path, folder / labels[(number + 1) % 3] / f"from{number}-{seed}.png")
    return folder


def planted_groups(rows: list[dict[str, str]]) -> dict[str, set[tuple[str, str]]]:
    """What the planted photo behind each file is, and the (split, group) of its files."""
    found: dict[str, set[tuple[str, str]]] = {}
    for row in rows:
        label, name = row["path"].split("/")
        kind, number = name.split(".")[0].rstrip("0123456789-"), name.split(".")[0]
        digits = "".join(letter for letter in number.removeprefix(kind) if letter != "-")
        if kind == "from":
            labels = ("Audi A4", "BMW M3", "Geo Metro")
            label, seed = labels[int(digits[0])], int(digits[1:])
        else:
            seed = int(digits) if kind == "car" else 40 - int(digits)
        found.setdefault(f"{label} {seed}", set()).add((row["split"], row["group"]))
    return found


@pytest.mark.parametrize("split", ["70/15/15", "90/10", "fold:3/4", "34/33/33"])
def test_planted_copies_siblings_and_conflicts_never_straddle(planted, tmp_path, split, capsys):
    out = tmp_path / "split.csv"
    arguments = f"--data cars={planted} --out {out} --split {split} --keep-non-exteriors"
    assert make_split([*arguments.split(), "--cache", str(tmp_path / "cache")]) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == 3 * (24 + 18 + 2)
    found = planted_groups(rows)
    assert len(found) == 3 * 24
    assert all(len(places) == 1 for places in found.values())
    assert len({group for places in found.values() for _, group in places}) == 3 * 24
    conflicts = {name for name, places in found.items() if next(iter(places))[0] == EXCLUDED}
    assert conflicts == {
        f"{label} {n}" for label in ("Audi A4", "BMW M3", "Geo Metro") for n in (22, 23)
    }
    used = {next(iter(places))[0] for places in found.values()}
    assert used == {TRAIN, VALIDATION, TEST, EXCLUDED}
    assert "the same photo stands under 2 labels: Audi A4; BMW M3" in capsys.readouterr().out


def test_copies_across_data_sets_stay_together(planted, tmp_path):
    shutil.copytree(planted, tmp_path / "other")
    data = load_data(
        [f"one={planted}", f"two={tmp_path / 'other'}"],
        make_cache(tmp_path),
        scheme=Scheme(0.3, 0.3),
        exteriors=False,
    )
    splits: dict[str, set[str]] = {}
    for photo in data.photos:
        splits.setdefault(photo.path, set()).add(photo.split)
    assert all(len(places) == 1 for places in splits.values())
    assert len(data.classes.labels) == 3
