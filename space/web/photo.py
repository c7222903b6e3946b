"""One photo: its answer at once, and everything else about it one step away."""

from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import Image

from space.answers import REJECTED, Recognition
from space.arguments import log_refusal, refusal
from space.boxes import Box
from space.errors import MarqueError
from space.explain import heat_map
from space.web.answer import (
    answer_html,
    check_html,
    figure_html,
    heat_html,
    labels_of,
    refused_html,
)
from space.web.endpoints import confined, open_photo
from space.web.facts import Facts
from space.web.feedback import Feedback
from space.web.parts import Parts, language_of
from space.web.sessions import Sessions

_LEAST_SIDE = 0.01  # of a frame that a visitor draws, as a share of the photo
_MOST_ITEMS = 50  # of a catalogue


@dataclass(frozen=True)
class Shown:
    """What the page shows of a photo.

    Attributes:
        boxes: of its cars.
        box: of the car that is named; None for the whole photo.
        recognition: the answer.
    """

    boxes: tuple[Box, ...]
    box: Box | None
    recognition: Recognition


def one_photo(parts: Parts, feedback: Feedback | None, facts: Facts | None) -> None:
    """Lays out the part of the page for one photo, and connects it."""
    recognizer, say = parts.recognizer, parts.say
    shown: Sessions[Shown] = Sessions()
    opened = gr.Checkbox(False, visible=False)  # whether the heat map is looked at

    with gr.Row():
        with gr.Column(scale=6, min_width=320):
            photo = parts.photo_input(
                label=say("photo"), sources=["upload", "clipboard", "webcam"], height=320
            )
            figure = gr.HTML(visible=False, js_on_load="marque.figure(element, trigger)")
        with gr.Column(scale=5, min_width=320):
            answer = gr.HTML(js_on_load="marque.answer(element, watch)")
            with gr.Column(visible=False) as more:
                with gr.Accordion(say("why"), open=False) as why:
                    why_class = gr.Dropdown([], label=say("why_class"), filterable=False)
                    why_not = gr.Dropdown([], label=say("why_not"), filterable=False)
                    heat = gr.HTML(js_on_load="marque.heat(element)")
                with gr.Accordion(say("facts"), open=False, visible=facts is not None):
                    known = gr.HTML()
                with gr.Accordion(say("check"), open=False):
                    text = gr.Textbox(
                        label=say("check_label"), placeholder="Golf 2012", max_length=200
                    )
                    ask = gr.Button(say("check_button"), size="md")
                    checked = gr.HTML()
                with gr.Accordion(say("catalogue"), open=False):
                    catalogue = gr.Dropdown(
                        _offered(parts),
                        label=say("catalogue_label"),
                        info=say("catalogue_info"),
                        multiselect=True,
                        allow_custom_value=True,
                        max_choices=_MOST_ITEMS,
                    )
                with gr.Accordion(say("feedback"), open=False, visible=feedback is not None):
                    right = gr.Button(say("feedback_right"), size="md")
                    said = gr.Dropdown(
                        sorted(recognizer.labels),
                        value=None,
                        label=say("feedback_is"),
                        allow_custom_value=True,
                    )
                    leave = gr.Checkbox(False, label=say("feedback_photo"))
                    send = gr.Button(say("feedback_send"), size="md")
                    thanks = gr.HTML()
            gr.HTML(_history(parts), js_on_load="marque.history(element)")

    told: list[Any] = [photo, figure, answer, more, why_class, why_not, heat]
    told += [known, checked, thanks]

    def forget(request: gr.Request) -> tuple:
        shown.put(request, None)
        return empty()

    def empty() -> tuple:
        hidden = gr.update(visible=False)
        nothing = gr.update(choices=[], value=None)
        return (
            gr.update(value=None, visible=True), gr.update(value="", visible=False),
            "", hidden, nothing, nothing, "", "", "", "",
        )  # fmt: skip

    def show(image: str | None, items: list[str] | None, request: gr.Request) -> tuple:
        """A new photo."""
        language = language_of(request)
        shown.put(request, None)
        if image is None:
            return empty()
        try:
            picture = open_photo(image)
            asked = confined(recognizer, items)
        except gr.Error as error:  # said once; the photo stays
            log_refusal("the page", error)
            return (gr.skip(), *empty()[1:2], refused_html(error.message, language), *empty()[3:])
        recognition = asked.predict(picture)
        boxes: tuple[Box, ...] = (recognition.box,) if recognition.box else ()
        if (recognition.cars_found or 0) > len(boxes):
            boxes = tuple(recognizer.preprocess.boxes(picture) or ())
        return (
            gr.update(visible=False),
            *about(picture, Shown(boxes, recognition.box, recognition), request),
        )

    def again(image: str | None, items: list[str] | None, request: gr.Request) -> tuple:
        """The same photo within another catalogue."""
        before = shown.get(request)
        if not image or before is None:
            return tuple(gr.skip() for _ in told)
        return named_at(image, items, before, before.box, request)

    def pick(
        image: str | None,
        items: list[str] | None,
        request: gr.Request,
        event: gr.EventData,
    ) -> tuple:
        """The same photo, another car: one that was found, or where a frame was drawn."""
        before = shown.get(request)
        if not image or before is None:
            return tuple(gr.skip() for _ in told)
        return named_at(image, items, before, _picked(event._data, before.boxes), request)

    def named_at(
        image: str,
        items: list[str] | None,
        before: Shown,
        box: Box | None,
        request: gr.Request,
    ) -> tuple:
        picture = open_photo(image)
        recognition = confined(recognizer, items).predict(picture, box=box)
        now = Shown(before.boxes, box or recognition.box, recognition)
        return (gr.skip(), *about(picture, now, request))

    def about(picture: Image.Image, now: Shown, request: gr.Request) -> tuple:
        """Everything that the page shows of a photo, but for the photo itself."""
        shown.put(request, now)
        language = language_of(request)
        recognition = now.recognition
        chosen: int | Box | None = now.box
        if now.box in now.boxes:
            chosen = now.boxes.index(now.box)
        choices = list(labels_of(recognition))
        none = (language.say("why_not_none"), "")
        return (
            gr.update(value=figure_html(picture, now.boxes, chosen, language), visible=True),
            answer_html(recognition, parts.calibrated, language),
            gr.update(visible=recognition.verdict != REJECTED),
            gr.update(choices=choices, value=choices[0][1]),
            gr.update(choices=[none, *choices], value=""),
            "",
            facts.as_html(recognition.predictions[0], language) if facts else "",
            "",
            "",
        )

    def explained(
        image: str | None,
        label: str | None,
        other: str | None,
        looked_at: bool,
        request: gr.Request,
    ) -> str:
        now = shown.get(request)
        if not looked_at or not image or not label or now is None:
            return ""
        against = other if other and other != label else None
        try:
            found = heat_map(recognizer, open_photo(image), label, against=against, box=now.box)
        except ValueError as error:
            raise refusal(str(error)) from None
        return heat_html(found, against is not None, language_of(request))

    def compared(image: str | None, what: str, items: list[str] | None, request: gr.Request) -> str:
        now = shown.get(request)
        if not image or not (what or "").strip():
            return ""
        box = now.box if now else None  # of the car that is named, not of the most prominent one
        found = confined(recognizer, items).check(open_photo(image), what, box=box)
        return check_html(found, what, language_of(request))

    def kept(image: str | None, what: str | None, photo_too: bool, request: gr.Request) -> str:
        language, now = language_of(request), shown.get(request)
        if feedback is None or now is None or not image:
            return ""
        if not (what or "").strip():
            return language.html("feedback_which")
        picture = open_photo(image) if photo_too else None
        try:
            feedback.keep(str(what).strip(), now.recognition, recognizer.revision, picture)
        except MarqueError as error:
            raise refusal(str(error)) from None
        return f'<p role="status">{language.html("feedback_thanks")}</p>'

    def agreed(image: str | None, photo_too: bool, request: gr.Request) -> str:
        now = shown.get(request)
        best = now.recognition.predictions[0].label if now else None
        return kept(image, best, photo_too, request)

    private: dict[str, Any] = {"api_visibility": "private", **parts.queue}
    figure.clear(forget, None, told, api_visibility="private")
    asks_why = [photo, why_class, why_not, opened]
    for event in (
        gr.on([photo.input, photo.clear], show, [photo, catalogue], told, **private),
        catalogue.change(again, [photo, catalogue], told, **private),
        figure.select(pick, [photo, catalogue], told, **private),
    ):
        # Beside the answer, so that it costs nobody time who does not look at it.
        event.then(explained, asks_why, heat, **private)
    gr.on([why_class.input, why_not.input], explained, asks_why, heat, **private)
    why.expand(lambda: True, None, opened, api_visibility="private").then(
        explained, asks_why, heat, **private
    )
    why.collapse(lambda: False, None, opened, api_visibility="private")
    gr.on([ask.click, text.submit], compared, [photo, text, catalogue], checked, **private)
    if feedback is not None:
        right.click(agreed, [photo, leave], thanks, **private)
        send.click(kept, [photo, said, leave], thanks, **private)


def _picked(data: Any, boxes: tuple[Box, ...]) -> Box:
    """The car that a visitor tapped, or the frame that they drew.

    Raises:
        gr.Error: it is neither.
    """
    number, drawn = (data.get("car"), data.get("box")) if isinstance(data, dict) else (None, None)
    if isinstance(number, int) and 0 <= number < len(boxes):
        return boxes[number]
    if isinstance(drawn, list) and len(drawn) == 4 and all(type(v) in (int, float) for v in drawn):
        left, upper, right, lower = (min(1.0, max(0.0, float(side))) for side in drawn)
        if right - left >= _LEAST_SIDE and lower - upper >= _LEAST_SIDE:
            return Box(left, upper, right, lower)
    raise refusal("there is no such car in the photo; draw a larger frame around it")


def _offered(parts: Parts) -> list[str]:
    """Markets and makes, for a catalogue."""
    memory = parts.recognizer.memory
    makes = sorted({car.make for car in parts.recognizer.cars if car.make})
    return [*(memory.markets if memory else ()), *makes]


def _history(parts: Parts) -> str:
    """The frame that `page.js` fills with the last answers."""
    return (
        '<details class="mq-history"><summary data-say="history"></summary>'
        '<p data-say="history_where"></p><p class="mq-none" data-say="history_none"></p><ul></ul>'
        '<button type="button" data-do="forget" data-say="forget" hidden></button></details>'
    )
