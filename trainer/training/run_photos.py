"""The photos of a run: read and split, or opened as a stream."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from space.checkpoints import file_hash, write_json
from space.errors import DataError, MarqueError
from trainer.data.boxes import CarBoxes
from trainer.data.cache import CachedPhotos, PhotoCache, geometry
from trainer.data.classes import Classes
from trainer.data.dataset import DataSet, load_data
from trainer.data.splits import TRAIN, VALIDATION, fewest_photos, write_split
from trainer.training.config import TrainConfig
from trainer.training.hub_stream import newest_revision, open_stream
from trainer.training.sampler import load_cached
from trainer.training.streaming import keep_validation, load_streamed

SPLIT = "split.csv"
LEFT_OUT = "left_out.csv"
STREAM = "stream.json"
# What is kept around a car, on each side, as a share of its width or height: in use, and for
# training to choose from.
CAR_MARGIN, SURROUNDINGS = 0.05, 0.5


@dataclass(frozen=True)
class RunPhotos:
    """The photos of a run, however they come.

    Attributes:
        classes: what the network's outputs mean.
        class_counts: training photos of each class, shape (classes,); zeros if unknown.
        loader: makes the batches of an epoch, see `load_cached` and `load_streamed`.
        validation: what judges the epochs.
        facts: which photos they are, for training.json.
    """

    classes: Classes
    class_counts: torch.Tensor
    loader: Callable[[TrainConfig, Accelerator], Any]
    validation: CachedPhotos
    facts: dict[str, Any]


def read_run(config: TrainConfig, accelerator: Accelerator) -> RunPhotos:
    """Reads, splits and decodes the photos.

    Raises:
        DataError: see `load_data`, or the split can teach or judge nothing.
    """
    splitting = accelerator.is_main_process and not config.resume
    # One process splits. The others, and a resumed run, take the photos that it split; a split
    # file is split already, so that machines need not share --out.
    assigned = None if splitting else config.out / SPLIT
    split_file = assigned if config.resume else config.split_file or assigned
    with accelerator.main_process_first():
        # Copies are found, and parts of cars left out, by whole photos.
        whole_photos = PhotoCache(config.cache, geometry(config.cache_size))
        boxes = CarBoxes(config.cache) if config.car_crop else None
        training_cache = PhotoCache(
            config.cache, geometry(config.cache_size), boxes, SURROUNDINGS if boxes else 0.0
        )
        serving_cache = PhotoCache(
            config.cache, geometry(config.test_size), boxes, CAR_MARGIN if boxes else 0.0
        )
        data = load_data(
            config.data,
            whole_photos,
            columns=config.columns,
            split_file=split_file,
            scheme=config.scheme,
            seed=config.seed,
            exteriors=not config.keep_non_exteriors,
        )
        _check_parts(config, data)
        if splitting:
            _write_split_and_left_out(config.out, data)
        training = data.cached(training_cache, TRAIN)
        validation = data.cached(serving_cache, VALIDATION)
    accelerator.print(_summary(data))
    return RunPhotos(
        data.classes,
        torch.bincount(training.targets, minlength=len(data.classes.labels)),
        partial(load_cached, training),
        validation,
        # Only that process keeps them, and only its machine is sure to have the file.
        data.describe(file_hash(config.out / SPLIT)) if accelerator.is_main_process else {},
    )


def stream_run(config: TrainConfig, accelerator: Accelerator) -> RunPhotos:
    """Opens a dataset of the Hub that is read as it is used.

    Raises:
        DataError: see `open_stream`.
    """
    revision = [_revision(config) if accelerator.is_main_process else None]
    stream = open_stream(config, *broadcast_object_list(revision))
    accelerator.print(stream.summary)
    with accelerator.main_process_first():
        cache = PhotoCache(config.cache, geometry(config.test_size))
        validation = keep_validation(stream, cache, config.stream_validation)
    classes = stream.classes
    seen = len(validation.targets.unique())
    accelerator.print(
        f"{len(validation)} validation photos, of {seen} of {len(classes.labels)} classes"
    )
    return RunPhotos(
        classes,
        torch.zeros(len(classes.labels), dtype=torch.long),
        partial(load_streamed, stream),
        validation,
        stream.describe(len(validation)),
    )


def _revision(config: TrainConfig) -> str | None:
    """The commit that a run streams: the newest when it begins, and the same when it resumes."""
    note = config.out / STREAM
    if not config.resume:
        revision = newest_revision(config)
        config.out.mkdir(parents=True, exist_ok=True)
        write_json(note, {"revision": revision})
        return revision
    if not note.is_file():
        raise MarqueError(f"{note} is missing: {config.out} holds no run with --stream")
    return json.loads(note.read_text("utf-8"))["revision"]


def _check_parts(config: TrainConfig, data: DataSet) -> None:
    """Refuses before training what could teach or judge nothing."""
    taught = {photo.target for photo in data.photos if photo.split == TRAIN}
    if len(taught) < 2:
        raise DataError(
            f"all photos to train on show one class, {data.classes.labels[min(taught)]!r}, and one "
            "class alone teaches nothing; add another one"
        )
    if not data.sizes[VALIDATION]:
        needed = None if config.split_file else fewest_photos(config.scheme)
        raise DataError(
            "the split leaves no photo for validation, which chooses the epoch; "
            + (
                f"with --split {config.split} a class needs {needed} different photos, and no "
                "class has so many: add photos, or give validation a larger share"
                if needed
                else "give validation a share, as --split 80/10/10 does"
            )
        )


def _summary(data: DataSet) -> str:
    sizes = ", ".join(f"{count} {split}" for split, count in data.sizes.items())
    lines = [f"{len(data.photos)} photos of {len(data.classes.labels)} classes: {sizes}"]
    if left_out := data.left_out:
        first = left_out[0]
        lines.append(
            f"{len(left_out)} photos take no part, all listed in {LEFT_OUT}; "
            f"the first: {first.path} of {first.source}, {first.reason}"
        )
    return "\n".join(lines)


def _write_split_and_left_out(folder: Path, data: DataSet) -> None:
    write_split(folder / SPLIT, data.photos)
    with (folder / LEFT_OUT).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["source", "path", "reason"])
        writer.writerows([(item.source, item.path, item.reason) for item in data.left_out])
