"""Labels that are likely wrong: planted ones are found, and copies do not vouch for themselves."""

import numpy as np

from trainer.auditing.mislabels import FOLDS, out_of_fold, suspect_labels


def clusters(classes: int, each: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of classes that differ clearly, and their labels."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, 32)) * 3
    labels = np.repeat(np.arange(classes), each)
    return centres[labels] + random.normal(size=(len(labels), 32)), labels


def test_planted_wrong_labels_are_found_and_nothing_else():
    features, labels = clusters(4, 50)
    wrong = {3: 1, 60: 3, 110: 0}
    targets = labels.copy()
    for index, label in wrong.items():
        targets[index] = label
    # Class numbers need not follow each other.
    suspects = suspect_labels(features, (targets * 10).tolist(), [str(n) for n in range(200)])
    assert {suspect.photo for suspect in suspects} == set(wrong)
    for suspect in suspects:
        assert suspect.likely == labels[suspect.photo] * 10
        assert suspect.confidence > 0.5 > suspect.given


def test_a_copy_does_not_vouch_for_a_wrong_label():
    features, labels = clusters(3, 40)
    features = np.concatenate([features, features[:1], features[:1]])
    targets = np.concatenate([labels, [0, 0]])
    targets[[0, 120, 121]] = 2  # three copies, all under one wrong label
    groups = [str(n) for n in range(120)] + ["0", "0"]
    suspects = suspect_labels(features, targets.tolist(), groups)
    assert {suspect.photo for suspect in suspects} == {0, 120, 121}


def test_copies_share_one_judgement():
    features, labels = clusters(3, 40)
    groups = np.array([str(n // 2) for n in range(120)])
    found = out_of_fold(features, labels, groups, seed=0)
    assert np.allclose(found[0::2], found[1::2])
    assert np.allclose(found.sum(axis=1), 1)


def test_classes_too_small_to_judge_are_left_alone():
    features, labels = clusters(3, FOLDS)
    targets = labels.copy()
    targets[-1] = 0  # the last class keeps too few
    suspects = suspect_labels(features, targets.tolist(), [str(n) for n in range(3 * FOLDS)])
    assert not {suspect.photo for suspect in suspects} & {10, 11, 12, 13}
    one = suspect_labels(features[:FOLDS], [0] * FOLDS, [str(n) for n in range(FOLDS)])
    assert one == []
