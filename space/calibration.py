"""What a checkpoint knows about its own answers: calibration.json, measured on validation photos.

temperature   divides the logits (Guo et al. 2017, arXiv:1706.04599)
confidence    for each level the map from the summed probability of the best make, model or
              class to how often it is right (Kull et al. 2017, beta calibration)
thresholds    for each target precision and level the confidence from which it was reached
plausible     for each coverage the least probability of a class in the set (Sadinle et al.
              2019, arXiv:1609.00451)
known         the least logit of the best class with which a car counts as one of the classes, for
              checkpoints without a gate
familiar      the least logit of the best class with which an answer may be tagged: below it, it may
              be a car of no known class
gate          the least probability of "car" in `space.gate`
files         the SHA-256 of every other file that takes part in answers
fusion        how several photos of one car are put together, see `space.fusion`
agrees        the least confidence with which a photo bears out what a seller says, and
contradicts   the greatest with which it refutes it, see `space.claims`
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from space.answers import LEVELS
from space.checkpoints import CALIBRATION, SEALED, WEIGHTS, file_hash
from space.errors import CheckpointError
from space.schema import read_json

_LARGEST = 1e6  # of any parameter


@dataclass(frozen=True)
class ConfidenceMap:
    """sigmoid(a·ln p − b·ln(1 − p) + c); a = b = 1 and c = 0 changes nothing.

    Attributes:
        a, b: at least 0, so that it rises in p.
        c: any number.
    """

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    def __post_init__(self):
        if _number(self.a) < 0 or _number(self.b) < 0:
            raise ValueError("a confidence map must rise: a and b are at least 0")
        if max(abs(_number(value)) for value in (self.a, self.b, self.c)) > _LARGEST:
            raise ValueError(f"a confidence map has numbers up to {_LARGEST:g}")

    def __call__(self, probability: np.ndarray) -> np.ndarray:
        """Probabilities of any shape, 0 to 1, to probabilities of being right."""
        if (self.a, self.b, self.c) == (1, 1, 0):
            return probability
        p = np.clip(probability.astype(np.float64), 1e-12, 1 - 1e-12)
        logit = self.a * np.log(p) - self.b * np.log1p(-p) + self.c
        return sigmoid(logit).astype(probability.dtype)


@dataclass(frozen=True)
class Calibration:
    """See the module. Every share and confidence is 0 to 1.

    Attributes:
        temperature: above 0.
        confidence: level to its map.
        thresholds: target precision, such as "0.98", to level to threshold; None where validation
            photos never reach the target.
        plausible: coverage, such as "0.95", to least probability.
        known: least logit of the best class; None when nothing is rejected for it.
        familiar: least logit of the best class; None when nothing is left untagged for it.
        gate: least probability of "car"; None when the checkpoint has no gate.
        fusion: 0 to 1.
        agrees, contradicts: None when neither is ever sure enough.
    """

    temperature: float
    confidence: Mapping[str, ConfidenceMap]
    thresholds: Mapping[str, Mapping[str, float | None]]
    plausible: Mapping[str, float]
    known: float | None = None
    familiar: float | None = None
    gate: float | None = None
    fusion: float = 0.0
    agrees: float | None = None
    contradicts: float | None = None

    def __post_init__(self):
        if not 1 / _LARGEST < _number(self.temperature) < _LARGEST:
            raise ValueError("the temperature must be above 0, and no more than it ever is")
        thresholds = [value for levels in self.thresholds.values() for value in levels.values()]
        shares = [*thresholds, *self.plausible.values(), self.gate, self.fusion]
        for value in (*shares, self.agrees, self.contradicts):
            if value is not None and not 0 <= _number(value) <= 1:
                raise ValueError(f"{value!r} is not a share from 0 to 1")
        for name in (*self.thresholds, *self.plausible):
            if not 0 < float(name) < 1:
                raise ValueError(f"{name!r} is not a share between 0 and 1")
        for logit in (self.known, self.familiar):
            if logit is not None:
                _number(logit)

    def as_json(self) -> dict[str, Any]:
        """What `read_calibration` reads, but for `weights_sha256`: the hash of the weights."""
        return asdict(self)


def sigmoid(values: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1, small) / (1 + small)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Of each row, in float64; shape (photos, classes)."""
    raised = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """The logarithm of `softmax`, without its underflow; shape (photos, classes)."""
    below = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return below - np.log(np.exp(below).sum(axis=1, keepdims=True))


def read_calibration(folder: Path) -> Calibration | None:
    """The calibration of a checkpoint folder, or None when it has none.

    Raises:
        CheckpointError: the file is damaged, or was measured with other weights.
    """
    path = folder / CALIBRATION
    if not path.is_file():
        return None
    try:
        content = read_json(path)
        weights = content["weights_sha256"]
        files = {name: content.get("files", {}).get(name) for name in SEALED}
        files = {name: digest for name, digest in files.items() if digest is not None}
        calibration = Calibration(
            temperature=content["temperature"],
            confidence={level: ConfidenceMap(**content["confidence"][level]) for level in LEVELS},
            thresholds={
                target: {level: levels[level] for level in LEVELS}
                for target, levels in content["thresholds"].items()
            },
            plausible={name: _number(value) for name, value in content["plausible"].items()},
            known=content["known"],
            gate=content["gate"],
            # Checkpoints from before these were measured have none of them.
            familiar=content.get("familiar"),
            fusion=content.get("fusion", 0.0),
            agrees=content.get("agrees"),
            contradicts=content.get("contradicts"),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise CheckpointError(
            f"{path} is damaged ({type(error).__name__}: {error}); "
            "write it again with `python -m trainer.evaluate`"
        ) from None
    for name, digest in files.items():
        # Without its graph or its memory a checkpoint answers all the same; with others, otherwise.
        if (folder / name).is_file() and digest != file_hash(folder / name):
            raise CheckpointError(
                f"{folder / name} is not the one that {path.name} was written with; write it again "
                "with `python -m trainer.export` or `python -m trainer.evaluate`"
            )
    if weights != file_hash(folder / WEIGHTS):
        raise CheckpointError(
            f"{path} was measured with other weights than {WEIGHTS} beside it; "
            "measure again with `python -m trainer.evaluate`, or remove it"
        )
    return calibration


def fit_plausible(
    probabilities: np.ndarray, targets: np.ndarray, coverages: Sequence[float]
) -> dict[str, float]:
    """For each coverage the least probability of a class in the conformal set.

    Split conformal prediction with the score 1 - p (Sadinle et al. 2019, arXiv:1609.00451). Of
    photos from where these came from, at least the coverage has its class in the set.

    Args:
        probabilities: shape (photos, classes).
        targets: shape (photos,).
        coverages: below 1.
    """
    scores = np.sort(1 - probabilities[np.arange(len(targets)), targets])
    least = {}
    for coverage in coverages:
        # The order statistic that leaves room for one more photo; with too few photos there is
        # none, and every class is plausible.
        rank = math.ceil(coverage * (len(scores) + 1))
        least[f"{coverage:g}"] = 1 - float(scores[rank - 1]) if rank <= len(scores) else 0.0
    return least


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return value
