"""Marque's web page.

MARQUE_MODEL chooses the checkpoint that answers: a folder, or org/name[@revision]. Without it, the
one answers that model.txt beside this file names, as `python -m trainer.deploy` writes it, and
without that the bundled one. MARQUE_CATALOGUE confines the answers to makes, models, years, a
market or labels. MARQUE_FEEDBACK says where to keep what visitors say of answers
(`space.web.feedback`), MARQUE_SPECS names a table of specifications (`space.web.facts`).
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from space.errors import MarqueError
from space.recognizer import CarRecognizer
from space.server import prepare, serve


def main() -> None:
    """Loads the recognizer, builds the page, serves it until it is stopped."""
    try:
        prepare()
        with ThreadPoolExecutor(1) as beside:
            opened = beside.submit(_recognizer)
            from space.page import build_page  # imports gradio, which reads the environment then
            from space.web.facts import Facts
            from space.web.feedback import Feedback

            recognizer = opened.result()
        kept, table = os.environ.get("MARQUE_FEEDBACK"), os.environ.get("MARQUE_SPECS")
        serve(
            build_page(
                recognizer,
                Feedback(kept) if kept else None,
                Facts(table) if table else None,
            )
        )
    except MarqueError as error:
        sys.exit(f"marque: {error}")


def _recognizer() -> CarRecognizer:
    """The recognizer, with everything open that it opens at its first photo."""
    recognizer = CarRecognizer.from_pretrained(
        os.environ.get("MARQUE_MODEL") or _deployed(),
        catalogue=os.environ.get("MARQUE_CATALOGUE") or None,
    )
    recognizer.predict(Image.new("RGB", (64, 64)))
    return recognizer


def _deployed() -> str | None:
    """The model that this copy of the page was deployed with."""
    path = Path(__file__).with_name("model.txt")
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


if __name__ == "__main__":
    main()
