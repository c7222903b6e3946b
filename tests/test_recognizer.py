"""The recognizer: answers, batches, threads, heat maps, and the bundled checkpoint's floor."""

import csv
import dataclasses
import io
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SIGHTS, TINY_LABELS, FoundAt, calibrate, draw_car
from PIL import ExifTags, Image
from test_checkpoints import change_config

from space.answers import REJECTED, Plausible, Recognition
from space.boxes import WHOLE, Box, corners, crop
from space.detector import Detection
from space.errors import CheckpointError, PhotoError
from space.explain import MAX_SIDE
from space.gate import CAR, KINDS, OTHER
from space.labels import parse_label
from space.photos import load_photo
from space.preprocessing import CarCrop, Preprocessor
from space.recognizer import BATCH_SIZE, CarRecognizer
from trainer.evaluation.pasting import pasted

ALL = len(TINY_LABELS)
SPLIT = Path(__file__).parent.parent / "trainer" / "splits" / "official.csv"


def scores(recognition: Recognition) -> dict[str, float]:
    return {car.label: car.score for car in recognition.predictions}


def confidences(recognition: Recognition) -> dict[str, float]:
    return {car.label: car.confidence for car in recognition.predictions}


def assert_same(recognition: Recognition, expected: Recognition, tolerance: float = 1e-5):
    for name in ("error", "verdict", "reason", "level", "plausible"):
        assert getattr(recognition, name) == getattr(expected, name)
    assert scores(recognition) == pytest.approx(scores(expected), abs=tolerance)
    assert confidences(recognition) == pytest.approx(confidences(expected), abs=100 * tolerance)


@pytest.fixture(params=["tiny_recognizer", "calibrated_recognizer"])
def recognizer(request) -> CarRecognizer:
    """What holds for every recognizer holds for an uncalibrated one and for a calibrated one."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def broken(tmp_path) -> Path:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"no photo")
    return path


# One photo


@pytest.mark.parametrize("values", [scores, confidences])
def test_predictions_come_best_first(recognizer, values):
    found = list(values(recognizer.predict(draw_car(1), ALL)).values())
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1]


@pytest.mark.parametrize("values", [scores, confidences])
def test_scores_and_confidences_of_all_classes_sum_to_one(recognizer, values):
    found = values(recognizer.predict(draw_car(1), ALL))
    assert set(found) == set(TINY_LABELS)
    assert sum(found.values()) == pytest.approx(1, abs=1e-6)


def test_scores_are_the_softmax_of_the_network(tiny_recognizer):
    picture = Image.new("RGB", (64, 64), (255, 0, 0))
    inputs = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    with torch.inference_mode():
        expected = tiny_recognizer.checkpoint.model(inputs).softmax(dim=1)[0].tolist()
    answer = scores(tiny_recognizer.predict(picture, ALL))
    assert [answer[label] for label in TINY_LABELS] == pytest.approx(expected, abs=1e-5)


def test_uncalibrated_confidence_is_the_score_and_is_never_tagged(tiny_recognizer):
    answer = tiny_recognizer.predict(draw_car(1), ALL)
    assert confidences(answer) == pytest.approx(scores(answer))
    assert (answer.verdict, answer.level) == ("review", None)
    assert "uncalibrated" in answer.reason
    assert answer.plausible == Plausible((answer.predictions[0].label,), None)


def test_calibration_changes_confidences_but_no_score_and_no_order(
    tiny_recognizer, calibrated_recognizer
):
    for seed in range(5):
        before = tiny_recognizer.predict(draw_car(seed), ALL)
        after = calibrated_recognizer.predict(draw_car(seed), ALL)
        assert list(scores(after)) == list(scores(before))
        assert scores(after) == pytest.approx(scores(before), abs=1e-6)
        assert confidences(after) != pytest.approx(confidences(before), abs=1e-2)


def test_prediction_says_what_its_label_says(tiny_recognizer):
    for car in tiny_recognizer.predict(draw_car(1), ALL).predictions:
        assert (car.make, car.model, car.year) == dataclasses.astuple(parse_label(car.label))


def test_make_is_the_sum_of_its_classes(tiny_recognizer):
    answer = tiny_recognizer.predict(draw_car(1), ALL)
    sums = dict.fromkeys(["Audi", "Land Rover", "BMW"], 0.0)
    for car in answer.predictions:
        sums[car.make] += car.confidence
    assert {make.make: make.confidence for make in answer.makes} == pytest.approx(sums, abs=1e-6)


@pytest.mark.parametrize("rank", ["makes", "models"])
def test_makes_and_models_come_best_first(recognizer, rank):
    found = [score.confidence for score in getattr(recognizer.predict(draw_car(1)), rank)]
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("top_k", [1, 2, 3, 4, 100])
def test_top_k_limits_classes_makes_and_models(recognizer, top_k):
    answer = recognizer.predict(draw_car(1), top_k)
    assert len(answer.predictions) == len(answer.models) == min(top_k, 4)
    assert len(answer.makes) == min(top_k, 3)


def test_top_k_keeps_the_best_and_changes_nothing_else(recognizer):
    every = recognizer.predict(draw_car(1), ALL)
    few = recognizer.predict(draw_car(1), 2)
    assert few.predictions == every.predictions[:2]
    assert few.models == every.models[:2]
    assert_same(few, dataclasses.replace(every, predictions=every.predictions[:2]))


@pytest.mark.parametrize("top_k", [0, -1])
@pytest.mark.parametrize("as_list", [False, True])
def test_top_k_below_one_is_refused(tiny_recognizer, top_k, as_list):
    photo = draw_car(1)
    with pytest.raises(ValueError, match=f"top_k is {top_k}"):
        tiny_recognizer.predict([photo] if as_list else photo, top_k)


def test_path_string_bytes_and_picture_get_the_same_answer(tiny_recognizer, tmp_path):
    path = tmp_path / "car.png"
    draw_car(1).save(path)
    expected = tiny_recognizer.predict(draw_car(1))
    for photo in (path, str(path), path.read_bytes(), Image.open(path)):
        assert tiny_recognizer.predict(photo) == expected


def test_photo_rotated_by_exif_gets_the_answer_of_the_upright_one(tiny_recognizer):
    block = Image.Exif()
    block[ExifTags.Base.Orientation] = 6
    file = io.BytesIO()
    draw_car(1).transpose(Image.Transpose.ROTATE_90).save(file, "PNG", exif=block)
    upright = tiny_recognizer.predict(draw_car(1))
    assert tiny_recognizer.predict(file.getvalue()) == upright


def test_turning_a_photo_changes_its_scores(tiny_recognizer):
    """Otherwise the test above could not fail."""
    turned = draw_car(1).transpose(Image.Transpose.ROTATE_90)
    expected = scores(tiny_recognizer.predict(draw_car(1), ALL))
    assert scores(tiny_recognizer.predict(turned, ALL)) != pytest.approx(expected, abs=1e-5)


def test_single_photo_that_cannot_be_read_raises(tiny_recognizer, broken):
    with pytest.raises(PhotoError, match=r"broken\.jpg"):
        tiny_recognizer.predict(broken)


# Many photos


def test_list_is_answered_in_order_with_the_reason_where_there_is_no_answer(recognizer, broken):
    photos = [draw_car(1), broken, draw_car(2), "missing.jpg", draw_car(3)]
    answers = recognizer.predict(photos, ALL)
    assert [answer.error is None for answer in answers] == [True, False, True, False, True]
    for photo, answer in zip(photos[::2], answers[::2], strict=True):
        assert_same(answer, recognizer.predict(photo, ALL))
    assert answers[1] == Recognition(error=f"{broken} is not a picture in any format known here")
    assert answers[3].error == "missing.jpg does not exist"


def test_list_of_one_is_answered_by_a_list_of_one(tiny_recognizer):
    assert tiny_recognizer.predict([draw_car(1)]) == [tiny_recognizer.predict(draw_car(1))]


def test_empty_list_is_answered_by_an_empty_list(tiny_recognizer):
    assert tiny_recognizer.predict([]) == []


def test_batch_without_a_readable_photo_is_answered(tiny_recognizer, broken):
    answers = tiny_recognizer.predict([broken] * (BATCH_SIZE + 1))
    assert all(answer.error for answer in answers)
    assert len(answers) == BATCH_SIZE + 1


def test_photo_in_a_batch_is_answered_as_if_alone(recognizer):
    photos = [draw_car(seed, size=(40 + 9 * seed, 50)) for seed in range(2 * BATCH_SIZE)]
    photos += SIGHTS.values()
    together = recognizer.predict(photos, ALL)
    assert len(together) == len(photos)
    for photo, answer in zip(photos, together, strict=True):
        assert_same(answer, recognizer.predict(photo, ALL))


def test_stream_is_never_more_than_a_batch_ahead(tiny_recognizer):
    taken = []

    def photos():
        for seed in range(10 * BATCH_SIZE):
            taken.append(seed)
            yield draw_car(seed, size=(40, 30))

    stream = tiny_recognizer.stream(photos())
    assert taken == []
    for _ in range(BATCH_SIZE):
        next(stream)
    assert len(taken) == 2 * BATCH_SIZE
    next(stream)
    assert len(taken) == 3 * BATCH_SIZE


@pytest.mark.parametrize("name", ["tiny_checkpoint", "calibrated_checkpoint"])
def test_threads_get_the_same_answers_and_heat_maps_as_one_after_another(request, name):
    photos = [*(draw_car(seed, size=(48, 36)) for seed in range(6)), *SIGHTS.values()] * 2
    # Opened again, so that nothing was made before the threads.
    recognizer = CarRecognizer.from_pretrained(request.getfixturevalue(name))

    def ask(photo):
        return hash(recognizer.explain(photo, "BMW").tobytes()), recognizer.predict(photo)

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(ask, photos))
    assert together == [ask(photo) for photo in photos]


# The car in the photo

NEAR, AWAY = Box(0.5, 0.25, 1.0, 1.0), Box(0.05, 0.1, 0.3, 0.35)
LEFT_HALF, RIGHT_HALF = Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1)


@pytest.fixture
def finding(calibrated_folder) -> Callable[..., CarRecognizer]:
    """Opens the calibrated checkpoint with a car crop without margin; cars are where it is told."""
    change_config(calibrated_folder, car_crop={"margin": 0})

    def opened(*boxes: Box) -> CarRecognizer:
        recognizer = CarRecognizer.from_pretrained(calibrated_folder)
        recognizer.preprocess = Preprocessor(recognizer.data_config, CarCrop(0.0), FoundAt(*boxes))
        return recognizer

    return opened


@pytest.fixture
def scene() -> Image.Image:
    """Two cars, one near and one far away, which stand at NEAR and AWAY."""
    picture = Image.new("RGB", (640, 480), "grey")
    for seed, box in ((1, NEAR), (2, AWAY)):
        left, upper, right, lower = corners(box, picture.size)
        picture.paste(draw_car(seed, size=(right - left, lower - upper)), (left, upper))
    return picture


def test_the_car_that_was_found_is_named_and_told(finding, scene, calibrated_recognizer):
    answer = finding(NEAR, AWAY).predict(scene)
    assert (answer.box, answer.cars_found) == (NEAR, 2)
    assert_same(answer, calibrated_recognizer.predict(crop(scene, NEAR)))


def test_photo_without_a_car_is_looked_at_whole(finding, scene, calibrated_recognizer):
    answer = finding().predict(scene)
    assert (answer.box, answer.cars_found) == (None, 0)
    assert_same(answer, calibrated_recognizer.predict(scene))


def test_checkpoint_without_a_car_crop_looks_for_no_car(calibrated_recognizer, scene):
    answer = calibrated_recognizer.predict(scene)
    assert (answer.box, answer.cars_found) == (None, None)
    (alone,) = calibrated_recognizer.predict_all(scene)
    assert alone == answer


def test_every_car_is_named_as_if_it_were_alone(finding, scene, calibrated_recognizer):
    answers = finding(NEAR, AWAY).predict_all(scene)
    assert [(answer.box, answer.cars_found) for answer in answers] == [(NEAR, 2), (AWAY, 2)]
    for answer in answers:
        assert_same(answer, calibrated_recognizer.predict(crop(scene, answer.box)))
    (whole,) = finding().predict_all(scene)
    assert (whole.box, whole.cars_found) == (None, 0)


def test_cars_of_many_photos_stay_with_their_photos(finding, scene, broken):
    recognizer = finding(NEAR, AWAY)
    photos = [scene, broken, *[draw_car(seed) for seed in range(BATCH_SIZE)], broken, scene]
    answers = list(recognizer.stream_all(photos))
    assert [len(cars) for cars in answers] == [2, 1, *[2] * BATCH_SIZE, 1, 2]
    for photo, cars in zip(photos, answers, strict=True):
        if photo is broken:
            assert "broken.jpg" in cars[0].error
            continue
        for car, expected in zip(cars, recognizer.predict_all(photo), strict=True):
            assert (car.box, car.cars_found) == (expected.box, 2)
            assert_same(car, expected)


def test_heat_lies_on_the_car_that_was_named_and_nowhere_else(finding, scene):
    plain = np.asarray(scene).astype(int)
    drawn = np.asarray(finding(NEAR, AWAY).explain(scene, "BMW")).astype(int)
    rows, columns = np.nonzero((plain != drawn).any(axis=2))
    assert (rows.min(), rows.max()) == (120, 479)
    assert (columns.min(), columns.max()) == (320, 639)
    assert (drawn[120, 320:] == 255).all()  # the frame
    heat = np.asarray(finding().explain(crop(scene, NEAR), "BMW")).astype(int)
    assert np.array_equal(drawn[140:460, 340:620], heat[20:340, 20:300])


def test_small_car_in_a_real_photo_is_named(bundled, real_data):
    """Cars that never trained the network, in a tenth of a photo of something else."""
    with SPLIT.open(newline="", encoding="utf-8") as file:
        rows = [
            (real_data / "stanford_cars" / row["path"], row["label"])
            for row in csv.DictReader(file)
            if (row["source"], row["split"]) == ("stanford_cars", "test")
        ][:30]
    backgrounds = sorted((real_data / "not_cars").glob("*.jpg"))
    rng = random.Random(0)
    scenes = [
        pasted(load_photo(path), load_photo(rng.choice(backgrounds)), 0.1, rng) for path, _ in rows
    ]
    answers = bundled.predict(scenes)
    right = [
        answer.predictions[0].label == label
        for answer, (_, label) in zip(answers, rows, strict=True)
    ]
    # Of validation photos 8% are when the whole photo is looked at.
    assert sum(right) / len(right) >= 0.5


# Verdicts; the rules themselves are in test_verdict.py


def test_calibrated_checkpoint_tags_its_cars_and_rejects_the_rest(calibrated_recognizer):
    car, part, other = calibrated_recognizer.predict([SIGHTS[kind] for kind in KINDS])
    assert (car.verdict, car.level) == ("auto-tag", "year")
    assert (part.verdict, part.level) == (other.verdict, other.level) == ("rejected", None)
    assert "the inside or a part of a car" in part.reason
    assert other.reason == "this does not look like a car"
    assert part.predictions  # the nearest classes are named all the same
    assert part.plausible.labels


def test_precision_is_that_of_the_thresholds(calibrated_checkpoint):
    strict = CarRecognizer.from_pretrained(calibrated_checkpoint, precision=0.9)
    assert strict.predict(draw_car(0)).verdict == "review"


def test_coverage_is_that_of_the_plausible_set(calibrated_checkpoint, calibrated_recognizer):
    narrow = CarRecognizer.from_pretrained(calibrated_checkpoint, coverage=0.9)
    few = narrow.predict(draw_car(0)).plausible
    many = calibrated_recognizer.predict(draw_car(0)).plausible
    assert (few.coverage, many.coverage) == (0.9, 0.95)
    assert set(few.labels) < set(many.labels)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"precision": 0.5}, r"precision is 0\.5; the checkpoint was calibrated for 0\.9, 0\.98"),
        ({"coverage": 0.8}, r"coverage is 0\.8; the checkpoint was calibrated for 0\.9, 0\.95"),
    ],
)
def test_share_that_was_not_calibrated_is_refused_and_the_offered_ones_named(
    calibrated_checkpoint, options, cause
):
    with pytest.raises(CheckpointError, match=cause):
        CarRecognizer.from_pretrained(calibrated_checkpoint, **options)


def test_share_means_nothing_to_an_uncalibrated_checkpoint(tiny_checkpoint, tiny_recognizer):
    recognizer = CarRecognizer.from_pretrained(tiny_checkpoint, precision=0.5, coverage=0.8)
    assert recognizer.predict(draw_car(1)) == tiny_recognizer.predict(draw_car(1))


def test_car_unlike_all_classes_is_rejected(calibrated_folder):
    calibrate(calibrated_folder, known=1e6)
    answer = CarRecognizer.from_pretrained(calibrated_folder).predict(draw_car(0))
    assert (answer.verdict, answer.level) == ("rejected", None)
    assert answer.reason == "this is unlike all 4 classes that the checkpoint knows"


# Heat maps


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((160, 120), (160, 120)),
        ((90, 200), (90, 200)),
        ((2 * MAX_SIDE, MAX_SIDE), (MAX_SIDE, MAX_SIDE // 2)),
        ((MAX_SIDE // 4, MAX_SIDE * 4), (MAX_SIDE // 16, MAX_SIDE)),
        ((1, 3000), (1, MAX_SIDE)),
    ],
)
def test_overlay_has_the_proportions_of_the_photo(tiny_recognizer, size, expected):
    overlay = tiny_recognizer.explain(Image.new("RGB", size, "teal"))
    assert (overlay.mode, overlay.size) == ("RGB", expected)


def test_overlay_shows_the_photo_through(tiny_recognizer):
    picture = Image.new("RGB", (100, 100), "black")
    picture.paste("white", (50, 0, 100, 100))
    overlay = np.asarray(tiny_recognizer.explain(picture), float)
    assert overlay[:, 60:].mean() > overlay[:, :40].mean() + 60


def test_heat_is_laid_where_the_network_saw_it(tiny_recognizer, monkeypatch):
    heat = np.zeros((64, 64), np.float32)
    heat[:32, 32:] = 1  # above on the right
    monkeypatch.setattr(tiny_recognizer, "heat", lambda *_: heat)
    overlay = np.asarray(tiny_recognizer.explain(Image.new("RGB", (200, 80), "grey")), float)
    redness = overlay[..., 0] - overlay[..., 2]
    assert redness[:35, 110:].min() > 0
    assert (overlay[45:] == 128).all()  # where it is cold, the photo is as it was
    assert (overlay[:, :90] == 128).all()


def test_label_left_out_means_the_most_likely(tiny_recognizer):
    best = tiny_recognizer.predict(draw_car(1)).predictions[0].label
    overlay = tiny_recognizer.explain(draw_car(1))
    assert overlay.tobytes() == tiny_recognizer.explain(draw_car(1), best).tobytes()


def test_labels_have_heat_maps_of_their_own(tiny_recognizer):
    overlays = {tiny_recognizer.explain(draw_car(1), label).tobytes() for label in TINY_LABELS}
    assert len(overlays) == ALL


@pytest.mark.parametrize("label", ["", "Trabant 601", "bmw"])
def test_unknown_label_is_refused(tiny_recognizer, label):
    with pytest.raises(ValueError, match=f"unknown label '{label}'.*{TINY_LABELS[0]}"):
        tiny_recognizer.explain(draw_car(1), label)


def test_unreadable_photo_cannot_be_explained(tiny_recognizer, broken):
    with pytest.raises(PhotoError, match=r"broken\.jpg"):
        tiny_recognizer.explain(broken)


def test_explaining_changes_no_later_answer(tiny_checkpoint):
    recognizer = CarRecognizer.from_pretrained(tiny_checkpoint)
    before = recognizer.predict(draw_car(1))
    model = recognizer.checkpoint.model
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for label in TINY_LABELS:
        recognizer.explain(draw_car(2), label)
    assert recognizer.predict(draw_car(1)) == before
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name])
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("size", [(160, 120), (2 * MAX_SIDE, MAX_SIDE)])
def test_explaining_does_not_change_the_picture(tiny_recognizer, size):
    picture = draw_car(1, size=size)
    before = picture.tobytes()
    tiny_recognizer.explain(picture)
    assert (picture.size, picture.tobytes()) == (size, before)


# The real network on real photos


def test_bundled_checkpoint_names_most_cars_it_has_never_seen(bundled, real_data):
    """The exact figure is in metrics.json; this floor only shows that all parts fit together."""
    with SPLIT.open(newline="", encoding="utf-8") as file:
        rows = sorted(
            (row["path"], row["label"])
            for row in csv.DictReader(file)
            if (row["source"], row["split"]) == ("stanford_cars", "test")
        )[:200]
    assert len(rows) == 200
    answers = bundled.predict([real_data / "stanford_cars" / path for path, _ in rows], 1)
    right = [
        answer.predictions[0].label == label
        for answer, (_, label) in zip(answers, rows, strict=True)
    ]
    assert sum(right) / len(right) >= 0.80


def test_whatever_one_photo_raises_is_its_row(tiny_recognizer, monkeypatch):
    prepare = CarRecognizer.prepare

    def starved(self, photo):
        if photo.size == (33, 33):
            raise MemoryError
        return prepare(self, photo)

    monkeypatch.setattr(CarRecognizer, "prepare", starved)
    photos = [draw_car(1), Image.new("RGB", (33, 33)), draw_car(2)]
    answers = list(tiny_recognizer.stream(photos))
    assert [answer.error for answer in answers] == [
        None, "the photo cannot be used: MemoryError", None,
    ]  # fmt: skip


def test_of_what_may_be_the_car_the_view_with_the_best_logit_is_taken(tiny_checkpoint):
    recognizer = CarRecognizer.from_pretrained(tiny_checkpoint)
    small, doubtful = Box(0.7, 0.7, 0.9, 0.9), Box(0.1, 0.1, 0.6, 0.7)
    detector = FoundAt(small)
    detector.search = lambda picture: [Detection(doubtful, 0.3), Detection(small, 0.2)]
    preprocess = Preprocessor(recognizer.data_config, CarCrop(0.0), detector)
    recognizer.preprocess = preprocess
    taken = set()
    for number in range(20):
        picture = draw_car(number, size=(320, 240))
        views = (None, doubtful, small)
        logits = [
            float(recognizer.forward(preprocess.cut(picture, view)[None]).logits.max())
            for view in views
        ]
        prepared = recognizer.prepare(picture)
        assert (prepared.box, prepared.cars_found) == (views[int(np.argmax(logits))], 1)
        assert recognizer.predict(picture).box == prepared.box
        taken.add(prepared.box)
    assert len(taken) > 1


def side_by_side(*kinds: str) -> Image.Image:
    """Two sights, which fill LEFT_HALF and RIGHT_HALF."""
    picture = Image.new("RGB", (320, 160))
    for place, kind in enumerate(kinds):
        picture.paste(SIGHTS[kind].resize((160, 160)), (160 * place, 0))
    return picture


@pytest.mark.parametrize("kinds", [(CAR, OTHER), (OTHER, CAR), (OTHER, OTHER)])
def test_with_a_gate_the_view_that_looks_most_like_a_car_is_taken(finding, kinds):
    recognizer = finding()
    halves = LEFT_HALF, RIGHT_HALF
    picture = side_by_side(*kinds)
    recognizer.preprocess._detector.search = lambda picture: [Detection(b, 0.2) for b in halves]
    answer = recognizer.predict(picture)
    expected = halves[kinds.index(CAR)] if CAR in kinds else None
    assert (answer.box, answer.cars_found) == (expected, int(CAR in kinds))
    assert (answer.verdict == REJECTED) == (expected is None)


@pytest.mark.parametrize("first", [CAR, OTHER])
def test_where_the_gate_doubts_the_car_that_was_found_the_photo_is_searched(finding, first):
    recognizer = finding(LEFT_HALF)
    picture = side_by_side(first, CAR)
    searched = []
    recognizer.preprocess._detector.search = lambda picture: (
        searched.append(picture) or [Detection(RIGHT_HALF, 0.2)]
    )
    answer = recognizer.predict(picture)
    assert bool(searched) == (first == OTHER)
    assert answer.box == (LEFT_HALF if first == CAR else RIGHT_HALF)
    assert answer.cars_found == 1
    assert answer.verdict != REJECTED


def test_where_the_gate_refuses_all_that_was_found_every_car_is_the_one_of_predict(finding):
    recognizer = finding(LEFT_HALF)
    picture = side_by_side(OTHER, CAR)
    (refused,) = recognizer.predict_all(picture)
    assert refused.verdict == REJECTED
    recognizer.preprocess._detector.search = lambda picture: [Detection(RIGHT_HALF, 0.2)]
    (answer,) = recognizer.predict_all(picture)
    assert answer.box == RIGHT_HALF
    assert_same(answer, recognizer.predict(picture))


@pytest.mark.parametrize(("car_crop", "expected"), [(CarCrop(0.0), [1, 1]), (None, [2])])
def test_what_the_network_made_of_a_photo_is_not_asked_twice(
    finding, monkeypatch, car_crop, expected
):
    """One by one where the gate may ask to see more of a photo, else in a batch."""
    recognizer = finding(LEFT_HALF)
    recognizer.preprocess.car_crop = car_crop
    passes = []
    forward = CarRecognizer.forward
    monkeypatch.setattr(
        CarRecognizer,
        "forward",
        lambda self, pixels: passes.append(len(pixels)) or forward(self, pixels),
    )
    recognizer.predict([SIGHTS[CAR].resize((320, 160)), SIGHTS[CAR].resize((300, 160))])
    assert passes == expected


def test_what_may_be_a_car_is_one_if_the_gate_says_so(finding, scene):
    """The detector is sure of none; what the network then sees of the photo is a car, or not."""
    recognizer = finding()
    sights = {kind: SIGHTS[kind] for kind in (CAR, OTHER)}
    for kind, picture in sights.items():
        recognizer.preprocess._detector.search = lambda picture: [Detection(WHOLE, 0.2)]
        _, may_be_one = recognizer.preprocess.views(picture)
        answer = recognizer._recognize([may_be_one], 5)[0]
        assert (answer.verdict == REJECTED) == (kind == OTHER)
        assert (answer.box, answer.cars_found) == ((WHOLE, 1) if kind == CAR else (None, 0))


def test_a_car_that_fills_a_twentieth_is_taken_without_a_second_look(tiny_checkpoint):
    recognizer = CarRecognizer.from_pretrained(tiny_checkpoint)
    box = Box(0.25, 0.25, 0.5, 0.5)
    recognizer.preprocess = Preprocessor(recognizer.data_config, CarCrop(0.0), FoundAt(box))
    pictures = [draw_car(number, size=(320, 240)) for number in range(20)]
    assert {recognizer.prepare(picture).box for picture in pictures} == {box}
