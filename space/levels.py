"""The ranks of an answer: classes summed up into models, and models into makes."""

from collections.abc import Sequence

import torch

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
            MAKE: torch.tensor([makes[car.make] for car in cars]),
            MODEL: torch.tensor([models[car.make, car.model] for car in cars]),
            YEAR: torch.arange(len(cars)),
        }
        self._sizes = {MAKE: len(makes), MODEL: len(models), YEAR: len(cars)}

    def sums(self, probabilities: torch.Tensor) -> dict[str, torch.Tensor]:
        """The probabilities of all makes, of all models and of all classes.

        Args:
            probabilities: of the classes, shape (photos, classes).

        Returns:
            Shapes (photos, makes), (photos, models) and (photos, classes).
        """
        return {
            level: probabilities.new_zeros(len(probabilities), self._sizes[level]).index_add_(
                1, self.index[level].to(probabilities.device), probabilities
            )
            for level in LEVELS
        }
