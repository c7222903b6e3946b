"""Datasets of the Hub from photos of your own; `trainer.publish_data` says what is in them."""

import io
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
from datasets import ClassLabel, Dataset, DatasetInfo, Features, Image, Value
from datasets.info import DatasetInfosDict
from datasets.splits import SplitDict, SplitInfo
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCardData
from PIL import ExifTags
from PIL import Image as Pillow
from tqdm import tqdm

from space.checkpoints import write_json
from space.errors import DataError
from space.names import car_label, car_of
from trainer.auditing.files import in_numbers
from trainer.auditing.findings import Audit, PhotoFacts, summarize
from trainer.auditing.sheets import write_class_distribution
from trainer.data.classes import Classes, identity
from trainer.data.dataset import DataSet
from trainer.data.research_sets import find_research_set
from trainer.data.sources.hub import spelled
from trainer.data.splits import TEST, TRAIN, VALIDATION, Photo, write_split
from trainer.publishing.upload import files_below
from trainer.rendering import many, percent, plain

PARTS = (TRAIN, VALIDATION, TEST)
AUDIT = "audit.json"
_SHARD = 200_000_000  # bytes of photos in a file; as many are in memory at once
_SEED = 0  # shuffles the rows


def refuse_research_sets(specs: Sequence[str], data: DataSet, permission: str) -> None:
    """Raises a DataError where a source is one of the two whose photos belong to others."""
    for spec, source in zip(specs, data.sources, strict=True):
        found = find_research_set(spec, source)
        if found and not permission.strip():
            raise DataError(
                f"--data {spec} is {found}. Its photos belong to their photographers and may not "
                "be passed on. If you may, say why with --permission TEXT, which the card quotes"
            )


def write_data_set(
    folder: Path,
    repo: str,
    data: DataSet,
    audit: Audit,
    *,
    license: str,
    split: str,
    permission: str = "",
    keep_locations: bool = False,
) -> None:
    """Writes a dataset as it lies on the Hub, see the module's head.

    Args:
        folder: made if need be; what an earlier call left there is replaced.
        repo: `org/name`.
        data: split; excluded photos stay out.
        audit: of the same photos.
        license: as the Hub calls it.
        split: how they were split, as `Scheme.parse` reads it; empty for a split of one's own.
        permission: why photos that are known to belong to others may be published.
        keep_locations: photos may say where they were taken.

    Raises:
        DataError: the folder holds something else, or a photo says where it was taken.
    """
    _refuse_other_work(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as place:
        staged = Path(place) / folder.name
        (staged / "data").mkdir(parents=True)
        _write(staged, repo, data, audit, license, split, permission, keep_locations)
        if folder.exists():
            shutil.rmtree(folder)
        staged.rename(folder)


def _write(
    folder: Path,
    repo: str,
    data: DataSet,
    audit: Audit,
    license: str,
    split: str,
    permission: str,
    keep_locations: bool,
) -> None:
    """Does the work of `write_data_set` in a new folder."""
    name = repo.rpartition("/")[2]
    labels = class_names(data.classes)
    features = Features(
        image=Image(),
        label=ClassLabel(names=labels),
        make=Value("string"),
        model=Value("string"),
        year=Value("int32"),
        group=Value("string"),
        source=Value("string"),
    )
    published: list[Photo] = []  # as whoever reads the dataset will call them
    splits = SplitDict()
    located = 0
    for part in PARTS:
        chosen = [index for index, photo in enumerate(data.photos) if photo.split == part]
        if not chosen:
            continue
        # Readers of a stream see a file at a time; sorted, that would be a class at a time.
        random.Random(_SEED).shuffle(chosen)
        for number, index in enumerate(chosen):
            photo = data.photos[index]
            path = f"{part}/{number:06d}-{Path(photo.path).name}"
            published.append(replace(photo, source=name, path=path, label=labels[photo.target]))
        size, found = _write_part(folder / "data", part, features, data, chosen)
        splits.add(SplitInfo(part, num_bytes=size, num_examples=len(chosen)))
        located += found
    if located and not keep_locations:
        raise DataError(
            f"{many(located, 'photo')} would give away a place (GPS in EXIF or XMP): strip "
            "that first, such as with `exiftool -gps:all= -xmp:geotag= -r FOLDER`, or give "
            "--keep-locations"
        )
    write_split(folder / "split.csv", published)
    facts = [PhotoFacts(name, photo.path, photo.label, photo.group) for photo in published]
    (counts,) = summarize(facts, {name: repo})
    write_class_distribution([counts], folder / "class_distribution.png")
    told = {
        "published": {
            "repository": repo,
            "license": license,
            "permission": permission,
            "fingerprint": data.fingerprint,
            "split": split,
            "photos": counts.photos,
            "groups": counts.groups,
            "parts": {part: _count(published, part) for part in splits},
            "located": located,
            "classes": counts.per_class,
        },
        "left_out": _left_out(data),
        "found": in_numbers(audit),
    }
    write_json(folder / AUDIT, told)
    size = sum(path.stat().st_size for path in (folder / "data").iterdir())
    info = DatasetInfo(
        features=features,
        splits=splits,
        download_size=size,
        dataset_size=sum(split.num_bytes for split in splits.values()),
    )
    (folder / "README.md").write_text(_card(name, info, told), encoding="utf-8")


def class_names(classes: Classes) -> list[str]:
    """What classes are called so that whoever reads their names finds the same cars in them.

    A table of its own may have told what a label means; on the Hub there is only the label.
    """
    names: list[str] = []
    for label, car in zip(classes.labels, classes.cars, strict=True):
        name = spelled(label)
        if identity(car_of(name)) != identity(car):
            name = spelled(car_label(car))
        names.append(spelled(label) if name in names else name)
    return names


def _refuse_other_work(folder: Path) -> None:
    """Raises a DataError unless a folder is missing, empty, or all from an earlier call."""
    there = set(files_below(folder))
    ours = {"README.md", AUDIT, "split.csv", "class_distribution.png"}
    others = {name for name in there if name not in ours and not name.startswith("data/")}
    if others or (there and AUDIT not in there):
        raise DataError(
            f"{folder} holds {min(others or there)}, which is not from here; name another folder"
        )


def _write_part(
    folder: Path, part: str, features: Features, data: DataSet, chosen: Sequence[int]
) -> tuple[int, int]:
    """Writes one part; returns its bytes in memory and how many photos tell where they are from."""
    size = located = 0
    paths: list[Path] = []
    for rows in _shards(data, chosen, part):
        located += sum(_is_located(row["image"]["bytes"]) for row in rows)
        paths.append(folder / f"{part}-{len(paths):05d}")
        size += Dataset.from_list(rows, features=features).to_parquet(paths[-1])
    for path in paths:  # only now it is known how many there are
        path.rename(f"{path}-of-{len(paths):05d}.parquet")
    return size, located


def _shards(data: DataSet, chosen: Sequence[int], part: str) -> Iterator[list[dict[str, Any]]]:
    """The rows of photos, as many at a time as go into a file."""
    rows: list[dict[str, Any]] = []
    size = 0
    for index in tqdm(chosen, desc=f"writing {part}", unit="photo", delay=1):
        photo, content = data.photos[index], data.readers[index]()
        if rows and size + len(content) > _SHARD:
            yield rows
            rows, size = [], 0
        size += len(content)
        car = data.classes.cars[photo.target]
        rows.append(
            {
                "image": {"bytes": content, "path": Path(photo.path).name},
                "label": photo.target,
                "make": car.make,
                "model": car.model,
                "year": car.year,
                "group": photo.group,
                "source": photo.source,
            }
        )
    yield rows


def _is_located(content: bytes) -> bool:
    """Whether a photo says where it was taken, in EXIF or in XMP."""
    with Pillow.open(io.BytesIO(content)) as picture:
        if picture.format == "PNG":
            picture.load()  # what is said of it may stand after its pixels
        if picture.getexif().get_ifd(ExifTags.IFD.GPSInfo):
            return True
        xmp = str(picture.info.get("xmp"))  # bytes; in odd TIFF files text
        return "GPSLatitude" in xmp or "GPSLongitude" in xmp


def _count(photos: Sequence[Photo], part: str) -> dict[str, int]:
    """How many photos a part has, and how many of them are different ones."""
    groups = [photo.group for photo in photos if photo.split == part]
    return {"photos": len(groups), "groups": len(set(groups))}


def _left_out(data: DataSet) -> dict[str, int]:
    """How many photos stayed out, by the reason."""
    excluded = Counter(photo.reason.partition(":")[0] for photo in data.photos if photo.reason)
    if data.problems:
        excluded["it could not be read, or names no class"] = len(data.problems)
    return dict(excluded.most_common())


def _card(name: str, info: DatasetInfo, told: Mapping[str, Any]) -> str:
    """The README, whose numbers are those of audit.json."""
    head = DatasetCardData(
        pretty_name=name,
        license=told["published"]["license"],
        task_categories=["image-classification"],
        size_categories=[_size_category(told["published"]["photos"])],
        tags=["cars", "fine-grained"],
    )
    files = [{"split": part, "path": f"data/{part}-*"} for part in told["published"]["parts"]]
    DatasetInfosDict({"default": info}).to_dataset_card_data(head)
    MetadataConfigs({"default": {"data_files": files}}).to_dataset_card_data(head)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("trainer.publishing", "."),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"plain": plain, "many": many, "percent": percent}
    template = environment.get_template("data_card.md.jinja")
    return f"---\n{head.to_yaml()}\n---\n\n{template.render(name=name, **told)}"


def _size_category(photos: int) -> str:
    """The Hub's name for a number of rows."""
    limits = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}
    return next((name for limit, name in limits.items() if photos < limit), "n>1M")
