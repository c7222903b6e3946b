"""Checkpoints: what is written can be read, by others too, and nothing wrong is opened."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from conftest import TINY_DATA_CONFIG, TINY_LABELS, draw_car
from others import timm_scores, transformers_scores
from safetensors.torch import load_file, save_file

from space import checkpoints
from space.boxes import WHOLE
from space.checkpoints import REQUIRED, file_hash, open_checkpoint
from space.errors import CheckpointError
from space.labels import Car, parse_label
from space.preprocessing import CarCrop
from space.recognizer import CarRecognizer
from trainer.training.checkpoints import save_checkpoint

CLASSIFIER = "classifier.weight"


@pytest.fixture
def folder(tiny_checkpoint, tmp_path) -> Path:
    """A good checkpoint that a test may spoil."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")


def tiny_model(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return timm.create_model("test_efficientnet", num_classes=len(TINY_LABELS)).eval()


def save(folder: Path, model: torch.nn.Module, **options):
    save_checkpoint(
        folder,
        model,
        architecture="test_efficientnet",
        labels=TINY_LABELS,
        data_config=TINY_DATA_CONFIG,
        training={"epochs": 3},
        **{"model_args": {}} | options,
    )


def change_config(folder: Path, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


def change_tensors(folder: Path, **changes):
    """Replaces tensors; a dot in a name is written as two underscores, None removes one."""
    tensors = load_file(folder / "model.safetensors")
    tensors |= {name.replace("__", "."): tensor for name, tensor in changes.items()}
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors")


def write_labels(folder: Path, *labels: str):
    (folder / "classes.txt").write_text("".join(f"{label}\n" for label in labels), "utf-8")


def assert_refused(folder: Path, cause: str):
    with pytest.raises(CheckpointError, match=cause):
        open_checkpoint(folder)


# Written and read again


def test_opened_checkpoint_is_what_was_saved(tmp_path):
    model = tiny_model()
    save(tmp_path / "new" / "folder", model, dtype=torch.float32)
    opened = open_checkpoint(tmp_path / "new" / "folder")
    assert opened.labels == TINY_LABELS
    assert json.dumps(opened.data_config) == json.dumps(TINY_DATA_CONFIG)
    assert opened.folder == tmp_path / "new" / "folder"
    assert json.loads((opened.folder / "training.json").read_text("utf-8")) == {"epochs": 3}
    for name, tensor in opened.model.state_dict().items():
        torch.testing.assert_close(tensor, model.state_dict()[name], rtol=0, atol=0)


def test_car_crop_is_kept_and_without_one_whole_photos_are_looked_at(tmp_path):
    save(tmp_path, tiny_model(), car_crop=CarCrop(0.125))
    assert open_checkpoint(tmp_path).car_crop == CarCrop(0.125)
    save(tmp_path, tiny_model())
    assert open_checkpoint(tmp_path).car_crop is None
    assert "car_crop" not in json.loads((tmp_path / "config.json").read_text("utf-8"))


def test_opened_network_is_ready_to_answer(folder):
    assert not open_checkpoint(folder).model.training


def test_weights_are_half_as_wide_on_disk_and_whole_in_memory(folder):
    stored = {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()}
    opened = {parameter.dtype for parameter in open_checkpoint(folder).model.parameters()}
    assert stored == {torch.float16, torch.int64}  # the integers are batch counters
    assert opened == {torch.float32}


def test_half_as_wide_weights_answer_nearly_the_same(tmp_path):
    model = tiny_model()
    save(tmp_path, model)
    pixels = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        expected, answer = (net(pixels) for net in (model, open_checkpoint(tmp_path).model))
    torch.testing.assert_close(answer, expected, atol=1e-2, rtol=1e-2)


def test_model_arguments_are_kept(tmp_path):
    model = timm.create_model("test_efficientnet", num_classes=len(TINY_LABELS), act_layer="relu")
    save(tmp_path, model, model_args={"act_layer": "relu"})
    assert isinstance(open_checkpoint(tmp_path).model.bn1.act, torch.nn.ReLU)


def test_saving_replaces_an_earlier_checkpoint(folder):
    before = open_checkpoint(folder).revision
    save(folder, tiny_model(seed=1))
    assert open_checkpoint(folder).revision != before


def test_revision_of_a_folder_is_the_hash_of_its_weights(folder):
    digest = file_hash(folder / "model.safetensors")
    assert len(digest) == 64
    assert open_checkpoint(folder).revision == f"sha256:{digest[:12]}"


def test_source_is_kept_as_the_user_named_it(folder):
    assert open_checkpoint(f"{folder}/").source == f"{folder}/"


def test_default_is_the_bundled_checkpoint(folder, monkeypatch):
    monkeypatch.setattr(checkpoints, "BUNDLED", folder)
    opened = open_checkpoint()
    assert (opened.source, opened.folder) == ("bundled", folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_saving_refuses_what_is_not_finite_and_leaves_the_old_checkpoint(folder, value):
    before = open_checkpoint(folder).revision
    model = tiny_model(seed=1)
    with torch.no_grad():
        model.classifier.weight[0, 0] = value
    with pytest.raises(CheckpointError, match=rf"{CLASSIFIER} .*not finite"):
        save(folder, model)
    assert open_checkpoint(folder).revision == before


# Opened by others


@pytest.mark.parametrize("name", ["tiny_checkpoint", "calibrated_checkpoint", "bundled"])
def test_timm_transformers_and_marque_agree(request, name):
    """They agree on scores; a confidence is what Marque makes of them."""
    folder = checkpoints.BUNDLED if name == "bundled" else request.getfixturevalue(name)
    recognizer = CarRecognizer.from_pretrained(folder)
    photo, count = draw_car(5, size=(300, 170)), len(recognizer.labels)
    # All of the photo, for the others look at nothing less.
    answer = recognizer.predict(photo, count, box=WHOLE)
    marque = {car.label: car.score for car in answer.predictions}
    assert np.ptp(list(marque.values())) > 1e-3  # all the same would agree with anything
    assert timm_scores(f"local-dir:{folder}", photo) == pytest.approx(marque, abs=1e-5)
    assert transformers_scores(str(folder), photo, count) == pytest.approx(marque, abs=1e-5)


def test_what_labels_mean_is_kept(tmp_path):
    cars = [Car("Renault", "Clio", None), Car("BMW", "1 Series", None), Car("Audi", "A4", 2012)]
    save_checkpoint(
        tmp_path,
        timm.create_model("test_efficientnet", num_classes=3),
        architecture="test_efficientnet",
        model_args={},
        labels=["clio", "bmw serie 1", "Audi A4 2012"],
        cars=cars,
        data_config=TINY_DATA_CONFIG,
        training={},
    )
    assert open_checkpoint(tmp_path).cars == tuple(cars)
    recognition = CarRecognizer.from_pretrained(tmp_path).predict(draw_car(1))
    found = {car.label: (car.make, car.model, car.year) for car in recognition.predictions}
    assert found["clio"] == ("Renault", "Clio", None)
    assert {score.make for score in recognition.makes} == {"Renault", "BMW", "Audi"}


def test_labels_of_a_checkpoint_that_does_not_say_what_they_mean_are_parsed(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["cars"]
    (folder / "config.json").write_text(json.dumps(config))
    assert open_checkpoint(folder).cars == tuple(parse_label(label) for label in TINY_LABELS)


# Refused


@pytest.mark.parametrize(
    "cars",
    [[], "cars", [["Audi", "A4", "2012"]] * 4, [["Audi", "A4"]] * 4, [["", "A4", 2012]] * 4, [1]],
)
def test_meanings_that_do_not_fit_the_labels_are_refused(folder, cars):
    change_config(folder, cars=cars)
    assert_refused(folder, "cars must list make, model and year .* of each of the 4 labels")


@pytest.mark.parametrize("name", REQUIRED)
def test_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert_refused(folder, f"has no {name}")


def test_missing_bundled_checkpoint_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "BUNDLED", tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"nothing has no config\.json"):
        open_checkpoint()


@pytest.mark.parametrize("source", ["nowhere", "/no/such/folder", "org/name@", "https://x.y/z"])
def test_source_that_is_neither_folder_nor_repository_is_refused(source):
    assert_refused(source, "there is no folder .*, and it is not a Hub repository")


def test_file_as_source_is_refused(folder):
    assert_refused(folder / "config.json", "there is no folder")


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".PTH"])
def test_pickle_file_is_refused_unopened(folder, suffix):
    (folder / f"weights{suffix}").write_bytes(b"not even a pickle")
    assert_refused(folder, rf"weights\{suffix} is a pickle file")


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"{", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[]", "should hold one JSON object"),
    ],
)
def test_config_that_is_no_json_object_is_refused(folder, content, cause):
    (folder / "config.json").write_bytes(content)
    assert_refused(folder, rf"config\.json .*{cause}")


@pytest.mark.parametrize("architecture", ["test_nothing", "hf-hub:org/name", None])
def test_unknown_architecture_is_named(folder, architecture):
    change_config(folder, architecture=architecture)
    assert_refused(folder, rf"knows no architecture {architecture!r}")


def test_model_arguments_that_the_network_does_not_take_are_named(folder):
    change_config(folder, model_args={"wheels": 4})
    assert_refused(folder, r"test_efficientnet cannot be built with .*'wheels': 4")


def test_missing_preprocessing_is_refused(folder):
    change_config(folder, pretrained_cfg=None)
    assert_refused(folder, "has no pretrained_cfg")


@pytest.mark.parametrize(
    "found", [{}, 0.1, [0.1], {"margin": -1}, {"margin": None}, {"margin": 0.1, "side": 2}]
)
def test_car_crop_that_is_none_is_refused(folder, found):
    change_config(folder, car_crop=found)
    assert_refused(folder, r'config\.json: car_crop must be {"margin": a number from 0 to 1}, or')


@pytest.mark.parametrize("key", TINY_DATA_CONFIG)
def test_missing_preprocessing_key_is_named(folder, key):
    kept = {name: value for name, value in TINY_DATA_CONFIG.items() if name != key}
    change_config(folder, pretrained_cfg=kept)
    assert_refused(folder, f"pretrained_cfg lacks {key}$")


def test_labels_that_differ_from_the_config_are_refused(folder):
    write_labels(folder, *reversed(TINY_LABELS))
    assert_refused(folder, r"classes\.txt and label_names in config\.json differ")


def test_class_count_that_differs_from_the_labels_is_refused(folder):
    change_config(folder, num_classes=5)
    assert_refused(folder, "5 classes, but 4 labels")


def test_labels_that_do_not_fit_the_head_are_refused(folder):
    labels = [*TINY_LABELS, "Volvo 240 Sedan 1993"]
    write_labels(folder, *labels)
    cars = [[car.make, car.model, car.year] for car in map(parse_label, labels)]
    change_config(folder, label_names=labels, num_classes=5, cars=cars)
    assert_refused(folder, rf"{CLASSIFIER} has shape \(4, \d+\) instead of \(5, \d+\)")


def test_label_given_twice_is_named(folder):
    write_labels(folder, *TINY_LABELS[:3], TINY_LABELS[0])
    assert_refused(folder, f"names a class twice: {TINY_LABELS[0]}")


@pytest.mark.parametrize("labels", [(), (*TINY_LABELS[:3], " "), (*TINY_LABELS[:3], "", "BMW")])
def test_blank_label_is_refused(folder, labels):
    write_labels(folder, *labels)
    assert_refused(folder, r"classes\.txt is empty or has a blank line")


def test_labels_that_are_no_text_are_refused(folder):
    (folder / "classes.txt").write_bytes("Citroën\n".encode("latin-1"))
    assert_refused(folder, r"classes\.txt is not UTF-8")


def test_missing_tensor_is_named(folder):
    change_tensors(folder, classifier__weight=None)
    assert_refused(folder, f"{CLASSIFIER} is missing")


def test_tensor_left_over_is_named(folder):
    change_tensors(folder, spare__wheel=torch.zeros(1))
    assert_refused(folder, r"spare\.wheel does not belong to the network")


def test_tensor_of_the_wrong_shape_is_named(folder):
    change_tensors(folder, classifier__bias=torch.zeros(7))
    assert_refused(folder, r"classifier\.bias has shape \(7,\) instead of \(4,\)")


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_named(folder, value):
    change_tensors(folder, classifier__bias=torch.full((4,), value))
    assert_refused(folder, r"classifier\.bias holds values that are not finite")


def test_many_wrong_tensors_are_counted_rather_than_listed(folder):
    save_file({"a": torch.zeros(1)}, folder / "model.safetensors")
    assert_refused(folder, r"(is missing.*){3} and \d+ more$")


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_damaged_weights_are_refused(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert_refused(folder, r"model\.safetensors is damaged or no safetensors file")


# What the configuration may hold


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"input_size": [3, 0, 64]}, "input_size"),
        ({"input_size": [3, 64, 100_000]}, "input_size"),
        ({"input_size": [1, 64, 64]}, "input_size"),
        ({"input_size": "3,64,64"}, "input_size"),
        ({"input_size": [3, 64.0, 64]}, "input_size"),
        ({"interpolation": "telepathy"}, "interpolation"),
        ({"interpolation": ["bicubic"]}, "interpolation"),
        ({"crop_pct": 0}, "crop_pct"),
        ({"crop_pct": float("nan")}, "crop_pct"),
        ({"crop_pct": 10**400}, "crop_pct"),
        ({"crop_mode": "../x"}, "crop_mode"),
        ({"mean": [0.5, 0.5]}, "mean"),
        ({"mean": [0.5, 0.5, float("inf")]}, "mean"),
        ({"std": [0.5, 0, 0.5]}, "std"),
        ({"std": None}, "std"),
    ],
)
def test_preprocessing_out_of_its_range_is_refused(folder, changes, rule):
    config = json.loads((folder / "config.json").read_text())
    change_config(folder, pretrained_cfg=config["pretrained_cfg"] | changes)
    assert_refused(folder, rf"config\.json: pretrained_cfg: {rule} must be")


@pytest.mark.parametrize(
    "arguments",
    [
        {"checkpoint_path": "/etc/hostname"},
        {"pretrained": True},
        {"pretrained_cfg_overlay": {"file": "/etc/hostname"}},
        {"cache_dir": "/tmp/x"},
        {"act_layer": {"deep": ["er"]}},
        {"drop_rate": float("nan")},
        ["checkpoint_path"],
    ],
)
def test_arguments_that_open_files_are_refused(folder, arguments):
    change_config(folder, model_args=arguments)
    assert_refused(folder, r"config\.json: model_args (may not have|should be)")


def test_what_is_too_large_is_refused_before_it_is_read(folder):
    labels = [f"Audi {number}" for number in range(40_000)]
    write_labels(folder, *labels)
    change_config(folder, label_names=labels, num_classes=40_000)
    assert_refused(folder, "names 40000 classes; 20000 are the most")
    with (folder / "config.json").open("wb") as file:
        file.truncate(100_000_000)
    assert_refused(folder, r"config\.json is larger than 64 MB")
    (folder / "config.json").write_bytes(b"[" * 1_000_000)
    assert_refused(folder, r"config\.json is not valid JSON")
