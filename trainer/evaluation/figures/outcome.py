"""What came of a split's photos, class by class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from space.labels import Car
from space.names import normal


@dataclass(frozen=True)
class Outcome:
    """The classes of photos and what the checkpoint took them for.

    Attributes:
        labels, cars: the checkpoint's classes; all of them, whether they have photos or not.
        truth, answers: numbers of classes, int, shape (photos,).
        split: such as "test".
    """

    labels: Sequence[str]
    cars: Sequence[Car]
    truth: np.ndarray
    answers: np.ndarray
    split: str

    def counts(self) -> np.ndarray:
        """How many photos of each class (row) were taken for each (column), (classes, classes)."""
        size = len(self.labels)
        flat = np.bincount(self.truth * size + self.answers, minlength=size * size)
        return flat.reshape(size, size)

    def order(self) -> list[int]:
        """The numbers of the classes by make, then model, then year."""

        def key(number: int) -> tuple[str, str, int, str]:
            car = self.cars[number]
            return normal(car.make), normal(car.model), car.year or 0, self.labels[number]

        return sorted(range(len(self.labels)), key=key)
