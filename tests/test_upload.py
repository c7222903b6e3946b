"""Folders sent to the Hub, which `LocalHub` plays."""

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hub import LocalHub
from huggingface_hub import RepoFile
from huggingface_hub.utils.sha import git_hash

from space import upload as sent
from space.upload import UploadError, preview, upload


@pytest.fixture(scope="module")
def hub() -> Iterator[LocalHub]:
    with LocalHub() as hub:
        hub.add_user("hf_ada", "ada", "org")
        yield hub


@pytest.fixture(scope="module")
def call(hub, tmp_path_factory) -> Iterator[Callable[..., Any]]:
    with hub.client(tmp_path_factory.mktemp("hf_home"), token="hf_ada") as call:
        yield call


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "folder"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("# Cars\n")
    (folder / "audit.json").write_text("{}\n")
    (folder / "data" / "train.parquet").write_bytes(b"PAR1")
    return folder


# These run in the other process.


def send(folder: Path, repo_id: str, private: bool = False) -> tuple[str, str]:
    """The address of the repository, and what was printed."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        url = upload(folder, repo_id, "dataset", mark="audit.json", message="Cars", private=private)
    return url, printed.getvalue()


def previewed(folder: Path, repo_id: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        preview(folder, repo_id)
    return printed.getvalue()


def as_someone(token: str | None, function: Callable[..., Any], *args: Any) -> Any:
    """Calls a function as who has this token, without waiting between the client's retries."""
    with mock.patch.dict(os.environ, {"HF_TOKEN": token or ""}), mock.patch("time.sleep"):
        return function(*args)


def test_a_repository_holds_what_the_folder_holds(hub, call, folder):
    url, printed = call(send, folder, "org/cars")
    assert url == f"{hub.url}/datasets/org/cars"
    assert "logged in as ada\n" in printed
    assert "            4  data/train.parquet\n" in printed
    repo = hub.repo("org/cars", "dataset")
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
    with pytest.raises(UploadError, match=r"org/poems holds something else \(poems\.txt and no"):
        call(send, folder, "org/poems")
    assert list(repo.files) == ["poems.txt"]


def test_private_means_private(hub, call, folder):
    call(send, folder, "org/secret", True)
    assert hub.repo("org/secret", "dataset").private
    call(send, folder, "org/known")
    with pytest.raises(UploadError, match="org/known is there and public"):
        call(send, folder, "org/known", True)


@pytest.mark.parametrize(
    ("token", "repo_id", "message"),
    [
        (None, "org/x", "nobody is logged in: `hf auth login`"),
        ("hf_wrong", "org/x", "your token is not accepted there"),
        ("hf_ada", "others/x", "the dataset others/x: you may not write there"),
        ("hf_ada", "org/not valid", "the dataset org/not valid: .*alphanumeric"),
    ],
)
def test_who_may_not_is_told_why(hub, call, folder, token, repo_id, message):
    with pytest.raises(UploadError, match=message):
        call(as_someone, token, send, folder, repo_id)
    with pytest.raises(KeyError):
        hub.repo(repo_id, "dataset")


def test_a_hub_that_is_away(hub, call, folder):
    with hub.down(), pytest.raises(UploadError, match="the Hub cannot be reached"):
        call(as_someone, "hf_ada", send, folder, "org/x")


def test_a_preview_sends_nothing(hub, call, folder):
    printed = call(previewed, folder, "org/preview")
    assert "org/preview would hold\n" in printed
    assert "bytes in 3 files" in printed
    assert "logged in as ada\nnothing was sent" in printed
    assert "nobody is logged in" in call(as_someone, None, previewed, folder, "org/preview")
    with pytest.raises(KeyError):
        hub.repo("org/preview", "dataset")


def test_a_trusted_publisher_has_no_name(monkeypatch):
    monkeypatch.setenv("HF_OIDC_RESOURCE", "spaces/org/space")
    assert sent.who() == "a trusted publisher of spaces/org/space"


def test_what_did_not_arrive_is_named(folder):
    def file(path: str, content: bytes) -> RepoFile:
        return RepoFile(path=path, size=len(content), oid=git_hash(content))

    arrived = [file("README.md", b"# Cars\n"), file("audit.json", b"{}\n")]
    whole = [*arrived, file("data/train.parquet", b"PAR1"), file(".gitattributes", b"")]
    assert sent._differences(folder, whole) == []
    assert sent._differences(folder, arrived) == ["data/train.parquet is missing"]
    damaged = [*arrived, file("data/train.parquet", b"PAR"), file("data/old.parquet", b"")]
    assert sent._differences(folder, damaged) == [
        "data/train.parquet is another file",
        "data/old.parquet was not sent",
    ]
    lfs = {"size": 4, "oid": "0" * 64, "pointerSize": 100}
    large = RepoFile(path="data/train.parquet", size=4, oid="0" * 40, lfs=lfs)
    assert sent._differences(folder, [*arrived, large]) == ["data/train.parquet is another file"]
