"""What the page says of the model: what it knows, how good it is, where it fails."""

import html
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from space.checkpoints import METRICS
from space.recognizer import CarRecognizer
from space.web.strings import Language

# Of the measures in metrics.json, those of photos as people take them first.
_SETS = {
    "listings_brazil": "Listings (Brazil)",
    "algerian_used_cars": "Algerian Used Cars",
    "stanford_cars": "Stanford Cars",
}


def about_html(recognizer: CarRecognizer, language: Language) -> str:
    """The model's own page."""
    cars = defaultdict(list)
    for car, label in zip(recognizer.cars, recognizer.labels, strict=True):
        cars[car.make].append(f"{car.model} {car.year or ''}".strip() or label)
    items = "".join(
        f"<li><bdi>{html.escape(f'{make} {model}'.strip())}</bdi></li>"
        for make in sorted(cars)
        for model in sorted(cars[make])
    )
    search = html.escape(language.say("search"))
    answered = language.html("answered_by", source=recognizer.source, revision=recognizer.revision)
    return (
        f'<div class="mq-about" {language.attributes}>'
        f"<h3>{language.html('how_good')}</h3>{_measures(recognizer.checkpoint.folder, language)}"
        f"<h3>{language.html('where_fails')}</h3><p>{language.html('fails_text')}</p>"
        f"<h3>{language.html('knows', count=len(recognizer.labels))}</h3>"
        f'<input type="search" placeholder="{search}" aria-label="{search}">'
        f'<ul class="mq-known" tabindex="0">{items}</ul>'
        f"<p>{answered}{_card(recognizer.source, language)}</p></div>"
    )


def _card(source: str, language: Language) -> str:
    """A link to the model card of a checkpoint from the Hub."""
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        return ""
    address = html.escape(f"https://huggingface.co/{source.split('@')[0]}")
    return f' <a href="{address}" rel="noopener">{language.html("card")}</a>'


def _measures(folder: Path, language: Language) -> str:
    rows = "".join(
        f"<tr><td><bdi>{html.escape(name)}</bdi></td><td>{count:,}</td>"
        f"<td>{html.escape(language.percent(value))}</td></tr>"
        for name, count, value in _measured(folder)
    )
    if not rows:
        return f"<p>{language.html('not_measured')}</p>"
    heads = "".join(
        f'<th scope="col">{language.html(key)}</th>'
        for key in ("good_photos", "good_count", "good_right")
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _measured(folder: Path) -> Iterator[tuple[str, int, float]]:
    """Name, count of photos and share of right first answers, of each dataset."""
    try:
        metrics: dict[str, Any] = json.loads((folder / METRICS).read_text("utf-8"))
        sets = metrics["sources"]
        for key in sorted(sets, key=lambda name: [*_SETS, name].index(name)):
            found = sets[key]
            yield _SETS.get(key, key), int(found["photos"]), float(found["top1"]["value"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
