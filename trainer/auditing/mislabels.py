"""Finds labels that are likely wrong, by confident learning.

A linear classifier on features of an ImageNet network says what each photo shows, trained each
time on other photos than those it judges; copies of a photo count as the photo itself. cleanlab
(Northcutt et al. 2021, arXiv:1911.00068) finds the labels that contradict it. Cars of neighboring
models look alike to so coarse a classifier, so only its clear contradictions are told.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cleanlab.filter import find_label_issues
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from tqdm import tqdm

FOLDS = 5
MIN_LIKELY = 0.5  # the probability from which another class is a clear contradiction
MAX_GIVEN = 0.05  # and the one up to which the given class is
_COMPONENTS = 256  # of the features, enough for a classifier this coarse
_C = 10.0  # the inverse strength of its regularisation
_ITERATIONS = 200


@dataclass(frozen=True)
class Suspect:
    """A photo whose label is likely wrong.

    Attributes:
        photo: its number.
        likely: the number of the class that it looks like.
        confidence: the probability of that class, 0 to 1.
        given: the probability of the class that it is labeled, 0 to 1.
    """

    photo: int
    likely: int
    confidence: float
    given: float


def suspect_labels(
    features: np.ndarray, targets: Sequence[int], groups: Sequence[str], seed: int = 0
) -> list[Suspect]:
    """The photos whose labels are likely wrong, the most suspect first.

    Args:
        features: of each photo, shape (photos, channels).
        targets: the class number of each photo.
        groups: photos with the same group are the same photo.
        seed: of the folds.
    """
    numbers, labels = np.unique(np.asarray(targets), return_inverse=True)
    sizes = [len(set(np.asarray(groups)[labels == label])) for label in range(len(numbers))]
    # A class must be learned from some folds to be judged in another.
    judged = np.flatnonzero(np.asarray(sizes)[labels] >= FOLDS)
    if len(set(labels[judged])) < 2:
        return []
    numbers = numbers[np.unique(labels[judged])]
    labels = np.unique(labels[judged], return_inverse=True)[1]
    found = out_of_fold(features[judged], labels, np.asarray(groups)[judged], seed)
    clear = (found.max(axis=1) >= MIN_LIKELY) & (found[np.arange(len(labels)), labels] <= MAX_GIVEN)
    issues = find_label_issues(
        labels, found, return_indices_ranked_by="normalized_margin", filter_by="both", n_jobs=1
    )
    return [
        Suspect(
            int(judged[index]),
            int(numbers[found[index].argmax()]),
            float(found[index].max()),
            float(found[index, labels[index]]),
        )
        for index in issues.tolist()
        if clear[index]
    ]


def out_of_fold(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int
) -> np.ndarray:
    """Class probabilities of every photo, from a classifier that has seen no copy of it.

    Copies of one photo share the mean of theirs: what is hard to see in one may show in another.

    Args:
        features: shape (photos, channels).
        labels: 0 to classes - 1, shape (photos,).
        groups: shape (photos,).

    Returns:
        Shape (photos, classes).
    """
    found = np.zeros((len(labels), labels.max() + 1))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for train, test in tqdm(
        folds.split(features, labels, groups), total=FOLDS, desc="judging labels", unit="fold"
    ):
        components = min(_COMPONENTS, len(train), features.shape[1])
        classifier = make_pipeline(
            Normalizer(),
            PCA(components, svd_solver="randomized", random_state=seed),
            LogisticRegression(C=_C, max_iter=_ITERATIONS),
        )
        classifier.fit(features[train].astype(np.float32), labels[train])
        found[np.ix_(test, classifier.classes_)] = classifier.predict_proba(
            features[test].astype(np.float32)
        )
    numbers = np.unique(groups, return_inverse=True)[1]
    sums = np.zeros((numbers.max() + 1, found.shape[1]))
    np.add.at(sums, numbers, found)
    return (sums / np.bincount(numbers)[:, None])[numbers]
