"""How fast training is, as ratios of two things that run in turn.

    python -m benchmarks.training --data stanford_cars
    python -m benchmarks.training --data stanford_cars --only loop memory

loop       the real training loop against nothing but the network's forward and backward passes
usual      the real training loop against the one that most people write (`benchmarks.usual`)
processes  two processes of one thread each against one of two threads
memory     what loading an epoch of few and of many photos takes

Written to benchmarks/training.json, where a part replaces what an earlier run found for it.
"""

import argparse
import copy
import csv
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.loader import rate
from space.checkpoints import write_json
from space.errors import DataError
from space.walk import user_path
from trainer.data.cache import CachedPhotos, Entry, PhotoCache, collate, geometry
from trainer.data.classes import Classes, unite
from trainer.data.options import add_cache_options, add_data_options, cache_of, columns_of
from trainer.data.sources import read_sources
from trainer.heap import keep_freed_memory
from trainer.provenance import git_revision
from trainer.training.config import TrainConfig
from trainer.training.loop import Trainer
from trainer.training.run import build_accelerator
from trainer.training.sampler import EpochSampler, load_cached
from trainer.weights import RANDOM, create_model

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).with_name("training.json")
PARTS = ("loop", "usual", "processes", "memory")
DRAWN_SIDE = 32  # of the photos that are drawn for the part about memory


@dataclass(frozen=True)
class Case:
    """A network, the side it is trained at in pixels, and the batches of one round."""

    network: str
    size: int
    steps: int

    @classmethod
    def parse(cls, text: str) -> "Case":
        """Reads NETWORK:SIZE:STEPS."""
        network, size, steps = text.split(":")
        return cls(network, int(size), int(steps))


# Few batches of the slow network, for a round of less than two minutes on two cores.
CASES = (Case("tf_efficientnet_lite0", 160, 16), Case("resnet50", 224, 4))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures the parts asked for and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_options(parser)
    add_cache_options(parser)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART",
                        help=f"of {', '.join(PARTS)}; else all")  # fmt: skip
    parser.add_argument("--case", type=Case.parse, action="append", metavar="NETWORK:SIZE:STEPS",
                        help="other networks; the first is the one of processes")  # fmt: skip
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000],
                        help="photos of the part about memory")  # fmt: skip
    parser.add_argument("--out", type=user_path, default=RESULT, help="default: %(default)s")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    cases = options.case or CASES
    sample = read_sample(options, options.batch_size * max(case.steps for case in cases))
    machine = {"threads": torch.get_num_threads(), "cores": len(os.sched_getaffinity(0))}
    for part in options.only:
        found: dict[str, Any]
        if part == "memory":
            found = {"cases": measure_memory(options.counts)}
        else:
            measure = {"loop": measure_loop, "usual": measure_usual}.get(part, measure_processes)
            chosen = cases[:1] if part == "processes" else cases
            rows = [measure(sample, case, options.batch_size, options.rounds) for case in chosen]
            found = {"batch_size": options.batch_size, "rounds": options.rounds, "cases": rows}
        print(part, found, flush=True)
        known = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
        result = {**machine, "git_revision": git_revision(), **found}
        write_json(options.out, {**known, part: result})


@dataclass(frozen=True)
class Sample:
    """Photos from all over the datasets, some more than once where they have too few.

    Attributes:
        readers: for each a function that returns its file's bytes.
        entries: where the pixels of each are in the cache.
        targets: the class of each.
    """

    cache: PhotoCache
    classes: Classes
    readers: list[Callable[[], bytes]]
    entries: list[Entry]
    targets: list[int]

    def cached(self, count: int) -> CachedPhotos:
        """The first photos as training has them."""
        return CachedPhotos(self.cache, self.entries[:count], self.targets[:count])

    def write(self, folder: Path, count: int) -> None:
        """Writes the files of the first photos, in a folder for each class."""
        for number in range(count):
            label = self.classes.labels[self.targets[number]].replace("/", "-")
            (folder / label).mkdir(parents=True, exist_ok=True)
            # Whatever is in the file: no reader goes by its name.
            (folder / label / f"{number:06}.jpg").write_bytes(self.readers[number]())


def read_sample(options: argparse.Namespace, count: int) -> Sample:
    """Reads the datasets and caches as many photos as are needed.

    Raises:
        DataError: a dataset cannot be read, or none of its photos.
    """
    sources = read_sources(options.data, columns_of(options))
    classes = unite(sources)
    photos = [
        (reader, classes.targets[source.name, source.label_names[number]])
        for source in sources
        for reader, number in zip(source.readers(), source.photos["label"], strict=True)
    ]
    chosen = random.Random(0).sample(photos, min(count, len(photos)))
    cache = cache_of(options)
    entries = cache.add([reader for reader, _ in chosen], "caching")
    usable = [
        (*photo, entry) for photo, entry in zip(chosen, entries, strict=True) if not entry.error
    ]
    if not usable:
        raise DataError(f"none of {len(chosen)} photos can be read: {entries[0].error}")
    readers, targets, kept = zip(*islice(cycle(usable), count), strict=True)
    return Sample(cache, classes, list(readers), list(kept), list(targets))


def measure_loop(sample: Sample, case: Case, batch_size: int, rounds: int) -> dict[str, Any]:
    """The real loop against forward and backward passes on a batch that is in memory."""
    trainer, model = build_trainer(sample, case, batch_size, rounds)
    model = copy.deepcopy(model).train()
    inputs = torch.randn(batch_size, 3, case.size, case.size)
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    targets = torch.tensor(sample.targets[:batch_size])

    def bare() -> int:
        for _ in range(case.steps):
            F.cross_entropy(model(inputs), targets).backward()
            model.zero_grad()
        return case.steps * batch_size

    bare_rates: list[float] = []
    trainer.fit(lambda: bare_rates.append(rate(bare)))
    return asdict(case) | compared("loop", loop_rates(trainer), "bare", bare_rates[1:])


def measure_usual(sample: Sample, case: Case, batch_size: int, rounds: int) -> dict[str, Any]:
    """The real loop against the usual one."""
    trainer, _ = build_trainer(sample, case, batch_size, rounds)
    usual_rates: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        sample.write(Path(folder), case.steps * batch_size)
        command = [sys.executable, "-m", "benchmarks.usual", folder, case.network, str(case.size)]
        command += [f"--classes={len(sample.classes.labels)}", f"--batch-size={batch_size}"]

        # A process of its own has its memory handled as usual: `keep_freed_memory` belongs to the
        # real loop.
        def usual() -> float:
            return float(subprocess.check_output(command, cwd=ROOT, text=True))

        trainer.fit(lambda: usual_rates.append(usual()))
    return asdict(case) | compared("loop", loop_rates(trainer), "usual", usual_rates[1:])


def build_trainer(
    sample: Sample, case: Case, batch_size: int, rounds: int
) -> tuple[Trainer, torch.nn.Module]:
    """What trains in `trainer.train`, an epoch a round and one to warm up, and its network."""
    config = TrainConfig(
        data=("sample",),
        model=case.network,
        weights=RANDOM,
        train_size=case.size,
        batch_size=batch_size,
        epochs=rounds + 1,
    )
    classes = sample.classes
    model, _ = create_model(
        config.model, len(classes.labels), config.weights, drop_rate=config.dropout
    )
    data_config = {key: model.pretrained_cfg[key] for key in ("mean", "std")}
    train, validation = sample.cached(case.steps * batch_size), sample.cached(1)
    accelerator = build_accelerator(config)
    loader = load_cached(train, config, accelerator)
    counts = torch.bincount(train.targets, minlength=len(classes.labels))
    trainer = Trainer(config, accelerator, model, classes, data_config, loader, validation, counts)
    return trainer, model


def loop_rates(trainer: Trainer) -> list[float]:
    """Photos a second of each epoch but the first, which warms up."""
    return [row.photos_per_second for row in trainer.history[1:]]


def compared(
    name: str, rates: Sequence[float], other: str, other_rates: Sequence[float]
) -> dict[str, Any]:
    """Medians over the rounds, and the ratio of the two in each round."""
    ratios = [one / another for one, another in zip(rates, other_rates, strict=True)]
    return {
        f"{name}_photos_per_second": statistics.median(rates),
        f"{other}_photos_per_second": statistics.median(other_rates),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


def measure_processes(sample: Sample, case: Case, batch_size: int, rounds: int) -> dict[str, Any]:
    """Two processes against one: runs of the command line on the same photos."""
    alone = ["trainer/train.py"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    one, two = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # A fifth of them is for validation, which does not count.
        count = case.steps * batch_size
        sample.write(folder / "photos", count)
        for number in range(rounds):
            train = partial(second_epoch, folder, case, batch_size)
            one.append(train(folder / f"one {number}", alone))
            two.append(train(folder / f"two {number}", [*launcher, *alone]))
    return asdict(case) | compared("two", two, "one", one)


def second_epoch(
    folder: Path, case: Case, batch_size: int, out: Path, launcher: Sequence[str]
) -> float:
    """Photos a second of the second epoch of a run, as its log says; the first warms up."""
    settings = {
        "data": f"photos={folder / 'photos'}",
        "cache": folder / "cache",
        "out": out,
        "model": case.network,
        "weights": RANDOM,
        "train-size": case.size,
        "test-size": case.size,
        "batch-size": batch_size,
        "split": "80/20/0",
        "epochs": 2,
    }
    subprocess.run(
        [sys.executable, *launcher, *(f"--{key}={value}" for key, value in settings.items()),
         "--keep-non-exteriors"],
        cwd=ROOT,
        env=os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        check=True,
    )  # fmt: skip
    with (out / "log.csv").open(newline="", encoding="utf-8") as file:
        return float(list(csv.DictReader(file))[1]["photos_per_second"])


def measure_memory(counts: Sequence[int]) -> list[dict[str, int]]:
    """The most memory of its own that a process has while it loads an epoch."""
    found = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            readers = [partial(draw, seed) for seed in range(count)]
            PhotoCache(folder, geometry(DRAWN_SIDE)).add(readers, f"drawing {count} photos")
            # A fresh interpreter, whose memory nothing has grown before.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                before, peak = pool.submit(load_epoch, Path(folder), count).result()
        found.append({
            "photos": count,
            "pixels_bytes": count * 3 * DRAWN_SIDE**2,
            "before_bytes": before,
            "peak_bytes": peak,
            "growth_bytes": peak - before,
        })  # fmt: skip
    return found


def draw(seed: int) -> bytes:
    """A small JPEG of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (DRAWN_SIDE, DRAWN_SIDE, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def load_epoch(folder: Path, count: int) -> tuple[int, int]:
    """Memory of this process before it loads an epoch, and the most after any batch, in bytes."""
    cache = PhotoCache(folder, geometry(DRAWN_SIDE))
    before = peak = own_memory()
    photos = CachedPhotos(cache, [Entry("", row=row) for row in range(count)], [0] * count)
    order = EpochSampler(photos.targets, seed=0)
    for _ in DataLoader(photos, 64, sampler=order, collate_fn=collate):
        peak = max(peak, own_memory())
    return before, peak


def own_memory() -> int:
    """Bytes that are this process's own; the kernel may drop those of mapped files (Linux)."""
    status = Path("/proc/self/status").read_text("utf-8")
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


if __name__ == "__main__":
    main()
