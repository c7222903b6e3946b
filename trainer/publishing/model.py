"""Publishes a checkpoint on the Hub: `python -m trainer.publish RUN org/name`.

What goes up is the checkpoint, its measurements, its card with the figures that the card shows,
and its graph for ONNX Runtime, all in one commit; nothing else in the folder does. It has to be
complete and evaluated, the card written from what lies beside it, and the graph has to answer as
PyTorch does. A second run sends what has changed since, and nothing if nothing has.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import metadata_load

from space.checkpoints import (
    CALIBRATION,
    CARD,
    CARD_SOURCES,
    CLASSES,
    FIGURES,
    GRAPH,
    LATENCY,
    METRICS,
    REQUIRED,
    Checkpoint,
    checkpoint_of,
    file_hash,
    open_checkpoint,
)
from space.gate import GATE
from space.recognizer import CarRecognizer
from trainer.publishing.upload import upload
from trainer.training.graph import TOLERANCE, difference, export

# What goes along where it is.
OPTIONAL = (LATENCY,)
_SHOWN = re.compile(rf"\b{FIGURES}/[\w-]+\.png\b")


class PublishError(ValueError):
    """The checkpoint cannot be published; the message says why and what to do."""


def publish(
    run: Path, repo: str, private: bool = False, tag: str | None = None, dry_run: bool = False
) -> None:
    """Uploads what has changed in one commit, and tells what it does.

    Args:
        run: a run's folder, or a checkpoint's.
        repo: `org/name`.
        private: what a new repository is; one that exists stays as it is.
        tag: for the commit, or None.
        dry_run: everything but the writing, on the Hub and here.

    Raises:
        PublishError: something is missing, was not measured with these weights, or is not what the
            card tells of.
        CheckpointError: the checkpoint cannot be opened.
        ExportError: the network has no graph that answers as it does.
        UploadError: the Hub refuses, see `trainer.publishing.upload.upload`.
    """
    folder = checkpoint_of(run)
    names = names_to_publish(folder, repo)
    checkpoint = open_checkpoint(folder)
    metrics = _read_json(folder / METRICS)
    _check_measured(checkpoint, metrics.get("weights"))
    _check_card(folder, repo)
    _check_graph(checkpoint, write=not dry_run)
    ours = {*REQUIRED, CALIBRATION, GATE, METRICS, CARD, GRAPH, *OPTIONAL}
    ours |= {f"{FIGURES}/{name}" for name in metrics.get("figures", {})}
    commit = upload(
        folder,
        names,
        repo,
        "model",
        message=f"Marque checkpoint with the weights {checkpoint.revision}",
        removable=ours.__contains__,
        mark=CLASSES,
        private=private,
        tag=tag,
        dry_run=dry_run,
    )
    if commit:
        print(f"open it with: python -m space --model {repo}@{tag or commit} PHOTO")


def names_to_publish(folder: Path, repo: str) -> list[str]:
    """The paths in a checkpoint folder that go up, in alphabetical order.

    Raises:
        PublishError: some of them are missing; the message names each and what writes it.
    """
    if not folder.is_dir():
        raise PublishError(f"there is no folder {folder}")
    path = shlex.quote(str(folder))
    evaluate = f"python -m trainer.evaluate {path} --data NAME=FOLDER --split-file FILE"
    needed = dict.fromkeys(REQUIRED, "trainer/train.py")
    needed |= dict.fromkeys((CALIBRATION, METRICS), evaluate)
    calibration = folder / CALIBRATION
    if calibration.is_file() and _read_json(calibration).get("gate") is not None:
        needed[GATE] = evaluate
    needed[CARD] = card = f"python -m model_card.card {path} --repo {repo}"
    if (folder / CARD).is_file():
        needed |= dict.fromkeys(_SHOWN.findall((folder / CARD).read_text("utf-8")), card)
    missing = [f"{name} ({how})" for name, how in needed.items() if not (folder / name).is_file()]
    if missing:
        raise PublishError(f"{folder} is not complete; it lacks {', '.join(missing)}")
    optional = [name for name in OPTIONAL if (folder / name).is_file()]
    return sorted({*needed, *optional, GRAPH})


def _check_measured(checkpoint: Checkpoint, measured: str | None) -> None:
    """Raises unless the calibration, the gate and the metrics belong to these weights."""
    CarRecognizer(checkpoint)
    if measured != checkpoint.revision:
        raise PublishError(
            f"{checkpoint.folder / METRICS} was measured with the weights {measured}, but those "
            f"beside it are {checkpoint.revision}; measure again with `python -m trainer.evaluate`"
        )


def _check_card(folder: Path, repo: str) -> None:
    """Raises unless the card was written from the files beside it, for this repository."""
    path = shlex.quote(str(folder))
    again = f"write it again with `python -m model_card.card {path} --repo {repo}`"
    try:
        head = metadata_load(folder / CARD) or {}
    except (ValueError, yaml.YAMLError) as error:
        raise PublishError(f"the head of {folder / CARD} is not in order: {error}") from None
    told = head.get("marque")
    if not isinstance(told, dict) or not isinstance(told.get("files"), dict):
        raise PublishError(f"{folder / CARD} does not say from which files it was written; {again}")
    there = {name: file_hash(folder / name) for name in CARD_SOURCES if (folder / name).is_file()}
    if changed := sorted({name for name, _ in told["files"].items() ^ there.items()}):
        raise PublishError(
            f"{folder / CARD} was written from other files ({', '.join(changed)}); {again}"
        )
    if told.get("repo") != repo:
        raise PublishError(
            f"{folder / CARD} was written for {told.get('repo') or 'use from a folder'}; {again}"
        )


def _check_graph(checkpoint: Checkpoint, write: bool) -> None:
    """Raises unless the graph answers as the network does, after writing one that is missing."""
    if (checkpoint.folder / GRAPH).is_file():
        apart = difference(checkpoint, checkpoint.folder)
        if apart > TOLERANCE:
            raise PublishError(
                f"{checkpoint.folder / GRAPH} answers otherwise than the network, by up to "
                f"{apart:.1e} of the largest value; write it again with "
                f"`python -m trainer.export {shlex.quote(str(checkpoint.folder))}`"
            )
    elif write:
        export(checkpoint.folder)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise PublishError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise PublishError(f"{path} should hold one JSON object")
    return content
