"""The page and the endpoints: everything that people and programs see over the web."""

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image
from starlette.middleware import Middleware

from space.answers import REJECTED, Recognition
from space.arguments import CheckedBlocks, log_refusal, refusal
from space.errors import MarqueError, PhotoError
from space.guard import Guard
from space.html import CSS, about, answer_html, refused_html
from space.photos import MAX_BYTES, load_photo
from space.recognizer import CarRecognizer
from space.uploads import MAX_AGE, MAX_FOLDER_BYTES

# What every browser can show; other formats are shown back as the recognizer saw them.
_BROWSER_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif"}

_TOP_K = 5
_CONCURRENCY = 2  # photos at once; more would only queue for the same cores

_INTRO = """# Marque
Which car is that? Give it a photo and it names the make, the model and the year, says how sure \
it is, and shows what it looked at."""

_BEST = "Five best answers"
_NEAREST = "Five nearest known classes"

_HINT = '<p class="marque-hint">The answer appears here as soon as there is a photo.</p>'


def build_page(recognizer: CarRecognizer) -> gr.Blocks:
    """The page, and its endpoints, answering with one recognizer."""

    def predict(image: str, top_k: int = _TOP_K, catalogue: str | None = None) -> dict[str, Any]:
        """Names the most prominent car in a photo. Returns JSON: `verdict` (auto-tag, review or
        rejected), `reason`, `level` (how much is sure: year, model, make or null), `predictions`
        (label, make, model, year, confidence, score; best first), `makes`, `models`, `years`,
        `plausible` (labels, coverage), `box` (the car: left, upper, right and lower as shares of
        width and height, or null), `cars_found`, `catalogue`, `model` (source, revision) and
        `elapsed_ms`. `catalogue` confines the answer to makes, models, years (2005-2012), markets
        or labels, separated by commas."""
        chosen = confined(catalogue)
        return answered(image, top_k, lambda *asked: answer_of(chosen.predict(*asked)))

    def predict_all(image: str, top_k: int = _TOP_K) -> dict[str, Any]:
        """Names every car in a photo. Returns JSON: `cars`, a list with what `/predict` says of
        each, the most prominent first, `model` and `elapsed_ms`."""
        return answered(
            image,
            top_k,
            lambda *asked: {"cars": [answer_of(car) for car in recognizer.predict_all(*asked)]},
        )

    def check(image: str, text: str = "") -> dict[str, Any]:
        """Whether a photo bears out what is said of the car, such as "Golf 2012". Returns JSON:
        `result` (agrees, contradicts or cannot tell), `reason`, `confidence` (that the photo shows
        what is said, or null), `recognition` (what `/predict` answers) and `model`."""
        picture = _open(image)
        try:
            found = recognizer.check(picture, text or "")
        except ValueError as error:
            raise refusal(str(error)) from None
        return {
            **found.as_json(),
            "recognition": answer_of(found.recognition),
            "model": {"source": recognizer.source, "revision": recognizer.revision},
        }

    def confined(catalogue: str | None) -> CarRecognizer:
        if not catalogue:
            return recognizer
        try:  # as a list: a visitor names no file of this machine
            return recognizer.within([item.strip() for item in catalogue.split(",")])
        except MarqueError as error:
            raise refusal(str(error)) from None

    def answered(image: str, top_k: int, ask: Callable[..., dict[str, Any]]) -> dict[str, Any]:
        started = time.perf_counter()
        count = _count(top_k)
        picture = _open(image)
        return {
            **ask(picture, count),
            "model": {"source": recognizer.source, "revision": recognizer.revision},
            "elapsed_ms": round((time.perf_counter() - started) * 1000, 1),
        }

    def answer_of(recognition: Recognition) -> dict[str, Any]:
        answer = recognition.as_json()
        del answer["error"]  # a photo that cannot be read is refused above
        return answer

    def explain(image: str, label: str | None = None) -> Image.Image:
        """The photo with a heat map that explains a class: the class `label`, exactly as
        `/predict` writes it, or the most likely class when it is left out."""
        try:
            return recognizer.explain(_open(image), label or None)
        except ValueError as error:
            raise refusal(str(error)) from None

    def show(image: str | None):
        """All that changes on the page when the photo does."""
        cleared = (
            gr.Label(None, label=_BEST),
            gr.Label(None, visible=True),
            gr.Radio(choices=[], value=None),
            None,
        )
        if image is None:
            return gr.skip(), _HINT, *cleared
        try:
            picture = _open(image)
        except gr.Error as error:  # said once; the photo stays
            log_refusal("the page", error)
            return gr.skip(), refused_html(error.message), *cleared
        recognition = recognizer.predict(picture)
        rejected = recognition.verdict == REJECTED
        labels = [prediction.label for prediction in recognition.predictions]
        seen = gr.skip() if Path(image).suffix.lower() in _BROWSER_SUFFIXES else picture
        return (
            seen,
            answer_html(recognition, recognizer.rule.calibration is not None),
            gr.Label(
                {prediction.label: prediction.confidence for prediction in recognition.predictions},
                label=_NEAREST if rejected else _BEST,
            ),
            gr.Label(
                {make.make: make.confidence for make in recognition.makes}, visible=not rejected
            ),
            gr.Radio(choices=labels, value=labels[0]),
            recognizer.explain(picture, labels[0]),
        )

    def explain_chosen(image: str | None, label: str | None):
        return explain(image, label) if image and label else None

    with CheckedBlocks(
        title="Marque: which car is that?",
        delete_cache=(MAX_AGE, MAX_AGE),
        analytics_enabled=False,
    ) as page:
        gr.Markdown(_INTRO)
        with gr.Row():
            with gr.Column(scale=5):
                photo = _photo_input(
                    label="Photo of a car",
                    sources=["upload", "clipboard", "webcam"],
                    height=380,
                )
            with gr.Column(scale=6):
                headline = gr.HTML(_HINT, padding=False)
                with gr.Tabs():
                    with gr.Tab("Answer"):
                        cars = gr.Label(label=_BEST, show_heading=False)
                        makes = gr.Label(
                            label="Most likely makes", num_top_classes=3, show_heading=False
                        )
                    with gr.Tab("Explain"):
                        chosen = gr.Radio(
                            label="Explain this answer",
                            info="Red is where the network looked for this answer (Grad-CAM).",
                            choices=[],
                        )
                        overlay = gr.Image(
                            label="Heat map",
                            interactive=False,
                            buttons=["download", "fullscreen"],
                        )
        gr.Markdown(about(recognizer))

        shared: dict[str, Any] = {"concurrency_limit": _CONCURRENCY, "concurrency_id": "network"}
        gr.on(
            [photo.input, photo.clear],
            show,
            photo,
            [photo, headline, cars, makes, chosen, overlay],
            api_visibility="private",
            **shared,
        )
        chosen.input(explain_chosen, [photo, chosen], overlay, api_visibility="private", **shared)

        # The endpoints of programs, on components that nobody sees.
        top_k = gr.Number(_TOP_K, label="top_k", precision=0, visible=False)
        # `_count` checks it: gradio's own rounding has no words for text or NaN.
        top_k.preprocess = lambda payload: payload  # type: ignore[method-assign]
        label = gr.Textbox(None, label="label", visible=False)
        answer = gr.JSON(label="answer", visible=False)
        overlay_file = gr.Image(label="overlay", format="png", visible=False)
        image = _photo_input(label="image", visible=False)
        trigger = gr.Button(visible=False)
        catalogue = gr.Textbox(None, label="catalogue", visible=False)
        text = gr.Textbox(None, label="text", visible=False)
        trigger.click(predict, [image, top_k, catalogue], answer, api_name="predict", **shared)
        trigger.click(check, [image, text], answer, api_name="check", **shared)
        trigger.click(predict_all, [image, top_k], answer, api_name="predict_all", **shared)
        trigger.click(explain, [image, label], overlay_file, api_name="explain", **shared)
    return page


def launch(
    page: gr.Blocks,
    hosts: Collection[str] | None = None,
    max_folder_bytes: float = MAX_FOLDER_BYTES,
    **options: Any,
):
    """Serves the page behind `space.guard`; `space.server` does so for app.py.

    Args:
        page: from `build_page`.
        hosts: by which names it may be addressed; None for any.
        max_folder_bytes: the room for uploads.
        options: go to gradio's `launch`. GRADIO_SERVER_NAME and GRADIO_SERVER_PORT say where the
            page is, as in every gradio app.
    """
    guard = Middleware(
        Guard,
        endpoints={str(fn.api_name) for fn in page.fns.values() if fn.api_visibility == "public"},
        hosts=hosts,
        max_folder_bytes=max_folder_bytes,
    )
    # Without api_open=False, /run and /api would answer past the queue and its limits.
    return page.queue(max_size=64, api_open=False).launch(
        # System fonts: nothing is fetched from a font server, and the page is there at once.
        theme=gr.themes.Soft(
            primary_hue="blue",
            font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
        ),
        css=CSS,
        max_file_size=MAX_BYTES,
        footer_links=["api", "settings"],
        app_kwargs={"middleware": [guard]},
        enable_monitoring=False,
        run_history=False,
        state_session_capacity=500,  # sessions hold what their components showed
        # A Space may ask for these: Node, and processes that hand out files, would answer past the
        # guard.
        ssr_mode=False,
        num_workers=0,
        mcp_server=False,
        **options,
    )


def _photo_input(**options: Any) -> gr.Image:
    """An image component that hands the uploaded file on untouched.

    By itself gradio would decode it first, with other errors and limits than `load_photo`.
    """
    component = gr.Image(type="filepath", image_mode=None, **options)

    def preprocess(payload):
        return payload and payload.path

    component.preprocess = preprocess  # type: ignore[method-assign]
    return component


def _open(path: str | None) -> Image.Image:
    if not path:
        raise refusal("there is no photo; send one as `image`")
    try:
        return load_photo(path, name=Path(path).name)
    except PhotoError as error:
        raise refusal(str(error)) from None


def _count(top_k: object) -> int:
    """How many answers are asked for; without a number, as many as the page shows."""
    if top_k is None:
        return _TOP_K
    whole = isinstance(top_k, int | float) and not isinstance(top_k, bool) and top_k % 1 == 0
    if not whole or top_k < 1:  # type: ignore[operator]
        told = repr(top_k) if len(repr(top_k)) <= 40 else f"{repr(top_k)[:40]}…"
        raise refusal(f"top_k is {told}; it must be a whole number of at least 1")
    return int(top_k)  # type: ignore[call-overload]
