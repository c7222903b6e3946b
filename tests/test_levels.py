"""Levels: which classes make up a model, and which models a make."""

import numpy as np
import pytest

from space.answers import LEVELS, MAKE, MODEL, YEAR
from space.labels import Car
from space.levels import Levels

CARS = (
    Car("BMW", "X5 SUV", 2007),
    Car("Audi", "A4 Sedan", 2012),
    Car("Audi", "A4 Sedan", 2008),
    Car("Seat", "Ibiza", None),
    Car("Audi", "", None),
    Car("Fiat", "Ibiza", None),  # a model of the same name is not the same model
)


@pytest.fixture
def levels() -> Levels:
    return Levels(CARS)


def test_makes_and_models_are_named_once_in_alphabetical_order(levels):
    assert levels.makes == ("Audi", "BMW", "Fiat", "Seat")
    assert levels.models == (
        ("Audi", ""),
        ("Audi", "A4 Sedan"),
        ("BMW", "X5 SUV"),
        ("Fiat", "Ibiza"),
        ("Seat", "Ibiza"),
    )


def test_index_says_where_each_class_belongs(levels):
    assert [levels.makes[i] for i in levels.index[MAKE]] == [car.make for car in CARS]
    assert [levels.models[i] for i in levels.index[MODEL]] == [(c.make, c.model) for c in CARS]
    assert levels.index[YEAR].tolist() == list(range(len(CARS)))


def test_sums_add_classes_up_into_models_and_makes(levels):
    sums = levels.sums(np.array([[0.3, 0.2, 0.1, 0.25, 0.05, 0.1]]))
    assert sums[YEAR][0].tolist() == [0.3, 0.2, 0.1, 0.25, 0.05, 0.1]
    assert sums[MODEL][0].tolist() == pytest.approx([0.05, 0.3, 0.3, 0.1, 0.25])
    assert sums[MAKE][0].tolist() == pytest.approx([0.35, 0.3, 0.1, 0.25])


def test_every_level_holds_the_whole_probability_of_every_photo(levels):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(len(CARS)), 50)
    sums = levels.sums(probabilities)
    for level in LEVELS:
        assert sums[level].dtype == np.float64
        assert sums[level].sum(axis=1).tolist() == pytest.approx([1.0] * 50)


def test_no_photo_has_no_sums(levels):
    sums = levels.sums(np.zeros((0, len(CARS))))
    assert [tuple(sums[level].shape) for level in LEVELS] == [(0, 4), (0, 5), (0, 6)]
