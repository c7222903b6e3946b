"""Knows Stanford Cars and Algerian Used Cars again, whatever they are called and wherever they lie.

Their photos belong to their photographers; whoever trained on them may not pass them on.

    python -m trainer.data.research_sets stanford_cars=FOLDER algerian_used_cars=FOLDER

writes the lists of their files beside this module, `stanford_cars_files.txt` and
`algerian_used_cars_files.txt`: the first digits of each photo's SHA-256, of every photo below the
folder.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from trainer.data.source import Source, content_key, photos_below
from trainer.data.sources import algerian, locate, stanford
from trainer.data.splits import Photo

_TITLES = {"stanford_cars": "Stanford Cars", "algerian_used_cars": "Algerian Used Cars"}
# How many of a set's classes, by name, make a data set that set: people who photograph cars
# themselves may well have a folder "polo", or "Audi TT RS Coupe 2012", but hardly most of them.
_MOST = 0.75
_FOLDER = Path(__file__).parent
_DIGITS = 12  # of a file's hash, so that a list stays small and no other file has the same ones


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.data.research_sets",
        description="Writes the lists by which files of the two sets are known again.",
    )
    parser.add_argument("sets", nargs="+", metavar="NAME=FOLDER",
                        help=f"NAME is one of {', '.join(_TITLES)}")  # fmt: skip
    for spec in parser.parse_args(arguments).sets:
        name, _, folder = spec.partition("=")
        if name not in _TITLES or not (paths := photos_below(Path(folder))):
            parser.error(f"{spec}: write NAME=FOLDER, one of the two and a folder of its photos")
        keys = {content_key((Path(folder) / path).read_bytes())[:_DIGITS] for path in paths}
        _list_of(name).write_text("".join(f"{key}\n" for key in sorted(keys)), "utf-8")
        print(f"{_list_of(name)}: {len(keys)} different files of {len(paths)}")
    return 0


def find_research_set(spec: str, source: Source, photos: Sequence[Photo]) -> str | None:
    """Says which of the two sets the photos are of, and by what they were known.

    Known are the layouts that their adapters read, most of their class names in any spelling, and
    single files among other photos, if they are byte for byte those of the lists. Files that are on
    no list, such as Stanford's official test photos, are not known under other names, nor are
    photos that were changed.

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
    for photo in photos:
        if photo.source == source.name and (title := find_file(photo.key)):
            return f"{title}: {photo.path} is one of its photos"
    return None


def find_file(key: str) -> str | None:
    """Which of the two sets a file is of, by its `content_key`; None for any other file."""
    return _known_files().get(key[:_DIGITS])


@cache
def _known_files() -> dict[str, str]:
    """The first digits of files' hashes, and which set each is of."""
    return {
        key: title
        for name, title in _TITLES.items()
        for key in _list_of(name).read_text("utf-8").split()
    }


def _list_of(name: str) -> Path:
    return _FOLDER / f"{name}_files.txt"


if __name__ == "__main__":
    sys.exit(main())
