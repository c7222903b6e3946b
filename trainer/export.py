"""Writes a checkpoint's graph for ONNX Runtime: `python -m trainer.export CHECKPOINT`.

See `trainer.training.graph` for what it is; a training run ends with it by itself.
"""

import argparse
import sys
from collections.abc import Sequence

from space.checkpoints import GRAPH
from space.errors import MarqueError
from space.walk import user_path
from trainer.training.graph import export


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=user_path, help="a checkpoint folder")
    options = parser.parse_args(arguments)
    try:
        apart = export(options.checkpoint)
    except MarqueError as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    size = (options.checkpoint / GRAPH).stat().st_size
    print(f"{options.checkpoint / GRAPH}: {size / 1000:.0f} kB; answers differ by {apart:.0e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
