"""Training on a dataset that is larger than the disk: photos are read as they are needed.

What stays on this machine are the photos that judge the epochs, in a `PhotoCache`. All others go
from the Hub through a buffer of undecoded photos, from which the next is drawn at random, into a
batch, and are forgotten.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

import fsspec
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from datasets.distributed import split_dataset_by_node
from torch.utils.data import DataLoader

from space.boxes import WHOLE
from space.errors import DataError, MarqueError, PhotoError
from space.photos import load_photo
from space.transforms import to_pixels
from trainer.data.cache import CachedPhotos, PhotoCache, collate, geometry
from trainer.data.sources.hub import READ_ERRORS
from trainer.training.config import TrainConfig
from trainer.training.hub_stream import Stream

_AHEAD = 2  # batches that are read and decoded while the network is busy with another
_CHUNK = 256  # validation photos held at once


def keep_validation(stream: Stream, cache: PhotoCache, count: int) -> CachedPhotos:
    """Reads up to `count` validation photos into a cache, the same ones in every process and run.

    Raises:
        DataError: the stream breaks off, or no photo is usable.
    """
    examples = islice(stream.validation, count)
    kept, targets = [], []
    try:
        while chunk := list(islice(examples, _CHUNK)):
            readers = [partial(_content, example[stream.columns.image]) for example in chunk]
            entries = cache.add(readers, "keeping validation photos")
            for entry, example in zip(entries, chunk, strict=True):
                target = stream.target_of(example)
                if entry.row >= 0 and target is not None:
                    kept.append(entry)
                    targets.append(target)
    except READ_ERRORS as error:
        raise DataError(f"--data {stream.spec}: its stream broke off: {error}") from error
    if not kept:
        raise DataError(
            f"--data {stream.spec}: no photo of {stream.parts['validation']!r} can be used"
        )
    return CachedPhotos(cache, kept, targets)


def load_streamed(stream: Stream, config: TrainConfig, accelerator: Accelerator) -> Any:
    """The batches of an epoch of streamed photos, for this process alone.

    Returns:
        A prepared loader with `set_epoch`, as long in every process.

    Raises:
        MarqueError: the batch cannot be shared out evenly.
    """
    if config.batch_size % accelerator.num_processes:
        raise MarqueError(
            f"--batch-size is {config.batch_size}; {accelerator.num_processes} processes share "
            "it: make it a multiple of that"
        )
    photos = StreamedPhotos(
        stream,
        config.cache_size,
        config.batch_size,
        accelerator.process_index,
        accelerator.num_processes,
    )
    # As if it were alone: each process reads its own photos, none is to be passed on.
    return prepare_data_loader(
        DataLoader(photos, batch_size=None, collate_fn=collate),
        accelerator.device,
        num_processes=1,
        process_index=0,
        put_on_device=True,
        dispatch_batches=False,
    )


class StreamedPhotos(torch.utils.data.IterableDataset):
    """Photos of a stream as batches, as `CachedPhotos` makes them of cached ones.

    No car is looked for: every box is the whole photo.

    The order follows from the stream's seed and the epoch alone. An epoch has the same number of
    batches whatever the stream yields: a stream that ends early begins again. Photos that cannot be
    used are left out, and their number is said at the end of the epoch.

    Attributes:
        skipped: how many photos of this epoch were left out up to now.
    """

    def __init__(
        self,
        stream: Stream,
        size: int,
        batch_size: int,
        process: int = 0,
        processes: int = 1,
    ):
        """Takes the share of one process.

        Args:
            stream: whose training photos they are.
            size: side of the square that photos are squeezed to, in pixels.
            batch_size: photos a step, of which this process has its share.
            process: which process it is, from 0.
            processes: how many share the stream.
        """
        self._stream = stream
        # After the shuffle: all processes have to agree on the order before they share it out.
        self._rows = split_dataset_by_node(stream.train, process, processes)
        self._transform = to_pixels(geometry(size))
        self._batch_size = batch_size // processes
        self._batches = stream.photos // batch_size
        self._whose = f" of process {process + 1} of {processes}" if processes > 1 else ""
        self._epoch = 0
        self.skipped = 0
        self._first_reason = ""

    def set_epoch(self, epoch: int) -> None:
        """Which epoch comes next, counted from 0."""
        self._epoch = epoch
        self._rows.set_epoch(epoch)

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        self.skipped, self._first_reason = 0, ""
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor() as decoders:
            photos = self._photos(decoders)

            def read() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
                pixels, targets = zip(*islice(photos, self._batch_size), strict=True)
                boxes = torch.tensor([WHOLE] * len(targets))
                return torch.from_numpy(np.stack(pixels)), boxes, torch.tensor(targets)

            waiting = deque(reader.submit(read) for _ in range(min(_AHEAD, self._batches)))
            for number in range(self._batches):
                try:
                    batch = waiting.popleft().result()
                except DataError:
                    raise
                except READ_ERRORS as error:
                    raise DataError(
                        f"--data {self._stream.spec}: its stream broke off ({error}); finished "
                        "epochs are safe: add --resume to go on"
                    ) from error
                if number + _AHEAD < self._batches:
                    waiting.append(reader.submit(read))
                yield batch
        if self.skipped:
            print(
                f"epoch {self._epoch + 1}: {self.skipped} photos{self._whose} could not be used "
                f"and were skipped; the first: {self._first_reason}",
                flush=True,
            )

    def _photos(self, decoders: ThreadPoolExecutor) -> Iterator[tuple[np.ndarray, int]]:
        """Usable photos without end, pass after pass over the stream."""
        while True:
            usable = False
            examples = iter(self._rows)
            while chunk := list(islice(examples, self._batch_size)):
                for photo in decoders.map(self._load, chunk):
                    if isinstance(photo, str):
                        self._first_reason = self._first_reason or photo
                        self.skipped += 1
                    else:
                        usable = True
                        yield photo
            if not usable:
                reason = self._first_reason or "it has fewer photos than there are processes"
                raise DataError(f"--data {self._stream.spec}: no photo can be used: {reason}")

    def _load(self, example: Mapping[str, Any]) -> tuple[np.ndarray, int] | str:
        """A photo's pixels and class, or what is wrong with it."""
        target = self._stream.target_of(example)
        if target is None:
            return "it has no class"
        try:
            content = _content(example[self._stream.columns.image])
            return self._transform(load_photo(content)), target
        except (PhotoError, FileNotFoundError) as error:
            return str(error)


def _content(image: Mapping[str, Any] | None) -> bytes:
    """A photo's file: out of the table, or from where the table says that it lies.

    Raises:
        FileNotFoundError: there is none.
    """
    if image and image["bytes"] is not None:
        return image["bytes"]
    if not image or not image["path"]:
        raise FileNotFoundError("there is no picture in its row")
    with fsspec.open(image["path"], "rb") as file:
        return file.read()
