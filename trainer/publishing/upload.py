"""Brings files to a repository of the Hub in one commit, and looks whether they arrived.

Models, datasets and Spaces all go up through `upload`: it says who is logged in and what becomes
of every file, sends what has changed, and nothing if nothing has.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx2
import yaml
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoCard
from huggingface_hub.constants import DEFAULT_REVISION
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    OIDCError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.sha import git_hash

from space.checkpoints import CARD, REVISION, file_hash
from space.errors import MarqueError

Kind = Literal["model", "dataset", "space"]

NEW, CHANGED, SAME, REMOVED = "new", "changed", "unchanged", "removed"

# What the Hub puts into a new repository by itself.
_FIRST_FILES = {".gitattributes", CARD}


def tag_name(text: str) -> str:
    """The type of an argument that names a tag: one that `org/name@TAG` can ask for.

    Raises:
        argparse.ArgumentTypeError: it is none, or the name of the branch that everything goes to.
    """
    if not REVISION.fullmatch(text) or text == DEFAULT_REVISION:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a name for a tag; take letters, digits, dots, dashes and slashes, "
            f"and not {DEFAULT_REVISION}, which is the branch"
        )
    return text


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


def files_below(folder: Path) -> list[str]:
    """Every file at any depth, as a path relative to the folder."""
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def check_login() -> str:
    """Asks the Hub who is logged in, before long work whose result is to go there.

    Raises:
        MarqueError: nobody is, the Hub does not know the token, or it cannot be reached.
    """
    with explained("the Hub"):
        return _who(HfApi())


def upload(
    folder: Path,
    names: Sequence[str],
    repo: str,
    kind: Kind,
    *,
    message: str,
    removable: Callable[[str], bool] = lambda name: True,
    mark: str | None = None,
    private: bool = False,
    tag: str | None = None,
    dry_run: bool = False,
) -> str | None:
    """Brings files to a repository, which is created if need be, and prints what it does.

    Args:
        folder, names: the files; one that is not there yet counts as one that would be sent.
        repo: `org/name`.
        message: of the commit.
        removable: which files of the repository go when they are none of `names`.
        mark: a file that every repository of this sort has. One that holds others without it is
            somebody's other work, and left alone.
        private: what a new repository is; one that exists stays as it is.
        tag: for the commit; one that stands on something else is never moved.
        dry_run: everything but the writing.

    Returns:
        The commit that the repository stands on then; None after a dry run.

    Raises:
        MarqueError: nobody is logged in, the Hub refuses or cannot be reached, the repository is
            public where a private one is asked for, holds other work or a tag of that name, or
            does not hold what was sent.
    """
    with explained(repo):
        api = HfApi()
        print(f"logged in as {_who(api)}")
        remote = _look_at(api, repo, kind, tag)
        url = f"{api.endpoint}/{'' if kind == 'model' else kind + 's/'}{repo}"
        others = set(remote.files) - _FIRST_FILES
        if mark and others and mark not in others:
            raise MarqueError(
                f"the {kind} {repo} holds something else ({min(others)} and no {mark}); choose "
                "another name, or delete it first"
            )
        if private and remote.head and not remote.private:
            raise MarqueError(
                f"{repo} is there already and public, which --private does not change; "
                f"make it private at {url}/settings, or choose another name"
            )
        seen = "private" if private or remote.private else "public"
        print(f"{url}, {seen}, {f'at {remote.head}' if remote.head else 'new'}")
        states = _states(folder, names, remote, removable)
        for name, state in states.items():
            there = (folder / name).is_file()
            size = f"{(folder / name).stat().st_size:,}" if there else "-"
            print(f"{state:>9} {size:>12}  {name}")
        changes = {name: state for name, state in states.items() if state != SAME}
        if remote.tagged and (changes or remote.tagged != remote.head):
            raise MarqueError(
                f"{repo} has a tag {tag} already, on other files (commit {remote.tagged}); "
                "choose another name for what goes up now"
            )
        if CARD in changes and changes[CARD] != REMOVED:
            _check_card(folder / CARD, kind)
        if dry_run:
            print("a dry run: nothing was written")
            return None
        if remote.head is None:
            api.create_repo(
                repo,
                repo_type=kind,
                private=private or None,  # None: as the organization has it
                space_sdk="gradio" if kind == "space" else None,
            )
        head = _commit(api, folder, repo, kind, changes, remote.head, message)
        if tag and not remote.tagged:
            api.create_tag(repo, repo_type=kind, tag=tag, revision=head)
        if changes:
            found = _states(folder, names, _look_at(api, repo, kind, None), removable)
            if wrong := [name for name, state in found.items() if state != SAME]:
                raise MarqueError(f"{url} does not hold what was sent: {', '.join(wrong)}")
    print(f"{url} is at {head}" + (f", tagged {tag}" if tag else ""))
    return head


@contextmanager
def explained(repo: str) -> Iterator[None]:
    """Says in plain words why the Hub did not do what it is asked within.

    Args:
        repo: what it is asked for.

    Raises:
        MarqueError: in place of what the client library raises.
    """
    try:
        yield
    except LocalTokenNotFoundError:
        raise MarqueError(
            "nobody is logged in: log in with `hf auth login`, or set HF_TOKEN to a token that "
            "may write"
        ) from None
    except (HFValidationError, OIDCError) as error:
        raise MarqueError(f"{repo}: {error}") from None
    except HfHubHTTPError as error:
        raise MarqueError(_refusal(error, repo)) from error
    except (httpx2.TransportError, OfflineModeIsEnabled) as error:
        raise MarqueError(
            f"the Hub cannot be reached ({error}); run the same command again when it can"
        ) from error


def _who(api: HfApi) -> str:
    if resource := os.environ.get("HF_OIDC_RESOURCE"):  # a token of one hour, which has no name
        return f"a trusted publisher of {resource}"
    return str(api.whoami()["name"])


def _look_at(api: HfApi, repo: str, kind: Kind, tag: str | None) -> Remote:
    try:
        info = api.repo_info(repo, repo_type=kind)
    except RepositoryNotFoundError:
        return Remote(None, False, {}, None)
    entries = api.list_repo_tree(repo, repo_type=kind, recursive=True, revision=info.sha)
    files = {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}
    tagged = None
    if tag:
        with suppress(RevisionNotFoundError):
            tagged = api.repo_info(repo, repo_type=kind, revision=tag).sha
    return Remote(info.sha, bool(info.private), files, tagged)


def _states(
    folder: Path, names: Sequence[str], remote: Remote, removable: Callable[[str], bool]
) -> dict[str, str]:
    """What becomes of each file."""
    states = {name: _state(folder / name, remote.files.get(name)) for name in names}
    gone = (name for name in remote.files if removable(name) and name != ".gitattributes")
    return states | {name: REMOVED for name in gone if name not in states}


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


def _check_card(path: Path, kind: Kind) -> None:
    """Asks the Hub whether it takes a card, before a repository is made for it.

    Raises:
        MarqueError: it does not, for the reason that it gives.
    """
    try:
        RepoCard(path.read_text("utf-8"), ignore_metadata_errors=True).validate(repo_type=kind)
    except HfHubHTTPError:
        raise
    except (ValueError, yaml.YAMLError) as error:
        said = str(error)
        with suppress(ValueError, KeyError, TypeError):  # the Hub answers in JSON
            said = "; ".join(item["message"] for item in json.loads(said)["errors"])
        raise MarqueError(f"the front matter of {path.name} is damaged: {said}") from error


def _commit(
    api: HfApi,
    folder: Path,
    repo: str,
    kind: Kind,
    changes: Mapping[str, str],
    head: str | None,
    message: str,
) -> str | None:
    """Makes the changes in one commit on top of `head`; returns its hash, or `head` without any."""
    operations = [
        CommitOperationDelete(name) if state == REMOVED else CommitOperationAdd(name, folder / name)
        for name, state in changes.items()
    ]
    if not operations:
        return head
    # Not `upload_folder`, which may cut a folder into several commits.
    return api.create_commit(
        repo, operations, repo_type=kind, commit_message=message, parent_commit=head
    ).oid


def _refusal(error: HfHubHTTPError, repo: str) -> str:
    status = error.response.status_code
    if isinstance(error, RepositoryNotFoundError):
        return f"there is no {repo} that you may write to; log in as one of its owners"
    if status == 401:
        return (
            "the Hub does not know your token: log in again with `hf auth login`, or correct "
            "HF_TOKEN if you set it"
        )
    if status == 403:
        return (
            f"you may not write to {repo} ({error.server_message}); use a token that may write, "
            "and an organization that you belong to"
        )
    if status == 412:
        return f"{repo} has changed in the meantime; look at it, then run the same command again"
    return f"the Hub refused: {error}"
