"""What a checkpoint remembers of photos that it was not trained on: memory.safetensors.

Held-out logits let a smaller catalogue be calibrated when it is asked for (`space.catalogue`), and
features let classes be added and removed without the photos of the others (`trainer.extend`,
`trainer.forget`). `python -m trainer.evaluate` writes the file. It holds no pixels, and no photo
can be got back from it: docs/CATALOGUE.md says how that was checked.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from space.checkpoints import MEMORY, WEIGHTS, file_hash
from space.errors import CheckpointError


@dataclass(frozen=True)
class Memory:
    """Held-out photos as the network sees them, and how the features of training photos spread.

    Attributes:
        logits: of held-out photos, float32, shape (photos, classes).
        features: what the classifier takes, of the same, float32, shape (photos, channels).
        targets: the numbers of their classes, int64, shape (photos,).
        groups: numbers; photos of one group are the same photo, int64, shape (photos,).
        sources: the dataset of each, shape (photos,), text.
        means: of the features of each class's training photos, float32, shape (classes, channels).
        counts: how many photos each mean is of, int64, shape (classes,).
        factor: float32, shape (channels, rank), and
        rest: float32, shape (channels,): the covariance of features within a class is about
            factor @ factor.T + diag(rest).
        markets: the classes that each dataset has photos of, by its name.
    """

    logits: np.ndarray
    features: np.ndarray
    targets: np.ndarray
    groups: np.ndarray
    sources: np.ndarray
    means: np.ndarray
    counts: np.ndarray
    factor: np.ndarray
    rest: np.ndarray
    markets: dict[str, list[int]]

    def draw(self, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Features as the training photos of each class have them, drawn from what is remembered.

        Returns:
            float32, shape (classes * per_class, channels), and their classes.
        """
        rng = np.random.default_rng(seed)
        targets = np.repeat(np.arange(len(self.means)), per_class)
        noise = rng.standard_normal((len(targets), self.factor.shape[1])) @ self.factor.T
        noise += rng.standard_normal((len(targets), len(self.rest))) * np.sqrt(self.rest)
        return (self.means[targets] + noise).astype(np.float32), targets

    def save(self, folder: Path) -> None:
        """Writes it into a checkpoint folder, for the weights that lie there."""
        names = sorted(set(self.sources.tolist()))
        half = {
            # safetensors writes bytes as they lie: columns first would come back as other numbers.
            name: np.ascontiguousarray(getattr(self, name).astype(np.float16))
            for name in ("logits", "features", "means", "factor", "rest")
        }
        save_file(
            half
            | {
                "targets": self.targets.astype(np.int32),
                "groups": self.groups.astype(np.int32),
                "sources": np.array([names.index(name) for name in self.sources], np.int32),
                "counts": self.counts.astype(np.int32),
            },
            folder / MEMORY,
            # One entry: the order of several differs from file to file.
            metadata={
                "marque": json.dumps(
                    {
                        "weights_sha256": file_hash(folder / WEIGHTS),
                        "sources": names,
                        "markets": self.markets,
                    }
                )
            },
        )


def read_memory(folder: Path) -> Memory | None:
    """The memory of a checkpoint folder; None when it has none.

    Raises:
        CheckpointError: the file is damaged, or belongs to other weights.
    """
    path = folder / MEMORY
    if not path.is_file():
        return None
    try:
        with safe_open(path, "np") as file:
            told = json.loads((file.metadata() or {})["marque"])
        names = told["sources"]
        tensors = load_file(path)
        memory = Memory(
            **{
                name: tensors[name].astype(np.float32)
                for name in ("logits", "features", "means", "factor", "rest")
            },
            **{name: tensors[name].astype(np.int64) for name in ("targets", "groups", "counts")},
            sources=np.array([names[number] for number in tensors["sources"]], dtype=str),
            markets={str(n): [int(k) for k in ks] for n, ks in told["markets"].items()},
        )
        _check(memory)
    except (SafetensorError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}); write it again with `python -m trainer.evaluate`"
        ) from None
    if told.get("weights_sha256") != file_hash(folder / WEIGHTS):
        raise CheckpointError(
            f"{path} belongs to other weights than {WEIGHTS} beside it; write it again with "
            "`python -m trainer.evaluate`, or remove it"
        )
    return memory


def _check(memory: Memory) -> None:
    photos, classes = memory.logits.shape
    channels = memory.means.shape[1]
    wanted = {
        "features": (photos, channels),
        "targets": (photos,),
        "groups": (photos,),
        "sources": (photos,),
        "means": (classes, channels),
        "counts": (classes,),
        "rest": (channels,),
    }
    for name, shape in wanted.items():
        if getattr(memory, name).shape != shape:
            raise ValueError(f"{name} should have the shape {shape}")
    if memory.factor.shape[0] != channels or memory.factor.ndim != 2:
        raise ValueError("factor should have a row per channel")
    if photos and not 0 <= memory.targets.min() <= memory.targets.max() < classes:
        raise ValueError("a target is none of the classes")
    numbers = [number for some in memory.markets.values() for number in some]
    if any(not 0 <= number < classes for number in numbers):
        raise ValueError("a market has a class that there is not")
    if not all(np.isfinite(getattr(memory, n)).all() for n in ("logits", "features", "means")):
        raise ValueError("a number is not finite")
