"""Averages the weights of checkpoints: `python -m trainer.average CHECKPOINT … --out FOLDER`.

Checkpoints that went on from one another often lie in one valley of the loss; the middle between
them is then better than either, at no cost when it answers (model soups, Wortsman et al. 2022,
arXiv:2203.05482). Often is not always: choose the shares on validation photos.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from space.checkpoints import (
    CLASSES,
    CONFIG,
    TRAINING,
    WEIGHTS,
    open_checkpoint,
    read_license,
    write_json,
)
from space.walk import user_path
from trainer.training.checkpoints import write_graph


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.average",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT",
                        help="of one network and the same classes")  # fmt: skip
    parser.add_argument("--shares", type=float, nargs="+", metavar="SHARE",
                        help="of each checkpoint; equal ones without it")  # fmt: skip
    parser.add_argument("--no-graph", action="store_true",
                        help="end without the graph, by which PyTorch is not needed")  # fmt: skip
    parser.add_argument("--out", type=user_path, required=True, metavar="FOLDER",
                        help="the checkpoint folder to write; evaluate it next")  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        average(options.checkpoints, options.out, options.shares)
    except ValueError as error:
        print(f"average: {error}", file=sys.stderr)
        return 1
    if not options.no_graph:
        print(write_graph(options.out))
    return 0


def average(
    sources: Sequence[str | Path], out: Path, shares: Sequence[float] | None = None
) -> None:
    """Writes a checkpoint whose weights are the mean of others'.

    Args:
        sources: checkpoints, see `space.checkpoints.open_checkpoint`.
        out: the folder to write; the files of an earlier checkpoint in it are replaced.
        shares: of each, above 0; they need not sum to 1. Equal ones by default.

    Raises:
        CheckpointError: one cannot be opened.
        ValueError: they differ in network, classes or license, or the shares do not fit.
    """
    shares = [1.0] * len(sources) if shares is None else list(shares)
    if len(shares) != len(sources):
        raise ValueError(f"{len(sources)} checkpoints need as many shares, not {len(shares)}")
    if min(shares) <= 0:
        raise ValueError(f"a share is above 0, not {min(shares):g}")
    opened = [open_checkpoint(source) for source in sources]
    first, total = opened[0], sum(shares)
    license = read_license(first.folder)
    kept = load_file(first.folder / WEIGHTS)
    sums = {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in kept.items()}
    for checkpoint, share in zip(opened, shares, strict=True):
        if checkpoint.labels != first.labels:
            raise ValueError(f"{checkpoint.source} has other classes than {first.source}")
        other = read_license(checkpoint.folder)
        if other != license:
            raise ValueError(
                f"{checkpoint.source} has another license ({other or 'none named'}) than "
                f"{first.source} ({license or 'none named'}), and the mean can have one only"
            )
        tensors = load_file(checkpoint.folder / WEIGHTS)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        if shapes != {name: tensor.shape for name, tensor in kept.items()}:
            raise ValueError(f"{checkpoint.source} is another network than {first.source}")
        for name, tensor in tensors.items():
            sums[name] += tensor.double() * (share / total)
    out.mkdir(parents=True, exist_ok=True)
    # Counters of batches among them, which a mean of whole numbers leaves whole.
    save_file(
        {name: tensor.to(kept[name].dtype) for name, tensor in sums.items()},
        out / WEIGHTS,
        metadata={"format": "pt"},
    )
    for name in (CONFIG, CLASSES):
        if (first.folder / name).resolve() != (out / name).resolve():
            shutil.copyfile(first.folder / name, out / name)
    # The record is that of the first, with those of the others below it.
    training, *others = (
        json.loads((checkpoint.folder / TRAINING).read_text("utf-8")) for checkpoint in opened
    )
    averaged: list[dict[str, Any]] = [
        {"checkpoint": checkpoint.revision, "share": share / total}
        for checkpoint, share in zip(opened, shares, strict=True)
    ]
    for part, record in zip(averaged[1:], others, strict=True):
        part["training"] = record
    write_json(out / TRAINING, training | {"averaged": averaged})


if __name__ == "__main__":
    sys.exit(main())
