"""Sends a folder to the Hub in one commit, and looks whether it arrived."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import httpx2
from huggingface_hub import HfApi, RepoFile
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    OIDCError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils.sha import git_hash

from space.checkpoints import file_hash

# What the Hub puts into a new repository by itself.
_FIRST_FILES = {".gitattributes", "README.md"}


class UploadError(ValueError):
    """Something could not be sent; the message says why and what to do."""


def who() -> str:
    """Who is logged in to the Hub, in words.

    Raises:
        UploadError: nobody is, the token is wrong, or the Hub cannot be reached.
    """
    if resource := os.environ.get("HF_OIDC_RESOURCE"):  # a token of one hour, which has no name
        return f"a trusted publisher of {resource}"
    with explained("the Hub"):
        return str(HfApi().whoami()["name"])


def preview(folder: Path, repo_id: str) -> None:
    """Prints what `upload` would send, and for whom."""
    print(f"{repo_id} would hold\n{_listing(folder)}")
    try:
        print(f"logged in as {who()}")
    except UploadError as error:
        print(error)
    print("nothing was sent (--dry-run)")


def _listing(folder: Path) -> str:
    """The files of a folder with their sizes, a line each, and how many there are."""
    sizes = {name: (folder / name).stat().st_size for name in _files(folder)}
    lines = [f"{size:>13,}  {name}" for name, size in sizes.items()]
    return "\n".join([*lines, f"{sum(sizes.values()):>13,}  bytes in {len(sizes)} files"])


def upload(
    folder: Path,
    repo_id: str,
    kind: Literal["dataset", "space"],
    *,
    mark: str,
    message: str,
    private: bool = False,
) -> str:
    """Makes a repository hold just the files of a folder, and prints which and as whom.

    It is created if need be. The second time there is nothing to commit.

    Args:
        repo_id: `org/name`.
        mark: a file that every repository of this sort has. One that holds others without it is
            somebody's work, and left alone.
        message: of the commit.
        private: a new repository is shown to its owners only.

    Returns:
        The address of the repository.

    Raises:
        UploadError: it is refused, not this sort's, public where a private one is asked for, cannot
            be reached, or holds other files than were sent.
    """
    print(f"logged in as {who()}")
    print(f"{repo_id} will hold\n{_listing(folder)}")
    api = HfApi()
    with explained(f"the {kind} {repo_id}"):
        try:
            info = api.repo_info(repo_id, repo_type=kind)
        except RepositoryNotFoundError:
            info = None
        if info:
            there = {file.rfilename for file in info.siblings or ()} - _FIRST_FILES
            if there and mark not in there:
                raise UploadError(
                    f"the {kind} {repo_id} holds something else ({min(there)} and no {mark}); "
                    "choose another name, or delete it first"
                )
            if private and not info.private:
                raise UploadError(
                    f"the {kind} {repo_id} is there and public; make it private in its settings, "
                    "or leave out --private"
                )
        url = api.create_repo(
            repo_id,
            repo_type=kind,
            private=private or None,
            exist_ok=True,
            space_sdk="gradio" if kind == "space" else None,
        )
        commit = api.upload_folder(
            repo_id=repo_id,
            repo_type=kind,
            folder_path=folder,
            commit_message=message,
            delete_patterns="*",  # what is there and not in the folder
        )
        there = api.list_repo_tree(repo_id, repo_type=kind, revision=commit.oid, recursive=True)
        wrong = _differences(folder, [file for file in there if isinstance(file, RepoFile)])
    if wrong:
        raise UploadError(f"{url} does not hold what was sent: {'; '.join(wrong)}; send it again")
    return str(url)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Says in plain words why the Hub did not do what it is asked within.

    Args:
        what: what it is asked for.

    Raises:
        UploadError: in place of what the client library raises.
    """
    try:
        yield
    except LocalTokenNotFoundError:
        raise UploadError("nobody is logged in: `hf auth login`, or set HF_TOKEN") from None
    except (HFValidationError, OIDCError) as error:
        raise UploadError(f"{what}: {error}") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        cause = {
            401: "your token is not accepted there; log in with `hf auth login --force`",
            403: "you may not write there; a token needs the permission to write to it",
        }
        raise UploadError(f"{what}: {cause.get(status, error)}") from error
    except (httpx2.HTTPError, OfflineModeIsEnabled, OSError) as error:
        raise UploadError(f"{what}: the Hub cannot be reached ({error})") from error


def _files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def _differences(folder: Path, there: list[RepoFile]) -> list[str]:
    """What a repository's files and a folder's do not have in common."""
    sent = _files(folder)
    wrong = []
    found = {file.path: file for file in there}
    for name in sent:
        file, path = found.pop(name, None), folder / name
        if file is None:
            wrong.append(f"{name} is missing")
        elif file.lfs:
            if file.lfs.sha256 != file_hash(path):
                wrong.append(f"{name} is another file")
        elif file.blob_id != git_hash(path.read_bytes()):
            wrong.append(f"{name} is another file")
    return wrong + [f"{name} was not sent" for name in found if name not in _FIRST_FILES]
