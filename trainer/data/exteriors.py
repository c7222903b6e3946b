"""Finds photos that show no car from outside: keys, seats, tires, placeholders.

An ImageNet network looks at every photo. Two things about it count:

- its car score: the summed probability of the network's car classes, the higher one of the whole
  photo and of its middle, because a car may stand small in a large frame;
- its similarity to its neighbors: the mean cosine between its features and those of the ten photos
  of the dataset that are most like it, copies of itself aside. Car interiors score as cars, but are
  unlike the rest of a dataset of exteriors.

Both limits were set on Algerian Used Cars, where `docs/AUDIT.md` says what they find and miss.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from timm.data import ImageNetInfo
from tqdm import tqdm

from space.pytorch import normalize
from trainer.data.splits import Photo
from trainer.heap import keep_freed_memory
from trainer.weights import imagenet_classifier

NETWORK = "tf_efficientnet_lite0"
MIN_CAR = 0.2  # a photo whose car score is lower shows no exterior, whatever its neighbors
MAX_CAR = 0.6  # one with a higher score does, whatever its neighbors
MIN_SIMILARITY = 0.62  # in between, one less similar to its neighbors shows none

# ImageNet's cars, vans and trucks, and the grille that they show when they come near.
CAR_CLASSES = (
    407,  # ambulance
    436,  # beach wagon
    468,  # cab
    511,  # convertible
    581,  # grille
    609,  # jeep
    627,  # limousine
    654,  # minibus
    656,  # minivan
    661,  # Model T
    675,  # moving van
    717,  # pickup
    734,  # police van
    751,  # racer
    757,  # recreational vehicle
    817,  # sports car
    864,  # tow truck
)

_SIDE = 224
_MIDDLE = 0.8  # of each side
_BATCH = 32
_NEIGHBOURS = 10
# Enough photos to find neighbors among; more would let time grow with the square of their number.
_REFERENCES = 20_000
_FEW = 100  # photos; among fewer, there are no neighbors to tell


@dataclass(frozen=True)
class ExteriorScores:
    """What the network saw in each photo.

    Attributes:
        car: the car score of each photo, the best of its group, float32, shape (photos,).
        neighbor_similarity: likewise, -1 to 1; 1 in datasets too small to tell.
        seen: the class that the network finds most likely, in words.
        features: its features before the head, float16, shape (photos, channels).
    """

    car: np.ndarray
    neighbor_similarity: np.ndarray
    seen: list[str]
    features: np.ndarray

    @property
    def no_exterior(self) -> np.ndarray:
        """Which photos show no car from outside, bool, shape (photos,)."""
        lonely = (self.car < MAX_CAR) & (self.neighbor_similarity < MIN_SIMILARITY)
        return (self.car < MIN_CAR) | lonely

    def excluding(self, photos: Sequence[Photo]) -> list[Photo]:
        """The photos, those that show no exterior with a reason to be excluded."""
        return [
            replace(photo, reason=f"no car from outside: it looks like a {seen}")
            if outside
            else photo
            for photo, seen, outside in zip(photos, self.seen, self.no_exterior, strict=True)
        ]


def score_exteriors(
    photos: Sequence[Photo], pixels: np.ndarray, rows: Sequence[int]
) -> ExteriorScores:
    """Scores every photo.

    Args:
        photos: with their groups; a photo whose copy shows a car from outside does so too.
        pixels: uint8, shape (rows, 3, height, width).
        rows: where each photo's pixels are.

    Raises:
        MarqueError: the ImageNet weights of `NETWORK` cannot be had.
    """
    keep_freed_memory()
    model, _ = imagenet_classifier(NETWORK)
    model = model.to(memory_format=torch.channels_last)
    probabilities, features = _look(model, pixels, rows)
    car = probabilities[:, CAR_CLASSES].sum(axis=1)
    doubtful = np.flatnonzero(car < MAX_CAR)
    if len(doubtful):
        middle, _ = _look(model, pixels, [rows[index] for index in doubtful.tolist()], _MIDDLE)
        np.maximum.at(car, doubtful, middle[:, CAR_CLASSES].sum(axis=1))
    groups = np.unique([photo.group for photo in photos], return_inverse=True)[1]
    car = _best_of_group(car, groups)
    neighbor_similarity = np.ones(len(photos), np.float32)
    doubtful = np.flatnonzero(car < MAX_CAR)
    if len(photos) >= _FEW and len(doubtful):
        neighbor_similarity[doubtful] = _neighbor_similarity(features, doubtful, groups)
        neighbor_similarity = _best_of_group(neighbor_similarity, groups, only=doubtful)
    info = ImageNetInfo()
    names = [info.index_to_description(index) for index in probabilities.argmax(axis=1).tolist()]
    seen = [name.split(",")[0] for name in names]
    return ExteriorScores(car, neighbor_similarity, seen, features)


@torch.inference_mode()
def _look(
    model, pixels: np.ndarray, rows: Sequence[int], part: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Class probabilities and features of the middle `part` of each photo."""
    height, width = pixels.shape[2:]
    top, left = round(height * (1 - part) / 2), round(width * (1 - part) / 2)
    probabilities, features = [], []
    starts = range(0, len(rows), _BATCH)
    for start in tqdm(starts, desc="looking for cars", unit="batch", delay=1):
        block = torch.from_numpy(pixels[np.asarray(rows[start : start + _BATCH])]).float()
        block = block[:, :, top : height - top, left : width - left]
        block = F.interpolate(block, (_SIDE, _SIDE), mode="bilinear", antialias=True)
        inputs = normalize(block, model.pretrained_cfg).contiguous(
            memory_format=torch.channels_last
        )
        found = model.forward_head(model.forward_features(inputs), pre_logits=True)
        features.append(found.half().numpy())
        probabilities.append(model.get_classifier()(found).softmax(dim=1).numpy())
    return np.concatenate(probabilities), np.concatenate(features)


def _neighbor_similarity(features: np.ndarray, asked: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The mean cosine of each asked photo to its nearest photos of other groups."""
    step = max(1, len(features) // _REFERENCES)
    references = np.arange(0, len(features), step)
    there = F.normalize(torch.from_numpy(features[references]).float())
    result = np.empty(len(asked), np.float32)
    for start in range(0, len(asked), _BATCH):
        block = asked[start : start + _BATCH]
        cosines = F.normalize(torch.from_numpy(features[block]).float()) @ there.T
        cosines[torch.from_numpy(groups[block][:, None] == groups[references][None, :])] = -1
        nearest = cosines.topk(min(_NEIGHBOURS, len(references)), dim=1).values
        result[start : start + _BATCH] = nearest.mean(dim=1).numpy()
    return result


def _best_of_group(
    values: np.ndarray, groups: np.ndarray, only: np.ndarray | None = None
) -> np.ndarray:
    """Each value replaced by the highest one in its group, among those photos that count."""
    chosen = np.arange(len(values)) if only is None else only
    best = np.full(groups.max() + 1, -np.inf, np.float32)
    np.maximum.at(best, groups[chosen], values[chosen])
    result = values.astype(np.float32)
    result[chosen] = best[groups[chosen]]
    return result
