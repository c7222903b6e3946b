"""What a car is called: makes by their one spelling, and names read from folders and files.

People write "chevy", "VW" or "Mercedes Benz", put the year first or last, and number their files.
Words are compared whole, never as parts of others: a "Camry" holds no "Cam".
"""

import re
import unicodedata
from collections.abc import Sequence

from space.labels import Car, parse_label

# One spelling a make. Where Stanford Cars has the make, the spelling is that of its labels.
MAKES = (
    "Abarth", "Acura", "Alfa Romeo", "AM General", "Aston Martin", "Audi", "Bentley", "BMW",
    "Bugatti", "Buick", "BYD", "Cadillac", "Changan", "Chery", "Chevrolet", "Chrysler", "Citroën",
    "Cupra", "Dacia", "Daewoo", "Daihatsu", "Dodge", "DS", "Eagle", "Ferrari", "FIAT", "Fisker",
    "Ford", "Geely", "Genesis", "Geo", "GMC", "Great Wall", "Haval", "Honda", "HUMMER", "Hyundai",
    "Infiniti", "Isuzu", "Iveco", "Jaguar", "Jeep", "Kia", "Lada", "Lamborghini", "Lancia",
    "Land Rover", "Lexus", "Lincoln", "Lotus", "Lucid", "Mahindra", "Maserati", "Maybach", "Mazda",
    "McLaren", "Mercedes-Benz", "Mercury", "MG", "MINI", "Mitsubishi", "Nissan", "Oldsmobile",
    "Opel", "Pagani", "Peugeot", "Plymouth", "Polestar", "Pontiac", "Porsche", "Proton", "Ram",
    "Renault", "Rivian", "Rolls-Royce", "Saab", "Saturn", "Scion", "SEAT", "Škoda", "smart",
    "Spyker", "SsangYong", "Subaru", "Suzuki", "Tata", "Tesla", "Toyota", "Vauxhall", "Volkswagen",
    "Volvo",
)  # fmt: skip

# What else people write for a make, misspellings that were seen in datasets included.
_ALIASES = {
    "alfa": "Alfa Romeo",
    "aston": "Aston Martin",
    "benz": "Mercedes-Benz",
    "chev": "Chevrolet",
    "chevroulet": "Chevrolet",
    "chevy": "Chevrolet",
    "landrover": "Land Rover",
    "lambo": "Lamborghini",
    "maruti suzuki": "Suzuki",
    "mercedes": "Mercedes-Benz",
    "mercedes amg": "Mercedes-Benz",
    "merc": "Mercedes-Benz",
    "rolls": "Rolls-Royce",
    "volkswagon": "Volkswagen",
    "vw": "Volkswagen",
}

_YEAR = re.compile(r"(?:19|20)\d\d")
_NUMBER = re.compile(r"\(?\d+\)?")
_LONGEST_MAKE = 3  # words


def normal(text: str) -> str:
    """A text as it is compared: no accents, no case, letters and digits only."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(letter for letter in plain if letter.isalnum())


_SEPARATORS = re.compile(r"[\s_/()\[\],;:'’\"·‐-―-]+|(?<!\d)\.|\.(?!\d)")
_ACCENTS = re.compile(r"[\u0300-\u036f]")  # not the marks that other scripts spell with


def spelling(text: str) -> str:
    """What two spellings of one name have in common: accents, case and separators do not count.

    Any other sign does, so that "Prius" and "Prius+", "1.6" and "16" stay two names.
    """
    plain = unicodedata.normalize("NFKC", _ACCENTS.sub("", unicodedata.normalize("NFKD", text)))
    return _SEPARATORS.sub("", plain.casefold()) or text.strip()


_MAKE_OF = {normal(make): make for make in MAKES} | {
    normal(alias): make for alias, make in _ALIASES.items()
}


def find_make(words: Sequence[str], start: int = 0) -> tuple[str, int] | None:
    """The make that begins at a word, and how many words it takes; the longest name wins."""
    for length in range(_LONGEST_MAKE, 0, -1):
        chosen = words[start : start + length]
        make = _MAKE_OF.get(normal("".join(chosen)))
        if len(chosen) == length and make:
            return make, length
    return None


def parse_name(name: str) -> Car | None:
    """Reads "Year Make Model", "Make Model Year", "Make Model" or a bare make.

    Returns:
        The car, its make in the one spelling of `MAKES`, or None when no known make stands where
        a make belongs.
    """
    words = re.split(r"[\s_]+", name.strip())
    year = None
    if len(words) > 1 and _YEAR.fullmatch(words[0]):
        year = int(words.pop(0))
    found = find_make(words)
    if not found:
        return None
    make, length = found
    model = words[length:]
    if year is None and len(model) > 1 and _YEAR.fullmatch(model[-1]):
        year = int(model.pop())
    return Car(make, " ".join(model), year)


def car_of(label: str) -> Car:
    """The car that a class name means; a name without a known make is split at its first word."""
    return parse_name(label) or parse_label(label)


def car_label(car: Car) -> str:
    """A car's name written "Make Model Year"."""
    return " ".join(filter(None, (car.make, car.model, str(car.year or ""))))


def _unhyphened(word: str) -> list[str]:
    """The word, taken apart where its hyphen joins a make or a number to something else.

    "Mercedes-Benz" and "F-150" are words of their own, "chevy-camaro" and "audi-a4-2012" are not.
    """
    if find_make([word]):
        return [word]
    first, _, rest = word.partition("-")
    if rest and find_make([first]):
        return [first, *_unhyphened(rest)]
    return re.split(r"-(?=\d+$)|(?<=\d{4})-", word)


def parse_file_name(stem: str) -> Car | None:
    """Reads the car from a file's name without its suffix: "bmw_x5_2019_01", "2023 Audi A4 (3)".

    The make may stand anywhere, but just one make may stand there; the model is what follows it,
    up to the year or a running number.

    Returns:
        The car, or None when no make or more than one is named.
    """
    apart = [_unhyphened(word) for word in re.split(r"[\s_]+", stem.strip())]
    words = [word for words in apart for word in words if word]
    places = []
    position = 0
    while position < len(words):
        found = find_make(words, position)
        if found:
            places.append((position, *found))
        position += found[1] if found else 1
    if len({make for _, make, _ in places}) != 1:
        return None
    position, make, length = places[0]
    before, after = words[:position], words[position + length :]
    year = next((int(word) for word in before if _YEAR.fullmatch(word)), None)
    model: list[str] = []
    for index, word in enumerate(after):
        if year is None and index and _YEAR.fullmatch(word):
            year = int(word)
            break
        if _NUMBER.fullmatch(word) and index and index == len(after) - 1:
            break  # a running number
        model.append(word)
    return Car(make, " ".join(model), year)
