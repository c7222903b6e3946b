"""Many photos on Ray: real workers, one of them killed, against the command line's answers."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from conftest import draw_car
from pyarrow import parquet as pq

from space.cluster import MANIFEST, Job, Worker, _begin, main, shards_of
from space.errors import MarqueError

ROOT = Path(__file__).parent.parent


def started(*arguments: object) -> subprocess.Popen:
    """The command as a process of its own, as Ray wants it."""
    command = [sys.executable, "-m", "space.cluster", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def rows_of(folder: Path) -> list[dict]:
    return [
        row
        for part in sorted(folder.glob("part-*.parquet"))
        for row in pq.read_table(part).to_pylist()
    ]


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(24):
        draw_car(number).save(folder / f"{number:03d}.jpg")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def workers() -> list[int]:
    """The processes that hold a recognizer."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"MapWorker" in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:  # it is gone
            continue
    return found


@pytest.mark.slow
def test_two_workers_of_which_one_is_killed_answer_as_the_command_line_does(
    photos, exported_checkpoint, tmp_path
):
    output, table = tmp_path / "out", tmp_path / "cars.csv"
    process = started(photos, output, "--model", exported_checkpoint, "--shard", 1, "--workers", 2)
    killed = None
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        if killed is None and list(output.glob("part-*")) and (found := workers()):
            killed = found[0]
            os.kill(killed, signal.SIGKILL)
        time.sleep(0.01)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors  # one photo cannot be read
    assert killed is not None
    assert "25 photos in 25 shards, 1 of them unreadable" in printed
    assert not list(output.glob(".part*"))  # nothing half written
    subprocess.run(
        [sys.executable, "-m", "space", photos, "--model", exported_checkpoint, "--csv", table],
        cwd=ROOT,
        capture_output=True,
    )
    with table.open(newline="", encoding="utf-8") as file:
        expected = list(csv.DictReader(file))
    found = rows_of(output)
    assert [row["path"] for row in found] == [row["path"] for row in expected]
    for row, told in zip(found, expected, strict=True):
        for column, value in told.items():
            got = row[column]
            if isinstance(got, float):
                assert got == pytest.approx(float(value), abs=6e-5)
            else:
                assert ("" if got is None else str(got)) == value


@pytest.fixture
def job(exported_checkpoint, tmp_path) -> Job:
    return Job(str(tmp_path / "out"), str(exported_checkpoint), None, "image", 2)


def test_what_is_there_is_not_done_again(photos, job, tmp_path):
    shards = shards_of(str(photos), "image", 10)
    assert [shard.photos for shard in shards] == [10, 10, 5]
    assert _begin(job, shards) == set()
    worker = Worker(job)
    line = {"shard": json.dumps(vars(shards[1]))}
    assert worker(line) == {"file": "part-00001.parquet", "photos": 10, "unreadable": 0}
    assert _begin(job, shards) == {"part-00001.parquet"}
    with pytest.raises(MarqueError, match="rows of another run: its shards, shards_sha256 differ"):
        _begin(job, shards_of(str(photos), "image", 5))
    assert (tmp_path / "out" / MANIFEST).is_file()
    assert pq.read_table(tmp_path / "out").num_rows == 10  # the manifest is in nobody's way


def test_photos_come_from_parquet_too(job, tmp_path, photos):
    contents = [path.read_bytes() for path in sorted(photos.glob("*.jpg"))]
    plain = pa.table({"id": list(range(25)), "image": contents})
    pq.write_table(plain, tmp_path / "plain.parquet", row_group_size=10)
    datasets = pa.table({"image": [{"bytes": one, "path": "a.jpg"} for one in contents[:3]]})
    pq.write_table(datasets, tmp_path / "datasets.parquet")
    shards = shards_of(str(tmp_path / "plain.parquet"), "image", 7)
    assert [shard.photos for shard in shards] == [10, 10, 5]
    _begin(job, shards)
    told = Worker(job)({"shard": json.dumps(vars(shards[2]))})
    assert told == {"file": "part-00002.parquet", "photos": 5, "unreadable": 1}
    rows = rows_of(tmp_path / "out")
    assert rows[0]["path"] == f"{tmp_path / 'plain.parquet'}#2.0"
    assert rows[4]["error"].endswith("#2.4 is not a picture in any format known here")
    (shard,) = shards_of(str(tmp_path / "datasets.parquet"), "image", 7)
    Worker(job)({"shard": json.dumps(vars(shard))})
    assert rows_of(tmp_path / "out")[0]["path"].endswith("datasets.parquet#0.0 a.jpg")
    with pytest.raises(MarqueError, match="has no column 'photo' of pictures; its columns are id"):
        shards_of(str(tmp_path / "plain.parquet"), "photo", 7)


def test_object_storage_is_read_and_written(exported_checkpoint, photos):
    """fsspec's own storage in memory, which Ray's workers could not share."""
    files = fsspec.filesystem("memory")
    for path in sorted(photos.glob("*.jpg"))[:3]:
        files.pipe_file(f"/photos/{path.name}", path.read_bytes())
    job = Job("memory://answers", str(exported_checkpoint), None, "image", 2)
    (shard,) = shards_of("memory://photos", "image", 10)
    assert shard.places[0] == "memory:///photos/000.jpg"
    _begin(job, [shard])
    Worker(job)({"shard": json.dumps(vars(shard))})
    with files.open("/answers/part-00000.parquet") as file:
        assert pq.read_table(file).num_rows == 3
    assert not [name for name in files.ls("/answers", detail=False) if "/.part" in name]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["{tmp}/nowhere", "{tmp}/out"], "there are no photos"),
        (["{tmp}", "{tmp}/out"], "there are no photos"),
        (["nofs://x", "{tmp}/out"], "cannot be read"),
        (["{tmp}", "{tmp}/out", "--workers", "0"], "at least 1"),
    ],
)
def test_what_cannot_work_is_one_line(tmp_path, capsys, arguments, reason):
    assert main([text.format(tmp=tmp_path) for text in arguments]) == 2
    told = capsys.readouterr().err
    assert reason in told
    assert told.count("\n") == 1
