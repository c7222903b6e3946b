"""Published and pulled over HTTP: `LocalHub` plays the Hub, and other processes its two ends."""

import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from conftest import calibrate, draw_car, save_tiny_checkpoint
from hub import LocalHub
from others import timm_scores, transformers_scores

from space.checkpoints import (
    METRICS,
    REQUIRED,
    WANTED,
    WEIGHTS,
    CheckpointError,
    file_hash,
    open_checkpoint,
    write_json,
)
from space.cli import main as recognize
from space.network import GRAPH
from space.recognizer import CarRecognizer
from trainer import publish as module
from trainer.publish import CARD, PublishError, main, names_to_publish

CARD_TEXT = """---
library_name: timm
license: mit
---

![what is taken for what](figures/confusion.svg)
"""
PUBLISHED = {
    *REQUIRED,
    "calibration.json",
    "gate.safetensors",
    "metrics.json",
    "model.onnx",
    "README.md",
    "figures/confusion.svg",
}
TOKEN, OTHER_TOKEN = "hf_secret", "hf_other"

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def hub() -> Iterator[LocalHub]:
    with LocalHub() as hub:
        hub.add_user(TOKEN, "ada", "org")
        hub.add_user(OTHER_TOKEN, "bob")
        yield hub


@pytest.fixture(scope="module")
def author(hub, tmp_path_factory) -> Iterator[Call]:
    """A process of someone who is logged in."""
    with hub.client(tmp_path_factory.mktemp("author"), TOKEN) as call:
        yield call


@pytest.fixture(scope="module")
def reader(hub, tmp_path_factory) -> Iterator[Call]:
    """A process of someone else, who has nothing yet."""
    with hub.client(tmp_path_factory.mktemp("reader")) as call:
        yield call


def finish(folder: Path) -> Path:
    """Gives a checkpoint all that evaluation and the card add to it, drawn by code."""
    calibrate(folder)
    write_json(folder / METRICS, {"weights": f"sha256:{file_hash(folder / WEIGHTS)[:12]}"})
    (folder / "figures").mkdir(exist_ok=True)
    (folder / "figures" / "confusion.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / CARD).write_text(CARD_TEXT)
    return folder


@pytest.fixture(scope="module")
def finished(exported_checkpoint, tmp_path_factory) -> Path:
    """A run's checkpoint folder that is ready to be published."""
    run = tmp_path_factory.mktemp("finished")
    return finish(shutil.copytree(exported_checkpoint, run / "checkpoint"))


@pytest.fixture
def folder(finished, tmp_path) -> Path:
    """The same, which a test may spoil."""
    return shutil.copytree(finished, tmp_path / "run" / "checkpoint")


# These run in the other processes.


def said_by(command: Call, *arguments: str | Path) -> tuple[int, str]:
    """A command's exit status and what it says."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        status = command([str(argument) for argument in arguments])
    return status, said.getvalue()


def publish(*arguments: str | Path) -> tuple[int, str]:
    return said_by(main, *arguments)


def with_token(token: str, function: Call, *arguments: Any) -> Any:
    """Calls a function as whoever has this token; as nobody without one."""
    with mock.patch.dict(os.environ):
        os.environ.pop("HF_TOKEN", None)
        if token:
            os.environ["HF_TOKEN"] = token
        return function(*arguments)


def overtaken(older: str, *arguments: str | Path) -> tuple[int, str]:
    """The command, in whose middle the repository moves on from an older commit."""
    look_at = module._look_at

    def look_before(*found: Any) -> Any:
        return replace(look_at(*found), head=older)

    with mock.patch.object(module, "_look_at", look_before):
        return publish(*arguments)


def scores(source: str, photo: Path) -> tuple[str, list[dict[str, float]]]:
    """The revision that answers, and the scores of Marque, timm and transformers."""
    recognizer = CarRecognizer.from_pretrained(source)
    count = len(recognizer.labels)
    marque = {car.label: car.score for car in recognizer.predict(photo, count).predictions}
    name, _, revision = source.partition("@")
    picture = draw_car(5, size=(300, 170))
    by_timm = timm_scores(f"hf-hub:{source}", picture)
    by_transformers = transformers_scores(name, picture, count, revision=revision)
    return recognizer.revision, [marque, by_timm, by_transformers]


def pulled(source: str) -> tuple[str, set[str]]:
    """The revision of a checkpoint, and the files that came for it."""
    checkpoint = open_checkpoint(source)
    return checkpoint.revision, {
        path.relative_to(checkpoint.folder).as_posix()
        for path in checkpoint.folder.rglob("*")
        if path.is_file()
    }


def listed(said: str) -> list[tuple[str, str]]:
    """The state and the name of each file that the command lists."""
    return re.findall(r"^ *(\w+) +[\d,-]+  (\S+)$", said, re.MULTILINE)


# Sent and fetched again


def test_what_is_published_answers_alike_wherever_it_is_pulled(
    hub, author, reader, finished, tmp_path
):
    run = finished.parent
    status, said = author(publish, run, "org/round", "--tag", "v1")
    assert status == 0, said
    assert "logged in as ada" in said
    repo = hub.repo("org/round")
    assert set(repo.files) == {*PUBLISHED, ".gitattributes"}
    assert all(repo.files[name] == (finished / name).read_bytes() for name in PUBLISHED)
    assert len(repo.history) == 2  # the first one is the Hub's own
    assert repo.at("v1").sha == repo.head
    assert f"{hub.url}/org/round is at {repo.head}, tagged v1" in said
    # Fetched by the tag alone, in a process that has seen nothing of this.
    assert reader(pulled, "org/round@v1") == (repo.head, set(WANTED))
    photo = tmp_path / "car.png"
    draw_car(5, size=(300, 170)).save(photo)
    recognizer = CarRecognizer.from_pretrained(finished)
    here = {car.label: car.score for car in recognizer.predict(photo, 4).predictions}
    assert np.ptp(list(here.values())) > 1e-3  # all the same would agree with anything
    revision, found = reader(scores, "org/round@v1", photo)
    assert revision == repo.head
    assert found == [pytest.approx(here, abs=1e-5)] * 3
    status, said = reader(said_by, recognize, photo, "--model", "org/round@v1")
    assert status == 0
    assert f"marque: org/round@v1 at revision {repo.head}\n" in said


def test_publishing_again_changes_nothing(hub, author, finished):
    author(publish, finished, "org/twice", "--tag", "v1")
    before = hub.repo("org/twice").head
    asked = len(hub.requests)
    status, said = author(publish, finished, "org/twice", "--tag", "v1")
    assert (status, hub.repo("org/twice").head) == (0, before)
    assert [line for line in hub.requests[asked:] if line.startswith("POST")] == []
    assert sorted(listed(said)) == [("unchanged", name) for name in sorted(PUBLISHED)]


def test_only_what_changed_goes_and_what_is_no_longer_ours_is_removed(hub, author, folder):
    author(publish, folder, "org/moving")
    repo = hub.repo("org/moving")
    repo.commit({**repo.files, "notes.md": b"written on the Hub"})
    (folder / CARD).write_text(CARD_TEXT.replace("confusion", "classes"))
    (folder / "figures" / "classes.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg' />")
    status, said = author(publish, folder, "org/moving")
    assert status == 0, said
    assert set(repo.files) == (PUBLISHED - {"figures/confusion.svg"}) | {
        "figures/classes.svg",
        "notes.md",
        ".gitattributes",
    }
    told = {name: state for state, name in listed(said)}
    assert told.pop("README.md") == "changed"
    assert told.pop("figures/classes.svg") == "new"
    assert told.pop("figures/confusion.svg") == "removed"
    assert set(told.values()) == {"unchanged"}
    assert len(repo.history) == 4


def test_nothing_else_of_the_folder_goes_up(hub, author, folder):
    for name in ("gallery.png", "figures/people.jpg", "state/step.json", ".cache/x", "notes.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"mine")
    assert author(publish, folder, "org/tidy")[0] == 0
    assert set(hub.repo("org/tidy").files) == {*PUBLISHED, ".gitattributes"}


def test_dry_run_tells_all_and_writes_nothing(hub, author, folder):
    (folder / GRAPH).unlink()
    before, asked = sorted(folder.rglob("*")), len(hub.requests)
    status, said = author(publish, folder, "org/dry", "--dry-run", "--private", "--tag", "v1")
    assert status == 0, said
    assert "logged in as ada" in said
    assert f"{hub.url}/org/dry, private, new" in said
    assert sorted(listed(said)) == [("new", name) for name in sorted(PUBLISHED)]
    assert sorted(folder.rglob("*")) == before
    assert not [line for line in hub.requests[asked:] if line.startswith("POST")]
    with pytest.raises(KeyError):
        hub.repo("org/dry")


def test_measured_speed_goes_along(folder):
    assert "latency.json" not in names_to_publish(folder)
    (folder / "latency.json").write_text("{}")
    assert "latency.json" in names_to_publish(folder)


def test_missing_graph_is_written_first(hub, author, folder):
    (folder / GRAPH).unlink()
    assert author(publish, folder, "org/graph")[0] == 0
    assert hub.repo("org/graph").files[GRAPH] == (folder / GRAPH).read_bytes()


def test_private_repository_is_pulled_by_its_owners_alone(hub, author, reader, finished):
    assert author(publish, finished, "ada/secret", "--private")[0] == 0
    repo = hub.repo("ada/secret")
    assert repo.private
    assert author(pulled, "ada/secret")[0] == repo.head
    with pytest.raises(CheckpointError, match="log in with `hf auth login`"):
        reader(pulled, "ada/secret")
    # It stays private without being told again.
    status, said = author(publish, finished, "ada/secret")
    assert (status, repo.private) == (0, True)
    assert "ada/secret, private, at" in said


# Refused before anything is sent


@pytest.mark.parametrize("name", sorted(PUBLISHED - {GRAPH}))
def test_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(PublishError, match=rf"is not complete; it lacks {re.escape(name)} \("):
        names_to_publish(folder)


def test_all_that_is_missing_is_named_with_what_writes_it(tiny_checkpoint):
    with pytest.raises(PublishError) as caught:
        names_to_publish(tiny_checkpoint)
    assert re.search(r"calibration\.json \(python -m trainer\.evaluate .*\)", str(caught.value))
    assert "metrics.json (python -m trainer.evaluate" in str(caught.value)
    assert "README.md (python -m model_card.card" in str(caught.value)
    assert WEIGHTS not in str(caught.value)


def refused(capsys, *arguments: str | Path) -> str:
    """What the command says when it fails before it needs the Hub."""
    with mock.patch.object(module, "HfApi", side_effect=AssertionError("asked the Hub")):
        assert main([str(argument) for argument in arguments]) == 1
    return capsys.readouterr().err


def test_folder_that_is_no_checkpoint(tmp_path, capsys):
    assert "it lacks config.json" in refused(capsys, tmp_path, "org/name")


def test_calibration_of_other_weights(folder, tmp_path, capsys):
    other = save_tiny_checkpoint(tmp_path / "other", seed=1)
    shutil.copyfile(other / WEIGHTS, folder / WEIGHTS)
    said = refused(capsys, folder, "org/name")
    assert "calibration.json was measured with other weights" in said


def test_metrics_of_other_weights(folder, capsys):
    write_json(folder / METRICS, {"weights": "sha256:0123456789ab"})
    said = refused(capsys, folder, "org/name")
    assert "metrics.json was measured with the weights sha256:0123456789ab" in said


@pytest.mark.parametrize("content", ["{", "[]"])
def test_metrics_that_are_damaged(folder, capsys, content):
    (folder / METRICS).write_text(content)
    assert "metrics.json" in refused(capsys, folder, "org/name")


def test_graph_that_answers_otherwise(folder, capsys):
    with mock.patch.object(module, "TOLERANCE", -1.0):
        said = refused(capsys, folder, "org/name")
    assert "model.onnx answers otherwise than the network" in said


def test_pickle_beside_the_weights(folder, capsys):
    (folder / "optimizer.pt").write_bytes(b"not even a pickle")
    assert "optimizer.pt is a pickle file" in refused(capsys, folder, "org/name")


@pytest.mark.parametrize("repo", ["name", "org/name/more", "../name", "org/na me"])
def test_name_that_the_hub_does_not_take(finished, capsys, repo):
    with pytest.raises(SystemExit):
        main([str(finished), repo])
    assert repo in capsys.readouterr().err


# Refused by the Hub


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("", "nobody is logged in: log in with `hf auth login`"),
        ("hf_wrong", "the Hub does not know your token: log in anew"),
        (OTHER_TOKEN, "logged in as bob\n(.*\n)*publish: you may not write to org/mine"),
    ],
)
def test_people_who_may_not_publish(hub, author, finished, token, message):
    status, said = author(with_token, token, publish, finished, "org/mine")
    assert status == 1
    assert re.search(message, said), said
    with pytest.raises(KeyError):
        hub.repo("org/mine")


def test_public_repository_does_not_become_private(hub, author, finished):
    repo = hub.add_repo("org/public", {CARD: b"hello"})
    status, said = author(publish, finished, "org/public", "--private")
    assert (status, repo.private, repo.files) == (1, False, {CARD: b"hello"})
    assert "there already and public" in said


def test_tag_is_never_moved(hub, author, finished):
    repo = hub.add_repo("org/tagged", {CARD: b"hello"}, tag="v1")
    first = repo.head
    status, said = author(publish, finished, "org/tagged", "--tag", "v1")
    assert (status, repo.head, repo.at("v1").sha) == (1, first, first)
    assert f"has a tag v1 already, on other files (commit {first})" in said


def test_repository_that_changes_meanwhile(hub, author, finished):
    repo = hub.add_repo("org/busy", {CARD: b"hello"})
    older, newer = repo.head, repo.commit({CARD: b"good day"})
    status, said = author(overtaken, older, finished, "org/busy")
    assert (status, repo.head) == (1, newer)
    assert "has changed in the meantime" in said


def test_card_whose_head_is_no_yaml(hub, author, folder):
    (folder / CARD).write_text(CARD_TEXT.replace("license: mit", "license: [mit"))
    status, said = author(publish, folder, "org/untidy")
    assert status == 1
    assert "Invalid metadata in README.md" in said
    assert set(hub.repo("org/untidy").files) == {".gitattributes"}


def test_hub_that_is_away(hub, author, finished):
    with hub.down():
        status, said = author(publish, finished, "org/away")
    assert status == 1
    assert "the Hub cannot be reached" in said
