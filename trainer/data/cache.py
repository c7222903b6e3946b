"""Photos decoded and shrunk once, kept as bytes on disk, so that an epoch is all arithmetic.

The cache is keyed by what a photo's file holds and by how it is shrunk: a renamed photo is found
again, a changed one is decoded anew, and other settings make another cache beside this one.
"""

import csv
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from filelock import FileLock
from tqdm import tqdm

from space.photos import PhotoError, load_photo
from space.transforms import GEOMETRY_KEYS, to_pixels
from trainer.data.source import content_key

_VERSION = 1  # counts up when the door for photos or the transform changes what it returns
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
    """

    key: str
    row: int = -1
    error: str = ""


class PhotoCache:
    """uint8 pixels of many photos in one file, one row a photo.

    A kill at any moment leaves the cache readable: rows are written first, then named in the
    index. Rows whose checksum does not match are decoded again.
    """

    def __init__(self, folder: str | Path, data_config: Mapping[str, Any]):
        """Opens or creates the cache for photos shrunk by `data_config` under `folder`."""
        geometry = {key: data_config[key] for key in GEOMETRY_KEYS}
        settings = json.dumps([_VERSION, PIL.__version__, geometry], sort_keys=True)
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
                results = list(pool.map(lambda reader: self._load(reader, index), chunk))
                self._append(results, index)
                entries += [index.get(key, Entry(key, error=error)) for key, _, error in results]
                progress.update(len(chunk))
        return entries

    def pixels(self) -> np.ndarray:
        """All rows, shape (rows, 3, height, width), uint8, read from disk as they are used."""
        if not self._rows_file.exists() or not self._rows_file.stat().st_size:
            return np.zeros((0, *self._shape), np.uint8)
        rows = self._rows_file.stat().st_size // self._row_bytes
        return np.memmap(self._rows_file, np.uint8, mode="r", shape=(rows, *self._shape))

    def _load(
        self, reader: Callable[[], bytes], index: Mapping[str, Entry]
    ) -> tuple[str, np.ndarray | None, str]:
        """The photo's key, its pixels unless they are cached, and what is wrong with it."""
        try:
            content = reader()
        except OSError as error:
            return "", None, f"cannot be read: {error.strerror or error}"
        key = content_key(content)
        if key in index:
            return key, None, index[key].error
        try:
            return key, self._transform(load_photo(content)), ""
        except PhotoError as error:
            return key, None, " ".join(str(error).split())
        except Exception as error:  # no key: what fails behind the door, as memory, may pass
            return "", None, f"cannot be used: {str(error) or type(error).__name__}"

    def _append(
        self, results: Iterable[tuple[str, np.ndarray | None, str]], index: dict[str, Entry]
    ) -> None:
        lines = []
        with self._rows_file.open("ab") as file:
            # A kill can leave part of a row behind; the next row starts on a whole one.
            file.truncate(file.tell() // self._row_bytes * self._row_bytes)
            next_row = file.seek(0, 2) // self._row_bytes
            for key, pixels, error in results:
                if not key or key in index:
                    continue
                if pixels is None:
                    index[key] = Entry(key, error=error)
                    lines.append((key, -1, 0, error))
                else:
                    content = np.ascontiguousarray(pixels).tobytes()
                    file.write(content)
                    index[key] = Entry(key, row=next_row)
                    lines.append((key, next_row, zlib.crc32(content), ""))
                    next_row += 1
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
                except (csv.Error, IndexError, ValueError):
                    continue  # a line that a kill or the disk has spoilt
                if row < 0:
                    index[key] = Entry(key, error=error)
                elif row < len(pixels) and zlib.crc32(pixels[row].tobytes()) == checksum:
                    index[key] = Entry(key, row=row)
        return index


class CachedPhotos(torch.utils.data.Dataset):
    """Photos of a cache as batches: (uint8 pixels (batch, 3, height, width), class indices).

    Attributes:
        targets: the class of each photo, int64, shape (photos,).
    """

    def __init__(self, cache: PhotoCache, rows: Sequence[int], targets: Sequence[int]):
        self._pixels = cache.pixels()
        self._rows = np.asarray(rows, dtype=np.int64)
        self.targets = torch.as_tensor(targets, dtype=torch.long)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        # A whole batch in one gather; the loader's collate function has nothing left to do.
        pixels = torch.from_numpy(self._pixels[self._rows[list(indices)]])
        return pixels, self.targets[list(indices)]


def collate(batch):
    """For `DataLoader`: `CachedPhotos` already returns whole batches."""
    return batch
