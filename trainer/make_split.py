"""Deals a split once, for many runs: `python -m trainer.make_split --data … --out FILE`.

Training with `--split-file FILE` then uses the same photos every time, on any machine.
"""

import argparse
import sys
from collections.abc import Sequence

from space.errors import MarqueError
from space.walk import user_path
from trainer.data.dataset import load_data
from trainer.data.options import add_cache_options, add_data_options, cache_of, columns_of
from trainer.data.splits import Scheme, write_split


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.make_split",
        description="Deals photos to training, validation and test; copies of one photo stay "
        "together, photos under several labels and photos of no car from outside are left out.",
    )
    add_data_options(parser)
    parser.add_argument("--out", type=user_path, required=True, metavar="FILE",
                        help="CSV source,path,label,split,group")  # fmt: skip
    parser.add_argument("--split", default="80/10/10",
                        help="training/validation/test in percent (70/15/15), training/test "
                        "(90/10), official, or a fold (fold:2/5); else %(default)s")  # fmt: skip
    parser.add_argument("--series", type=_series, action="append", default=[], metavar="NAME=N",
                        help="photos of the dataset NAME whose files' numbers are equal when "
                        "divided by N may show one car, and stay together")  # fmt: skip
    parser.add_argument("--seen", type=user_path, metavar="FILE",
                        help="split file of a network that is to be trained further: what it was "
                        "trained on stays in training, or it would flatter the result")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="another one splits differently")
    parser.add_argument("--keep-non-exteriors", action="store_true",
                        help="keep photos that show no car from outside")  # fmt: skip
    add_cache_options(parser)
    options = parser.parse_args(arguments)
    try:
        data = load_data(
            options.data,
            cache_of(options),
            columns=columns_of(options),
            scheme=Scheme.parse(options.split),
            seed=options.seed,
            exteriors=not options.keep_non_exteriors,
            series=dict(options.series),
            seen=options.seen,
        )
    except MarqueError as error:
        print(f"make_split: {error}", file=sys.stderr)
        return 1
    write_split(options.out, data.photos)
    print(", ".join(f"{count} {split}" for split, count in data.sizes.items()))
    for item in data.left_out:
        print(f"left out: {item.path} of {item.source}: {item.reason}")
    print(f"written: {options.out}")
    return 0


def _series(text: str) -> tuple[str, int]:
    name, _, length = text.rpartition("=")
    if not name or not length.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=N, such as listings=10")
    return name, int(length)


if __name__ == "__main__":
    sys.exit(main())
