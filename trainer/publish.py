"""Publishes checkpoints on the Hub: `python -m trainer.publish RUN org/name [RUN org/name …]`.

What goes up is the checkpoint, its measurements, its card with the figures that the card shows,
and its graph for ONNX Runtime, all in one commit; nothing else in the folder does. It has to be
complete and evaluated. The card is written where it is missing or tells of other files, with what
you added to it kept, and the graph has to answer as PyTorch does. A second run sends what has
changed since, and nothing if nothing has.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from space.checkpoints import checkpoint_of
from space.errors import MarqueError
from space.hub import repo_id
from space.walk import user_path
from trainer.publishing.model import check_complete, publish
from trainer.publishing.upload import tag_name


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        runs = _pairs(options.runs)
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    try:
        for run, _ in runs:  # before the first is sent
            check_complete(checkpoint_of(run))
        for run, repo in runs:
            publish(run, repo, options.private, options.tag, options.dry_run)
    except (MarqueError, OSError) as error:
        print(f"publish: {error}", file=sys.stderr)
        return 1
    return 0


def _pairs(words: Sequence[str]) -> list[tuple[Path, str]]:
    """The runs and where they go."""
    if len(words) % 2:
        raise argparse.ArgumentTypeError(f"each RUN needs an org/name to go to: {' '.join(words)}")
    return [
        (user_path(run), repo_id(repo)) for run, repo in zip(words[::2], words[1::2], strict=True)
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN org/name",
                        help="a run or a checkpoint folder, and where it goes, which is created "
                        "if it is missing")  # fmt: skip
    parser.add_argument("--private", action="store_true",
                        help="only you and your organization see it")  # fmt: skip
    parser.add_argument("--tag", type=tag_name, metavar="NAME",
                        help="a name for what goes up, such as v1, to ask for as org/name@v1; "
                        "a tag that stands on something else is never moved")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true",
                        help="say what would happen, and change nothing here or there")  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
