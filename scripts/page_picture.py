#!/usr/bin/env python
"""Takes the picture of the page in the README: `python scripts/page_picture.py`.

The photo is a car drawn by code, of no make, so that everyone may pass the picture on. What the
page says of it is what the bundled checkpoint says. Needs requirements-dev.txt and Chromium.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.drawn_car import draw_car  # noqa: E402
from space.page import build_page, launch  # noqa: E402
from space.recognizer import CarRecognizer  # noqa: E402

PATH = ROOT / "docs" / "page.png"
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def main() -> None:
    """Serves the page, gives it the drawn car and takes the picture."""
    page = build_page(CarRecognizer.from_pretrained())
    _, url, _ = launch(page, prevent_thread_lock=True, quiet=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        photo = Path(folder, "car.jpg")
        draw_car().save(photo, quality=92)
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=_ARGUMENTS)
        shown = browser.new_page(viewport={"width": 1100, "height": 760})
        shown.goto(url)
        shown.set_input_files("input[type=file] >> nth=0", photo)
        shown.locator(".mq-answer").wait_for()
        shown.wait_for_timeout(1000)
        shown.screenshot(path=PATH)
        browser.close()
    page.close()
    with Image.open(PATH) as picture:
        picture.convert("RGB").quantize(192).save(PATH, optimize=True)


if __name__ == "__main__":
    main()
