"""What is said of a photo, as HTML: the answer, its cars, the heat map, the check."""

import base64
import html
import io
from collections.abc import Iterator, Sequence

from PIL import Image

from space.answers import (
    AUTO_TAG,
    LEVELS,
    MAKE,
    MODEL,
    REJECTED,
    YEAR,
    Prediction,
    Recognition,
)
from space.boxes import Box
from space.claims import AGREES, CONTRADICTS, MODEL_UNKNOWN, Check
from space.explain import HeatMap, for_screen
from space.gate import OTHER, PART, REASONS
from space.verdict import UNFAMILIAR
from space.web.strings import Language

_NAMED = 5  # plausible classes that are named; the others are counted


def car_name(make: str, model: str, year: int | None) -> str:
    """A car as people write it: "Audi A4 Sedan, 2012"."""
    name = f"{make} {model}".strip()
    return f"{name}, {year}" if year else name


def name_of(car: Prediction) -> str:
    """The name of a class; its label where that names no make."""
    return car_name(car.make, car.model, car.year) if car.make else car.label


def verdict_of(recognition: Recognition, language: Language) -> tuple[str, str]:
    """The verdict: its CSS class, and in plain words."""
    if recognition.error:
        return "bad", language.say("unreadable")
    if recognition.verdict == REJECTED:
        return "rejected", language.say(f"verdict_{_rejected_as(recognition)}")
    kind = "sure" if recognition.verdict == AUTO_TAG else "check"
    return kind, language.say(f"verdict_{kind}")


def _rejected_as(recognition: Recognition) -> str:
    kinds = {REASONS[OTHER]: "no_car", REASONS[PART]: "inside"}
    return kinds.get(recognition.reason, "unknown")


def headline(recognition: Recognition, calibrated: bool, language: Language) -> tuple[str, str]:
    """What the photo shows, as far as the answer is sure of it, and how sure it is of that."""
    best = recognition.predictions[0]
    if recognition.verdict == AUTO_TAG or not calibrated:
        return name_of(best), language.percent(best.confidence)
    if recognition.level == MODEL:
        return car_name(best.make, best.model, None), language.percent(_share(recognition, MODEL))
    if recognition.level == MAKE:
        return best.make, language.percent(_share(recognition, MAKE))
    return language.say("perhaps", label=name_of(best)), language.percent(best.confidence)


def answer_html(recognition: Recognition, calibrated: bool, language: Language) -> str:
    """The answer to one car."""
    kind, verdict = verdict_of(recognition, language)
    if recognition.verdict == REJECTED:
        after = language.html(f"next_{_rejected_as(recognition)}")
        return _section(
            language, f'<h2 tabindex="-1">{html.escape(verdict)}</h2><p>{after}</p>', kind
        )
    title, percent = headline(recognition, calibrated, language)
    sure = language.say("sure_percent", percent=percent)
    best = recognition.predictions[0]
    notes = []
    if not calibrated:
        notes.append(language.html("uncalibrated"))
    elif recognition.level in (MAKE, MODEL) and recognition.verdict != AUTO_TAG:
        notes.append(language.html("backed_off", label=name_of(best)))
    elif recognition.verdict == AUTO_TAG:
        promised = language.say("percent", number=recognition.reason.split("%")[0])
        notes.append(language.html("measured", percent=promised))
    elif recognition.reason == UNFAMILIAR:
        notes.append(language.html("unfamiliar"))
    if recognition.catalogue:
        notes.append(language.html("only_among", catalogue=recognition.catalogue))
    body = (
        f'<h2 tabindex="-1"><bdi>{html.escape(title)}</bdi></h2>'
        f'<p class="mq-verdict"><b class="{kind}">{html.escape(verdict)}</b> '
        f"<span>{html.escape(sure)}</span></p>"
        + "".join(f"<p>{note}</p>" for note in notes)
        + _levels(recognition, language)
        + _bars(recognition, language)
        + _plausible(recognition, language)
        + _buttons(language)
    )
    return _section(language, body, kind, f"{title}. {sure}")


def refused_html(reason: str, language: Language) -> str:
    """Why a photo has no answer; it begins with the name of the file."""
    return _section(
        language,
        f'<h2 dir="ltr">{html.escape(reason)}.</h2>',
        "rejected",
        attributes=' role="alert"',
    )


def _section(
    language: Language, body: str, kind: str, sentence: str = "", attributes: str = ""
) -> str:
    said = f' data-sentence="{html.escape(sentence)}"' if sentence else ""
    return (
        f'<section class="mq-answer {kind}" {language.attributes} '
        f'aria-live="polite"{said}{attributes}>{body}</section>'
    )


def _share(recognition: Recognition, level: str) -> float:
    """How sure the make, model or year of the first prediction is; 0 where that is not told."""
    best = recognition.predictions[0]
    found = {
        MAKE: [one.confidence for one in recognition.makes if one.make == best.make],
        MODEL: [
            one.confidence
            for one in recognition.models
            if (one.make, one.model) == (best.make, best.model)
        ],
        YEAR: [one.confidence for one in recognition.years if one.year == best.year],
    }[level]
    return found[0] if found else 0.0


def _levels(recognition: Recognition, language: Language) -> str:
    """Make, model and year of the best answer, each with how sure it is."""
    best = recognition.predictions[0]
    values = {MAKE: best.make, MODEL: best.model, YEAR: str(best.year or "")}
    rows = []
    for level in LEVELS:
        value, share = values[level], _share(recognition, level)
        told = f"<bdi>{html.escape(value)}</bdi>" if value else language.html("not_in_label")
        percent = html.escape(language.percent(share)) if value and share else ""
        known = "" if value else ' class="unknown"'
        rows.append(
            f"<div><dt>{language.html(level)}</dt><dd{known}>{told}</dd><dd>{percent}</dd></div>"
        )
    return f'<dl class="mq-levels">{"".join(rows)}</dl>'


def _bars(recognition: Recognition, language: Language) -> str:
    rows = [
        f'<li><bdi title="{html.escape(car.label)}">{html.escape(name_of(car))}</bdi>'
        f"<span>{html.escape(language.percent(car.confidence))}</span>"
        f'<i aria-hidden="true" style="inline-size:{100 * car.confidence:.1f}%"></i></li>'
        for car in recognition.predictions
    ]
    return f'<h3>{language.html("most_likely")}</h3><ol class="mq-bars">{"".join(rows)}</ol>'


def _plausible(recognition: Recognition, language: Language) -> str:
    """Which classes it may be, where these are few, and in what they differ."""
    plausible = recognition.plausible
    if not plausible or plausible.coverage is None or len(plausible.labels) < 2:
        return ""
    named = list(plausible.labels[:_NAMED])
    if more := len(plausible.labels) - len(named):
        named.append(language.say("and_more", count=more))
    said = language.html(
        "one_of",
        count=len(plausible.labels),
        times=f"{100 * plausible.coverage:g}",
        labels=language.joined(named),
    )
    likely = [car for car in recognition.predictions if car.label in plausible.labels]
    differ = ""
    if len(likely) == len(plausible.labels):  # else nothing is known of the others
        if len({(car.make, car.model) for car in likely}) == 1:
            differ = language.html("differ_year")
        elif len({car.make for car in likely}) == 1:
            differ = language.html("differ_model", make=likely[0].make)
    return f"<p>{said} {differ}</p>"


def _buttons(language: Language) -> str:
    """What to do with an answer; `page.js` does it."""
    done = html.escape(language.say("copied"))
    return (
        '<p class="mq-buttons">'
        f'<button type="button" data-do="copy" data-done="{done}">{language.html("copy")}</button>'
        f'<button type="button" data-do="share" hidden>{language.html("share")}</button>'
        f'<button type="button" data-do="save">{language.html("save_picture")}</button></p>'
    )


def figure_html(
    picture: Image.Image, boxes: Sequence[Box], chosen: int | Box | None, language: Language
) -> str:
    """A photo with its cars framed and numbered, each frame a button.

    Args:
        picture: the photo, RGB.
        boxes: of its cars.
        chosen: which of them is named, or a box that the visitor drew; None for no box.
    """
    shown = for_screen(picture)
    frames = []
    for number, box in enumerate(boxes):
        label = html.escape(language.say("car_number", number=number + 1))
        frames.append(
            f'<button type="button" class="mq-frame" data-car="{number}" aria-label="{label}" '
            f'aria-pressed="{"true" if number == chosen else "false"}" style="{_place(box)}">'
            f"{f'<b>{number + 1}</b>' if len(boxes) > 1 else ''}</button>"
        )
    if isinstance(chosen, Box):
        frames.append(f'<div class="mq-frame drawn" style="{_place(chosen)}"></div>')
    hint = ""
    if len(boxes) > 1:
        hint = f"<p>{language.html('cars_found', count=len(boxes))}</p>"
    return (
        f'<figure class="mq-figure" lang="{language.code}">'
        f'<div class="mq-stage" dir="ltr"><img alt="{html.escape(language.say("photo_alt"))}" '
        f'src="{data_url(shown)}" width="{shown.width}" height="{shown.height}" draggable="false">'
        f'{"".join(frames)}<div class="mq-frame drawing" hidden></div></div>'
        f'<figcaption dir="{language.direction}">{hint}<button type="button" data-do="another">'
        f"{language.html('another')}</button>"
        f'<button type="button" data-do="draw" aria-pressed="false">'
        f'{language.html("draw")}</button><span class="mq-drawhint" hidden>'
        f"{language.html('draw_hint')}</span></figcaption></figure>"
    )


def _place(box: Box) -> str:
    shares = {
        "left": box.left,
        "top": box.upper,
        "width": box.right - box.left,
        "height": box.lower - box.upper,
    }
    return ";".join(f"{name}:{100 * share:.2f}%" for name, share in shares.items())


def heat_html(found: HeatMap, compared: bool, language: Language) -> str:
    """A heat map over its photo, with what moves it.

    Args:
        found: the map.
        compared: it tells two classes apart.
    """
    photo, layer = found.photo, found.layer()
    read = language.html("why_read_not" if compared else "why_read")
    sliders = "".join(
        f'<label>{language.html(words)}<input type="range" min="0" max="100" value="{value}" '
        f'data-sets="{name}"></label>'
        for words, name, value in (("before_after", "--cut", 0), ("opacity", "--opacity", 100))
    )
    return (
        f'<figure class="mq-heat" {language.attributes}>'
        f'<div class="mq-stage" dir="ltr"><img alt="{html.escape(language.say("photo_alt"))}" '
        f'src="{data_url(photo)}" width="{photo.width}" height="{photo.height}">'
        f'<img class="mq-layer" alt="" src="{data_url(layer, "WEBP")}"></div>'
        f"<figcaption><p>{read}</p>{sliders}"
        f'<button type="button" data-do="save-heat">{language.html("save_picture")}</button>'
        "</figcaption></figure>"
    )


def check_html(found: Check, text: str, language: Language) -> str:
    """Whether a photo bears out what a seller says."""
    kind = {AGREES: "sure", CONTRADICTS: "rejected"}.get(found.result, "check")
    return (
        f'<p class="mq-check" role="status" {language.attributes}>'
        f'<b class="{kind}">{language.html(found.result)}</b> {_reason(found, text, language)}</p>'
    )


def _reason(found: Check, text: str, language: Language) -> str:
    recognition = found.recognition
    if recognition.error or recognition.verdict == REJECTED:
        return language.html("check_no_car")
    if found.reason == MODEL_UNKNOWN:
        return language.html("check_model_unknown")
    if found.confidence is None:
        return language.html("check_unknown", text=text)
    best = name_of(recognition.predictions[0])
    sure = found.result in (AGREES, CONTRADICTS)
    return language.html("check_shows" if sure else "check_may", label=best)


def data_url(picture: Image.Image, form: str = "JPEG") -> str:
    """A picture as the address of itself."""
    buffer = io.BytesIO()
    picture.save(buffer, form, quality=82)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def labels_of(recognition: Recognition) -> Iterator[tuple[str, str]]:
    """The answers as choices: name and label."""
    for car in recognition.predictions:
        yield name_of(car), car.label
