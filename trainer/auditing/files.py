"""Writes what an audit found: tables for programs, a report and contact sheets for people.

Every file is written as the audit is read, and pictures are asked for one at a time, so memory
holds the facts of the photos and no more. Pages and sheets show a bounded number of cases; the
tables hold all of them.
"""

import base64
import io
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image, ImageOps

from trainer.auditing import words
from trainer.auditing.findings import Audit, PhotoFacts, SourceFacts
from trainer.auditing.sheets import (
    Picture,
    write_class_distribution,
    write_sample_grid,
    write_sheets,
)
from trainer.rendering import many, percent, plain, write_table

_THUMBNAIL = 128  # px
_THUMBNAIL_BUDGET = 12_000_000  # characters of all thumbnails, so that the page stays under 15 MB
_CLASSES = 400  # of a source, as bars in the page
_CLASSES_OPEN = 24  # of these, shown without opening anything
_SAMPLE = (8, 6)  # classes and photos of each, shown in the page


def write_audit(audit: Audit, folder: Path, picture: Picture) -> None:
    """Writes report.html, summary.json, images_metadata.csv, class_distribution.png,
    sample_grid.png, and for each kind of finding findings/KIND.csv and sheets/KIND.png.

    In the CSV files a cell of text that a spreadsheet would run as a formula has an apostrophe in
    front, and so has one that starts with an apostrophe: to read the text, drop one from the front.

    Args:
        audit: what was found.
        folder: made if need be. What an earlier audit left there is replaced.
        picture: gives a small picture of the photo of a number, or None.

    Raises:
        OSError: the folder cannot be written.
    """
    for name, suffix in (("findings", "csv"), ("sheets", "png")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for stale in (folder / name).glob(f"*.{suffix}"):
            stale.unlink()
    together = words.all_together(audit)
    write_table(
        folder / "images_metadata.csv",
        [field.name for field in fields(PhotoFacts)],
        (_row(photo) for photo in audit.photos),
    )
    for finding in audit.findings:
        if finding.cases:
            write_table(
                folder / "findings" / f"{finding.kind}.csv",
                ["case", "source", "path", "label", "note"],
                (
                    [number, photo.source, photo.path, photo.label, case.note]
                    for number, case in enumerate(finding.cases, 1)
                    for photo in (audit.photos[index] for index in case.photos)
                ),
            )
            write_sheets(audit, finding, folder / "sheets", picture)
    _write(
        folder / "summary.json", [json.dumps(in_numbers(audit), indent=2, ensure_ascii=False), "\n"]
    )
    write_class_distribution(audit.sources, folder / "class_distribution.png")
    write_sample_grid(audit, folder / "sample_grid.png", picture)
    _write(folder / "report.html", _page(audit, together, picture))


def _write(path: Path, parts: Iterable[str]) -> None:
    # A path on disk need not be text in any encoding; what is not is written as an escape.
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(parts)


def _row(photo: PhotoFacts) -> list[Any]:
    row = [getattr(photo, field.name) for field in fields(PhotoFacts)]
    return [_number(cell) if isinstance(cell, float) else cell for cell in row]


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def in_words(audit: Audit) -> str:
    """What an audit found, a line each: what it does to a training, and how often it is there."""
    statements = words.verdict(audit, words.all_together(audit))
    lines = [f"{said.figure} {said.text}" for said in statements]
    for finding in audit.findings:
        cases, photos = many(len(finding.cases), "case"), many(finding.photos, "photo")
        lines.append(
            f"{finding.title}: {cases}, {photos}" if finding.cases else f"{finding.title}: none"
        )
    return "\n".join(lines)


def in_numbers(audit: Audit) -> dict[str, Any]:
    """What an audit found, as summary.json has it."""
    together = words.all_together(audit)

    def facts(source: SourceFacts) -> dict[str, Any]:
        return asdict(source) | {"classes": source.classes, "smallest": source.smallest()}

    return {
        "verdict": [f"{said.figure} {said.text}" for said in words.verdict(audit, together)],
        "photos": together.photos,
        "unreadable": together.unreadable,
        "groups": together.groups,
        "repeated": together.repeated,
        "expected_leak": together.leak,
        "sources": [facts(source) for source in audit.sources],
        "findings": [
            {
                "kind": finding.kind,
                "title": finding.title,
                "meaning": finding.meaning,
                "cases": len(finding.cases),
                "photos": finding.photos,
            }
            for finding in audit.findings
        ],
        "settings": audit.settings,
    }


class _Thumbnails:
    """Small pictures as data URIs, as long as there is room for them on the page."""

    def __init__(self, picture: Picture):
        self._picture = picture
        self._room = _THUMBNAIL_BUDGET
        self.refused = False

    def __call__(self, index: int) -> str:
        """The picture of a photo; empty when there is none, or no room."""
        if self.refused or (picture := self._picture(index)) is None:
            return ""
        square = (_THUMBNAIL, _THUMBNAIL)
        small = ImageOps.contain(picture.convert("RGB"), square, Image.Resampling.LANCZOS)
        file = io.BytesIO()
        small.save(file, "WEBP", quality=78, method=4)
        uri = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
        self.refused = len(uri) > self._room
        self._room -= len(uri)
        return "" if self.refused else uri


def _page(audit: Audit, together: SourceFacts, picture: Picture) -> Iterable[str]:
    """The report, piece by piece."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"plain": plain, "percent": percent, "many": many}
    return environment.get_template("page.html").generate(
        audit=audit,
        together=together,
        verdict=words.verdict(audit, together),
        columns=[*audit.sources, together] if len(audit.sources) > 1 else audit.sources,
        overview=words.overview,
        overview_note=words.OVERVIEW_NOTE,
        sample=words.sample(audit, *_SAMPLE),
        thumbnail=_Thumbnails(picture),
        thumbnail_side=_THUMBNAIL,
        how_many_shown=words.how_many_shown,
        how_many_left=words.how_many_left,
        shown_cases=words.SHOWN_CASES,
        shown_photos=words.SHOWN_PHOTOS,
        classes=_CLASSES,
        classes_open=_CLASSES_OPEN,
        setting=words.setting,
    )
