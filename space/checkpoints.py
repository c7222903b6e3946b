"""A checkpoint is a Hub repository on disk: written here, found here, opened strictly here.

    config.json        architecture, label names, preprocessing (timm's `pretrained_cfg`, and
                       `car_crop`: how the car is cut out of a photo first)
    model.safetensors  the weights, under timm's own names
    classes.txt        one label a line, in the order of the network's outputs
    training.json      how it was made
    calibration.json   how sure its answers may be, if measured: see `space.calibration`
    gate.safetensors   what it rejects, likewise: see `space.gate`
    model.onnx         the network's graph for ONNX Runtime, if exported: see `space.network`
    metrics.json       what was measured on test photos, if it was
    README.md          the card that the Hub shows, and figures/ with what it shows

timm (`local-dir:` and `hf-hub:`) and transformers (`pipeline`) open the same folder.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from space.errors import CheckpointError
from space.labels import Car
from space.preprocessing import CarCrop
from space.schema import (
    CLASSES,
    CONFIG,
    check_model_args,
    read_car_crop,
    read_cars,
    read_data_config,
    read_json,
    read_labels,
)

BUNDLED = Path(__file__).parent / "checkpoint"

WEIGHTS = "model.safetensors"
TRAINING = "training.json"
METRICS = "metrics.json"
CALIBRATION = "calibration.json"
GRAPH = "model.onnx"
MEMORY = "memory.safetensors"
# What people read: the card, written from the JSON files, and the figures that it shows.
CARD = "README.md"
FIGURES = "figures"
# What the card tells of; its head has their hashes.
CARD_SOURCES = (CONFIG, TRAINING, METRICS, CALIBRATION)
REQUIRED = (CONFIG, WEIGHTS, CLASSES, TRAINING)
# All that a recognizer reads of a repository; what people read stays on the Hub.
SERVING_FILES = (*REQUIRED, GRAPH, CALIBRATION, "gate.safetensors", MEMORY)
# What calibration.json names by hash beside the weights, so that no change goes unnoticed.
SEALED = (CONFIG, CLASSES, GRAPH, "gate.safetensors", MEMORY)

# Formats that can hold code. Marque never opens them, and says so rather than passing them over.
_PICKLE_SUFFIXES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}
REVISION = re.compile(r"[\w./-]+")
_HUB_SOURCE = re.compile(rf"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>{REVISION.pattern}))?")


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint.

    Attributes:
        labels: one name for each output of the network.
        cars: the make, model and year that each label means.
        data_config: timm's preprocessing keys: input_size (3, height, width), interpolation,
            crop_pct, crop_mode, mean, std.
        car_crop: how the car is cut out of a photo before that; None looks at the whole photo.
        folder: where it lies on this disk.
        source: how the user named it: a folder, `org/name`, `org/name@revision`, or "bundled".
        revision: the commit on the Hub, or for a folder "sha256:" and the start of the hash of
            its weights.
        config: what its config.json holds.
    """

    labels: tuple[str, ...]
    cars: tuple[Car, ...]
    data_config: dict[str, Any]
    car_crop: CarCrop | None
    folder: Path
    source: str
    revision: str
    config: Mapping[str, Any]

    @property
    def has_graph(self) -> bool:
        """Whether it answers without PyTorch."""
        return (self.folder / GRAPH).is_file()

    @cached_property
    def model(self) -> Any:
        """The network in evaluation mode, float32, weights loaded; built when it is asked for.

        Raises:
            CheckpointError: it cannot be built, the weights do not fit it, or PyTorch is not
                installed.
        """
        try:
            from space.pytorch import load_network
        except ModuleNotFoundError as error:
            raise CheckpointError(
                f"{self.source} needs PyTorch here ({error}): install requirements-train.txt"
                + (
                    ""
                    if self.has_graph
                    else f", or have its {GRAPH} written where PyTorch is, by "
                    "`python -m trainer.export`"
                )
            ) from None
        return load_network(self.folder, self.config, len(self.labels))


def checkpoint_of(run: Path) -> Path:
    """The checkpoint folder of a run; a checkpoint folder is its own."""
    return run / "checkpoint" if (run / "checkpoint").is_dir() else run


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def open_checkpoint(source: str | Path | None = None) -> Checkpoint:
    """Finds a checkpoint and opens it, refusing anything that is not exactly right.

    Args:
        source: a folder, `org/name` or `org/name@revision` on the Hub, or None for the bundled
            default.

    Raises:
        CheckpointError: not found, not reachable, a part is missing, labels that do not fit the
            network's head, tensors missing, left over or of the wrong shape, a pickle file.
    """
    folder, commit = _find(source)
    _refuse_pickles(folder)
    for name in REQUIRED:
        if not (folder / name).is_file():
            raise CheckpointError(f"the checkpoint {source or folder} has no {name}")
    config = read_json(folder / CONFIG)
    labels = read_labels(folder, config)
    data_config = read_data_config(folder, config)
    check_model_args(folder, config)
    checkpoint = Checkpoint(
        labels=labels,
        cars=read_cars(folder, config, labels),
        data_config=data_config,
        car_crop=read_car_crop(folder, config),
        folder=folder,
        source="bundled" if source is None else str(source),
        revision=commit or f"sha256:{file_hash(folder / WEIGHTS)[:12]}",
        config=config,
    )
    if not checkpoint.has_graph:
        checkpoint.model  # noqa: B018 - refused here rather than at the first photo
    return checkpoint


def read_license(folder: Path) -> str:
    """The license of a checkpoint's weights, as the Hub calls it; "" where it names none."""
    config = read_json(folder / CONFIG)
    return str(config["pretrained_cfg"].get("license") or "")


def file_hash(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find(source: str | Path | None) -> tuple[Path, str | None]:
    """The checkpoint's folder and, if it came from the Hub, its commit."""
    if source is None:
        return BUNDLED, None
    folder = Path(source)
    if folder.is_dir():
        return folder, None
    neither = CheckpointError(
        f"there is no folder {source}, and it is not a Hub repository "
        "(org/name or org/name@revision) either"
    )
    match = _HUB_SOURCE.fullmatch(str(source))
    if match:
        from space import hub  # slow to import, and a folder does not need it

        snapshot = hub.find(str(source), match["repo"], match["revision"])
        if snapshot:
            return snapshot, snapshot.name
    raise neither


def _refuse_pickles(folder: Path) -> None:
    for path in sorted(folder.glob("*")):
        if path.suffix.lower() in _PICKLE_SUFFIXES:
            raise CheckpointError(
                f"{path} is a pickle file, which can run code when opened; "
                f"remove it, the weights belong in {WEIGHTS}"
            )
