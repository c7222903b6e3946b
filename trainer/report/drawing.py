"""Text and pictures on a sheet, drawn with Pillow."""

import textwrap
from functools import cache
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont, ImageOps

from trainer.report.words import plain

INK, SOFT, RULE, EMPTY = "#1d2430", "#5b6472", "#d5dae1", "#eef0f3"


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
