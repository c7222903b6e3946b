"""The ranks of an answer: classes summed up into models, and models into makes."""

from collections.abc import Sequence

import numpy as np

from space.answers import LEVELS, MAKE, MODEL, YEAR
from space.labels import Car


class Levels:
    """Which classes belong to which make, and to which model of a make.

    Attributes:
        makes: every make, in alphabetical order.
        models: every (make, model), likewise.
        index: for each level the number of the make, of the model or of the class itself that
            each class belongs to, int64, shape (classes,).
    """

    def __init__(self, cars: Sequence[Car]):
        self.makes = tuple(sorted({car.make for car in cars}))
        self.models = tuple(sorted({(car.make, car.model) for car in cars}))
        makes = {make: number for number, make in enumerate(self.makes)}
        models = {model: number for number, model in enumerate(self.models)}
        self.index = {
            MAKE: np.array([makes[car.make] for car in cars]),
            MODEL: np.array([models[car.make, car.model] for car in cars]),
            YEAR: np.arange(len(cars)),
        }
        # One-hot: what a product with it sums.
        self._members = {
            level: np.eye(numbers.max() + 1)[numbers] for level, numbers in self.index.items()
        }

    def sums(self, probabilities: np.ndarray) -> dict[str, np.ndarray]:
        """The probabilities of all makes, of all models and of all classes.

        Args:
            probabilities: of the classes, shape (photos, classes).

        Returns:
            Shapes (photos, makes), (photos, models) and (photos, classes).
        """
        return {
            level: probabilities if level == YEAR else probabilities @ self._members[level]
            for level in LEVELS
        }
