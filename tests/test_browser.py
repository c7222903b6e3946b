"""The page as a person meets it, in a headless Chromium."""

import os
import shutil
from pathlib import Path

import pytest
import timm
import torch
from axe_playwright_python.sync_playwright import Axe
from conftest import SIGHTS, TINY_DATA_CONFIG, FoundAt, draw_car
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from test_checkpoints import change_config

from space.boxes import Box
from space.gate import OTHER
from space.page import build_page, launch
from space.recognizer import CarRecognizer
from space.web.facts import Facts
from space.web.feedback import Feedback
from trainer.data.splits import TEST, read_split
from trainer.training.checkpoints import save_checkpoint

ROOT = Path(__file__).parent.parent

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
    "--disable-sync --disable-features=LocalNetworkAccessChecks"
).split()

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


# The bundled checkpoint may be calibrated, and the toy cars drawn here look like no car to it. What
# is tested with them must hold for whatever verdict it gives.


@pytest.fixture(scope="module")
def serve():
    """Serves a page with a recognizer until the tests of this module are done."""
    pages = []

    def start(recognizer, *others) -> str:
        pages.append(build_page(recognizer, *others))
        return launch(pages[-1], prevent_thread_lock=True, quiet=True)[1]

    yield start
    for page in pages:
        page.close()


@pytest.fixture(scope="module")
def url(serve, bundled):
    return serve(bundled)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


PHONE = {"width": 390, "height": 844}
SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": PHONE}


@pytest.fixture
def visit(browser):
    """Opens a page as a visitor; nothing may be wrong in the console, and nothing overflow."""
    contexts, errors = [], []

    def open_page(url: str, size: str = "phone", **options):
        context = browser.new_context(viewport=SIZES[size], **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: message.type == "error" and errors.append(message.text))
        page.goto(url)
        expect(page.locator(".mq-title h1")).to_be_visible(timeout=30_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture(params=list(SIZES))
def page(visit, url, request):
    return visit(url, request.param)


@pytest.fixture
def photo(tmp_path) -> str:
    path = tmp_path / "car.jpg"
    draw_car(5, size=(320, 240)).save(path)
    return str(path)


def give(page, photo) -> None:
    page.set_input_files("input[type=file] >> nth=0", str(photo))
    expect(page.locator(".mq-answer")).to_be_visible(timeout=30_000)


def title(page):
    return page.locator(".mq-answer h2")


def assert_fits(page):
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def picture(page, name: str) -> None:
    """A picture for whoever looks at the page: SHOTS=folder scripts/test tests/test_browser.py."""
    if folder := os.environ.get("SHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def assert_accessible(page) -> None:
    """No finding of axe-core that is serious, but for those in gradio's own parts.

    Measured when nothing is faded any more: gradio dims what an event is about to replace.
    """
    page.wait_for_function(
        "() => !document.querySelector('.pending')"
        " && document.getAnimations().every((one) => one.playState !== 'running')"
    )
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    ours = [
        (one["id"], node["html"][:200])
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
        if "mq-" in node["html"] or any(".mq-" in str(place) for place in node["target"])
    ]
    assert ours == []


@pytest.fixture
def two_cars(calibrated_checkpoint, tmp_path, monkeypatch):
    """A recognizer that finds two cars in every photo, at known places."""
    folder = shutil.copytree(calibrated_checkpoint, tmp_path / "two-cars")
    change_config(folder, car_crop={"margin": 0.0})
    boxes = Box(0.5, 0.25, 1.0, 1.0), Box(0.0, 0.25, 0.25, 0.75)
    monkeypatch.setattr("space.preprocessing.Detector", lambda: FoundAt(*boxes))
    return CarRecognizer.from_pretrained(folder)


def test_the_first_screen_is_a_place_for_a_photo_and_nothing_else(page):
    expect(page.locator(".mq-answer")).to_have_count(0)
    expect(page.get_by_text("Why this answer")).not_to_be_visible()
    expect(page.get_by_text("deleted from the server within two hours")).to_be_visible()
    assert_fits(page)
    assert_accessible(page)
    picture(page, f"start-{page.viewport_size['width']}")


def test_a_photo_is_answered_in_one_sentence(page, photo, bundled):
    give(page, photo)
    best = bundled.predict(photo).predictions[0]
    if page.locator(".mq-answer.rejected").count() == 0:  # whatever it makes of a drawn car
        expect(title(page)).to_contain_text(best.make)
    expect(page.locator(".mq-figure img")).to_be_visible()
    assert_fits(page)


def test_a_sure_answer_and_a_rejected_photo_look_different(
    visit, serve, calibrated_recognizer, photo, tmp_path
):
    page = visit(serve(calibrated_recognizer))
    give(page, photo)
    best = calibrated_recognizer.predict(photo).predictions[0]
    expect(page.locator(".mq-verdict b")).to_have_text("Sure")
    expect(title(page)).to_contain_text(best.make)
    expect(page.locator(".mq-bars li")).to_have_count(4)
    expect(page.get_by_text("Why this answer")).to_be_visible()
    assert_accessible(page)
    picture(page, "sure")
    page.get_by_role("button", name="Another photo").click()
    expect(page.locator(".mq-answer")).to_have_count(0)
    SIGHTS[OTHER].save(tmp_path / "white.png")
    give(page, tmp_path / "white.png")
    expect(title(page)).to_have_text("This is not a car")
    expect(page.get_by_text("Try a photo in which the whole car")).to_be_visible()
    expect(page.locator(".mq-bars")).to_have_count(0)
    expect(page.get_by_text("Why this answer")).not_to_be_visible()
    assert_fits(page)
    assert_accessible(page)
    picture(page, "rejected")


def test_every_car_can_be_tapped_and_a_frame_be_drawn(visit, serve, two_cars, photo):
    page = visit(serve(two_cars))
    give(page, photo)
    expect(page.get_by_text("2 cars found")).to_be_visible()
    first, second = page.locator("[data-car]").all()
    expect(first).to_have_attribute("aria-pressed", "true")
    second.focus()
    page.keyboard.press("Enter")
    expect(page.locator('[data-car="1"]')).to_have_attribute("aria-pressed", "true")
    expected = two_cars.predict(photo, box=Box(0.0, 0.25, 0.25, 0.75)).predictions[0]
    expect(title(page)).to_contain_text(expected.make)
    page.get_by_role("button", name="Draw a frame").click()
    stage = page.locator(".mq-stage").first.bounding_box()
    corner = stage["x"] + 0.25 * stage["width"], stage["y"] + 0.25 * stage["height"]
    page.mouse.move(*corner)
    page.mouse.down()
    page.mouse.move(corner[0] + 0.5 * stage["width"], corner[1] + 0.5 * stage["height"], steps=4)
    page.mouse.up()
    drawn = page.locator(".mq-frame.drawn")
    expect(drawn).to_be_visible()
    left = float(drawn.get_attribute("style").split("left:")[1].split("%")[0])
    assert abs(left - 25) < 3
    expect(page.locator('[data-car][aria-pressed="true"]')).to_have_count(0)
    picture(page, "drawn")
    # The same without a pointer.
    page.get_by_role("button", name="Draw a frame").focus()
    for key in ("Enter", "ArrowRight", "ArrowRight", "Shift+ArrowDown", "Enter"):
        page.keyboard.press(key)
    expect(drawn).to_have_attribute("style", "left:35.00%;top:25.00%;width:50.00%;height:55.00%")


def test_why_shows_a_heat_map_that_can_be_moved_and_told_apart(visit, serve, two_cars, photo):
    page = visit(serve(two_cars))
    give(page, photo)
    page.get_by_role("button", name="Why this answer").click()
    layer = page.locator(".mq-layer")
    expect(layer).to_be_visible(timeout=20_000)
    expect(page.get_by_text("Grad-CAM")).to_be_visible()
    before = layer.get_attribute("src")
    page.get_by_label("Opacity").fill("30")
    page.get_by_label("Compare with the photo").fill("50")
    assert layer.evaluate("part => getComputedStyle(part).opacity") == "0.3"
    assert "50%" in layer.evaluate("part => getComputedStyle(part).clipPath")
    with page.expect_download() as saved:
        page.locator('[data-do="save-heat"]').click()
    with Image.open(saved.value.path()) as found:
        assert found.size == (320, 240)
    page.get_by_label("and not for").click()
    page.get_by_role("option").nth(2).click()
    expect(page.get_by_text("Finer-CAM")).to_be_visible(timeout=20_000)
    assert layer.get_attribute("src") != before
    page.locator('[data-car="1"]').click()  # another car: the map follows
    expect(page.locator('[data-car="1"]')).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_text("It shows where it looked")).to_be_visible(timeout=20_000)
    assert_fits(page)
    assert_accessible(page)
    picture(page, "why")


def test_what_the_seller_says_is_checked(visit, serve, calibrated_recognizer, photo):
    page = visit(serve(calibrated_recognizer))
    give(page, photo)
    page.get_by_role("button", name="Check what the seller says").click()
    page.get_by_label("The seller says").fill("Lada Niva")
    page.get_by_role("button", name="Check", exact=True).click()
    expect(page.locator(".mq-check")).to_contain_text("Cannot tell")
    expect(page.locator(".mq-check")).to_contain_text("No known car is called “Lada Niva”")


def test_the_answer_is_confined_to_a_catalogue_and_says_so(
    visit, serve, calibrated_recognizer, photo
):
    page = visit(serve(calibrated_recognizer))
    give(page, photo)
    best = calibrated_recognizer.predict(photo).predictions[0].make
    other = next(car.make for car in calibrated_recognizer.cars if car.make != best)
    page.get_by_role("button", name="Only some cars").click()
    field = page.get_by_label("Makes, models, years or markets")
    field.fill(other)
    field.press("Enter")
    expect(page.get_by_text(f"Chosen among {other} only")).to_be_visible(timeout=20_000)
    expect(title(page)).to_contain_text(other)


def test_answers_are_copied_saved_and_remembered_in_this_browser(
    visit, serve, calibrated_recognizer, photo
):
    url = serve(calibrated_recognizer)
    page = visit(url, permissions=["clipboard-read", "clipboard-write"])
    give(page, photo)
    sentence = page.locator(".mq-answer").get_attribute("data-sentence")
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == sentence
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save picture").click()
    with Image.open(saved.value.path()) as found:
        assert found.width == 320
        assert found.height > 240  # the answer stands beneath
    page.reload()
    page.locator(".mq-history summary").click()
    expect(page.locator(".mq-history li")).to_have_count(1)
    expect(page.locator(".mq-history li")).to_contain_text(sentence)
    elsewhere = visit(url)  # another visitor sees nothing of it
    elsewhere.locator(".mq-history summary").click()
    expect(elsewhere.locator(".mq-history li")).to_have_count(0)
    page.get_by_role("button", name="Forget them").click()
    expect(page.locator(".mq-history li")).to_have_count(0)
    page.reload()
    page.locator(".mq-history summary").click()
    expect(page.get_by_text("None yet.")).to_be_visible()


def test_facts_and_feedback_are_there_where_the_operator_wants_them(
    serve, visit, calibrated_recognizer, photo, tmp_path
):
    best = calibrated_recognizer.predict(photo).predictions[0]
    table = f"make,model,year,MSRP\n{best.make},{best.model or 'x'},{best.year or 2012},32500\n"
    (tmp_path / "specs.csv").write_text(table)
    feedback, facts = Feedback(str(tmp_path / "kept")), Facts(str(tmp_path / "specs.csv"))
    page = visit(serve(calibrated_recognizer, feedback, facts))
    give(page, photo)
    page.get_by_role("button", name="Facts").click()
    expect(page.locator(".mq-facts")).to_contain_text("specs.csv" if best.model else "no such car")
    page.get_by_role("button", name="Is it right?").click()
    page.get_by_role("button", name="It is right").click()
    expect(page.get_by_text("Thank you, kept.")).to_be_visible()
    assert not (tmp_path / "kept" / "photos").exists()  # nobody agreed to that
    page.get_by_label("Keep my photo too").check()
    page.get_by_label("It is a …").fill("BMW X5 2012")
    page.get_by_label("It is a …").press("Enter")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("Thank you, kept.")).to_be_visible()
    page.wait_for_timeout(500)
    assert len(list((tmp_path / "kept" / "photos" / "BMW X5 2012").glob("*.jpg"))) == 1
    picture(page, "facts-and-feedback")


def test_without_an_operator_who_asks_there_are_neither(visit, url, photo):
    page = visit(url)
    give(page, photo)
    expect(page.get_by_text("Facts", exact=True)).not_to_be_visible()
    expect(page.get_by_text("Is it right?")).not_to_be_visible()


@pytest.mark.parametrize("size", list(SIZES))
def test_many_photos_become_a_table_that_is_corrected(
    visit, serve, calibrated_recognizer, tmp_path, size
):
    page = visit(serve(calibrated_recognizer), size)
    paths = []
    for number in range(9):
        paths.append(str(tmp_path / f"{number}.png"))
        draw_car(number).save(paths[-1])
    SIGHTS[OTHER].save(tmp_path / "white.png")
    (tmp_path / "notes.jpg").write_text("no picture")
    paths += [str(tmp_path / "white.png"), str(tmp_path / "notes.jpg")]
    page.get_by_role("tab", name="Many photos").click()
    expect(page.get_by_text("Up to 60 photos, or a zip of up to 200")).to_be_visible()
    page.locator("input[type=file][multiple]").set_input_files(paths)
    expect(page.get_by_text("notes")).to_be_visible()
    page.get_by_role("button", name="Name the cars").click()
    rows = page.locator(".mq-table tbody tr")
    expect(rows).to_have_count(11, timeout=30_000)
    expect(page.get_by_text("notes.jpg is not a picture")).to_be_visible()
    expect(page.get_by_role("button", name="All 11")).to_be_visible()
    page.get_by_label("Correction: 2.png").fill("Lada Niva")
    page.get_by_label("Correction: 3.png").click()
    page.wait_for_timeout(700)
    with page.expect_download() as saved:
        page.get_by_text("CSV", exact=True).click()
    table = Path(saved.value.path()).read_text("utf-8-sig").splitlines()
    assert len(table) == 12
    assert table[3].startswith("2.png,")
    assert table[3].endswith(",Lada Niva")
    unsure = sum(answer.verdict != "auto-tag" for answer in calibrated_recognizer.predict(paths))
    page.get_by_role("button", name=f"Please check ({unsure})").click()
    expect(page.locator(".mq-table tbody tr:visible")).to_have_count(unsure)
    assert_fits(page)
    assert_accessible(page)
    picture(page, f"many-{size}")


def test_several_photos_of_one_car_get_one_answer(visit, serve, calibrated_recognizer, tmp_path):
    page = visit(serve(calibrated_recognizer))
    paths = [str(tmp_path / f"{number}.png") for number in range(2)]
    for path in paths:
        draw_car(1).save(path)
    page.get_by_role("tab", name="Many photos").click()
    page.locator("input[type=file][multiple]").set_input_files(paths)
    page.get_by_label("of the same car").check()
    page.wait_for_timeout(500)
    page.get_by_role("button", name="Name the cars").click()
    expect(page.get_by_text("From 2 photos of one car")).to_be_visible(timeout=30_000)
    best = calibrated_recognizer.predict_car(paths).predictions[0]
    expect(title(page)).to_contain_text(best.make)


def test_the_model_tells_what_it_knows(visit, url, bundled):
    page = visit(url, "desktop")
    page.get_by_role("tab", name="Model").click()
    expect(page.get_by_text(bundled.revision)).to_be_visible()
    items = page.locator(".mq-known li")
    assert items.count() == len(bundled.labels)
    page.get_by_role("searchbox").fill("acura")
    expect(page.locator(".mq-known li:visible")).to_have_count(
        sum(car.make == "Acura" for car in bundled.cars)
    )
    assert_accessible(page)
    picture(page, "model")


@pytest.mark.parametrize(
    ("locale", "heading", "verdict", "direction"),
    [
        ("fr-FR", "Quelle est cette voiture ?", "Sûr", "ltr"),
        ("ar", "ما هذه السيارة؟", "مؤكد", "rtl"),
    ],
)
def test_the_page_speaks_the_language_of_the_browser(
    visit, serve, calibrated_recognizer, photo, locale, heading, verdict, direction
):
    page = visit(serve(calibrated_recognizer), locale=locale)
    expect(page.locator(".mq-title h1")).to_have_text(heading)
    give(page, photo)
    expect(page.locator(".mq-verdict b")).to_have_text(verdict)
    answer = page.locator(".mq-answer")
    assert answer.evaluate("part => getComputedStyle(part).direction") == direction
    assert page.evaluate("getComputedStyle(document.documentElement).direction") == direction
    assert_fits(page)
    assert_accessible(page)
    picture(page, f"language-{locale}")


def test_a_file_that_is_no_photo_says_so_once_and_the_place_stays(page, tmp_path):
    broken = tmp_path / "<img src=x onerror=document.title='taken'>.jpg"
    draw_car(2).save(broken)
    broken.write_bytes(broken.read_bytes()[:900])
    give(page, broken)
    expect(page.get_by_role("alert")).to_contain_text("is damaged")
    expect(page.get_by_text("is damaged")).to_have_count(1)
    expect(page.get_by_text("Error", exact=True)).to_have_count(0)
    assert page.title() == "Marque: which car is that?"
    assert_fits(page)
    picture(page, f"refused-{page.viewport_size['width']}")


def test_a_heic_photo_is_shown(visit, url, tmp_path):
    path = tmp_path / "phone.heic"
    draw_car(6).save(path)
    page = visit(url)
    give(page, path)
    assert page.locator(".mq-figure img").evaluate("image => image.naturalWidth") > 0


@pytest.mark.real
def test_real_photos_are_named_right_in_the_browser(visit, url, real_data):
    """Photos of the test split, given as a visitor would."""
    rows = read_split(ROOT / "trainer" / "splits" / "official.csv").values()
    rows = [row for row in rows if (row["source"], row["split"]) == ("stanford_cars", TEST)]
    photos = rows[::100]
    page = visit(url)
    right = 0
    for row in photos:
        give(page, real_data / "stanford_cars" / row["path"])
        make = row["label"].split(" ")[0]
        right += make in title(page).inner_text()
        picture(page, "real")
        page.get_by_role("button", name="Another photo").click()
        expect(page.locator(".mq-answer")).to_have_count(0)
    assert right >= 0.7 * len(photos)


def test_markup_in_a_label_is_shown_and_never_runs(visit, serve, photo, tmp_path):
    """Labels come from whoever made the checkpoint."""
    attack = "<img src=x onerror=document.title='taken'>"
    labels = [f"{attack} {number} <b>bold</b> 2012" for number in range(4)]
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", num_classes=len(labels))
    save_checkpoint(
        tmp_path / "checkpoint",
        network,
        architecture="test_efficientnet",
        model_args={},
        labels=labels,
        data_config=TINY_DATA_CONFIG,
        training={"note": "untrained, for tests"},
    )
    page = visit(serve(CarRecognizer.from_pretrained(tmp_path / "checkpoint")))
    give(page, photo)
    expect(title(page)).to_contain_text("<img")
    expect(title(page)).to_contain_text("<b>bold</b>")
    page.get_by_role("button", name="Why this answer").click()
    expect(page.locator(".mq-layer")).to_be_visible(timeout=20_000)
    page.get_by_role("tab", name="Model").click()
    assert page.locator("img[src=x]").count() == 0
    assert page.title() == "Marque: which car is that?"


@pytest.mark.parametrize(
    ("embedder", "shown"),
    [("https://huggingface.co/", True), ("https://elsewhere.example/", False)],
)
def test_the_hub_may_frame_the_page_and_others_may_not(browser, url, embedder, shown):
    page = browser.new_page()
    # No request leaves the machine: the page around the frame is answered here.
    frame = f"<iframe src='{url}' width=900 height=700></iframe>"
    page.route(f"{embedder}**", lambda route: route.fulfill(body=frame, content_type="text/html"))
    page.goto(embedder)
    title = page.frame_locator("iframe").get_by_text("Which car is that?", exact=True)
    if shown:
        expect(title).to_be_visible(timeout=30_000)
    else:
        page.wait_for_timeout(3000)
        expect(title).to_have_count(0)
        assert page.frames[1].url.startswith("chrome-error:")
    page.close()
