"""The figures and tables of an evaluation: what the tables say, what the pictures survive."""

import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_car
from matplotlib.text import Text
from PIL import Image
from scipy.stats import binomtest

from space.answers import LEVELS
from space.labels import Car
from trainer.evaluation.figures import charts, style
from trainer.evaluation.figures.charts import (
    Confidences,
    write_rejection,
    write_reliability,
    write_risk_coverage,
    write_robustness,
)
from trainer.evaluation.figures.classes import write_classes
from trainer.evaluation.figures.confusion import write_confusion
from trainer.evaluation.figures.gallery import Shown, write_gallery
from trainer.evaluation.figures.outcome import Outcome
from trainer.evaluation.figures.pairs import write_worst_pairs
from trainer.evaluation.metrics import wilson

NASTY = (
    "$\\frac{1}$2$ _a_ ^b {c",
    "100% <b>bold</b> & more",
    "very long " * 30,
    "_begins like a private name",
    "سيارة 车 자동차",
    "🚗 🚙",
    "first\nsecond\tthird",
    "caf\udce9",
    "=1+1",
    "#",
)
THRESHOLDS = {"0.9": 0.5, "0.95": 0.7, "0.98": 0.9, "0.99": None}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Pictures of few pixels, so that drawing many of them takes little time."""
    monkeypatch.setattr(style, "DPI", 40)


def read_csv(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def is_drawn(path: Path) -> bool:
    """Whether a picture shows more than a title on white: some of its lower half is colored."""
    with Image.open(path) as picture:
        grey = picture.convert("L")
    lower = np.asarray(grey)[grey.height // 3 :]
    return bool((lower < 200).sum() > 20)


def write_all(folder: Path, outcome: Outcome) -> list[Path]:
    write_confusion(folder, outcome)
    write_worst_pairs(folder, outcome)
    write_classes(folder, outcome)
    return sorted(folder.glob("*.png"))


def drawn(classes: int, photos: int, wrong: float, makes: int = 12) -> Outcome:
    rng = np.random.default_rng(classes)
    cars = [Car(f"Make {n % makes}", f"Model {n}", 2000 + n % 9) for n in range(classes)]
    truth = rng.integers(0, classes, photos)
    answers = np.where(rng.random(photos) < wrong, rng.integers(0, classes, photos), truth)
    labels = [f"{car.make} {car.model} {car.year}" for car in cars]
    return Outcome(labels, cars, truth, answers, "test")


@pytest.fixture
def outcome() -> Outcome:
    """Five classes: A is taken for B twice and back once, C once for A, D has no photos."""
    cars = {
        "Zed": Car("Škoda", "Zed", None),  # between Kia and VW, whatever the letter looks like
        "A 2012": Car("Kia", "A", 2012),
        "A 2007": Car("Kia", "A", 2007),
        "VW C": Car("VW", "C", None),
        "VW D": Car("VW", "D", None),
    }
    pairs = [(1, 1)] * 2 + [(1, 2)] * 2 + [(2, 1)] + [(2, 2)] * 2 + [(3, 1)] + [(0, 0)] * 10
    truth, answers = map(np.array, zip(*pairs, strict=True))
    return Outcome(tuple(cars), tuple(cars.values()), truth, answers, "test")


def test_classes_stand_by_make_then_model_then_year(outcome):
    names = [outcome.labels[number] for number in outcome.order()]
    assert names == ["A 2007", "A 2012", "Zed", "VW C", "VW D"]


def test_confusion_table_has_every_mistake(outcome, tmp_path):
    write_confusion(tmp_path, outcome)
    assert read_csv(tmp_path / "confusion.csv") == [
        ["true", "predicted", "count", "share"],
        ["A 2007", "A 2012", "1", "0.3333"],
        ["A 2012", "A 2007", "2", "0.5000"],
        ["VW C", "A 2012", "1", "1.0000"],
    ]


def test_pairs_are_counted_both_ways_and_say_what_tells_them_apart(outcome, tmp_path):
    write_worst_pairs(tmp_path, outcome)
    assert read_csv(tmp_path / "worst_pairs.csv") == [
        ["first", "second", "mistakes", "first_as_second", "second_as_first",
         "first_photos", "second_photos", "differs"],
        ["A 2012", "A 2007", "3", "2", "1", "4", "3", "year"],
        ["VW C", "A 2012", "1", "1", "0", "1", "4", "make"],
    ]  # fmt: skip


def test_of_pairs_with_as_many_mistakes_the_one_with_fewer_photos_is_worse(tmp_path):
    cars = [Car("M", name, None) for name in "abcd"]
    truth = np.array([0, 0, 0, 0, 2, 2])
    answers = np.array([0, 0, 0, 1, 2, 3])
    write_worst_pairs(tmp_path, Outcome("abcd", cars, truth, answers, "test"))
    rows = read_csv(tmp_path / "worst_pairs.csv")[1:]
    assert [(row[0], row[1], row[-1]) for row in rows] == [("c", "d", "model"), ("a", "b", "model")]


def test_one_car_under_two_names_differs_in_the_label_only(tmp_path):
    truth, answers = np.array([0]), np.array([1])
    same = Car("Kia", "Rio", None)
    write_worst_pairs(tmp_path, Outcome(["rio", "Rio"], [same, same], truth, answers, "test"))
    assert read_csv(tmp_path / "worst_pairs.csv")[1][-1] == "label"


def test_class_table_leaves_empty_what_cannot_be_told(outcome, tmp_path):
    write_classes(tmp_path, outcome)
    assert read_csv(tmp_path / "classes.csv") == [
        ["class", "make", "model", "year", "photos", "precision", "recall", "f1", "low_support"],
        ["A 2007", "Kia", "A", "2007", "3", "0.5000", "0.6667", "0.5714", "true"],
        ["A 2012", "Kia", "A", "2012", "4", "0.5000", "0.5000", "0.5000", "true"],
        ["Zed", "Škoda", "Zed", "", "10", "1.0000", "1.0000", "1.0000", "false"],
        ["VW C", "VW", "C", "", "1", "", "0.0000", "0.0000", "true"],
        ["VW D", "VW", "D", "", "0", "", "", "", "true"],
    ]


@pytest.mark.parametrize(
    ("classes", "photos", "makes"), [(2, 3, 1), (4, 40, 4), (20, 100, 5), (120, 500, 60)]
)
def test_pictures_of_few_and_of_many_classes(classes, photos, makes, tmp_path):
    pictures = write_all(tmp_path, drawn(classes, photos, 0.4, makes))
    names = ["classes", "confusion_counts", "confusion_shares", "worst_pairs"]
    assert [path.stem for path in pictures] == names
    assert all(map(is_drawn, pictures))


def test_answers_without_a_mistake(tmp_path):
    pictures = write_all(tmp_path, drawn(4, 20, 0))
    assert all(map(is_drawn, pictures))
    assert len(read_csv(tmp_path / "confusion.csv")) == 1
    assert len(read_csv(tmp_path / "worst_pairs.csv")) == 1


def test_answers_that_are_all_wrong(tmp_path):
    cars = [Car("Kia", "Rio", None), Car("VW", "Polo", None)]
    wrong = Outcome(["Rio", "Polo"], cars, np.array([0, 1]), np.array([1, 0]), "test")
    assert all(map(is_drawn, write_all(tmp_path, wrong)))


def test_labels_may_hold_anything(tmp_path):
    cars = [Car(name, name, None) for name in NASTY]
    numbers = np.arange(len(NASTY))
    for split, answers in (("$x_", np.roll(numbers, 1)), ("车", numbers)):
        outcome = Outcome(NASTY, cars, numbers, answers, split)
        assert all(map(is_drawn, write_all(tmp_path, outcome)))
    assert "'=1+1" in [row[0] for row in read_csv(tmp_path / "classes.csv")]


def test_makes_may_be_called_anything(tmp_path):
    many = NASTY * 6  # too many classes to name each
    cars = [Car(name, "", number) for number, name in enumerate(many)]
    numbers = np.arange(len(many))
    write_confusion(tmp_path, Outcome(many, cars, numbers, np.roll(numbers, 7), "test"))
    assert is_drawn(tmp_path / "confusion_counts.png")


def test_intervals_are_wilsons():
    for right, count in ((0, 1), (1, 1), (3, 7), (711, 711), (0, 500)):
        expected = binomtest(right, count).proportion_ci(0.95, method="wilson")
        low, high = wilson(right, count)
        assert (float(low), float(high)) == pytest.approx((expected.low, expected.high))
        assert low <= right / count <= high


@pytest.mark.parametrize("photos", [1, 3, 500])
@pytest.mark.parametrize("share", [0.0, 0.8, 1.0])
def test_reliability_and_risk(photos, share, tmp_path):
    rng = np.random.default_rng(photos)
    confidence = rng.random(photos)
    confidence[0] = 1  # the last bin holds its upper end
    right = rng.random(photos) < share
    panels = [Confidences(name, confidence, right, 0.031) for name in ("before $", "after", "车")]
    for count in (1, 2, 3):
        write_reliability(tmp_path / "reliability.png", panels[:count], "test")
        assert is_drawn(tmp_path / "reliability.png")
    for level in LEVELS:
        write_risk_coverage(tmp_path, confidence, right, THRESHOLDS, "test", level)
        assert is_drawn(tmp_path / "risk_coverage.png")


def texts(monkeypatch) -> list[str]:
    """All texts of the figures that are saved from now on, in place of their files."""
    found: list[str] = []

    def keep(figure, path):
        found.extend(text.get_text() for text in figure.findobj(Text))

    monkeypatch.setattr(charts, "save", keep)
    return found


def test_risk_says_what_each_threshold_keeps(tmp_path, monkeypatch):
    found = texts(monkeypatch)
    confidence = np.array([0.95, 0.95, 0.8, 0.6, 0.1])
    right = np.array([True, True, True, False, False])
    write_risk_coverage(tmp_path, confidence, right, THRESHOLDS, "test", "year")
    assert "90% right wanted: 75.0% are, 80% kept" in found
    assert "95% right wanted: 100.0% are, 60% kept" in found
    assert "98% right wanted: 100.0% are, 40% kept" in found
    assert "99% right wanted: not reached" in found


def test_reliability_shows_the_error_it_is_given_and_counts_photos(tmp_path, monkeypatch):
    found = texts(monkeypatch)
    confidence, right = np.array([0.01, 0.99, 0.99, 1.0]), np.array([False, True, True, True])
    panel = Confidences("after calibration", confidence, right, 0.0213)
    write_reliability(tmp_path / "reliability.png", [panel], "validation")
    assert "after calibration\nECE 2.1%" in found
    assert "How often answers of a confidence are right: 4 validation photos" in found
    assert {"1", "3"} <= set(found)


def test_robustness_tells_points_lost(tmp_path, monkeypatch):
    conditions = {"blur": (0.85, 0.8, 0.89), "brighter": (0.91, 0.89, 0.93), "$_%🚗": (0.0, 0, 0.1)}
    write_robustness(tmp_path, 0.9, conditions, 711, "test")
    assert is_drawn(tmp_path / "robustness.png")
    found = texts(monkeypatch)
    write_robustness(tmp_path, 0.9, conditions, 711, "test")
    assert {"−5.0 (85% right)", "+1.0 (91% right)", "−90.0 (0% right)"} <= set(found)
    assert "What worse photos cost: 711 test photos,\nof which 90.0% are right as they are" in found


def test_rejection_tells_how_many_pass(tmp_path, monkeypatch):
    scores = {"car": np.array([0.2, 0.5, 1.0, 0.9]), "$part": np.array([0.0]), "other": np.empty(0)}
    for threshold in (0.5, None):
        write_rejection(tmp_path, scores, threshold)
        assert is_drawn(tmp_path / "rejection.png")
    found = texts(monkeypatch)
    write_rejection(tmp_path, scores, 0.5)
    assert "car: 4 photos, 3 pass (75.0%)" in found
    assert "$part: 1 photo, 0 pass (0.0%)" in found
    assert "other: 0 photos" in found


def test_gallery_of_pictures_of_any_shape(tmp_path):
    shapes = [(300, 40), (40, 300), (1, 1), (160, 120)]
    right = [Shown(draw_car(1, size=shape), name, name, 1.0, "auto-tag")
             for shape, name in zip(shapes, NASTY, strict=False)]  # fmt: skip
    wrong = [Shown(None, name, NASTY[0], 0.004, "review") for name in NASTY]
    sizes = []
    for good, bad in ((right, wrong), (right, []), ([], [])):
        write_gallery(tmp_path, good, bad, 711, "test")
        with Image.open(tmp_path / "gallery.png") as picture:
            sizes.append(picture.size)
    assert [width for width, _ in sizes] == [sizes[0][0]] * 3
    assert sizes[0][1] > sizes[1][1] > sizes[2][1]


def test_pictures_are_wide_enough_to_read(outcome, tmp_path, monkeypatch):
    monkeypatch.undo()
    write_worst_pairs(tmp_path, outcome)
    with Image.open(tmp_path / "worst_pairs.png") as picture:
        assert picture.width >= 900
        assert picture.info["dpi"][0] >= 119
