"""Are heat maps faithful: measured on a network that is known to look at red alone."""

import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from conftest import TINY_DATA_CONFIG, draw_car
from PIL import Image, ImageDraw
from pytorch_grad_cam import GradCAM, HiResCAM
from timm.layers import SelectAdaptivePool2d

from benchmarks.faithfulness import (
    METHODS,
    RANDOM,
    Explainer,
    car_mask,
    heat_on_cars,
    last_stage,
    pooled_layer,
    road,
)
from space.checkpoints import open_checkpoint
from space.errors import PhotoError
from space.photos import load_photo
from space.recognizer import CarRecognizer
from trainer.data.splits import TEST
from trainer.evaluation.predictions import find_photos, predict_photos, siblings_of

BOX = 30  # side of the red patch, of a photo of 64 pixels


class RedNet(torch.nn.Module):
    """Class 0 is red, class 1 is blue; the other two are nothing."""

    feature_info = ({"module": "features", "reduction": 8},)
    num_features = 2

    def __init__(self):
        super().__init__()
        colors = torch.nn.Conv2d(3, 2, 8, 8)
        self.features = torch.nn.Sequential(colors, torch.nn.ReLU())
        self.global_pool = SelectAdaptivePool2d(flatten=True)
        self.classifier = torch.nn.Linear(2, 4)
        with torch.no_grad():
            mixture = torch.tensor([[1, -0.5, -0.5], [-0.5, -0.5, 1]]) / 64
            colors.weight.copy_(mixture[:, :, None, None].expand(2, 3, 8, 8))
            colors.bias.fill_(-0.3)
            self.classifier.weight.copy_(10 * torch.eye(4, 2))
            self.classifier.bias.zero_()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.features(images))

    def forward_intermediates(self, images: torch.Tensor, output_fmt: str):
        maps = self.features(images)
        return maps, [maps]

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        pooled = self.global_pool(maps)
        return pooled if pre_logits else self.classifier(pooled)


@pytest.fixture(scope="module")
def sees_red(tiny_checkpoint) -> CarRecognizer:
    """A recognizer with that network."""
    checkpoint = open_checkpoint(tiny_checkpoint)
    vars(checkpoint)["model"] = RedNet().eval()  # in place of the one that would be built
    return CarRecognizer(checkpoint)


def scene(seed: int) -> tuple[Image.Image, Image.Image]:
    """A red patch among grey and green ones, and its cut-out on black."""
    rng = random.Random(seed)
    picture = Image.new("RGB", (64, 64), "grey")
    draw = ImageDraw.Draw(picture)
    for _ in range(12):
        x, y = rng.randrange(60), rng.randrange(60)
        draw.rectangle((x, y, x + 9, y + 9), fill=rng.choice(["green", "silver", "dimgrey"]))
    left, top = rng.randrange(2, 62 - BOX), rng.randrange(2, 62 - BOX)
    box = (left, top, left + BOX, top + BOX)
    picture.paste("red", box)
    cut_out = Image.new("RGB", picture.size)
    cut_out.paste(picture.crop(box), box)
    return picture, cut_out


def reader(picture: Image.Image, kind: str = "PNG"):
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue


@pytest.fixture(scope="module")
def scenes():
    """Readers of photos and of their cut-outs, and groups of two."""
    pairs = [scene(seed) for seed in range(8)]
    photos, siblings = (
        [reader(picture) for picture in column] for column in zip(*pairs, strict=True)
    )
    return photos, siblings, [f"group {number // 2}" for number in range(8)]


@pytest.fixture(scope="module")
def removal(sees_red, scenes):
    photos, _, groups = scenes
    return road(sees_red, photos, groups, count=4)


@pytest.fixture(scope="module")
def on_cars(sees_red, scenes):
    return heat_on_cars(sees_red, *scenes)


@pytest.mark.parametrize("method", METHODS)
def test_heat_where_the_evidence_is_beats_the_control_by_road(removal, method):
    found = removal["methods"][method]
    assert found["beyond_random"]["low"] > 0
    assert found["hottest_removed"]["value"] < found["coldest_removed"]["value"]
    assert found["hottest_removed"]["high"] < removal["methods"][RANDOM]["hottest_removed"]["low"]


def test_an_order_that_means_nothing_scores_nothing_by_road(removal):
    found = removal["methods"][RANDOM]
    assert found["road"]["low"] < 0 < found["road"]["high"]
    assert set(found["beyond_random"].values()) == {0.0}


def test_road_is_half_of_what_lies_between_coldest_and_hottest(removal):
    for found in removal["methods"].values():
        between = found["coldest_removed"]["value"] - found["hottest_removed"]["value"]
        assert found["road"]["value"] == pytest.approx(between / 2, abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_heat_where_the_evidence_is_lies_on_the_car(on_cars, method):
    found = on_cars["methods"][method]
    assert found["pointing"]["value"] == 1
    assert found["share"]["low"] > 0.6 > on_cars["car"]["high"]
    assert found["beyond_random"]["low"] > 0


def test_the_control_gets_what_the_car_takes_of_the_photo(on_cars):
    share, car = on_cars["methods"][RANDOM]["share"], on_cars["car"]
    assert car["value"] == pytest.approx((BOX / 64) ** 2, abs=0.03)
    assert share["value"] == pytest.approx(car["value"], abs=0.1)


def test_the_control_is_no_method():
    assert RANDOM not in METHODS


def test_what_is_found_can_be_written_and_found_again(sees_red, scenes, removal, on_cars):
    photos, _, groups = scenes
    for found, count in ((removal, 4), (on_cars, 8)):
        assert json.loads(json.dumps(found)) == found
        assert found["photos"] == count
        assert list(found["methods"]) == [*METHODS, RANDOM]
    state = torch.random.get_rng_state()
    first, second = (road(sees_red, photos, groups, count=1) for _ in range(2))
    assert first == second
    assert heat_on_cars(sees_red, *scenes) == on_cars
    assert torch.equal(torch.random.get_rng_state(), state)


def test_no_more_photos_are_read_than_asked_for(sees_red, scenes):
    photos, siblings, groups = scenes
    opened = []
    counted = [lambda p=photo: opened.append(p) or p() for photo in photos]
    found = heat_on_cars(sees_red, counted, siblings, groups, count=3, seed=1)
    assert len(opened) == found["photos"] == 3
    assert heat_on_cars(sees_red, photos, siblings, groups, count=3, seed=2) != found


def test_a_map_without_heat_counts_as_even(tiny_recognizer, scenes, monkeypatch):
    monkeypatch.setattr(Explainer, "heat", lambda *_: np.zeros((64, 64), np.float32))
    found = heat_on_cars(tiny_recognizer, *scenes)
    for name in METHODS:
        assert found["methods"][name]["share"] == found["car"]
        assert found["methods"][name]["pointing"] == found["car"]


def test_maps_that_say_nothing_take_out_what_the_control_does(sees_red, scenes, monkeypatch):
    """A map of zeros has no order; without ranks the library would take out the whole photo."""
    photos, _, groups = scenes
    monkeypatch.setattr(Explainer, "heat", lambda *_: np.zeros((64, 64), np.float32))
    found = road(sees_red, photos, groups, count=1)["methods"]
    for name in METHODS:
        # Only the noise of the filling differs.
        assert found[name]["beyond_random"]["value"] == pytest.approx(0, abs=0.02)


def test_measuring_does_not_change_the_network(tiny_recognizer, scenes):
    photos, siblings, groups = scenes
    before = tiny_recognizer.predict(draw_car(1))
    road(tiny_recognizer, photos, groups, count=1)
    heat_on_cars(tiny_recognizer, photos, siblings, groups, count=1)
    assert tiny_recognizer.predict(draw_car(1)) == before
    assert not any(p.grad is not None for p in tiny_recognizer.checkpoint.model.parameters())


def test_photos_that_cannot_be_measured(sees_red, scenes):
    photos, siblings, groups = scenes
    with pytest.raises(ValueError, match="no photo"):
        road(sees_red, [], [])
    with pytest.raises(ValueError, match="no photo"):
        heat_on_cars(sees_red, [], [], [])
    with pytest.raises(PhotoError):
        heat_on_cars(sees_red, photos, [lambda: b"broken"] * len(siblings), groups)


def test_the_mask_has_no_specks_and_no_holes(sees_red):
    cut_out = Image.new("RGB", (640, 640))
    cut_out.paste("red", (200, 200, 500, 500))
    cut_out.paste("black", (300, 300, 340, 340))  # a window
    cut_out.paste("white", (20, 20, 60, 60))  # a speck
    with Image.open(io.BytesIO(reader(cut_out, "JPEG")())) as saved:
        mask = car_mask(sees_red.preprocess.cut(load_photo(saved), None))
    assert mask.shape == (64, 64)
    wanted = np.zeros((64, 64), bool)
    wanted[20:50, 20:50] = True
    assert (mask != wanted).mean() < 0.04  # the edge is soft
    assert mask[30:34, 30:34].all()
    assert not mask[:15].any()


def test_of_a_black_picture_nothing_is_the_car():
    assert not car_mask(np.zeros((3, 50, 40), np.uint8)).any()


@pytest.mark.parametrize(
    "architecture", ["test_efficientnet", "tf_efficientnet_lite0", "resnet18", "convnext_atto"]
)
def test_the_pooled_layer_gives_what_the_classifier_averages(architecture):
    model = timm.create_model(architecture, num_classes=2).eval()
    outputs = []
    layer = pooled_layer(model)
    layer.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    with torch.no_grad():
        logits = model(torch.rand(1, 3, 64, 64))
        assert torch.equal(model.forward_head(outputs[0]), logits)
    assert outputs[0].shape[1] >= model.feature_info[-1]["num_chs"]
    assert (layer is last_stage(model)) == (architecture == "resnet18")


def test_grad_cam_is_the_score_taken_apart(sees_red):
    """On the layer that is averaged, the class's weights say the same as HiResCAM."""
    pixels = torch.from_numpy(sees_red.prepare(scene(3)[0]).pixels)[None]
    explainer = Explainer(sees_red.checkpoint.model, TINY_DATA_CONFIG)
    same = [explainer.heat(pixels, 0, method) for method in (GradCAM, HiResCAM)]
    assert np.abs(same[0] - same[1]).max() < 1e-5


def test_real_heat_lies_on_real_cars(bundled, real_data):
    specs = [f"algerian_used_cars={real_data / 'algerian_used_cars'}"]
    split_file = Path("trainer/splits/official.csv")
    photos = [p for p in find_photos(bundled, specs, split_file) if p.split == TEST][:60]
    predictions = predict_photos(bundled, [photo.read for photo in photos], TEST)
    # The names of the files tell, and nothing else of the project goes by them.
    assert [photo.path.split("/")[-1].startswith("back") for photo in photos] == list(
        predictions.backgroundless
    )
    pairs = siblings_of(photos, predictions.backgroundless)
    assert len(pairs) > 15
    found = heat_on_cars(
        bundled,
        [photo.read for photo, _ in pairs],
        [sibling.read for _, sibling in pairs],
        [photo.group for photo, _ in pairs],
        count=5,
    )
    # Cars fill more of what the network sees since they are cut out with a smaller margin: 0.61.
    assert 0.2 < found["car"]["value"] < 0.65
    control = found["methods"][RANDOM]["share"]["value"]
    assert control == pytest.approx(found["car"]["value"], abs=0.1)
    assert found["methods"]["Eigen-CAM"]["beyond_random"]["low"] > 0.2
