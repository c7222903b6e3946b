"""What the gate costs: `python -m benchmarks.gate`.

The network's answer to one photo with the gate and without it, in turn, and what is left of the
recognizer's own time: the share that the cascade adds. Written to benchmarks/gate.json.
"""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from space.checkpoints import open_checkpoint, write_json
from space.network import OnnxEngine
from space.recognizer import CarRecognizer
from trainer.provenance import git_revision

RESULT = Path(__file__).with_name("gate.json")
ROUNDS, CALLS = 9, 20


def main() -> None:
    """Measures the bundled checkpoint and writes the result."""
    recognizer = CarRecognizer.from_pretrained()
    gate = recognizer.gate
    assert gate, "the bundled checkpoint has no gate"
    checkpoint = open_checkpoint()
    size = checkpoint.data_config["input_size"]
    engine = OnnxEngine(checkpoint.folder, len(checkpoint.labels), size)
    inputs = np.zeros((1, *size), np.float32)

    def without() -> None:
        engine(inputs)

    def with_gate() -> None:
        gate.refusals(engine(inputs).features)

    plain, gated = [], []
    for _ in range(ROUNDS + 1):
        plain.append(seconds(without))
        gated.append(seconds(with_gate))
    # The first round warms up.
    ratios = [one / other for one, other in zip(gated[1:], plain[1:], strict=True)]
    found = {
        "checkpoint": recognizer.revision,
        "cores": os.cpu_count(),
        "rounds": ROUNDS,
        "milliseconds_without": 1000 * statistics.median(plain[1:]),
        "milliseconds_with": 1000 * statistics.median(gated[1:]),
        "added_share": statistics.median(ratios) - 1,
        "git_revision": git_revision(),
    }
    print(found)
    write_json(RESULT, found)


def seconds(work: Callable[[], None]) -> float:
    """The median time of one call."""
    times = []
    for _ in range(CALLS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
