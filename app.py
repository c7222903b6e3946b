"""Marque's web page.

MARQUE_MODEL chooses the checkpoint that answers, MARQUE_GATE one that decides which photos are
rejected: a folder, or org/name[@revision].
"""

import os
import sys

from space.checkpoints import CheckpointError
from space.page import build_page, launch
from space.recognizer import CarRecognizer


def main() -> None:
    """Loads the recogniser, builds the page, serves it until it is stopped."""
    try:
        recognizer = CarRecognizer.from_pretrained(
            os.environ.get("MARQUE_MODEL") or None,
            gate=os.environ.get("MARQUE_GATE") or None,
        )
    except CheckpointError as error:
        sys.exit(f"marque: {error}")
    launch(build_page(recognizer))


if __name__ == "__main__":
    main()
