"""Photos a second on Ray, with one worker and with two: `python -m benchmarks.cluster`.

Each worker has one core and one thread, so that two cores with two workers show what a cluster of
more would do. What a run costs beside its photos (Ray's start, the recognizers) is measured by
runs over few photos and taken off. Runs take turns; medians are told. Written to
benchmarks/cluster.json.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from space.checkpoints import BUNDLED, file_hash, write_json
from space.walk import photos_in, user_path
from trainer.provenance import command_line, git_revision, processor

PATH = Path(__file__).with_suffix(".json")
FEW = 8  # photos of a run that shows what the others cost beside their photos
WORKERS = (1, 2)
_SECONDS = re.compile(r"; ([\d.]+) s$")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument(
        "--folder", type=user_path, help="of photos; default: the test half in MARQUE_DATA"
    )
    parser.add_argument("--photos", type=int, default=1500, metavar="N", help="of a run")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    options = parser.parse_args(arguments)
    folder = options.folder or Path(os.environ["MARQUE_DATA"], "stanford_cars", "cars_test")
    paths = list(photos_in(folder))
    rates: dict[int, list[float]] = {count: [] for count in WORKERS}
    starts: dict[int, list[float]] = {count: [] for count in WORKERS}
    with tempfile.TemporaryDirectory() as copies:
        many, few = Path(copies, "many"), Path(copies, "few")
        for place, count in ((many, options.photos), (few, FEW)):
            place.mkdir()
            for number, path in enumerate(paths[:: max(1, len(paths) // count)][:count]):
                shutil.copy(path, place / f"{number:06d}{path.suffix}")
        photos = len(list(many.iterdir()))
        for _ in range(options.rounds):
            for count in WORKERS:
                start, whole = _run(few, count), _run(many, count)
                starts[count].append(start)
                rates[count].append((photos - FEW) / (whole - start))
                print(f"{count} workers: {rates[count][-1]:.1f} photos a second")
    one, two = (statistics.median(rates[count]) for count in WORKERS)
    write_json(
        PATH,
        {
            "command": command_line("python -m benchmarks.cluster", arguments),
            "checkpoint": file_hash(BUNDLED / "model.safetensors")[:12],
            "photos": photos,
            "rounds": options.rounds,
            "cores": os.cpu_count(),
            "processor": processor(),
            "photos_per_second": {"1": one, "2": two},
            "two_over_one": two / one,
            "start_seconds": {str(count): statistics.median(starts[count]) for count in WORKERS},
            "git_revision": git_revision(),
        },
    )
    print(json.dumps(json.loads(PATH.read_text()), indent=1))


def _run(folder: Path, workers: int) -> float:
    """The seconds that the command says it took."""
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "space.cluster", str(folder), output]
        command += ["--workers", str(workers), "--shard", "50"]
        ran = subprocess.run(command, capture_output=True, text=True)
    found = _SECONDS.search(ran.stdout.strip())
    if found is None:
        raise SystemExit(ran.stderr)
    return float(found[1])


if __name__ == "__main__":
    main()
