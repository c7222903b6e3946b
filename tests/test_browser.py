"""The page as a person meets it, in a headless Chromium."""

import os
import shutil
from pathlib import Path

import pytest
import timm
import torch
from conftest import SIGHTS, TINY_DATA_CONFIG, draw_car
from playwright.sync_api import expect, sync_playwright

from space.gate import OTHER
from space.page import build_page, launch
from space.recognizer import CarRecognizer
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

    def start(recognizer) -> str:
        pages.append(build_page(recognizer))
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


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["desktop", "phone"])
def visit(browser, request):
    """Opens a page at a width; it must not write an error to the console."""
    width, height = request.param
    page = browser.new_page(viewport={"width": width, "height": height})
    errors = []
    page.on("console", lambda message: message.type == "error" and errors.append(message.text))

    def open_page(url: str):
        page.goto(url)
        expect(page.get_by_text("Which car is that?")).to_be_visible(timeout=30_000)
        return page

    yield open_page
    page.close()
    assert errors == []


@pytest.fixture
def page(visit, url):
    return visit(url)


@pytest.fixture
def photo(tmp_path) -> str:
    path = tmp_path / "car.jpg"
    draw_car(5, size=(320, 240)).save(path)
    return str(path)


def cell(page, name: str):
    return page.locator(".marque-car div", has=page.get_by_text(name, exact=True)).locator("dd")


def verdict(page):
    return page.locator(".marque-verdict")


def assert_fits(page):
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_photo_gets_a_verdict_with_its_reason(page, photo, bundled):
    page.set_input_files("input[type=file]", photo)
    answer = bundled.predict(photo)
    expect(verdict(page).locator("b")).to_have_text(answer.verdict.capitalize(), timeout=30_000)
    expect(verdict(page)).to_contain_text(answer.reason[1:])
    assert_fits(page)


def test_an_uncalibrated_answer_is_make_model_and_year(visit, serve, tiny_checkpoint, photo):
    recognizer = CarRecognizer.from_pretrained(tiny_checkpoint)
    page = visit(serve(recognizer))
    page.set_input_files("input[type=file]", photo)
    best = recognizer.predict(photo).predictions[0]
    expect(cell(page, "Make")).to_have_text(best.make, timeout=30_000)
    expect(cell(page, "Model")).to_have_text(best.model or "not known")
    expect(cell(page, "Year")).to_have_text(str(best.year or "not known"))
    expect(verdict(page)).to_contain_text("uncalibrated")
    assert_fits(page)


def test_a_tagged_car_and_a_rejected_photo_look_different(
    visit, serve, calibrated_recognizer, photo, tmp_path
):
    page = visit(serve(calibrated_recognizer))
    page.set_input_files("input[type=file]", photo)
    best = calibrated_recognizer.predict(photo).predictions[0]
    expect(verdict(page).locator("b")).to_have_text("Auto-tag", timeout=30_000)
    expect(cell(page, "Make")).to_have_text(best.make)
    expect(page.get_by_text("Most likely makes")).to_be_visible()
    page.get_by_role("button", name="Remove Image").click()
    expect(verdict(page)).to_have_count(0)
    SIGHTS[OTHER].save(tmp_path / "white.png")
    page.set_input_files("input[type=file]", str(tmp_path / "white.png"))
    expect(verdict(page).locator("b")).to_have_text("Rejected", timeout=30_000)
    expect(verdict(page)).to_contain_text("This does not look like a car.")
    nearest = calibrated_recognizer.predict(tmp_path / "white.png").predictions[0]
    expect(page.get_by_text(f"Nearest known class: {nearest.label}")).to_be_visible()
    expect(page.locator(".marque-car")).to_have_count(0)
    expect(page.get_by_text("Most likely makes")).not_to_be_visible()
    assert_fits(page)


def test_explain_shows_the_heat_map_of_any_of_the_five(page, photo):
    page.set_input_files("input[type=file]", photo)
    expect(verdict(page)).to_be_visible(timeout=30_000)
    page.get_by_role("tab", name="Explain").click()
    overlay = page.get_by_role("tabpanel").locator("img")
    expect(overlay).to_be_visible()
    answers = page.get_by_role("radio")
    expect(answers).to_have_count(5)
    expect(answers.first).to_be_checked()
    before = overlay.get_attribute("src")
    answers.nth(3).check()
    expect(overlay).not_to_have_attribute("src", before, timeout=30_000)


def test_the_page_says_which_checkpoint_answers(page, bundled):
    expect(page.get_by_text(bundled.revision)).to_be_visible()


def test_removing_the_photo_clears_the_answer(page, photo):
    page.set_input_files("input[type=file]", photo)
    expect(verdict(page)).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Remove Image").click()
    expect(verdict(page)).to_have_count(0)
    expect(page.locator(".marque-car")).to_have_count(0)


def test_a_file_that_is_no_photo_says_so(page, tmp_path):
    path = tmp_path / "notes.jpg"
    path.write_text("not a picture")
    page.set_input_files("input[type=file]", str(path))
    expect(page.get_by_text("notes.jpg is not a picture")).to_be_visible(timeout=30_000)


def test_a_heic_photo_is_shown_and_named(page, tmp_path, bundled):
    path = tmp_path / "phone.heic"
    draw_car(6).save(path)
    page.set_input_files("input[type=file]", str(path))
    best = bundled.predict(str(path)).predictions[0]
    expect(verdict(page)).to_be_visible(timeout=30_000)
    expect(page.get_by_text(best.label).first).to_be_visible()


def test_real_photos_are_named_right_in_the_browser(browser, url, real_data):
    """Photos of the test split, given as a visitor would."""
    rows = read_split(ROOT / "trainer" / "splits" / "official.csv").values()
    rows = [row for row in rows if (row["source"], row["split"]) == ("stanford_cars", TEST)]
    photos = rows[::100]
    page = browser.new_page()
    right = 0
    for row in photos:
        page.goto(url)
        page.set_input_files("input[type=file]", str(real_data / "stanford_cars" / row["path"]))
        expect(verdict(page)).to_be_visible(timeout=30_000)
        if page.locator(".marque-car").count():  # it was not rejected
            make = cell(page, "Make").inner_text().split("perhaps ")[-1]
            right += row["label"].startswith(make)
    page.close()
    assert right >= 0.7 * len(photos)


def test_a_refused_photo_says_its_reason_once_and_stays(page, tmp_path):
    broken = tmp_path / "<img src=x onerror=document.title='taken'>.jpg"
    draw_car(2).save(broken)
    broken.write_bytes(broken.read_bytes()[:900])
    page.set_input_files("input[type=file]", str(broken))
    expect(page.get_by_role("alert")).to_contain_text("is damaged", timeout=30_000)
    expect(page.get_by_text("is damaged")).to_have_count(1)
    expect(page.get_by_text("Error", exact=True)).to_have_count(0)
    expect(page.get_by_label("Remove Image")).to_be_visible()
    assert page.title() == "Marque: which car is that?"
    assert_fits(page)
    if folder := os.environ.get("SHOTS"):
        page.screenshot(path=f"{folder}/refused-{page.viewport_size['width']}.png")


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
    page.set_input_files("input[type=file]", photo)
    expect(cell(page, "Make")).to_have_text("<img", timeout=30_000)
    expect(cell(page, "Model")).to_contain_text("<b>bold</b>")
    page.get_by_role("tab", name="Explain").click()
    expect(page.get_by_role("radio").first).to_be_visible()
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
    title = page.frame_locator("iframe").get_by_text("Which car is that?")
    if shown:
        expect(title).to_be_visible(timeout=30_000)
    else:
        page.wait_for_timeout(3000)
        expect(title).to_have_count(0)
        assert page.frames[1].url.startswith("chrome-error:")
    page.close()
