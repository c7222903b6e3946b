"""A smaller catalogue for good: rows of the head taken out, or called otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from space.catalogue import choose
from space.checkpoints import open_checkpoint
from space.errors import MarqueError
from space.labels import Car, unfit_text
from space.memory import Memory
from space.names import car_of
from trainer.evaluation.metrics import Estimate
from trainer.extending.head import Head
from trainer.extending.rewrite import open_head, rewrite


def forget(
    source: str,
    out: Path,
    *,
    drop: Sequence[str] = (),
    keep: Sequence[str] = (),
    rename: Mapping[str, str],
    record: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes a checkpoint without some classes, or with other names for some.

    Args:
        source: the checkpoint: a folder, org/name, or "" for the bundled one.
        out: the new checkpoint's folder.
        drop, keep: items of a catalogue, see `space.catalogue.choose`.
        rename: a label to its new one.
        record: the command, for training.json.

    Returns:
        Accuracy on held-out photos of the classes that stay, before and after.

    Raises:
        MarqueError: the checkpoint cannot be used, an item or a label is unknown, or fewer than two
            classes would be left.
    """
    checkpoint = open_checkpoint(source or None)
    head = open_head(checkpoint)
    labels, cars = list(checkpoint.labels), list(checkpoint.cars)
    markets = head.memory.markets
    left = set(range(len(labels)))
    if keep:
        left &= set(choose(keep, labels, cars, markets).tolist())
    if drop:
        left -= set(choose(drop, labels, cars, markets).tolist())
    if len(left) < 2:
        raise MarqueError(f"{len(left)} of {len(labels)} classes would be left; keep two or more")
    _rename(labels, cars, rename)
    chosen = np.array(sorted(left))
    memory, before = _narrowed(head.memory, chosen)
    after = memory.logits.argmax(axis=1) == memory.targets
    groups = [str(group) for group in memory.groups]
    measured = {
        "photos": len(after),
        "before": Estimate.of_marks(before, groups),
        "after": Estimate.of_marks(after, groups),
    }
    rewrite(
        checkpoint,
        out,
        Head(head.name, head.weight[chosen], head.bias[chosen], memory),
        [labels[number] for number in chosen],
        [cars[number] for number in chosen],
        memory,
        {
            **record,
            "from": checkpoint.revision,
            "dropped": [
                label for number, label in enumerate(checkpoint.labels) if number not in left
            ],
            "renamed": dict(rename),
            "measured": measured,
        },
    )
    return measured | {"classes": len(chosen)}


def _rename(labels: list[str], cars: list[Car], rename: Mapping[str, str]) -> None:
    for old, new in rename.items():
        if old not in labels:
            choose([old], labels, cars, {})  # its error has the nearest names
            raise MarqueError(f"{old!r} is not a label; give it exactly as the answers write it")
        unfit = unfit_text(new) or (None if new.strip() else "nothing but blanks")
        if unfit or new in labels:
            raise MarqueError(f"{old!r} cannot be called {new!r}: {unfit or 'another class is'}")
        number = labels.index(old)
        labels[number], cars[number] = new, car_of(new)


def _narrowed(memory: Memory, chosen: np.ndarray) -> tuple[Memory, np.ndarray]:
    """The memory of some classes, and which of its photos all classes together were right about."""
    place = np.full(len(memory.means), -1)
    place[chosen] = np.arange(len(chosen))
    kept = place[memory.targets] >= 0
    before = memory.logits[kept].argmax(axis=1) == memory.targets[kept]
    return (
        replace(
            memory,
            logits=memory.logits[kept][:, chosen],
            features=memory.features[kept],
            targets=place[memory.targets[kept]],
            groups=memory.groups[kept],
            sources=memory.sources[kept],
            means=memory.means[chosen],
            counts=memory.counts[chosen],
            markets={
                name: found
                for name, numbers in memory.markets.items()
                if (found := [int(place[number]) for number in numbers if place[number] >= 0])
            },
        ),
        before,
    )
