"""The settings of a training run: each field is an option of the command line."""

import argparse
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from trainer.source import Columns, DataError
from trainer.splits import Scheme
from trainer.weights import AUTO, RANDOM


class ConfigError(ValueError):
    """A setting is wrong or two contradict; the message names field and value."""


def _option(help: str, **kwargs):
    return field(metadata={"help": help}, **kwargs)


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a run; contradictions are refused at construction."""

    data: tuple[str, ...] = _option(
        "a data set, NAME=LOCATION, or NAME alone for the folder of that name in MARQUE_DATA; a "
        "folder, zip, CSV of addresses, Hub id or kaggle:OWNER/DATASET; may be given several times"
    )
    out: Path = _option("the run's folder; its checkpoint/ is what gets published")
    model: str = _option("any timm network", default="tf_efficientnet_lite0")
    weights: str = _option(
        f"starting weights: {AUTO} (ImageNet, from the Hub or an installed package), a "
        f".safetensors or .pth file, a checkpoint folder to go on from, or {RANDOM} to train from "
        "noise",
        default=AUTO,
    )
    resume: bool = _option("go on with the run in --out where it stopped", default=False)

    image_column: str = _option("the column of pictures in a Hub data set", default="image")
    label_column: str = _option("the column of classes in a Hub data set", default="label")
    split_file: Path | None = _option(
        "use this split instead of dealing a new one (CSV source,path,label,split,group)",
        default=None,
    )
    split: str = _option(
        "how photos are dealt without --split-file: training/validation/test in percent "
        "(70/15/15), training/test (90/10), official, or a fold (fold:2/5)",
        default="80/10/10",
    )
    keep_non_exteriors: bool = _option(
        "train on photos that show no car from outside too", default=False
    )
    seed: int = _option("for the split, the order of photos and the augmentation", default=0)

    epochs: int = _option("times through the training photos", default=16)
    batch_size: int = _option("photos a step, over all processes", default=64)
    train_size: int = _option("side of the square in training, in pixels", default=160)
    start_size: int = _option(
        "side in the first epoch, growing to --train-size over the first half of the "
        "run (progressive resizing); 0 for --train-size throughout",
        default=0,
    )
    test_size: int = _option("side of the square in use and validation, in pixels", default=224)
    cache_size: int = _option("side of the cached photos that training crops from", default=256)

    lr: float = _option("peak learning rate of the pretrained layers (AdamW)", default=8e-4)
    head_lr_factor: float = _option("the new head learns this many times faster", default=4.0)
    warmup: float = _option("share of all steps over which the rate rises", default=0.15)
    weight_decay: float = _option("of matrices and kernels, not of biases and norms", default=0.05)
    label_smoothing: float = _option("0 trains on hard labels", default=0.1)
    mixup: float = _option(
        "alpha of mixup, which blends two photos and their labels (0.2 is usual); 0 for none",
        default=0.0,
    )
    cutmix: float = _option(
        "alpha of CutMix, which pastes a part of one photo into another (1 is usual); 0 for none",
        default=0.0,
    )
    mix_share: float = _option("share of batches that mixup or CutMix mixes", default=0.5)
    shrink: float = _option(
        "share of photos that are put small into a larger frame, for cars that fill a part of "
        "the photo only",
        default=0.0,
    )
    dropout: float = _option("before the head", default=0.2)
    ema: float = _option(
        "decay of the averaged weights that are kept; 0 keeps the raw ones", default=0.998
    )
    clip: float = _option("largest gradient norm; 0 for no limit", default=5.0)
    accumulate: int = _option("batches whose gradients are summed before a step", default=1)
    precision: str = _option("fp32, bf16 or fp16", default="fp32")
    cache: Path = _option("where decoded photos are kept", default=Path(".cache/photos"))

    def __post_init__(self):
        def check(ok: bool, name: str, rule: str) -> None:
            if not ok:
                option = "--" + name.replace("_", "-")
                raise ConfigError(f"{option} is {getattr(self, name)}; {rule}")

        check(bool(self.data), "data", "give at least one data set")
        for name in ("epochs", "batch_size", "accumulate"):
            check(getattr(self, name) >= 1, name, "it must be at least 1")
        for name in ("train_size", "test_size", "cache_size"):
            check(getattr(self, name) >= 32, name, "it must be at least 32 pixels")
        check(
            self.start_size == 0 or 32 <= self.start_size <= self.train_size,
            "start_size",
            f"it must be 0 or between 32 and --train-size ({self.train_size})",
        )
        try:
            scheme = self.scheme
        except DataError as error:
            raise ConfigError(f"--split: {error}") from None
        check(scheme.validation > 0, "split", "the epoch is chosen on validation photos")
        for name in ("warmup", "label_smoothing", "dropout", "ema"):
            check(0 <= getattr(self, name) < 1, name, "it must be at least 0 and below 1")
        for name in ("lr", "head_lr_factor"):
            check(getattr(self, name) > 0, name, "it must be above 0")
        for name in ("mix_share", "shrink"):
            check(0 <= getattr(self, name) <= 1, name, "it must be between 0 and 1")
        for name in ("mixup", "cutmix", "weight_decay", "clip"):
            check(getattr(self, name) >= 0, name, "it must not be negative")
        check(
            not (self.mixup or self.cutmix) or self.batch_size % 2 == 0,
            "batch_size",
            "mixup and CutMix need pairs: make it even",
        )
        check(self.precision in ("fp32", "bf16", "fp16"), "precision", "it is fp32, bf16 or fp16")

    @property
    def scheme(self) -> Scheme:
        """How photos are dealt without a split file."""
        return Scheme.parse(self.split)

    @property
    def columns(self) -> Columns:
        """Where a Hub data set keeps pictures and classes."""
        return Columns(self.image_column, self.label_column)

    def as_json(self) -> dict[str, Any]:
        """The settings that make the run what it is: not where it lies, nor whether it resumes."""
        settings = asdict(self)
        for name in ("out", "cache", "resume"):
            del settings[name]
        settings["data"] = list(self.data)
        settings["split_file"] = self.split_file and str(self.split_file)
        return settings

    def size_at(self, epoch: int) -> int:
        """The training side of an epoch counted from 0, a multiple of 32 until the last size."""
        growing = max(1, round(self.epochs / 2))
        if not self.start_size or epoch >= growing:
            return self.train_size
        size = self.start_size + (self.train_size - self.start_size) * epoch / growing
        return max(self.start_size, min(self.train_size, int(size) // 32 * 32))


def parse_config(arguments: Sequence[str] | None = None) -> TrainConfig:
    """Reads the command line; wrong usage prints why and exits with 2."""
    parser = argparse.ArgumentParser(
        prog="accelerate launch trainer/train.py",
        description="Trains a car recogniser and writes its checkpoint to OUT/checkpoint.",
    )
    for item in fields(TrainConfig):
        option = "--" + item.name.replace("_", "-")
        if item.name == "data":
            parser.add_argument(
                option,
                action="append",
                required=True,
                metavar="NAME=SOURCE",
                help=item.metadata["help"],
            )
        elif item.type is bool:
            parser.add_argument(option, action="store_true", help=item.metadata["help"])
        else:
            required = item.default is MISSING
            shown = "" if required or item.default is None else " (default: %(default)s)"
            kind = Path if item.type == Path | None else item.type
            parser.add_argument(
                option,
                type=kind,
                required=required,
                default=None if required else item.default,
                help=item.metadata["help"] + shown,
            )
    values = vars(parser.parse_args(arguments))
    values["data"] = tuple(values["data"])
    try:
        return TrainConfig(**values)
    except ConfigError as error:
        parser.error(str(error))
