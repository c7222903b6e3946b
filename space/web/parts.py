"""The parts that the page is put together from."""

from typing import Any

import gradio as gr

from space.recognizer import CarRecognizer
from space.web.about import about_html
from space.web.strings import Language

_CONCURRENCY = 2  # photos at once; more would only queue for the same cores


class Parts:
    """Makes the components of the page for one recognizer.

    Attributes:
        recognizer: answers.
        queue: the options of every event that asks the network.
    """

    def __init__(self, recognizer: CarRecognizer):
        """Takes the recognizer."""
        self.recognizer = recognizer
        self.queue: dict[str, Any] = {
            "concurrency_limit": _CONCURRENCY,
            "concurrency_id": "network",
        }

    @property
    def calibrated(self) -> bool:
        """Whether the confidences mean what they say."""
        return self.recognizer.rule.calibration is not None

    @staticmethod
    def say(key: str) -> Any:
        """What the browser shows in its visitor's language; see `space.web.strings`."""
        return gr.I18n()(key)

    def title(self) -> None:
        """What the page is."""
        with gr.Column(elem_classes="mq-title", min_width=0):
            gr.Markdown(self.say("heading"))

    def privacy(self) -> None:
        """What becomes of photos."""
        gr.Markdown(self.say("privacy"), elem_classes="mq-privacy")

    def about(self) -> gr.HTML:
        """What the model knows and how good it is, in the language of whoever opens the page."""
        part = gr.HTML(about_html(self.recognizer, Language()), js_on_load="marque.known(element)")

        def translated(request: gr.Request) -> str:
            return about_html(self.recognizer, language_of(request))

        part_of = gr.context.Context.root_block
        assert part_of is not None
        part_of.load(translated, None, part, api_visibility="private")
        return part

    def photo_input(self, **options: Any) -> gr.Image:
        """An image component that hands the uploaded file on untouched.

        By itself gradio would decode it first, with other errors and limits than `load_photo`.
        """
        component = gr.Image(type="filepath", image_mode=None, **options)

        def preprocess(payload):
            return payload and payload.path

        component.preprocess = preprocess  # type: ignore[method-assign]
        return component

    def files_input(self, **options: Any) -> gr.File:
        """A component of several files that hands them on untouched."""
        component = gr.File(file_count="multiple", type="filepath", **options)

        def preprocess(payload):
            return [file.path for file in payload.root] if payload else []

        component.preprocess = preprocess  # type: ignore[method-assign]
        return component


def language_of(request: gr.Request | None) -> Language:
    """The language that a visitor's browser asks for."""
    return Language.asked_for(request.headers.get("accept-language") if request else None)
