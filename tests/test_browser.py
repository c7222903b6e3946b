"""The page as a person meets it, in a headless Chromium."""

import shutil
from pathlib import Path

import pytest
from conftest import draw_car
from playwright.sync_api import expect, sync_playwright

from space.page import build_page, launch
from trainer.splits import TEST, read_split

ROOT = Path(__file__).parent.parent

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
    "--disable-sync"
).split()

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def url(bundled):
    page = build_page(bundled)
    _, url, _ = launch(page, prevent_thread_lock=True, quiet=True)
    yield url
    page.close()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["desktop", "phone"])
def page(browser, url, request):
    """The page at a width; it must not write an error to the console."""
    width, height = request.param
    page = browser.new_page(viewport={"width": width, "height": height})
    errors = []
    page.on("console", lambda message: message.type == "error" and errors.append(message.text))
    page.goto(url)
    expect(page.get_by_text("Which car is that?")).to_be_visible(timeout=30_000)
    yield page
    page.close()
    assert errors == []


@pytest.fixture
def photo(tmp_path) -> str:
    path = tmp_path / "car.jpg"
    draw_car(5, size=(320, 240)).save(path)
    return str(path)


def cell(page, name: str):
    return page.locator(".marque-car div", has=page.get_by_text(name, exact=True)).locator("dd")


def test_a_photo_gets_make_model_and_year(page, photo, bundled):
    page.set_input_files("input[type=file]", photo)
    best = bundled.predict(photo).predictions[0]
    expect(cell(page, "Make")).to_have_text(best.make, timeout=30_000)
    expect(cell(page, "Model")).to_have_text(best.model)
    expect(cell(page, "Year")).to_have_text(str(best.year))


def test_the_page_does_not_scroll_sideways(page, photo):
    page.set_input_files("input[type=file]", photo)
    expect(cell(page, "Make")).not_to_be_empty(timeout=30_000)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_explain_shows_the_heat_map_of_any_of_the_five(page, photo):
    page.set_input_files("input[type=file]", photo)
    expect(cell(page, "Make")).not_to_be_empty(timeout=30_000)
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
    expect(cell(page, "Make")).not_to_be_empty(timeout=30_000)
    page.get_by_role("button", name="Remove Image").click()
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
    expect(cell(page, "Make")).to_have_text(best.make, timeout=30_000)


def test_real_photos_are_named_right_in_the_browser(browser, url, real_data):
    """Photos of the test split, given as a visitor would."""
    rows = read_split(ROOT / "trainer" / "splits" / "stanford_and_algerian.csv").values()
    photos = [row for row in rows if row["split"] == TEST][::100]
    page = browser.new_page()
    right = 0
    for row in photos:
        page.goto(url)
        page.set_input_files("input[type=file]", str(real_data / "stanford_cars" / row["path"]))
        expect(cell(page, "Make")).not_to_be_empty(timeout=30_000)
        right += row["label"].startswith(cell(page, "Make").inner_text())
    page.close()
    assert right >= 0.7 * len(photos)
