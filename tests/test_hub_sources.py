"""Checkpoints, datasets and starting weights read from the Hub, which `LocalHub` plays.

What reads is another process: its libraries know the Hub's address from their import on.
"""

import io
import json
import os
import shutil
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import timm
import torch
from conftest import TINY_LABELS, draw_car, save_tiny_checkpoint
from datasets import ClassLabel, Dataset, Features, Image, Value
from safetensors.torch import save

from space.checkpoints import REQUIRED, open_checkpoint
from space.errors import CheckpointError, DataError, MarqueError
from space.recognizer import CarRecognizer
from trainer.data.sources import read_source
from trainer.evaluate import main as evaluate
from trainer.weights import create_model

CLASSES = {"Audi A4 Sedan 2012": "firebrick", "BMW M3 Coupe 2012": "navy", "Geo Metro 1993": "gold"}
PHOTOS_PER_CLASS = 4


@pytest.fixture(scope="module")
def second_checkpoint(tmp_path_factory) -> Path:
    """Like `tiny_checkpoint`, with other weights."""
    return save_tiny_checkpoint(tmp_path_factory.mktemp("second") / "checkpoint", seed=1)


def outputs(model: torch.nn.Module) -> list[float]:
    """What tells two networks apart."""
    picture = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    with torch.inference_mode():
        return model.eval()(picture)[0].tolist()


# These run in the other process.


def impatient(function: Callable[..., Any], *args: Any) -> Any:
    """Calls a function without the waits between the client library's retries."""
    with mock.patch("time.sleep"):
        return function(*args)


def at_once(function: Callable[..., Any], *args: Any) -> Any:
    """Calls a function, which fails if the client library waits before a retry."""
    with mock.patch("time.sleep", side_effect=AssertionError("waited for a retry")):
        return function(*args)


def opened(source: str) -> tuple[str, list[float]]:
    """The revision of a checkpoint and what its network answers."""
    checkpoint = open_checkpoint(source)
    return checkpoint.revision, outputs(checkpoint.model)


def opened_by_timm(name: str) -> list[float]:
    return outputs(timm.create_model(name, pretrained=True))


def cars(spec: str) -> tuple[list[str], list[int], list[bytes]]:
    """The names, labels and files of a dataset."""
    source = read_source(spec)
    return source.label_names, list(source.photos["label"]), [read() for read in source.readers()]


def measured(checkpoint: Path, spec: str) -> dict[str, Any]:
    """What evaluation by the authors' own parts writes."""
    options = ["--keep-calibration", "--robustness=0"]
    assert evaluate([str(checkpoint), f"--data={spec}", *options]) == 0
    return json.loads((checkpoint / "metrics.json").read_text("utf-8"))


def started(architecture: str) -> tuple[str, torch.Size, bool]:
    """Where starting weights come from, the head's shape, and whether features are all 0.5."""
    model, origin = create_model(architecture, 5, "auto")
    return origin, model.classifier.weight.shape, bool((model.conv_stem.weight == 0.5).all())


def logged_in(token: str, function: Callable[..., Any], *args: Any) -> Any:
    """Calls a function as someone who has this token."""
    with mock.patch.dict(os.environ, HF_TOKEN=token):
        return function(*args)


# Checkpoints


def test_the_newest_commit_or_the_named_one_is_opened(
    hub, reader, tiny_checkpoint, second_checkpoint
):
    repo = hub.add_repo("org/versions", tiny_checkpoint, tag="v1")
    first, second = repo.head, repo.commit(second_checkpoint)
    old = pytest.approx(outputs(open_checkpoint(tiny_checkpoint).model), rel=1e-4)
    new = pytest.approx(outputs(open_checkpoint(second_checkpoint).model), rel=1e-4)
    assert reader(opened, "org/versions") == (second, new)
    assert reader(opened, "org/versions@v1") == (first, old)
    assert reader(opened, f"org/versions@{first}") == (first, old)
    assert old != new.expected


def test_a_new_commit_is_noticed(hub, reader, tiny_checkpoint, second_checkpoint):
    repo = hub.add_repo("org/moving", tiny_checkpoint)
    assert reader(opened, "org/moving")[0] == repo.head
    newer = repo.commit(second_checkpoint)
    assert reader(opened, "org/moving")[0] == newer


def test_what_was_opened_once_opens_at_once_without_the_hub(hub, reader, tiny_checkpoint):
    repo = hub.add_repo("org/kept", tiny_checkpoint, tag="v1")
    sources = ("org/kept", "org/kept@v1", f"org/kept@{repo.head}")
    online = [reader(opened, source) for source in sources]
    with hub.down():
        for source, expected in zip(sources, online, strict=True):
            assert reader(at_once, opened, source) == expected


@pytest.mark.parametrize("status", [503, 429, 408])
def test_a_hub_that_asks_to_wait_is_answered_for_by_the_cache(hub, reader, tiny_checkpoint, status):
    hub.add_repo(f"org/busy{status}", tiny_checkpoint)
    online = reader(opened, f"org/busy{status}")
    with hub.refusing(HTTPStatus(status)):
        assert reader(at_once, opened, f"org/busy{status}") == online


def test_opening_again_asks_the_hub_once_and_a_commit_never(hub, reader, tiny_checkpoint):
    repo = hub.add_repo("org/awake", tiny_checkpoint, tag="v1")
    for source in ("org/awake", "org/awake@v1"):
        reader(opened, source)
    asked = len(hub.requests)
    assert reader(opened, "org/awake")[0] == repo.head
    assert reader(opened, "org/awake@v1")[0] == repo.head
    assert hub.requests[asked:] == [
        "GET /api/models/org/awake",
        "GET /api/models/org/awake/revision/v1",
    ]
    reader(opened, f"org/awake@{repo.head}")
    assert len(hub.requests) == asked + 2


def test_only_what_is_read_comes(hub, reader, tiny_checkpoint):
    files = {path.name: path.read_bytes() for path in tiny_checkpoint.iterdir()}
    for name in ("README.md", "metrics.json", "figures/worst.png"):
        files[name] = b"for people"
    hub.add_repo("org/told", files)
    asked = len(hub.requests)
    reader(opened, "org/told")
    got = {path for path in hub.requests[asked:] if path.startswith("GET /org/told/resolve/")}
    assert {path.rpartition("/")[2] for path in got} == set(REQUIRED)


def test_what_another_program_fetched_in_part_is_completed(hub, reader, tiny_checkpoint):
    repo = hub.add_repo("org/shared", tiny_checkpoint)
    reader(opened_by_timm, "hf-hub:org/shared")
    with hub.down(), pytest.raises(CheckpointError, match="or only a part of it"):
        reader(opened, "org/shared")
    assert reader(opened, "org/shared")[0] == repo.head


def test_timm_opens_the_repository_as_we_do(hub, reader, tiny_checkpoint):
    hub.add_repo("org/timm", tiny_checkpoint)
    assert reader(opened_by_timm, "hf-hub:org/timm") == reader(opened, "org/timm")[1]


def test_a_repository_that_is_not_there(reader):
    with pytest.raises(CheckpointError, match="no Hub repository org/nothing that you may read"):
        reader(opened, "org/nothing")


@pytest.mark.parametrize("revision", ["v9", "0" * 40])
def test_a_revision_that_is_not_there(hub, reader, tiny_checkpoint, revision):
    hub.add_repo("org/unversioned", tiny_checkpoint)
    with pytest.raises(CheckpointError, match=f"org/unversioned has no revision {revision}"):
        reader(opened, f"org/unversioned@{revision}")


def test_a_folder_that_is_not_there(reader):
    with pytest.raises(CheckpointError, match=r"no folder \.\./nothing, and it is not a Hub"):
        reader(opened, "../nothing")


def test_a_repository_without_weights(hub, reader, tiny_checkpoint):
    files = {name: (tiny_checkpoint / name).read_bytes() for name in ("config.json", "classes.txt")}
    hub.add_repo("org/weightless", files)
    with pytest.raises(CheckpointError, match=r"org/weightless has no model\.safetensors"):
        reader(opened, "org/weightless")


def test_a_private_repository(hub, reader, tiny_checkpoint):
    repo = hub.add_repo("org/private", tiny_checkpoint, private=True)
    with pytest.raises(CheckpointError, match="if it is private, log in with `hf auth login`"):
        reader(opened, "org/private")
    assert reader(logged_in, "hf_ada", opened, "org/private")[0] == repo.head


def test_a_token_that_the_hub_does_not_know(hub, reader, tiny_checkpoint):
    hub.add_repo("org/open", tiny_checkpoint)
    with pytest.raises(CheckpointError, match="does not know your token, so org/open cannot be"):
        reader(logged_in, "hf_wrong", opened, "org/open")


@pytest.mark.parametrize("source", ["org/never", "org/never@v1", "org/never@" + "0" * 40])
def test_neither_hub_nor_cache(hub, reader, source):
    with hub.down(), pytest.raises(CheckpointError, match="Hub cannot be reached and org/never"):
        reader(at_once, opened, source)


@pytest.mark.parametrize("status", [429, 408])
def test_neither_a_hub_that_asks_to_wait_nor_cache(hub, reader, tiny_checkpoint, status):
    hub.add_repo("org/awaited", tiny_checkpoint)
    with (
        hub.refusing(HTTPStatus(status)),
        pytest.raises(CheckpointError, match=rf"asks to wait \(HTTP {status}\), and org/awaited"),
    ):
        reader(at_once, opened, "org/awaited")


def test_a_connection_that_breaks_within_the_weights(hub, reader, tiny_checkpoint):
    repo = hub.add_repo("org/cut", tiny_checkpoint)
    repo.broken_after = 50_000
    with pytest.raises(CheckpointError, match="org/cut could not be fetched from the Hub"):
        reader(impatient, opened, "org/cut")
    # What had come is not taken for the whole, ...
    with hub.down(), pytest.raises(CheckpointError, match="org/cut"):
        reader(opened, "org/cut")
    # ... and does not stand in the way of it.
    repo.broken_after = None
    answers = pytest.approx(outputs(open_checkpoint(tiny_checkpoint).model), rel=1e-4)
    assert reader(opened, "org/cut") == (repo.head, answers)


def test_a_download_that_breaks_leaves_the_earlier_checkpoint(
    hub, reader, tiny_checkpoint, second_checkpoint
):
    repo = hub.add_repo("org/renewed", tiny_checkpoint)
    before = reader(opened, "org/renewed")
    newer = repo.commit(second_checkpoint)
    repo.broken_after = 50_000
    with pytest.raises(CheckpointError, match="org/renewed could not be fetched from the Hub"):
        reader(impatient, opened, "org/renewed")
    with hub.down():
        assert reader(opened, "org/renewed") == before
    repo.broken_after = None
    assert reader(opened, "org/renewed")[0] == newer


# Datasets


@pytest.fixture(scope="module")
def photos() -> dict[str, list[bytes]]:
    """The files of each split, class by class."""

    def drawn(seed: int, color: str) -> bytes:
        buffer = io.BytesIO()
        draw_car(seed, color).save(buffer, "JPEG")
        return buffer.getvalue()

    return {
        split: [
            drawn(first + number, color)
            for color in CLASSES.values()
            for number in range(PHOTOS_PER_CLASS)
        ]
        for split, first in (("train", 0), ("test", 1000))
    }


@pytest.fixture(scope="module")
def parquet(photos, tmp_path_factory) -> Path:
    """A folder as `push_to_hub` makes it."""
    folder = tmp_path_factory.mktemp("parquet")
    for split, files in photos.items():
        dataset = Dataset.from_dict(
            {
                "image": [{"bytes": file, "path": None} for file in files],
                "label": [index // PHOTOS_PER_CLASS for index in range(len(files))],
            },
            features=Features(image=Image(), label=ClassLabel(names=list(CLASSES))),
        )
        (folder / "data").mkdir(exist_ok=True)
        dataset.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="module")
def expected(photos) -> tuple[list[str], list[int], list[bytes]]:
    labels = [index for index in range(len(CLASSES)) for _ in range(PHOTOS_PER_CLASS)]
    return list(CLASSES), labels * 2, photos["train"] + photos["test"]


def test_all_parts_of_a_hub_data_set_are_read(hub, reader, parquet, expected):
    hub.add_repo("org/cars", parquet, "dataset")
    assert reader(cars, "cars=org/cars") == expected
    with hub.down():
        assert reader(impatient, cars, "cars=org/cars") == expected


def test_the_official_test_part_of_a_hub_data_set_is_measured(
    hub, reader, parquet, photos, tiny_checkpoint, tmp_path
):
    """`--data stanford_cars=hub:…`, without a split file, as anyone can check a number."""
    checkpoint = shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    labels = sorted(TINY_LABELS)[: len(CLASSES)]
    files = {}
    for path in (parquet / "data").iterdir():
        buffer = io.BytesIO()
        dataset = Dataset.from_parquet(str(path))
        dataset.cast_column("label", ClassLabel(names=labels)).to_parquet(buffer)
        files[f"data/{path.name}"] = buffer.getvalue()
    hub.add_repo("org/official", files, "dataset")
    found = reader(measured, checkpoint, "cars=hub:org/official")
    recognizer = CarRecognizer.from_pretrained(checkpoint)
    right = [
        recognizer.predict(file).predictions[0].label == labels[at // PHOTOS_PER_CLASS]
        for at, file in enumerate(photos["test"])
    ]
    assert found["split"] == {"name": "test", "file_sha256": None, "photos": len(right)}
    assert found["top1"]["value"] == pytest.approx(sum(right) / len(right))


def test_a_folder_of_parquet_is_read_alike(reader, parquet, expected):
    assert reader(cars, f"cars={parquet}") == expected


def test_a_data_set_that_is_not_there(hub, reader):
    with pytest.raises(DataError, match="org/nothing cannot be loaded"):
        reader(cars, "cars=org/nothing")
    with hub.down(), pytest.raises(DataError, match="org/never cannot be loaded"):
        reader(impatient, cars, "cars=org/never")


def test_a_private_data_set(hub, reader, parquet, expected):
    hub.add_repo("org/private-cars", parquet, "dataset", private=True)
    with pytest.raises(DataError, match="org/private-cars cannot be loaded"):
        reader(cars, "cars=org/private-cars")
    assert reader(logged_in, "hf_ada", cars, "cars=org/private-cars") == expected


def test_a_data_set_whose_parquet_is_damaged(hub, reader):
    hub.add_repo("org/damaged", {"data/train-00000-of-00001.parquet": b"PAR1 not"}, "dataset")
    with pytest.raises(DataError, match="org/damaged cannot be loaded"):
        reader(cars, "cars=org/damaged")


def test_a_data_set_whose_files_disagree(hub, reader, parquet, tmp_path):
    Dataset.from_dict({"price": [1]}).to_parquet(tmp_path / "train.parquet")
    first = parquet / "data" / "train-00000-of-00001.parquet"
    files = {
        "data/train-00000-of-00002.parquet": first.read_bytes(),
        "data/train-00001-of-00002.parquet": (tmp_path / "train.parquet").read_bytes(),
    }
    hub.add_repo("org/disagreeing", files, "dataset")
    with pytest.raises(DataError, match="org/disagreeing cannot be loaded"):
        reader(cars, "cars=org/disagreeing")


def test_a_connection_that_breaks_within_the_photos(hub, reader, parquet, expected):
    repo = hub.add_repo("org/cut-cars", parquet, "dataset")
    repo.broken_after = 2_000
    with pytest.raises(DataError, match="org/cut-cars cannot be loaded"):
        reader(impatient, cars, "cars=org/cut-cars")
    repo.broken_after = None
    assert reader(cars, "cars=org/cut-cars") == expected


def test_a_data_set_without_class_names(hub, reader, photos, tmp_path):
    image = {"bytes": photos["train"][0], "path": None}
    features = Features(image=Image(), label=Value("int64"))
    Dataset.from_dict({"image": [image], "label": [0]}, features=features).to_parquet(
        tmp_path / "train.parquet"
    )
    hub.add_repo("org/nameless", tmp_path, "dataset")
    with pytest.raises(DataError, match="a column 'label' of named classes"):
        reader(cars, "cars=org/nameless")


# Starting weights


def test_starting_weights_come_from_the_hub(hub, reader):
    published = timm.create_model("test_efficientnet").state_dict()
    published["conv_stem.weight"].fill_(0.5)
    hub.add_repo("timm/test_efficientnet.r160_in1k", {"model.safetensors": save(published)})
    answer = ("Hub timm/test_efficientnet.r160_in1k", (5, 256), True)
    assert reader(started, "test_efficientnet") == answer
    with hub.down():
        assert reader(started, "test_efficientnet") == answer


def test_starting_weights_that_the_hub_does_not_have(hub, reader):
    message = r"the Hub did not give timm/test_resnet\.r160_in1k \(.*--weights none"
    with pytest.raises(MarqueError, match=message):
        reader(started, "test_resnet")
    with hub.down(), pytest.raises(MarqueError, match=message):
        reader(at_once, started, "test_resnet")


def test_starting_weights_whose_connection_breaks(hub, reader):
    published = timm.create_model("test_vit").state_dict()
    repo = hub.add_repo("timm/test_vit.r160_in1k", {"model.safetensors": save(published)})
    repo.broken_after = 50_000
    with pytest.raises(MarqueError, match="the Hub did not give timm/test_vit"):
        reader(impatient, started, "test_vit")


def test_starting_weights_that_are_damaged(hub, reader):
    hub.add_repo("timm/test_vit2.r160_in1k", {"model.safetensors": b"not weights"})
    with pytest.raises(MarqueError, match="the Hub did not give timm/test_vit2"):
        reader(started, "test_vit2")
