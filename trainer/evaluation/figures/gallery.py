"""Right and wrong answers with their heat maps, to be looked at, not to be published.

The pictures show the datasets' own photos, which belong to their photographers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from trainer.evaluation.figures.style import BLUE, ORANGE, photos_of
from trainer.rendering import INK, SOFT, font, paste, percent, write_lines

_COLUMNS, _SIDE, _GAP, _MARGIN = 3, 290, 16, 24  # px, of squares that hold the pictures
_CAPTION = 118  # px below each
_HEAD = 40  # px above each section


@dataclass(frozen=True)
class Shown:
    """An answer as it is shown.

    Attributes:
        overlay: the photo with its heat map, or None when there is none.
        truth, answer: labels.
        confidence: of the answer, 0 to 1.
        verdict: such as "auto-tag".
    """

    overlay: Image.Image | None
    truth: str
    answer: str
    confidence: float
    verdict: str


def write_gallery(
    folder: Path, right: Sequence[Shown], wrong: Sequence[Shown], photos: int, split: str
) -> None:
    """Writes gallery.png.

    Args:
        right, wrong: the answers to show, in this order; may be empty.
        photos: of how many photos they are examples.
    """
    sections = (("Right", BLUE, right), ("Wrong", ORANGE, wrong))
    width = 2 * _MARGIN + _COLUMNS * (_SIDE + _GAP) - _GAP
    rows = [max(1, -(-len(shown) // _COLUMNS)) for _, _, shown in sections]
    heights = [_HEAD + (n * (_SIDE + _CAPTION) if shown else 30)
               for n, (_, _, shown) in zip(rows, sections, strict=True)]  # fmt: skip
    sheet = Image.new("RGB", (width, 2 * _MARGIN + 60 + sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    top = _MARGIN + write_lines(
        draw, (_MARGIN, _MARGIN), f"Answers to {photos_of(photos, split)}, examples", width, 22, 1,
        INK,
    )  # fmt: skip
    top += write_lines(draw, (_MARGIN, top + 4), "Red is the evidence for the answer (Grad-CAM).",
                       width, 14, 1, SOFT) + 16  # fmt: skip
    for (name, color, shown), height in zip(sections, heights, strict=True):
        draw.line((_MARGIN, top, width - _MARGIN, top), color, 3)
        draw.text((_MARGIN, top + 10), f"{name}: {len(shown)} shown", color, font(18))
        for number, item in enumerate(shown):
            row, column = divmod(number, _COLUMNS)
            left = _MARGIN + column * (_SIDE + _GAP)
            _draw_item(sheet, (left, top + _HEAD + row * (_SIDE + _CAPTION)), item)
        if not shown:
            draw.text((_MARGIN, top + _HEAD), f"no {name.lower()} answers", SOFT, font(14))
        top += height
    sheet.save(folder / "gallery.png", optimize=True)


def _draw_item(sheet: Image.Image, corner: tuple[int, int], item: Shown) -> None:
    draw = ImageDraw.Draw(sheet)
    left, top = corner
    paste(sheet, corner, item.overlay, _SIDE)
    top += _SIDE + 6
    if item.answer != item.truth:
        top += write_lines(draw, (left, top), f"is {item.truth}", _SIDE, 15, 2, INK) + 2
    top += write_lines(draw, (left, top), f"“{item.answer}”", _SIDE, 15, 2, INK) + 2
    said = f"{percent(item.confidence)} sure, {item.verdict}"
    write_lines(draw, (left, top), said, _SIDE, 13, 1, SOFT)
