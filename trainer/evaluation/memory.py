"""What a checkpoint is to remember of its photos, see `space.memory`."""

import random
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from space.memory import Memory
from space.recognizer import CarRecognizer
from trainer.data.splits import TRAIN
from trainer.evaluation.predictions import LabeledPhoto, Predictions, predict_photos

PER_CLASS = 20  # training photos that a mean is of; more move it by less than the photos differ
RANK = 256  # of the covariance within classes


def remember(
    recognizer: CarRecognizer,
    photos: Sequence[LabeledPhoto],
    held_out: Sequence[LabeledPhoto],
    predictions: Predictions,
) -> Memory:
    """Builds the memory of a checkpoint.

    Args:
        photos: all photos; of those in training the means and the covariance are.
        held_out, predictions: validation photos and what was predicted for them.

    Raises:
        DataError: a photo cannot be read.
    """
    by_class: dict[int, list[LabeledPhoto]] = defaultdict(list)
    markets: dict[str, set[int]] = defaultdict(set)
    for photo in photos:
        markets[photo.source].add(photo.target)
        if photo.split == TRAIN:
            by_class[photo.target].append(photo)
    rng = random.Random(0)
    chosen = [
        photo
        for _, some in sorted(by_class.items())
        for photo in rng.sample(some, min(PER_CLASS, len(some)))
    ]
    # What the classifier takes comes last, after what only the gate looks at.
    width = getattr(recognizer.checkpoint.model.get_classifier(), "in_features", 0)
    held_features = predictions.features[:, -width:]
    features, targets = held_features[:0], np.zeros(0, np.int64)
    if chosen:
        found = predict_photos(recognizer, [photo.read for photo in chosen], "memory")
        features, targets = found.features[:, -width:], np.array([photo.target for photo in chosen])
    means, counts, factor, rest = statistics(features, targets, len(recognizer.labels))
    groups = np.unique([photo.group for photo in held_out], return_inverse=True)[1]
    return Memory(
        predictions.logits,
        held_features,
        np.array([photo.target for photo in held_out]),
        groups,
        np.array([photo.source for photo in held_out]),
        means,
        counts,
        factor,
        rest,
        {name: sorted(numbers) for name, numbers in sorted(markets.items())},
    )


def statistics(
    features: np.ndarray, targets: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Means of classes and the covariance within them.

    Args:
        features: shape (photos, channels).
        targets: the class of each, shape (photos,).
        classes: how many there are; one without photos has a mean of zeros.

    Returns:
        means, counts, factor and rest, see `space.memory.Memory`.
    """
    channels = features.shape[1]
    counts = np.bincount(targets, minlength=classes)
    means = np.zeros((classes, channels))
    np.add.at(means, targets, features)
    means /= counts.clip(1)[:, None]
    around = features - means[targets]
    freedom = max(1, len(features) - int((counts > 0).sum()))
    rank = min(RANK, channels, len(features))
    _, sizes, axes = np.linalg.svd(around / np.sqrt(freedom), full_matrices=False)
    factor = axes[:rank].T * sizes[:rank]
    variance = (around**2).sum(axis=0) / freedom
    rest = (variance - (factor**2).sum(axis=1)).clip(0)
    return (
        means.astype(np.float32),
        counts,
        factor.astype(np.float32),
        rest.astype(np.float32),
    )
