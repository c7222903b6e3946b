"""The run's log: a table for programs, curves for people."""

import csv
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from trainer.training.loop import EpochResult


def write_log(folder: Path, history: Sequence[EpochResult]) -> None:
    """Writes log.csv and curves.png."""
    with (folder / "log.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(asdict(history[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in history)
    _draw(history).savefig(folder / "curves.png", dpi=120)


def _draw(history: Sequence[EpochResult]) -> Figure:
    epochs = [row.epoch for row in history]
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    loss.plot(epochs, [row.train_loss for row in history], marker=".", label="training")
    loss.plot(epochs, [row.validation_loss for row in history], marker=".", label="validation")
    loss.set(title="Loss", xlabel="epoch")
    accuracy.plot(epochs, [row.validation_top1 for row in history], marker=".", label="top-1")
    accuracy.plot(epochs, [row.validation_top5 for row in history], marker=".", label="top-5")
    accuracy.set(title="Validation accuracy", xlabel="epoch", ylim=(0, 1))
    accuracy.yaxis.set_major_formatter(PercentFormatter(1))
    for axes in (loss, accuracy):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    return figure
