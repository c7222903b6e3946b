"""The transform: the same pixels as timm's own, for every way to crop and to interpolate."""

import numpy as np
import pytest
from conftest import TINY_DATA_CONFIG, draw_car
from PIL import Image
from timm.data import create_transform

from space.transforms import GEOMETRY_KEYS, to_pixels

MEAN = (0.485, 0.456, 0.406)


def timms(data_config, picture: Image.Image) -> np.ndarray:
    geometry = {key: data_config[key] for key in GEOMETRY_KEYS}
    transform = create_transform(**geometry, mean=MEAN, is_training=False, normalize=False)
    return transform(picture).numpy()


@pytest.mark.parametrize("mode", ["squash", "center", "border", None])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos", "nearest"])
@pytest.mark.parametrize("share", [1.0, 0.875, 0.95, 1.2])
@pytest.mark.parametrize("input_size", [(3, 64, 64), (3, 61, 61), (3, 48, 80)])
def test_pixels_are_those_of_timm(mode, interpolation, share, input_size):
    data_config = {
        "input_size": input_size,
        "interpolation": interpolation,
        "crop_pct": share,
        "crop_mode": mode,
        "mean": MEAN,
    }
    ours = to_pixels(data_config)
    for size in [(160, 120), (90, 201), (64, 64), (33, 20), (301, 299)]:
        picture = draw_car(1, size=size)
        found = ours(picture)
        assert found.dtype == np.uint8
        assert found.flags.c_contiguous
        assert np.array_equal(found, timms(data_config, picture)), size


@pytest.mark.parametrize("mode", ["squash", "center", "border"])
@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1)])
def test_any_picture_has_pixels(mode, size):
    data_config = TINY_DATA_CONFIG | {"crop_mode": mode}
    assert to_pixels(data_config)(Image.new("RGB", size)).shape == (3, 64, 64)


def test_unknown_interpolation_is_refused():
    with pytest.raises(ValueError, match="no interpolation 'random'"):
        to_pixels(TINY_DATA_CONFIG | {"interpolation": "random"})
