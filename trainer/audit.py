"""Says what is wrong with datasets: `python -m trainer.audit --data NAME=LOCATION … --out FOLDER`.

Every photo is decoded once. What that, its copies, an ImageNet network and a classifier trained on
its features find is written to FOLDER; begin with report.html. Nothing is changed or deleted.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence

from PIL import Image

from space.errors import MarqueError
from space.walk import user_path
from trainer.auditing.files import in_words, write_audit
from trainer.auditing.find import audit_photos
from trainer.data.dataset import read_photos
from trainer.data.exteriors import score_exteriors
from trainer.data.options import add_cache_options, add_data_options, cache_of, columns_of
from trainer.provenance import git_revision


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.audit",
        description="Finds copies, contradicting labels, photos of no car from outside and likely "
        "wrong labels in datasets of photos, and writes a report.",
    )
    add_data_options(parser)
    parser.add_argument("--out", type=user_path, required=True, metavar="FOLDER",
                        help="where the report goes; an earlier one is replaced")  # fmt: skip
    parser.add_argument("--no-network", action="store_true",
                        help="do without the ImageNet network: quick, but photos of no exterior "
                        "and wrong labels are not looked for")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the folds that judge labels")
    add_cache_options(parser)
    options = parser.parse_args(arguments)
    cache = cache_of(options)
    try:
        data = read_photos(options.data, cache, columns_of(options))
        pixels = cache.pixels()
        scores = None
        if not options.no_network:
            scores = score_exteriors(data.photos, pixels, data.rows)
    except MarqueError as error:
        print(f"audit: {error}", file=sys.stderr)
        return 1
    command = ["trainer.audit", *(sys.argv[1:] if arguments is None else arguments)]
    audit = audit_photos(
        data,
        scores,
        locations=dict(_named(spec) for spec in options.data),
        settings={
            "command": "python -m " + shlex.join(command),
            "git_revision": git_revision(),
            "cache_size": options.cache_size,
        },
        seed=options.seed,
    )

    def picture(index: int) -> Image.Image | None:
        if index >= len(data.rows):
            return None
        return Image.fromarray(pixels[data.rows[index]].transpose(1, 2, 0))

    write_audit(audit, options.out, picture)
    print(in_words(audit))
    print(f"written: {options.out / 'report.html'}")
    return 0


def _named(spec: str) -> tuple[str, str]:
    """Name and location of a dataset; where MARQUE_DATA says where it lies, the name is both."""
    name, _, location = spec.partition("=")
    return name, location or name


if __name__ == "__main__":
    sys.exit(main())
