"""What a network makes of photos, one or a batch of them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np


class Outputs(NamedTuple):
    """What a network makes of a batch of photos in one pass.

    Attributes:
        logits: float32, shape (photos, classes).
        features: float32, shape (photos, channels): the mean of each stage's maps, then the input
            of the classifier.
    """

    logits: np.ndarray
    features: np.ndarray

    def each(self) -> Iterator["Outputs"]:
        """Those of every photo by itself."""
        for row in range(len(self.logits)):
            yield Outputs(self.logits[row : row + 1], self.features[row : row + 1])


def joined(outputs: Sequence[Outputs]) -> Outputs:
    """Several batches, one or more, as one."""
    return Outputs(*map(np.concatenate, zip(*outputs, strict=True)))
