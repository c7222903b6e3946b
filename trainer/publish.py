"""Publishes a checkpoint on the Hub: `python -m trainer.publish RUN org/name`.

What goes up is the checkpoint, its measurements, its card with the figures that the card shows,
and its graph for ONNX Runtime, all in one commit; nothing else in the folder does. It has to be
complete and evaluated, and the graph has to answer as PyTorch does. A second run sends what has
changed since, and nothing if nothing has.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # run as a script: the repository is the place to import from, not trainer/
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import validate_repo_id
from huggingface_hub.utils.sha import git_hash

from space.calibration import CALIBRATION
from space.checkpoints import (
    METRICS,
    REQUIRED,
    Checkpoint,
    CheckpointError,
    file_hash,
    open_checkpoint,
)
from space.gate import GATE
from space.network import GRAPH
from space.recognizer import CarRecognizer
from trainer.export import TOLERANCE, ExportError, difference, export

CARD = "README.md"
FIGURES = "figures/"
# What the card tells of where it was measured.
OPTIONAL = ("latency.json",)
_SHOWN = re.compile(rf"\b{FIGURES}[\w-]+\.(?:svg|png|webp|jpg)\b")

NEW, CHANGED, SAME, REMOVED = "new", "changed", "unchanged", "removed"


class PublishError(ValueError):
    """The checkpoint cannot be published; the message says why and what to do."""


@dataclass(frozen=True)
class Remote:
    """What the Hub has under a name.

    Attributes:
        head: the newest commit; None where there is no repository yet.
        private: whether only its owners see it.
        files: every file by its path.
        tagged: the commit of the wanted tag, if it exists.
    """

    head: str | None
    private: bool
    files: Mapping[str, RepoFile]
    tagged: str | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        validate_repo_id(options.repo)
    except HFValidationError as error:
        parser.error(str(error))
    if "/" not in options.repo:
        parser.error(f"{options.repo} names no owner; give org/name, or your own name for org")
    try:
        publish(options.run, options.repo, options.private, options.tag, options.dry_run)
    except (PublishError, CheckpointError, ExportError) as error:
        print(f"publish: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run, or a checkpoint folder")
    parser.add_argument("repo", metavar="org/name", help="where it goes; created if it is missing")
    parser.add_argument("--private", action="store_true",
                        help="only you and your organisation see it")  # fmt: skip
    parser.add_argument("--tag", metavar="NAME",
                        help="a name for what goes up, such as v1, to ask for as org/name@v1; "
                        "a tag that stands on something else is never moved")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true",
                        help="say what would happen, and change nothing here or there")  # fmt: skip
    return parser


def publish(
    run: Path, repo: str, private: bool = False, tag: str | None = None, dry_run: bool = False
) -> None:
    """Uploads what has changed in one commit, and tells what it does.

    Args:
        run: a run's folder, or a checkpoint's.
        repo: `org/name`.
        private: what a new repository is; one that exists stays as it is.
        tag: for the commit, or None.
        dry_run: everything but the writing, on the Hub and here.

    Raises:
        PublishError: something is missing, was not measured with these weights, or the Hub refuses.
        CheckpointError: the checkpoint cannot be opened.
        ExportError: the network has no graph that answers as it does.
    """
    folder = run / "checkpoint" if (run / "checkpoint").is_dir() else run
    names = names_to_publish(folder)
    checkpoint = open_checkpoint(folder)
    _check_measured(checkpoint)
    _check_graph(checkpoint, write=not dry_run)
    try:
        _send(HfApi(), checkpoint, names, repo, private, tag, dry_run)
    except LocalTokenNotFoundError:
        raise PublishError(
            "nobody is logged in: log in with `hf auth login`, or set HF_TOKEN to a token that "
            "may write"
        ) from None
    except HfHubHTTPError as error:
        raise PublishError(_refusal(error, repo)) from error
    except (httpx2.TransportError, OfflineModeIsEnabled) as error:
        raise PublishError(
            f"the Hub cannot be reached ({error}); run the same command again when it can"
        ) from error


def names_to_publish(folder: Path) -> list[str]:
    """The paths in a checkpoint folder that go up, in alphabetical order.

    Raises:
        PublishError: some of them are missing; the message names each and what writes it.
    """
    evaluate = f"python -m trainer.evaluate {folder} --data NAME=FOLDER --split-file FILE"
    needed = dict.fromkeys(REQUIRED, "trainer/train.py")
    needed |= dict.fromkeys((CALIBRATION, METRICS), evaluate)
    calibration = folder / CALIBRATION
    if calibration.is_file() and _read_json(calibration).get("gate") is not None:
        needed[GATE] = evaluate
    needed[CARD] = card = f"python -m model_card.card {folder}"
    if (folder / CARD).is_file():
        needed |= dict.fromkeys(_SHOWN.findall((folder / CARD).read_text("utf-8")), card)
    missing = [f"{name} ({how})" for name, how in needed.items() if not (folder / name).is_file()]
    if missing:
        raise PublishError(f"{folder} is not complete; it lacks {', '.join(missing)}")
    optional = [name for name in OPTIONAL if (folder / name).is_file()]
    return sorted({*needed, *optional, GRAPH})


def _check_measured(checkpoint: Checkpoint) -> None:
    """Raises unless the calibration, the gate and the metrics belong to these weights."""
    CarRecognizer(checkpoint)
    measured = _read_json(checkpoint.folder / METRICS).get("weights")
    if measured != checkpoint.revision:
        raise PublishError(
            f"{checkpoint.folder / METRICS} was measured with the weights {measured}, but those "
            f"beside it are {checkpoint.revision}; measure again with `python -m trainer.evaluate`"
        )


def _check_graph(checkpoint: Checkpoint, write: bool) -> None:
    """Raises unless the graph answers as the network does, after writing one that is missing."""
    if (checkpoint.folder / GRAPH).is_file():
        apart = difference(checkpoint, checkpoint.folder)
        if apart > TOLERANCE:
            raise PublishError(
                f"{checkpoint.folder / GRAPH} answers otherwise than the network, by up to "
                f"{apart:.1e} of the largest value; write it anew with "
                f"`python -m trainer.export {checkpoint.folder}`"
            )
    elif write:
        export(checkpoint.folder)


def _send(
    api: HfApi,
    checkpoint: Checkpoint,
    names: Sequence[str],
    repo: str,
    private: bool,
    tag: str | None,
    dry_run: bool,
) -> None:
    folder, url = checkpoint.folder, f"{api.endpoint}/{repo}"
    print(f"logged in as {api.whoami()['name']}")
    remote = _look_at(api, repo, tag)
    if private and remote.head and not remote.private:
        raise PublishError(
            f"{repo} is there already and public, which --private does not change; "
            f"make it private at {url}/settings, or choose another name"
        )
    seen = "private" if private or remote.private else "public"
    print(f"{url}, {seen}, {f'at {remote.head}' if remote.head else 'new'}")
    states = {name: _state(folder / name, remote.files.get(name)) for name in names}
    states |= dict.fromkeys((name for name in _ours(remote.files) if name not in states), REMOVED)
    for name, state in states.items():
        there = (folder / name).is_file()
        size = f"{(folder / name).stat().st_size:,}" if there else "-"
        print(f"{state:>9} {size:>12}  {name}")
    changes = {name: state for name, state in states.items() if state != SAME}
    if remote.tagged and (changes or remote.tagged != remote.head):
        raise PublishError(
            f"{repo} has a tag {tag} already, on other files (commit {remote.tagged}); "
            "choose another name for what goes up now"
        )
    if dry_run:
        print("a dry run: nothing was written")
        return
    if remote.head is None:
        api.create_repo(repo, private=private or None)  # None: as the organisation has it
    commit = _commit(api, checkpoint, repo, changes, remote.head) if changes else remote.head
    if tag and not remote.tagged:
        api.create_tag(repo, tag=tag, revision=commit)
    print(f"{url} is at {commit}" + (f", tagged {tag}" if tag else ""))
    print(f"open it with: python -m space --model {repo}@{tag or commit} PHOTO")


def _look_at(api: HfApi, repo: str, tag: str | None) -> Remote:
    try:
        info = api.model_info(repo)
    except RepositoryNotFoundError:
        return Remote(None, False, {}, None)
    entries = api.list_repo_tree(repo, recursive=True, revision=info.sha)
    files = {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}
    tagged = None
    if tag:
        with suppress(RevisionNotFoundError):
            tagged = api.model_info(repo, revision=tag).sha
    return Remote(info.sha, bool(info.private), files, tagged)


def _ours(paths: Iterable[str]) -> list[str]:
    """Those of a repository's files that a checkpoint may have put there."""
    known = {*REQUIRED, CALIBRATION, GATE, METRICS, CARD, GRAPH, *OPTIONAL}
    return [path for path in paths if path in known or path.startswith(FIGURES)]


def _commit(
    api: HfApi, checkpoint: Checkpoint, repo: str, changes: Mapping[str, str], head: str | None
) -> str:
    """Makes the changes in one commit on top of `head`; returns its hash."""
    operations = [
        CommitOperationDelete(name)
        if state == REMOVED
        else CommitOperationAdd(name, checkpoint.folder / name)
        for name, state in changes.items()
    ]
    # Not `upload_folder`, which may cut a folder into several commits.
    try:
        return api.create_commit(
            repo,
            operations,
            commit_message=f"Marque checkpoint with the weights {checkpoint.revision}",
            parent_commit=head,
        ).oid
    except HfHubHTTPError:
        raise
    except ValueError as error:  # what the library says of a card that is not in order
        raise PublishError(f"{checkpoint.folder / CARD}: {error}") from error


def _state(path: Path, there: RepoFile | None) -> str:
    """How a file compares with the one on the Hub; one not written yet counts as other."""
    if there is None:
        return NEW
    if not path.is_file():
        return CHANGED
    same = (
        there.lfs.sha256 == file_hash(path)
        if there.lfs
        else there.blob_id == git_hash(path.read_bytes())
    )
    return SAME if same else CHANGED


def _refusal(error: HfHubHTTPError, repo: str) -> str:
    status = error.response.status_code
    if isinstance(error, RepositoryNotFoundError):
        return f"there is no {repo} that you may write to; log in as one of its owners"
    if status == 401:
        return (
            "the Hub does not know your token: log in anew with `hf auth login`, or correct "
            "HF_TOKEN if you set it"
        )
    if status == 403:
        return (
            f"you may not write to {repo} ({error.server_message}); use a token that may write, "
            "and an organisation that you belong to"
        )
    if status == 412:
        return f"{repo} has changed in the meantime; look at it, then run the same command again"
    return f"the Hub refused: {error}"


def _read_json(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise PublishError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise PublishError(f"{path} should hold one JSON object")
    return content


if __name__ == "__main__":
    sys.exit(main())
