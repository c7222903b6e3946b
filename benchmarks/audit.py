"""How time and memory of an audit grow: `python -m benchmarks.audit`.

Draws 1,000, 10,000 and 50,000 photos, a tenth of them near copies and a tenth blacked-out
siblings, and audits each lot in a process of its own. Written to benchmarks/audit.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from space.checkpoints import write_json
from trainer.provenance import git_revision

RESULT = Path(__file__).with_name("audit.json")
CLASSES = 20


def main() -> None:
    """Draws, audits, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000, 50_000])
    parser.add_argument("--no-network", action="store_true", help="as for the audit")
    options = parser.parse_args()
    rows = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
    for count in options.counts:
        with tempfile.TemporaryDirectory() as folder:
            draw(Path(folder) / "photos", count)
            started = time.monotonic()
            output = audit(Path(folder), options.no_network)
            seconds = time.monotonic() - started
            summary = json.loads((Path(folder) / "report" / "summary.json").read_text())
        row = {
            "photos": count,
            "network": not options.no_network,
            "seconds": seconds,
            "photos_per_second": count / seconds,
            "peak_memory_bytes": int(output),
            "groups": sum(source["groups"] for source in summary["sources"]),
            "git_revision": git_revision(),
        }
        print(row, flush=True)
        # A result replaces the earlier one of its kind; the others stay.
        key = (row["photos"], row["network"])
        rows = [other for other in rows if (other["photos"], other["network"]) != key]
        rows = sorted([*rows, row], key=lambda row: (row["photos"], row["network"]))
        write_json(RESULT, {"command": "python -m benchmarks.audit", "rows": rows})


# The rows of decoded photos are a file that is mapped: the kernel drops its pages when others need
# the memory, so what counts is the memory that is the process's own.
_WATCHED = """
import sys, threading, time
from trainer.audit import main

peak = 0

def watch():
    global peak
    while True:
        with open("/proc/self/status") as file:
            found = next(line for line in file if line.startswith("RssAnon"))
        peak = max(peak, int(found.split()[1]) * 1024)
        time.sleep(0.1)

threading.Thread(target=watch, daemon=True).start()
status = main(sys.argv[1:])
print(peak if status == 0 else -1)
"""


def audit(folder: Path, no_network: bool) -> str:
    """Audits in another process; returns the most memory of its own that it had, in bytes."""
    arguments = [f"--data=drawn={folder / 'photos'}", f"--out={folder / 'report'}"]
    arguments += [f"--cache={folder / 'cache'}", *(["--no-network"] if no_network else [])]
    command = [sys.executable, "-c", _WATCHED, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split()[-1]


def draw(folder: Path, count: int) -> None:
    """Draws photos: eight of ten on their own, one a near copy, one a blacked-out sibling."""
    for label in range(CLASSES):
        (folder / f"class {label}").mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(_draw, [(folder, n) for n in range(count)], chunksize=100))


def _draw(job: tuple[Path, int]) -> None:
    folder, number = job
    kind = number % 10
    seed = number - kind if kind in (8, 9) else number  # copies are of the first of ten
    shapes = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    picture = Image.fromarray(shapes).resize((320, 240), Image.Resampling.BICUBIC)
    if kind == 8:
        picture = picture.resize((200, 150))
    if kind == 9:
        black = Image.new("RGB", picture.size)
        box = (60, 50, 260, 200)
        black.paste(picture.crop(box), box)
        picture = black
    path = folder / f"class {seed // 10 % CLASSES}" / f"{number:06}.jpg"
    picture.save(path, quality=85)


if __name__ == "__main__":
    main()
