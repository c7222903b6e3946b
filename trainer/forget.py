"""Makes a smaller catalogue for good: `python -m trainer.forget CHECKPOINT --keep MARKET`.

Rows of the head are taken out, or called otherwise; the network stays as it is, and no photos are
needed. What is written is an ordinary checkpoint, calibrated on the held-out photos of the classes
that stay.
"""

import argparse
import sys
from collections.abc import Sequence

from space.catalogue import read_items
from space.errors import MarqueError
from space.walk import user_path
from trainer.extending.forget import forget
from trainer.heap import keep_freed_memory
from trainer.provenance import command_line, git_revision


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.forget",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT",
                        help='a folder, org/name, or "" for the bundled one')  # fmt: skip
    parser.add_argument("--label", action="append", default=[], metavar="NAMES",
                        help="labels, makes, models, years or markets to take out; may be given "
                        "several times")  # fmt: skip
    parser.add_argument("--keep", action="append", default=[], metavar="NAMES",
                        help="the same, to keep and nothing else")  # fmt: skip
    parser.add_argument("--rename", action="append", default=[], metavar="OLD=NEW",
                        help="another name for a label; may be given several times")  # fmt: skip
    parser.add_argument("--out", type=user_path, required=True, metavar="FOLDER",
                        help="the checkpoint folder to write")  # fmt: skip
    options = parser.parse_args(arguments)
    if not (options.label or options.keep or options.rename):
        parser.error("say what to take out (--label), to keep (--keep) or to rename (--rename)")
    if wrong := [pair for pair in options.rename if "=" not in pair]:
        parser.error(f"--rename {wrong[0]}: write OLD=NEW")
    keep_freed_memory()
    try:
        found = forget(
            options.checkpoint,
            options.out,
            drop=[item for text in options.label for item in read_items(text)],
            keep=[item for text in options.keep for item in read_items(text)],
            rename=dict(pair.split("=", 1) for pair in options.rename),
            record={
                "command": command_line("python -m trainer.forget", arguments),
                "git_revision": git_revision(),
            },
        )
    except MarqueError as error:
        print(f"forget: {error}", file=sys.stderr)
        return 1
    for when in ("before", "after"):
        if found[when]:
            print(f"{when}: {found[when]['value']:.1%} of {found['photos']} held-out photos right")
    print(f"written: {options.out}, {found['classes']} classes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
