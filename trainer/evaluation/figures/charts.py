"""What confidences mean, what refusing costs, and how much worse photos may get."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from space.answers import LEVELS
from trainer.evaluation.figures.style import (
    BLUE,
    GREEN,
    ORANGE,
    PALE,
    YELLOW,
    legend,
    new_figure,
    percents,
    photos_of,
    save,
    tidy,
)
from trainer.evaluation.metrics import BINS, confidence_bins, wilson
from trainer.rendering import INK, SOFT, many, plain

_GATE_BINS = 40
_FEWEST = 30  # answers kept from which an error among them says something
_IN_WORDS = dict(zip(LEVELS, ("make", "make and model", "make, model and year"), strict=True))


@dataclass(frozen=True)
class Confidences:
    """How sure answers were, and which were right.

    Attributes:
        name: what they are, such as "before calibration".
        confidence: 0 to 1, shape (photos,).
        right: bool, shape (photos,).
        ece: the expected calibration error of these, 0 to 1.
    """

    name: str
    confidence: np.ndarray
    right: np.ndarray
    ece: float


def write_reliability(path: Path, panels: Sequence[Confidences], split: str) -> None:
    """Draws how often answers of a confidence are right, a panel beside the other.

    Args:
        path: the PNG file to write.
        panels: all of the same photos; at least one.
    """
    title = f"How often answers of a confidence are right: {photos_of(len(panels[0].right), split)}"
    figure = new_figure(title, 5.2 if len(panels) < 3 else 4.4)
    axes = figure.subplots(
        2, len(panels), sharex=True, sharey="row", squeeze=False, height_ratios=[3, 1]
    )
    for column, panel in enumerate(panels):
        _draw_reliability(axes[0, column], axes[1, column], panel)
    axes[0, 0].set_ylabel("answers that are right")
    axes[1, 0].set_ylabel("photos")
    most = max(confidence_bins(panel.confidence)[1].max() for panel in panels)
    axes[1, 0].set_ylim(0, 1.6 * most)  # room for the numbers above the bars
    figure.set_layout_engine("constrained", wspace=0.06)
    legend(figure, axes[0, 0].get_legend_handles_labels()[0])
    save(figure, path)


def _draw_reliability(above: Axes, below: Axes, panel: Confidences) -> None:
    bins, photos = confidence_bins(panel.confidence)
    full = photos > 0
    counts = photos[full]
    right = np.bincount(bins, weights=panel.right, minlength=BINS)[full]
    sure = np.bincount(bins, weights=panel.confidence, minlength=BINS)[full] / counts
    share = right / counts
    low, high = wilson(right, counts)
    above.plot((0, 1), (0, 1), color=SOFT, linewidth=1, linestyle="--", label="as sure as right")
    above.errorbar(sure, share, (share - low, high - share), fmt="o", markersize=5, color=BLUE,
                   elinewidth=1.2, label="bin, 95% interval")  # fmt: skip
    tidy(above)
    above.set_title(f"{plain(panel.name, 40)}\nECE {panel.ece:.1%}", loc="left", size=10,
                    color=INK, parse_math=False)  # fmt: skip
    above.set(xlim=(0, 1), ylim=(0, 1.02))
    percents(above.yaxis)
    places = (np.flatnonzero(full) + 0.5) / BINS
    bars = below.bar(places, counts, width=0.9 / BINS, color=PALE)
    below.bar_label(bars, [f"{count:,}" for count in counts], size=7, color=INK, rotation=90,
                    padding=2)  # fmt: skip
    tidy(below, "")
    below.set(xlabel="confidence", yticks=[])
    percents(below.xaxis)
    below.set_xticks([0, 0.5, 1])


def write_risk_coverage(
    folder: Path,
    confidence: np.ndarray,
    right: np.ndarray,
    thresholds: Mapping[str, float | None],
    split: str,
    level: str,
) -> None:
    """Writes risk_coverage.png: the error among the answers kept, by the share kept.

    Args:
        confidence, right: of the answers, shape (photos,).
        thresholds: target precision, such as "0.98", to the least confidence that is kept; None
            where the target was never reached.
        level: one of `space.answers.LEVELS`; what is right or not.
    """
    title = (
        f"Errors left when only sure answers are kept ({_IN_WORDS[level]}):\n"
        f"{photos_of(len(right), split)}"
    )
    figure = new_figure(title, 4.8)
    axes = figure.subplots()
    order = np.argsort(-confidence, kind="stable")
    values, kept = confidence[order], np.arange(1, len(order) + 1)
    wrong = np.cumsum(~right[order])
    # Answers of one confidence are kept or refused together.
    ends = np.append(values[1:] < values[:-1], True)
    ends &= kept >= min(_FEWEST, len(order))
    kept, wrong = kept[ends], wrong[ends]
    low, high = wilson(wrong, kept)
    axes.fill_between(kept / len(order), low, high, color=PALE, alpha=0.5, linewidth=0,
                      label="95% interval")  # fmt: skip
    axes.plot(kept / len(order), wrong / kept, color=BLUE, linewidth=1.8)
    worst = wrong[-1] / kept[-1]
    marks = zip("osD^v<>", (ORANGE, GREEN, YELLOW, INK) * 2, strict=False)
    for (target, threshold), (mark, color) in zip(thresholds.items(), marks, strict=False):
        name = f"{100 * float(target):g}% right wanted"
        inside = confidence >= (np.inf if threshold is None else threshold)
        if not inside.any():
            axes.plot([], [], linestyle="", marker=mark, color=color, markerfacecolor="none",
                      label=f"{name}: not reached")  # fmt: skip
            continue
        error = (~right[inside]).mean()
        said = f"{name}: {1 - error:.1%} are, {inside.mean():.0%} kept"
        axes.plot(inside.mean(), error, linestyle="", marker=mark, markersize=8, color=color,
                  label=said, clip_on=False, zorder=3)  # fmt: skip
    tidy(axes)
    axes.set(xlim=(0, 1), ylim=(0, max(0.02, 1.5 * worst)))
    axes.set(xlabel="share of answers kept, the surest first", ylabel="wrong among those kept")
    percents(axes.xaxis)
    percents(axes.yaxis)
    legend(figure, axes.get_legend_handles_labels()[0])
    save(figure, folder / "risk_coverage.png")


def write_robustness(
    folder: Path,
    clean: float,
    conditions: Mapping[str, tuple[float, float, float]],
    photos: int,
    split: str,
) -> None:
    """Writes robustness.png: how many points of top-1 each condition costs.

    Args:
        clean: top-1 of the photos as they are, 0 to 1.
        conditions: what was done to the photos, to top-1 and the ends of its 95% interval; drawn
            in this order.
        photos: how many there are.
    """
    title = (
        f"What worse photos cost: {photos_of(photos, split)},\n"
        f"of which {clean:.1%} are right as they are"
    )
    figure = new_figure(title, 1.5 + 0.32 * max(len(conditions), 1))
    axes = figure.subplots()
    rows = np.arange(len(conditions))
    table = np.array(list(conditions.values()), dtype=float).reshape(-1, 3)
    value, low, high = 100 * (clean - table.T)
    axes.barh(rows, value, height=0.62, color=PALE)
    errors = np.stack([value - high, low - value]).clip(0)  # a high top-1 is a small loss
    axes.errorbar(value, rows, xerr=errors, fmt="none", color=BLUE, elinewidth=1.4, capsize=2)
    for row, end, lost, top1 in zip(rows, np.maximum(low, 0), value, table[:, 0], strict=True):
        axes.annotate(f"{-lost:+.1f} ({top1:.0%} right)".replace("-", "−"), (end, row), (4, 0),
                      textcoords="offset points", va="center", size=8.5, color=SOFT)  # fmt: skip
    names = [plain(name, 36) for name in conditions]
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(rows, names, parse_math=False)
    tidy(axes, "x")
    axes.spines["left"].set_visible(False)
    left, right = min(0, *high, 0), max(1, *low, 1)
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=(left - 0.02 * (right - left),
                                                 right + 0.3 * (right - left)))  # fmt: skip
    axes.set_xlabel("points of top-1 lost, with 95% interval")
    save(figure, folder / "robustness.png")


def write_rejection(
    folder: Path, scores: Mapping[str, np.ndarray], threshold: float | None
) -> None:
    """Writes rejection.png: how the gate tells cars from outside from everything else.

    Args:
        scores: what the photos show, to the gate's probability of "car", 0 to 1, shape (photos,).
        threshold: the least probability with which a photo passes; None when all do.
    """
    figure = new_figure("What the gate lets pass", 1.1 + 1.55 * len(scores))
    panels = figure.subplots(len(scores), 1, sharex=True, squeeze=False)[:, 0]
    colors = (BLUE, YELLOW, ORANGE, GREEN)
    for number, (axes, (kind, values)) in enumerate(zip(panels, scores.items(), strict=True)):
        said = f"{plain(kind, 50)}: {many(len(values), 'photo')}"
        if len(values):
            weights = np.full(len(values), 1 / len(values))
            axes.hist(values, bins=_GATE_BINS, range=(0, 1), weights=weights,
                      color=colors[number % len(colors)])  # fmt: skip
        if len(values) and threshold is not None:
            passed = int((values >= threshold).sum())
            said += f", {passed:,} pass ({passed / len(values):.1%})"
        if threshold is not None:
            axes.axvline(threshold, color=INK, linewidth=1.2, linestyle="--")
        axes.set_title(said, loc="left", size=10, color=INK, parse_math=False)
        tidy(axes, "y")
        axes.set(xlim=(0, 1), ylabel="share of photos")
        percents(axes.yaxis)
    where = "" if threshold is None else f"; photos right of the line ({threshold:.2f}) pass"
    panels[-1].set_xlabel(f"the gate's probability of a car from outside{where}")
    save(figure, folder / "rejection.png")
