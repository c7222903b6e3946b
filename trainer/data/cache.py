"""Photos decoded and shrunk once, kept as bytes on disk, so that an epoch is all arithmetic.

The cache is keyed by what a photo's file holds and by how it is shrunk: a renamed photo is found
again, a changed one is decoded again, and other settings make another cache beside this one.
"""

import csv
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from filelock import FileLock
from tqdm import tqdm

from space.boxes import WHOLE, Box, crop, grown, within
from space.errors import PhotoError
from space.photos import load_photo
from space.transforms import GEOMETRY_KEYS, to_pixels
from trainer.data.boxes import CarBoxes
from trainer.data.source import content_key

_VERSION = 2  # counts up when the door for photos or the transform changes what it returns
_CHUNK = 256  # photos decoded between two writes to disk


# How photos are shrunk, for training and in use alike: squeezed to a square, so that nothing of
# the car is cropped away; on Stanford Cars that beats cropping.
INTERPOLATION, CROP_PCT, CROP_MODE = "bicubic", 1.0, "squash"


def geometry(size: int) -> dict[str, Any]:
    """The geometric part of a data config for a square input of `size` pixels."""
    return {
        "input_size": (3, size, size),
        "interpolation": INTERPOLATION,
        "crop_pct": CROP_PCT,
        "crop_mode": CROP_MODE,
    }


@dataclass(frozen=True)
class Entry:
    """Where a photo lies in the cache.

    Attributes:
        key: the hash of the file's bytes; empty when it could not be read at all.
        row: its row in `PhotoCache.pixels`, or -1 when it is unusable.
        error: why it is unusable, or empty.
        box: where the car is in these pixels, in shares of their width and height; all of them
            where no car was looked for, or none was found.
    """

    key: str
    row: int = -1
    error: str = ""
    box: Box = WHOLE


@dataclass(frozen=True)
class _Loaded:
    """A photo on its way into the cache; `pixels` is None when it is there, or unusable."""

    entry: Entry
    pixels: np.ndarray | None = None


class PhotoCache:
    """uint8 pixels of many photos in one file, one row a photo.

    A kill at any moment leaves the cache readable: rows are written first, then named in the
    index. Rows whose checksum does not match are decoded again.
    """

    def __init__(
        self,
        folder: str | Path,
        data_config: Mapping[str, Any],
        boxes: CarBoxes | None = None,
        margin: float = 0.0,
    ):
        """Opens or creates the cache for photos shrunk by `data_config` under `folder`.

        Args:
            boxes: where the cars are. Of a photo with a car, only the car and what stands around
                it is kept; None for whole photos.
            margin: how much is kept around the car on each side, as a share of its width or height.
        """
        self._boxes, self._margin = boxes, margin
        geometry = {key: data_config[key] for key in GEOMETRY_KEYS}
        region = [boxes.detector_key, margin] if boxes else []
        settings = json.dumps([_VERSION, PIL.__version__, geometry, *region], sort_keys=True)
        height, width = data_config["input_size"][1:]
        name = f"{height}x{width}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"
        self._folder = Path(folder) / name
        self._folder.mkdir(parents=True, exist_ok=True)
        self._shape = (3, height, width)
        self._row_bytes = 3 * height * width
        self._transform = to_pixels(data_config)
        self._rows_file = self._folder / "rows.uint8"
        self._index_file = self._folder / "index.csv"

    def add(self, readers: Sequence[Callable[[], bytes]], description: str) -> list[Entry]:
        """Puts photos in, decoding only those that are not there yet.

        Args:
            readers: for each photo a function that returns its file's bytes.
            description: for the progress bar.

        Returns:
            One entry a photo, in the same order.
        """
        entries: list[Entry] = []
        with (
            FileLock(self._folder / "lock"),
            ThreadPoolExecutor() as pool,
            tqdm(total=len(readers), desc=description, unit="photo", delay=1) as progress,
        ):
            index = self._read_index()
            remaining = iter(readers)
            while chunk := list(islice(remaining, _CHUNK)):
                loaded = list(pool.map(lambda reader: self._load(reader, index), chunk))
                self._append(loaded, index)
                entries += [index.get(photo.entry.key, photo.entry) for photo in loaded]
                progress.update(len(chunk))
        return entries

    def pixels(self) -> np.ndarray:
        """All rows, shape (rows, 3, height, width), uint8, read from disk as they are used."""
        if not self._rows_file.exists() or not self._rows_file.stat().st_size:
            return np.zeros((0, *self._shape), np.uint8)
        rows = self._rows_file.stat().st_size // self._row_bytes
        return np.memmap(self._rows_file, np.uint8, mode="r", shape=(rows, *self._shape))

    def _load(self, reader: Callable[[], bytes], index: Mapping[str, Entry]) -> _Loaded:
        try:
            content = reader()
        except OSError as error:
            return _Loaded(Entry("", error=f"cannot be read: {error.strerror or error}"))
        key = content_key(content)
        if key in index:
            return _Loaded(index[key])
        try:
            picture = load_photo(content)
        except PhotoError as error:
            return _Loaded(Entry(key, error=" ".join(str(error).split())))
        try:
            box = self._boxes.find(key, picture) if self._boxes else None
            region = grown(box, self._margin) if box else WHOLE
            pixels = self._transform(crop(picture, region))
        except Exception as error:  # no key: what fails behind the door, as memory, may pass
            return _Loaded(Entry("", error=f"cannot be used: {str(error) or type(error).__name__}"))
        return _Loaded(Entry(key, box=within(region, box or WHOLE)), pixels)

    def _append(self, loaded: Iterable[_Loaded], index: dict[str, Entry]) -> None:
        lines: list[tuple[Any, ...]] = []
        with self._rows_file.open("ab") as file:
            # A kill can leave part of a row behind; the next row starts on a whole one.
            file.truncate(file.tell() // self._row_bytes * self._row_bytes)
            next_row = file.seek(0, 2) // self._row_bytes
            for photo in loaded:
                entry = photo.entry
                if not entry.key or entry.key in index:
                    continue
                checksum = 0
                if photo.pixels is not None:
                    content = np.ascontiguousarray(photo.pixels).tobytes()
                    file.write(content)
                    entry, checksum = replace(entry, row=next_row), zlib.crc32(content)
                    next_row += 1
                index[entry.key] = entry
                lines.append((entry.key, entry.row, checksum, entry.error, *entry.box))
        with self._index_file.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(lines)

    def _read_index(self) -> dict[str, Entry]:
        """The entries that can be trusted: whole lines whose row is there and has its checksum."""
        if not self._index_file.exists():
            return {}
        pixels = self.pixels()
        index = {}
        with self._index_file.open(encoding="utf-8", errors="replace", newline="\n") as file:
            for text in file:  # one by one, so that a bad line costs no other
                try:
                    (line,) = csv.reader([text])
                    key, row, checksum, error = line[0], int(line[1]), int(line[2]), line[3]
                    box = Box(*map(float, line[4:]))
                except (csv.Error, IndexError, TypeError, ValueError):
                    continue  # a line that a kill or the disk has spoilt
                if row < 0:
                    index[key] = Entry(key, error=error)
                elif row < len(pixels) and zlib.crc32(pixels[row].tobytes()) == checksum:
                    index[key] = Entry(key, row=row, box=box)
        return index


class CachedPhotos(torch.utils.data.Dataset):
    """Photos of a cache as batches of uint8 pixels, boxes and class indices.

    The pixels have the shape (batch, 3, height, width). The boxes say where the car is in them:
    float, shape (batch, 4), see `space.boxes.Box`.

    Attributes:
        targets: the class of each photo, int64, shape (photos,).
    """

    def __init__(self, cache: PhotoCache, entries: Sequence[Entry], targets: Sequence[int]):
        self._pixels = cache.pixels()
        self._rows = np.asarray([entry.row for entry in entries], dtype=np.int64)
        self._boxes = torch.tensor([entry.box for entry in entries]).view(-1, 4)
        self.targets = torch.as_tensor(targets, dtype=torch.long)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(
        self, indices: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        # A whole batch in one gather; the loader's collate function has nothing left to do.
        indices = list(indices)
        pixels = torch.from_numpy(self._pixels[self._rows[indices]])
        return pixels, self._boxes[indices], self.targets[indices]


def collate(batch):
    """For `DataLoader`: `CachedPhotos` already returns whole batches."""
    return batch
