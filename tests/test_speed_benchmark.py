"""The benchmark of training speed measures all that it says, here with toys; not how fast."""

import json
import math
from argparse import Namespace

import pytest
from conftest import draw_car

from benchmarks import training


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of twenty photos."""
    folder = tmp_path_factory.mktemp("speed")
    for number, label in enumerate(("Audi A4 Sedan 2012", "Ram C-V Van 2012")):
        (folder / "photos" / label).mkdir(parents=True)
        for seed in range(20):
            draw_car(100 * number + seed).save(folder / "photos" / label / f"{seed}.png")
    return folder


def measure(folder, *extra):
    arguments = [f"--data=cars={folder / 'photos'}", f"--cache={folder / 'cache'}"]
    arguments += ["--cache-size=40", "--case=test_efficientnet:32:3", "--batch-size=8"]
    out = folder / "training.json"
    training.main([*arguments, "--rounds=1", "--counts", "70", "140", f"--out={out}", *extra])
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def found(folder):
    measure(folder, "--only", "memory")
    return measure(folder, "--only", "loop", "usual", "processes")


@pytest.mark.parametrize(
    ("part", "rates"),
    [("loop", ("loop", "bare")), ("usual", ("loop", "usual")), ("processes", ("two", "one"))],
)
def test_each_part_compares_two_rates(found, part, rates):
    (case,) = found[part]["cases"]
    one, other = (case[f"{name}_photos_per_second"] for name in rates)
    assert 0 < one < math.inf
    assert 0 < other < math.inf
    assert case["ratio"] == pytest.approx(one / other)  # there is one round
    assert case["network"] == "test_efficientnet"


def test_a_part_that_is_not_measured_again_stays(found):
    assert sorted(found) == sorted(training.PARTS)


def test_memory_is_that_of_an_epoch_of_so_many_photos(found):
    few, many = found["memory"]["cases"]
    assert (few["photos"], many["photos"]) == (70, 140)
    for case in (few, many):
        assert 0 < case["before_bytes"] <= case["peak_bytes"]
        assert case["growth_bytes"] == case["peak_bytes"] - case["before_bytes"]


def test_a_sample_of_few_photos_goes_round(folder):
    options = Namespace(
        data=[f"cars={folder / 'photos'}"],
        image_column="image",
        label_column="label",
        cache=folder / "cache",
        cache_size=40,
    )
    sample = training.read_sample(options, 50)
    assert sample.entries[40:] == sample.entries[:10]
    sample.write(folder / "written", 50)
    assert len(list((folder / "written").rglob("*.jpg"))) == 50
