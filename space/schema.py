"""What the files of a checkpoint may hold, checked before anything is made of it.

Whoever opens a checkpoint of somebody else should get an answer or a line that says what is wrong:
numbers are finite and in their ranges, names are from a list, counts have limits, and every file is
a plain one.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from space.errors import CheckpointError
from space.labels import Car, parse_label
from space.preprocessing import CarCrop
from space.transforms import DATA_KEYS, FILTERS

CONFIG, CLASSES = "config.json", "classes.txt"

MAX_CLASSES = 20_000
MAX_BYTES = 64_000_000  # of a file of text
MAX_SIDE = 1024  # pixels of a network's input
CROP_MODES = ("center", "squash", "border")
# Arguments of `timm.create_model` that are not the network's own, but name files or what is built.
_NOT_OF_THE_NETWORK = frozenset(
    "cache_dir checkpoint_path exportable features_only kwargs_filter no_jit num_classes "
    "pretrained pretrained_cfg pretrained_cfg_overlay pretrained_filter_fn pretrained_strict "
    "scriptable".split()
)


def read_bytes(path: Path) -> bytes:
    """A file of text, undecoded.

    Raises:
        CheckpointError: it is no plain file, cannot be read or is too large.
    """
    try:
        if not path.is_file():  # a pipe would be waited for, for ever
            raise CheckpointError(f"{path} is missing, or not a file")
        if path.stat().st_size > MAX_BYTES:
            raise CheckpointError(f"{path} is larger than {MAX_BYTES / 1e6:.0f} MB")
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object.

    Raises:
        CheckpointError: it does not.
    """
    try:
        content = json.loads(read_bytes(path).decode("utf-8"))
    except CheckpointError:
        raise
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} should hold one JSON object")
    return content


def read_labels(folder: Path, config: dict[str, Any]) -> tuple[str, ...]:
    """The labels, which stand in two files alike.

    Raises:
        CheckpointError: they differ, are blank or stand twice, or are too many.
    """
    try:
        labels = tuple(read_bytes(folder / CLASSES).decode("utf-8").splitlines())
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{folder / CLASSES} is not UTF-8 text: {error}") from None
    if not labels or not all(label.strip() for label in labels):
        raise CheckpointError(f"{folder / CLASSES} is empty or has a blank line")
    if len(labels) > MAX_CLASSES:
        raise CheckpointError(
            f"{folder / CLASSES} names {len(labels)} classes; {MAX_CLASSES} are the most"
        )
    if len(set(labels)) < len(labels):
        twice = sorted(label for label, count in Counter(labels).items() if count > 1)
        raise CheckpointError(f"{folder / CLASSES} names a class twice: {', '.join(twice)}")
    if list(labels) != config.get("label_names"):
        raise CheckpointError(
            f"{folder}: {CLASSES} and label_names in {CONFIG} differ; "
            "they must list the same labels in the same order"
        )
    if config.get("num_classes") != len(labels):
        raise CheckpointError(
            f"{folder}: {CONFIG} speaks of {config.get('num_classes')} classes, "
            f"but {len(labels)} labels are listed"
        )
    return labels


def read_cars(folder: Path, config: dict[str, Any], labels: Sequence[str]) -> tuple[Car, ...]:
    """What the labels mean; a checkpoint of another maker does not say, and its labels must do.

    Raises:
        CheckpointError: they are not make, model and year of each label.
    """
    if "cars" not in config:
        return tuple(parse_label(label) for label in labels)
    try:
        cars = tuple(Car(str(make), str(model), year) for make, model, year in config["cars"])
    except (TypeError, ValueError):
        cars = ()
    if len(cars) != len(labels) or not all(
        car.make and (car.year is None or (type(car.year) is int and 1800 <= car.year <= 2100))
        for car in cars
    ):
        raise CheckpointError(
            f"{folder / CONFIG}: cars must list make, model and year (a number or null) of each of "
            f"the {len(labels)} labels"
        )
    return cars


def read_data_config(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """How a photo becomes numbers: `DATA_KEYS` of timm's pretrained_cfg.

    Raises:
        CheckpointError: one is missing, or out of its range.
    """
    found = config.get("pretrained_cfg")
    if not isinstance(found, dict):
        raise CheckpointError(f"{folder / CONFIG} has no pretrained_cfg")
    missing = [key for key in DATA_KEYS if key not in found]
    if missing:
        raise CheckpointError(f"{folder / CONFIG}: pretrained_cfg lacks {', '.join(missing)}")
    size = found["input_size"]
    checks = {
        f"input_size must be 3, height and width, up to {MAX_SIDE} pixels": (
            isinstance(size, (list, tuple))
            and len(size) == 3
            and all(type(side) is int and 1 <= side <= MAX_SIDE for side in size)
            and size[0] == 3
        ),
        f"interpolation must be one of {', '.join(sorted(FILTERS))}": (
            isinstance(found["interpolation"], str) and found["interpolation"] in FILTERS
        ),
        "crop_pct must be a share above 0.1, up to 1": (
            is_number(found["crop_pct"]) and 0.1 < found["crop_pct"] <= 1
        ),
        f"crop_mode must be one of {', '.join(CROP_MODES)}": found["crop_mode"] in CROP_MODES,
        "mean must be three numbers from -10 to 10": _three(found["mean"], -10, 10),
        "std must be three numbers from 0.001 to 10": _three(found["std"], 0.001, 10),
    }
    for rule, holds in checks.items():
        if not holds:
            raise CheckpointError(f"{folder / CONFIG}: pretrained_cfg: {rule}")
    return {key: found[key] for key in DATA_KEYS} | {"input_size": tuple(size)}


def check_model_args(folder: Path, config: Mapping[str, Any]) -> None:
    """Looks at what goes to `timm.create_model` beside the architecture.

    Raises:
        CheckpointError: an argument is not the network's own, such as a file to open, or is no
            plain value.
    """
    arguments = config.get("model_args") or {}
    if not isinstance(arguments, dict):
        raise CheckpointError(f"{folder / CONFIG}: model_args should be one JSON object")
    for name, value in arguments.items():
        values = value if isinstance(value, list) else [value]
        plain = all(isinstance(one, str | bool) or one is None or is_number(one) for one in values)
        if name in _NOT_OF_THE_NETWORK or not plain:
            raise CheckpointError(f"{folder / CONFIG}: model_args may not have {name} = {value!r}")


def read_car_crop(folder: Path, config: dict[str, Any]) -> CarCrop | None:
    """How cars are cut out of photos, or None.

    Raises:
        CheckpointError: it is neither.
    """
    found = config.get("car_crop")
    if found is None:
        return None
    try:
        return CarCrop(**found)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f'{folder / CONFIG}: car_crop must be {{"margin": a number from 0 to 1}}, or be left '
            f"out to look at whole photos ({error})"
        ) from None


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a finite number."""
    whole = isinstance(value, int | float) and not isinstance(value, bool)
    return whole and abs(value) < 1e300 and math.isfinite(value)


def _three(values: Any, least: float, most: float) -> bool:
    return (
        isinstance(values, list | tuple)
        and len(values) == 3
        and all(is_number(value) and least <= value <= most for value in values)
    )
