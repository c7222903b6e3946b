"""Names the cars in millions of photos, on one machine or many: `python -m space.cluster IN OUT`.

Photos come from a folder or from Parquet files, on disk or in object storage (`s3://…`, anything
that fsspec opens), and go in shards to workers of Ray Data. Each worker holds one recognizer and
writes the rows of a shard as one Parquet file, with the columns of the command line. A shard whose
file is there is done: whatever is interrupted goes on where it was, with the same command. A photo
that cannot be read is a row with its `error`.
"""

import argparse
import hashlib
import json
import logging
import os
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from space.errors import CheckpointError, MarqueError
from space.photos import PHOTO_SUFFIXES
from space.rows import Row, csv_columns, record
from space.walk import photos_in

MANIFEST = "_manifest.json"  # readers of a folder of Parquet files pass it over
OK, SOME_UNREADABLE, FAILED = 0, 1, 2
_TEXTS = ("path", "label", "make", "model", "verdict", "reason", "error")
_NUMBERS = ("year", "cars_found")


@dataclass(frozen=True)
class Shard:
    """A part of the photos, which one worker names at once.

    Attributes:
        number: of the shard; its rows are in part-NUMBER.parquet.
        places: addresses of photos; or of one Parquet file.
        group: the row group of the Parquet file; None for photos.
        photos: how many.
    """

    number: int
    places: tuple[str, ...]
    group: int | None
    photos: int

    @property
    def file(self) -> str:
        """The name of the file with its rows."""
        return f"part-{self.number:05d}.parquet"


@dataclass(frozen=True)
class Job:
    """What every worker has to know.

    Attributes:
        output: the folder of the rows.
        model, catalogue: as for `CarRecognizer.from_pretrained`.
        column: of the pictures in Parquet files.
        top_k: answers a photo.
    """

    output: str
    model: str | None
    catalogue: str | None
    column: str
    top_k: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status, as `space.cli` does."""
    parser = argparse.ArgumentParser(
        prog="python -m space.cluster", description=str(__doc__).split("\n")[0]
    )
    parser.add_argument("input", metavar="IN", help="a folder, a .parquet file or a folder of them")
    parser.add_argument("output", metavar="OUT", help="the folder of the answers")
    parser.add_argument("--model", metavar="SOURCE", help="as for `python -m space`")
    parser.add_argument("--catalogue", metavar="NAMES", help="as for `python -m space`")
    parser.add_argument("--top-k", type=int, default=5, metavar="N", help="answers a photo")
    parser.add_argument(
        "--column", default="image", help="of the pictures in Parquet files (default: image)"
    )
    parser.add_argument(
        "--shard", type=int, default=2000, metavar="N", help="photos of a shard (default: 2000)"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="of one core each (default: all cores)"
    )
    options = parser.parse_args(arguments)
    try:
        if min(options.top_k, options.shard, 1 if options.workers is None else options.workers) < 1:
            raise MarqueError("--top-k, --shard and --workers are at least 1")
        job = Job(options.output, options.model, options.catalogue, options.column, options.top_k)
        done = run(options.input, job, options.shard, options.workers)
    except (MarqueError, CheckpointError) as error:
        print(f"marque: {error}", file=sys.stderr)
        return FAILED
    print(
        f"{done['photos']} photos in {done['shards']} shards, {done['unreadable']} of them "
        f"unreadable; {done['before']} shards were there before; {done['seconds']:.1f} s"
    )
    return SOME_UNREADABLE if done["unreadable"] else OK


def run(place: str, job: Job, size: int, workers: int | None = None) -> dict[str, Any]:
    """Names all photos whose shards are not there yet.

    Args:
        place: where the photos are.
        size: photos of a shard; those of Parquet files are their row groups.
        workers: how many at once; None for a worker a core of the cluster.

    Returns:
        Counts of this run: photos, shards, unreadable, before (shards that were there), seconds.

    Raises:
        MarqueError: Ray is not installed, there are no photos, or the output is of another run.
        CheckpointError: the checkpoint cannot be opened.
    """
    try:
        import ray
        from ray.data import ActorPoolStrategy, DataContext
    except ImportError:
        raise MarqueError(
            "ray is not installed; run `pip install -r requirements-cluster.txt`"
        ) from None
    started = time.monotonic()
    shards = shards_of(place, job.column, size)
    there = _begin(job, shards)
    waiting = [shard for shard in shards if shard.file not in there]
    told = {"photos": 0, "shards": len(waiting), "unreadable": 0, "before": len(there)}
    if waiting:
        if not ray.is_initialized():
            there_already = "RAY_ADDRESS" in os.environ  # as in a job; its size is its own
            ray.init(
                num_cpus=None if there_already else workers,
                include_dashboard=False, log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": {"MARQUE_THREADS": "1"}},
            )  # fmt: skip
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        DataContext.get_current().enable_progress_bars = False
        most = min(len(waiting), workers or int(ray.cluster_resources().get("CPU", 1)))
        # Ray gives the shards of a machine that goes to another one, as often as it takes.
        named = ray.data.from_items(
            [{"shard": json.dumps(asdict(shard))} for shard in waiting],
            override_num_blocks=len(waiting),
        ).map(
            Worker,  # type: ignore[arg-type]  # a class for an actor
            fn_constructor_args=(job,),
            compute=ActorPoolStrategy(min_size=1, max_size=most),
            num_cpus=1,
        )
        for row in named.iter_rows():
            told["photos"] += row["photos"]
            told["unreadable"] += row["unreadable"]
            print(f"{row['file']}: {row['photos']} photos, {row['unreadable']} unreadable")
    return told | {"seconds": time.monotonic() - started}


class Worker:
    """Holds one recognizer and names shard after shard."""

    def __init__(self, job: Job):
        """Opens the recognizer."""
        from space.recognizer import CarRecognizer

        self._job = job
        self._recognizer = CarRecognizer.from_pretrained(job.model, catalogue=job.catalogue)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Names a shard and writes its file."""
        told = json.loads(row["shard"])
        shard = Shard(**told | {"places": tuple(told["places"])})
        rows = list(self._rows(shard))
        _write(self._job, shard, rows)
        unreadable = sum(one["error"] is not None for one in rows)
        return {"file": shard.file, "photos": len(rows), "unreadable": unreadable}

    def _rows(self, shard: Shard) -> Iterator[dict[str, object]]:
        names: list[str] = []

        def photos() -> Iterator[bytes]:
            for name, content in _contents(shard, self._job.column):
                names.append(name)
                yield content

        answers = self._recognizer.stream(photos(), self._job.top_k)
        for number, answer in enumerate(answers):
            told = record(Row(Path(names[number]), answer)) | {"path": names[number]}
            if answer.error:
                told["error"] = answer.error.replace("the photo", names[number], 1)
            yield told


def shards_of(place: str, column: str, size: int) -> list[Shard]:
    """The photos of a place, in shards; always the same for the same photos.

    Raises:
        MarqueError: there are none, or a Parquet file has no such column.
    """
    files = _files(place)
    tables = [name for name in files if name.lower().endswith(".parquet")]
    shards: list[Shard] = []
    for table in tables:
        for group, count in enumerate(_row_groups(table, column)):
            shards.append(Shard(len(shards), (table,), group, count))
    if not tables:
        photos = [name for name in files if Path(name).suffix.lower() in PHOTO_SUFFIXES]
        for start in range(0, len(photos), size):
            part = tuple(photos[start : start + size])
            shards.append(Shard(len(shards), part, None, len(part)))
    if not shards:
        raise MarqueError(f"there are no photos and no Parquet files in {place}")
    return shards


def _files(place: str) -> list[str]:
    """Every file of a place, by its address, in order."""
    import fsspec

    try:
        files, path = fsspec.core.url_to_fs(os.path.expanduser(place))  # noqa: PTH111
        if isinstance(files, fsspec.implementations.local.LocalFileSystem):
            if Path(path).is_file():
                return [path]
            tables = sorted(str(found) for found in Path(path).rglob("*.parquet"))
            return tables or [str(found) for found in photos_in(Path(path))]
        found = [path] if files.isfile(path) else sorted(files.find(path))
        return [files.unstrip_protocol(name) for name in found]
    except (OSError, ValueError, ImportError) as error:
        raise MarqueError(f"{place} cannot be read: {error}") from None


def _row_groups(table: str, column: str) -> list[int]:
    """The number of rows in each row group of a Parquet file."""
    import fsspec
    from pyarrow import ArrowException
    from pyarrow import parquet as pq

    try:
        with fsspec.open(table, "rb") as file:
            opened = pq.ParquetFile(file)
            names = opened.schema_arrow.names
            counts = [opened.metadata.row_group(n).num_rows for n in range(opened.num_row_groups)]
    except (OSError, ArrowException) as error:
        raise MarqueError(f"{table} is no Parquet file: {error}") from None
    if column not in names:
        raise MarqueError(
            f"{table} has no column {column!r} of pictures; its columns are {', '.join(names)}: "
            "name one with --column"
        )
    return counts


def _contents(shard: Shard, column: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of each photo; what cannot be had is empty, which the reader refuses."""
    import fsspec
    from pyarrow import parquet as pq

    if shard.group is None:
        for place in shard.places:
            try:
                with fsspec.open(place, "rb") as file:
                    yield place, file.read()
            except (OSError, ValueError):
                yield place, b""
        return
    (table,) = shard.places
    with fsspec.open(table, "rb") as file:
        values = pq.ParquetFile(file).read_row_group(shard.group, columns=[column])[column]
    for number, value in enumerate(values):
        found = value.as_py()
        name = f"{table}#{shard.group}.{number}"
        if isinstance(found, dict):  # as Hugging Face's datasets keep pictures
            name = f"{name} {found['path']}" if found.get("path") else name
            found = found.get("bytes")
        yield name, found if isinstance(found, bytes) else b""


def _begin(job: Job, shards: Sequence[Shard]) -> set[str]:
    """Makes the output folder, or goes on with it; returns the files of shards that are there.

    Raises:
        MarqueError: it is of other photos, another model or other options.
    """
    import fsspec

    from space.checkpoints import open_checkpoint

    told = {
        "photos": sum(shard.photos for shard in shards),
        "shards": len(shards),
        "shards_sha256": hashlib.sha256(repr(shards).encode()).hexdigest(),
        "revision": open_checkpoint(job.model).revision,
        "catalogue": job.catalogue,
        "top_k": job.top_k,
    }
    files, path = fsspec.core.url_to_fs(job.output)
    manifest = f"{path}/{MANIFEST}"
    try:
        files.makedirs(path, exist_ok=True)
        if files.exists(manifest):
            before = json.loads(files.cat_file(manifest))
            other = [name for name, value in told.items() if before.get(name) != value]
            if other:
                raise MarqueError(
                    f"{job.output} holds the rows of another run: its {', '.join(other)} differ; "
                    "name another folder, or give the same photos and options"
                )
        else:
            files.pipe_file(manifest, json.dumps(told, indent=2).encode())
        names = {name.rpartition("/")[2] for name in files.ls(path, detail=False)}
    except MarqueError:
        raise
    except (OSError, ValueError) as error:
        raise MarqueError(f"{job.output} cannot be written: {error}") from None
    return {shard.file for shard in shards if shard.file in names}


def _write(job: Job, shard: Shard, rows: Sequence[dict[str, object]]) -> None:
    """Writes a shard, whole or not at all: under another name first."""
    import fsspec
    import pyarrow as pa
    from pyarrow import parquet as pq

    columns = csv_columns(job.top_k, grouped=False, expected=False)
    schema = pa.schema([(name, _type(name)) for name in columns])
    table = pa.Table.from_pylist(
        [{name: row.get(name) for name in columns} for row in rows], schema
    )
    files, path = fsspec.core.url_to_fs(job.output)
    unfinished = f"{path}/.{shard.file}.{uuid.uuid4().hex}"
    with files.open(unfinished, "wb") as file:
        pq.write_table(table, file)
    files.mv(unfinished, f"{path}/{shard.file}")


def _type(column: str) -> Any:
    import pyarrow as pa

    if column in _NUMBERS:
        return pa.int32()
    return pa.string() if column in _TEXTS or column.startswith("label_") else pa.float32()


if __name__ == "__main__":
    sys.exit(main())
