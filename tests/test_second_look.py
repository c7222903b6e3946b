"""The second look: where it looks, what it cuts out of the photo, and when it stays away."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import timm
import torch
from conftest import TINY_DATA_CONFIG, draw_car
from PIL import Image

from space.gate import look_closely
from space.second_look import (
    COMBINATIONS,
    HEATS,
    WHOLE,
    Box,
    SecondLook,
    box_around,
    combined,
    crop,
    heat_maps,
    seen_part,
)
from space.transforms import normalize, to_pixels
from trainer.evaluation.robustness import distant

ALWAYS, NEVER = SecondLook(largest=1.0), SecondLook(largest=0.0)

every_heat = pytest.mark.parametrize("heat", HEATS)


# The box


def test_box_lies_around_the_heat():
    heat = torch.zeros(7, 7)
    heat[3:5, 1:4] = 1
    box = box_around(heat, share=0.5, margin=0)
    assert box == pytest.approx((1 / 7, 3 / 7, 4 / 7, 5 / 7), abs=0.04)


def test_margin_grows_with_the_box_and_ends_at_the_frame():
    heat = torch.zeros(8, 8)
    heat[0:2, 2:6] = 1
    tight, wide = (box_around(heat, share=0.5, margin=margin) for margin in (0, 0.5))
    assert wide.left == pytest.approx(tight.left - (tight.right - tight.left) / 2)
    assert wide.lower == pytest.approx(tight.lower + (tight.lower - tight.upper) / 2)
    assert wide.upper == 0


def test_region_with_the_most_heat_counts_not_the_hottest_place():
    heat = torch.zeros(9, 9)
    heat[1, 1] = 1
    heat[5:8, 4:8] = 0.8
    box = box_around(heat, share=0.5, margin=0)
    assert box.left > 0.3
    assert box.upper > 0.4


def test_lower_share_never_gives_a_smaller_box():
    heat = torch.rand(7, 7, generator=torch.Generator().manual_seed(0)) ** 4
    heat[3, 3] = 2
    areas = [box_around(heat, share, margin=0).area for share in (0.7, 0.5, 0.3, 0.1)]
    assert areas == sorted(areas)


@pytest.mark.parametrize("heat", [torch.zeros(7, 7), torch.ones(7, 7)])
def test_no_heat_and_heat_everywhere_are_the_whole_photo(heat):
    assert box_around(heat, share=0.3, margin=0.1) == WHOLE


# From the map back to the photo


@pytest.mark.parametrize("mode", ["squash", "center", "border"])
@pytest.mark.parametrize("share", [1.0, 0.8])
@pytest.mark.parametrize("size", [(640, 160), (150, 600), (301, 299)])
def test_what_is_cut_out_is_what_the_network_was_shown_there(mode, share, size):
    data_config = TINY_DATA_CONFIG | {"crop_mode": mode, "crop_pct": share}
    width, height = size
    picture = Image.new("RGB", size, "black")
    # A sixth of the short side, a little off the middle, where every mode shows it.
    side = min(size) // 6
    patch = (width // 2 + side // 2, height // 2 - side, width // 2 + 3 * side // 2, height // 2)
    picture.paste("white", patch)
    shown = to_pixels(data_config)(picture)[0] > 128
    rows, columns = shown.any(dim=1).nonzero(), shown.any(dim=0).nonzero()
    ends = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    part = crop(picture, Box(*(int(end) / 64 for end in ends)), data_config)
    # Up to the rounding of the network's 64 pixels.
    slack = 2 * max(size) / 64 / share
    assert part.width == pytest.approx(side, abs=slack)
    assert part.height == pytest.approx(side, abs=slack)
    assert (part.convert("L").histogram()[255]) > 0.6 * side * side


def test_squashed_photo_is_shown_as_a_whole():
    assert seen_part((640, 160), TINY_DATA_CONFIG) == WHOLE
    assert crop(Image.new("RGB", (640, 160)), WHOLE, TINY_DATA_CONFIG).size == (640, 160)


@pytest.mark.parametrize("size", [(1, 1), (3, 1), (1, 900)])
@pytest.mark.parametrize("box", [Box(0.9, 0.9, 1, 1), Box(0, 0, 0.01, 0.01)])
def test_at_least_a_pixel_is_cut_out(size, box):
    assert min(crop(Image.new("RGB", size), box, TINY_DATA_CONFIG).size) >= 1


# Networks


@every_heat
@pytest.mark.parametrize(
    "name", ["test_efficientnet", "test_resnet", "test_convnext", "test_byobnet", "marque_cnn"]
)
def test_every_convolutional_network_has_heat(name, heat):
    model = timm.create_model(name, num_classes=3).eval()
    with torch.inference_mode():
        logits, _, maps = look_closely(model, torch.rand(2, 3, 96, 96))
        found = heat_maps(model, maps, logits, heat)
    assert found.shape[0] == 2
    assert found.amin(dim=(1, 2)).tolist() == [0, 0]
    assert found.amax(dim=(1, 2)).tolist() == pytest.approx([1, 1])


def test_evidence_is_the_class_activation_map(tiny_recognizer):
    model = tiny_recognizer.model
    pixels = tiny_recognizer.pixels(draw_car(1, size=(320, 240)))[None]
    with torch.inference_mode():
        logits, _, maps = look_closely(model, normalize(pixels, TINY_DATA_CONFIG))
        found = heat_maps(model, maps, logits, "evidence")[0]
        weight = model.get_classifier().weight[logits[0].argmax()]
        expected = torch.einsum("c,chw->hw", weight, maps[0])
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    assert torch.allclose(found, expected, atol=1e-3)


@every_heat
def test_networks_without_maps_look_once(heat):
    model = timm.create_model("test_vit", num_classes=3, img_size=64).eval()
    picture = draw_car(1)
    logits, _, boxes = replace(ALWAYS, heat=heat).look(model, [picture], TINY_DATA_CONFIG)
    assert boxes == [None]
    with torch.inference_mode():
        inputs = normalize(to_pixels(TINY_DATA_CONFIG)(picture)[None], TINY_DATA_CONFIG)
        assert torch.allclose(logits, model(inputs), atol=1e-5)


# Looking twice


def test_box_as_large_as_the_photo_is_not_looked_at_again(tiny_recognizer):
    pictures = [draw_car(seed) for seed in range(2)]
    passes: list[int] = []
    handle = tiny_recognizer.model.register_forward_hook(lambda *_: passes.append(1))
    try:
        logits, features, boxes = NEVER.look(
            tiny_recognizer.model, pictures, tiny_recognizer.data_config
        )
    finally:
        handle.remove()
    expected = tiny_recognizer.look(torch.stack([tiny_recognizer.pixels(p) for p in pictures]))
    assert boxes == [None, None]
    assert not passes
    assert torch.equal(logits, expected[0])
    assert torch.equal(features, expected[1])


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_second_look_is_at_the_part_of_the_photo_as_taken(tiny_recognizer, combination):
    look = replace(ALWAYS, combination=combination)
    picture = draw_car(1, size=(800, 300))
    model, data_config = tiny_recognizer.model, tiny_recognizer.data_config
    logits, features, (box,) = look.look(model, [picture], data_config)
    pixels = [tiny_recognizer.pixels(p) for p in (picture, crop(picture, box, data_config))]
    first, second = tiny_recognizer.logits(torch.stack(pixels)).split(1)
    assert torch.allclose(logits, combined(first, second, combination), atol=1e-4)
    assert torch.allclose(features, tiny_recognizer.look(pixels[0][None])[1], atol=1e-4)


def test_photo_among_others_is_answered_as_alone(tiny_recognizer):
    pictures = [draw_car(seed, size=(200 + 50 * seed, 160)) for seed in range(3)]
    look = replace(ALWAYS, largest=0.6)
    model, data_config = tiny_recognizer.model, tiny_recognizer.data_config
    logits, _, boxes = look.look(model, pictures, data_config)
    for number, picture in enumerate(pictures):
        alone, _, (box,) = look.look(model, [picture], data_config)
        assert box == boxes[number]
        assert torch.allclose(alone[0], logits[number], atol=1e-4)


def test_threads_share_a_network(tiny_recognizer):
    pictures = [draw_car(seed, size=(320, 240)) for seed in range(8)]

    def answer(picture: Image.Image) -> torch.Tensor:
        return ALWAYS.look(tiny_recognizer.model, [picture], tiny_recognizer.data_config)[0]

    in_turn = [answer(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(answer, pictures))
    assert all(torch.equal(one, other) for one, other in zip(in_turn, at_once, strict=True))


@pytest.mark.parametrize(("across", "down"), [(0.0, 0.5), (1.0, 0.9)])
def test_far_car_is_found_by_the_bundled_checkpoint(bundled, across, down):
    frame = distant(draw_car(3, size=(320, 240)), 0.35, across, down, enlarged=True)
    _, _, (box,) = ALWAYS.look(bundled.model, [frame], bundled.data_config)
    # Where `distant` put the photo.
    centre = (across * 0.65 + 0.175, down * 0.65 + 0.175)
    assert box.area < 0.5
    assert box.left < centre[0] < box.right
    assert box.upper < centre[1] < box.lower


# Two answers become one


def test_second_answer_counts_twice_when_leaning():
    first, second = torch.tensor([[3.0, 0]]), torch.tensor([[0, 3.0]])
    assert combined(first, second, "leaning").tolist() == [[1, 2]]


def test_mean_of_logits_is_the_mean_of_log_probabilities():
    first, second = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    both = (first.log_softmax(dim=1) + second.log_softmax(dim=1)) / 2
    assert torch.allclose(combined(first, second, "mean").softmax(1), both.softmax(1))


def test_surer_answer_counts_photo_by_photo():
    first, second = torch.tensor([[5.0, 0], [1, 0]]), torch.tensor([[0, 1.0], [0, 5]])
    assert combined(first, second, "surer").tolist() == [[5, 0], [0, 5]]
    assert combined(first, second, "second") is second
