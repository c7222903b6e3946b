"""How well each class is known: a table of all, and a picture of the weakest."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from trainer.evaluation.figures.outcome import Outcome
from trainer.evaluation.figures.style import (
    BLUE,
    PALE,
    classes_of,
    legend,
    new_figure,
    percents,
    photos_of,
    save,
    tidy,
)
from trainer.rendering import INK, SOFT, many, plain, write_table

LOW_SUPPORT = 10  # photos below which a class's figures say little: one photo moves them a lot
_NAMED = 25  # of the weakest classes


@dataclass(frozen=True)
class ClassScore:
    """How well one class is known.

    Attributes:
        number: of the class.
        photos: that show it.
        precision: the share of answers of this class that are right, 0 to 1; None without answers.
        recall: the share of its photos that are right; None without photos.
        f1: their harmonic mean, 0 when no answer is right; None without photos.
    """

    number: int
    photos: int
    precision: float | None
    recall: float | None
    f1: float | None


def class_scores(outcome: Outcome) -> list[ClassScore]:
    """All classes, by make, model and year."""
    counts = outcome.counts()
    photos, answers, right = counts.sum(axis=1), counts.sum(axis=0), counts.diagonal()
    return [
        ClassScore(
            number,
            int(photos[number]),
            right[number] / answers[number] if answers[number] else None,
            right[number] / photos[number] if photos[number] else None,
            2 * right[number] / (photos[number] + answers[number]) if photos[number] else None,
        )
        for number in outcome.order()
    ]


def write_classes(folder: Path, outcome: Outcome) -> None:
    """Writes classes.csv with a row a class, and classes.png.

    What cannot be told, such as the recall of a class without photos, is an empty cell.
    `low_support` is true of a class with fewer than `LOW_SUPPORT` photos.
    """
    scores = class_scores(outcome)
    write_table(
        folder / "classes.csv",
        ("class", "make", "model", "year", "photos", "precision", "recall", "f1", "low_support"),
        (
            (
                outcome.labels[score.number],
                car.make,
                car.model,
                car.year,
                score.photos,
                *(
                    None if value is None else f"{value:.4f}"
                    for value in (score.precision, score.recall, score.f1)
                ),
                "true" if score.photos < LOW_SUPPORT else "false",
            )
            for score in scores
            for car in (outcome.cars[score.number],)
        ),
    )
    _draw(folder / "classes.png", outcome, [score for score in scores if score.photos])


def _draw(path: Path, outcome: Outcome, scores: Sequence[ClassScore]) -> None:
    left_out = len(outcome.labels) - len(scores)
    note = f"\n({classes_of(left_out)} without photos left out)" if left_out else ""
    photos = photos_of(len(outcome.truth), outcome.split)
    # Of classes equally weak, the one with more photos is the more certain to be so.
    weakest = sorted(scores, key=lambda score: (score.f1, -score.photos))
    named = weakest[:_NAMED]
    overview = len(scores) > _NAMED
    title = f"F1 of {classes_of(len(scores))}: {photos}{note}"
    height = 1.3 + 0.25 * len(named)
    figure = new_figure(title, height + 2.2 * overview)
    if overview:
        above, axes = figure.subplots(2, 1, height_ratios=[2, height - 0.4])
        _draw_all(above, weakest[::-1])
        axes.set_title(f"The {_NAMED} weakest", loc="left", size=10, color=INK)
    else:
        axes = figure.subplots()
    rows = range(len(named))
    axes.barh(rows, [score.f1 or 0 for score in named], height=0.7, color=_colours(named))
    for row, score in zip(rows, named, strict=True):
        said = f" {score.f1:.0%}, {many(score.photos, 'photo')}"
        axes.text(score.f1 or 0, row, said, va="center", size=8.5, color=SOFT)
    names = [plain(outcome.labels[score.number], 40) for score in named]
    axes.set_yticks(rows, names, parse_math=False)
    tidy(axes, "x")
    axes.tick_params(axis="y", labelsize=8.5)
    axes.set(xlim=(0, 1.3), ylim=(len(named) - 0.5, -0.5), xticks=np.linspace(0, 1, 6))
    percents(axes.xaxis)
    axes.set_xlabel("F1 (harmonic mean of precision and recall)")
    few = sum(score.photos < LOW_SUPPORT for score in scores)
    legend(
        figure,
        [
            Patch(
                color=BLUE, label=f"{LOW_SUPPORT} photos or more ({classes_of(len(scores) - few)})"
            ),
            Patch(color=PALE, label=f"fewer than {LOW_SUPPORT} photos ({classes_of(few)})"),
        ],
    )
    save(figure, path)


def _draw_all(axes: Axes, scores: Sequence[ClassScore]) -> None:
    axes.bar(range(len(scores)), [score.f1 or 0 for score in scores], width=1,
             color=_colours(scores))  # fmt: skip
    tidy(axes, "y")
    axes.set(xticks=[], ylim=(0, 1), xlim=(-0.5, len(scores) - 0.5))
    percents(axes.yaxis)
    axes.set_ylabel("F1")
    axes.set_title("All, best first", loc="left", size=10, color=INK)


def _colours(scores: Sequence[ClassScore]) -> list[str]:
    return [PALE if score.photos < LOW_SUPPORT else BLUE for score in scores]
