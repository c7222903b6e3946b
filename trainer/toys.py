"""Draws toy cars, to try everything without a photo: `python -m trainer.toys FOLDER`."""

import argparse
import sys
from collections.abc import Sequence

from space.walk import user_path
from trainer.data.toys import CLASSES, draw_car


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.toys",
        description="Draws a folder of toy cars for each of a few classes.",
    )
    parser.add_argument("folder", type=user_path, metavar="FOLDER", help="made if need be")
    parser.add_argument("--each", type=int, default=40, metavar="PHOTOS",
                        help="photos of a class (default: %(default)s)")  # fmt: skip
    options = parser.parse_args(arguments)
    for number, (label, color) in enumerate(CLASSES.items()):
        (options.folder / label).mkdir(parents=True, exist_ok=True)
        for photo in range(options.each):
            picture = draw_car(1_000_000 * number + photo, color)
            picture.save(options.folder / label / f"{photo:03}.jpg")
    print(f"{options.folder}: {len(CLASSES)} classes with {options.each} photos each")
    return 0


if __name__ == "__main__":
    sys.exit(main())
