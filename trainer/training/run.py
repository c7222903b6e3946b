"""A training run, from its settings to its checkpoint."""

import copy
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from accelerate.utils.memory import should_reduce_batch_size

from space.checkpoints import TRAINING, write_json
from space.errors import MarqueError
from space.preprocessing import CarCrop
from trainer.data.cache import geometry
from trainer.data.classes import Classes
from trainer.heap import give_back_freed_memory, keep_freed_memory
from trainer.training.checkpoints import put_in_place, save_checkpoint, write_graph
from trainer.training.config import GROUPS, TrainConfig
from trainer.training.curves import write_log
from trainer.training.heads import attach_head, fold_head
from trainer.training.loop import Trainer
from trainer.training.record import describe_run
from trainer.training.run_photos import CAR_MARGIN, RunPhotos, read_run, stream_run
from trainer.training.trackers import start_tracker, track
from trainer.weights import create_model, license_of, read_teacher

CHECKPOINT = "checkpoint"
RESUME = "resume.safetensors"


def train(config: TrainConfig) -> Path:
    """Trains as `config` says and returns the checkpoint's folder.

    Raises:
        MarqueError: with a message for the user.
    """
    keep_freed_memory()
    _check_out(config)
    accelerator = build_accelerator(config)
    accelerator.print(_settings(config))
    start_tracker(config, accelerator)
    photos = (stream_run if config.stream else read_run)(config, accelerator)
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


def _fits_into_memory(config: TrainConfig, accelerator: Accelerator, photos: RunPhotos) -> bool:
    """Trains; False, with all that the attempt held let go, when there was not enough memory."""
    try:
        _fit(config, accelerator, photos)
    except RuntimeError as error:
        # The second is what oneDNN, which does convolutions on CPUs, says when it gets no memory.
        if should_reduce_batch_size(error) or "could not create a primitive" in str(error):
            return False
        raise
    return True


def _fit(config: TrainConfig, accelerator: Accelerator, photos: RunPhotos) -> None:
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
    accelerator.print(f"starting weights: {weights}\nlicense of the checkpoint: {license}")
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
    new = target.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)  # of a run that was killed
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
    put_in_place(new, target)
