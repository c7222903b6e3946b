"""In which order an epoch goes through the photos."""

from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Sampler

from trainer.data.cache import CachedPhotos, collate
from trainer.training.config import TrainConfig


class EpochSampler(Sampler[int]):
    """Every photo once in an order of its own each epoch, or classes as often as one another.

    The order follows from seed and epoch alone. So all processes agree on it, and accelerate hands
    each batch among them; a resumed run goes through the photos as an uninterrupted one.
    """

    def __init__(self, targets: torch.Tensor, seed: int, balanced: bool = False):
        """Takes the class of each photo, int64, shape (photos,).

        Args:
            balanced: draw photos with replacement, each class with the same probability.
        """
        self._targets = targets
        self._seed = seed
        self._balanced = balanced
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Which epoch comes next, counted from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._targets)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        if self._balanced:
            weights = 1 / torch.bincount(self._targets).float()[self._targets]
            drawn = torch.multinomial(weights, len(self), replacement=True, generator=generator)
        else:
            drawn = torch.randperm(len(self), generator=generator)
        yield from drawn.tolist()


def load_cached(photos: CachedPhotos, config: TrainConfig, accelerator: Accelerator) -> Any:
    """The batches of an epoch of cached photos, shared among the processes.

    Returns:
        A prepared loader with `set_epoch`.
    """
    order = EpochSampler(photos.targets, config.seed, balanced=config.balanced)
    return accelerator.prepare(
        DataLoader(photos, config.batch_size, sampler=order, drop_last=True, collate_fn=collate)
    )
