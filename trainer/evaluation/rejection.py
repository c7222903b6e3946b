"""The gate of a checkpoint: fitted, given its threshold, and measured.

It is a linear classifier on what the network sees anyway (`space.gate.FeatureGate`), with three
answers: a car from outside, the inside or a part of one, something else. It learns

- cars from training photos, half of them corrupted in the ways of `robustness`, or it would refuse
  a car in the dark;
- parts from crops so close that they show no more than a wheel or a lamp, and from photos that are
  known to show no exterior;
- other things from photos without cars, and from pictures drawn by code.

There are few of the last two, so all of them teach the gate that ships, mirrored and cut in on too,
and each is judged by a gate that learned nothing from it nor from copies of it, of drawings nothing
from its whole kind. Where a recognizer looks for cars in several places of a photo, the gate learns
from the first and is judged by all of them: what looks most like a car is what it lets through.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from space.gate import CAR, KINDS, OTHER, PART, FeatureGate
from space.recognizer import CarRecognizer
from trainer.data.splits import TEST, TRAIN
from trainer.data.tables import read_rows
from trainer.evaluation.drawn import drawings
from trainer.evaluation.predictions import LabeledPhoto, read_pictures
from trainer.evaluation.robustness import CORRUPTIONS

# The share of validation exteriors that may be refused.
REFUSED_SHARE = 0.004
# Photos of each dataset that teach what a car is; more teach the same.
_CARS = 900
_PARTS = 250  # of each dataset
_DRAWINGS = 200
# Lessons of which there is little.
OTHERS, NO_EXTERIORS, DRAWN = "photos of other things", "insides and parts", "drawings"
_PART_SIDES = (0.12, 0.3)  # of the photo's sides
# Inverse strength of the penalty: strong, because there are about as many channels as photos.
# A hundred times as much did as well and took three times as long.
_PENALTY = 0.001
_FOLDS = 10


@dataclass(frozen=True)
class GateData:
    """Photos of one kind, as the network sees them.

    Attributes:
        kind: one of `space.gate.KINDS`.
        name: what they are, in words.
        features: of the first view of each, float32, shape (photos, channels).
        logits: of the first view, float32, shape (photos, classes).
        groups: of each photo; judged together, by a gate that none of them taught.
        more: the features of the same photos mirrored and cut in on, in the same order as often as
            they stand there, shape (times * photos, channels).
        views: of each photo the features of all that is looked at, see
            `space.preprocessing.Preprocessor.views`; the first alone by default.
    """

    kind: str
    name: str
    features: np.ndarray
    logits: np.ndarray
    groups: tuple[str, ...]
    more: np.ndarray | None = None
    views: tuple[np.ndarray, ...] = ()

    def only(self, chosen: np.ndarray) -> "GateData":
        """The photos with these numbers."""
        groups = tuple(self.groups[number] for number in chosen)
        more = self.more
        if more is not None:
            more = more.reshape(-1, *self.features.shape)[:, chosen]
            more = more.reshape(-1, more.shape[-1])
        return replace(
            self,
            features=self.features[chosen],
            logits=self.logits[chosen],
            groups=groups,
            more=more,
            views=tuple(self.views[number] for number in chosen) if self.views else (),
        )

    def scores(self, gate: FeatureGate) -> np.ndarray:
        """The probability of a car in the view of each photo where it is highest, shape
        (photos,)."""
        views = self.views or self.features[:, None]
        return np.array([gate.probabilities(some)[:, 0].max() for some in views])

    @property
    def teaching(self) -> np.ndarray:
        """All features that the gate learns from."""
        return self.features if self.more is None else np.concatenate([self.features, self.more])


def fit_gate(samples: Sequence[GateData]) -> FeatureGate:
    """The gate fitted to samples, without a threshold yet; kinds count alike, however many."""
    taught = [sample.teaching for sample in samples]
    features = np.concatenate(taught).astype(np.float64)
    kinds = np.repeat(
        [KINDS.index(sample.kind) for sample in samples], [len(some) for some in taught]
    )
    scaler = StandardScaler().fit(features)
    found = LogisticRegression(C=_PENALTY, class_weight="balanced", max_iter=2000).fit(
        scaler.transform(features), kinds
    )
    weight = np.zeros((len(KINDS), features.shape[1]))
    bias = np.full(len(KINDS), -1e4)  # a kind that nothing taught is never the answer
    if len(found.classes_) == 2:  # scikit-learn keeps one row for two kinds
        weight[found.classes_] = np.stack([-found.coef_[0] / 2, found.coef_[0] / 2])
        bias[found.classes_] = [-found.intercept_[0] / 2, found.intercept_[0] / 2]
    else:
        weight[found.classes_], bias[found.classes_] = found.coef_, found.intercept_
    # The scaling is part of the weights.
    weight /= scaler.scale_
    bias -= weight @ scaler.mean_
    return FeatureGate(weight.astype(np.float32), bias.astype(np.float32), 0.0)


def fit_threshold(gate: FeatureGate, exteriors: np.ndarray) -> float:
    """The highest threshold that refuses at most `REFUSED_SHARE` of the exteriors.

    Of all photos together. Were the datasets to count alike, a single photo of a small one would
    decide: it is more than `REFUSED_SHARE` of them by itself.

    Args:
        exteriors: the features of validation photos, shape (photos, channels).
    """
    scores = np.sort(gate.probabilities(exteriors)[:, 0])
    return float(scores[int(REFUSED_SHARE * len(scores))])


def cars_and_parts(recognizer: CarRecognizer, photos: Sequence[LabeledPhoto]) -> list[GateData]:
    """Training photos of each dataset: plain, corrupted, and crops of them.

    Args:
        photos: of all parts of the split.
    """
    rng = random.Random(0)
    ways = list(CORRUPTIONS.values())
    samples = []
    for source in sorted({photo.source for photo in photos}):
        mine = [photo for photo in photos if photo.source == source and photo.split == TRAIN]
        chosen = rng.sample(mine, min(_CARS, len(mine)))
        for kind, name, some, change in (
            (CAR, "cars", chosen[::2], None),
            (CAR, "corrupted cars", chosen[1::2], lambda picture: rng.choice(ways)(picture)),
            (PART, "parts", chosen[:_PARTS], lambda picture: crop_of_a_part(picture, rng)),
        ):
            if not some:
                continue
            readers = [photo.read for photo in some]
            title = f"{name} of {source}"
            samples.append(gate_data(recognizer, kind, title, readers, change=change, most_views=1))
    return samples


def gate_data(
    recognizer: CarRecognizer,
    kind: str,
    name: str,
    readers: Sequence[Callable[[], bytes]],
    groups: Sequence[str] = (),
    change: Callable[[Image.Image], Image.Image] | None = None,
    most_views: int | None = None,
) -> GateData:
    """Features of photos of one kind.

    Args:
        groups: of each photo; by default each is one of its own.
        change: what is done to each photo first.
        most_views: how many of each photo are looked at; all by default. Where photos only teach
            the gate, the first is all that counts.
    """
    pictures = read_pictures(readers, name)
    named = tuple(groups) or tuple(f"{name}/{number}" for number in range(len(readers)))
    changed = map(change, pictures) if change else pictures
    return _seen(recognizer, kind, name, changed, named, most_views)


def _seen(
    recognizer: CarRecognizer,
    kind: str,
    name: str,
    pictures: Iterable[Image.Image],
    groups: tuple[str, ...],
    most_views: int | None = None,
) -> GateData:
    outputs = [
        recognizer.infer(list(islice(recognizer.preprocess.views(picture), most_views)))
        for picture in pictures
    ]
    return GateData(
        kind,
        name,
        np.stack([output.features[0] for output in outputs]),
        np.stack([output.logits[0] for output in outputs]),
        groups,
        views=tuple(output.features for output in outputs),
    )


def crop_of_a_part(picture: Image.Image, rng: random.Random) -> Image.Image:
    """A crop from the middle half of a photo, so close that no car can be told in it."""
    return _crop(
        picture, rng.uniform(*_PART_SIDES), rng.uniform(0.25, 0.75), rng.uniform(0.35, 0.75)
    )


def _crop(picture: Image.Image, share: float, right: float, down: float) -> Image.Image:
    """A share of both sides, placed from 0 (left, top) to 1 (right, bottom)."""
    width, height = (max(1, round(side * share)) for side in picture.size)
    left, top = round((picture.width - width) * right), round((picture.height - height) * down)
    return picture.crop((left, top, left + width, top + height))


def augmented(
    recognizer: CarRecognizer,
    kind: str,
    name: str,
    readers: Sequence[Callable[[], bytes]],
    groups: Sequence[str] = (),
) -> GateData:
    """A sample of few photos, which teach mirrored and cut in on as well."""
    rng = random.Random(2)

    def cut_in(picture: Image.Image) -> Image.Image:
        return _crop(picture, rng.uniform(0.5, 0.8), rng.random(), rng.random())

    ways = (lambda picture: cut_in(ImageOps.mirror(picture)), cut_in)
    found = gate_data(recognizer, kind, name, readers, groups)
    more = [
        gate_data(recognizer, kind, name, readers, change=way, most_views=1).features
        for way in ways
    ]
    return replace(found, more=np.concatenate(more))


def drawn(recognizer: CarRecognizer) -> GateData:
    """Pictures drawn by code, grouped by what they show."""
    kinds, pictures = zip(*drawings(_DRAWINGS), strict=True)
    return _seen(recognizer, OTHER, DRAWN, pictures, kinds)


def held_out_crops(recognizer: CarRecognizer, photos: Sequence[LabeledPhoto]) -> GateData:
    """What never teaches the gate: crops of test photos, too close to tell a car in them."""
    rng = random.Random(1)
    tested = [photo for photo in photos if photo.split == TEST]
    some = rng.sample(tested, min(2 * _PARTS, len(tested)))
    return gate_data(
        recognizer,
        PART,
        "close crops of test photos",
        [photo.read for photo in some],
        [photo.group for photo in some],
        lambda picture: crop_of_a_part(picture, rng),
    )


def cross_val_scores(samples: Sequence[GateData], taught: GateData) -> np.ndarray:
    """The probability of a car for photos that teach the gate, each by a gate they did not teach.

    In folds of whole groups.

    Args:
        samples: all that the gate learns from, `taught` among them.

    Returns:
        float, shape (photos,).
    """
    scores = np.zeros(len(taught.features))
    others = [sample for sample in samples if sample is not taught]
    count = min(_FOLDS, len(set(taught.groups)))
    everything = np.arange(len(scores))
    folds = (
        GroupKFold(count).split(scores, groups=taught.groups)
        if count > 1
        else [(everything[:0], everything)]
    )
    for learned, asked in folds:
        gate = fit_gate([*others, taught.only(learned)])
        scores[asked] = taught.only(asked).scores(gate)
    return scores


def judged(
    gate: FeatureGate, samples: Sequence[GateData], held_out: Sequence[GateData]
) -> list[tuple[GateData, np.ndarray]]:
    """Photos that show no car from outside, with the probability that they do, shape (photos,).

    Args:
        samples: all that taught the gate. Those of which there is little judge it too, by gates
            that they did not teach.
        held_out: what did not teach it.
    """
    augmented = [sample for sample in samples if sample.name in (OTHERS, NO_EXTERIORS, DRAWN)]
    return [(sample, cross_val_scores(samples, sample)) for sample in augmented] + [
        (sample, sample.scores(gate)) for sample in held_out
    ]


def ood_metrics(cars: np.ndarray, others: np.ndarray) -> dict[str, Any]:
    """How well a score tells two kinds apart, whatever the threshold.

    Args:
        cars, others: their scores, higher for cars.

    Returns:
        The area under the ROC curve, and the share of the others that is let through where 95% of
        the cars are.
    """
    truth = np.r_[np.ones(len(cars)), np.zeros(len(others))]
    scores = np.r_[cars, others]
    fpr, tpr, _ = roc_curve(truth, scores)
    return {
        "auroc": float(roc_auc_score(truth, scores)),
        "fpr_at_95_tpr": float(fpr[np.searchsorted(tpr, 0.95)]),
    }


def read_paths(file: Path) -> set[str]:
    """The column `photo` of a CSV.

    Raises:
        DataError: it cannot be read, or has no such column.
    """
    return {row["photo"] for row in read_rows(file, ("photo",))}
