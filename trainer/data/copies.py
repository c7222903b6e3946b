"""Finds photos that are the same photo, so that no split can part them.

Two kinds of sameness:

- Near copies: resized, recompressed, brightened. Each photo gets a difference hash of 256 bits (is
  a patch brighter than its right neighbor?, after N. Krawetz's dHash); hashes of copies differ in
  few bits. What the hash proposes is held against small pictures of both, where neither is black:
  a black background makes the hashes of unlike photos alike.
- Blacked-out siblings: the same photo with its background painted black. A photo with much black is
  compared with every other one, only where it is not black. On Algerian Used Cars the differences
  of true pairs end near 15 grey levels and those of other photos begin near 30.

Both compare all pairs, as products of blocks of a few hundred photos, so time grows with the square
of the photos' number and memory only with the number itself: 3.4 kB a photo.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

MAX_DISTANCE = 28  # bits of 256 in which copies may differ
MIN_CORRELATION = 0.9  # of the small pictures of copies
MAX_DIFFERENCE = 16.0  # grey levels, root mean square, by which siblings may differ

_HASH_SIDE = 16
_SIDE = 28  # of the small pictures in which siblings are compared
BLACK = 12  # a pixel with no channel above this is black
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
            black = (block.amax(dim=1, keepdim=True) <= BLACK).float()
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


def near_copies(descriptors: Descriptors) -> Iterator[tuple[int, int, float]]:
    """Pairs (i < j) of photos with like hashes and like small pictures, and their correlation."""
    hashes = descriptors.hashes
    agreement = hashes.shape[1] - 2 * MAX_DISTANCE
    for start in range(0, len(hashes), _BLOCK):
        rows = hashes[start : start + _BLOCK].float()
        for other in range(start, len(hashes), _BLOCK):
            close = rows @ hashes[other : other + _BLOCK].float().T >= agreement
            for first, second in close.nonzero().tolist():
                if start + first >= other + second:
                    continue
                correlation = _correlation(descriptors, start + first, other + second)
                if correlation >= MIN_CORRELATION:
                    yield start + first, other + second, correlation


def _correlation(descriptors: Descriptors, first: int, second: int) -> float:
    """How alike two small pictures are where both are seen: 1 when one only is brighter."""
    seen = (descriptors.seen[first] & descriptors.seen[second]).repeat(3)
    if seen.sum() < 3 * _MIN_SEEN:
        return 0.0
    pair = torch.stack([descriptors.small[first][seen], descriptors.small[second][seen]]).float()
    return float(torch.corrcoef(pair)[0, 1].nan_to_num(1.0))


def blacked_out_siblings(descriptors: Descriptors) -> Iterator[tuple[int, int, float]]:
    """Pairs (sibling, original): the second shows, where the first is not black, the same.

    With them comes the root mean square of their difference, in grey levels.
    """
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
                difference = (squares[first, second].clamp(min=0) / count[first]).sqrt()
                yield int(chosen[first]), other + second, float(difference)


@dataclass(frozen=True)
class Copies:
    """Which photos are the same photo, and by what.

    Attributes:
        groups: a name for each photo; copies and siblings share it. It is the start of the
            smallest content key among them.
        near: for each photo that has a near copy in another file, (photo, copy, correlation) with
            the copy most like it.
        siblings: for each blacked-out photo whose original was found, (photo, original, difference
            in grey levels) with the original most like it.
        hashes: the difference hash of each photo, in hexadecimal.
    """

    groups: list[str]
    near: list[tuple[int, int, float]]
    siblings: list[tuple[int, int, float]]
    hashes: list[str]


def find_copies(keys: Sequence[str], pixels: np.ndarray, rows: Sequence[int]) -> Copies:
    """Finds the copies and siblings among photos.

    Args:
        keys: the content key of each photo; photos with the same key are the same file.
        pixels: uint8, shape (rows, 3, height, width).
        rows: where each photo's pixels are.
    """
    # Identical files are one photo from the start: a thousand of them are not half a million pairs.
    firsts: dict[str, int] = {}
    for index, key in enumerate(keys):
        firsts.setdefault(key, index)
    chosen = list(firsts.values())
    place = {key: position for position, key in enumerate(firsts)}
    descriptors = Descriptors.of(pixels, [rows[index] for index in chosen])
    parent = list(range(len(chosen)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = index = parent[parent[index]]
        return index

    near: dict[int, tuple[int, float]] = {}
    for first, second, correlation in near_copies(descriptors):
        parent[root(first)] = root(second)
        for one, other in ((first, second), (second, first)):
            if one not in near or correlation > near[one][1]:
                near[one] = other, correlation
    siblings: dict[int, tuple[int, float]] = {}
    for first, second, difference in blacked_out_siblings(descriptors):
        parent[root(first)] = root(second)
        if first not in siblings or difference < siblings[first][1]:
            siblings[first] = second, difference
    names: dict[int, str] = {}
    for index, key in zip(range(len(chosen)), firsts, strict=True):
        names[root(index)] = min(names.get(root(index), key), key)
    bits = np.packbits(descriptors.hashes.numpy() > 0, axis=1)
    return Copies(
        [names[root(place[key])][:16] for key in keys],
        [(chosen[one], chosen[other], value) for one, (other, value) in sorted(near.items())],
        [
            (index, chosen[siblings[place[key]][0]], siblings[place[key]][1])
            for index, key in enumerate(keys)
            if place[key] in siblings
        ],
        [bits[place[key]].tobytes().hex() for key in keys],
    )
