"""Photos that show no car from outside, found among real ones; what is done with them."""

import math
import shutil

import numpy as np
import pytest

from trainer.data.cache import PhotoCache, geometry
from trainer.data.dataset import load_data
from trainer.data.exteriors import MAX_CAR, MIN_CAR, MIN_SIMILARITY, ExteriorScores, score_exteriors
from trainer.data.splits import EXCLUDED, Photo

# Labeled by eye: the 21 photos of no exterior among those of the Algerian set that are here.


def scores_of(car: float, neighbor_similarity: float) -> ExteriorScores:
    return ExteriorScores(
        np.array([car], np.float32),
        np.array([neighbor_similarity], np.float32),
        ["seat belt"],
        np.zeros((1, 4), np.float16),
    )


@pytest.mark.parametrize(
    ("car", "neighbor_similarity", "outside"),
    [
        (MIN_CAR / 2, 1.0, True),  # no car at all
        (
            (MIN_CAR + MAX_CAR) / 2,
            MIN_SIMILARITY / 2,
            True,
        ),  # something of a car, and alone with it
        ((MIN_CAR + MAX_CAR) / 2, 1.0, False),  # little of a car, like the others
        ((1 + MAX_CAR) / 2, MIN_SIMILARITY / 2, False),  # a car, whatever it stands before
    ],
)
def test_little_car_and_no_company_is_no_exterior(car, neighbor_similarity, outside):
    assert scores_of(car, neighbor_similarity).no_exterior.tolist() == [outside]


def test_the_reason_says_what_was_seen():
    (photo,) = scores_of(0.0, 1.0).excluding([Photo("s", "a.jpg", "x", "k")])
    assert photo.reason == "no car from outside: it looks like a seat belt"
    assert photo.split == EXCLUDED


def test_copies_share_the_best_score_of_their_group():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 64, 64), dtype=np.uint8)
    photos = [Photo("s", str(n), "x", str(n), group="same") for n in range(2)]
    photos.append(Photo("s", "2", "x", "2", group="other"))
    found = score_exteriors(photos, pixels, [0, 1, 2])
    assert found.car[0] == found.car[1]
    assert found.features.shape[0] == len(found.seen) == 3
    assert all(0 <= value <= 1 for value in found.car)
    assert not any(math.isnan(value) for value in found.neighbor_similarity)


def test_they_leave_training_and_are_listed(real_data, tmp_path):
    folder = real_data / "algerian_used_cars" / "DATA" / "duster"
    mine = tmp_path / "Dacia Duster"
    mine.mkdir()
    for name in ("car385.jpg", "car394.jpg", "car410.jpg", "car415.jpg", "car412.jpg"):
        shutil.copy(folder / name, mine / name)
    data = load_data([f"mine={tmp_path}"], PhotoCache(tmp_path / "cache", geometry(256)))
    (left_out,) = data.left_out
    assert left_out.path == "Dacia Duster/car412.jpg"  # a steering wheel
    assert left_out.reason.startswith("no car from outside: it looks like a ")
    kept = load_data(
        [f"mine={tmp_path}"], PhotoCache(tmp_path / "cache", geometry(256)), exteriors=False
    )
    assert kept.left_out == []
