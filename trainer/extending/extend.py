"""Adds the classes of photos to a checkpoint: new rows of its head, and nothing else."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from space.boxes import grown
from space.checkpoints import open_checkpoint
from space.errors import DataError
from space.labels import Car
from space.memory import Memory
from space.recognizer import CarRecognizer
from trainer.data.cache import PhotoCache
from trainer.data.classes import identity
from trainer.data.dataset import read_photos
from trainer.data.source import Columns
from trainer.evaluation.memory import statistics
from trainer.evaluation.metrics import Estimate
from trainer.evaluation.predictions import read_pictures
from trainer.extending.head import Head, NewRows, RowFitter
from trainer.extending.rewrite import open_head, rewrite

FEWEST = 4  # different photos of a class, to fit some and test the others
_LOOSER = 0.08  # of the car's box, to each side


def extend(
    source: str,
    specs: Sequence[str],
    out: Path,
    *,
    cache: PhotoCache,
    columns: Columns,
    record: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes a checkpoint that knows the classes of more photos too.

    Classes that the checkpoint has already are left as they are; their photos are not used.

    Args:
        source: the checkpoint: a folder, org/name, or "" for the bundled one.
        specs: `NAME=LOCATION` each, see `trainer.data.sources`.
        out: the new checkpoint's folder.
        cache: where decoded photos go.
        record: the command, for training.json.

    Returns:
        What was measured on photos that took no part in what measures them: accuracy on new
        classes among all classes, and on held-out photos of old ones before and after.

    Raises:
        MarqueError: the checkpoint or the photos cannot be used.
    """
    checkpoint = open_checkpoint(source or None)
    head = open_head(checkpoint)
    recognizer = CarRecognizer(checkpoint)
    new = _read_new(recognizer, head.weight.shape[1], specs, cache, columns)
    fitter = RowFitter(head)
    rows = fitter.fit(new.views, new.targets, len(new.labels))
    new_logits = fitter.held_out_logits(new.views, new.targets, new.groups, rows)
    measured = _measure(head, new, rows, new_logits)
    memory = _memory(head.memory, new, rows, new_logits)
    full = Head(
        head.name,
        np.concatenate([head.weight, rows.weight]),
        np.concatenate([head.bias, rows.bias]),
        memory,
    )
    rewrite(
        checkpoint,
        out,
        full,
        (*checkpoint.labels, *new.labels),
        (*checkpoint.cars, *new.cars),
        memory,
        {
            **record,
            "from": checkpoint.revision,
            "added": dict(zip(new.labels, new.counts, strict=True)),
            "known_already": new.known,
            "left_out": new.left_out,
            "old_classes": len(head.bias),
            "measured": measured,
        },
    )
    return measured | {"known_already": new.known, "left_out": new.left_out}


@dataclass(frozen=True)
class _New:
    """The photos of new classes, as the network sees them.

    Attributes:
        labels, cars: the new classes.
        views: features of each as it is looked at and in other ways, see `views_of`, shape (photos,
            views, channels).
        targets: their classes, counted from 0, shape (photos,).
        groups, sources: of each photo.
        known: labels that the checkpoint has already.
        left_out: how many photos take no part, by the reason.
    """

    labels: list[str]
    cars: list[Car]
    views: np.ndarray
    targets: np.ndarray
    groups: list[str]
    sources: list[str]
    known: list[str]
    left_out: dict[str, int]

    @property
    def counts(self) -> list[int]:
        """Photos of each class."""
        return np.bincount(self.targets, minlength=len(self.labels)).tolist()


def _read_new(
    recognizer: CarRecognizer,
    width: int,
    specs: Sequence[str],
    cache: PhotoCache,
    columns: Columns,
) -> _New:
    data = read_photos(specs, cache, columns)
    known = {identity(car) for car in recognizer.cars}
    fresh = [n for n, car in enumerate(data.classes.cars) if identity(car) not in known]
    labels = [data.classes.labels[number] for number in fresh]
    if not fresh:
        raise DataError(
            f"the checkpoint knows all {len(data.classes.labels)} classes of these photos already, "
            f"such as {data.classes.labels[0]!r}; there is nothing to add"
        )
    if taken := set(recognizer.labels) & set(labels):
        raise DataError(f"{min(taken)!r} means another car in the checkpoint; rename the new class")
    place = {number: index for index, number in enumerate(fresh)}
    targets_of: dict[str, set[int]] = defaultdict(set)
    for photo in data.photos:
        targets_of[photo.group].add(photo.target)
    left_out = Counter(problem.reason.partition(":")[0] for problem in data.problems)
    chosen = []
    for number, photo in enumerate(data.photos):
        if photo.target not in place:
            continue
        if len(targets_of[photo.group]) > 1:
            left_out["the same photo stands under several labels"] += 1
        else:
            chosen.append(number)
    views = views_of(recognizer, [data.readers[n] for n in chosen])
    refusals = recognizer.refusals(views[:, 0])
    left_out.update(refusal for refusal in refusals if refusal)
    kept = [index for index, refusal in enumerate(refusals) if not refusal]
    photos = [data.photos[chosen[index]] for index in kept]
    new = _New(
        labels,
        [data.classes.cars[number] for number in fresh],
        views[kept, :, -width:],  # what the classifier takes
        np.array([place[photo.target] for photo in photos], np.int64),
        [photo.group for photo in photos],
        [photo.source for photo in photos],
        [label for n, label in enumerate(data.classes.labels) if n not in place],
        dict(left_out),
    )
    for index, label in enumerate(labels):
        different = {group for group, t in zip(new.groups, new.targets, strict=True) if t == index}
        if len(different) < FEWEST:
            raise DataError(
                f"{label!r} has {len(different)} different photos that can be used; "
                f"{FEWEST} are the least, and 20 a good start"
            )
    return new


def views_of(recognizer: CarRecognizer, readers: Sequence[Callable[[], bytes]]) -> np.ndarray:
    """Features of photos: as they are looked at, in a looser frame, and both mirrored.

    A few photos do not tell that a car is the same car in these.

    Returns:
        float32, shape (photos, views, channels).

    Raises:
        DataError: a photo cannot be read.
    """
    found = []
    for picture in read_pictures(readers, "new classes"):
        prepared = recognizer.prepare(picture)
        seen = [prepared.pixels]
        if prepared.box:
            seen.append(recognizer.preprocess.cut(picture, grown(prepared.box, _LOOSER)))
        seen += [pixels[:, :, ::-1] for pixels in seen]
        features = recognizer.forward(np.stack(seen)).features
        # A photo that is looked at whole has no looser frame, and counts as much as the others.
        found.append(features if prepared.box else features.repeat(2, axis=0))
    return np.stack(found)


def _measure(head: Head, new: _New, rows: NewRows, new_logits: np.ndarray) -> dict[str, Any]:
    memory, old = head.memory, len(head.bias)
    groups = [str(group) for group in memory.groups]
    before = memory.logits.argmax(axis=1) == memory.targets
    after = rows.old_logits.argmax(axis=1) == memory.targets
    right = new_logits.argmax(axis=1) == old + new.targets
    return {
        "new": {
            "photos": len(right),
            "groups": len(set(new.groups)),
            "top1": Estimate.of_marks(right, new.groups),
            "per_class": {
                label: float(right[new.targets == number].mean())
                for number, label in enumerate(new.labels)
            },
        },
        "old": {
            "photos": len(after),
            "before": Estimate.of_marks(before, groups),
            "after": Estimate.of_marks(after, groups),
            "change": Estimate.of_change(after, before, groups),
        },
    }


def _memory(memory: Memory, new: _New, rows: NewRows, new_logits: np.ndarray) -> Memory:
    """The memory of old and new classes; the spread within classes stays that of the old ones."""
    old, count = len(memory.means), len(new.labels)
    features = new.views[:, 0]
    means, counts, _, _ = statistics(features, new.targets, count)
    numbers = np.unique(new.groups, return_inverse=True)[1]
    markets = {name: list(some) for name, some in memory.markets.items()}
    for source, target in zip(new.sources, new.targets.tolist(), strict=True):
        some = markets.setdefault(source, [])
        if old + target not in some:
            some.append(old + target)
    return replace(
        memory,
        logits=np.concatenate([rows.old_logits, new_logits]).astype(np.float32),
        features=np.concatenate([memory.features, features]),
        targets=np.concatenate([memory.targets, old + new.targets]),
        groups=np.concatenate([memory.groups, memory.groups.max(initial=-1) + 1 + numbers]),
        sources=np.concatenate([memory.sources, np.array(new.sources)]),
        means=np.concatenate([memory.means, means]),
        counts=np.concatenate([memory.counts, counts]),
        markets=markets,
    )
