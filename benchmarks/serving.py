"""How fast Marque serves, beside other ways to the same: `python -m benchmarks.serving`.

Everything that is compared is run in turn, round after round, and medians and 95th percentiles are
told in milliseconds; the ratios are what carries over to other machines. Nothing else should run
meanwhile. Written to benchmarks/serving.json:

- `one_photo`: from the bytes of a JPEG to the five best classes. `usual` is what most people write:
  torchvision's ResNet-50 and transforms. `pipeline` is `transformers.pipeline` on the same
  checkpoint, `bare` nothing but decoding, one resize and the network.
- `folder`: photos a second of `CarRecognizer.stream`, and of the networks alone in batches.
- `page`: what HTTP adds to an answer, and the throughput of 8 visitors at once.
- `start`: from starting a process to its end, or to the page's first answer, and its memory.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.drawn_car import draw_car
from benchmarks.load import Load, address, rss
from space.checkpoints import BUNDLED, open_checkpoint, write_json
from space.detector import Detector
from space.network import engine_of
from space.recognizer import BATCH_SIZE, CarRecognizer
from space.transforms import normalize, to_pixels
from trainer.evaluation.drawn import drawings
from trainer.provenance import git_revision, processor

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).with_name("serving.json")
USUAL_SIZE, PHONE_SIZE = (1024, 683), (4000, 3000)
VISITORS = 8
Ways = dict[str, Callable[[], object]]


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="default: %(default)s")
    parser.add_argument("--photos", type=int, default=640, help="of a folder; default: %(default)s")
    options = parser.parse_args()
    photo = next(_photos(USUAL_SIZE))
    found = {
        "one_photo": one_photo(photo, options.rounds),
        "folder": folder(options.photos),
        "page": page(photo, options.rounds),
        "start": start(photo, max(3, options.rounds // 3)),
        "photo_size": list(USUAL_SIZE),
        "phone_photo_size": list(PHONE_SIZE),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "git_revision": git_revision(),
    }
    print(json.dumps(found, indent=1))
    write_json(RESULT, found)


def _photos(size: tuple[int, int]) -> Iterator[bytes]:
    for seed in range(4):
        yield _jpeg(draw_car(seed, size))


def _jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()


def in_turn(ways: Ways, rounds: int, each: int = 4) -> dict[str, dict[str, float]]:
    """Median and 95th percentile of each way in milliseconds, after one run that does not count."""
    for way in ways.values():
        way()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            for _ in range(each):
                started = time.perf_counter()
                way()
                times[name].append(1000 * (time.perf_counter() - started))
    return {
        name: {"median_ms": statistics.median(t), "p95_ms": statistics.quantiles(t, n=20)[-1]}
        for name, t in times.items()
    }


def one_photo(photo: bytes, rounds: int) -> dict[str, Any]:
    """From the bytes of one JPEG to the five best classes, on several ways."""
    checkpoint = open_checkpoint(BUNDLED)
    recognizer = CarRecognizer(checkpoint)
    without = CarRecognizer(replace(checkpoint, car_crop=None))
    phone = next(_photos(PHONE_SIZE))
    _, drawing = next(drawings(1))
    without_car = _jpeg(drawing.resize(USUAL_SIZE))
    engine, pixels_of = engine_of(checkpoint), to_pixels(checkpoint.data_config)

    def bare() -> object:
        picture = Image.open(io.BytesIO(photo)).convert("RGB")
        return engine(normalize(pixels_of(picture)[None], checkpoint.data_config))

    times = in_turn(
        {
            "marque": lambda: recognizer.predict(photo),
            "marque_without_detector": lambda: without.predict(photo),
            "bare": bare,
            "usual": _usual(photo),
            "pipeline": _pipeline(photo),
            "marque_phone_photo": lambda: recognizer.predict(phone),
            "marque_without_car": lambda: recognizer.predict(without_car),
        },
        rounds,
    )
    median = {name: times[name]["median_ms"] for name in times}
    return times | {
        "usual_over_marque": median["usual"] / median["marque"],
        "usual_over_marque_without_detector": median["usual"] / median["marque_without_detector"],
        "pipeline_over_marque": median["pipeline"] / median["marque"],
        "marque_without_detector_over_bare": median["marque_without_detector"] / median["bare"],
    }


def _usual(photo: bytes) -> Callable[[], object]:
    """ResNet-50 in eager PyTorch behind torchvision's transforms; its weights cost no time."""
    import torch
    import torchvision

    network = torchvision.models.resnet50(weights=None).eval()
    transform = torchvision.models.ResNet50_Weights.DEFAULT.transforms()

    def answer() -> object:
        with torch.inference_mode():
            picture = Image.open(io.BytesIO(photo)).convert("RGB")
            return network(transform(picture)[None]).softmax(1).topk(5)

    return answer


def _pipeline(photo: bytes) -> Callable[[], object]:
    from transformers import pipeline

    classify = pipeline("image-classification", str(BUNDLED))
    return lambda: classify(Image.open(io.BytesIO(photo)), top_k=5)


def folder(count: int) -> dict[str, float]:
    """Photos a second of a list, and of the networks alone; the memory before and after."""
    checkpoint = open_checkpoint(BUNDLED)
    shape = checkpoint.data_config["input_size"]
    engine, detector = engine_of(checkpoint), Detector()
    recognizer = CarRecognizer(checkpoint)
    without = CarRecognizer(replace(checkpoint, car_crop=None))
    photos = list(_photos(USUAL_SIZE))
    small = Image.open(io.BytesIO(photos[0])).convert("RGB").resize((416, 277))
    batch = np.random.default_rng(0).normal(size=(BATCH_SIZE, *shape)).astype(np.float32)

    def network() -> None:
        for _ in range(0, count, BATCH_SIZE):
            engine(batch)

    def both() -> None:
        network()
        for _ in range(count):
            detector.detect(small)

    def stream(by: CarRecognizer) -> None:
        for answer in by.stream(photos[number % len(photos)] for number in range(count)):
            if answer.error:
                raise RuntimeError(answer.error)

    stream(recognizer)
    before = rss(os.getpid())
    times = in_turn(
        {
            "stream": lambda: stream(recognizer),
            "networks": both,
            "stream_without_detector": lambda: stream(without),
            "network": network,
        },
        rounds=3,
        each=1,
    )
    rate = {f"{name}_per_second": 1000 * count / t["median_ms"] for name, t in times.items()}
    return rate | {
        "stream_over_networks": rate["stream_per_second"] / rate["networks_per_second"],
        "stream_over_network_without_detector": rate["stream_without_detector_per_second"]
        / rate["network_per_second"],
        "photos": count,
        "rss_before_bytes": before,
        "rss_after_bytes": rss(os.getpid()),
    }


def page(photo: bytes, rounds: int) -> dict[str, Any]:
    """What HTTP adds to an answer, and what 8 visitors at once get of the throughput of one."""
    recognizer = CarRecognizer.from_pretrained()
    with _Page() as served:
        times = in_turn(
            {
                "http": lambda: served.ask(photo),
                "python": lambda: recognizer.predict(photo),
            },
            rounds,
        )
        asked = 20 * VISITORS

        def visitors() -> None:
            with ThreadPoolExecutor(VISITORS) as pool:
                list(pool.map(served.ask, [photo] * asked))

        def alone() -> None:
            for _ in range(asked):
                recognizer.predict(photo)

        many = in_turn({"visitors": visitors, "alone": alone}, rounds=3, each=1)
    return times | {
        "http_adds_ms": times["http"]["median_ms"] - times["python"]["median_ms"],
        "visitors_over_alone": many["alone"]["median_ms"] / many["visitors"]["median_ms"],
    }


class _Page:
    """app.py in a process of its own."""

    def __enter__(self) -> "_Page":
        self._folder = tempfile.TemporaryDirectory()
        environment = os.environ | {"GRADIO_TEMP_DIR": self._folder.name, "NO_PROXY": "127.0.0.1"}
        self.process = subprocess.Popen(
            [sys.executable, "-u", "app.py"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._load = Load(address(self.process))
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)
        self._folder.cleanup()

    def ask(self, photo: bytes) -> Any:
        """The answer of `/predict` to an uploaded photo."""
        return self._load.answer(photo, "predict", as_upload=True)


def start(photo: bytes, rounds: int) -> dict[str, Any]:
    """What starting costs, each time in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "car.jpg"
        path.write_bytes(photo)
        command = [sys.executable, "-m", "space"]
        times = in_turn(
            {
                "help": lambda: _run([*command, "--help"]),
                "one_photo": lambda: _run([*command, str(path)]),
            },
            rounds,
            each=1,
        )
        memory = _peak_memory([*command, str(path)])
    first, tenth = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        with _Page() as served:
            served.ask(photo)
            first.append(1000 * (time.perf_counter() - started))
            for _ in range(8):
                served.ask(photo)
            started = time.perf_counter()
            served.ask(photo)
            tenth.append(1000 * (time.perf_counter() - started))
    return times | {
        "one_photo_peak_rss_bytes": memory,
        "page_to_first_answer_ms": statistics.median(first),
        "page_tenth_answer_ms": statistics.median(tenth),
    }


# A process starts with the most memory of the one that it was forked from. This one is small.
_MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def _run(command: list[str]) -> None:
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)


def _peak_memory(command: list[str]) -> int:
    """Runs a command to its end; returns the most memory that it had, in bytes."""
    measure = [sys.executable, "-S", "-c", _MEASURE, *command]
    return int(subprocess.run(measure, cwd=ROOT, capture_output=True, check=True).stdout)


if __name__ == "__main__":
    main()
