"""From the command line and a recipe to the settings of a run, refused where they contradict."""

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import Field, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from space.errors import DataError, MarqueError
from space.walk import user_path
from trainer.data.source import Columns
from trainer.data.splits import Scheme
from trainer.training.settings import (
    MARGIN_HEADS,
    AugmentationSettings,
    DataSettings,
    LossSettings,
    MachineSettings,
    NetworkSettings,
    RunSettings,
    ScheduleSettings,
)
from trainer.weights import RANDOM

RECIPES = Path(__file__).parent.parent / "recipes"


@dataclass(frozen=True, kw_only=True)
class TrainConfig(
    RunSettings,
    DataSettings,
    NetworkSettings,
    ScheduleSettings,
    LossSettings,
    AugmentationSettings,
    MachineSettings,
):
    """All settings of a run; contradictions are refused at construction."""

    def __post_init__(self) -> None:
        self._check_values()
        self._check_that_nothing_contradicts()

    def _check(self, ok: bool, name: str, rule: str) -> None:
        if not ok:
            raise MarqueError(f"{option_of(name)} is {getattr(self, name)}; {rule}")

    def _check_values(self) -> None:
        check = self._check
        if not self.data:
            raise MarqueError("--data is missing; give at least one dataset")
        for name in (
            *("epochs", "batch_size", "accumulate", "decay_epochs"),
            *("stream_buffer", "stream_validation"),
        ):
            check(getattr(self, name) >= 1, name, "it must be at least 1")
        for name in ("train_size", "test_size", "cache_size"):
            check(getattr(self, name) >= 32, name, "it must be at least 32 pixels")
        for name in ("warmup", "label_smoothing", "dropout", "drop_path", "ema"):
            check(0 <= getattr(self, name) < 1, name, "it must be at least 0 and below 1")
        for name in ("lr", "head_lr_factor", "margin_scale", "teacher_temperature"):
            check(getattr(self, name) > 0, name, "it must be above 0")
        for name in ("crop_area", "layer_decay", "top_share"):
            check(0 < getattr(self, name) <= 1, name, "it must be above 0 and at most 1")
        for name in (
            *("flip", "grey", "blur", "jpeg", "downscale", "erase", "shrink", "backgrounds"),
            "loose",
            *("mix_share", "teacher_share"),
        ):
            check(0 <= getattr(self, name) <= 1, name, "it must be between 0 and 1")
        for name in (
            *("mixup", "cutmix", "weight_decay", "clip", "aspect", "rotate", "focal", "margin"),
            *("level_loss", "patience", "plateau_patience", "head_epochs", "top_epochs"),
            "stream_photos",
        ):
            check(getattr(self, name) >= 0, name, "it must not be negative")
        check(0 <= self.color < 1, "color", "it must be at least 0 and below 1")
        for item in fields(self):
            choices = item.metadata["choices"]
            if choices:
                value = getattr(self, item.name)
                check(value in choices, item.name, f"it is one of {', '.join(choices)}")
        widths = self.hidden.split("-")
        check(
            all(width.isdecimal() and int(width) for width in widths),
            "hidden",
            "write widths as in 2048-1024",
        )

    def _check_that_nothing_contradicts(self) -> None:
        check = self._check
        check(
            self.start_size == 0 or 32 <= self.start_size <= self.train_size,
            "start_size",
            f"it must be 0 or between 32 and --train-size ({self.train_size})",
        )
        try:
            scheme = self.scheme
        except DataError as error:
            raise MarqueError(f"--split: {error}") from None
        check(scheme.validation > 0, "split", "the epoch is chosen on validation photos")
        mixes = bool(self.mixup or self.cutmix)
        check(
            not mixes or self.batch_size % 2 == 0,
            "batch_size",
            "mixup and CutMix need pairs: make it even",
        )
        check(
            self.head not in MARGIN_HEADS or not mixes,
            "head",
            "a margin needs one class a photo: leave out --mixup and --cutmix",
        )
        check(
            self.head not in MARGIN_HEADS or not self.focal,
            "head",
            "a margin and a focal loss both re-weigh hard photos: leave out --focal",
        )
        check(
            not (self.class_weights and self.balanced),
            "class_weights",
            "--balanced makes up for rare classes already: choose one of the two",
        )
        for name in ("teacher_share", "teacher_temperature"):
            check(
                bool(self.teacher) or getattr(self, name) == getattr(LossSettings, name),
                name,
                "nothing is distilled without a --teacher: give its checkpoint",
            )
        check(
            self.head_epochs + self.top_epochs < self.epochs,
            "head_epochs",
            f"with --top-epochs {self.top_epochs} no epoch of {self.epochs} trains all layers",
        )
        from_noise = self.weights == RANDOM
        for name in ("head_epochs", "top_epochs", "freeze_norm"):
            check(
                not (from_noise and getattr(self, name)),
                name,
                f"with --weights {RANDOM} the frozen layers would stay noise",
            )
        check(
            not self.patience or self.schedule in ("constant", "plateau", "step"),
            "patience",
            f"--schedule {self.schedule} learns most in its last epochs, which stopping early "
            "would leave out: take constant, step or plateau, or no patience",
        )
        self._check_that_nothing_contradicts_the_stream()

    def _check_that_nothing_contradicts_the_stream(self) -> None:
        check = self._check
        check(not (self.stream and self.car_crop), "car_crop", "a --stream is seen as whole photos")
        check(self.stream or not self.stream_photos, "stream_photos", "it is for --stream alone")
        if not self.stream:
            return
        location = self.data[0].partition("=")[2]
        check(
            len(self.data) == 1 and ":" not in location.removeprefix("hub:"),
            "data",
            "--stream reads one dataset of the Hub, or one folder of Parquet files",
        )
        check(
            not self.split_file and self.split == DataSettings.split,
            "split_file" if self.split_file else "split",
            "--stream keeps the parts that a dataset has: leave out one of the two",
        )
        for name in ("balanced", "class_weights"):
            check(
                not getattr(self, name),
                name,
                "how frequent a class of a --stream is, only a pass over all photos would tell: "
                "leave out one of the two",
            )

    @property
    def scheme(self) -> Scheme:
        """How photos are split without a split file."""
        return Scheme.parse(self.split)

    @property
    def columns(self) -> Columns:
        """Where a Hub dataset keeps pictures and classes."""
        return Columns(self.image_column, self.label_column)

    def as_json(self) -> dict[str, Any]:
        """The settings that make the run what it is: not where it lies, nor whether it resumes."""
        settings = asdict(self)
        for name in ("out", "cache", "resume", "graph", "tracker"):
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


GROUPS: tuple[type[Any], ...] = TrainConfig.__bases__


def option_of(name: str) -> str:
    """The command-line option of a field."""
    return "--" + name.replace("_", "-")


def read_recipe(name: str) -> dict[str, Any]:
    """The settings that a recipe makes.

    Args:
        name: of a file in `trainer/recipes`, or a path that ends in .toml.

    Raises:
        MarqueError: there is none, it is not TOML, or a key is no setting or of another type.
    """
    path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except OSError:
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise MarqueError(
            f"--recipe is {name}; there is no {path.name} (known recipes: {known})"
        ) from None
    except ValueError as error:
        raise MarqueError(f"--recipe is {name}; {path} is not TOML: {error}") from None
    by_name = {item.name: item for item in fields(TrainConfig)}
    values = {}
    for key, value in settings.items():
        if key not in by_name or key in ("out", "recipe", "resume"):
            raise MarqueError(f"{path}: {key} = {value!r} is not a setting that a recipe can make")
        values[key] = _from_toml(path, by_name[key], value)
    return values


def _from_toml(path: Path, item: Field, value: Any) -> Any:
    if item.name == "data" and isinstance(value, list):
        return tuple(str(spec) for spec in value)
    kind = _kind(item)
    if kind is user_path and isinstance(value, str):
        return user_path(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise MarqueError(f"{path}: {item.name} is {value!r}; it should be a {kind.__name__}")
    return value


def _kind(item: Field) -> Any:
    return user_path if item.type in (Path, Path | None) else item.type


def build_parser() -> argparse.ArgumentParser:
    """The command line: an option a setting, in their groups."""
    parser = argparse.ArgumentParser(
        prog="accelerate launch trainer/train.py",
        usage="%(prog)s --data NAME=LOCATION --out RUN [--recipe NAME] [options]",
        description="Trains a car recognizer and writes its checkpoint to OUT/checkpoint.",
    )
    # What is not given stays out of the result, so that a recipe can stand in for it.
    for group in GROUPS:
        section = parser.add_argument_group(str(group.__doc__).rstrip(".").lower())
        for item in fields(group):
            _add_option(section, item)
    return parser


def _add_option(section: Any, item: Field) -> None:
    text = item.metadata["help"].replace("%", "%%")
    name, given = option_of(item.name), argparse.SUPPRESS
    if item.name == "data":
        section.add_argument(
            name, action="append", default=given, metavar="NAME=LOCATION", help=text
        )
    elif item.type is bool:
        action = argparse.BooleanOptionalAction
        section.add_argument(name, action=action, default=given, help=text)
    else:
        shown = "" if item.default in (None, "", Path()) else f" (default: {item.default})"
        section.add_argument(
            name,
            type=_kind(item),
            choices=item.metadata["choices"] or None,
            required=item.name == "out",
            default=given,
            help=text + shown,
        )


def parse_config(arguments: Sequence[str] | None = None) -> TrainConfig:
    """Reads the command line; wrong usage prints why and exits with 2."""
    parser = build_parser()
    given = vars(parser.parse_args(arguments))
    if "data" in given:
        given["data"] = tuple(given["data"])
    try:
        return TrainConfig(**_with_recipe(given))
    except MarqueError as error:
        parser.error(str(error))


def _with_recipe(given: Mapping[str, Any]) -> dict[str, Any]:
    recipe = given.get("recipe", "")
    return {**(read_recipe(recipe) if recipe else {}), **given}
