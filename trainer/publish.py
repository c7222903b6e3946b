"""Publishes a checkpoint on the Hub: `python -m trainer.publish RUN org/name`.

What goes up is the checkpoint, its measurements, its card with the figures that the card shows,
and its graph for ONNX Runtime, all in one commit; nothing else in the folder does. It has to be
complete and evaluated, the card written from what lies beside it, and the graph has to answer as
PyTorch does. A second run sends what has changed since, and nothing if nothing has.
"""

import argparse
import sys
from collections.abc import Sequence

from space.checkpoints import CheckpointError
from space.hub import repo_id
from space.walk import user_path
from trainer.publishing.model import PublishError, publish
from trainer.publishing.upload import UploadError, tag_name
from trainer.training.graph import ExportError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        publish(options.run, options.repo, options.private, options.tag, options.dry_run)
    except (PublishError, CheckpointError, ExportError, UploadError, OSError) as error:
        print(f"publish: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=user_path, metavar="RUN", help="a run, or a checkpoint folder")
    parser.add_argument("repo", type=repo_id, metavar="org/name",
                        help="where it goes; created if it is missing")  # fmt: skip
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
