"""Writes checkpoints, in the layout that `space.checkpoints` reads."""

import ctypes
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from space.checkpoints import (
    CALIBRATION,
    CLASSES,
    CONFIG,
    GRAPH,
    SEALED,
    TRAINING,
    WEIGHTS,
    file_hash,
    write_json,
)
from space.errors import CheckpointError
from space.heads import MlpHead
from space.labels import Car, parse_label
from space.preprocessing import CarCrop
from space.schema import read_json
from space.transforms import DATA_KEYS


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


def put_in_place(new: Path, target: Path) -> None:
    """Puts a new checkpoint folder where the old one is, which goes.

    Where the system can exchange two folders (Linux), a whole checkpoint stands there at any
    moment, whatever ends the process; elsewhere for a moment the old one has another name.
    """
    old = target.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        if _exchange(new, target):
            new.rename(old)
        else:
            target.rename(old)
            new.rename(target)
    else:
        new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two folders in one step; False where the system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE
    return rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def seal(folder: Path) -> None:
    """Writes the hashes of a checkpoint's files into its calibration, if it has one.

    Every command that writes one of these files ends with it, after it has looked at the file.
    """
    path = folder / CALIBRATION
    if path.is_file():
        files = {name: file_hash(folder / name) for name in SEALED if (folder / name).is_file()}
        write_json(path, read_json(path) | {"files": files})


def write_graph(folder: Path) -> str:
    """Writes the graph of a new checkpoint, and says how that went.

    A network that has none is no error: PyTorch answers for it where that is installed.
    """
    from trainer.training.graph import (  # takes seconds, and only the end needs it
        MarqueError,
        export,
    )

    try:
        return f"{folder / GRAPH}: differs from PyTorch by at most {export(folder):.0e}"
    except CheckpointError:
        raise
    except MarqueError as error:
        return f"no graph, so PyTorch has to answer for this checkpoint: {error}"
