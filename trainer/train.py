"""Trains a car recognizer: `accelerate launch trainer/train.py --data NAME=FOLDER --out RUN`.

A run's folder holds

    checkpoint/         what gets published: the best epoch on the validation photos
    resume.safetensors  what --resume goes on from; never published
    split.csv           which photo was trained on, validated on, tested on
    left_out.csv        photos that take no part, and why
    stream.json         which commit of the Hub is read; with --stream, in place of the two tables
    log.csv curves.png  every epoch
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a script: the repository is the place to import from, not trainer/
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch

from space.errors import MarqueError
from trainer.training.config import parse_config
from trainer.training.run import train


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    config = parse_config(arguments)
    # torchrun starts one process per share of the machine, each believing it has all of it.
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // processes))
    try:
        train(config)
    except MarqueError as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"train: stopped. Finished epochs are safe; add --resume to go on with {config.out}",
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
