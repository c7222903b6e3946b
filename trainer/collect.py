"""Makes a data set of a table of addresses: `python -m trainer.collect FILE.csv --out FOLDER`.

Downloads what the table names, checks that it is photos, leaves copies and insides out, and writes

    photos/LABEL/KEY.jpg         the data set, one folder a class
    photos.csv                   where each photo came from, and what it shows
    left_out.csv                 every address that gave no photo, and why
    specifications.csv           the table's further columns, cleaned, one row a car
    specifications_blanked.csv   what cleaning took out of them, and why

The same command goes on where an earlier one stopped. The exit status is 0 when every address is
settled, whether it gave a photo or is left out for good; 1 when some may succeed another time, or
nothing could be collected; 2 when the command is wrong.
"""

import argparse
import csv
import json
import os
import re
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from space.labels import Car
from trainer.cache import PhotoCache
from trainer.copies import group_copies
from trainer.sources import DataError, content_key
from trainer.sources.download import LATER, OK, Download, Manners, download
from trainer.sources.table import Table, read_table
from trainer.specifications import Specifications, clean, write_blanked
from trainer.splits import Photo

PHOTOS = "photos"
_MARK = "collected.json"
# In which photos are compared: as training sees them, see `trainer.data`.
_GEOMETRY = {
    "input_size": (3, 224, 224),
    "interpolation": "bicubic",
    "crop_pct": 1.0,
    "crop_mode": "squash",
}
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)  # on Windows


@dataclass(frozen=True)
class Kept:
    """A photo of the data set: its path below `photos`, and where it came from."""

    path: str
    label: str
    car: Car
    download: Download


@dataclass(frozen=True)
class LeftOut:
    """An address, or a row without a usable one, that gave no photo; `kind` is for summaries."""

    url: str
    label: str
    reason: str
    kind: str


@dataclass(frozen=True)
class Collection:
    """What a table became.

    Attributes:
        later: how many of the addresses left out may succeed another time.
        specifications: None where the table has no further columns.
        unused: columns of addresses that are not photos.
    """

    photos: tuple[Kept, ...]
    left_out: tuple[LeftOut, ...]
    later: int
    specifications: Specifications | None
    unused: tuple[str, ...]


def collect(
    file: Path,
    folder: Path,
    *,
    manners: Manners | None = None,
    keep_insides: bool = False,
    retry_failed: bool = False,
) -> Collection:
    """Makes a data set of a table; see the module's head for what is written.

    Args:
        folder: what an earlier run downloaded there is not asked for again.
        keep_insides: also photos that show no car from outside.
        retry_failed: also ask again for what has failed for good.

    Raises:
        DataError: the table cannot be understood, or the folder not be written to.
    """
    table = read_table(file, file.name)
    labels: dict[str, dict[str, Car]] = defaultdict(dict)
    for line in table.lines:
        for url in line.urls:
            labels[url][line.label] = line.car
    results = download(labels, folder, manners, retry_failed=retry_failed)
    left_out = [
        LeftOut("", "", f"{problem.path}: {problem.reason}", "rows that cannot be used")
        for problem in table.problems
    ]
    arrived = []
    for url, result in results.items():
        if result.status == OK:
            arrived.append(result)
        else:
            kind = "may come another time" if result.status == LATER else "gave no photo"
            left_out.append(LeftOut(url, "; ".join(labels[url]), result.reason, kind))
    photos = _choose(arrived, labels, folder, keep_insides, left_out)
    specifications = _specifications(table)
    later = sum(result.status == LATER for result in results.values())
    collection = Collection(tuple(photos), tuple(left_out), later, specifications, table.unused)
    try:
        _write(collection, folder)
        mark = {"table": content_key(file.read_bytes()), "later": later}
        (folder / _MARK).write_text(json.dumps(mark) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"the data set cannot be written to {folder}: {error}") from error
    return collection


def is_complete(file: Path, folder: Path) -> bool:
    """Whether a folder holds all that this very table can give."""
    try:
        mark = json.loads((folder / _MARK).read_text(encoding="utf-8"))
        return mark == {"table": content_key(file.read_bytes()), "later": 0}
    except (OSError, ValueError):
        return False


def folder_name(label: str) -> str:
    """A label as the name of a folder, on any system."""
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "-", label).strip(". ")
    while len(name.encode()) > 150:
        name = name[:-1].rstrip(". ")
    return f"_{name}" if not name or _RESERVED.fullmatch(name) else name


def _choose(
    arrived: Sequence[Download],
    labels: dict[str, dict[str, Car]],
    folder: Path,
    keep_insides: bool,
    left_out: list[LeftOut],
) -> list[Kept]:
    """One of each photo's copies, the largest; none where copies stand under different labels."""
    of_file: dict[str, list[Download]] = defaultdict(list)
    for result in arrived:
        of_file[result.file].append(result)
    firsts = [same[0] for same in of_file.values()]
    cache = PhotoCache(folder / "pixels", _GEOMETRY)
    paths = [folder / "downloads" / first.file for first in firsts]
    entries = cache.add([path.read_bytes for path in paths], "looking at photos")
    photos, rows = [], []
    for first, entry in zip(firsts, entries, strict=True):
        if entry.error or entry.key != first.key:  # it was well when it came
            reason = entry.error or "its file has changed since it came; delete it and run again"
            left_out += [_left(same, labels, reason, "damaged") for same in of_file[first.file]]
        else:
            label = next(iter(labels[first.url]))
            photos.append(Photo(first.url, first.file, label, entry.key))
            rows.append(entry.row)
    if not photos:
        return []
    pixels = cache.pixels()
    groups: dict[str, list[int]] = defaultdict(list)
    for index, photo in enumerate(group_copies(photos, pixels, rows)):
        groups[photo.group].append(index)
    chosen = []
    for members in groups.values():
        same = [result for index in members for result in of_file[photos[index].path]]
        named = sorted({label for result in same for label in labels[result.url]})
        if len(named) > 1:
            reason = f"the same photo stands under {len(named)} labels: {'; '.join(named)}"
            left_out += [_left(result, labels, reason, "under several labels") for result in same]
            continue
        best = max(members, key=lambda index: _size(of_file[photos[index].path][0], folder))
        kept = of_file[photos[best].path][0]
        chosen.append(best)
        left_out += [
            _left(result, labels, f"a copy of {kept.url}", "copies")
            for result in same
            if result is not kept
        ]
    if not keep_insides and chosen:
        from trainer.exteriors import look_for_exteriors  # its network is needed here alone

        candidates, places = [photos[i] for i in chosen], [rows[i] for i in chosen]
        looked = look_for_exteriors(candidates, pixels, places).excluding(candidates)
        for photo in looked:
            if photo.reason:
                result = of_file[photo.path][0]
                left_out.append(_left(result, labels, photo.reason, "no car from outside"))
        chosen = [i for i, photo in zip(chosen, looked, strict=True) if not photo.reason]
    result_of = [of_file[photos[index].path][0] for index in sorted(chosen)]
    return [_kept(result, *next(iter(labels[result.url].items()))) for result in result_of]


def _kept(result: Download, label: str, car: Car) -> Kept:
    name = f"{result.key[:16]}{Path(result.file).suffix}"
    return Kept(f"{folder_name(label)}/{name}", label, car, result)


def _left(result: Download, labels: dict[str, dict[str, Car]], reason: str, kind: str) -> LeftOut:
    return LeftOut(result.url, "; ".join(labels[result.url]), reason, kind)


def _size(result: Download, folder: Path) -> tuple[int, int, str]:
    """What makes one copy better than another: pixels, then bytes, then chance that stays."""
    size = (folder / "downloads" / result.file).stat().st_size
    return result.width * result.height, size, result.key


def _specifications(table: Table) -> Specifications | None:
    if not table.lines or not table.lines[0].cells:
        return None
    cars = [(str(line.number), line.car) for line in table.lines]
    return clean(list(table.lines[0].cells), cars, [line.cells for line in table.lines])


def _write(collection: Collection, folder: Path) -> None:
    wanted = {photo.path for photo in collection.photos}
    below = folder / PHOTOS
    below.mkdir(exist_ok=True)
    for path in below.glob("*/*"):  # an earlier run may have chosen otherwise
        ours = re.fullmatch(r"[0-9a-f]{16}\.\w+", path.name)
        if ours and path.relative_to(below).as_posix() not in wanted:
            path.unlink()
    for photo in collection.photos:
        target = below / photo.path
        target.parent.mkdir(exist_ok=True)
        if not target.exists():
            _link(folder / "downloads" / photo.download.file, target)
    for path in below.iterdir():
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    rows = [
        (p.path, p.label, p.car.make, p.car.model, p.car.year or "", p.download.url,
         p.download.width, p.download.height)
        for p in collection.photos
    ]  # fmt: skip
    header = ("path", "label", "make", "model", "year", "url", "width", "height")
    _write_rows(folder / "photos.csv", header, rows)
    left = [(item.url, item.label, item.reason) for item in collection.left_out]
    _write_rows(folder / "left_out.csv", ("url", "label", "reason"), left)
    if collection.specifications:
        collection.specifications.write(folder / "specifications.csv")
        blanked = collection.specifications.blanked
        write_blanked(folder / "specifications_blanked.csv", blanked)


def _link(file: Path, target: Path) -> None:
    """The same file under another name; a copy where the disk knows no such names."""
    try:
        os.link(file, target)
    except OSError:
        part = target.with_name(f"{target.name}.part")
        shutil.copyfile(file, part)
        part.replace(target)


def _write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not options.file.is_file():
        parser.error(f"there is no file {options.file}")
    manners = Manners(
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
            manners=manners,
            keep_insides=options.keep_insides,
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
    parser.add_argument("file", type=Path, help="a table of addresses, see docs/sources/urls.md")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    usual = Manners()
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
    parser.add_argument("--keep-insides", action="store_true",
                        help="also photos that show no car from outside")  # fmt: skip
    parser.add_argument("--retry-failed", action="store_true",
                        help="ask again for what has failed for good")  # fmt: skip
    return parser


def _at_least_1(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds < 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
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
