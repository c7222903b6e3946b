"""Datasets of the Hub that are read as they are used, for `trainer.training.streaming`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, Image, IterableDataset
from huggingface_hub import HfApi

from space.errors import DataError
from space.names import car_of
from trainer.data.classes import Classes, unite
from trainer.data.source import OFFICIAL, Columns, Source, features
from trainer.data.sources import locate
from trainer.data.sources.hub import READ_ERRORS, check_columns, open_parts, spelled
from trainer.training.config import TrainConfig

_VALIDATION_SEED = 0  # the same photos judge every run, whatever its seed


@dataclass(frozen=True)
class Stream:
    """A dataset that is opened and not read yet.

    Attributes:
        spec: how the command line calls it.
        location: its Hub id, or its folder.
        revision: the commit that is read; None for a folder.
        classes: what the network's outputs mean.
        targets: for each of the dataset's own class numbers the number among `classes`.
        train, validation: undecoded photos with their class numbers, shuffled.
        parts: what the dataset calls its parts that are used for "train" and "validation".
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

    def describe(self, validation: int) -> dict[str, Any]:
        """Which photos a run was made of, for training.json, with so many to judge it on."""
        return {
            "dataset": {
                "streamed": self.location,
                "revision": self.revision,
                "classes": len(self.classes.labels),
            },
            "split": {"train": self.photos, "validation": validation, "parts": self.parts},
        }


def newest_revision(config: TrainConfig) -> str | None:
    """The newest commit of the dataset of a run with `--stream`; None for a folder.

    Raises:
        DataError: there is no such dataset, or the Hub cannot be reached.
    """
    spec, _, location = _locate(config)
    if Path(location).is_dir():
        return None
    try:
        return HfApi().dataset_info(location).sha
    except READ_ERRORS as error:
        raise DataError(f"--data {spec} cannot be loaded: {error}") from error


def open_stream(config: TrainConfig, revision: str | None = None) -> Stream:
    """Opens the dataset of a run with `--stream`.

    Args:
        revision: the commit to read, see `newest_revision`.

    Raises:
        DataError: it cannot be opened, its classes have no names, or a part or its size is missing.
    """
    spec, name, location = _locate(config)
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
        # Columns keep their names: renaming would decode every photo and encode it again.
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


def _locate(config: TrainConfig) -> tuple[str, str, str]:
    """The dataset as the command line has it, its name and its location."""
    (spec,) = config.data
    name, adapter, location = locate(spec)
    if adapter != "hub":
        raise DataError(
            f"--data {spec} is neither a dataset of the Hub nor a folder of Parquet files; photos "
            "that lie on this disk already need no --stream: leave it out"
        )
    return spec, name, location


def _part(spec: str, parts: Mapping[str, Any], *wanted: str) -> str:
    """The name of the first part that is what is wanted, in the order of what is wanted."""
    for official in wanted:
        for part in parts:
            if OFFICIAL.get(part) == official:
                return part
    raise DataError(
        f"--data {spec} has no part {' or '.join(map(repr, wanted))}, only "
        f"{', '.join(map(repr, parts))}, and a stream cannot be split again: publish it with one "
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
    """How many photos the dataset's card says that a part has, or 0."""
    splits = table.info.splits or {}
    return splits[part].num_examples or 0 if part in splits else 0
