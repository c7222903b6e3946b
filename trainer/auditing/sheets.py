"""The pictures of an audit as PNG files: contact sheets, a sample of the classes, their sizes."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from trainer.auditing.findings import Audit, Case, Finding, SourceFacts
from trainer.auditing.words import SHOWN_CASES, SHOWN_PHOTOS, how_many_shown, sample
from trainer.rendering import INK, RULE, SOFT, characters, font, paste, plain, write_lines

Picture = Callable[[int], Image.Image | None]
"""Gives a small picture of the photo of a number; None when there is none."""

_BAR = "#2f6db5"
_CELL = 160  # a photo's side on a sheet, px
_GAP = 12
_CAPTION = 64  # px below a photo for two lines each of its label and path
_HEAD, _NOTED_HEAD = 22, 54  # px above it for a case's number, and for a note of three lines
_ROWS = 8  # of cases on a sheet's page
_MARGIN = 24
_BARS = 600  # of all sources together; a picture has an end


def write_sheets(audit: Audit, finding: Finding, folder: Path, picture: Picture) -> None:
    """Writes the first cases of a finding as contact sheets.

    Args:
        finding: without cases, nothing is written.
        folder: where KIND.png, KIND-2.png … go.
        picture: see `Picture`; asked for one photo at a time.
    """
    rows = list(_rows(finding.cases[:SHOWN_CASES]))
    pages = -(-len(rows) // _ROWS)
    head = _NOTED_HEAD if any(case.note for case in finding.cases[:SHOWN_CASES]) else _HEAD
    for page in range(pages):
        chosen = rows[page * _ROWS : (page + 1) * _ROWS]
        height = head + _CELL + _CAPTION + _GAP
        width = 2 * _MARGIN + SHOWN_PHOTOS * (_CELL + _GAP) - _GAP
        sheet = Image.new("RGB", (width, 2 * _MARGIN + 56 + len(chosen) * height), "white")
        draw = ImageDraw.Draw(sheet)
        draw.text((_MARGIN, _MARGIN), plain(finding.title, 70), INK, font(22))
        shown = how_many_shown(finding) + (f"; page {page + 1} of {pages}" if pages > 1 else "")
        draw.text((_MARGIN, _MARGIN + 30), shown, SOFT, font(13))
        for line, cases in enumerate(chosen):
            left, top = _MARGIN, _MARGIN + 68 + line * height
            for number, case in cases:
                _draw_case(sheet, (left, top, head), number, case, audit, picture)
                left += min(len(case.photos), SHOWN_PHOTOS) * (_CELL + _GAP)
        sheet.save(folder / f"{finding.kind}{f'-{page + 1}' if page else ''}.png", optimize=True)


def _rows(cases: Sequence[Case]) -> Iterator[list[tuple[int, Case]]]:
    """Cases and their numbers, as many beside each other as there is room for."""
    row: list[tuple[int, Case]] = []
    room = SHOWN_PHOTOS
    for number, case in enumerate(cases, 1):
        needed = min(len(case.photos), SHOWN_PHOTOS)
        if needed > room:
            yield row
            row, room = [], SHOWN_PHOTOS
        row.append((number, case))
        room -= needed
    if row:
        yield row


def _draw_case(
    sheet: Image.Image,
    place: tuple[int, int, int],
    number: int,
    case: Case,
    audit: Audit,
    picture: Picture,
) -> None:
    draw = ImageDraw.Draw(sheet)
    left, top, height = place
    shown = case.photos[:SHOWN_PHOTOS]
    width = len(shown) * (_CELL + _GAP) - _GAP
    draw.line((left, top, left + width, top), RULE, 1)
    more = f" · {len(case.photos)} photos" if len(case.photos) > SHOWN_PHOTOS else ""
    title = f"{number}{more}{' · ' if case.note else ''}{case.note}"
    write_lines(draw, (left, top + 4), title, width, 11, 3, SOFT)
    for index in shown:
        photo = audit.photos[index]
        paste(sheet, (left, top + height), picture(index), _CELL)
        below = top + height + _CELL + 3
        below += write_lines(draw, (left, below), photo.label or "no label", _CELL, 12, 2, INK) + 2
        path = plain(photo.path, 2 * characters(_CELL, 10) - 4)  # keeps its end
        write_lines(draw, (left, below), path, _CELL, 10, 2, SOFT)
        left += _CELL + _GAP


def write_sample_grid(
    audit: Audit, path: Path, picture: Picture, classes: int = 24, photos: int = 8
) -> None:
    """Draws photos of some classes, a class a row, the same ones every time.

    Args:
        path: the PNG file to write.
        picture: see `Picture`.
        classes, photos: at most so many classes, and photos of each.
    """
    side, gap, names = 128, 8, 180
    rows = sample(audit, classes, photos)
    total = sum(source.classes for source in audit.sources)
    width = 2 * _MARGIN + names + photos * (side + gap)
    grid = Image.new("RGB", (width, 2 * _MARGIN + 44 + len(rows) * (side + gap)), "white")
    draw = ImageDraw.Draw(grid)
    title = f"{len(rows)} of {total:,} classes, up to {photos} photos each, drawn at random"
    draw.text((_MARGIN, _MARGIN), title, INK, font(18))
    for line, (source, label, chosen) in enumerate(rows):
        top = _MARGIN + 44 + line * (side + gap)
        write_lines(draw, (_MARGIN, top), label, names - 16, 14, 4, INK)
        if len(audit.sources) > 1:
            write_lines(draw, (_MARGIN, top + 90), source, names - 16, 11, 2, SOFT)
        for column, index in enumerate(chosen):
            left = _MARGIN + names + column * (side + gap)
            paste(grid, (left, top), picture(index), side)
    grid.save(path, optimize=True)


def write_class_distribution(sources: Sequence[SourceFacts], path: Path) -> None:
    """Draws how many photos each class has: bars, the largest class on top, a panel a source."""
    most = max(5, _BARS // max(len(sources), 1))
    bars = [list(source.per_class.items())[:most] for source in sources]
    heights = [0.9 + 0.19 * max(len(items), 1) for items in bars]
    figure = Figure(figsize=(9, sum(heights) or 1), layout="constrained")
    panels = figure.subplots(
        max(len(sources), 1), 1, squeeze=False, gridspec_kw={"height_ratios": heights or [1]}
    )[:, 0]
    for axes, source, items in zip(panels, sources, bars, strict=False):
        counts = [count for _, count in items]
        drawn = axes.barh(range(len(items)), counts, height=0.72, color=_BAR)
        axes.bar_label(drawn, [f"{count:,}" for count in counts], padding=3, size=8, color=SOFT)
        # Labels are names, not formulas: "$" is a dollar.
        names = [plain(label, 44) for label, _ in items]
        axes.set_yticks(range(len(items)), names, size=8, color=INK, parse_math=False)
        axes.set(ylim=(len(items) - 0.4, -0.6), xlim=(0, max([*counts, 1]) * 1.08))
        shown = f"the {most} largest of " if len(items) < source.classes else ""
        axes.set_title(
            f"{plain(source.name, 50)}: photos in {shown}{source.classes:,} classes",
            loc="left", size=11, color=INK, parse_math=False,
        )  # fmt: skip
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(RULE)
        axes.tick_params(length=0)
        axes.tick_params(axis="x", labelsize=8, labelcolor=SOFT)
        axes.xaxis.grid(color=RULE, linewidth=0.6)
        axes.set_axisbelow(True)
    with warnings.catch_warnings():
        # A label in a script that the font lacks is drawn as boxes; the tables have it in full.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure.savefig(path, dpi=110)
