"""Two machines train together, each a process with a folder of its own."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from space.checkpoints import open_checkpoint
from trainer.data.toys import CLASSES
from trainer.make_split import main as make_split
from trainer.toys import main as draw_toys

ROOT = Path(__file__).parent.parent
SMALL = (
    "--recipe=smoke --epochs=1 --train-size=32 --test-size=32 --cache-size=40 --no-graph"
).split()


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "toys"
    draw_toys([str(folder), "--each=10"])
    return folder


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def start(rank: int, port: str, arguments: list[str]) -> subprocess.Popen:
    """What accelerate and torchrun set on the machine of a rank, and the script."""
    machine = {
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "ACCELERATE_USE_CPU": "1",
    }
    return subprocess.Popen(
        [sys.executable, "trainer/train.py", *SMALL, *arguments],
        cwd=ROOT,
        env=os.environ | machine,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_with_a_split_file_machines_need_not_share_the_run_folder(photos, tmp_path):
    data = [f"--data=cars={photos}"]
    split = tmp_path / "split.csv"
    cache = f"--cache={tmp_path / 'cache'}"
    assert make_split([*data, cache, f"--out={split}", "--keep-non-exteriors"]) == 0
    port = free_port()
    outs = [tmp_path / "first", tmp_path / "second"]
    machines = [
        start(rank, port, [*data, f"--out={out}", f"--cache={out}-cache", f"--split-file={split}"])
        for rank, out in enumerate(outs)
    ]
    for machine in machines:
        _, errors = machine.communicate(timeout=1800)
        assert machine.returncode == 0, errors
    assert open_checkpoint(outs[0] / "checkpoint").labels == tuple(CLASSES)
    assert not (outs[1] / "checkpoint").exists()
