"""Trains a car recognizer: `accelerate launch trainer/train.py --data NAME=FOLDER --out RUN`.

A run's folder holds

    checkpoint/         what gets published: the best epoch on the validation photos
    resume.safetensors  what --resume goes on from; never published
    split.csv           which photo was trained on, validated on, tested on
    left_out.csv        photos that take no part, and why
    stream.json         which commit of the Hub is read; with --stream, in place of the two tables
    log.csv curves.png  every epoch
"""

import copy
import csv
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

if not __package__:  # run as a script: the repository is the place to import from, not trainer/
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list, set_seed
from accelerate.utils.memory import should_reduce_batch_size

from space.checkpoints import TRAINING, file_hash, write_json
from space.errors import DataError, MarqueError
from space.preprocessing import CarCrop
from trainer.data.boxes import CarBoxes
from trainer.data.cache import CachedPhotos, PhotoCache, geometry
from trainer.data.classes import Classes
from trainer.data.dataset import DataSet, load_data
from trainer.data.splits import TRAIN, VALIDATION, fewest_photos, write_split
from trainer.memory import give_back_freed_memory, keep_freed_memory
from trainer.training.checkpoints import save_checkpoint, write_graph
from trainer.training.config import GROUPS, TrainConfig, parse_config
from trainer.training.curves import write_log
from trainer.training.heads import attach_head, fold_head
from trainer.training.hub_stream import newest_revision, open_stream
from trainer.training.loop import Trainer
from trainer.training.record import describe_run
from trainer.training.sampler import load_cached
from trainer.training.streaming import keep_validation, load_streamed
from trainer.training.trackers import start_tracker, track
from trainer.weights import create_model, license_of, read_teacher

CHECKPOINT = "checkpoint"
RESUME = "resume.safetensors"
SPLIT = "split.csv"
LEFT_OUT = "left_out.csv"
STREAM = "stream.json"
# What is kept around a car, on each side, as a share of its width or height: in use, and for
# training to choose from.
CAR_MARGIN, SURROUNDINGS = 0.05, 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    config = parse_config(arguments)
    # torchrun starts one process per share of the machine, each believing it has all of it.
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // processes))
    try:
        train(config)
    except MarqueError as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"train: stopped. Finished epochs are safe; add --resume to go on with {config.out}",
            file=sys.stderr,
        )
        return 130
    return 0


def train(config: TrainConfig) -> Path:
    """Trains as `config` says and returns the checkpoint's folder.

    Raises:
        DataError, MarqueError, MarqueError, CheckpointError: with a message for the user.
    """
    keep_freed_memory()
    _check_out(config)
    accelerator = build_accelerator(config)
    accelerator.print(_settings(config))
    start_tracker(config, accelerator)
    photos = _stream(config, accelerator) if config.stream else _load(config, accelerator)
    while not _fits_into_memory(config, accelerator, photos):
        config = _halved(config, accelerator)
        accelerator.free_memory()
        give_back_freed_memory()
    if config.graph and accelerator.is_main_process:
        print(write_graph(config.out / CHECKPOINT), flush=True)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return config.out / CHECKPOINT


def build_accelerator(config: TrainConfig) -> Accelerator:
    """What spreads a run over its device and processes."""
    return Accelerator(
        mixed_precision="no" if config.precision == "fp32" else config.precision,
        dataloader_config=DataLoaderConfiguration(split_batches=True),
        # With frozen layers, processes must not wait for gradients that never come.
        kwargs_handlers=[
            DistributedDataParallelKwargs(
                find_unused_parameters=bool(config.head_epochs or config.top_epochs)
            )
        ],
        log_with=None if config.tracker == "none" else config.tracker,
        project_dir=config.out,
    )


@dataclass(frozen=True)
class _Photos:
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


def _load(config: TrainConfig, accelerator: Accelerator) -> _Photos:
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
    return _Photos(
        data.classes,
        torch.bincount(training.targets, minlength=len(data.classes.labels)),
        partial(load_cached, training),
        validation,
        # Only that process keeps them, and only its machine is sure to have the file.
        data.describe(file_hash(config.out / SPLIT)) if accelerator.is_main_process else {},
    )


def _stream(config: TrainConfig, accelerator: Accelerator) -> _Photos:
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
    return _Photos(
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


def _fits_into_memory(config: TrainConfig, accelerator: Accelerator, photos: _Photos) -> bool:
    """Trains; False, with all that the attempt held let go, when there was not enough memory."""
    try:
        _fit(config, accelerator, photos)
    except RuntimeError as error:
        # The second is what oneDNN, which does convolutions on CPUs, says when it gets no memory.
        if should_reduce_batch_size(error) or "could not create a primitive" in str(error):
            return False
        raise
    return True


def _fit(config: TrainConfig, accelerator: Accelerator, photos: _Photos) -> None:
    """Builds the network and trains it, from the last finished epoch if there is one."""
    set_seed(config.seed)
    accelerator.gradient_accumulation_steps = config.accumulate
    classes = photos.classes
    model, weights = create_model(
        config.model,
        len(classes.labels),
        config.weights,
        classes.labels,
        drop_rate=config.dropout,
        **({"drop_path_rate": config.drop_path} if config.drop_path else {}),
    )
    license = license_of(model, config.weights, config.license)
    accelerator.print(f"starting weights: {weights}\nlicence of the checkpoint: {license}")
    attach_head(model, config, classes.cars)
    data_config = geometry(config.test_size) | {
        key: model.pretrained_cfg[key] for key in ("mean", "std")
    }
    teacher = (
        read_teacher(config.teacher, classes.labels, data_config, accelerator.device)
        if config.teacher
        else None
    )
    trainer = Trainer(
        config,
        accelerator,
        model,
        classes,
        data_config,
        photos.loader(config, accelerator),
        photos.validation,
        photos.class_counts,
        teacher,
    )
    if (config.out / RESUME).exists():
        trainer.load_state(config.out / RESUME)
        accelerator.print(f"resuming after epoch {len(trainer.history)}")
    facts: dict[str, Any] = {}
    if accelerator.is_main_process:
        facts = describe_run(
            config, photos.facts, weights, accelerator.num_processes, accelerator.device
        )

    def after_epoch() -> None:
        result, best = trainer.history[-1], trainer.best
        training = {**facts, "best_epoch": asdict(best), "cost": trainer.cost}
        if result is best:
            _replace_checkpoint(config, trainer, classes, data_config, training, license)
        else:  # the epochs after the best one were paid for too
            unfinished = config.out / TRAINING
            write_json(unfinished, training)
            unfinished.replace(config.out / CHECKPOINT / TRAINING)
        write_log(config.out, trainer.history)
        trainer.save_state(config.out / RESUME)
        track(accelerator, result)
        print(
            f"epoch {result.epoch}: training loss {result.train_loss:.3f}, validation top-1 "
            f"{result.validation_top1:.1%}, top-5 {result.validation_top5:.1%}"
            + (" (best so far)" if result is best else ""),
            flush=True,
        )

    trainer.fit(after_epoch)
    if trainer.out_of_patience:
        accelerator.print(
            f"stopped early: no progress in {config.patience} epochs; epoch {trainer.best.epoch} "
            "is kept"
        )


def _halved(config: TrainConfig, accelerator: Accelerator) -> TrainConfig:
    """The same run in half the memory: two batches of half the size for one step.

    Raises:
        MarqueError: it cannot be halved.
    """
    batch = config.batch_size
    # One process that changes its batch while others wait for its gradients would wait for ever.
    if accelerator.num_processes > 1 or batch % 4:
        raise MarqueError(
            f"out of memory with --batch-size {batch}; take --batch-size {max(1, batch // 2)} "
            f"--accumulate {2 * config.accumulate}, which is the same run in less memory, or a "
            "smaller --train-size"
        )
    halved = replace(config, batch_size=batch // 2, accumulate=2 * config.accumulate)
    print(
        f"out of memory: going on with --batch-size {halved.batch_size} "
        f"--accumulate {halved.accumulate}",
        flush=True,
    )
    return halved


def _settings(config: TrainConfig) -> str:
    """All settings after recipe and command line, as a recipe of its own would write them."""
    values = config.as_json()
    return "\n".join(
        f"{item.name} = {json.dumps(values[item.name])}"
        for group in GROUPS
        for item in fields(group)
        if item.name != "recipe" and values.get(item.name) is not None
    )


def _check_out(config: TrainConfig) -> None:
    state = config.out / RESUME
    if config.resume and not state.is_file():
        raise MarqueError(f"nothing to resume: {state} does not exist; leave out --resume")
    if not config.resume and state.exists():
        raise MarqueError(
            f"{config.out} holds a run already; add --resume to go on with it, "
            "or choose another --out"
        )


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


def _replace_checkpoint(
    config: TrainConfig,
    trainer: Trainer,
    classes: Classes,
    data_config: Mapping[str, Any],
    training: Mapping[str, Any],
    license: str,
) -> None:
    """Writes the checkpoint beside the old one and swaps them, so that no reader sees half."""
    target = config.out / CHECKPOINT
    new, old = target.with_suffix(".new"), target.with_suffix(".old")
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    save_checkpoint(
        new,
        fold_head(copy.deepcopy(trainer.kept_model)),
        architecture=config.model,
        model_args={},
        labels=classes.labels,
        cars=classes.cars,
        data_config=data_config,
        training=training,
        license=license,
        car_crop=CarCrop(CAR_MARGIN) if config.car_crop else None,
    )
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
