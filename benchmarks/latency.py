"""How fast one photo is answered, and how large the network is: `python -m benchmarks.latency`.

The network is asked in ONNX Runtime, as the recognizer does where the checkpoint has a graph, and
in PyTorch, in turn; and a drawn photo goes the whole way from JPEG to answer. Medians and 95th
percentiles in milliseconds, on this machine's cores, go under `speed` into the metrics.json of an
evaluated checkpoint. The ratio is what carries over to others.
"""

import argparse
import io
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.drawn_car import draw_car
from model_card.render import read_json
from space.checkpoints import BUNDLED, METRICS, WEIGHTS, open_checkpoint, write_json
from space.network import OnnxEngine, engine_of
from space.pytorch import TorchEngine
from space.recognizer import CarRecognizer
from space.walk import user_path
from trainer.provenance import git_revision, processor

ROUNDS, EACH = 9, 10
JPEG_SIZE = (1024, 683)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=user_path, default=BUNDLED, metavar="FOLDER",
                        help="a checkpoint folder; the bundled one without it")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    options = parser.parse_args(arguments)
    recognizer = CarRecognizer.from_pretrained(options.model)
    checkpoint = open_checkpoint(options.model)
    metrics = read_json(checkpoint.folder / METRICS)
    if metrics["weights"] != checkpoint.revision:
        parser.error(f"{checkpoint.folder / METRICS} is about other weights; evaluate again first")
    shape = checkpoint.data_config["input_size"]
    engine = engine_of(checkpoint)
    inputs = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    file = io.BytesIO()
    draw_car(size=JPEG_SIZE).save(file, "JPEG", quality=90)
    photo = file.getvalue()
    recognizer.predict(photo)
    ways: dict[str, Callable[[], object]] = {
        "network": lambda: engine(inputs),
        "jpeg_to_answer": lambda: recognizer.predict(photo),
    }
    if isinstance(engine, OnnxEngine):
        pytorch = TorchEngine(checkpoint.model)
        ways["network_in_pytorch"] = lambda: pytorch(inputs)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, answer in ways.items():
            for _ in range(EACH):
                started = time.perf_counter()
                answer()
                times[name].append(1000 * (time.perf_counter() - started))
    found = {
        name: {
            "median_ms": statistics.median(taken),
            "p95_ms": statistics.quantiles(taken, n=20)[-1],
        }
        for name, taken in times.items()
    }
    result: dict[str, Any] = {
        "command": "python -m benchmarks.latency",
        "checkpoint": checkpoint.revision,
        "weights_bytes": (checkpoint.folder / WEIGHTS).stat().st_size,
        "parameters": sum(parameter.numel() for parameter in checkpoint.model.parameters()),
        "input_size": list(shape),
        "jpeg_size": list(JPEG_SIZE),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "cores": len(os.sched_getaffinity(0)),
        **found,
        "git_revision": git_revision(),
    }
    if "network_in_pytorch" in found:
        both = [found[name]["median_ms"] for name in ("network", "network_in_pytorch")]
        result["network_over_pytorch"] = both[0] / both[1]
    print(result)
    write_json(checkpoint.folder / METRICS, metrics | {"speed": result})


if __name__ == "__main__":
    main()
