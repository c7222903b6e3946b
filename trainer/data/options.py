"""Options that several commands share: which photos, and where they are kept once decoded."""

import argparse
from pathlib import Path

from space.walk import user_path
from trainer.data.cache import PhotoCache, geometry
from trainer.data.source import Columns


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--data`, `--image-column` and `--label-column`."""
    parser.add_argument("--data", action="append", required=True, metavar="NAME=LOCATION",
                        help="as for training; may be given several times")  # fmt: skip
    parser.add_argument("--image-column", default="image", metavar="NAME",
                        help="its pictures, in a Hub dataset; else %(default)s")  # fmt: skip
    parser.add_argument("--label-column", default="label", metavar="NAME",
                        help="its classes, in a Hub dataset; else %(default)s")  # fmt: skip


def add_cache_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--cache` and `--cache-size`, with the defaults that training has."""
    parser.add_argument("--cache", type=user_path, default=Path(".cache/photos"), metavar="FOLDER",
                        help="where decoded photos are kept (default: %(default)s)")  # fmt: skip
    parser.add_argument("--cache-size", type=int, default=256, metavar="PIXELS",
                        help="side of the cached photos (default: %(default)s)")  # fmt: skip


def columns_of(options: argparse.Namespace) -> Columns:
    """Where a Hub dataset keeps pictures and classes, as the options say."""
    return Columns(options.image_column, options.label_column)


def cache_of(options: argparse.Namespace) -> PhotoCache:
    """The cache that the options name."""
    return PhotoCache(options.cache, geometry(options.cache_size))
