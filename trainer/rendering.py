"""What every file for people is made with: numbers in words, safe tables, text on pictures."""

import csv
import textwrap
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
from PIL import Image, ImageDraw, ImageFont, ImageOps

INK, SOFT, RULE, EMPTY = "#1d2430", "#5b6472", "#d5dae1", "#eef0f3"

# How spreadsheets know formulas.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")


def plain(text: str, length: int = 120) -> str:
    """Text on one line, fit to be shown.

    Args:
        text: anything, such as a path; what would not print is written as an escape.
        length: characters; longer text loses its middle.
    """
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    if len(text) <= length:
        return text
    tail = (length - 1) * 2 // 3  # a path tells more at its end
    return f"{text[: length - 1 - tail]}…{text[-tail:]}"


def number(value: float) -> str:
    """A whole number with its thousands parted; a half keeps its half."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def many(count: int, noun: str) -> str:
    """ "1 photo", "1,234 photos" """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def percent(share: float) -> str:
    """A share in percent; one that is neither 0 nor 1 never reads so."""
    if 0 < share < 0.01:
        return "under 1%"
    if 0.99 < share < 1:
        return "over 99%"
    return f"{share:.0%}"


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a CSV file.

    A cell of text that a spreadsheet would run as a formula has an apostrophe in front, and so has
    one that starts with an apostrophe: to read the text, drop one from the front. Text that is no
    text in any encoding, as a path on disk may be, is written as an escape.
    """
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for row in rows:
            writer.writerow([_harmless(cell) if isinstance(cell, str) else cell for cell in row])


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith((*_FORMULA, "'")) else text


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: the same letters on every machine."""
    return ImageFont.truetype(
        str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size
    )


def write_lines(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    text: str,
    width: int,
    size: int,
    most: int,
    color: str,
) -> int:
    """Writes text in at most so many lines of a width and tells the height that they took."""
    shown = plain(text, 400)
    lines = textwrap.wrap(shown, characters(width, size), max_lines=most, placeholder="…") or [""]
    draw.multiline_text(corner, "\n".join(lines), color, font(size), spacing=2)
    return len(lines) * (size + 4)


def characters(width: int, size: int) -> int:
    """How many letters of a size a line holds."""
    return max(2, int(width / (size * 0.58)))


def paste(sheet: Image.Image, corner: tuple[int, int], picture: Image.Image | None, side: int):
    """Puts a picture, or what stands for a missing one, into a square of the sheet."""
    left, top = corner
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((left, top, left + side - 1, top + side - 1), EMPTY)
    if picture is None:
        draw.text((left + side / 2, top + side / 2), "no picture", SOFT, font(12), "mm")
    else:
        small = ImageOps.contain(picture.convert("RGB"), (side, side), Image.Resampling.LANCZOS)
        sheet.paste(small, (left + (side - small.width) // 2, top + (side - small.height) // 2))
