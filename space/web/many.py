"""Many photos: a table of answers to look through, correct and take away; or one car of them."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from space import uploads
from space.arguments import refusal
from space.errors import MarqueError
from space.web import batch
from space.web.answer import answer_html
from space.web.parts import Parts, language_of
from space.web.sessions import Sessions

_EACH, _ONE = "each", "one"


def many_photos(parts: Parts) -> None:
    """Lays out the part of the page for many photos, and connects it."""
    recognizer, say = parts.recognizer, parts.say
    kept: Sessions[batch.Table] = Sessions()
    gr.Markdown(say("many_limits"))
    files = parts.files_input(label=say("many_files"), height=160)
    kind = gr.Radio(
        [(say("many_each"), _EACH), (say("many_one"), _ONE)], value=_EACH, label=say("many_are")
    )
    start = gr.Button(say("many_start"), variant="primary")
    table = gr.HTML(js_on_load="marque.table(element, trigger)")
    with gr.Row(visible=False) as downloads:
        csv = gr.DownloadButton("CSV", size="md")
        lines = gr.DownloadButton("JSON Lines", size="md")

    def run(
        paths: list[str], chosen: str, request: gr.Request
    ) -> Iterator[tuple[Any, Any, Any, Any]]:
        language = language_of(request)
        if not paths:
            raise refusal(language.say("none_given"))
        try:
            photos = batch.collect(paths)
        except MarqueError as error:
            raise refusal(str(error)) from None
        hidden = gr.update(visible=False)
        if chosen == _ONE:
            found = recognizer.predict_car([photo.data for photo in photos])
            if found.error:
                raise refusal(found.error)
            told = language.html("many_one_answer", count=len(photos))
            answer = answer_html(found, parts.calibrated, language)
            yield f'<p class="mq-answer">{told}</p>{answer}', hidden, None, None
            return
        answers = batch.Table(len(photos))
        for photo, row in zip(photos, batch.answers(recognizer, photos), strict=True):
            answers.add(row, photo)
            if answers.due and len(answers.rows) < answers.count:
                yield answers.as_html(recognizer, language), hidden, None, None
        kept.put(request, answers)
        yield (
            answers.as_html(recognizer, language),
            gr.update(visible=True),
            *_written(answers),
        )

    def correct(request: gr.Request, event: gr.EventData) -> list[Any]:
        answers = kept.get(request)
        data = event._data if isinstance(event._data, dict) else {}
        number, text = data.get("row"), data.get("text")
        if answers is None or not isinstance(number, int) or not isinstance(text, str):
            raise refusal("these answers are gone; name the cars again")
        try:
            answers.correct(number, text[:200])
        except MarqueError as error:
            raise refusal(str(error)) from None
        return _written(answers)

    def _written(answers: batch.Table) -> list[Any]:
        # Where uploads are, so that it is swept with them.
        folder = Path(tempfile.mkdtemp(dir=uploads.folder()))
        return [gr.update(value=path) for path in answers.write(folder, recognizer)]

    shown = [table, downloads, csv, lines]
    start.click(run, [files, kind], shown, api_visibility="private", **parts.queue)
    table.edit(correct, None, [csv, lines], api_visibility="private", queue=True)
