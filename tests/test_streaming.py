"""Training that streams from the Hub, which `LocalHub` plays, in processes as users start them."""

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import draw_car
from datasets import ClassLabel, Dataset, Features, Image, Value
from hub import Repo
from safetensors.torch import load_file

from space.checkpoints import open_checkpoint, read_license
from space.errors import DataError, MarqueError
from space.photos import load_photo
from space.transforms import to_pixels
from trainer.data.cache import PhotoCache, geometry
from trainer.evaluate import main as evaluate
from trainer.make_split import main as make_split
from trainer.training.config import TrainConfig
from trainer.training.hub_stream import open_stream
from trainer.training.streaming import StreamedPhotos, keep_validation

ROOT = Path(__file__).parent.parent
CLASSES = {"Audi A4 Sedan 2012": "firebrick", "BMW M3 Coupe 2012": "navy", "Geo Metro 1993": "gold"}
TRAIN_FILES, PHOTOS_PER_FILE = 4, 9
PHOTOS = TRAIN_FILES * PHOTOS_PER_FILE
BROKEN = b"\xff\xd8 cut short"
CARD = f"""---
dataset_info:
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names: {dict(enumerate(CLASSES))}
  splits:
  - name: train
    num_bytes: 1
    num_examples: {PHOTOS}
  - name: test
    num_bytes: 1
    num_examples: {PHOTOS_PER_FILE}
---
"""
OPTIONS = (
    "--stream --model test_efficientnet --weights none --train-size 32 --test-size 32 "
    "--cache-size 40 --batch-size 8 --lr 0.003 --stream-buffer 10 --no-graph"
).split()


def drawn(seed: int, color: str) -> bytes:
    buffer = io.BytesIO()
    draw_car(seed, color).save(buffer, "JPEG")
    return buffer.getvalue()


def table(files: list[bytes], label: str = "label", kind=None) -> bytes:
    """A Parquet file as `push_to_hub` makes it; classes follow each other."""
    kind = kind or ClassLabel(names=list(CLASSES))
    numbers = [index % len(CLASSES) for index in range(len(files))]
    labels = [list(CLASSES)[n] for n in numbers] if kind == Value("string") else numbers
    dataset = Dataset.from_dict(
        {"image": [{"bytes": file, "path": None} for file in files], label: labels},
        features=Features({"image": Image(), label: kind}),
    )
    buffer = io.BytesIO()
    dataset.to_parquet(buffer)
    return buffer.getvalue()


def draw_files(first: int) -> list[bytes]:
    colors = list(CLASSES.values())
    return [drawn(first + n, colors[n % len(colors)]) for n in range(PHOTOS_PER_FILE)]


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    """All training photos, in the order of their files."""
    return [file for number in range(TRAIN_FILES) for file in draw_files(100 * number)]


@pytest.fixture(scope="module")
def published(photos) -> dict[str, bytes]:
    """A dataset of four files to train on and one to test on, with a card."""
    parts = [photos[n * PHOTOS_PER_FILE : (n + 1) * PHOTOS_PER_FILE] for n in range(TRAIN_FILES)]
    files = {f"data/train-{n:05}-of-00004.parquet": table(part) for n, part in enumerate(parts)}
    files["data/test-00000-of-00001.parquet"] = table(draw_files(1000))
    return {**files, "README.md": CARD.encode()}


@pytest.fixture(scope="module")
def repo(hub, published) -> Repo:
    return hub.add_repo("org/cars", published, "dataset")


@pytest.fixture
def folder(published, tmp_path) -> Path:
    """The dataset as a folder of Parquet files, which is streamed through the same code."""
    return save(published, tmp_path / "parquet")


@pytest.fixture(autouse=True)
def no_rest(monkeypatch):
    """Without the seconds that `datasets` sleeps after each pass, for programs that end with it."""
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)


def save(files: dict[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Where the Hub's client keeps what it downloads."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def run(hub, home):
    """Runs Python in a process whose Hub is `hub`."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
        client = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1"}
        # Measured in files on disk: a cache elsewhere would hide them.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=inherited | client | {"OMP_NUM_THREADS": "1"} | environment,
            capture_output=True,
            text=True,
            timeout=1200,  # against hanging; a busy machine may take long
        )

    return run


def command(out: Path, *extra: str, data: str = "org/cars") -> list[str]:
    cache = f"--cache={out.parent / 'cache'}"
    return [f"--data=cars={data}", f"--out={out}", cache, *OPTIONS, "--epochs=2", *extra]


def config(folder: Path, **settings) -> TrainConfig:
    options = {"stream_buffer": 10, "batch_size": 6, "cache_size": 40} | settings
    return TrainConfig(data=(f"cars={folder}",), out=Path("x"), stream=True, **options)


def epoch_of(settings: TrainConfig, epoch: int = 0) -> list[torch.Tensor]:
    """The pixels of each photo of an epoch, in their order."""
    photos = StreamedPhotos(open_stream(settings), 40, settings.batch_size)
    photos.set_epoch(epoch)
    return [pixels for batch, _, _ in photos for pixels in batch]


def digests(pixels: list[Any]) -> list[str]:
    return [hashlib.sha256(np.asarray(item).tobytes()).hexdigest() for item in pixels]


def expected_digests(files: list[bytes]) -> list[str]:
    transform = to_pixels(geometry(40))
    return digests([transform(load_photo(file)) for file in files])


# From end to end, over HTTP


@pytest.fixture(scope="module")
def finished(run, repo, tmp_path_factory) -> tuple[Path, str]:
    """A run of two epochs, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "streamed"
    result = run("-m", "trainer.train", *command(out))
    assert result.returncode == 0, result.stderr
    return out, result.stdout


def test_a_streamed_run_leaves_a_checkpoint_that_opens(finished):
    checkpoint = open_checkpoint(finished[0] / "checkpoint")
    assert checkpoint.labels == tuple(CLASSES)
    assert read_license(finished[0] / "checkpoint") == "mit"
    log = list(csv.DictReader((finished[0] / "log.csv").read_text().splitlines()))
    assert len(log) == 2


def test_training_json_says_what_was_streamed(finished, repo):
    training = json.loads((finished[0] / "checkpoint" / "training.json").read_text())
    assert training["dataset"] == {"streamed": "org/cars", "revision": repo.head, "classes": 3}
    assert training["split"] == {
        "train": PHOTOS,
        "validation": PHOTOS_PER_FILE,
        "parts": {"train": "train", "validation": "test"},
    }
    assert training["config"]["stream"] is True


def test_the_start_of_a_run_says_that_copies_cannot_be_found(finished):
    assert "copies of photos cannot be found in a stream" in finished[1]
    assert "9 validation photos, of 3 of 3 classes" in finished[1]


def test_no_photo_of_the_stream_stays_on_disk(finished, home):
    kept = sum(file.stat().st_size for file in home.rglob("*") if file.is_file())
    assert kept < 10_000  # the card; a single photo has more than half of that
    rows = sum(file.stat().st_size for file in finished[0].parent.rglob("rows.uint8"))
    assert rows == PHOTOS_PER_FILE * 3 * 32 * 32  # the validation photos, at --test-size


def test_a_resumed_run_ends_with_the_same_weights(finished, run, repo, published, tmp_path):
    out = tmp_path / "stopped"
    arguments = command(out)
    stopping = "import sys; import trainer.training.loop as loop, trainer.train as train\n"
    stopping += "epoch = loop.Trainer._epoch\n"
    stopping += "def once(self, n):\n if n: raise KeyboardInterrupt\n return epoch(self, n)\n"
    stopping += "loop.Trainer._epoch = once\nsys.exit(train.main(sys.argv[1:]))"
    assert run("-c", stopping, *arguments).returncode == 130
    older = repo.head
    repo.commit({"README.md": published["README.md"]})  # the run goes on with the older commit
    try:
        resumed = run("-m", "trainer.train", *arguments, "--resume")
    finally:
        repo.commit(published)
    assert resumed.returncode == 0, resumed.stderr
    assert older in resumed.stdout
    first, second = (folder / "resume.safetensors" for folder in (finished[0], out))
    whole, again = load_file(first), load_file(second)
    assert whole.keys() == again.keys()
    assert [name for name in whole if not whole[name].equal(again[name])] == []


def test_a_streamed_checkpoint_is_evaluated_like_any_other(finished, tmp_path):
    for number, (label, color) in enumerate(CLASSES.items()):
        (tmp_path / "cars" / label).mkdir(parents=True)
        for seed in range(12):
            path = tmp_path / "cars" / label / f"{seed}.png"
            draw_car(5000 + 100 * number + seed, color).save(path)
    data, split = f"--data=cars={tmp_path / 'cars'}", tmp_path / "split.csv"
    cache = f"--cache={tmp_path / 'cache'}"
    assert (
        make_split([data, cache, "--split=40/30/30", "--keep-non-exteriors", f"--out={split}"]) == 0
    )
    checkpoint = finished[0] / "checkpoint"
    options = [data, f"--split-file={split}", f"--out={tmp_path / 'out'}", "--robustness=0"]
    assert evaluate([str(checkpoint), *options]) == 0
    assert "top1" in json.loads((checkpoint / "metrics.json").read_text())


SHARE = """
import json, sys
from pathlib import Path
from accelerate import Accelerator
from trainer.training.config import parse_config
from trainer.training.hub_stream import open_stream
from trainer.training.streaming import load_streamed
sys.path.insert(0, "tests")
from test_streaming import digests
accelerator = Accelerator(cpu=True)
out = Path(sys.argv[1])
for files in (4, 3):
    config = parse_config(json.loads((out / f"{files}.arguments").read_text()))
    loader = load_streamed(open_stream(config), config, accelerator)
    epochs = []
    for epoch in range(2):
        loader.set_epoch(epoch)
        epochs.append([digest for pixels, _, _ in loader for digest in digests(pixels)])
    seen = out / f"{files}-{accelerator.process_index}.json"
    seen.write_text(json.dumps([len(loader), epochs]))
accelerator.end_training()
"""


@pytest.fixture(scope="module")
def shares(hub, run, published, tmp_path_factory) -> Path:
    """What two processes saw of four files and of three, in two epochs each."""
    out = tmp_path_factory.mktemp("shares")
    for files in (4, 3):
        parts = {name: content for name, content in published.items() if name != "README.md"}
        for number in range(files, TRAIN_FILES):
            del parts[f"data/train-{number:05}-of-00004.parquet"]
        hub.add_repo(f"org/shared{files}", parts, "dataset")
        extra = ("--batch-size=2", "--stream-buffer=8")
        photos = f"--stream-photos={files * PHOTOS_PER_FILE}"
        arguments = command(out / "x", photos, *extra, data=f"org/shared{files}")
        (out / f"{files}.arguments").write_text(json.dumps(arguments))
    (out / "share.py").write_text(SHARE)
    launcher = ("-m", "torch.distributed.run", "--nproc_per_node=2", str(out / "share.py"))
    result = run(*launcher, str(out), PYTHONPATH=str(ROOT), ACCELERATE_USE_CPU="1")
    assert result.returncode == 0, result.stderr
    return out


@pytest.mark.parametrize("files", [4, 3])  # shared out by file, or photo by photo
def test_two_processes_share_the_data_set(shares, photos, files):
    count = files * PHOTOS_PER_FILE
    (steps, first), (others, second) = (
        json.loads((shares / f"{files}-{process}.json").read_text()) for process in (0, 1)
    )
    assert steps == others == count // 2
    for mine, yours in zip(first, second, strict=True):
        assert len(mine) == len(yours) == count // 2
        seen = set(mine) | set(yours)
        assert seen <= set(expected_digests(photos[:count]))
        if count % 2 == 0:
            assert not set(mine) & set(yours)
            assert seen == set(expected_digests(photos[:count]))
        else:  # one has a photo more, which an epoch of equal shares leaves out
            assert len(seen) == count - 1
    assert first[0] != first[1]


def test_two_processes_train_together_on_a_stream(run, repo, tmp_path):
    out = tmp_path / "two"
    launcher = ("-m", "torch.distributed.run", "--nproc_per_node=2", "trainer/train.py")
    result = run(*launcher, *command(out, "--epochs=1"), ACCELERATE_USE_CPU="1")
    assert result.returncode == 0, result.stderr
    training = json.loads((out / "checkpoint" / "training.json").read_text())
    assert training["processes"] == 2
    assert training["split"]["train"] == PHOTOS


# The stream itself, from Parquet files by path


def test_an_epoch_is_every_photo_once_with_its_class(folder, photos):
    labels = {}
    for pixels, _, targets in StreamedPhotos(open_stream(config(folder)), 40, 6):
        assert pixels.shape == (6, 3, 40, 40)
        assert pixels.dtype == torch.uint8
        labels |= dict(zip(digests(list(pixels)), targets.tolist(), strict=True))
    in_files = [number % PHOTOS_PER_FILE % len(CLASSES) for number in range(PHOTOS)]
    assert labels == dict(zip(expected_digests(photos), in_files, strict=True))


def test_the_order_follows_from_seed_and_epoch(folder):
    first = digests(epoch_of(config(folder)))
    assert digests(epoch_of(config(folder))) == first
    second = digests(epoch_of(config(folder), epoch=1))
    assert second != first
    assert sorted(second) == sorted(first)
    assert digests(epoch_of(config(folder, seed=1))) not in (first, second)
    assert digests(epoch_of(config(folder), epoch=1)) == second


def test_a_stream_that_ends_early_begins_again(folder):
    twice = digests(epoch_of(config(folder, stream_photos=2 * PHOTOS)))
    assert twice[:PHOTOS] == twice[PHOTOS:]


def test_broken_photos_are_skipped_counted_and_said(published, photos, tmp_path, capsys):
    spoilt = table([photos[0], BROKEN, *photos[2:8], BROKEN])
    folder = save(published | {"data/train-00000-of-00004.parquet": spoilt}, tmp_path / "spoilt")
    streamed = StreamedPhotos(open_stream(config(folder, stream_photos=PHOTOS - 2)), 40, 17)
    for _ in range(2):
        seen = [digest for pixels, _, _ in streamed for digest in digests(list(pixels))]
        good = [file for number, file in enumerate(photos) if number not in (1, 8)]
        assert sorted(seen) == sorted(expected_digests(good))
        assert streamed.skipped == 2
        told = capsys.readouterr().out
        assert "epoch 1: 2 photos could not be used and were skipped" in told


def test_a_stream_without_a_usable_photo_ends(published, tmp_path):
    broken = {name: table([BROKEN] * 3) for name in published if "train" in name}
    folder = save(published | broken, tmp_path / "broken")
    with pytest.raises(DataError, match="no photo can be used: the photo is"):
        epoch_of(config(folder))


def test_a_stream_that_breaks_off_says_how_to_go_on(folder):
    photos = StreamedPhotos(open_stream(config(folder)), 40, 6)
    for file in folder.glob("data/train*"):
        file.unlink()
    with pytest.raises(DataError, match=r"its stream broke off .* add --resume to go on"):
        list(photos)


def test_validation_photos_are_kept_up_to_the_number_asked_for(folder, tmp_path):
    stream = open_stream(config(folder))
    kept = keep_validation(stream, PhotoCache(tmp_path / "cache", geometry(40)), 5)
    again = keep_validation(stream, PhotoCache(tmp_path / "cache", geometry(40)), 5)
    assert len(kept) == 5
    pixels, _, targets = kept.__getitems__(range(5))
    assert pixels.equal(again.__getitems__(range(5))[0])
    drawn_here = expected_digests(draw_files(1000))
    numbers = [drawn_here.index(digest) for digest in digests(list(pixels))]
    assert [number % len(CLASSES) for number in numbers] == targets.tolist()


def test_columns_of_other_names_are_streamed(published, photos, tmp_path):
    files = {
        f"data/{part}-00000-of-00001.parquet": table(photos[:6], label="model")
        for part in ("train", "test")
    }
    folder = save(files, tmp_path / "named")
    settings = config(folder, label_column="model", stream_photos=6)
    seen = digests(epoch_of(settings))
    assert sorted(seen) == sorted(expected_digests(photos[:6]))


# What is refused


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        (
            "test",
            "no part 'validation' or 'test', only 'train', and a stream cannot be split again",
        ),
        ("train", "no part 'train', only 'test'"),
        ("README", "does not say how many photos 'train' has; give --stream-photos"),
    ],
)
def test_a_data_set_that_lacks_something(published, tmp_path, left_out, message):
    files = {name: content for name, content in published.items() if left_out not in name}
    if left_out in ("test", "train"):
        del files["README.md"]  # its card speaks of both
    folder = save(files, tmp_path / "lacking")
    settings = config(folder) if left_out == "README" else config(folder, stream_photos=6)
    with pytest.raises(DataError, match=message):
        open_stream(settings)


def test_classes_that_are_text_are_refused(photos, tmp_path):
    files = {
        f"data/{part}-00000-of-00001.parquet": table(photos[:6], kind=Value("string"))
        for part in ("train", "test")
    }
    with pytest.raises(DataError, match=r"its classes are text.*leave out --stream"):
        open_stream(config(save(files, tmp_path / "text"), stream_photos=6))


def test_folders_of_photos_are_not_streamed(folders):
    with pytest.raises(DataError, match="need no --stream: leave it out"):
        open_stream(config(folders))


def test_a_data_set_that_is_not_there_is_one_clear_line(run, tmp_path):
    result = run("-m", "trainer.train", *command(tmp_path / "x", data="org/nothing"))
    assert result.returncode == 1
    assert "train: --data cars=org/nothing cannot be loaded" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": ("a=org/a", "b=org/b")}, "--data is .*; --stream reads one dataset"),
        ({"data": ("a=kaggle:o/a",)}, "--data is .*; --stream reads one dataset of the Hub"),
        ({"split_file": Path("s.csv")}, r"--split-file is s\.csv; --stream keeps the parts"),
        ({"split": "70/15/15"}, "--split is 70/15/15; --stream keeps the parts"),
        ({"balanced": True}, "--balanced is True; how frequent a class of a --stream is"),
        ({"class_weights": True}, "--class-weights is True; how frequent a class"),
        ({"stream": False, "stream_photos": 5}, "--stream-photos is 5; it is for --stream alone"),
        ({"stream_buffer": 0}, "--stream-buffer is 0; it must be at least 1"),
    ],
)
def test_settings_that_contradict_a_stream(settings, message):
    options = {"data": ("cars=org/cars",), "out": Path("x"), "stream": True} | settings
    with pytest.raises(MarqueError, match=message):
        TrainConfig(**options)
