"""The page and the endpoints: everything that people and programs see over the web."""

import html
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from space.answers import Recognition
from space.photos import MAX_BYTES, PhotoError, load_photo
from space.recognizer import CarRecognizer

# What every browser can show; other formats are shown back as the recogniser saw them.
_BROWSER_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif"}

_HOUR = 3600  # seconds; uploaded photos are deleted when they are older than that
_CONCURRENCY = 2  # photos at once; more would only queue for the same cores

_CSS = """
.marque-car {display: grid; grid-template-columns: repeat(3, 1fr); gap: 12px; margin: 0}
.marque-car div {border: 1px solid var(--border-color-primary); border-radius: 10px;
  background: var(--background-fill-secondary); padding: 12px 14px; min-width: 0}
.marque-car dt {font-size: 12px; letter-spacing: .06em; text-transform: uppercase;
  color: var(--body-text-color-subdued)}
.marque-car dd {margin: 2px 0 0; font-size: 22px; font-weight: 650; line-height: 1.25;
  color: var(--body-text-color); overflow-wrap: anywhere}
.marque-hint {color: var(--body-text-color-subdued); margin: 8px 2px 0}
@media (max-width: 640px) {.marque-car {grid-template-columns: 1fr; gap: 8px}
  .marque-car div {display: flex; justify-content: space-between; align-items: baseline;
    gap: 16px; padding: 10px 14px}
  .marque-car dd {font-size: 18px; text-align: right}}
"""

_INTRO = """# Marque
Which car is that? Give it a photo and it names the make, the model and the year, says how sure \
it is, and shows what it looked at."""

_HINT = '<p class="marque-hint">The answer appears here as soon as there is a photo.</p>'


def build_page(recognizer: CarRecognizer) -> gr.Blocks:
    """The page, and the endpoints `/predict` and `/explain`, answering with one recogniser."""

    def predict(image: str, top_k: int = 5) -> dict[str, Any]:
        """Names the car in a photo. Returns JSON: `predictions` (label, make, model, year,
        confidence; best first), `makes` (make, confidence), `model` (source, revision) and
        `elapsed_ms`."""
        started = time.perf_counter()
        picture = _open(image)
        if top_k is None or top_k != int(top_k) or top_k < 1:
            raise _refusal(f"top_k is {top_k}; it must be a whole number of at least 1")
        recognition = recognizer.predict(picture, int(top_k))
        return {
            "predictions": [asdict(prediction) for prediction in recognition.predictions],
            "makes": [asdict(make) for make in recognition.makes],
            "model": {"source": recognizer.source, "revision": recognizer.revision},
            "elapsed_ms": round((time.perf_counter() - started) * 1000, 1),
        }

    def explain(image: str, label: str | None = None) -> Image.Image:
        """The photo with a heat map of what spoke for a class: the class `label`, exactly as
        `/predict` writes it, or the most likely class when it is left out."""
        try:
            return recognizer.explain(_open(image), label or None)
        except ValueError as error:
            raise _refusal(str(error)) from None

    def show(image: str | None):
        """All that changes on the page when the photo does."""
        if image is None:
            return gr.skip(), _HINT, None, None, gr.Radio(choices=[], value=None), None
        picture = _open(image)
        recognition = recognizer.predict(picture)
        labels = [prediction.label for prediction in recognition.predictions]
        seen = gr.skip() if Path(image).suffix.lower() in _BROWSER_SUFFIXES else picture
        return (
            seen,
            _headline(recognition),
            {prediction.label: prediction.confidence for prediction in recognition.predictions},
            {make.make: make.confidence for make in recognition.makes},
            gr.Radio(choices=labels, value=labels[0]),
            recognizer.explain(picture, labels[0]),
        )

    def explain_chosen(image: str | None, label: str | None):
        return explain(image, label) if image and label else None

    with gr.Blocks(
        title="Marque: which car is that?",
        delete_cache=(_HOUR, _HOUR),
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
                        cars = gr.Label(label="Five best answers", show_heading=False)
                        makes = gr.Label(
                            label="Make, whatever the model", num_top_classes=3, show_heading=False
                        )
                    with gr.Tab("Explain"):
                        chosen = gr.Radio(
                            label="What spoke for",
                            info="Red is where the network looked for this answer (Grad-CAM).",
                            choices=[],
                        )
                        overlay = gr.Image(
                            label="Heat map",
                            interactive=False,
                            buttons=["download", "fullscreen"],
                        )
        gr.Markdown(_about(recognizer))

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
        top_k = gr.Number(5, label="top_k", precision=0, visible=False)
        label = gr.Textbox(None, label="label", visible=False)
        answer = gr.JSON(label="answer", visible=False)
        overlay_file = gr.Image(label="overlay", format="png", visible=False)
        image = _photo_input(label="image", visible=False)
        trigger = gr.Button(visible=False)
        trigger.click(predict, [image, top_k], answer, api_name="predict", **shared)
        trigger.click(explain, [image, label], overlay_file, api_name="explain", **shared)
    return page


def launch(page: gr.Blocks, **options: Any):
    """Serves the page; `options` go to gradio's `launch`.

    GRADIO_SERVER_NAME and GRADIO_SERVER_PORT say where, as in every gradio app.
    """
    return page.queue(max_size=64).launch(
        # System fonts: nothing is fetched from a font server, and the page is there at once.
        theme=gr.themes.Soft(
            primary_hue="blue",
            font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
        ),
        css=_CSS,
        max_file_size=MAX_BYTES,
        footer_links=["api", "settings"],
        **options,
    )


def _photo_input(**options: Any) -> gr.Image:
    """An image component that hands the uploaded file on untouched.

    By itself gradio would decode it first, with other errors and limits than `load_photo`.
    """
    component = gr.Image(type="filepath", image_mode=None, **options)
    decode = component.preprocess

    def preprocess(payload):
        return payload.path if payload and payload.path else decode(payload)

    component.preprocess = preprocess  # type: ignore[method-assign]
    return component


def _open(path: str | None) -> Image.Image:
    if not path:
        raise _refusal("there is no photo; send one as `image`")
    try:
        return load_photo(path, name=Path(path).name)
    except PhotoError as error:
        raise _refusal(str(error)) from None


def _refusal(message: str) -> gr.Error:
    return gr.Error(message, title="That did not work", print_exception=False)


def _headline(recognition: Recognition) -> str:
    best = recognition.predictions[0]
    parts = {
        "Make": best.make,
        "Model": best.model or "not known",
        "Year": "not known" if best.year is None else str(best.year),
    }
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{html.escape(value)}</dd></div>" for name, value in parts.items()
    )
    return (
        f'<dl class="marque-car">{cells}</dl>'
        f'<p class="marque-hint">Confidence {best.confidence:.0%}</p>'
    )


def _about(recognizer: CarRecognizer) -> str:
    return (
        f"Answered by checkpoint `{recognizer.source}` at revision `{recognizer.revision}`, which "
        f"knows {len(recognizer.labels)} classes. It names the nearest of them even when the photo "
        "shows something else. Photos are deleted from the server within two hours."
    )
