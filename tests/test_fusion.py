"""Several photos of one car as one answer."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import DEFAULT, draw_car

from space.calibration import softmax
from space.cli import main
from space.fusion import fuse
from trainer.evaluation.calibrate import POWERS, fit_fusion

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(5, 7))


def test_one_photo_stays_as_it_is():
    for calibration in (None, replace(DEFAULT, temperature=1.7, fusion=0.5)):
        np.testing.assert_allclose(fuse(LOGITS[:1], np.ones(1), calibration), LOGITS[:1])


def test_photos_together_are_as_familiar_as_they_are_on_average():
    """Sharpening makes an answer surer, and not the car more like a known one."""
    for power in (0.0, 1.0):
        rule = replace(DEFAULT, temperature=1.0, fusion=power)
        same = fuse(np.repeat(LOGITS[:1], 4, axis=0), np.ones(4), rule)
        far = fuse(np.repeat(LOGITS[:1] - 5, 4, axis=0), np.ones(4), rule)
        np.testing.assert_allclose(far, same - 5)


def test_photos_in_any_order_and_doubled_say_the_same():
    areas = np.array([0.5, 0.2, 1.0, 0.3, 0.9])
    order = [3, 1, 4, 0, 2]
    fused = fuse(LOGITS, areas, None)
    np.testing.assert_allclose(fused, fuse(LOGITS[order], areas[order], None))
    twice = fuse(np.concatenate([LOGITS, LOGITS]), np.concatenate([areas, areas]), None)
    np.testing.assert_allclose(softmax(fused), softmax(twice))


def test_sure_photos_and_large_cars_count_more():
    sure, unsure = np.array([6.0, 0, 0]), np.array([0, 0.3, 0])
    assert fuse(np.stack([sure, unsure]), np.ones(2), None).argmax() == 0
    one, other = np.array([2.0, 0, 0]), np.array([0, 2.0, 0])
    assert fuse(np.stack([one, other]), np.array([0.9, 0.1]), None).argmax() == 0
    assert fuse(np.stack([one, other]), np.array([0.1, 0.9]), None).argmax() == 1


@pytest.mark.parametrize(("copies", "expected"), [(True, 0.0), (False, 1.0)])
def test_the_power_tells_copies_from_independent_photos(copies, expected):
    """Of copies one photo says all; independent photos multiply."""
    rng = np.random.default_rng(1)
    groups, classes = 400, 4
    targets = rng.integers(classes, size=groups)
    hits = np.eye(classes)[targets]
    # A photo's logits are log-likelihoods of what is seen, so that they are calibrated.
    seen = hits[:, None] * 1.2 + rng.normal(size=(groups, 1 if copies else 4, classes))
    logits = 1.2 * np.broadcast_to(seen, (groups, 4, classes)).reshape(-1, classes)
    names = np.repeat([str(number) for number in range(groups)], 4)
    plain = replace(DEFAULT, temperature=1.0)
    found = fit_fusion(logits, np.ones(len(logits)), np.repeat(targets, 4), names.tolist(), plain)
    assert found in POWERS
    assert found == expected


def test_without_groups_there_is_nothing_to_learn():
    names = [str(number) for number in range(5)]
    assert fit_fusion(LOGITS, np.ones(5), np.zeros(5, int), names, DEFAULT) == 0.0


def test_a_listing_is_one_car(calibrated_recognizer, tmp_path):
    photos = [draw_car(number) for number in range(4)]
    answer = calibrated_recognizer.predict_car(photos)
    assert answer.error is None
    alone = calibrated_recognizer.predict_car(photos[:1])
    assert (
        alone.predictions[0].label == calibrated_recognizer.predict(photos[0]).predictions[0].label
    )
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    assert calibrated_recognizer.predict_car([*photos, tmp_path / "broken.jpg"]) == answer
    broken = calibrated_recognizer.predict_car([tmp_path / "broken.jpg"])
    assert "broken.jpg" in broken.error
    with pytest.raises(ValueError, match="there are no photos"):
        calibrated_recognizer.predict_car([])


def test_the_command_line_groups_listings(calibrated_checkpoint, tmp_path):
    for listing in ("a", "b"):
        (tmp_path / listing).mkdir()
        for number in range(2):
            draw_car(number).save(tmp_path / listing / f"car{listing}_{number}.png")
    (tmp_path / "b" / "broken.jpg").write_bytes(b"no photo")
    common = [str(tmp_path), "--model", str(calibrated_checkpoint)]
    assert main([*common, "--group-by=folder", f"--csv={tmp_path / 'x.csv'}"]) == 0
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["photos"]) for row in rows] == [
        (str(tmp_path / "a"), "2"),
        (str(tmp_path / "b"), "3"),
    ]
    assert main([*common, r"--group-by=(car[ab])_", f"--jsonl={tmp_path / 'x.jsonl'}"]) == 1
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [(row["path"], row["photos"]) for row in rows] == [
        ("cara", 2),
        (str(tmp_path / "b" / "broken.jpg"), 1),
        ("carb", 2),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--group-by=("], "is neither folder nor a pattern"),
        (["--group-by=folder", "--all-cars"], "--all-cars and --group-by do not go together"),
        (["--expect=Golf", "--group-by=folder"], "--group-by and --expect do not go together"),
        (["--expect= "], "--expect is blank"),
        (["--expect=gone.csv"], "gone.csv cannot be read"),
    ],
)
def test_options_that_do_not_fit(tmp_path, capsys, options, message):
    draw_car(1).save(tmp_path / "car.png")
    assert main([str(tmp_path / "car.png"), *options]) == 2
    assert message in capsys.readouterr().err
