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
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx2
import timm
import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from space import plain_cnn  # noqa: F401  (tells timm of marque_cnn)
from space.heads import MlpHead, replace_classifier
from space.labels import Car, parse_label
from space.preprocessing import CarCrop
from space.transforms import DATA_KEYS

BUNDLED = Path(__file__).parent / "checkpoint"

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CLASSES = "classes.txt"
TRAINING = "training.json"
METRICS = "metrics.json"
LATENCY = "latency.json"
CALIBRATION = "calibration.json"
# What people read: the card, written from the JSON files, and the figures that it shows.
CARD = "README.md"
FIGURES = "figures"
# What the card tells of; its head has their hashes.
TOLD = (CONFIG, TRAINING, METRICS, CALIBRATION, LATENCY)
REQUIRED = (CONFIG, WEIGHTS, CLASSES, TRAINING)
# All that a recogniser reads of a repository; what people read stays on the Hub.
WANTED = (*REQUIRED, "model.onnx", CALIBRATION, "gate.safetensors")

# Formats that can hold code. Marque never opens them, and says so rather than passing them over.
_PICKLE_SUFFIXES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}
REVISION = re.compile(r"[\w./-]+")
_HUB_SOURCE = re.compile(rf"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>{REVISION.pattern}))?")
_PATIENCE = 5  # seconds for the Hub to answer before the local cache does
_LATER = (408, 429)  # its answers to a request that came too slowly, or after too many others

_log = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """A checkpoint cannot be found or opened; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint.

    Attributes:
        model: the network in evaluation mode, float32, weights loaded.
        labels: one name for each output of the network.
        cars: the make, model and year that each label means.
        data_config: timm's preprocessing keys: input_size (3, height, width), interpolation,
            crop_pct, crop_mode, mean, std.
        car_crop: how the car is cut out of a photo before that; None looks at the whole photo.
        folder: where it lies on this disk.
        source: how the user named it: a folder, `org/name`, `org/name@revision`, or "bundled".
        revision: the commit on the Hub, or for a folder "sha256:" and the start of the hash of
            its weights.
    """

    model: Any
    labels: tuple[str, ...]
    cars: tuple[Car, ...]
    data_config: dict[str, Any]
    car_crop: CarCrop | None
    folder: Path
    source: str
    revision: str


def save_checkpoint(
    folder: Path,
    model: Any,
    *,
    architecture: str,
    model_args: Mapping[str, Any],
    labels: Sequence[str],
    cars: Sequence[Car] | None = None,
    data_config: Mapping[str, Any],
    training: Mapping[str, Any],
    car_crop: CarCrop | None = None,
    license: str = "mit",
    dtype: torch.dtype = torch.float16,
) -> None:
    """Writes a checkpoint folder.

    Args:
        folder: created if missing; files of an earlier checkpoint in it are replaced.
        model: a timm network whose head has one output per label.
        architecture: timm's name of the network.
        model_args: further arguments for `timm.create_model`, without `num_classes`.
        labels: names in the order of the outputs.
        cars: what each label means; by default what `parse_label` reads in it.
        data_config: see `Checkpoint.data_config`.
        training: what to keep in training.json.
        car_crop: see `Checkpoint.car_crop`.
        license: of the weights, as the Hub calls it.
        dtype: of the floating-point weights in the file.

    Raises:
        CheckpointError: a weight is not finite, or does not fit `dtype`.
    """
    head = model.get_classifier()
    tensors = {}
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor = tensor.to(dtype)
            if not tensor.isfinite().all():
                raise CheckpointError(
                    f"the tensor {name} holds values that are not finite as {dtype}; "
                    "the training diverged, or the values need a wider type"
                )
        tensors[name] = tensor.detach().cpu().contiguous()
    config = {
        "architecture": architecture,
        "num_classes": len(labels),
        "num_features": getattr(model, "num_features", None),
        "label_names": list(labels),
        "cars": [
            [car.make, car.model, car.year]
            for car in (cars or [parse_label(label) for label in labels])
        ],
        "model_args": dict(model_args),
        **({"mlp_head": list(head.hidden)} if isinstance(head, MlpHead) else {}),
        **({"car_crop": asdict(car_crop)} if car_crop else {}),
        # Tells transformers to compute in float32 although the file is smaller than that.
        "dtype": "float32",
        "pretrained_cfg": {
            **{key: data_config[key] for key in DATA_KEYS},
            # timm would prefer another test size over input_size if the architecture had one.
            "test_input_size": data_config["input_size"],
            "test_crop_pct": data_config["crop_pct"],
            "num_classes": len(labels),
            "fixed_input_size": False,
            "license": license,
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CLASSES).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    write_json(folder / CONFIG, config)
    write_json(folder / TRAINING, training)


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
    config = _read_json(folder / CONFIG)
    labels = _read_labels(folder, config)
    data_config = _read_data_config(folder, config)
    model = _build(folder, config, len(labels))
    _load_weights(model, folder / WEIGHTS)
    return Checkpoint(
        model=model.eval(),
        labels=labels,
        cars=_read_cars(folder, config, labels),
        data_config=data_config,
        car_crop=_read_car_crop(folder, config),
        folder=folder,
        source="bundled" if source is None else str(source),
        revision=commit or f"sha256:{file_hash(folder / WEIGHTS)[:12]}",
    )


def read_license(folder: Path) -> str:
    """The licence of a checkpoint's weights, as the Hub calls it; "" where it names none."""
    config = _read_json(folder / CONFIG)
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
    if not match:
        raise neither
    repo, revision = match["repo"], match["revision"]
    try:
        snapshot = _fetch(repo, revision)
    except HFValidationError:  # such as ../folder
        raise neither from None
    except GatedRepoError:
        raise CheckpointError(
            f"the Hub repository {repo} is gated: ask for access, then log in with `hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise CheckpointError(
            f"there is no folder {source} and no Hub repository {repo} that you may read; "
            "if it is private, log in with `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise CheckpointError(f"the Hub repository {repo} has no revision {revision}") from None
    except LocalEntryNotFoundError:
        raise CheckpointError(
            f"the Hub cannot be reached and {source} is not in the local cache, or only a part of "
            "it; connect once, or name a folder"
        ) from None
    except (httpx2.HTTPError, OSError) as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        if status == 401:
            raise CheckpointError(
                f"the Hub does not know your token, so {source} cannot be fetched; log in anew "
                "with `hf auth login`, or correct or unset HF_TOKEN if you set it"
            ) from None
        if status in _LATER:
            raise CheckpointError(
                f"the Hub asks to wait (HTTP {status}), and {source} is not in the local cache as "
                "it is now; try again in some minutes, or name a folder"
            ) from None
        raise CheckpointError(
            f"{source} could not be fetched from the Hub: {error}; try again"
        ) from error
    return snapshot, snapshot.name


def _fetch(repo: str, revision: str | None) -> Path:
    """The folder of the repository in the local cache, filled or brought up to date if possible.

    A checkpoint that is there already costs one question to the Hub, and none if it is named by
    its commit. The question is asked here, since the download sets no time limit on its own, and
    without a connection retries for half a minute before it looks into the cache.
    """
    cached = _cached(repo, revision)
    if cached and cached.name == revision:
        return cached  # a commit never changes
    try:
        commit = HfApi().model_info(repo, revision=revision, timeout=_PATIENCE).sha
    except (httpx2.TransportError, OfflineModeIsEnabled, HfHubHTTPError) as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        if status and status < 500 and not (cached and status in _LATER):
            raise  # it answers: no such repository, revision or token, or that one should wait
        if not cached:
            raise LocalEntryNotFoundError(str(error)) from error
        _log.warning(
            "the Hub cannot be reached; %s is answered from the local cache by %s",
            f"{repo}@{revision}" if revision else repo,
            cached.name,
        )
        return cached
    if cached and cached.name == commit:
        return cached
    # First by the commit: the cache remembers what a branch or tag means before it has the files,
    # and a download that breaks should leave it with the earlier ones.
    snapshot_download(repo, revision=commit, allow_patterns=list(WANTED))
    return Path(snapshot_download(repo, revision=revision, allow_patterns=list(WANTED)))


def _cached(repo: str, revision: str | None) -> Path | None:
    """The folder of the repository in the local cache, if it is there and complete."""
    try:
        folder = Path(
            snapshot_download(
                repo, revision=revision, allow_patterns=list(WANTED), local_files_only=True
            )
        )
    except LocalEntryNotFoundError:
        return None
    # Other programs fetch single files, of which the client library cannot tell what is missing.
    return folder if all((folder / name).is_file() for name in REQUIRED) else None


def _refuse_pickles(folder: Path) -> None:
    for path in sorted(folder.glob("*")):
        if path.suffix.lower() in _PICKLE_SUFFIXES:
            raise CheckpointError(
                f"{path} is a pickle file, which can run code when opened; "
                f"remove it, the weights belong in {WEIGHTS}"
            )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} should hold one JSON object")
    return content


def _read_labels(folder: Path, config: dict[str, Any]) -> tuple[str, ...]:
    try:
        labels = tuple((folder / CLASSES).read_text(encoding="utf-8").splitlines())
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{folder / CLASSES} is not UTF-8 text: {error}") from None
    if not labels or not all(label.strip() for label in labels):
        raise CheckpointError(f"{folder / CLASSES} is empty or has a blank line")
    if len(set(labels)) < len(labels):
        twice = sorted({label for label in labels if labels.count(label) > 1})
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


def _read_cars(folder: Path, config: dict[str, Any], labels: Sequence[str]) -> tuple[Car, ...]:
    """What the labels mean; a checkpoint of another maker does not say, and its labels must do."""
    if "cars" not in config:
        return tuple(parse_label(label) for label in labels)
    try:
        cars = tuple(Car(str(make), str(model), year) for make, model, year in config["cars"])
    except (TypeError, ValueError):
        cars = ()
    if len(cars) != len(labels) or not all(
        car.make and (car.year is None or type(car.year) is int) for car in cars
    ):
        raise CheckpointError(
            f"{folder / CONFIG}: cars must list make, model and year (a number or null) of each of "
            f"the {len(labels)} labels"
        )
    return cars


def _read_data_config(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    pretrained_cfg = config.get("pretrained_cfg")
    if not isinstance(pretrained_cfg, dict):
        raise CheckpointError(f"{folder / CONFIG} has no pretrained_cfg")
    missing = [key for key in DATA_KEYS if key not in pretrained_cfg]
    if missing:
        raise CheckpointError(f"{folder / CONFIG}: pretrained_cfg lacks {', '.join(missing)}")
    data_config = {key: pretrained_cfg[key] for key in DATA_KEYS}
    data_config["input_size"] = tuple(data_config["input_size"])
    return data_config


def _read_car_crop(folder: Path, config: dict[str, Any]) -> CarCrop | None:
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


def _build(folder: Path, config: dict[str, Any], num_classes: int) -> Any:
    architecture = config.get("architecture")
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        raise CheckpointError(
            f"{folder / CONFIG}: timm {timm.__version__} knows no architecture {architecture!r}"
        )
    model_args = config.get("model_args") or {}
    try:
        model: Any = timm.create_model(
            architecture, pretrained=False, num_classes=num_classes, **model_args
        )
        if hidden := config.get("mlp_head"):
            features = model.get_classifier().in_features
            replace_classifier(model, MlpHead(features, hidden, num_classes))
        return model
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{folder / CONFIG}: {architecture} cannot be built with {model_args}: {error}"
        ) from None


def _load_weights(model: torch.nn.Module, path: Path) -> None:
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from None
    expected = model.state_dict()
    wrong = [f"{name} is missing" for name in expected if name not in tensors]
    wrong += [f"{name} does not belong to the network" for name in tensors if name not in expected]
    wrong += [
        f"{name} has shape {tuple(tensors[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    wrong += [
        f"{name} holds values that are not finite"
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(f"{path} does not fit the network: {'; '.join(wrong[:3])}{more}")
    model.load_state_dict(tensors, strict=True)
