"""Classes added to a checkpoint and taken from it, without training its network."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY_LABELS, FoundAt, draw_car, save_tiny_checkpoint
from others import timm_scores, transformers_scores

from space.boxes import Box, grown
from space.checkpoints import CALIBRATION, GRAPH, open_checkpoint
from space.memory import Memory, read_memory
from space.photos import load_photo
from space.preprocessing import CarCrop, Preprocessor
from space.recognizer import CarRecognizer
from trainer.evaluation.memory import statistics
from trainer.extend import main as extend
from trainer.extending.extend import views_of
from trainer.extending.head import Head, RowFitter, fit_rows, handicap, whitening
from trainer.extending.rewrite import open_head
from trainer.forget import main as forget

NEW = {"Fiat Uno": "white", "Kia Rio 2015": "black"}


# On features that are known


def world(classes: int, seed: int, channels: int = 24):
    """Means of classes, far apart."""
    return 3 * np.random.default_rng(seed).normal(size=(classes, channels)).astype(np.float32)


def photos(means: np.ndarray, each: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = np.repeat(np.arange(len(means)), each)
    noise = rng.normal(size=(len(targets), means.shape[1])) * np.linspace(0.3, 2, means.shape[1])
    return (means[targets] + noise).astype(np.float32), targets


@pytest.fixture(scope="module")
def old() -> tuple[np.ndarray, np.ndarray, np.ndarray, Memory]:
    """Means, the head that is best for them, and a memory."""
    means = world(6, 0)
    features, targets = photos(means, 200, 1)
    found, counts, factor, rest = statistics(features, targets, 6)
    variances = np.linspace(0.3, 2, means.shape[1]) ** 2
    weight = means / variances
    bias = -0.5 * (means * weight).sum(axis=1)
    held, held_targets = photos(means, 50, 2)
    memory = Memory(
        held @ weight.T + bias, held, held_targets, np.arange(len(held)),
        np.array(["old"] * len(held)), found, counts, factor, rest, {"old": list(range(6))},
    )  # fmt: skip
    return means, weight.astype(np.float32), bias.astype(np.float32), memory


def test_the_memory_draws_what_it_was_made_of(old):
    means, _, _, memory = old
    features, targets = memory.draw(400, seed=3)
    for number, mean in enumerate(means):
        assert np.abs(features[targets == number].mean(axis=0) - mean).max() < 0.6
    spread = (features - means[targets]).std(axis=0)
    np.testing.assert_allclose(spread, np.linspace(0.3, 2, means.shape[1]), rtol=0.2)


def test_new_rows_tell_new_classes_and_leave_the_old_ones(old):
    _, weight, bias, memory = old
    added = world(3, 9)
    features, targets = photos(added, 20, 4)
    old_head = Head("fc", weight, bias, memory)
    rows, offsets = fit_rows(old_head, whitening(memory), features[:, None], targets, 3)
    head = np.concatenate([weight, rows]), np.concatenate([bias, offsets])
    fresh, fresh_targets = photos(added, 100, 5)
    right = (fresh @ head[0].T + head[1]).argmax(axis=1) == 6 + fresh_targets
    assert right.mean() > 0.95
    before = memory.logits.argmax(axis=1) == memory.targets
    logits = memory.features @ head[0].T + head[1]
    assert (logits.argmax(axis=1) == memory.targets).mean() > before.mean() - 0.03
    logits[:, 6:] -= handicap(logits, memory.targets, 6)
    assert (logits.argmax(axis=1) == memory.targets).mean() >= before.mean() - 0.005
    groups = [str(number // 2) for number in range(len(features))]
    fitter = RowFitter(old_head)
    fitted = fitter.fit(features[:, None], targets, 3)
    folds = fitter.held_out_logits(features[:, None], targets, groups, fitted)
    folds[:, 6:] += fitted.given
    assert (folds.argmax(axis=1) == 6 + targets).mean() == pytest.approx(right.mean(), abs=0.06)


def test_what_new_rows_cost_is_seen_on_photos_that_had_no_part_in_them(old):
    _, weight, bias, memory = old
    added = world(3, 9)
    added[0] = memory.means[0] + 0.5  # much like an old class
    features, targets = photos(added, 20, 4)
    rows = RowFitter(Head("fc", weight, bias, memory)).fit(features[:, None], targets, 3)
    before = memory.logits.argmax(axis=1) == memory.targets
    after = rows.old_logits.argmax(axis=1) == memory.targets
    assert before.mean() - 0.005 <= after.mean() <= before.mean()
    assert rows.given > 0
    logits = memory.features @ rows.weight.T + rows.bias
    # Rows by half of the photos are not quite those by all of them.
    assert 0 < np.abs(rows.old_logits[:, 6:] - logits).max() < 5


def test_new_classes_give_way_where_they_take_too_many():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(1000, 4))
    targets = logits[:, :3].argmax(axis=1)  # all were right before
    lost = (logits.argmax(axis=1) != targets).mean()
    assert lost > 0.1
    given = handicap(logits, targets, 3)
    logits[:, 3:] -= given
    assert (logits.argmax(axis=1) != targets).mean() <= 0.005
    assert handicap(logits, targets, 3) == 0


def test_statistics_of_a_class_without_photos():
    means, counts, factor, rest = statistics(np.ones((2, 3), np.float32), np.zeros(2, int), 2)
    assert counts.tolist() == [2, 0]
    assert means[1].tolist() == [0, 0, 0]
    assert np.isfinite(factor).all()
    assert (rest >= 0).all()


def test_new_photos_are_seen_as_they_are_looser_and_mirrored(tiny_checkpoint, tmp_path):
    recognizer = CarRecognizer.from_pretrained(tiny_checkpoint)
    box = Box(0.3, 0.3, 0.8, 0.7)
    draw_car(1, size=(320, 240)).save(tmp_path / "car.png")
    picture = load_photo(tmp_path / "car.png")
    for boxes, looser in (((box,), grown(box, 0.08)), ((), None)):
        recognizer.preprocess = Preprocessor(recognizer.data_config, CarCrop(0.0), FoundAt(*boxes))
        (views,) = views_of(recognizer, [(tmp_path / "car.png").read_bytes])
        cut = [recognizer.preprocess.cut(picture, each) for each in (*boxes, looser)]
        seen = cut if boxes else cut * 2
        seen += [pixels[:, :, ::-1] for pixels in seen]
        expected = recognizer.forward(np.stack(seen)).features
        np.testing.assert_allclose(views, expected, atol=1e-5)


# The commands


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Drawn photos of two classes that the checkpoint lacks and one that it has."""
    folder = tmp_path_factory.mktemp("new") / "cars"
    for number, (label, color) in enumerate([*NEW.items(), ("2012 audi a4 sedan", "red")]):
        (folder / label).mkdir(parents=True)
        for seed in range(8):
            draw_car(1000 * number + seed, color).save(folder / label / f"{seed}.png")
    (folder / "Fiat Uno" / "broken.jpg").write_bytes(b"no photo")
    return folder


@pytest.fixture(scope="module")
def extended(measured, folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("extended")
    # The gate of the tests takes drawn cars for what it likes.
    checkpoint = shutil.copytree(measured / "checkpoint", place / "old")
    calibration = json.loads((checkpoint / CALIBRATION).read_text())
    (checkpoint / CALIBRATION).write_text(json.dumps(calibration | {"gate": 0.0}))
    out = place / "checkpoint"
    arguments = [str(checkpoint), f"--data=mine={folder}", f"--out={out}"]
    assert extend([*arguments, f"--cache={place / 'cache'}"]) == 0
    return out


def test_an_extended_checkpoint_is_an_ordinary_one(extended, measured):
    checkpoint = open_checkpoint(extended)
    assert checkpoint.labels == (*TINY_LABELS, *NEW)
    assert checkpoint.cars[-1].make == "Kia"
    assert (extended / GRAPH).is_file()
    recognizer = CarRecognizer(checkpoint)
    assert recognizer.rule.calibration is not None
    picture = draw_car(5, "white")
    answer = recognizer.predict(picture, 6)
    assert {car.label for car in answer.predictions} == {*TINY_LABELS, *NEW}
    scores = {car.label: car.score for car in answer.predictions}
    assert timm_scores(f"local-dir:{extended}", picture) == pytest.approx(scores, abs=1e-4)
    assert transformers_scores(str(extended), picture, 6) == pytest.approx(scores, abs=1e-4)
    # The rows of old classes are what they were.
    old = open_checkpoint(measured / "checkpoint").model.get_classifier().weight
    new = checkpoint.model.get_classifier().weight
    assert (new[: len(old)] == old).all()


def test_what_was_done_is_recorded(extended):
    training = json.loads((extended / "training.json").read_text())
    (change,) = training["classes_changed"]
    assert change["command"].startswith("python -m trainer.extend")
    assert change["added"] == dict.fromkeys(NEW, 8)
    assert change["known_already"] == ["2012 audi a4 sedan"]
    assert sum(change["left_out"].values()) == 1
    measured = change["measured"]
    assert measured["new"]["photos"] == 16
    assert measured["old"]["after"]["value"] >= measured["old"]["before"]["value"] - 0.05
    memory = read_memory(extended)
    assert memory is not None
    assert memory.markets["mine"] == [4, 5]
    assert len(memory.means) == 6


def test_it_can_be_extended_again_and_forget(extended, tmp_path):
    for label, color in (("Lada Niva", "purple"), ("Dacia Duster", "orange")):
        (tmp_path / "more" / label).mkdir(parents=True)
        for seed in range(5):
            draw_car(seed + 77, color).save(tmp_path / "more" / label / f"{seed}.png")
    out = tmp_path / "out"
    arguments = [str(extended), f"--data=more={tmp_path / 'more'}", f"--out={out}"]
    assert extend([*arguments, f"--cache={tmp_path / 'cache'}"]) == 0
    assert len(open_checkpoint(out).labels) == 8
    small = tmp_path / "small"
    command = [str(out), "--keep=mine, Audi", "--label=Audi TT Coupe", f"--out={small}"]
    assert forget([*command, "--rename=Fiat Uno=Fiat Uno Mille"]) == 0
    checkpoint = open_checkpoint(small)
    assert checkpoint.labels == ("Audi A4 Sedan 2012", "Fiat Uno Mille", "Kia Rio 2015")
    assert checkpoint.cars[1].model == "Uno Mille"
    whole, part = (CarRecognizer.from_pretrained(place) for place in (out, small))
    photo = draw_car(3, "white")
    inside = ["Audi A4 Sedan 2012", "Fiat Uno", "Kia Rio 2015"]
    confined = whole.within(inside).predict(photo)
    assert [car.score for car in part.predict(photo).predictions] == pytest.approx(
        [car.score for car in confined.predictions], abs=1e-3
    )
    assert len(json.loads((small / "training.json").read_text())["classes_changed"]) == 3
    head = open_head(checkpoint)  # its memory is that of these classes, in their order
    audi = head.memory.features @ head.weight[0] + head.bias[0]
    np.testing.assert_allclose(head.memory.logits[:, 0], audi, atol=0.01)


@pytest.mark.parametrize(
    ("photos_of", "message"),
    [
        ({"Lada Niva": 3, "Ford Ka": 8}, "'Lada Niva' has 3 different photos that can be used"),
        ({"Audi A4 Sedan 2012": 5}, "there is nothing to add"),
    ],
)
def test_photos_that_cannot_do(extended, tmp_path, capsys, photos_of, message):
    for label, count in photos_of.items():
        (tmp_path / "cars" / label).mkdir(parents=True)
        for seed in range(count):
            draw_car(100 * count + seed, "white").save(tmp_path / "cars" / label / f"{seed}.png")
    arguments = [str(extended), f"--data=cars={tmp_path / 'cars'}", f"--out={tmp_path / 'out'}"]
    assert extend([*arguments, f"--cache={tmp_path / 'cache'}"]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_checkpoints_that_cannot_do(measured, folder, tmp_path, capsys):
    def refused(checkpoint) -> str:
        arguments = [str(checkpoint), f"--data=cars={folder}", f"--out={tmp_path / 'out'}"]
        assert extend([*arguments, f"--cache={tmp_path / 'cache'}"]) == 1
        return capsys.readouterr().err

    bare = save_tiny_checkpoint(tmp_path / "bare", seed=0)
    assert "has no memory.safetensors" in refused(bare)
    memory = read_memory(measured / "checkpoint")
    assert memory is not None
    other = save_tiny_checkpoint(tmp_path / "other", seed=1)
    shutil.copy(measured / "checkpoint" / "memory.safetensors", other)
    assert "belongs to other weights" in refused(other)
    replace(memory, logits=-memory.logits).save(bare)
    assert "are not its features times its last layer" in refused(bare)
    assert "there is no folder" in refused(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--keep=Audi A4 Sedan 2012"], "1 of 6 classes would be left"),
        (["--label=Ladda"], "knows no 'Ladda'"),
        (["--rename=Fiat Uno=BMW"], "another class is"),
        (["--rename=Fiat=X"], "'Fiat' is not a label"),
        (["--rename=Fiat Uno= "], "nothing but blanks"),
    ],
)
def test_what_cannot_be_forgotten(extended, tmp_path, capsys, options, message):
    assert forget([str(extended), *options, f"--out={tmp_path / 'out'}"]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_is_not_written_over_itself(extended, capsys):
    before = (extended / "config.json").read_bytes()
    assert forget([str(extended), "--label=BMW", f"--out={extended}"]) == 1
    assert "is the checkpoint itself" in capsys.readouterr().err
    assert (extended / "config.json").read_bytes() == before
