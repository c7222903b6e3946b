"""What all figures have in common: size, colors, titles, and names that are never formulas."""

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from PIL import Image

from trainer.rendering import INK, RULE, SOFT, many, plain

WIDTH = 7.5  # inches: letters of 9 points are 15 px high where a README shows 900 px
DPI = 160
_COLOURS = 128
# Okabe and Ito's colors, which people with any kind of color vision can tell apart.
BLUE, ORANGE, GREEN, YELLOW, PALE = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#a9c9de"


def new_figure(title: str, height: float) -> Figure:
    """An empty figure with its title at the top left; height in inches."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(title, x=0.012, ha="left", size=12, color=INK, parse_math=False)
    return figure


def tidy(axes: Axes, grid: str = "both") -> None:
    """Takes away what carries no information.

    Args:
        grid: the direction of the grid lines: "x", "y", "both" or "" for none.
    """
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)
    axes.tick_params(length=0, labelsize=9, labelcolor=INK)
    axes.xaxis.label.set(size=10, color=INK)
    axes.yaxis.label.set(size=10, color=INK)
    if grid:
        axes.grid(axis=grid, color=RULE, linewidth=0.6)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def percents(axis: Axis) -> None:
    """Writes an axis of shares, 0 to 1, in percent."""
    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{round(100 * share, 3):g}%"))


def legend(figure: Figure, handles: Sequence[Artist], columns: int = 2) -> None:
    """A legend below all panels, its texts taken as they stand."""
    box = figure.legend(
        handles=list(handles), loc="outside lower center", ncols=columns, fontsize=9,
        frameon=False, labelcolor=INK,
    )  # fmt: skip
    for text in box.get_texts():
        text.set_parse_math(False)


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG file.

    Letters that the font lacks are drawn as boxes; the tables have every name in full.
    """
    drawn = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        warnings.filterwarnings("ignore", "Matplotlib currently does not support", UserWarning)
        figure.savefig(drawn, dpi=DPI)
    # A chart has few colors: a palette takes a third of the room, and looks the same.
    with Image.open(drawn) as picture:
        few = picture.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    few.save(path, optimize=True, dpi=(DPI, DPI))


def photos_of(count: int, split: str) -> str:
    """ "711 test photos" """
    return many(count, f"{plain(split, 20)} photo")


def classes_of(count: int) -> str:
    """ "1 class", "216 classes" """
    return f"{count:,} class{'' if count == 1 else 'es'}"
