"""One class list for several datasets: what they call differently but mean alike is one class."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from space.errors import DataError
from space.labels import Car, unfit_text
from space.names import spelling
from trainer.data.source import Source


@dataclass(frozen=True)
class Classes:
    """The classes of a training run.

    Attributes:
        labels: their names in the order of the network's outputs, as the first dataset that has
            the class writes it.
        cars: the make, model and year of each.
        targets: (source, label there) to the number of the class.
    """

    labels: tuple[str, ...]
    cars: tuple[Car, ...]
    targets: dict[tuple[str, str], int]


def unite(sources: Iterable[Source]) -> Classes:
    """Puts the classes of all sources together by make, model and year.

    Raises:
        DataError: a label is blank, or no checkpoint can hold it.
    """
    labels: list[str] = []
    cars: list[Car] = []
    number_of: dict[tuple[str, str, int | None], int] = {}
    targets = {}
    for source in sources:
        for label, car in zip(source.label_names, source.cars, strict=True):
            unfit = unfit_text(label) or (None if label.strip() else "nothing but blanks")
            if unfit:
                raise DataError(f"the class {label!r} of {source.name} holds {unfit}; rename it")
            number = number_of.setdefault(identity(car), len(labels))
            if number == len(labels):
                # The same name for another car, as "Polo" may be, needs the source to tell them.
                labels.append(f"{label} ({source.name})" if label in labels else label)
                cars.append(car)
            targets[source.name, label] = number
    return Classes(tuple(labels), tuple(cars), targets)


def match(source: Source, labels: Sequence[str], cars: Sequence[Car]) -> dict[str, str]:
    """Which of a checkpoint's labels means the same car, for each label of a source that has one.

    Args:
        labels, cars: the checkpoint's, in the same order.
    """
    by_car = {identity(car): label for label, car in zip(labels, cars, strict=True)}
    found = {}
    for label, car in zip(source.label_names, source.cars, strict=True):
        same = label if label in labels else by_car.get(identity(car))
        if same:
            found[label] = same
    return found


def identity(car: Car) -> tuple[str, str, int | None]:
    """What two spellings of one car have in common."""
    return spelling(car.make), spelling(car.model), car.year
