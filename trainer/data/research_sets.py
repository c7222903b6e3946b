"""Knows Stanford Cars and Algerian Used Cars again, whatever they are called and wherever they lie.

Their photos belong to their photographers; whoever trained on them may not pass them on.
"""

from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

from trainer.data.source import Source
from trainer.data.sources import algerian, locate, stanford
from trainer.data.splits import Photo, read_split

_TITLES = {"stanford_cars": "Stanford Cars", "algerian_used_cars": "Algerian Used Cars"}
# How many of a set's classes, by name, make a data set that set: people who photograph cars
# themselves may well have a folder "polo", or "Audi TT RS Coupe 2012", but hardly most of them.
_MOST = 0.75
# Names photos of both sets, each by its group: the first digits of a file's SHA-256.
_SPLIT = "stanford_and_algerian.csv"


def find_research_set(spec: str, source: Source, photos: Sequence[Photo]) -> str | None:
    """Says which of the two sets the photos are of, and by what they were known.

    Known are the layouts that their adapters read, most of their class names in any spelling, and
    single files among other photos. Photos that were changed, under other names, are not known.

    Args:
        spec: how the command line calls the data set.
        source, photos: what was read from it; photos of other sources are passed over.

    Returns:
        Such as "Stanford Cars: 196 of its 196 classes are there"; None for other photos.
    """
    _, adapter, _ = locate(spec)
    if adapter in _TITLES:
        return f"{_TITLES[adapter]}: it is laid out like it"
    matchers: dict[str, tuple[Sequence[str], Callable[[str], str | None]]] = {
        "stanford_cars": (stanford.LABELS, stanford.match_label),
        "algerian_used_cars": (algerian.LABELS, algerian.match_label),
    }
    for name, (labels, match) in matchers.items():
        there = {match(label) for label in source.label_names} - {None}
        if len(there) >= _MOST * len(labels):
            return f"{_TITLES[name]}: {len(there)} of its {len(labels)} classes are there"
    known = _known_files()
    for photo in photos:
        if photo.source == source.name and (name := known.get(photo.key[:16], "")):
            return f"{_TITLES[name]}: {photo.path} is one of its photos"
    return None


def _known_files() -> dict[str, str]:
    """The first digits of files' hashes, and of which set each is."""
    path = Path(str(files("trainer").joinpath("splits", _SPLIT)))
    return {row["group"]: row["source"] for row in read_split(path).values()}
