"""From a table of addresses to a dataset; `trainer.collect` is its command."""

import csv
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from space.errors import DataError
from space.labels import Car
from space.spec_columns import write_blanked
from space.specifications import Specifications, clean
from trainer.collection.download import download
from trainer.collection.fetcher import LATER, OK, Download, FetchPolicy
from trainer.collection.table import Table, read_table
from trainer.data.cache import PhotoCache, geometry
from trainer.data.copies import find_copies
from trainer.data.exteriors import score_exteriors
from trainer.data.splits import Photo

PHOTOS = "photos"
_SIDE = 224  # of the pictures in which photos are compared
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)  # on Windows


@dataclass(frozen=True)
class Kept:
    """A photo of the dataset: its path below `photos`, and where it came from."""

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
    policy: FetchPolicy | None = None,
    keep_non_exteriors: bool = False,
    retry_failed: bool = False,
) -> Collection:
    """Makes a dataset of a table; see `trainer.collect` for what is written.

    Args:
        folder: what an earlier run downloaded there is not asked for again.
        keep_non_exteriors: also photos that show no car from outside.
        retry_failed: also ask again for what has failed for good.

    Raises:
        DataError: the table cannot be understood, or the folder not be written to.
    """
    table = read_table(file, file.name)
    labels: dict[str, dict[str, Car]] = defaultdict(dict)
    for line in table.lines:
        for url in line.urls:
            labels[url][line.label] = line.car
    results = download(labels, folder, policy, retry_failed=retry_failed)
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
    photos = _choose(arrived, labels, folder, keep_non_exteriors, left_out)
    specifications = _specifications(table)
    later = sum(result.status == LATER for result in results.values())
    collection = Collection(tuple(photos), tuple(left_out), later, specifications, table.unused)
    try:
        _write(collection, folder)
    except OSError as error:
        raise DataError(f"the dataset cannot be written to {folder}: {error}") from error
    return collection


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
    keep_non_exteriors: bool,
    left_out: list[LeftOut],
) -> list[Kept]:
    """One of each photo's copies, the largest; none where copies stand under different labels."""
    of_file: dict[str, list[Download]] = defaultdict(list)
    for result in arrived:
        of_file[result.file].append(result)
    firsts = [same[0] for same in of_file.values()]
    cache = PhotoCache(folder / "pixels", geometry(_SIDE))
    paths = [folder / "downloads" / first.file for first in firsts]
    entries = cache.add([path.read_bytes for path in paths], "looking at photos")
    photos, rows = [], []
    for first, entry in zip(firsts, entries, strict=True):
        if entry.error or entry.key != first.key:  # it was well when it came
            reason = entry.error or "its file has changed since it came; delete it and run again"
            left_out += [_left(same, labels, reason, "damaged") for same in of_file[first.file]]
        else:
            label = next(iter(labels[first.url]))
            photos.append(Photo(first.url, first.file, label, entry.key, group=entry.key))
            rows.append(entry.row)
    if not photos:
        return []
    pixels = cache.pixels()
    groups: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(find_copies([p.key for p in photos], pixels, rows).groups):
        groups[group].append(index)
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
    if not keep_non_exteriors and chosen:
        candidates, places = [photos[i] for i in chosen], [rows[i] for i in chosen]
        looked = score_exteriors(candidates, pixels, places).excluding(candidates)
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
