"""Which classes are taken for which: the confusion matrix as pictures and tables."""

import textwrap
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from scipy.optimize import isotonic_regression

from trainer.evaluation.figures.outcome import Outcome
from trainer.evaluation.figures.style import classes_of, new_figure, percents, photos_of, save
from trainer.rendering import EMPTY, INK, RULE, SOFT, plain, write_table

_NAMED = 50  # classes up to which each is named; beyond, only the makes are
_NUMBERED = 20  # classes up to which the cells say their number
_SIDE = 440  # points; about the side of the matrix, which the names share
_PITCH = 8.0  # points from one make's name to the next
_REACH = 1.5  # pitches that a make's name may stand away from its classes


def write_confusion(folder: Path, outcome: Outcome) -> None:
    """Writes confusion_counts.png, confusion_shares.png and confusion.csv.

    The table has a row for each pair of classes of which one was taken for the other: how often,
    and which share of the true class that is.
    """
    counts, order = outcome.counts(), outcome.order()
    photos = counts.sum(axis=1)
    write_table(
        folder / "confusion.csv",
        ("true", "predicted", "count", "share"),
        (
            (
                outcome.labels[true],
                outcome.labels[answer],
                int(counts[true, answer]),
                f"{counts[true, answer] / photos[true]:.4f}",
            )
            for true in order
            for answer in order
            if true != answer and counts[true, answer]
        ),
    )
    cells = counts[np.ix_(order, order)].astype(float)
    shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    what = f"{photos_of(len(outcome.truth), outcome.split)}, {classes_of(len(order))}"
    save(_matrix(outcome, cells, f"Confusion matrix in photos: {what}"),
         folder / "confusion_counts.png")  # fmt: skip
    save(_matrix(outcome, shares, f"Confusion matrix, share of each class: {what}", share=True),
         folder / "confusion_shares.png")  # fmt: skip


def _matrix(outcome: Outcome, cells: np.ndarray, title: str, share: bool = False) -> Figure:
    """The matrix with what was right in blue and what was not in orange.

    Args:
        cells: photos or, with `share`, shares of the row; in the order of `outcome.order()`.
    """
    figure = new_figure(title, 8.3 if len(cells) > 4 else 6)
    panels = figure.subplot_mosaic(
        [["matrix", "matrix"], ["right", "wrong"]], height_ratios=[40, 1]
    )
    axes = panels["matrix"]
    right = np.eye(len(cells), dtype=bool)
    for name, colors, chosen in (
        ("right", "Blues", right),
        ("wrong", "Oranges", ~right),
    ):
        drawn = cells[chosen]
        least, most = (0, 1) if share else (1, max(2, drawn.max(initial=0)))
        image = axes.imshow(
            np.ma.masked_where(~chosen | (cells == 0), cells),
            cmap=_dark_end(colors),
            vmin=least,
            vmax=most,
            interpolation="nearest",
        )
        _scale(figure, image, panels[name], name, share)
        if len(cells) <= _NUMBERED:
            _write_numbers(axes, cells, chosen, (least + most) / 2, share)
    for row in np.flatnonzero(cells.sum(axis=1) == 0):
        axes.axhspan(row - 0.5, row + 0.5, color=EMPTY, linewidth=0, zorder=0)
    axes.spines[:].set_color(SOFT)
    order = outcome.order()
    blocks = [
        (make, len(list(numbers)))
        for make, numbers in groupby(outcome.cars[number].make for number in order)
    ]
    ends = np.cumsum([size for _, size in blocks])[:-1] - 0.5
    for line in (axes.axhline, axes.axvline):
        for end in ends:
            line(end, color=RULE, linewidth=0.5, zorder=0.5)
    pad, note = 4, ""
    if len(order) <= _NAMED:
        _name_classes(axes, [outcome.labels[number] for number in order])
    elif _name_makes(axes, blocks) < len(blocks):
        pad, note = 72, "; makes of few classes are not all named"
    else:
        pad = 72  # beside the names, which an axis does not know of
    if (cells.sum(axis=1) == 0).any():
        note += "; a grey row has no photos"
    axes.set_xlabel(f"answer{note}", size=10, color=INK, labelpad=pad)
    axes.set_ylabel("true class", size=10, color=INK, labelpad=pad)
    return figure


def _dark_end(name: str) -> Colormap:
    """A color map whose lightest color stands out from white: one photo must be seen."""
    return LinearSegmentedColormap.from_list(name, colormaps[name](np.linspace(0.4, 1, 64)))


def _scale(figure: Figure, image: AxesImage, axes: Axes, name: str, share: bool) -> None:
    bar = figure.colorbar(image, cax=axes, orientation="horizontal")
    bar.outline.set_visible(False)
    axes.tick_params(labelsize=8, labelcolor=INK, length=2)
    if share:
        axes.set_xticks([0, 0.5, 1])
        percents(axes.xaxis)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    what = "share of the class" if share else "photos"
    axes.set_xlabel(f"{name}, {what}", size=9, color=INK)


def _write_numbers(
    axes: Axes, cells: np.ndarray, chosen: np.ndarray, middle: float, share: bool
) -> None:
    size = 9 if len(cells) <= 12 else 7
    for row, column in zip(*np.nonzero(chosen & (cells > 0)), strict=True):
        value = cells[row, column]
        text = f"{100 * value:.0f}" if share else f"{value:.0f}"
        color = "white" if value > middle else INK
        axes.text(column, row, text, ha="center", va="center", size=size, color=color)


def _name_classes(axes: Axes, labels: Sequence[str]) -> None:
    size = 9 if len(labels) <= 24 else 7
    places = range(len(labels))
    names = [plain(label, 36) for label in labels]
    axes.set_yticks(places, ["\n".join(textwrap.wrap(name, 20)) for name in names]
                    if len(labels) <= 4 else names,
                    size=size, color=INK, parse_math=False)  # fmt: skip
    if len(labels) <= 4:  # few enough to stand upright
        letters = max(8, int(_SIDE / len(labels) / (size * 0.62)))
        names = ["\n".join(textwrap.wrap(name, letters)) for name in names]
    axes.set_xticks(places, names, size=size, color=INK, parse_math=False,
                    rotation=0 if len(labels) <= 4 else 90)  # fmt: skip
    axes.tick_params(length=0)


def _name_makes(axes: Axes, blocks: Sequence[tuple[str, int]]) -> int:
    """Names the makes along both sides, moved apart where they would overlap.

    Args:
        blocks: each make and how many classes it has; where there is no room for all, those with
            most classes are named.

    Returns:
        How many makes are named.
    """
    classes = sum(size for _, size in blocks)
    pitch = _PITCH * classes / _SIDE
    starts = np.cumsum([0, *(size for _, size in blocks)])[:-1]
    largest = sorted(range(len(blocks)), key=lambda number: -blocks[number][1])
    for count in range(len(blocks), 0, -1):
        shown = sorted(largest[:count])
        middles = np.array([starts[number] + (blocks[number][1] - 1) / 2 for number in shown])
        steps = np.arange(count) * pitch
        # The nearest places at least a pitch apart: what is left of one pitch each may not fall.
        places = np.asarray(isotonic_regression(middles - steps).x) + steps
        if np.abs(places - middles).max() <= _REACH * pitch:
            break
    axes.set(xticks=[], yticks=[])
    line = {"arrowstyle": "-", "color": SOFT, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 0}
    for number, middle, place in zip(shown, middles, places, strict=True):
        text: dict[str, Any] = {
            "text": plain(blocks[number][0], 18),
            "size": 6.8,
            "color": INK,
            "parse_math": False,
            "arrowprops": line,
            "annotation_clip": False,
        }
        axes.annotate(xy=(0, middle), xytext=(-0.025, place), ha="right", va="center",
                      xycoords=axes.get_yaxis_transform(),
                      textcoords=axes.get_yaxis_transform(), **text)  # fmt: skip
        axes.annotate(xy=(middle, 0), xytext=(place, -0.025), ha="center", va="top", rotation=90,
                      xycoords=axes.get_xaxis_transform(),
                      textcoords=axes.get_xaxis_transform(), **text)  # fmt: skip
    return len(shown)
