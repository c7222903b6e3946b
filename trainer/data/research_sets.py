"""Knows Stanford Cars and Algerian Used Cars again, whatever they are called and wherever they lie.

Their photos belong to their photographers; whoever trained on them may not pass them on.
"""

from collections.abc import Callable, Sequence

from trainer.data.source import Source
from trainer.data.sources import algerian, locate, stanford

_TITLES = {"stanford_cars": "Stanford Cars", "algerian_used_cars": "Algerian Used Cars"}
# How many of a set's classes, by name, make a dataset that set: people who photograph cars
# themselves may well have a folder "polo", or "Audi TT RS Coupe 2012", but hardly most of them.
_MOST = 0.75


def find_research_set(spec: str, source: Source) -> str | None:
    """Says which of the two sets the photos are of, and by what they were known.

    Known are the layouts that their adapters read, and most of their class names in any spelling.
    Single photos of theirs among other photos are not known.

    Args:
        spec: how the command line calls the dataset.
        source: what was read from it.

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
    return None
