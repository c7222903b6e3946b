"""Folders sent to the Hub, which `LocalHub` plays."""

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from huggingface_hub import HfApi

from space.errors import MarqueError
from trainer.publishing import upload as uploads
from trainer.publishing.upload import files_below, upload


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "folder"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("# Cars\n")
    (folder / "audit.json").write_text("{}\n")
    (folder / "data" / "train.parquet").write_bytes(b"PAR1")
    return folder


# These run in the other process.


def send(folder: Path, repo: str, private: bool = False, dry_run: bool = False) -> str:
    """What was printed."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        upload(
            folder,
            files_below(folder),
            repo,
            "dataset",
            message="Cars",
            mark="audit.json",
            private=private,
            dry_run=dry_run,
        )
    return printed.getvalue()


def as_someone(token: str | None, function: Callable[..., Any], *args: Any) -> Any:
    """Calls a function as who has this token, without waiting between the client's retries."""
    with mock.patch.dict(os.environ, {"HF_TOKEN": token or ""}), mock.patch("time.sleep"):
        return function(*args)


def test_a_repository_holds_what_the_folder_holds(hub, call, folder):
    printed = call(send, folder, "org/cars")
    repo = hub.repo("org/cars", "dataset")
    assert printed.startswith(f"logged in as ada\n{hub.url}/datasets/org/cars, public, new\n")
    assert "      new            4  data/train.parquet\n" in printed
    assert printed.endswith(f"{hub.url}/datasets/org/cars is at {repo.head}\n")
    assert set(repo.files) == {".gitattributes", "README.md", "audit.json", "data/train.parquet"}
    assert repo.files["data/train.parquet"] == b"PAR1"
    assert [commit.message for commit in repo.history[1:]] == ["Cars"]
    assert not repo.private


def test_a_second_time_nothing_is_committed(hub, call, folder):
    call(send, folder, "org/twice")
    head = hub.repo("org/twice", "dataset").head
    call(send, folder, "org/twice")
    assert hub.repo("org/twice", "dataset").head == head


def test_what_the_folder_lost_goes_in_the_same_commit(hub, call, folder):
    call(send, folder, "org/changed")
    (folder / "data" / "train.parquet").rename(folder / "data" / "test.parquet")
    call(send, folder, "org/changed")
    repo = hub.repo("org/changed", "dataset")
    assert len(repo.history) == 3
    assert {name for name in repo.files if "/" in name} == {"data/test.parquet"}


def test_somebody_elses_work_is_left_alone(hub, call, folder):
    repo = hub.add_repo("org/poems", {"poems.txt": b"roses"}, "dataset")
    with pytest.raises(MarqueError, match=r"org/poems holds something else \(poems\.txt and no"):
        call(send, folder, "org/poems")
    assert list(repo.files) == ["poems.txt"]


def test_private_means_private(hub, call, folder):
    call(send, folder, "org/secret", True)
    assert hub.repo("org/secret", "dataset").private
    call(send, folder, "org/known")
    with pytest.raises(MarqueError, match="org/known is there already and public"):
        call(send, folder, "org/known", True)


@pytest.mark.parametrize(
    ("token", "repo_id", "message"),
    [
        (None, "org/x", "nobody is logged in: log in with `hf auth login`"),
        ("hf_wrong", "org/x", "the Hub does not know your token"),
        ("hf_ada", "others/x", r"you may not write to others/x \(.*namespace others"),
        ("hf_ada", "org/not valid", "org/not valid: .*alphanumeric"),
    ],
)
def test_who_may_not_is_told_why(hub, call, folder, token, repo_id, message):
    with pytest.raises(MarqueError, match=message):
        call(as_someone, token, send, folder, repo_id)
    with pytest.raises(KeyError):
        hub.repo(repo_id, "dataset")


def test_a_hub_that_is_away(hub, call, folder):
    with hub.down(), pytest.raises(MarqueError, match="the Hub cannot be reached"):
        call(as_someone, "hf_ada", send, folder, "org/x")


def test_a_dry_run_sends_nothing(hub, call, folder):
    printed = call(send, folder, "org/dry", True, True)
    assert f"logged in as ada\n{hub.url}/datasets/org/dry, private, new\n" in printed
    assert printed.endswith("a dry run: nothing was written\n")
    with pytest.raises(KeyError):
        hub.repo("org/dry", "dataset")


@pytest.mark.parametrize(
    ("license", "why"), [("[mit", "while parsing"), ("my-own", ".*must be one of")]
)
def test_a_readme_that_the_hub_would_not_take(hub, call, folder, license, why):
    (folder / "README.md").write_text(f"---\nlicense: {license}\n---\n")
    with pytest.raises(MarqueError, match=rf"README\.md is damaged: {why}"):
        call(send, folder, "org/untidy")
    with pytest.raises(KeyError):  # nor is there an empty repository now
        hub.repo("org/untidy", "dataset")


def test_a_trusted_publisher_has_no_name(monkeypatch):
    monkeypatch.setenv("HF_OIDC_RESOURCE", "spaces/org/space")
    assert uploads._who(HfApi()) == "a trusted publisher of spaces/org/space"


def lossy(folder: Path, repo: str) -> None:
    """Sends a folder of which the last file is not committed."""
    commit = HfApi.create_commit
    with mock.patch.object(HfApi, "create_commit", lambda api, repo, operations, **how: commit(
        api, repo, operations[:-1], **how
    )):  # fmt: skip
        send(folder, repo)


def test_what_did_not_arrive_is_named(call, folder):
    message = r"org/lossy does not hold what was sent: data/train\.parquet"
    with pytest.raises(MarqueError, match=message):
        call(lossy, folder, "org/lossy")
