"""Publishes photos of your own: `python -m trainer.publish_data org/name --data NAME=LOCATION …`.

What goes to the Hub was audited, cleaned (photos under contradicting labels and photos of no car
from outside are left out), grouped (photos that are the same photo share a group) and split (no
group straddles), as training would:

    data/PART-*.parquet     image, label, make, model, year, group, source
    split.csv               for `--split-file`: the same photos in the same parts and groups
    README.md               the card
    audit.json              what was found, left out and split; the card's numbers are from here
    class_distribution.png  photos of each class

`--data name=org/name` reads it again. Stanford Cars and Algerian Used Cars are refused.
"""

import argparse
import sys
from collections.abc import Sequence

from space.errors import MarqueError
from space.hub import repo_id
from space.walk import user_path
from trainer.auditing.find import audit_photos
from trainer.data.dataset import read_photos, split_data
from trainer.data.exteriors import score_exteriors
from trainer.data.options import add_cache_options, add_data_options, cache_of, columns_of
from trainer.data.splits import Scheme
from trainer.provenance import git_revision
from trainer.publishing.dataset import AUDIT, refuse_research_sets, write_data_set
from trainer.publishing.upload import check_login, files_below, upload


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.publish_data",
        description="Audits, cleans, groups and splits photos of your own and publishes them as a "
        "dataset of the Hub.",
    )
    parser.add_argument("repo", type=repo_id, metavar="ORG/NAME", help="created if need be")
    add_data_options(parser)
    parser.add_argument("--license", type=_license_id, required=True, metavar="ID",
                        help="under which others may use your photos, such as cc-by-4.0; see "
                        "https://huggingface.co/docs/hub/repositories-licenses")  # fmt: skip
    parser.add_argument("--out", type=user_path, required=True, metavar="FOLDER",
                        help="where the dataset is written before it goes up")  # fmt: skip
    parser.add_argument("--split", default="80/10/10",
                        help="training/validation/test in percent, or another one as for "
                        "make_split; else %(default)s")  # fmt: skip
    parser.add_argument(
        "--split-file", type=user_path, metavar="FILE", help="a split to use instead"
    )
    parser.add_argument("--seed", type=int, default=0, help="another one splits differently")
    parser.add_argument("--no-network", action="store_true",
                        help="do without the ImageNet network: photos of no car from outside are "
                        "not looked for and stay in")  # fmt: skip
    parser.add_argument("--keep-locations", action="store_true",
                        help="publish photos that say where they were taken")  # fmt: skip
    parser.add_argument("--permission", default="", metavar="TEXT",
                        help="only for photos of Stanford Cars or Algerian Used Cars: why you may "
                        "publish them; the card quotes it")  # fmt: skip
    parser.add_argument("--private", action="store_true", help="a new repository is private")
    parser.add_argument("--dry-run", action="store_true",
                        help="write the folder, say what would go, and stop")  # fmt: skip
    add_cache_options(parser)
    options = parser.parse_args(arguments)
    cache = cache_of(options)
    try:
        check_login()  # reading, and all that follows, may take hours
        data = read_photos(options.data, cache, columns_of(options))
        refuse_research_sets(options.data, data, options.permission)
        scores = None
        if not options.no_network:
            scores = score_exteriors(data.photos, cache.pixels(), data.rows)
        settings = {"git_revision": git_revision(), "cache_size": options.cache_size}
        locations = {source.name: "" for source in data.sources}  # not everyone's business
        audit = audit_photos(
            data, scores, locations=locations, settings=settings, seed=options.seed
        )
        data = split_data(
            data,
            scores,
            split_file=options.split_file,
            scheme=Scheme.parse(options.split),
            seed=options.seed,
        )
        write_data_set(
            options.out,
            options.repo,
            data,
            audit,
            license=options.license,
            split="" if options.split_file else options.split,
            permission=options.permission,
            keep_locations=options.keep_locations,
        )
        upload(
            options.out,
            files_below(options.out),
            options.repo,
            "dataset",
            message="Photos, their split and their audit",
            mark=AUDIT,
            private=options.private,
            dry_run=options.dry_run,
        )
    except (MarqueError, OSError) as error:
        print(f"publish_data: {error}", file=sys.stderr)
        return 1
    return 0


def _license_id(text: str) -> str:
    """A license as the Hub writes it: in lower case. Which ones there are, only the Hub knows."""
    if len(text.split()) != 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not the ID of a license, such as cc-by-4.0")
    return text.strip().lower()


if __name__ == "__main__":
    sys.exit(main())
