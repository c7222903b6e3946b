"""A checkpoint with other classes and the same network."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from space.calibration import read_calibration
from space.checkpoints import (
    CALIBRATION,
    CLASSES,
    CONFIG,
    TRAINING,
    WEIGHTS,
    Checkpoint,
    file_hash,
    write_json,
)
from space.errors import CheckpointError, MarqueError
from space.gate import GATE
from space.labels import Car
from space.memory import Memory, read_memory
from trainer.evaluation.calibrate import fit_calibration
from trainer.extending.head import Head
from trainer.training.checkpoints import seal
from trainer.training.graph import export

# The least correlation of logits with what the head makes of features. Half precision and rows that
# held-out photos had no part in, as `RowFitter` fits them, leave more of it.
_SAME = 0.9


def open_head(checkpoint: Checkpoint) -> Head:
    """The head of a checkpoint whose classes are to be changed.

    Raises:
        CheckpointError: the checkpoint has no memory, or a head that is not linear.
    """
    memory = read_memory(checkpoint.folder)
    if memory is None:
        raise CheckpointError(
            f"{checkpoint.source} has no memory.safetensors, which stands for the photos of its "
            "classes; write it with `python -m trainer.evaluate`"
        )
    model = checkpoint.model
    layer = model.get_classifier()
    name = next((name for name, module in model.named_modules() if module is layer), "")
    if not isinstance(layer, nn.Linear) or layer.bias is None or not name:
        raise CheckpointError(
            f"the head of {checkpoint.source} is not one linear layer; train the classes with "
            "trainer/train.py --weights instead"
        )
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    fits = memory.features.shape[1] == weight.shape[1]
    found = memory.features @ weight.T + bias if fits else -memory.logits
    if len(found) and np.corrcoef(found.ravel(), memory.logits.ravel())[0, 1] < _SAME:
        raise CheckpointError(
            f"the logits of {checkpoint.source} are not its features times its last layer; train "
            "the classes with trainer/train.py --weights instead"
        )
    return Head(name, weight, bias, memory)


def rewrite(
    checkpoint: Checkpoint,
    out: Path,
    head: Head,
    labels: Sequence[str],
    cars: Sequence[Car],
    memory: Memory,
    record: Mapping[str, Any],
) -> None:
    """Writes a checkpoint with a new head, calibrated on the held-out photos of its memory.

    Args:
        out: the folder; files of an earlier checkpoint in it are replaced, once all is written.
        head: its weight and bias are the new ones.
        labels, cars: of all classes, in the order of the head's rows.
        memory: with the logits of the new head.
        record: for training.json, what was done, by the name of the command.

    Raises:
        MarqueError: the folder cannot be written, or is that of the checkpoint.
    """
    if out.resolve() == checkpoint.folder.resolve():
        raise MarqueError(f"--out is the checkpoint itself, {out}; name another folder")
    calibration = read_calibration(checkpoint.folder)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent) as place:
            draft = Path(place) / "checkpoint"
            draft.mkdir(mode=0o755)
            tensors = load_file(checkpoint.folder / WEIGHTS)
            for name, values in (("weight", head.weight), ("bias", head.bias)):
                key = f"{head.name}.{name}"
                tensors[key] = torch.from_numpy(values).to(tensors[key].dtype)
            save_file(tensors, draft / WEIGHTS, metadata={"format": "pt"})
            (draft / CLASSES).write_text("".join(f"{label}\n" for label in labels), "utf-8")
            config = {
                **checkpoint.config,
                "num_classes": len(labels),
                "label_names": list(labels),
                "cars": [[car.make, car.model, car.year] for car in cars],
            }
            config["pretrained_cfg"] = {**config["pretrained_cfg"], "num_classes": len(labels)}
            write_json(draft / CONFIG, config)
            training = json.loads((checkpoint.folder / TRAINING).read_text("utf-8"))
            changes = [*training.get("classes_changed", []), dict(record)]
            write_json(draft / TRAINING, training | {"classes_changed": changes})
            export(draft)
            if (checkpoint.folder / GATE).is_file():
                shutil.copyfile(checkpoint.folder / GATE, draft / GATE)
            memory.save(draft)
            if calibration:
                _calibrate(draft, labels, cars, memory, calibration.gate)
            seal(draft)
            out.mkdir(exist_ok=True)
            for path in sorted(draft.iterdir()):
                path.replace(out / path.name)
    except OSError as error:
        raise MarqueError(f"{out} cannot be written: {error}") from error


def _calibrate(
    folder: Path, labels: Sequence[str], cars: Sequence[Car], memory: Memory, gate: float | None
) -> None:
    found = fit_calibration(
        labels,
        cars,
        memory.logits,
        memory.targets,
        [str(group) for group in memory.groups],
        memory.sources,
        gate,
    )
    write_json(
        folder / CALIBRATION,
        {
            **found.as_json(),
            "weights_sha256": file_hash(folder / WEIGHTS),
            "split": {
                "name": "validation",
                "file_sha256": None,
                "photos": len(memory.targets),
                "from": "memory.safetensors",
            },
        },
    )
