"""What a seller says, checked against the photo."""

import csv

import numpy as np
import pytest
from conftest import draw_car
from test_catalogue import CARS, RULE, held_out

from space.answers import REVIEW, Prediction, Recognition
from space.claims import AGREES, CANNOT_TELL, CONTRADICTS, Claim, check
from space.cli import main
from space.labels import Car, parse_label
from trainer.evaluation.calibrate import fit_claims

GOLF, AVEO = 4, 5


@pytest.mark.parametrize(
    ("text", "classes", "year", "make_only"),
    [
        ("Golf 2012", (GOLF,), 2012, False),
        ("golf", (GOLF,), None, False),
        ("VW Golf", (GOLF,), None, False),
        ("2012 Volkswagen Golf", (GOLF,), 2012, False),
        ("vw golf 2010", (GOLF,), 2010, False),
        ("Audi A4", (0, 1), None, False),
        ("Audi", (0, 1, 2), None, False),
        ("Chevrolet Aveo", (AVEO,), None, False),
        ("Audi Q8 2020", (0, 1, 2), 2020, True),
        ("Lada Niva", (), None, False),
        ("a very nice car", (), None, False),
    ],
)
def test_how_a_text_is_read(text, classes, year, make_only):
    claim = Claim.read(text, CARS)
    assert (claim.classes, claim.year, claim.make_only) == (classes, year, make_only)


def test_a_model_that_is_a_number_is_no_year():
    cars = (Car("Peugeot", "2008", None), *CARS)
    assert Claim.read("Peugeot 2008", cars).classes == (0,)
    assert Claim.read("Peugeot 2008", cars).year is None


def answer(best: int, sure: float) -> tuple[Recognition, np.ndarray]:
    confidences = np.full(len(CARS), (1 - sure) / (len(CARS) - 1))
    confidences[best] = sure
    car = CARS[best]
    first = Prediction("x", car.make, car.model, car.year, sure, sure)
    return Recognition(REVIEW, "", None, (first,)), confidences


@pytest.mark.parametrize(
    ("text", "best", "sure", "result", "words"),
    [
        ("Golf 2012", GOLF, 0.9, AGREES, "the photo shows Volkswagen Golf Hatchback"),
        ("Golf 2010", GOLF, 0.9, AGREES, "the year 2010 cannot be told"),
        ("Audi A4 2008", 0, 0.9, AGREES, "it looks more like 2012 than 2008"),
        ("Golf 2012", 3, 0.99, CONTRADICTS, "the photo shows BMW X5 SUV"),
        ("Golf 2012", 3, 0.5, CANNOT_TELL, "not sure enough either way"),
        ("Audi Q8", 0, 0.95, AGREES, "the make agrees"),
        ("Audi Q8", 3, 0.999, CANNOT_TELL, "cannot refute it"),
        ("Lada Niva", 3, 0.999, CANNOT_TELL, "knows no car called 'Lada Niva'"),
    ],
)
def test_what_comes_out(text, best, sure, result, words):
    recognition, confidences = answer(best, sure)
    found = check(Claim.read(text, CARS), recognition, confidences, CARS, 0.7, 0.02)
    assert found.result == result
    assert words in found.reason
    assert found.as_json()["recognition"] == recognition.as_json()


def test_a_photo_that_is_refused_tells_nothing():
    recognition, confidences = answer(GOLF, 0.9)
    for refused in (
        Recognition("rejected", "no car", None, recognition.predictions),
        Recognition(error="x.jpg is not a picture"),
    ):
        found = check(Claim.read("Golf", CARS), refused, confidences, CARS, 0.7, 0.02)
        assert (found.result, found.reason) == (CANNOT_TELL, refused.reason or refused.error)


def test_limits_keep_what_they_promise_on_other_photos():
    agrees, contradicts = fit_claims(RULE, *held_out(4000, 1))
    assert 0 < contradicts < agrees < 1
    logits, targets = held_out(4000, 2)
    scores = RULE.confidences(logits)["year"]
    rng = np.random.default_rng(5)
    models = RULE.levels.index["model"]
    said, right = [], []
    for row, target in enumerate(targets):
        for other in (target, rng.choice(np.flatnonzero(models != models[target]))):
            sure = scores[row][models == models[other]].sum()
            said.append(AGREES if sure >= agrees else CONTRADICTS if sure <= contradicts else "")
            right.append(other == target)
    said, right = np.array(said), np.array(right)
    assert np.mean(~right[said == CONTRADICTS]) == pytest.approx(0.98, abs=0.01)
    assert np.mean(right[said == AGREES]) >= 0.97
    assert (said != "").mean() > 0.7


def test_without_a_second_model_nothing_is_learned():
    one = parse_label("Audi A4 Sedan 2012")
    from space.levels import Levels
    from space.verdict import DecisionRule

    rule = DecisionRule(("a",), (one,), Levels((one,)), None, 0.9, 0.9)
    assert fit_claims(rule, np.zeros((3, 1)), np.zeros(3, int)) == (None, None)


def test_the_recognizer_checks(calibrated_recognizer):
    found = calibrated_recognizer.check(draw_car(1), "Lada Niva")
    assert found.result == CANNOT_TELL
    with pytest.raises(ValueError, match="there is nothing to check"):
        calibrated_recognizer.check(draw_car(1), " ")


def test_the_command_line_checks(calibrated_checkpoint, tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        draw_car(1).save(tmp_path / name)
    (tmp_path / "d.jpg").write_bytes(b"no photo")
    texts = tmp_path / "texts.csv"
    texts.write_text(f"path,expected\n{tmp_path / 'a.png'},Lada Niva\nb.png,Audi\nd.jpg,BMW\n")
    arguments = [str(tmp_path), "--model", str(calibrated_checkpoint), f"--expect={texts}"]
    assert main([*arguments, f"--csv={tmp_path / 'out.csv'}"]) == 1
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = {row["path"].rpartition("/")[2]: row for row in csv.DictReader(file)}
    assert rows["a.png"]["check"] == CANNOT_TELL
    assert rows["b.png"]["expected"] == "Audi"
    assert rows["b.png"]["check"] in (AGREES, CONTRADICTS, CANNOT_TELL)
    assert (rows["c.png"]["expected"], rows["c.png"]["check"]) == ("", "")
    assert rows["c.png"]["label"]
    assert rows["d.jpg"]["error"]
    texts.write_text("file,text\na.png,Audi\n")
    assert main(arguments) == 2
