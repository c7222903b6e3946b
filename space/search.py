"""Which part of a photo is named: the one that looks most like a car."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from space.gate import FeatureGate
from space.outputs import Outputs
from space.preprocessing import Prepared

# The gate's probability of a car from which on no other part of a photo is looked at. Chosen on
# validation photos, see docs/EXPERIMENTS.md.
PLAIN = 0.7

Infer = Callable[[Sequence[Prepared]], Outputs]


def most_like_a_car(views: Iterator[Prepared], infer: Infer, gate: FeatureGate | None) -> Prepared:
    """Looks at the views of a photo until one is plainly of a car; else takes the likeliest.

    Args:
        views: see `space.preprocessing.Preprocessor.views`.
        infer: runs the network.
        gate: says how much a view looks like a car. Without one, a car that the detector found is
            taken at its word.
    """
    first = next(views)
    nothing_else = first.cars_found is None  # no detector is asked where else a car may be
    if nothing_else or (first.box and not gate):
        return first  # the network gets it in a batch
    seen, scores = scored([first], infer, gate)
    if first.box and scores[0] >= PLAIN:
        return seen[0]
    if others := list(views):
        more, their_scores = scored(others, infer, gate)
        seen, scores = seen + more, np.concatenate([scores, their_scores])
    return seen[int(scores.argmax())]


def scored(
    views: Sequence[Prepared], infer: Infer, gate: FeatureGate | None
) -> tuple[list[Prepared], np.ndarray]:
    """Views with what the network makes of them, and how much each looks like a car, (views,)."""
    outputs = infer(views)
    # The best logit is low for photos of other things (Hendrycks et al. 2022, arXiv:1911.11132).
    scores = gate.probabilities(outputs.features)[:, 0] if gate else outputs.logits.max(axis=1)
    seen = [view._replace(outputs=one) for view, one in zip(views, outputs.each(), strict=True)]
    return seen, scores
