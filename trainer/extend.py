"""Adds classes to a checkpoint: `python -m trainer.extend CHECKPOINT --data NAME=FOLDER --out NEW`.

The network stays as it is: new photos are looked at through the same door, and each new class gets
a row of the head, fitted beside what the checkpoint remembers of its own classes
(memory.safetensors). What is written is an ordinary checkpoint with its graph, labels, calibration
and memory. New classes are measured on photos that their rows were not fitted on (folds by groups
of the same photo), old ones on the held-out photos that the checkpoint remembers.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from space.errors import MarqueError
from space.walk import user_path
from trainer.data.options import add_cache_options, add_data_options, cache_of, columns_of
from trainer.extending.extend import extend
from trainer.heap import keep_freed_memory
from trainer.provenance import command_line, git_revision


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.extend",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT",
                        help='a folder, org/name, or "" for the bundled one')  # fmt: skip
    add_data_options(parser)
    parser.add_argument("--out", type=user_path, required=True, metavar="FOLDER",
                        help="the checkpoint folder to write")  # fmt: skip
    add_cache_options(parser)
    options = parser.parse_args(arguments)
    keep_freed_memory()
    record = {
        "command": command_line("python -m trainer.extend", arguments),
        "git_revision": git_revision(),
    }
    try:
        measured = extend(
            options.checkpoint,
            options.data,
            options.out,
            cache=cache_of(options),
            columns=columns_of(options),
            record=record,
        )
    except MarqueError as error:
        print(f"extend: {error}", file=sys.stderr)
        return 1
    _print(measured)
    print(f"written: {options.out}; open it with: python -m space --model {options.out} PHOTO")
    return 0


def _print(measured: dict[str, Any]) -> None:
    new, old = measured["new"], measured["old"]
    for label, share in new["per_class"].items():
        print(f"{share:6.1%}  {label}")
    print(f"{_words(new['top1'])} of {new['photos']} photos of new classes are right")
    print(f"{_words(old['before'])} of {old['photos']} held-out photos of old classes were right")
    print(f"{_words(old['after'])} are now")
    if measured["known_already"]:
        print(f"known already and left as they are: {', '.join(measured['known_already'])}")
    for reason, count in measured["left_out"].items():
        print(f"{count} left out: {reason}")


def _words(share: dict[str, float]) -> str:
    if not share:
        return "none"
    return f"{share['value']:.1%} ({share['low']:.1%} to {share['high']:.1%})"


if __name__ == "__main__":
    sys.exit(main())
