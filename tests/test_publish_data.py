"""Photos of one's own on the Hub, which `LocalHub` plays, and read from there again."""

import contextlib
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import draw_car
from huggingface_hub import hf_hub_download
from PIL import ExifTags, Image, PngImagePlugin
from test_data import planted  # noqa: F401 (a fixture)
from test_upload import as_someone

from space.labels import Car
from space.names import car_of
from trainer.data.cache import PhotoCache, geometry
from trainer.data.classes import Classes, identity
from trainer.data.dataset import load_data
from trainer.data.sources import algerian, read_source, stanford
from trainer.data.splits import EXCLUDED, Scheme
from trainer.publish_data import main
from trainer.publishing.dataset import class_names

Answer = tuple[int, str, str]


@pytest.fixture
def publish(call, tmp_path) -> Callable[..., Answer]:
    """Runs the command on a folder in the other process."""

    def publish(repo: str, data: str, *more: str) -> Answer:
        places = (f"--out={tmp_path / 'out'}", f"--cache={tmp_path / 'cache'}", "--cache-size=64")
        chosen = (f"--data={data}", "--license=cc-by-4.0", "--no-network")
        return call(run, [repo, *chosen, *places, *more])

    return publish


# These run in the other process.


def run(arguments: list[str]) -> Answer:
    """The exit status, and what was printed for people and as errors."""
    with (
        contextlib.redirect_stdout(io.StringIO()) as printed,
        contextlib.redirect_stderr(io.StringIO()) as errors,
    ):
        status = main(arguments)
    return status, printed.getvalue(), errors.getvalue()


def read_back(repo: str, cache: Path, split_file: bool) -> tuple[tuple[str, ...], set[tuple]]:
    """The classes of a dataset on the Hub, and all that is known of each photo."""
    name = repo.rpartition("/")[2]
    file = Path(hf_hub_download(repo, "split.csv", repo_type="dataset")) if split_file else None
    data = load_data(
        [f"{name}={repo}"],
        PhotoCache(cache, geometry(64)),
        split_file=file,
        scheme=Scheme.parse("official"),
        exteriors=False,
    )
    return data.classes.labels, known(data.photos)


def known(photos) -> set[tuple]:
    return {
        (photo.key, photo.label, photo.split, photo.group)
        for photo in photos
        if photo.split != EXCLUDED
    }


@pytest.fixture
def assigned(planted, tmp_path):  # noqa: F811
    """What training makes of the planted photos."""
    scheme = Scheme.parse("70/15/15")
    cache = PhotoCache(tmp_path / "cache", geometry(64))
    return load_data([f"planted={planted}"], cache, scheme=scheme, seed=3, exteriors=False)


def test_what_is_published_is_read_again_the_same(
    hub,
    call,
    publish,
    planted,  # noqa: F811
    assigned,
    tmp_path,
):
    (planted / "Audi A4" / "broken.jpg").write_bytes(b"\xff\xd8 cut short")
    more = ("--split=70/15/15", "--seed=3")
    status, printed, errors = publish("org/planted", f"cars={planted}", *more)
    assert status == 0, errors
    assert "logged in as ada" in printed
    repo = hub.repo("org/planted", "dataset")
    assert set(repo.files) == {
        ".gitattributes",
        "README.md",
        "audit.json",
        "class_distribution.png",
        "split.csv",
        *(f"data/{part}-00000-of-00001.parquet" for part in ("train", "validation", "test")),
    }
    assert len(repo.history) == 2

    # Read again: classes, parts, groups and every file's bytes.
    expected = (assigned.classes.labels, known(assigned.photos))
    assert len(expected[1]) > 80
    for split_file in (True, False):
        assert call(read_back, "org/planted", tmp_path / "cache", split_file) == expected

    # The card: its head is what `datasets` and the Hub read, its numbers are those of audit.json.
    told = json.loads(repo.files["audit.json"])
    assert told["left_out"] == {
        "the same photo stands under 2 labels": 3 * 2 * 2,
        "it could not be read, or names no class": 1,
    }
    assert told["published"]["photos"] == len(expected[1]) + 3 * 6  # files that stand twice
    assert str(tmp_path) not in repo.files["audit.json"].decode()
    _, head, body = repo.files["README.md"].decode().split("---\n", 2)
    front = yaml.safe_load(head)
    assert front["license"] == "cc-by-4.0"
    sizes = {split["name"]: split["num_examples"] for split in front["dataset_info"]["splits"]}
    assert sizes == {part: n for part, n in assigned.sizes.items() if part != EXCLUDED}
    assert set(numbers_in(body)) <= set(map(str, numbers(told))) | {"80", "10", "70", "15"}

    # A second time there is nothing to send.
    assert publish("org/planted", f"cars={planted}", *more)[0] == 0
    assert len(repo.history) == 2


def numbers_in(text: str) -> list[str]:
    """The whole numbers of a card's prose and tables, its code left aside."""
    prose = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    return re.findall(r"(?<![\w.-])\d+(?![\w.-])", prose.replace(",", ""))


def numbers(content: Any) -> list[int]:
    """Every number in a JSON file, and the sizes of its tables; shares in percent."""
    if isinstance(content, dict):
        return [len(content), *(n for value in content.values() for n in numbers(value))]
    if isinstance(content, list):
        return [n for value in content for n in numbers(value)]
    if isinstance(content, float):
        return [round(100 * content)]
    if isinstance(content, str):
        return [int(n) for n in re.findall(r"\d+", content)]
    return [content] if isinstance(content, int) else []


def test_a_dry_run_writes_the_folder_and_sends_nothing(hub, publish, folders, tmp_path):
    status, printed, _ = publish("org/dry", f"cars={folders}", "--dry-run")
    assert status == 0
    for name in ("README.md", "split.csv", "data/train-00000-of-00001.parquet"):
        assert f"  {name}\n" in printed
        assert (tmp_path / "out" / name).is_file()
    assert "logged in as ada\n" in printed
    assert printed.endswith("a dry run: nothing was written\n")
    with pytest.raises(KeyError):
        hub.repo("org/dry", "dataset")


def test_photos_of_others_need_a_permission_which_the_card_quotes(hub, publish, folders):
    for old, new in (("BMW M3 Coupe 2012", "clio"), ("Audi A4 Sedan 2012", "bmw serie 1")):
        (folders / old).rename(folders / new)
    data = f"mine=algerian_used_cars:{folders}"
    status, _, errors = publish("org/taken", data)
    assert status == 1
    assert "Algerian Used Cars: it is laid out like it" in errors
    with pytest.raises(KeyError):
        hub.repo("org/taken", "dataset")
    assert publish("org/taken", data, "--permission=all sellers agreed in writing")[0] == 0
    card = hub.repo("org/taken", "dataset").files["README.md"].decode()
    assert "> all sellers agreed in writing" in card
    labels = yaml.safe_load(card.split("---\n")[1])["dataset_info"]["features"][1]["dtype"]
    assert {"BMW 1 Series", "Renault Clio"} < set(labels["class_label"]["names"].values())


def test_photos_that_tell_where_they_were_taken_are_refused(publish, folders, tmp_path):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (36.0, 45.0, 0.0)
    for name in ("a", "b"):
        draw_car(70 + ord(name)).save(folders / "BMW M3 Coupe 2012" / f"{name}.jpg", exif=exif)
    status, _, errors = publish("org/located", f"cars={folders}", "--dry-run")
    assert status == 1
    assert "2 photos would give away a place (GPS in EXIF or XMP)" in errors
    assert not (tmp_path / "out").exists()
    assert publish("org/located", f"cars={folders}", "--dry-run", "--keep-locations")[0] == 0


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_a_place_in_xmp_is_refused_too(publish, folders, suffix):
    photo = folders / "BMW M3 Coupe 2012" / f"a.{suffix}"
    draw_car(70).save(photo, **xmp(suffix, b'exif:GPSLatitude="36,45.0N"'))
    status, _, errors = publish("org/located", f"cars={folders}", "--dry-run")
    assert status == 1
    assert "1 photo would give away a place (GPS in EXIF or XMP)" in errors


def test_other_words_in_xmp_are_not_a_place(publish, folders):
    photo = folders / "BMW M3 Coupe 2012" / "a.jpg"
    draw_car(70).save(photo, **xmp("jpg", b'xmp:CreatorTool="a camera"'))
    assert publish("org/unlocated", f"cars={folders}", "--dry-run")[0] == 0


def xmp(suffix: str, said: bytes) -> dict[str, Any]:
    """How Pillow writes a packet that says something."""
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description ' + said + b"/></x:xmpmeta>"
    if suffix == "png":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_itxt("XML:com.adobe.xmp", packet.decode(), zip=True)
        return {"pnginfo": chunks}
    return {"tiffinfo": {700: packet}} if suffix == "tif" else {"xmp": packet}


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (["planted"], "planted names no owner; give org/name"),
        (["org/not valid"], "alphanumeric"),
        (["org/x", "--license=CC BY 4.0"], "'CC BY 4.0' is not the ID of a license"),
    ],
)
def test_what_the_hub_would_not_take_is_told_at_once(capsys, wrong, why):
    with pytest.raises(SystemExit, match="2"):
        main(["--data=cars=nowhere", "--license=mit", "--out=nowhere", *wrong])
    assert why in capsys.readouterr().err


def test_nobody_logged_in_is_told_before_a_photo_is_read(call):
    arguments = ["org/x", "--data=cars=nowhere", "--license=mit", "--out=nowhere", "--dry-run"]
    status, _, errors = call(as_someone, None, run, arguments)
    assert status == 1
    assert errors.startswith("publish_data: nobody is logged in: log in with `hf auth login`")


def test_a_licence_goes_as_the_hub_writes_it(hub, publish, folders):
    assert publish("org/licensed", f"cars={folders}", "--license=CC-BY-4.0")[0] == 0
    card = hub.repo("org/licensed", "dataset").files["README.md"].decode()
    assert "\nlicense: cc-by-4.0\n" in card


def test_a_folder_that_cannot_be_made_is_told(publish, folders, tmp_path):
    (tmp_path / "file.txt").write_text("no folder")
    out = tmp_path / "file.txt" / "out"
    status, _, errors = publish("org/x", f"cars={folders}", f"--out={out}", "--dry-run")
    assert status == 1
    assert errors.startswith("publish_data: [Errno ")
    assert str(tmp_path / "file.txt") in errors


def test_a_folder_that_holds_something_else_is_not_touched(publish, folders, tmp_path):
    (tmp_path / "out" / "data").mkdir(parents=True)
    photos = tmp_path / "out" / "data" / "train.parquet"
    photos.write_bytes(b"years of work")
    status, _, errors = publish("org/x", f"cars={folders}", "--dry-run")
    assert status == 1
    assert "holds data/train.parquet, which is not from here; name another folder" in errors
    assert photos.read_bytes() == b"years of work"


def test_the_real_classes_are_known_under_another_name(publish, real_data, tmp_path):
    for photos in (real_data / "algerian_used_cars" / "DATA").glob("*/"):
        (tmp_path / "mine" / photos.name).mkdir(parents=True)
        shutil.copy(min(photos.glob("*.jpg")), tmp_path / "mine" / photos.name)
    status, _, errors = publish("org/mine", f"mine={tmp_path / 'mine'}", "--dry-run")
    assert status == 1
    assert "is Algerian Used Cars: 20 of its 20 classes are there" in errors


def test_large_parts_become_several_files(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.publishing.dataset._SHARD", 10_000)
    arguments = ["org/x", f"--data=cars={folders}", "--license=mit", "--no-network", "--dry-run"]
    places = [f"--out={tmp_path / 'out'}", f"--cache={tmp_path / 'cache'}", "--cache-size=64"]
    monkeypatch.setattr("trainer.publish_data.check_login", lambda: "ada")
    monkeypatch.setattr("trainer.publish_data.upload", lambda *what, **how: None)
    assert main([*arguments, *places]) == 0
    files = sorted(path.name for path in (tmp_path / "out" / "data").glob("train-*"))
    count = len(files)
    assert count > 1
    assert files == [f"train-{n:05d}-of-{count:05d}.parquet" for n in range(count)]
    source = read_source(f"again={tmp_path / 'out'}")
    assert len(source.photos) == 20


def test_class_names_mean_the_same_cars_when_they_are_read():
    known = {label: car_of(label) for label in stanford.LABELS} | algerian._CARS
    known["my neighbor's"] = Car("Citroën", "2CV", 1970)
    names = class_names(Classes(tuple(known), tuple(known.values()), {}))
    assert [identity(car_of(name)) for name in names] == [*map(identity, known.values())]
    assert names[:196] == list(stanford.LABELS)
    assert names[-1] == "Citroën 2CV 1970"
