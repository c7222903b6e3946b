"""The photos that judge a checkpoint, and what its network says about them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from space.boxes import Box
from space.errors import DataError, PhotoError
from space.outputs import Outputs, joined
from space.photos import load_photo
from space.preprocessing import Prepared
from space.recognizer import BATCH_SIZE, CarRecognizer
from trainer.data.classes import match
from trainer.data.copies import BLACK
from trainer.data.source import Columns
from trainer.data.sources import read_sources
from trainer.data.splits import EXCLUDED, read_split

# The share of a photo's rim that is black at least when its background was painted out. Among
# Algerian Used Cars, cars that touch the rim leave 81% of it black; dark photos have 64% and less.
_BLACK_RIM = 0.75


@dataclass(frozen=True)
class LabeledPhoto:
    """A photo whose class is known.

    Attributes:
        source, path: which photo.
        target: the number of its class among the checkpoint's; -1 for an excluded photo.
        split, group: as the split file has them; without one, the part that the dataset's authors
            put it in, and the photo alone.
        read: returns its file's bytes.
    """

    source: str
    path: str
    target: int
    split: str
    group: str
    read: Callable[[], bytes]


def find_photos(
    recognizer: CarRecognizer,
    specs: Sequence[str],
    split_file: Path | None,
    columns: Columns | None = None,
) -> list[LabeledPhoto]:
    """Every photo of the datasets that the split file names, excluded ones too.

    Args:
        split_file: None takes the parts of the datasets' authors, and only photos that have one.

    Raises:
        DataError: photos that the file names are missing, no dataset has official parts, or a
            class is unknown to the checkpoint.
    """
    rows = read_split(split_file) if split_file else None
    number_of = {label: number for number, label in enumerate(recognizer.labels)}
    photos: list[LabeledPhoto] = []
    unknown = set()
    sources = read_sources(specs, columns)
    for source in sources:
        known = match(source, recognizer.labels, recognizer.cars)
        table = source.photos
        for path, label, official, reader in zip(
            table["path"], table["label"], table["official"], source.readers(), strict=True
        ):
            row = {"label": source.label_names[label], "split": official, "group": path}
            if rows is not None:
                row = rows.get((source.name, path), {"split": ""})
            if not row["split"]:
                continue
            target = number_of.get(known.get(row["label"], ""), -1)
            if target < 0 and row["split"] != EXCLUDED:
                unknown.add(row["label"])
            photos.append(
                LabeledPhoto(source.name, path, target, row["split"], row["group"], reader)
            )
    if unknown:
        some = ", ".join(sorted(unknown)[:3])
        raise DataError(f"the checkpoint does not know {len(unknown)} of the classes: {some}")
    names = ", ".join(sorted(source.name for source in sources))
    if rows is None and not photos:
        raise DataError(f"{names} has no official parts; name a split file with --split-file")
    if rows is not None:
        wanted = sum(name in {source.name for source in sources} for name, _ in rows)
        if len(photos) < wanted or not photos:
            raise DataError(
                f"{split_file} names {wanted} photos of {names}, "
                f"but --data has only {len(photos)} of them"
            )
    return photos


@dataclass(frozen=True)
class Predictions:
    """What the network makes of photos.

    Attributes:
        logits: float32, shape (photos, classes).
        features: float32, shape (photos, channels), see `space.network.Outputs`.
        boxes: the car that was cut out of each photo; None where all of it was looked at.
        backgroundless: whether the background was painted black, bool, shape (photos,).
    """

    logits: np.ndarray
    features: np.ndarray
    boxes: list[Box | None]
    backgroundless: np.ndarray


def predict_photos(
    recognizer: CarRecognizer,
    readers: Sequence[Callable[[], bytes]],
    what: str,
    change: Callable[[Image.Image], Image.Image] | None = None,
) -> Predictions:
    """What the recognizer predicts for photos.

    Args:
        readers: for each photo a function that returns its file's bytes.
        what: for the progress bar.
        change: what is done to each picture first.

    Raises:
        DataError: a photo cannot be read.
    """
    pictures = read_pictures(readers, what)
    return predict_pictures(recognizer, map(change, pictures) if change else pictures, what)


def read_pictures(readers: Sequence[Callable[[], bytes]], what: str) -> Iterator[Image.Image]:
    """The pictures in files, with a progress bar.

    Raises:
        DataError: a photo cannot be read.
    """
    for reader in tqdm(readers, desc=what, unit="photo", delay=1):
        try:
            yield load_photo(reader())
        except (PhotoError, OSError) as error:
            raise DataError(f"a photo cannot be read: {error}") from None


def predict_pictures(
    recognizer: CarRecognizer, pictures: Iterable[Image.Image], what: str
) -> Predictions:
    """What the recognizer predicts for upright RGB pictures.

    Args:
        what: they are, for the error.

    Raises:
        DataError: there is none.
    """
    outputs: list[Outputs] = []
    rims = []
    boxes: list[Box | None] = []
    block: list[Prepared] = []

    def flush() -> None:
        outputs.append(recognizer.infer(block))
        boxes.extend(part.box for part in block)
        block.clear()

    for picture in pictures:
        rims.append(_is_rim_black(picture))
        block.append(recognizer.prepare(picture))
        if len(block) == BATCH_SIZE:
            flush()
    if block:
        flush()
    if not outputs:
        raise DataError(f"there are no {what} photos")
    return Predictions(
        *joined(outputs),
        boxes,
        np.array(rims),
    )


def _is_rim_black(picture: Image.Image) -> bool:
    """Whether most of the outermost pixels of an RGB picture are black."""
    black = np.asarray(picture).max(axis=2) <= BLACK
    rim = np.concatenate([black[0], black[-1], black[:, 0], black[:, -1]])
    return bool(rim.mean() > _BLACK_RIM)


def siblings_of(
    photos: Sequence[LabeledPhoto], backgroundless: np.ndarray
) -> list[tuple[LabeledPhoto, LabeledPhoto]]:
    """Pairs (photo, sibling) of the same photo with its background and without.

    Groups of more than two may hold photos that are framed otherwise, and are passed over.

    Args:
        backgroundless: of each photo, bool, shape (photos,).
    """
    groups: dict[str, list[int]] = {}
    for number, photo in enumerate(photos):
        groups.setdefault(photo.group, []).append(number)
    pairs = [
        sorted(numbers, key=lambda number: backgroundless[number]) for numbers in groups.values()
    ]
    return [
        (photos[pair[0]], photos[pair[1]])
        for pair in pairs
        if len(pair) == 2 and backgroundless[pair].sum() == 1
    ]
