"""How fast one photo is answered: `python -m benchmarks.latency`.

The bundled network is asked in ONNX Runtime, as the recogniser does, and in PyTorch, in turn; and a
drawn photo goes the whole way from JPEG to answer. Medians and 95th percentiles in milliseconds,
on this machine's cores, into benchmarks/latency.json. The ratio is what carries over to others.
"""

import argparse
import io
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from space.checkpoints import open_checkpoint, write_json
from space.network import OnnxEngine, TorchEngine
from space.recognizer import CarRecognizer
from trainer.evaluation.drawn import drawings
from trainer.provenance import git_revision

RESULT = Path(__file__).with_name("latency.json")
ROUNDS, EACH = 9, 10


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a checkpoint; the bundled one without it")
    options = parser.parse_args()
    recognizer = CarRecognizer.from_pretrained(options.model)
    checkpoint = open_checkpoint(options.model)
    shape = checkpoint.data_config["input_size"]
    onnx = OnnxEngine(checkpoint.folder, len(checkpoint.labels), shape)
    pytorch = TorchEngine(checkpoint.model.to(memory_format=torch.channels_last))
    inputs = torch.randn(1, *shape)
    file = io.BytesIO()
    _, picture = next(drawings(1))
    picture.resize((1024, 683)).save(file, "JPEG", quality=90)
    photo = file.getvalue()
    recognizer.predict(photo)
    ways: dict[str, Callable[[], object]] = {
        "network": lambda: onnx(inputs),
        "network_in_pytorch": lambda: pytorch(inputs),
        "jpeg_to_answer": lambda: recognizer.predict(photo),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
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
    result = {
        "command": "python -m benchmarks.latency",
        "checkpoint": recognizer.revision,
        "input_size": list(shape),
        "threads": torch.get_num_threads(),
        "cores": len(os.sched_getaffinity(0)),
        **found,
        "network_over_pytorch": found["network"]["median_ms"]
        / found["network_in_pytorch"]["median_ms"],
        "git_revision": git_revision(),
    }
    print(result)
    write_json(RESULT, result)


if __name__ == "__main__":
    main()
