"""The page and the endpoints: everything that people and programs see over the web."""

import html
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image
from starlette.middleware import Middleware

from space.answers import LEVELS, MAKE, MODEL, REJECTED, YEAR, Recognition
from space.arguments import CheckedBlocks, log_refusal, refusal
from space.errors import PhotoError
from space.guard import Guard
from space.photos import MAX_BYTES, load_photo
from space.recognizer import CarRecognizer
from space.uploads import MAX_AGE, MAX_FOLDER_BYTES
from space.verdict import WORTH_NAMING

# What every browser can show; other formats are shown back as the recognizer saw them.
_BROWSER_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif"}

_TOP_K = 5
_CONCURRENCY = 2  # photos at once; more would only queue for the same cores

_CSS = """
.marque-verdict {display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 10px;
  margin: 0 2px 12px; color: var(--body-text-color)}
.marque-verdict b {border-radius: 99px; padding: 2px 12px; font-size: 14px; font-weight: 650;
  color: #fff; white-space: nowrap}
.marque-verdict .auto-tag {background: #15803d}
.marque-verdict .review {background: #a16207}
.marque-verdict .rejected {background: #b91c1c}
.marque-verdict span {flex: 1 1 240px; min-width: 0; overflow-wrap: anywhere}
.marque-rejected {border: 1px solid #b91c1c; border-radius: 10px; padding: 14px 16px}
.marque-rejected .marque-verdict {margin: 0}
.marque-rejected .marque-verdict span {font-size: 18px; font-weight: 600; line-height: 1.35}
.marque-car {display: grid; grid-template-columns: repeat(3, 1fr); gap: 12px; margin: 0}
.marque-car div {border: 1px solid var(--border-color-primary); border-radius: 10px;
  background: var(--background-fill-secondary); padding: 12px 14px; min-width: 0}
.marque-car dt {font-size: 12px; letter-spacing: .06em; text-transform: uppercase;
  display: flex; justify-content: space-between; gap: 8px; color: var(--body-text-color-subdued)}
.marque-car dd {margin: 2px 0 0; font-size: 22px; font-weight: 650; line-height: 1.25;
  color: var(--body-text-color); overflow-wrap: anywhere}
.marque-car .unsure {font-size: 18px; font-weight: 400; opacity: .7}
.marque-car small {display: block; font-size: 14px; line-height: 1.4}
.marque-hint {color: var(--body-text-color); opacity: .75; margin: 8px 2px 0}
.marque-hint b {font-weight: 600}
@media (max-width: 640px) {.marque-car {grid-template-columns: 1fr; gap: 8px}
  .marque-car div {display: flex; justify-content: space-between; align-items: baseline;
    gap: 16px; padding: 10px 14px}
  .marque-car dd {font-size: 18px; text-align: right}}
"""

_INTRO = """# Marque
Which car is that? Give it a photo and it names the make, the model and the year, says how sure \
it is, and shows what it looked at."""

_BEST = "Five best answers"
_NEAREST = "Five nearest known classes"
_NAMED = 5  # plausible classes that are named; the others are counted

_HINT = '<p class="marque-hint">The answer appears here as soon as there is a photo.</p>'


def build_page(recognizer: CarRecognizer) -> gr.Blocks:
    """The page, and its endpoints, answering with one recognizer."""

    def predict(image: str, top_k: int = _TOP_K) -> dict[str, Any]:
        """Names the most prominent car in a photo. Returns JSON: `verdict` (auto-tag, review or
        rejected), `reason`, `level` (how much is sure: year, model, make or null), `predictions`
        (label, make, model, year, confidence, score; best first), `makes`, `models`, `years`,
        `plausible` (labels, coverage), `box` (the car: left, upper, right and lower as shares of
        width and height, or null), `cars_found`, `model` (source, revision) and `elapsed_ms`."""
        return answered(image, top_k, lambda *asked: answer_of(recognizer.predict(*asked)))

    def predict_all(image: str, top_k: int = _TOP_K) -> dict[str, Any]:
        """Names every car in a photo. Returns JSON: `cars`, a list with what `/predict` says of
        each, the most prominent first, `model` and `elapsed_ms`."""
        return answered(
            image,
            top_k,
            lambda *asked: {"cars": [answer_of(car) for car in recognizer.predict_all(*asked)]},
        )

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
        """The photo with a heat map of what spoke for a class: the class `label`, exactly as
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
        top_k = gr.Number(_TOP_K, label="top_k", precision=0, visible=False)
        # `_count` checks it: gradio's own rounding has no words for text or NaN.
        top_k.preprocess = lambda payload: payload  # type: ignore[method-assign]
        label = gr.Textbox(None, label="label", visible=False)
        answer = gr.JSON(label="answer", visible=False)
        overlay_file = gr.Image(label="overlay", format="png", visible=False)
        image = _photo_input(label="image", visible=False)
        trigger = gr.Button(visible=False)
        trigger.click(predict, [image, top_k], answer, api_name="predict", **shared)
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
        css=_CSS,
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


def refused_html(reason: str) -> str:
    """Why a photo has no answer, as HTML."""
    return (
        '<div class="marque-rejected" role="alert"><p class="marque-verdict">'
        f"<span>{html.escape(reason)}.</span></p></div>"  # it begins with the name of the file
    )


def answer_html(recognition: Recognition, calibrated: bool) -> str:
    """The verdict and the answer, as HTML."""
    verdict = (
        f'<p class="marque-verdict"><b class="{recognition.verdict}">'
        f"{recognition.verdict.capitalize()}</b>"
        f"<span>{html.escape(_sentence(recognition.reason))}</span></p>"
    )
    best = recognition.predictions[0]
    if recognition.verdict == REJECTED:
        # What it would be if it were one of the classes is no answer, only a help to whoever looks.
        nearest = html.escape(best.label)
        return (
            f'<div class="marque-rejected">{verdict}</div>'
            f'<p class="marque-hint">Nearest known class: {nearest}</p>'
        )
    cells = "".join(
        f"<div><dt><span>{name}</span><span>{share}</span></dt><dd{kind}>{value}</dd></div>"
        for name, share, kind, value in _cells(recognition, calibrated)
    )
    return f'{verdict}<dl class="marque-car">{cells}</dl>{_plausible(recognition)}'


def _cells(recognition: Recognition, calibrated: bool) -> Iterator[tuple[str, str, str, str]]:
    """Make, model and year: name, confidence, attributes and HTML of each.

    What a calibrated checkpoint is not sure of enough is no answer, but a guess that is named as
    such. An uncalibrated one does not know what it is sure of.
    """
    best = recognition.predictions[0]
    sure = LEVELS.index(recognition.level) if recognition.level else -1
    years = [score.year for score in recognition.years if score.confidence >= WORTH_NAMING]
    span = f": {min(years)}–{max(years)}" if len(years) > 1 else ""
    shares = {
        MAKE: [score.confidence for score in recognition.makes if score.make == best.make],
        MODEL: [
            score.confidence
            for score in recognition.models
            if (score.make, score.model) == (best.make, best.model)
        ],
        YEAR: [score.confidence for score in recognition.years if score.year == best.year],
    }
    values = {MAKE: best.make, MODEL: best.model, YEAR: str(best.year or "")}
    for rank, level in enumerate(LEVELS):
        value = html.escape(values[level])
        share = _percent(shares[level][0]) if shares[level] and value else ""
        if not value:
            yield level.capitalize(), "", ' class="unsure"', "not known"
        elif calibrated and rank > sure:
            guess = f"<small>perhaps {value}</small>"
            between = span if level == YEAR else ""
            yield level.capitalize(), share, ' class="unsure"', f"unsure{between}{guess}"
        else:
            yield level.capitalize(), share, "", value


def _percent(share: float) -> str:
    """A share as it is read; nothing is ever quite sure."""
    return "over 99%" if share >= 0.995 else f"{share:.0%}"


def _plausible(recognition: Recognition) -> str:
    plausible = recognition.plausible
    if not plausible or plausible.coverage is None or len(plausible.labels) < 2:
        return ""
    named = plausible.labels[:_NAMED]
    more = len(plausible.labels) - len(named)
    rest = f" and {more} more" if more else ""
    return (
        f'<p class="marque-hint"><b>One of these {len(plausible.labels)}, right '
        f"{100 * plausible.coverage:g} times in 100:</b> "
        f"{html.escape(', '.join(named))}{rest}</p>"
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _about(recognizer: CarRecognizer) -> str:
    calibration = recognizer.rule.calibration
    rejected = ["photos that show no car from outside"] if recognizer.gate else []
    if calibration and calibration.known is not None:
        rejected.append("cars unlike all of them")
    behavior = (
        f"It rejects {' and '.join(rejected)}, as far as it can tell them."
        if rejected
        else "It names the nearest of them even when the photo shows something else."
    )
    sureness = (
        "Its confidences are calibrated." if calibration else "Its confidences are uncalibrated."
    )
    return (
        f"Answered by checkpoint `{recognizer.source}` at revision `{recognizer.revision}`, which "
        f"knows {len(recognizer.labels)} classes. {behavior} {sureness} Photos are deleted from "
        "the server within two hours."
    )
