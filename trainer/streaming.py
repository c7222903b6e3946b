"""Training on a data set that is larger than the disk: photos are read as they are needed.

What stays on this machine are the photos that judge the epochs, in a `PhotoCache`. All others go
from the Hub through a buffer of undecoded photos, from which the next is drawn at random, into a
batch, and are forgotten.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from datasets import ClassLabel, Dataset, Image, IterableDataset
from datasets.distributed import split_dataset_by_node
from huggingface_hub import HfApi
from torch.utils.data import DataLoader

from space.photos import PhotoError, load_photo
from space.transforms import to_pixels
from trainer.cache import CachedPhotos, PhotoCache, collate, geometry
from trainer.classes import Classes, unite
from trainer.config import ConfigError, TrainConfig
from trainer.names import car_of
from trainer.source import OFFICIAL, Columns, DataError, Source, features
from trainer.sources import locate
from trainer.sources.hub import READ_ERRORS, check_columns, open_parts, spelled

_AHEAD = 2  # batches that are read and decoded while the network is busy with another
_CHUNK = 256  # validation photos held at once
_VALIDATION_SEED = 0  # the same photos judge every run, whatever its seed


@dataclass(frozen=True)
class Stream:
    """A data set that is opened and not read yet.

    Attributes:
        spec: how the command line calls it.
        location: its Hub id, or its folder.
        revision: the commit that is read; None for a folder.
        classes: what the network's outputs mean.
        targets: for each of the data set's own class numbers the number among `classes`.
        train, validation: undecoded photos with their class numbers, shuffled.
        parts: what the data set calls its parts that are used for "train" and "validation".
        photos: photos an epoch.
        columns: where the rows have photo and class.
    """

    spec: str
    location: str
    revision: str | None
    classes: Classes
    targets: tuple[int, ...]
    train: IterableDataset
    validation: IterableDataset
    parts: dict[str, str]
    photos: int
    columns: Columns

    def target_of(self, row: Mapping[str, Any]) -> int | None:
        """The class of a row; None for a row without one, as -1 is written for."""
        number = row[self.columns.label]
        return None if number is None or number < 0 else self.targets[number]

    @property
    def summary(self) -> str:
        """What is streamed and what a stream cannot do, for the start of a run."""
        revision = f" at {self.revision}" if self.revision else ""
        return (
            f"streaming {self.location}{revision}: {self.photos} photos an epoch of "
            f"{self.parts['train']!r}, {len(self.classes.labels)} classes, judged on "
            f"{self.parts['validation']!r}\n"
            "copies of photos cannot be found in a stream; whether the parts share some, and how "
            "much too good the results are for that, stays unknown"
        )

    def describe(self, validation: CachedPhotos) -> dict[str, Any]:
        """Which photos a run was made of, for training.json."""
        return {
            "dataset": {
                "streamed": self.location,
                "revision": self.revision,
                "classes": len(self.classes.labels),
            },
            "split": {"train": self.photos, "validation": len(validation), "parts": self.parts},
        }


def open_stream(config: TrainConfig, revision: str | None = None) -> Stream:
    """Opens the data set of a run with `--stream`.

    Args:
        revision: the commit to read; None for the newest.

    Raises:
        DataError: it cannot be opened, its classes have no names, or a part or its size is missing.
    """
    (spec,) = config.data
    name, adapter, location = locate(spec)
    if adapter != "hub":
        raise DataError(
            f"--data {spec} is no data set of the Hub and no folder of Parquet files; photos that "
            "lie on this disk already need no --stream: leave it out"
        )
    on_hub = not Path(location).is_dir()
    if on_hub and not revision:
        try:
            revision = HfApi().dataset_info(location).sha
        except READ_ERRORS as error:
            raise DataError(f"--data {spec} cannot be loaded: {error}") from error
    parts = open_parts(name, location, streaming=True, revision=revision)
    train = _part(spec, parts, "train")
    validation = _part(spec, parts, "validation", "test")
    columns, found = config.columns, parts[train].features  # all parts are read with the same ones
    check_columns(name, location, found, columns)
    labels = _label_names(spec, found[columns.label])
    texts = list(dict.fromkeys(labels))  # two of its classes may be spelled alike now
    kinds = features(texts)
    nothing = Dataset.from_dict({column: [] for column in kinds}, features=kinds)
    classes = unite([Source(name, nothing, tuple(car_of(text) for text in texts))])
    photos = config.stream_photos or _photos_of(parts[train], train)
    if not photos:
        raise DataError(
            f"--data {spec} does not say how many photos {train!r} has; give --stream-photos, the "
            "number of photos that make an epoch"
        )

    def undecoded(part: str, seed: int) -> IterableDataset:
        # Columns keep their names: renaming would decode every photo and encode it anew.
        table = parts[part].select_columns([columns.image, columns.label])
        table = table.cast_column(columns.image, Image(decode=False))
        return table.shuffle(seed=seed, buffer_size=config.stream_buffer)

    return Stream(
        spec,
        location,
        revision,
        classes,
        tuple(classes.targets[name, text] for text in labels),
        undecoded(train, config.seed),
        undecoded(validation, _VALIDATION_SEED),
        {"train": train, "validation": validation},
        photos,
        columns,
    )


def _part(spec: str, parts: Mapping[str, Any], *wanted: str) -> str:
    """The name of the first part that is what is wanted, in the order of what is wanted."""
    for official in wanted:
        for part in parts:
            if OFFICIAL.get(part) == official:
                return part
    raise DataError(
        f"--data {spec} has no part {' or '.join(map(repr, wanted))}, only "
        f"{', '.join(map(repr, parts))}, and a stream cannot be dealt anew: publish it with one "
        "(`Dataset.train_test_split` makes it), or leave out --stream"
    )


def _label_names(spec: str, label: Any) -> list[str]:
    if not isinstance(label, ClassLabel):
        raise DataError(
            f"--data {spec}: its classes are text, and only a pass over all photos would tell "
            "which there are: publish the column as a ClassLabel "
            "(`Dataset.class_encode_column`), or leave out --stream"
        )
    return [spelled(text) for text in label.names]


def _photos_of(table: IterableDataset, part: str) -> int:
    """How many photos the data set's card says that a part has, or 0."""
    splits = table.info.splits or {}
    return splits[part].num_examples or 0 if part in splits else 0


def keep_validation(stream: Stream, cache: PhotoCache, count: int) -> CachedPhotos:
    """Reads up to `count` validation photos into a cache, the same ones in every process and run.

    Raises:
        DataError: the stream breaks off, or no photo is usable.
    """
    examples = islice(stream.validation, count)
    rows, targets = [], []
    try:
        while chunk := list(islice(examples, _CHUNK)):
            readers = [partial(_content, example[stream.columns.image]) for example in chunk]
            entries = cache.add(readers, "keeping validation photos")
            for entry, example in zip(entries, chunk, strict=True):
                target = stream.target_of(example)
                if entry.row >= 0 and target is not None:
                    rows.append(entry.row)
                    targets.append(target)
    except READ_ERRORS as error:
        raise DataError(f"--data {stream.spec}: its stream broke off: {error}") from error
    if not rows:
        raise DataError(
            f"--data {stream.spec}: no photo of {stream.parts['validation']!r} can be used"
        )
    return CachedPhotos(cache, rows, targets)


def load_streamed(stream: Stream, config: TrainConfig, accelerator: Accelerator) -> Any:
    """The batches of an epoch of streamed photos, for this process alone.

    Returns:
        A prepared loader with `set_epoch`, as long in every process.

    Raises:
        ConfigError: the batch cannot be shared out evenly.
    """
    if config.batch_size % accelerator.num_processes:
        raise ConfigError(
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
    # As if it were alone: each process reads its own photos, none is to be dealt on.
    return prepare_data_loader(
        DataLoader(photos, batch_size=None, collate_fn=collate),
        accelerator.device,
        num_processes=1,
        process_index=0,
        put_on_device=True,
        dispatch_batches=False,
    )


class StreamedPhotos(torch.utils.data.IterableDataset):
    """Photos of a stream as batches: (uint8 pixels (batch, 3, height, width), class indices).

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

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        self.skipped, self._first_reason = 0, ""
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor() as decoders:
            photos = self._photos(decoders)

            def read() -> tuple[torch.Tensor, torch.Tensor]:
                pixels, targets = zip(*islice(photos, self._batch_size), strict=True)
                return torch.stack(pixels), torch.tensor(targets)

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

    def _photos(self, decoders: ThreadPoolExecutor) -> Iterator[tuple[torch.Tensor, int]]:
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

    def _load(self, example: Mapping[str, Any]) -> tuple[torch.Tensor, int] | str:
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
