"""Finds photos that are the same photo, so that no split can part them.

Each photo gets a difference hash of 256 bits (is a patch brighter than its right neighbour?, after
N. Krawetz's dHash); photos whose hashes differ in few bits are copies. On Stanford Cars the
distances of true copies end near 30 and those of merely similar photos begin near 50.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from trainer.splits import Photo

MAX_DISTANCE = 28  # of 256 bits
_SIDE = 16
_BLOCK = 512


def group_copies(photos: Sequence[Photo], pixels: np.ndarray, rows: Sequence[int]) -> list[Photo]:
    """Names each photo's group after the smallest content key among its copies.

    Args:
        photos: any groups they have are replaced.
        pixels: uint8, shape (rows, 3, height, width).
        rows: where each photo's pixels are.
    """
    hashes = difference_hashes(pixels, rows)
    parent = list(range(len(photos)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = index = parent[parent[index]]
        return index

    for first, second in close_pairs(hashes, MAX_DISTANCE):
        parent[root(first)] = root(second)
    members: dict[int, list[int]] = {}
    for index in range(len(photos)):
        members.setdefault(root(index), []).append(index)
    result = list(photos)
    for group in members.values():
        name = min(photos[index].key for index in group)[:16]
        for index in group:
            result[index] = replace(photos[index], group=name)
    return result


def difference_hashes(pixels: np.ndarray, rows: Sequence[int]) -> torch.Tensor:
    """The hash bits as floats -1 or 1, shape (photos, 256)."""
    bits = []
    for start in range(0, len(rows), _BLOCK):
        block = torch.from_numpy(pixels[np.asarray(rows[start : start + _BLOCK])])
        grey = block.float().mean(dim=1, keepdim=True)
        small = F.adaptive_avg_pool2d(grey, (_SIDE, _SIDE + 1))[:, 0]
        bits.append((small[:, :, 1:] > small[:, :, :-1]).flatten(1))
    return torch.cat(bits).float() * 2 - 1


def close_pairs(hashes: torch.Tensor, distance: int) -> Iterator[tuple[int, int]]:
    """Pairs (i < j) of hashes that differ in at most `distance` bits, compared block by block."""
    agreement = hashes.shape[1] - 2 * distance
    for start in range(0, len(hashes), _BLOCK):
        close = hashes[start : start + _BLOCK] @ hashes[start:].T >= agreement
        for first, second in close.nonzero().tolist():
            if first < second:
                yield start + first, start + second
