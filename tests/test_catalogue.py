"""Answers confined to a part of the classes."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import DEFAULT, TINY_LABELS, draw_car

from space.answers import AUTO_TAG, REVIEW, YEAR
from space.calibration import ConfidenceMap
from space.catalogue import choose, matching, narrowed, read_items
from space.cli import main
from space.errors import MarqueError
from space.labels import Car, parse_label
from space.levels import Levels
from space.memory import Memory, read_memory
from space.recognizer import CarRecognizer
from space.verdict import DecisionRule

LABELS = (
    "Audi A4 Sedan 2012", "Audi A4 Sedan 2008", "Audi TT Coupe 2012", "BMW X5 SUV 2007",
    "Volkswagen Golf Hatchback 2012", "chevroulet aveo",
)  # fmt: skip
CARS = (*map(parse_label, LABELS[:5]), Car("Chevrolet", "aveo", None))
MARKETS = {"stanford_cars": [0, 1, 2, 3, 4], "algerian_used_cars": [4, 5]}


def chosen(text: str) -> list[int]:
    return choose(read_items(text), LABELS, CARS, MARKETS).tolist()


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("Audi", [0, 1, 2]),
        ("audi, BMW", [0, 1, 2, 3]),
        ("VW", [4]),
        ("chevy", [5]),
        ("VW Golf", [4]),
        ("Audi A4", [0, 1]),
        ("Audi A4 2012", [0]),
        ("A4", [0, 1]),
        ("Audi A4 Sedan 2008", [1]),
        ("chevroulet aveo", [5]),
        ("algerian_used_cars", [4, 5]),
        ("2012", [0, 2, 4, 5]),  # a class without a year is in every range
        ("2005-2008", [1, 3, 5]),
        ("2008–2005", [1, 3, 5]),
        ("Audi, 2009-2013", [0, 2]),
        (" Audi A4  Sedan 2008 ,, BMW ", [1, 3]),
    ],
)
def test_what_a_catalogue_holds(text, numbers):
    assert chosen(text) == numbers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the catalogue is empty"),
        (" , ", "the catalogue is empty"),
        ("Audii", "knows no 'Audii' for a catalogue; the nearest names are Audi"),
        ("Audi, stanford", "knows no 'stanford'.*stanford_cars"),
        ("Lada", "knows no 'Lada'"),
        ("BMW, 1999", "holds none of the 6 classes; the years that they name are 2007, 2008, 2012"),
    ],
)
def test_a_catalogue_of_nothing_is_refused_with_the_nearest_names(text, message):
    with pytest.raises(MarqueError, match=message):
        chosen(text)


def test_a_catalogue_may_be_a_file(tmp_path):
    (tmp_path / "mine.txt").write_text("Audi A4 Sedan 2012\n\nBMW\n")
    assert read_items(str(tmp_path / "mine.txt")) == ["Audi A4 Sedan 2012", "BMW"]
    with pytest.raises(MarqueError, match="cannot be read"):
        read_items(str(tmp_path / "gone.txt"))


def test_words_of_a_model_are_compared_whole():
    assert matching("Audi A", CARS) == []
    assert matching("Audi A4", CARS) == [0, 1]


def held_out(photos: int, seed: int, noise: float = 1.6) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are sure of the right class now and then."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(len(LABELS), size=photos)
    logits = noise * rng.standard_normal((photos, len(LABELS)))
    logits[np.arange(photos), targets] += 4
    return logits.astype(np.float32), targets


def memory_of(logits: np.ndarray, targets: np.ndarray) -> Memory:
    photos, classes = logits.shape
    return Memory(
        logits, np.zeros((photos, 2), np.float32), targets, np.arange(photos),
        np.array(["one"] * photos), np.zeros((classes, 2), np.float32),
        np.ones(classes, np.int64), np.zeros((2, 1), np.float32), np.ones(2, np.float32), MARKETS,
    )  # fmt: skip


RULE = DecisionRule(
    LABELS, CARS, Levels(CARS),
    replace(
        DEFAULT, temperature=1.0, confidence=dict.fromkeys(DEFAULT.confidence, ConfidenceMap()),
        known=None,
    ),
    0.98, 0.9,
)  # fmt: skip


def test_promises_hold_inside_the_catalogue():
    """Thresholds and plausible sets are those of photos of these classes."""
    numbers = np.array([0, 1, 2])
    rule = narrowed(RULE, numbers, memory_of(*held_out(6000, 1)))
    logits, targets = held_out(6000, 2)
    inside = np.isin(targets, numbers)
    answers = rule.recognitions(logits[inside][:, numbers], [None] * inside.sum(), 3)
    tagged = [
        answer.predictions[0].label == LABELS[target]
        for answer, target in zip(answers, targets[inside], strict=True)
        if answer.verdict == AUTO_TAG
    ]
    assert len(tagged) > 1000
    assert np.mean(tagged) == pytest.approx(0.98, abs=0.01)
    covered = [
        LABELS[target] in answer.plausible.labels
        for answer, target in zip(answers, targets[inside], strict=True)
    ]
    assert np.mean(covered) >= 0.89
    for answer in answers[:20]:
        assert sum(car.confidence for car in answer.predictions) == pytest.approx(1, abs=1e-6)
        assert {car.label for car in answer.predictions} <= set(LABELS[:3])


def test_without_held_out_photos_nothing_is_tagged():
    logits, _ = held_out(20, 3)
    for memory in (None, memory_of(*held_out(6, 1))):
        rule = narrowed(RULE, np.array([0, 1]), memory)
        answers = rule.recognitions(10 * logits[:, :2], [None] * 20, 2)
        assert {answer.verdict for answer in answers} == {REVIEW}


def test_all_classes_are_no_narrower():
    assert narrowed(RULE, np.arange(len(LABELS)), None).calibration == RULE.calibration


def test_a_recognizer_is_confined_and_says_so(measured):
    folder = measured / "checkpoint"
    recognizer = CarRecognizer.from_pretrained(folder, catalogue="Audi")
    photo = draw_car(3)
    answer = recognizer.predict(photo)
    assert answer.catalogue == "Audi"
    assert {car.make for car in answer.predictions} == {"Audi"}
    assert len(answer.predictions) == sum(label.startswith("Audi") for label in TINY_LABELS)
    everything = recognizer.within(None).predict(photo)
    assert (everything.catalogue, len(everything.predictions)) == (None, len(TINY_LABELS))
    assert CarRecognizer.from_pretrained(folder).predict(photo) == everything
    one = recognizer.within(["one"]).predict(photo)  # the name of a dataset
    assert {car.label for car in one.predictions} == {car.label for car in everything.predictions}


def test_the_command_line_takes_a_catalogue(measured, tmp_path, monkeypatch, capsys):
    draw_car(1).save(tmp_path / "car.png")
    common = [str(tmp_path / "car.png"), "--model", str(measured / "checkpoint")]
    assert main([*common, "--catalogue=Audi", f"--jsonl={tmp_path / 'a.jsonl'}"]) == 0
    row = json.loads((tmp_path / "a.jsonl").read_text())
    assert (row["catalogue"], row["predictions"][0]["make"]) == ("Audi", "Audi")
    monkeypatch.setenv("MARQUE_CATALOGUE", "Audii")
    assert main(common) == 2
    assert "the nearest names are Audi" in capsys.readouterr().err


def test_memory_is_written_and_read(measured, tmp_path):
    memory = read_memory(measured / "checkpoint")
    assert memory is not None
    assert memory.logits.shape == (len(memory.targets), len(TINY_LABELS))
    assert set(memory.sources.tolist()) == {"one", "two"}
    assert memory.counts.sum() > 0
    assert memory.markets == {"one": [0, 1, 2, 3], "two": [0, 1, 2, 3]}
    folder = shutil.copytree(measured / "checkpoint", tmp_path / "copy")
    memory.save(folder)
    again = read_memory(folder)
    assert again is not None
    np.testing.assert_array_equal(again.logits, memory.logits)
    np.testing.assert_array_equal(again.sources, memory.sources)


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{}      ", b"x" * 100])
def test_damaged_memory_is_refused_when_it_is_needed(measured, tmp_path, content):
    folder = shutil.copytree(measured / "checkpoint", tmp_path / "copy")
    (folder / "memory.safetensors").write_bytes(content)
    with pytest.raises(MarqueError, match=r"memory\.safetensors is (damaged|not the one)"):
        CarRecognizer.from_pretrained(folder, catalogue="Audi")


def test_the_class_that_is_best_inside_is_named():
    logits = np.array([[0.0, 1.0, 5.0, 9.0, 0.0, 0.0]])
    rule = narrowed(RULE, np.array([0, 1, 2]), None)
    (answer,) = rule.recognitions(logits[:, :3], [None], 3)
    assert answer.predictions[0].label == "Audi TT Coupe 2012"
    assert rule.confidences(logits[:, :3])[YEAR].sum() == pytest.approx(1)
