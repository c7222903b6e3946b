"""The page and the endpoints: everything that people and programs see over the web."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from space.arguments import CheckedBlocks
from space.guard import Guard
from space.photos import MAX_BYTES
from space.recognizer import CarRecognizer
from space.uploads import MAX_AGE, MAX_FOLDER_BYTES
from space.web.endpoints import TOP_K, Endpoints
from space.web.facts import Facts
from space.web.feedback import Feedback
from space.web.many import many_photos
from space.web.parts import Parts
from space.web.photo import one_photo
from space.web.strings import TRANSLATIONS

_WEB = Path(__file__).with_name("web")


def build_page(
    recognizer: CarRecognizer, feedback: Feedback | None = None, facts: Facts | None = None
) -> gr.Blocks:
    """The page, and its endpoints, answering with one recognizer.

    Args:
        recognizer: answers.
        feedback: keeps what visitors say of answers; None asks nobody.
        facts: tells of named cars; None shows nothing.
    """
    parts = Parts(recognizer)
    with CheckedBlocks(
        title="Marque: which car is that?",
        delete_cache=(MAX_AGE, MAX_AGE),
        analytics_enabled=False,
    ) as page:
        parts.title()
        # In a menu, gradio at times hides tabs for which there is room.
        with gr.Tabs(overflow_behavior="wrap"):
            with gr.Tab(parts.say("tab_photo")):
                one_photo(parts, feedback, facts)
            with gr.Tab(parts.say("tab_many")):
                many_photos(parts)
            with gr.Tab(parts.say("tab_model")):
                parts.about()
        parts.privacy()
        _endpoints(parts, Endpoints(recognizer))
    return page


def _endpoints(parts: Parts, ask: Endpoints) -> None:
    """The endpoints of programs, on components that nobody sees."""
    top_k = gr.Number(TOP_K, label="top_k", precision=0, visible=False)
    # `whole_number` checks it: gradio's own rounding has no words for text or NaN.
    top_k.preprocess = lambda payload: payload  # type: ignore[method-assign]
    image = parts.photo_input(label="image", visible=False)
    images = parts.files_input(label="images", visible=False)
    texts = {
        name: gr.Textbox(None, label=name, visible=False)
        for name in ("catalogue", "text", "label", "against")
    }
    answer = gr.JSON(label="answer", visible=False)
    overlay = gr.Image(label="overlay", format="png", visible=False)
    trigger = gr.Button(visible=False)
    for function, inputs, output in (
        (ask.predict, [image, top_k, texts["catalogue"]], answer),
        (ask.check, [image, texts["text"]], answer),
        (ask.predict_all, [image, top_k], answer),
        (ask.predict_batch, [images, top_k, texts["catalogue"]], answer),
        (ask.explain, [image, texts["label"], texts["against"]], overlay),
    ):
        trigger.click(function, inputs, output, api_name=function.__name__, **parts.queue)


def _script() -> str:
    """`page.js` with the words that it writes by itself."""
    words = {
        code: {key: said[key] for key in ("history", "history_where", "history_none", "forget")}
        for code, said in TRANSLATIONS.items()
    }
    script = (_WEB / "page.js").read_text("utf-8")
    return script.replace("MARQUE_STRINGS", json.dumps(words, ensure_ascii=False))


def launch(
    page: gr.Blocks,
    hosts: Collection[str] | None = None,
    max_folder_bytes: float = MAX_FOLDER_BYTES,
    mcp: bool = False,
    **options: Any,
):
    """Serves the page behind `space.guard`; `space.server` does so for app.py.

    Args:
        page: from `build_page`.
        hosts: by which names it may be addressed; None for any.
        max_folder_bytes: the room for uploads.
        mcp: whether the endpoints are tools of the Model Context Protocol too; needs gradio[mcp].
        options: go to gradio's `launch`. GRADIO_SERVER_NAME and GRADIO_SERVER_PORT say where the
            page is, as in every gradio app.
    """
    guard = Middleware(
        Guard,
        endpoints={str(fn.api_name) for fn in page.fns.values() if fn.api_visibility == "public"},
        hosts=hosts,
        max_folder_bytes=max_folder_bytes,
        mcp=mcp,
    )
    # Without api_open=False, /run and /api would answer past the queue and its limits.
    return page.queue(max_size=64, api_open=False).launch(
        # System fonts: nothing is fetched from a font server, and the page is there at once.
        theme=gr.themes.Soft(
            primary_hue="blue",
            font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
        ),
        css=(_WEB / "page.css").read_text("utf-8"),
        head=f"<script>{_script()}</script>",
        i18n=gr.I18n(**TRANSLATIONS),
        max_file_size=MAX_BYTES,
        footer_links=["api", "settings"],
        app_kwargs={"middleware": [guard]},
        enable_monitoring=False,
        run_history=False,
        state_session_capacity=200,  # sessions hold what their components showed, photos too
        # A Space may ask for these two: Node, and processes that hand out files, would answer past
        # the guard.
        ssr_mode=False,
        num_workers=0,
        mcp_server=mcp,
        **options,
    )
