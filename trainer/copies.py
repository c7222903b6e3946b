"""Finds photos that are the same photo, so that no split can part them.

Two kinds of sameness:

- Near copies: resized, recompressed, brightened. Each photo gets a difference hash of 256 bits (is
  a patch brighter than its right neighbour?, after N. Krawetz's dHash); hashes of copies differ in
  few bits. What the hash proposes is held against small pictures of both, where neither is black:
  a black background makes the hashes of unlike photos alike.
- Blacked-out siblings: the same photo with its background painted black. A photo with much black is
  compared with every other one, only where it is not black. On Algerian Used Cars the differences
  of true pairs end near 15 grey levels and those of other photos begin near 30.

Both compare all pairs, as products of blocks of a few hundred photos, so time grows with the square
of the photos' number and memory only with the number itself: 3.4 kB a photo.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from trainer.splits import Photo

MAX_DISTANCE = 28  # bits of 256 in which copies may differ
MIN_CORRELATION = 0.9  # of the small pictures of copies
MAX_DIFFERENCE = 16.0  # grey levels, root mean square, by which siblings may differ

_HASH_SIDE = 16
_SIDE = 28  # of the small pictures in which siblings are compared
_BLACK = 12  # a pixel with no channel above this is black
_MIN_BLACK = 0.1  # the share of black pixels from which a background may have been painted out
_MIN_SEEN = 20  # cells of the small picture that a comparison must rest on
_BLOCK = 512


@dataclass(frozen=True)
class Descriptors:
    """What photos are compared by.

    Attributes:
        hashes: -1 or 1, int8, shape (photos, 256).
        small: the photo at 28x28, uint8, shape (photos, 3 * 784).
        seen: which cells of it hold no black pixel, bool, shape (photos, 784).
        black: the share of the photo's pixels that are black, float32, shape (photos,).
    """

    hashes: torch.Tensor
    small: torch.Tensor
    seen: torch.Tensor
    black: torch.Tensor

    @classmethod
    def of(cls, pixels: np.ndarray, rows: Sequence[int]) -> "Descriptors":
        """Describes photos given as uint8 pixels of shape (rows, 3, height, width)."""
        parts: list[tuple[torch.Tensor, ...]] = []
        for start in range(0, len(rows), _BLOCK):
            block = torch.from_numpy(pixels[np.asarray(rows[start : start + _BLOCK])]).float()
            grey = F.adaptive_avg_pool2d(
                block.mean(dim=1, keepdim=True), (_HASH_SIDE, _HASH_SIDE + 1)
            )[:, 0]
            black = (block.amax(dim=1, keepdim=True) <= _BLACK).float()
            cells = F.adaptive_avg_pool2d(black, _SIDE).flatten(1)
            parts.append(
                (
                    (grey[:, :, 1:] > grey[:, :, :-1]).flatten(1).to(torch.int8) * 2 - 1,
                    F.adaptive_avg_pool2d(block, _SIDE).flatten(1).round().to(torch.uint8),
                    cells < 0.02,
                    cells.mean(dim=1),
                )
            )
        return cls(*(torch.cat(column) for column in zip(*parts, strict=True)))


def near_copies(descriptors: Descriptors) -> Iterator[tuple[int, int]]:
    """Pairs (i < j) of photos with like hashes and like small pictures."""
    hashes = descriptors.hashes
    agreement = hashes.shape[1] - 2 * MAX_DISTANCE
    for start in range(0, len(hashes), _BLOCK):
        rows = hashes[start : start + _BLOCK].float()
        for other in range(start, len(hashes), _BLOCK):
            close = rows @ hashes[other : other + _BLOCK].float().T >= agreement
            for first, second in close.nonzero().tolist():
                if start + first < other + second and (
                    _correlation(descriptors, start + first, other + second) >= MIN_CORRELATION
                ):
                    yield start + first, other + second


def _correlation(descriptors: Descriptors, first: int, second: int) -> float:
    """How alike two small pictures are where both are seen: 1 when one only is brighter."""
    seen = (descriptors.seen[first] & descriptors.seen[second]).repeat(3)
    if seen.sum() < 3 * _MIN_SEEN:
        return 0.0
    pair = torch.stack([descriptors.small[first][seen], descriptors.small[second][seen]]).float()
    return float(torch.corrcoef(pair)[0, 1].nan_to_num(1.0))


def blacked_out_siblings(descriptors: Descriptors) -> Iterator[tuple[int, int]]:
    """Pairs (sibling, original): the second shows, where the first is not black, the same."""
    candidates = (
        (descriptors.black > _MIN_BLACK) & (descriptors.seen.sum(dim=1) >= _MIN_SEEN)
    ).nonzero()[:, 0]
    for start in range(0, len(candidates), _BLOCK):
        chosen = candidates[start : start + _BLOCK]
        weight = descriptors.seen[chosen].float().repeat(1, 3)
        values = descriptors.small[chosen].float() * weight
        count = weight.sum(dim=1)
        for other in range(0, len(descriptors.small), _BLOCK):
            pictures = descriptors.small[other : other + _BLOCK].float()
            # The sum over seen cells of (a - b)², multiplied out into two products of matrices.
            squares = weight @ (pictures**2).T - 2 * values @ pictures.T
            squares += (values**2).sum(dim=1, keepdim=True)
            same = squares <= (MAX_DIFFERENCE**2 * count)[:, None]
            # An original shows more than its sibling does.
            fuller = (
                descriptors.black[other : other + _BLOCK][None, :]
                < descriptors.black[chosen][:, None]
            )
            for first, second in (same & fuller).nonzero().tolist():
                yield int(chosen[first]), other + second


def group_copies(photos: Sequence[Photo], pixels: np.ndarray, rows: Sequence[int]) -> list[Photo]:
    """Names each photo's group after the smallest content key among its copies and siblings.

    Args:
        photos: any groups they have are replaced.
        pixels: uint8, shape (rows, 3, height, width).
        rows: where each photo's pixels are.
    """
    descriptors = Descriptors.of(pixels, rows)
    parent = list(range(len(photos)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = index = parent[parent[index]]
        return index

    for pairs in (near_copies(descriptors), blacked_out_siblings(descriptors)):
        for first, second in pairs:
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
