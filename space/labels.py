"""What a class name says: make, model and year."""

import re
import unicodedata
from dataclasses import dataclass

# Makes whose name holds a space. Every other make is the first word of its label; a hyphenated
# make ("Mercedes-Benz", "Rolls-Royce") is one word.
MAKES_OF_SEVERAL_WORDS = (
    "AM General",
    "Alfa Romeo",
    "Aston Martin",
    "De Tomaso",
    "DS Automobiles",
    "Great Wall",
    "Land Rover",
    "Lynk & Co",
    "Mercedes Benz",
    "Rolls Royce",
)

# Line breaks and other control characters, which end a line of classes.txt or steer a terminal, and
# the halves of characters that names on disk hold when they are not UTF-8.
_UNFIT = {
    "Cc": "a line break or another control character",
    "Zl": "a line break or another control character",
    "Zp": "a line break or another control character",
    "Cs": "bytes that are not UTF-8",
}

_YEAR = re.compile(r"(?:18|19|20)\d\d")


@dataclass(frozen=True)
class Car:
    """The car that a class stands for.

    Attributes:
        make: the brand, e.g. "Land Rover".
        model: everything between make and year, body style included, e.g. "Range Rover SUV";
            empty when the label names a make only.
        year: the model year, or None when the label gives none.
    """

    make: str
    model: str
    year: int | None


def unfit_text(text: str) -> str | None:
    """What in a label or a path no file of text can hold, or None: the one rule for writing and
    reading both."""
    return next(filter(None, (_UNFIT.get(unicodedata.category(letter)) for letter in text)), None)


def parse_label(label: str) -> Car:
    """Splits a class name written "Make Model Year", as Stanford Cars writes them.

    A number that looks like a year counts as one only after a model: "Peugeot 2008" is a model
    without a year, "Peugeot 2008 2019" is that model of 2019.

    Raises:
        ValueError: the label is blank.
    """
    words = label.split()
    if not words:
        raise ValueError("a class label is blank; every class needs a name")
    make_length = 1
    for make in MAKES_OF_SEVERAL_WORDS:
        make_words = make.casefold().split()
        if [word.casefold() for word in words[: len(make_words)]] == make_words:
            make_length = len(make_words)
    make, rest = " ".join(words[:make_length]), words[make_length:]
    year = None
    if len(rest) > 1 and _YEAR.fullmatch(rest[-1]):
        year = int(rest.pop())
    return Car(make=make, model=" ".join(rest), year=year)
