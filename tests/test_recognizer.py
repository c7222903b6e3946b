"""The recogniser: answers, batches, threads, heat maps, and the bundled checkpoint's floor."""

import csv
import dataclasses
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_LABELS, draw_car
from PIL import ExifTags, Image

from space.explain import MAX_SIDE
from space.labels import parse_label
from space.photos import PhotoError
from space.recognizer import BATCH_SIZE, CarRecognizer, Recognition

ALL = len(TINY_LABELS)
SPLIT = Path(__file__).parent.parent / "trainer" / "splits" / "stanford_cars.csv"


def scores(recognition: Recognition) -> dict[str, float]:
    return {car.label: car.confidence for car in recognition.predictions}


def assert_same(recognition: Recognition, expected: Recognition, tolerance: float = 1e-5):
    assert recognition.error == expected.error
    assert scores(recognition) == pytest.approx(scores(expected), abs=tolerance)


@pytest.fixture
def broken(tmp_path) -> Path:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"no photo")
    return path


# One photo


def test_predictions_come_best_first(tiny_recognizer):
    confidences = list(scores(tiny_recognizer.predict(draw_car(1), ALL)).values())
    assert confidences == sorted(confidences, reverse=True)
    assert confidences[0] > confidences[-1]


def test_confidences_of_all_classes_sum_to_one(tiny_recognizer):
    answer = tiny_recognizer.predict(draw_car(1), ALL)
    assert set(scores(answer)) == set(TINY_LABELS)
    assert sum(scores(answer).values()) == pytest.approx(1, abs=1e-6)


def test_confidences_are_the_softmax_of_the_network(tiny_recognizer):
    picture = Image.new("RGB", (64, 64), (255, 0, 0))
    inputs = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    with torch.inference_mode():
        expected = tiny_recognizer.model(inputs).softmax(dim=1)[0].tolist()
    answer = scores(tiny_recognizer.predict(picture, ALL))
    assert [answer[label] for label in TINY_LABELS] == pytest.approx(expected, abs=1e-5)


def test_prediction_says_what_its_label_says(tiny_recognizer):
    for car in tiny_recognizer.predict(draw_car(1), ALL).predictions:
        assert (car.make, car.model, car.year) == dataclasses.astuple(parse_label(car.label))


def test_make_is_the_sum_of_its_classes(tiny_recognizer):
    answer = tiny_recognizer.predict(draw_car(1), ALL)
    sums = dict.fromkeys(["Audi", "Land Rover", "BMW"], 0.0)
    for car in answer.predictions:
        sums[car.make] += car.confidence
    assert {make.make: make.confidence for make in answer.makes} == pytest.approx(sums, abs=1e-6)


def test_makes_come_best_first(tiny_recognizer):
    confidences = [make.confidence for make in tiny_recognizer.predict(draw_car(1)).makes]
    assert confidences == sorted(confidences, reverse=True)


def test_confidence_never_exceeds_one(tiny_recognizer, monkeypatch):
    rounded_up = torch.tensor([[0.75, 0, 0.2500001, 0]])
    monkeypatch.setattr(tiny_recognizer, "probabilities", lambda _: rounded_up)
    assert rounded_up.sum() > 1
    assert tiny_recognizer.predict(draw_car(1)).makes[0].confidence == 1


@pytest.mark.parametrize("top_k", [1, 2, 3, 4, 100])
def test_top_k_limits_classes_and_makes(tiny_recognizer, top_k):
    answer = tiny_recognizer.predict(draw_car(1), top_k)
    assert len(answer.predictions) == min(top_k, 4)
    assert len(answer.makes) == min(top_k, 3)


def test_top_k_keeps_the_best(tiny_recognizer):
    every = tiny_recognizer.predict(draw_car(1), ALL)
    assert tiny_recognizer.predict(draw_car(1), 2).predictions == every.predictions[:2]


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


def test_list_is_answered_in_order_with_the_reason_where_there_is_no_answer(
    tiny_recognizer, broken
):
    photos = [draw_car(1), broken, draw_car(2), "missing.jpg", draw_car(3)]
    answers = tiny_recognizer.predict(photos, ALL)
    assert [answer.error is None for answer in answers] == [True, False, True, False, True]
    for photo, answer in zip(photos[::2], answers[::2], strict=True):
        assert_same(answer, tiny_recognizer.predict(photo, ALL))
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


def test_photo_in_a_batch_is_answered_as_if_alone(tiny_recognizer):
    photos = [draw_car(seed, size=(40 + 9 * seed, 50)) for seed in range(2 * BATCH_SIZE + 3)]
    together = tiny_recognizer.predict(photos, ALL)
    assert len(together) == len(photos)
    for photo, answer in zip(photos, together, strict=True):
        assert_same(answer, tiny_recognizer.predict(photo, ALL))


def test_stream_takes_no_more_photos_than_it_needs(tiny_recognizer):
    taken = []

    def photos():
        for seed in range(10 * BATCH_SIZE):
            taken.append(seed)
            yield draw_car(seed, size=(40, 30))

    stream = tiny_recognizer.stream(photos())
    assert taken == []
    for _ in range(BATCH_SIZE):
        next(stream)
    assert len(taken) == BATCH_SIZE
    next(stream)
    assert len(taken) == 2 * BATCH_SIZE


def test_threads_get_the_same_answers_and_heat_maps_as_one_after_another(tiny_checkpoint):
    photos = [draw_car(seed, size=(48, 36)) for seed in range(8)] * 2
    recognizer = CarRecognizer.from_pretrained(tiny_checkpoint)  # nothing made before the threads

    def ask(photo):
        return hash(recognizer.explain(photo, "BMW").tobytes()), recognizer.predict(photo)

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(ask, photos))
    assert together == [ask(photo) for photo in photos]


def test_network_computes_no_gradients_while_predicting(tiny_recognizer):
    pixels = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    assert not tiny_recognizer.probabilities(pixels).requires_grad


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
    monkeypatch.setattr(tiny_recognizer._explainer, "heat", lambda *_: heat)
    overlay = np.asarray(tiny_recognizer.explain(Image.new("RGB", (200, 80), "grey")), float)
    redness = overlay[..., 0] - overlay[..., 2]
    assert redness[:35, 110:].min() > 0 > redness[45:].max()
    assert redness[:, :90].max() < 0


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
    weights = {name: tensor.clone() for name, tensor in recognizer.model.state_dict().items()}
    for label in TINY_LABELS:
        recognizer.explain(draw_car(2), label)
    assert recognizer.predict(draw_car(1)) == before
    for name, tensor in recognizer.model.state_dict().items():
        assert torch.equal(tensor, weights[name])
    assert all(parameter.grad is None for parameter in recognizer.model.parameters())


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
            (row["path"], row["label"]) for row in csv.DictReader(file) if row["split"] == "test"
        )[:200]
    assert len(rows) == 200
    answers = bundled.predict([real_data / "stanford_cars" / path for path, _ in rows], 1)
    right = [
        answer.predictions[0].label == label
        for answer, (_, label) in zip(answers, rows, strict=True)
    ]
    assert sum(right) / len(right) >= 0.80
