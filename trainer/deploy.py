"""Brings Marque's page to a Space: `python -m space.deploy org/space --model org/name`.

The Space is created or brought up to date in one commit. It gets what its page is made of and
nothing else, and answers with that commit of the model which is the newest one now (or the one that
`org/name@revision` names), until it is deployed again.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from space.errors import MarqueError
from space.hub import repo_id
from trainer.publishing.space import stage
from trainer.publishing.upload import files_below, upload


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m space.deploy",
        description="Creates a Space with Marque's page, or brings it up to date.",
    )
    parser.add_argument("space", type=repo_id, metavar="ORG/SPACE", help="created if need be")
    parser.add_argument("--model", metavar="ORG/NAME[@REVISION]",
                        help="the model of the Hub that answers; without it the checkpoint that "
                        "comes with Marque goes along and answers")  # fmt: skip
    parser.add_argument("--private", action="store_true", help="a new Space is private")
    parser.add_argument("--dry-run", action="store_true", help="say what would go, and stop")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            stage(Path(folder), options.model or None)  # an empty variable names none
            upload(
                Path(folder),
                files_below(Path(folder)),
                options.space,
                "space",
                message=f"Marque with {options.model or 'its own checkpoint'}",
                mark="space/recognizer.py",
                private=options.private,
                dry_run=options.dry_run,
            )
    except MarqueError as error:
        print(f"deploy: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
