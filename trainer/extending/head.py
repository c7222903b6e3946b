"""Rows for new classes in a linear head whose other rows stay as they are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from sklearn.model_selection import GroupKFold

from space.memory import Memory

DRAWN = 12  # features of each old class, drawn from the memory, that new rows have to stay below
# Of the penalty on rows in the space in which features of one class spread alike in all directions.
# Chosen on training and validation photos of new classes, see docs/EXPERIMENTS.md.
PENALTY = 0.01
SHRINK = 0.3  # of the covariance towards equal variances (Ledoit and Wolf 2004)
FOLDS = 5
LOST = 0.005  # the share of held-out photos of old classes that may be lost to new ones


@dataclass(frozen=True)
class Head:
    """A checkpoint's linear head.

    Attributes:
        name: of the layer in the network.
        weight, bias: float32, shapes (classes, channels) and (classes,).
        memory: of the checkpoint.
    """

    name: str
    weight: np.ndarray
    bias: np.ndarray
    memory: Memory


@dataclass(frozen=True)
class NewRows:
    """Rows for new classes, held back so far that they leave the old ones what is theirs.

    Attributes:
        weight, bias: float32, shapes (count, channels) and (count,).
        given: what the biases gave away, in logits.
        old_logits: of the held-out photos of old classes, each by rows that it had no part in,
            shape (photos, old classes + count).
    """

    weight: np.ndarray
    bias: np.ndarray
    given: float
    old_logits: np.ndarray


class RowFitter:
    """Fits rows for new classes beside those of a head, which stay as they are."""

    def __init__(self, head: Head):
        memory = head.memory
        self.head = head
        self._white = whitening(memory)
        if len(set(memory.groups.tolist())) > 1:
            halves = GroupKFold(2).split(memory.features, groups=memory.groups)
            self._halves = [(whitening(memory, seen), kept) for seen, kept in halves]
        else:
            self._halves = [(self._white, np.arange(len(memory.features)))]

    def fit(self, views: np.ndarray, targets: np.ndarray, count: int) -> NewRows:
        """Rows for new classes.

        Args:
            views: features of their photos, each seen in several ways, shape (photos, views,
                channels).
            targets: the classes of the photos, 0 to count - 1, shape (photos,).
            count: of new classes.
        """
        memory, old = self.head.memory, len(self.head.bias)
        rows, offsets = fit_rows(self.head, self._white, views, targets, count)
        logits = np.concatenate([memory.logits, np.zeros((len(memory.logits), count))], axis=1)
        for white, kept in self._halves:
            some, biases = fit_rows(self.head, white, views, targets, count)
            logits[kept, old:] = memory.features[kept] @ some.T + biases
        given = handicap(logits, memory.targets, old)
        logits[:, old:] -= given
        return NewRows(rows, (offsets - given).astype(np.float32), given, logits)

    def held_out_logits(
        self, views: np.ndarray, targets: np.ndarray, groups: Sequence[str], rows: NewRows
    ) -> np.ndarray:
        """The logits of each new photo, in the first of its views, by rows that were fitted without
        its group, of up to `FOLDS` folds.

        Args:
            rows: of all photos; what they gave away, these give away too.

        Returns:
            Shape (photos, old classes + new ones).
        """
        head, count = self.head, len(rows.bias)
        found = np.zeros((len(views), len(head.bias) + count))
        folds = GroupKFold(min(FOLDS, len(set(groups))))
        for fitted, kept in folds.split(views, targets, groups):
            some, offsets = fit_rows(head, self._white, views[fitted], targets[fitted], count)
            found[kept] = views[kept, 0] @ np.concatenate([head.weight, some]).T
            found[kept] += np.concatenate([head.bias, offsets - rows.given])
        return found


def whitening(memory: Memory, seen: np.ndarray | None = None) -> np.ndarray:
    """The map after which features of one class spread alike in all directions.

    The spread is the mean of that of training photos, which the network has drawn together, and of
    that of held-out ones, to which photos of a new class are more like.

    Args:
        seen: the numbers of the held-out photos that count; all by default.

    Returns:
        float64, symmetric, shape (channels, channels).
    """
    factor = memory.factor.astype(np.float64)
    covariance = factor @ factor.T + np.diag(memory.rest.astype(np.float64))
    around = (memory.features - memory.means[memory.targets])[slice(None) if seen is None else seen]
    if len(around):
        held_out = around.astype(np.float64)
        covariance = (covariance + held_out.T @ held_out / len(held_out)) / 2
    average = np.trace(covariance) / len(covariance)
    covariance = (1 - SHRINK) * covariance + SHRINK * average * np.eye(len(covariance))
    values, axes = np.linalg.eigh(covariance)
    return (axes / np.sqrt(values)) @ axes.T


def fit_rows(
    head: Head, white: np.ndarray, views: np.ndarray, targets: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression in which the rows of old classes are fixed.

    Args:
        head: of the old classes, which are drawn from its memory.
        white: see `whitening`.
        views, targets, count: see `RowFitter.fit`.

    Returns:
        The new rows, float32, shapes (count, channels) and (count,).
    """
    old, memory = len(head.bias), head.memory
    features = views.reshape(-1, views.shape[-1])
    targets = targets.repeat(views.shape[1])
    drawn, drawn_targets = memory.draw(DRAWN, seed=0)
    everything = np.concatenate([drawn, features]).astype(np.float64)
    truth = np.concatenate([drawn_targets, old + targets])
    fixed = everything @ head.weight.T.astype(np.float64) + head.bias
    # Fixed rows count together, as one logit; only that of the true class stays apart from it.
    together = np.logaddexp.reduce(fixed, axis=1)[:, None]
    own = np.take_along_axis(fixed, truth.clip(max=old - 1)[:, None], 1)[:, 0]
    center = memory.means[memory.counts > 0].mean(axis=0).astype(np.float64)
    inputs = (everything - center) @ white
    # Each class counts alike, the old ones together as much as the new ones.
    shares = 1 / np.bincount(truth, minlength=old + count).clip(1)
    shares[:old] /= max(1, (memory.counts > 0).sum())
    shares[old:] /= count
    counts = shares[truth] / shares[truth].sum()
    channels = inputs.shape[1]
    hits = np.zeros((len(truth), count))
    new = truth >= old
    hits[np.flatnonzero(new), truth[new] - old] = 1

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        rows, offsets = flat[: count * channels].reshape(count, channels), flat[count * channels :]
        logits = inputs @ rows.T + offsets
        total = np.logaddexp.reduce(np.concatenate([together, logits], axis=1), axis=1)
        right = np.where(new, (logits * hits).sum(axis=1), own)
        value = (counts * (total - right)).sum()
        slope = counts[:, None] * (np.exp(logits - total[:, None]) - hits)
        found = value + PENALTY / 2 * (rows**2).sum()
        return found, np.concatenate(
            [(slope.T @ inputs + PENALTY * rows).ravel(), slope.sum(axis=0)]
        )

    start = np.concatenate([np.zeros(count * channels), np.full(count, fixed.max(axis=1).mean())])
    flat = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    rows = flat[: count * channels].reshape(count, channels) @ white
    offsets = flat[count * channels :] - rows @ center
    # As the checkpoint will hold them.
    return tuple(values.astype(np.float16).astype(np.float32) for values in (rows, offsets))


def handicap(old_logits: np.ndarray, targets: np.ndarray, old: int) -> float:
    """What new classes have to give away, in logits, so that at most `LOST` of the held-out photos
    of old classes are lost to them.

    Args:
        old_logits: of held-out photos of old classes, with the new rows, shape (photos, classes).
        targets: their classes.
        old: how many classes are old.
    """
    best_old = old_logits[:, :old].max(axis=1)
    lead = old_logits[:, old:].max(axis=1) - best_old
    right = old_logits[:, :old].argmax(axis=1) == targets
    leads = np.sort(lead[right])[::-1]
    allowed = int(LOST * len(targets))
    if allowed >= len(leads):
        return 0.0
    return float(max(0.0, np.nextafter(leads[allowed], np.inf)))
