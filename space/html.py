"""What the page says, as HTML: how it looks, and how an answer reads."""

import html
from collections.abc import Iterator

from space.answers import LEVELS, MAKE, MODEL, REJECTED, YEAR, Recognition
from space.recognizer import CarRecognizer
from space.verdict import WORTH_NAMING

_NAMED = 5  # plausible classes that are named; the others are counted

CSS = """
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


def about(recognizer: CarRecognizer) -> str:
    """Which checkpoint answers, in Markdown."""
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
