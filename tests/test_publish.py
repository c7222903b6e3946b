"""Published and pulled over HTTP: `LocalHub` plays the Hub, and other processes its two ends."""

import io
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from conftest import draw_car, save_tiny_checkpoint
from others import timm_scores, transformers_scores

from model_card.card import CARD, CHARTS, write_card
from space.checkpoints import (
    GRAPH,
    METRICS,
    REQUIRED,
    SERVING_FILES,
    WEIGHTS,
    open_checkpoint,
    write_json,
)
from space.cli import main as recognize
from space.errors import CheckpointError, MarqueError
from space.recognizer import CarRecognizer
from trainer.publish import main
from trainer.publishing import model as module
from trainer.publishing import upload
from trainer.publishing.model import check_complete

MEASURED = {"calibration.json", "gate.safetensors", "metrics.json"}
REMEMBERED = "memory.safetensors"
FIGURES = {f"figures/{name}" for name in CHARTS}
PUBLISHED = {*REQUIRED, *MEASURED, REMEMBERED, GRAPH, CARD, *FIGURES}
ROOT = Path(__file__).parent.parent

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def finished(measured, exported_checkpoint, tmp_path_factory) -> Path:
    """A run's checkpoint folder that has all but its card."""
    run = shutil.copytree(measured, tmp_path_factory.mktemp("finished") / "run")
    shutil.copy(exported_checkpoint / GRAPH, run / "checkpoint")
    return run / "checkpoint"


@pytest.fixture
def folder(finished, tmp_path) -> Path:
    """The same, ready to be published as `org/name`, which a test may spoil."""
    folder = shutil.copytree(finished.parent, tmp_path / "run") / "checkpoint"
    write_card(folder, repo="org/name")
    return folder


# These run in the other processes.


def said_by(command: Call, *arguments: str | Path) -> tuple[int, str]:
    """A command's exit status and what it says."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        status = command([str(argument) for argument in arguments])
    return status, said.getvalue()


def publish(folder: Path, repo: str, *options: str) -> tuple[int, str]:
    """Both commands: the card, then all of it."""
    write_card(folder, repo=repo)
    return said_by(main, folder, repo, *options)


def with_token(token: str, function: Call, *arguments: Any) -> Any:
    """Calls a function as whoever has this token; as nobody without one."""
    with mock.patch.dict(os.environ):
        os.environ.pop("HF_TOKEN", None)
        if token:
            os.environ["HF_TOKEN"] = token
        return function(*arguments)


def overtaken(older: str, *arguments: str | Path) -> tuple[int, str]:
    """The command, in whose middle the repository moves on from an older commit."""
    look_at = upload._look_at

    def look_before(*found: Any) -> Any:
        return replace(look_at(*found), head=older)

    with mock.patch.object(upload, "_look_at", look_before):
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
    hub, call, reader, finished, tmp_path
):
    status, said = call(publish, finished, "org/round", "--tag", "v1")
    assert status == 0, said
    assert "logged in as ada" in said
    repo = hub.repo("org/round")
    assert set(repo.files) == {*PUBLISHED, ".gitattributes"}
    assert all(repo.files[name] == (finished / name).read_bytes() for name in PUBLISHED)
    assert len(repo.history) == 2  # the first one is the Hub's own
    assert repo.at("v1").sha == repo.head
    assert f"{hub.url}/org/round is at {repo.head}, tagged v1" in said
    # Fetched by the tag alone, in a process that has seen nothing of this.
    assert reader(pulled, "org/round@v1") == (repo.head, set(SERVING_FILES))
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


def test_publishing_again_changes_nothing(hub, call, finished):
    call(publish, finished, "org/twice", "--tag", "v1")
    before = hub.repo("org/twice").head
    asked = len(hub.requests)
    status, said = call(publish, finished, "org/twice", "--tag", "v1")
    assert (status, hub.repo("org/twice").head) == (0, before)
    assert [line for line in hub.requests[asked:] if line.startswith("POST")] == []
    assert sorted(listed(said)) == [("unchanged", name) for name in sorted(PUBLISHED)]


def test_only_what_changed_goes_and_what_is_no_longer_ours_is_removed(hub, call, folder):
    call(publish, folder, "org/moving")
    repo = hub.repo("org/moving")
    repo.commit({**repo.files, "notes.md": b"written on the Hub"})
    metrics = json.loads((folder / METRICS).read_text("utf-8"))
    del metrics["robustness"]
    write_json(folder / METRICS, metrics)
    status, said = call(publish, folder, "org/moving")
    assert status == 0, said
    gone = "figures/robustness.png"
    assert set(repo.files) == (PUBLISHED - {gone}) | {"notes.md", ".gitattributes"}
    told = {name: state for state, name in listed(said)}
    assert told.pop(CARD) == told.pop(METRICS) == "changed"
    assert told.pop(gone) == "removed"
    assert set(told.values()) == {"unchanged"}
    assert len(repo.history) == 4


def test_nothing_else_of_the_folder_goes_up(hub, call, folder):
    for name in ("gallery.png", "figures/people.jpg", "state/step.json", ".cache/x", "notes.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"mine")
    assert call(publish, folder, "org/tidy")[0] == 0
    assert set(hub.repo("org/tidy").files) == {*PUBLISHED, ".gitattributes"}


def test_dry_run_tells_all_and_writes_nothing(hub, call, folder):
    (folder / GRAPH).unlink()
    before, asked = sorted(folder.rglob("*")), len(hub.requests)
    status, said = call(publish, folder, "org/dry", "--dry-run", "--private", "--tag", "v1")
    assert status == 0, said
    assert "logged in as ada" in said
    assert f"{hub.url}/org/dry, private, new" in said
    assert sorted(listed(said)) == [("new", name) for name in sorted(PUBLISHED)]
    assert sorted(folder.rglob("*")) == before
    posts = {line for line in hub.requests[asked:] if line.startswith("POST")}
    assert posts == {"POST /api/validate-yaml"}  # which writes nothing
    with pytest.raises(KeyError):
        hub.repo("org/dry")


def test_missing_graph_is_written_first(hub, call, folder):
    there = (folder / GRAPH).read_bytes()
    (folder / GRAPH).unlink()
    assert call(publish, folder, "org/graph")[0] == 0
    assert hub.repo("org/graph").files[GRAPH] == (folder / GRAPH).read_bytes() == there


def test_private_repository_is_pulled_by_its_owners_alone(hub, call, reader, finished):
    assert call(publish, finished, "ada/secret", "--private")[0] == 0
    repo = hub.repo("ada/secret")
    assert repo.private
    assert call(pulled, "ada/secret")[0] == repo.head
    with pytest.raises(CheckpointError, match="log in with `hf auth login`"):
        reader(pulled, "ada/secret")
    # It stays private without being told again.
    status, said = call(publish, finished, "ada/secret")
    assert (status, repo.private) == (0, True)
    assert "ada/secret, private, at" in said


# Several at once


def test_several_runs_are_published_by_one_command(hub, call, reader, finished, tmp_path):
    shutil.copytree(finished.parent, tmp_path / "one")
    shutil.copytree(finished.parent, tmp_path / "two")
    command = (tmp_path / "one", "org/first", tmp_path / "two" / "checkpoint", "org/second")
    status, said = call(said_by, main, *command, "--tag", "v1")
    assert status == 0, said
    for name in ("first", "second"):
        repo = hub.repo(f"org/{name}")
        assert set(repo.files) == {*PUBLISHED, ".gitattributes"}
        assert f'from_pretrained("org/{name}")' in repo.files[CARD].decode()
        assert reader(pulled, f"org/{name}@v1")[0] == repo.head


def test_one_that_is_incomplete_stops_all_of_them(finished, tmp_path, capsys):
    shutil.copytree(finished.parent, tmp_path / "one")
    (tmp_path / "one" / "checkpoint" / METRICS).unlink()
    said = refused(capsys, finished, "org/third", tmp_path / "one", "org/fourth")
    assert "is not complete; it lacks metrics.json (python -m trainer.evaluate" in said


def test_a_run_without_a_name_is_refused(finished, capsys):
    with pytest.raises(SystemExit):
        main([str(finished), "org/name", "runs/two"])
    assert "each RUN needs an org/name to go to" in capsys.readouterr().err


# The card


def test_a_stale_card_is_written_again_and_what_was_added_stays(hub, call, folder):
    with (folder / CARD).open("a") as card:
        card.write("\nOur own cars are missing.\n")
    metrics = json.loads((folder / METRICS).read_text("utf-8"))
    write_json(folder / METRICS, metrics | {"photos": 1234})
    status, said = call(said_by, main, folder, "org/stale")
    assert status == 0, said
    card = hub.repo("org/stale").files[CARD].decode()
    assert "On 1,234 test photos" in card
    assert 'from_pretrained("org/stale")' in card
    assert card.endswith("\nOur own cars are missing.\n")


def test_a_card_edited_above_the_line_is_never_overwritten(folder, capsys):
    text = (folder / CARD).read_text("utf-8")
    (folder / CARD).write_text(text.replace("## Limits", "## Limits\n\nNone at all."))
    said = refused(capsys, folder, "org/other")
    assert "was edited by hand; move what you added below the line" in said
    assert "None at all." in (folder / CARD).read_text("utf-8")


def test_a_dry_run_leaves_a_stale_card(hub, call, folder):
    before = (folder / CARD).read_bytes()
    status, said = call(said_by, main, folder, "org/other", "--dry-run")
    assert status == 0, said
    assert (folder / CARD).read_bytes() == before


# Refused before anything is sent


@pytest.mark.parametrize("name", sorted({*REQUIRED, *MEASURED}))
def test_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(MarqueError, match=rf"is not complete; it lacks {re.escape(name)} \("):
        check_complete(folder)


def test_all_that_is_missing_is_named_with_what_writes_it(tiny_checkpoint):
    with pytest.raises(MarqueError) as caught:
        check_complete(tiny_checkpoint)
    assert re.search(r"calibration\.json \(python -m trainer\.evaluate .*\)", str(caught.value))
    assert "metrics.json (python -m trainer.evaluate" in str(caught.value)
    assert WEIGHTS not in str(caught.value)


def refused(capsys, *arguments: str | Path) -> str:
    """What the command says when it fails before it needs the Hub."""
    with mock.patch.object(upload, "HfApi", side_effect=AssertionError("asked the Hub")):
        assert main([str(argument) for argument in arguments]) == 1
    return capsys.readouterr().err


def test_folder_that_is_no_checkpoint(tmp_path, capsys):
    assert "it lacks config.json" in refused(capsys, tmp_path, "org/name")
    said = refused(capsys, tmp_path / "my runs", "org/name")
    assert f"there is no folder {tmp_path / 'my runs'}" in said


def test_commands_that_are_suggested_can_be_typed(folder, tmp_path, capsys):
    (folder / METRICS).unlink()
    moved = folder.rename(tmp_path / "my run")
    said = refused(capsys, moved, "org/name")
    assert f"python -m trainer.evaluate '{moved}' --data" in said


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


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("license: mit", "is not a card that Marque wrote"),
        ("marque: all of them", "is not a card that Marque wrote"),
        ("license: [mit", "README.md is damaged"),
    ],
)
def test_card_that_marque_did_not_write(folder, capsys, head, message):
    shown = re.findall(r"!\[.*", (folder / CARD).read_text("utf-8"))
    (folder / CARD).write_text("\n".join(["---", head, "---", *shown]))
    assert message in refused(capsys, folder, "org/name")


def test_words_of_your_own_in_the_card_go_along(hub, call, folder):
    write_card(folder, repo="org/words")
    with (folder / CARD).open("a") as card:
        card.write("\nOur own cars are missing.\n")
    assert call(said_by, main, folder, "org/words")[0] == 0
    assert b"Our own cars are missing." in hub.repo("org/words").files[CARD]


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


@pytest.mark.parametrize("tag", ["main", "v 1", "v1+cpu"])
def test_tag_that_could_not_be_asked_for(finished, capsys, tag):
    with pytest.raises(SystemExit):
        main([str(finished), "org/name", "--tag", tag])
    assert f"{tag!r} is not a name for a tag" in capsys.readouterr().err


# Refused by the Hub


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("", "nobody is logged in: log in with `hf auth login`"),
        ("hf_wrong", "the Hub does not know your token: log in again"),
        ("hf_bob", "logged in as bob\n(.*\n)*publish: you may not write to org/mine"),
    ],
)
def test_people_who_may_not_publish(hub, call, finished, token, message):
    status, said = call(with_token, token, publish, finished, "org/mine")
    assert status == 1
    assert re.search(message, said), said
    with pytest.raises(KeyError):
        hub.repo("org/mine")


def test_public_repository_does_not_become_private(hub, call, finished):
    repo = hub.add_repo("org/public", {CARD: b"hello"})
    status, said = call(publish, finished, "org/public", "--private")
    assert (status, repo.private, repo.files) == (1, False, {CARD: b"hello"})
    assert "there already and public" in said


def test_other_work_is_left_alone(hub, call, finished):
    theirs = {CARD: b"A language model", "config.json": b"{}", "figures/loss.png": b"png"}
    repo = hub.add_repo("org/poems", theirs)
    status, said = call(publish, finished, "org/poems")
    assert (status, repo.files) == (1, theirs)
    assert "the model org/poems holds something else (config.json and no classes.txt)" in said


def test_tag_is_never_moved(hub, call, finished):
    repo = hub.add_repo("org/tagged", {CARD: b"hello"}, tag="v1")
    first = repo.head
    status, said = call(publish, finished, "org/tagged", "--tag", "v1")
    assert (status, repo.head, repo.at("v1").sha) == (1, first, first)
    assert f"has a tag v1 already, on other files (commit {first})" in said


def test_repository_that_changes_meanwhile(hub, call, finished):
    repo = hub.add_repo("org/busy", {CARD: b"hello"})
    older, newer = repo.head, repo.commit({CARD: b"good day"})
    status, said = call(overtaken, older, finished, "org/busy")
    assert (status, repo.head) == (1, newer)
    assert "has changed in the meantime" in said


def test_hub_that_is_away(hub, call, finished):
    with hub.down():
        status, said = call(publish, finished, "org/away")
    assert status == 1
    assert "the Hub cannot be reached" in said
