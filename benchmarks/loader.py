"""Photos a second that loading can give against those that the network can take.

    python -m benchmarks.loader --data stanford_cars

Both are run in turn in one process on the same cores: the loader of training with nothing but its
augmentation, and the network's forward and backward pass on a batch that is in memory already. A
ratio above 1 means that training never waits for photos. Written to benchmarks/loader.json.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from space.checkpoints import write_json
from space.pytorch import normalize
from trainer.data.cache import CachedPhotos, collate
from trainer.data.options import add_cache_options, add_data_options, cache_of, columns_of
from trainer.data.sources import read_sources
from trainer.heap import keep_freed_memory
from trainer.provenance import git_revision
from trainer.training.augment import Augment
from trainer.training.settings import AugmentationSettings

RESULT = Path(__file__).with_name("loader.json")
BATCH, PHOTOS, ROUNDS = 64, 1024, 5
CASES = (("tf_efficientnet_lite0", 160), ("tf_efficientnet_lite1", 224), ("resnet50", 224))


def main() -> None:
    """Measures every case and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_options(parser)
    add_cache_options(parser)
    options = parser.parse_args()
    keep_freed_memory()
    cache = cache_of(options)
    readers = [r for s in read_sources(options.data, columns_of(options)) for r in s.readers()]
    entries = cache.add(readers[:PHOTOS], "caching")
    photos = CachedPhotos(cache, [entry for entry in entries if not entry.error], [0] * PHOTOS)
    found = []
    for name, size in CASES:
        model = timm.create_model(name, num_classes=196).to(memory_format=torch.channels_last)
        loads, learns = [], []
        for _ in range(ROUNDS + 1):
            loads.append(rate(partial(load, photos, size, model)))
            learns.append(rate(partial(learn, size, model)))
        # The first round warms up.
        load_rate, learn_rate = statistics.median(loads[1:]), statistics.median(learns[1:])
        found.append({
            "network": name,
            "size": size,
            "loader_photos_per_second": load_rate,
            "network_photos_per_second": learn_rate,
            "ratio": load_rate / learn_rate,
        })  # fmt: skip
        print(found[-1], flush=True)
    write_json(
        RESULT,
        {
            "threads": torch.get_num_threads(),
            "rounds": ROUNDS,
            "git_revision": git_revision(),
            "cases": found,
        },
    )


def rate(work: Callable[[], int]) -> float:
    """Photos a second of something that returns how many photos it worked on."""
    started = time.perf_counter()
    return work() / (time.perf_counter() - started)


def load(photos: CachedPhotos, size: int, model: Any) -> int:
    """One pass of the training loader and its augmentation."""
    augment = Augment(AugmentationSettings())
    count = 0
    loader = DataLoader(photos, BATCH, shuffle=True, drop_last=True, collate_fn=collate)
    for pixels, boxes, _ in loader:
        normalize(augment(pixels, boxes, size), model.pretrained_cfg)
        count += len(pixels)
    return count


def learn(size: int, model: Any, batches: int = 2) -> int:
    """Forward and backward passes on a batch that is in memory."""
    inputs = torch.randn(BATCH, 3, size, size).contiguous(memory_format=torch.channels_last)
    targets = torch.zeros(BATCH, dtype=torch.long)
    for _ in range(batches):
        F.cross_entropy(model(inputs), targets).backward()
        model.zero_grad()
    return batches * BATCH


if __name__ == "__main__":
    main()
