"""Damaged and hostile files by the ten thousand: `python -m benchmarks.fuzz`.

Files that are right are drawn by code and changed by chance: bytes flipped, cut, copied, spliced,
numbers made extreme. Each goes where such a file comes in. Right is an answer, or the one error
that is meant for it. Everything else counts as a finding: another exception, a process that ends,
more than `SECONDS` for one file. Every file has a number, so that a finding can be made again:
`python -m benchmarks.fuzz --only photos --first 4711 --count 1`. Written to benchmarks/fuzz.json.
"""

import argparse
import contextlib
import io
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from space.checkpoints import write_json
from space.errors import CheckpointError, DataError, MarqueError, PhotoError
from trainer.evaluation.drawn import drawings
from trainer.provenance import command_line, git_revision

PATH = Path(__file__).with_suffix(".json")
COUNTS = {"photos": 100_000, "zips": 10_000, "tables": 10_000, "mat": 10_000, "checkpoints": 10_000}
CHUNK = 1000  # files of one process
SECONDS = 1.0  # that one file may take; it is measured beside whatever else the machine does
_EXTREME = (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x01\x00\x00")

Try = Callable[[bytes], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all kinds, or a part of one; returns 1 where something was found."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--only", choices=list(COUNTS))
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the first file's number")
    parser.add_argument("--count", type=int, metavar="N", help="files of each kind")
    parser.add_argument("--in-process", action="store_true", help="what the parts are run with")
    options = parser.parse_args(arguments)
    if options.in_process:
        print(json.dumps(part(options.only, options.first, options.count)))
        return 0
    kinds = [options.only] if options.only else list(COUNTS)
    result: dict[str, Any] = {}
    for kind in kinds:
        result[kind] = whole(kind, options.first, options.count or COUNTS[kind])
        print(kind, json.dumps(result[kind]))
    if not options.only and not options.count:
        told = {"command": command_line("python -m benchmarks.fuzz", arguments), **result}
        write_json(PATH, told | {"seconds_allowed": SECONDS, "git_revision": git_revision()})
    return int(any(found["findings"] for found in result.values()))


def whole(kind: str, first: int, count: int) -> dict[str, Any]:
    """A kind, in processes of its own, so that one that ends is a finding and no more."""
    outcomes: Counter[str] = Counter()
    findings: list[str] = []
    slowest, memory, noise = 0.0, 0.0, 0
    for start in range(first, first + count, CHUNK):
        some = min(CHUNK, first + count - start)
        command = [sys.executable, "-m", "benchmarks.fuzz", "--in-process", "--only", kind]
        ran = subprocess.run(
            [*command, "--first", str(start), "--count", str(some)], capture_output=True
        )
        noise += len(ran.stderr.splitlines())
        try:
            told = json.loads(ran.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            findings.append(f"{start} to {start + some}: the process ended with {ran.returncode}")
            continue
        outcomes.update(told["outcomes"])
        findings += told["findings"]
        slowest, memory = max(slowest, told["slowest"]), max(memory, told["memory_mb"])
    return {
        "files": count,
        "outcomes": dict(outcomes),
        "findings": findings[:20],
        "found": len(findings),
        "slowest_seconds": slowest,
        "memory_mb": memory,
        "lines_on_stderr": noise,
    }


def part(kind: str, first: int, count: int) -> dict[str, Any]:
    """Some files of a kind, in this process."""
    outcomes: Counter[str] = Counter()
    findings: list[str] = []
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        seeds, attempt, meant = KINDS[kind](Path(folder))
        for number in range(first, first + count):
            content = mutated(random.Random(number), seeds)
            started = time.perf_counter()
            try:
                attempt(content)
                outcomes["answered"] += 1
            except meant:
                outcomes["refused"] += 1
            except BaseException as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{Path(place.filename).name}:{place.lineno}"
                findings.append(f"{number}: {type(error).__name__} at {where}: {str(error)[:120]}")
            took = time.perf_counter() - started
            slowest = max(slowest, took)
            if took > SECONDS:
                findings.append(f"{number}: took {took:.1f} s")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "outcomes": outcomes, "findings": findings, "slowest": slowest, "memory_mb": memory,
    }  # fmt: skip


def mutated(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One of the files, changed in one to six places."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        if not data:
            break
        at = rng.randrange(min(len(data), rng.choice((64, 512, len(data)))))
        match rng.randrange(7):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at] = rng.randrange(256)
            case 2:
                del data[at:]
            case 3:
                data[at : at + 4] = rng.choice(_EXTREME)
            case 4:
                data[at:at] = data[at : at + rng.randrange(1, 200)] * rng.randrange(1, 20)
            case 5:
                other = rng.choice(seeds)
                data[at:] = other[min(at, len(other)) :]
            case 6:
                del data[at : at + rng.randrange(1, 40)]
    return bytes(data)


def _photos(folder: Path) -> tuple[list[bytes], Try, type[Exception]]:
    from space.photos import load_photo

    seeds = []
    for number, form in enumerate(
        ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF", "HEIF", "JPEG2000")
    ):
        picture = _picture(number)
        options: list[dict[str, Any]] = [{}]
        if form == "JPEG":
            exif = Image.Exif()
            exif[0x0112] = 6
            options += [{"progressive": True}, {"exif": exif.tobytes()}]
        if form == "TIFF":
            options += [{"compression": "tiff_lzw"}, {"compression": "jpeg"}]
        for option in options:
            file = io.BytesIO()
            picture.save(file, form, **option)
            seeds.append(file.getvalue())
    for mode in ("L", "P", "RGBA", "I;16", "LA", "1"):
        file = io.BytesIO()
        picture = _picture(3).convert("L" if mode == "I;16" else mode)
        if mode == "I;16":
            picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
        picture.save(file, "PNG")
        seeds.append(file.getvalue())

    def attempt(content: bytes) -> None:
        load_photo(content)

    return seeds, attempt, PhotoError


def _picture(seed: int) -> Image.Image:
    ((_, picture),) = drawings(1, seed)
    return picture.convert("RGB").resize((96, 72))


def _zips(folder: Path) -> tuple[list[bytes], Try, type[Exception]]:
    from space.web.batch import collect
    from trainer.data.sources.fetch import fetch

    seeds = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as packed:
            packed.writestr("Audi/a.jpg", b"picture" * 30)
            packed.writestr("BMW/b.jpg", b"another" * 30)
        seeds.append(file.getvalue())
    path = folder / "cars.zip"

    def attempt(content: bytes) -> None:
        path.write_bytes(content)
        if zipfile.is_zipfile(path):
            with contextlib.suppress(MarqueError):
                collect([str(path)])
        try:
            fetch("cars", str(path))
        finally:
            shutil.rmtree(folder / "cars.zip.unpacked", ignore_errors=True)

    return seeds, attempt, DataError


def _tables(folder: Path) -> tuple[list[bytes], Try, type[Exception]]:
    from space.specifications import read_specifications
    from trainer.collection.table import read_table
    from trainer.data.splits import read_split

    seeds = [
        b"make,model,year,MSRP,Displacement\nAudi,A4,2012,32500,20\nBMW,X5,2008,46200,30\n" * 3,
        b"url;label\nhttps://a.example/1.jpg;Audi A4 2012\nhttps://a.example/2.jpg;BMW X5\n" * 3,
        b"source,path,label,split,group\ncars,a.jpg,Audi,train,1\ncars,b.jpg,BMW,test,2\n" * 3,
        'name,"photo",year\n"Škoda ""Octavia""",//x/1.png,2012\n'.encode("utf-16"),
    ]
    path = folder / "table.csv"

    def attempt(content: bytes) -> None:
        path.write_bytes(content)
        refused: list[DataError] = []
        for read in (read_specifications, lambda p: read_table(p, "cars"), read_split):
            try:
                read(path)
            except DataError as error:
                refused.append(error)
        if len(refused) == 3:
            raise refused[0]

    return seeds, attempt, DataError


def _mat(folder: Path) -> tuple[list[bytes], Try, type[Exception]]:
    from scipy.io import savemat

    from trainer.data.sources.mat import read_array

    kinds = [("fname", "O"), ("class", "O"), ("bbox_x1", "O")]
    rows = np.array([(f"{n:05d}.jpg", n, n * 10) for n in range(6)], dtype=kinds)
    seeds = []
    for compressed in (False, True):
        file = io.BytesIO()
        savemat(file, {"annotations": rows}, do_compression=compressed)
        seeds.append(file.getvalue())
    path = folder / "annotations.mat"

    def attempt(content: bytes) -> None:
        path.write_bytes(content)
        read_array(path, "annotations")

    return seeds, attempt, ValueError  # which the adapter names with its file


def _checkpoints(folder: Path) -> tuple[list[bytes], Try, type[Exception]]:
    """The content's first byte says which file of a checkpoint it is."""
    import timm
    import torch

    from space.recognizer import CarRecognizer
    from trainer.training.checkpoints import save_checkpoint
    from trainer.training.graph import export

    torch.manual_seed(0)
    torch.set_num_threads(1)
    whole = folder / "whole"
    save_checkpoint(
        whole,
        timm.create_model("test_efficientnet", num_classes=4),
        architecture="test_efficientnet",
        model_args={},
        labels=["Audi A4 Sedan 2012", "BMW X5 SUV 2007", "Audi TT Coupe", "BMW"],
        data_config={
            "input_size": (3, 64, 64), "interpolation": "bicubic", "crop_pct": 1.0,
            "crop_mode": "squash", "mean": (0.5,) * 3, "std": (0.5,) * 3,
        },
        training={"note": "untrained, for a fuzz run"},
    )  # fmt: skip
    export(whole)
    names = sorted(
        path.name
        for path in whole.iterdir()
        if path.suffix in (".json", ".txt", ".onnx", ".safetensors")
    )
    seeds = [bytes([number]) + (whole / name).read_bytes() for number, name in enumerate(names)]
    broken = folder / "broken"
    shutil.copytree(whole, broken)
    photo = _picture(1)

    def attempt(content: bytes) -> None:
        if not content:
            raise CheckpointError("nothing of it is left")
        path = broken / names[content[0] % len(names)]
        before = path.read_bytes()
        path.write_bytes(content[1:])
        try:
            CarRecognizer.from_pretrained(broken).predict(photo)
        finally:
            path.write_bytes(before)

    return seeds, attempt, MarqueError


KINDS: dict[str, Callable[[Path], tuple[list[bytes], Try, type[Exception]]]] = {
    "photos": _photos,
    "zips": _zips,
    "tables": _tables,
    "mat": _mat,
    "checkpoints": _checkpoints,
}

if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
