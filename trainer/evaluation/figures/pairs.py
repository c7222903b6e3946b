"""The pairs of classes that are most often taken for each other."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from space.labels import Car
from trainer.evaluation.figures.outcome import Outcome
from trainer.evaluation.figures.style import BLUE, YELLOW, legend, new_figure, photos_of, save, tidy
from trainer.rendering import INK, SOFT, many, plain, write_table

_SHOWN = 15  # pairs in the picture


@dataclass(frozen=True)
class _Pair:
    """Two classes by number; of the first's photos more were taken for the second than back."""

    first: int
    second: int
    there: int
    back: int


def write_worst_pairs(folder: Path, outcome: Outcome) -> None:
    """Writes worst_pairs.csv with all pairs that were mixed up, and worst_pairs.png.

    Pairs with most mistakes come first, of these the ones with fewer photos. `differs` says what
    a person would have to see to tell the two apart: the make, the model, the year, or, of the
    same car under two names, the label.
    """
    pairs, photos = _pairs(outcome), outcome.counts().sum(axis=1)
    write_table(
        folder / "worst_pairs.csv",
        ("first", "second", "mistakes", "first_as_second", "second_as_first",
         "first_photos", "second_photos", "differs"),
        (
            (
                outcome.labels[pair.first],
                outcome.labels[pair.second],
                pair.there + pair.back,
                pair.there,
                pair.back,
                int(photos[pair.first]),
                int(photos[pair.second]),
                _difference(outcome.cars[pair.first], outcome.cars[pair.second]),
            )
            for pair in pairs
        ),
    )  # fmt: skip
    _draw(folder / "worst_pairs.png", outcome, pairs, photos)


def _pairs(outcome: Outcome) -> list[_Pair]:
    counts, order = outcome.counts(), outcome.order()
    photos = counts.sum(axis=1)
    pairs = []
    for place, one in enumerate(order):
        for other in order[place + 1 :]:
            there, back = int(counts[one, other]), int(counts[other, one])
            if there >= back and there:
                pairs.append(_Pair(one, other, there, back))
            elif back:
                pairs.append(_Pair(other, one, back, there))

    def badness(pair: _Pair) -> tuple[int, float]:
        mistakes = pair.there + pair.back
        return mistakes, mistakes / (photos[pair.first] + photos[pair.second])

    return sorted(pairs, key=badness, reverse=True)


def _difference(one: Car, other: Car) -> str:
    for name in ("make", "model", "year"):
        if getattr(one, name) != getattr(other, name):
            return name
    return "label"


def _draw(path: Path, outcome: Outcome, pairs: list[_Pair], photos: np.ndarray) -> None:
    shown = pairs[:_SHOWN]
    wrong = int((outcome.truth != outcome.answers).sum())
    title = (
        f"Classes most often taken for each other: {photos_of(len(outcome.truth), outcome.split)},"
        f"\n{many(wrong, 'mistake')} in {many(len(pairs), 'pair')} of classes"
    )
    figure = new_figure(title, 1.5 + 0.52 * max(len(shown), 1))
    axes = figure.subplots()
    if not shown:
        axes.axis("off")
        axes.text(0.5, 0.5, "No photo was taken for another class.", ha="center", color=INK)
        save(figure, path)
        return
    rows = np.arange(len(shown))
    there = np.array([pair.there for pair in shown])
    back = np.array([pair.back for pair in shown])
    axes.barh(rows, there, height=0.36, color=BLUE, label="first taken for second")
    axes.barh(rows, back, height=0.36, left=there, color=YELLOW, label="second taken for first")
    for row, pair in enumerate(shown):
        first, second = (plain(outcome.labels[n], 42) for n in (pair.first, pair.second))
        axes.text(0, row - 0.25, f"{first}  ↔  {second}", size=8.5, color=INK, va="bottom",
                  parse_math=False)  # fmt: skip
        said = f" {pair.there} of {photos[pair.first]}"
        if pair.back:
            said += f", back {pair.back} of {photos[pair.second]}"
        axes.text(pair.there + pair.back, row, said, size=8.5, color=SOFT, va="center")
    tidy(axes, "")
    axes.spines[:].set_visible(False)
    axes.set(xticks=[], yticks=[], ylim=(len(shown) - 0.6, -0.85))
    axes.set_xlim(0, 1.35 * (there + back).max())
    legend(figure, axes.get_legend_handles_labels()[0])
    save(figure, path)
