"""Repositories of the Hub: their names, and checkpoints in them, kept in the local cache."""

import argparse
import logging
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from space.checkpoints import REQUIRED, SERVING_FILES
from space.errors import CheckpointError

_PATIENCE = 5  # seconds for the Hub to answer before the local cache does
_LATER = (408, 429)  # its answers to a request that came too slowly, or after too many others

_log = logging.getLogger(__name__)


def repo_id(text: str) -> str:
    """The type of an argument that names a repository: `org/name`.

    Raises:
        argparse.ArgumentTypeError: the Hub does not take it, or it has no owner.
    """
    try:
        validate_repo_id(text)
    except HFValidationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if "/" not in text:
        raise argparse.ArgumentTypeError(
            f"{text} names no owner; give org/name, or your own name for org"
        )
    return text


def find(source: str, repo: str, revision: str | None) -> Path | None:
    """The folder of a repository in the local cache, named by its commit; None if it is no name.

    Args:
        source: how the user wrote it, for messages.
        repo: `org/name`.
        revision: a branch, a tag or a commit.

    Raises:
        CheckpointError: it is not there, or cannot be fetched.
    """
    try:
        snapshot = _fetch(repo, revision)
    except HFValidationError:  # such as ../folder
        return None
    except GatedRepoError:
        raise CheckpointError(
            f"the Hub repository {repo} is gated: ask for access, then log in with `hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise CheckpointError(
            f"there is no folder {source} and no Hub repository {repo} that you may read; "
            "if it is private, log in with `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise CheckpointError(f"the Hub repository {repo} has no revision {revision}") from None
    except LocalEntryNotFoundError:
        raise CheckpointError(
            f"the Hub cannot be reached and {source} is not in the local cache, or only a part of "
            "it; connect once, or name a folder"
        ) from None
    except (httpx2.HTTPError, OSError) as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        if status == 401:
            raise CheckpointError(
                f"the Hub does not know your token, so {source} cannot be fetched; log in again "
                "with `hf auth login`, or correct or unset HF_TOKEN if you set it"
            ) from None
        if status in _LATER:
            raise CheckpointError(
                f"the Hub asks to wait (HTTP {status}), and {source} is not in the local cache as "
                "it is now; try again in some minutes, or name a folder"
            ) from None
        raise CheckpointError(
            f"{source} could not be fetched from the Hub: {error}; try again"
        ) from error
    return snapshot


def _fetch(repo: str, revision: str | None) -> Path:
    """The folder of the repository in the local cache, filled or brought up to date if possible.

    A checkpoint that is there already costs one question to the Hub, and none if it is named by
    its commit. The question is asked here, since the download sets no time limit on its own, and
    without a connection retries for half a minute before it looks into the cache.
    """
    cached = _cached(repo, revision)
    if cached and cached.name == revision:
        return cached  # a commit never changes
    try:
        commit = HfApi().model_info(repo, revision=revision, timeout=_PATIENCE).sha
    except (httpx2.TransportError, OfflineModeIsEnabled, HfHubHTTPError) as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        if status and status < 500 and not (cached and status in _LATER):
            raise  # it answers: no such repository, revision or token, or that one should wait
        if not cached:
            raise LocalEntryNotFoundError(str(error)) from error
        _log.warning(
            "the Hub cannot be reached; %s is answered from the local cache by %s",
            f"{repo}@{revision}" if revision else repo,
            cached.name,
        )
        return cached
    if cached and cached.name == commit:
        return cached
    # First by the commit: the cache remembers what a branch or tag means before it has the files,
    # and a download that breaks should leave it with the earlier ones.
    snapshot_download(repo, revision=commit, allow_patterns=list(SERVING_FILES))
    return Path(snapshot_download(repo, revision=revision, allow_patterns=list(SERVING_FILES)))


def _cached(repo: str, revision: str | None) -> Path | None:
    """The folder of the repository in the local cache, if it is there and complete."""
    try:
        folder = Path(
            snapshot_download(
                repo, revision=revision, allow_patterns=list(SERVING_FILES), local_files_only=True
            )
        )
    except LocalEntryNotFoundError:
        return None
    # Other programs fetch single files, of which the client library cannot tell what is missing.
    return folder if all((folder / name).is_file() for name in REQUIRED) else None
