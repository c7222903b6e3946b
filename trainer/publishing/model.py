"""Models of the Hub: complete checkpoints, with their card and their graph."""

import re
import shlex
import shutil
import tempfile
from pathlib import Path

from model_card.card import is_current, write_card
from space.checkpoints import (
    CALIBRATION,
    CARD,
    CLASSES,
    FIGURES,
    GRAPH,
    MEMORY,
    METRICS,
    REQUIRED,
    Checkpoint,
    checkpoint_of,
    open_checkpoint,
)
from space.errors import MarqueError
from space.gate import GATE
from space.recognizer import CarRecognizer
from space.schema import read_json
from trainer.publishing.upload import upload
from trainer.training.graph import TOLERANCE, difference, export

_FORMER = {"latency.json"}  # what earlier versions sent beside the files of today
_SHOWN = re.compile(rf"\b{FIGURES}/[\w-]+\.png\b")


def publish(
    run: Path, repo: str, private: bool = False, tag: str | None = None, dry_run: bool = False
) -> None:
    """Uploads what has changed in one commit, and tells what it does.

    A card that is missing, or that tells of other files, is written first; what people have added
    to it below the line for that stays.

    Args:
        run: a run's folder, or a checkpoint's.
        repo: `org/name`.
        private: what a new repository is; one that exists stays as it is.
        tag: for the commit, or None.
        dry_run: everything but the writing, on the Hub and here.

    Raises:
        MarqueError: something is missing, or was not measured with these weights.
        MarqueError: the card cannot be written.
        CheckpointError: the checkpoint cannot be opened.
        MarqueError: the network has no graph that answers as it does.
        MarqueError: the Hub refuses, see `trainer.publishing.upload.upload`.
    """
    folder = checkpoint_of(run)
    check_complete(folder)
    checkpoint = open_checkpoint(folder)
    _check_measured(checkpoint)
    figures = folder.parent / "evaluation"
    with tempfile.TemporaryDirectory() as place:
        if dry_run:  # the card and the graph are written all the same, into a copy
            folder = Path(shutil.copytree(folder, Path(place) / folder.name))
            checkpoint = open_checkpoint(folder)
        if not is_current(folder, repo) or _missing_figures(folder):
            write_card(folder, figures if figures.is_dir() else None, repo)
        _check_graph(checkpoint)
        metrics = read_json(folder / METRICS)
        ours = {*REQUIRED, CALIBRATION, GATE, METRICS, CARD, GRAPH, MEMORY, *_FORMER}
        ours |= {f"{FIGURES}/{name}" for name in metrics.get("figures", {})}
        commit = upload(
            folder,
            _names(folder),
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


def check_complete(folder: Path) -> None:
    """Looks for all that training and evaluating write.

    Raises:
        MarqueError: some files are missing; the message names each and what writes it.
    """
    if not folder.is_dir():
        raise MarqueError(f"there is no folder {folder}")
    path = shlex.quote(str(folder))
    evaluate = f"python -m trainer.evaluate {path} --data NAME=FOLDER --split-file FILE"
    needed = dict.fromkeys(REQUIRED, "trainer/train.py")
    needed |= dict.fromkeys((CALIBRATION, METRICS), evaluate)
    if _has_gate(folder):
        needed[GATE] = evaluate
    missing = [f"{name} ({how})" for name, how in needed.items() if not (folder / name).is_file()]
    if missing:
        raise MarqueError(f"{folder} is not complete; it lacks {', '.join(missing)}")


def _names(folder: Path) -> list[str]:
    """The paths in a checkpoint folder that go up, in alphabetical order."""
    there = {name for name in (GATE, MEMORY) if (folder / name).is_file()}
    return sorted({*REQUIRED, CALIBRATION, METRICS, CARD, GRAPH, *there, *_shown(folder)})


def _has_gate(folder: Path) -> bool:
    calibration = folder / CALIBRATION
    return calibration.is_file() and read_json(calibration).get("gate") is not None


def _shown(folder: Path) -> set[str]:
    """The figures that the card shows."""
    return set(_SHOWN.findall((folder / CARD).read_text("utf-8")))


def _missing_figures(folder: Path) -> bool:
    return any(not (folder / name).is_file() for name in _shown(folder))


def _check_measured(checkpoint: Checkpoint) -> None:
    """Raises unless the calibration, the gate and the metrics belong to these weights."""
    CarRecognizer(checkpoint)
    measured = read_json(checkpoint.folder / METRICS).get("weights")
    if measured != checkpoint.revision:
        raise MarqueError(
            f"{checkpoint.folder / METRICS} was measured with the weights {measured}, but those "
            f"beside it are {checkpoint.revision}; measure again with `python -m trainer.evaluate`"
        )


def _check_graph(checkpoint: Checkpoint) -> None:
    """Raises unless the graph answers as the network does, after writing one that is missing."""
    if (checkpoint.folder / GRAPH).is_file():
        apart = difference(checkpoint, checkpoint.folder)
        if apart > TOLERANCE:
            raise MarqueError(
                f"{checkpoint.folder / GRAPH} answers otherwise than the network, by up to "
                f"{apart:.1e} of the largest value; write it again with "
                f"`python -m trainer.export {shlex.quote(str(checkpoint.folder))}`"
            )
    else:
        export(checkpoint.folder)
