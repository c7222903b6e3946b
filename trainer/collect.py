"""Makes a dataset of a table of addresses: `python -m trainer.collect FILE.csv --out FOLDER`.

Downloads what the table names, checks that it is photos, leaves copies and insides out, and writes

    photos/LABEL/KEY.jpg         the dataset, one folder a class
    photos.csv                   where each photo came from, and what it shows
    left_out.csv                 every address that gave no photo, and why
    specifications.csv           the table's further columns, cleaned, one row a car
    specifications_blanked.csv   what cleaning took out of them, and why

The same command goes on where an earlier one stopped. The exit status is 0 when every address is
settled, whether it gave a photo or is left out for good; 1 when some may succeed another time, or
nothing could be collected; 2 when the command is wrong.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from space.errors import DataError
from space.walk import user_path
from trainer.collection.fetcher import FetchPolicy
from trainer.collection.pipeline import PHOTOS, Collection, collect


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not options.file.is_file():
        parser.error(f"there is no file {options.file}")
    policy = FetchPolicy(
        per_host=options.per_host,
        at_once=max(options.at_once, options.per_host),
        tries=options.tries,
        timeout=options.timeout,
        deadline=options.deadline,
        allow_private=options.allow_private,
    )
    try:
        collection = collect(
            options.file,
            options.out,
            policy=policy,
            keep_non_exteriors=options.keep_non_exteriors,
            retry_failed=options.retry_failed,
        )
    except DataError as error:
        print(f"collect: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("collect: interrupted; the same command goes on from here", file=sys.stderr)
        return 1
    _print_summary(collection, options.out)
    return 1 if collection.later or not collection.photos else 0


def _parser() -> argparse.ArgumentParser:
    description, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m trainer.collect",
        description=description,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=user_path, help="a table of addresses, see docs/COLLECT.md")
    parser.add_argument("--out", type=user_path, required=True, metavar="FOLDER")
    usual = FetchPolicy()
    for name, kind, value, explanation in (
        ("--per-host", _at_least_1, usual.per_host, "requests to one host at the same time"),
        ("--at-once", _at_least_1, usual.at_once, "requests at the same time in all"),
        ("--tries", _at_least_1, usual.tries, "how often to ask for a photo in one run"),
        ("--timeout", _seconds, usual.timeout, "seconds for a connection or the next bytes"),
        ("--deadline", _seconds, usual.deadline, "seconds for a photo each time it is tried"),
    ):
        explanation += " (default: %(default)g)"
        parser.add_argument(name, type=kind, default=value, metavar="N", help=explanation)
    parser.add_argument("--allow-private", action="store_true",
                        help="also addresses in this machine's own networks")  # fmt: skip
    parser.add_argument("--keep-non-exteriors", "--keep-insides", action="store_true",
                        help="also photos that show no car from outside")  # fmt: skip
    parser.add_argument("--retry-failed", action="store_true",
                        help="ask again for what has failed for good")  # fmt: skip
    return parser


def _at_least_1(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds < 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _print_summary(collection: Collection, folder: Path) -> None:
    classes = len({photo.label for photo in collection.photos})
    print(f"{len(collection.photos)} photos of {classes} classes in {folder / PHOTOS}")
    if collection.left_out:
        print(f"{len(collection.left_out)} left out, see {folder / 'left_out.csv'}:")
        for kind, count in Counter(item.kind for item in collection.left_out).most_common():
            print(f"  {count:6}  {kind}")
    if table := collection.specifications:
        print(f"{len(table.cars)} cars in {folder / 'specifications.csv'}")
        if table.blanked:
            where = folder / "specifications_blanked.csv"
            print(f"  {len(table.blanked)} values or rows taken out, see {where}")
    if collection.unused:
        columns = ", ".join(collection.unused)
        print(f"not used, since another column is of photos: {columns}")
    if collection.later:
        print("some may come another time: the same command asks for those again, and only those")
    if collection.photos:
        print(f"train on them with --data NAME=folder:{folder / PHOTOS}")


if __name__ == "__main__":
    sys.exit(main())
