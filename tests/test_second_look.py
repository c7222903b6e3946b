"""The second look: where it looks, what it cuts out of the photo, and when it stays away."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from conftest import TINY_DATA_CONFIG, calibrate, draw_car
from PIL import Image

from space.recognizer import CarRecognizer
from space.second_look import CHOSEN, DETAIL, WHOLE, Box, SecondLook, box_around, crop, seen_part
from space.transforms import to_pixels
from trainer.evaluation.robustness import distant

ALWAYS, NEVER = replace(CHOSEN, largest=1.0), replace(CHOSEN, largest=0.0)


def looking(folder, look: SecondLook | None) -> CarRecognizer:
    return CarRecognizer.from_pretrained(folder, calibrated=False, second_look=look)


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


def test_scale_of_the_heat_does_not_matter():
    heat = torch.rand(7, 7, generator=torch.Generator().manual_seed(0))
    assert box_around(5 * heat + 3, 0.6, 0.1) == pytest.approx(box_around(heat, 0.6, 0.1))


def test_lower_share_never_gives_a_smaller_box():
    heat = torch.rand(7, 7, generator=torch.Generator().manual_seed(0)) ** 4
    heat[3, 3] = 2
    areas = [box_around(heat, share, margin=0).area for share in (0.7, 0.5, 0.3, 0.1)]
    assert areas == sorted(areas)


@pytest.mark.parametrize("heat", [torch.zeros(7, 7), torch.ones(7, 7), torch.zeros(0, 0)])
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
    shown = torch.from_numpy(to_pixels(data_config)(picture))[0] > 128
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


# Looking twice


def test_box_as_large_as_the_photo_is_not_looked_at_again(tiny_checkpoint, tiny_recognizer):
    recognizer = looking(tiny_checkpoint, NEVER)
    pictures = [draw_car(seed) for seed in range(2)]
    logits, features, boxes = recognizer.look([recognizer.view(p) for p in pictures])
    expected = tiny_recognizer.sight(torch.stack([tiny_recognizer.pixels(p) for p in pictures]))
    assert boxes == [None, None]
    assert torch.equal(logits, expected.logits)
    assert torch.equal(features, expected.features)


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_second_look_is_at_the_part_of_the_photo_as_taken(tiny_checkpoint, weight):
    recognizer = looking(tiny_checkpoint, replace(ALWAYS, weight=weight))
    picture = draw_car(1, size=(800, 300))
    logits, features, (box,) = recognizer.look([recognizer.view(picture)])
    pixels = [recognizer.pixels(p) for p in (picture, crop(picture, box, TINY_DATA_CONFIG))]
    first, second = recognizer.sight(torch.stack(pixels)).logits
    assert torch.allclose(logits[0], (1 - weight) * first + weight * second, atol=1e-4)
    assert torch.allclose(features, recognizer.sight(pixels[0][None]).features, atol=1e-4)


def test_second_look_changes_the_scores(tiny_checkpoint, tiny_recognizer):
    picture = draw_car(1, size=(800, 300))
    once, twice = (r.predict(picture) for r in (tiny_recognizer, looking(tiny_checkpoint, ALWAYS)))
    assert once.predictions[0].score != twice.predictions[0].score


def test_large_photo_is_kept_small(tiny_checkpoint):
    large = draw_car(1, size=(4 * DETAIL, 3 * DETAIL))
    view = looking(tiny_checkpoint, ALWAYS).view(large)
    assert view.picture.size == (DETAIL, 3 * DETAIL // 4)
    assert large.size == (4 * DETAIL, 3 * DETAIL)
    assert looking(tiny_checkpoint, None).view(large).picture is None


def test_photo_among_others_is_answered_as_alone(tiny_checkpoint):
    recognizer = looking(tiny_checkpoint, replace(ALWAYS, largest=0.6))
    views = [recognizer.view(draw_car(seed, size=(200 + 50 * seed, 160))) for seed in range(3)]
    logits, _, boxes = recognizer.look(views)
    for number, view in enumerate(views):
        alone, _, (box,) = recognizer.look([view])
        assert (box is None) == (boxes[number] is None)
        assert torch.allclose(alone[0], logits[number], atol=1e-4)


def test_threads_share_a_network(tiny_checkpoint):
    recognizer = looking(tiny_checkpoint, ALWAYS)
    views = [recognizer.view(draw_car(seed, size=(320, 240))) for seed in range(8)]

    def answer(view) -> torch.Tensor:
        return recognizer.look([view]).logits

    in_turn = [answer(view) for view in views]
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(answer, views))
    assert all(torch.equal(one, other) for one, other in zip(in_turn, at_once, strict=True))


def test_calibration_says_whether_to_look_twice(calibrated_folder):
    assert CarRecognizer.from_pretrained(calibrated_folder).second_look is None
    calibrate(calibrated_folder, second_look=ALWAYS)
    assert CarRecognizer.from_pretrained(calibrated_folder, second_look=NEVER).second_look == ALWAYS


@pytest.mark.parametrize(("across", "down"), [(0.0, 0.5), (1.0, 0.9)])
def test_far_car_is_found_by_the_bundled_checkpoint(bundled, across, down):
    frame = distant(draw_car(3, size=(320, 240)), 0.35, across, down, enlarged=True)
    box = bundled.look([bundled.view(frame)]).boxes[0]
    # Where `distant` put the photo.
    centre = (across * 0.65 + 0.175, down * 0.65 + 0.175)
    assert box.area < 0.5
    assert box.left < centre[0] < box.right
    assert box.upper < centre[1] < box.lower
