"""What memory.safetensors gives away: `python -m benchmarks.memory --data NAME --split-file FILE`.

Somebody who has the memory of a checkpoint, and photos of their own with what the network makes of
them, may try to draw the remembered photos: here by the best linear map (ridge regression) from
the remembered numbers to a picture of 16 x 16 grey pixels. It is fitted on four fifths of the
held-out photos themselves, which is more than any stranger has, and asked for the others. Told is
how much of the pictures' variance it explains, and how often the drawn picture is nearer to its own
photo than to a random one of the same class. Written to benchmarks/memory.json.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from space.checkpoints import BUNDLED, MEMORY, write_json
from space.recognizer import CarRecognizer
from space.walk import user_path
from trainer.data.options import add_data_options, columns_of
from trainer.data.splits import VALIDATION
from trainer.evaluation.metrics import Estimate
from trainer.evaluation.predictions import find_photos, read_pictures
from trainer.provenance import command_line, git_revision

PATH = Path(__file__).with_suffix(".json")
SIDE = 16


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_options(parser)
    parser.add_argument("--split-file", type=user_path, required=True, metavar="FILE")
    parser.add_argument("--model", type=user_path, default=BUNDLED, metavar="FOLDER")
    options = parser.parse_args(arguments)
    recognizer = CarRecognizer.from_pretrained(options.model)
    memory = recognizer.memory
    assert memory is not None
    photos = find_photos(recognizer, options.data, options.split_file, columns_of(options))
    held_out = [photo for photo in photos if photo.split == VALIDATION]
    assert [photo.target for photo in held_out] == memory.targets.tolist()
    pictures = np.stack(
        [
            thumbnail(recognizer.prepare(picture).pixels)
            for picture in read_pictures([photo.read for photo in held_out], VALIDATION)
        ]
    )
    groups = [photo.group for photo in held_out]
    drawn = redrawn(memory.features, pictures, groups)
    errors = ((drawn - pictures) ** 2).sum()
    spread = ((pictures - pictures.mean(axis=0)) ** 2).sum()
    write_json(
        PATH,
        {
            "command": command_line("python -m benchmarks.memory", arguments),
            "checkpoint": recognizer.revision,
            "bytes": (recognizer.checkpoint.folder / MEMORY).stat().st_size,
            "photos": len(held_out),
            "side": SIDE,
            "variance_explained": float(1 - errors / spread),
            "nearer_to_its_own": nearer(drawn, pictures, memory.targets, groups),
            "git_revision": git_revision(),
        },
    )


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Grey, 0 to 1, shape (SIDE * SIDE,), of what the network sees."""
    picture = Image.fromarray(pixels.transpose(1, 2, 0)).convert("L")
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX)).ravel() / 255


def redrawn(features: np.ndarray, pictures: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Each picture by a map that was fitted on other photos, of five folds by groups."""
    found = np.zeros_like(pictures)
    for fitted, kept in GroupKFold(5).split(features, pictures, groups):
        scaler = StandardScaler().fit(features[fitted])
        ridge = RidgeCV(alphas=np.logspace(1, 5, 9)).fit(
            scaler.transform(features[fitted]), pictures[fitted]
        )
        found[kept] = ridge.predict(scaler.transform(features[kept]))
    return found


def nearer(
    drawn: np.ndarray, pictures: np.ndarray, targets: np.ndarray, groups: Sequence[str]
) -> dict[str, float]:
    """How often a drawn picture is nearer to its own photo than to another of its class; half of
    the time would be chance."""
    rng = np.random.default_rng(0)
    marks, of = [], []
    for number, target in enumerate(targets):
        others = [
            n for n in np.flatnonzero(targets == target).tolist() if groups[n] != groups[number]
        ]
        if not others:
            continue
        other = rng.choice(others)
        own, its = (((drawn[number] - pictures[n]) ** 2).sum() for n in (number, other))
        marks.append(own < its)
        of.append(groups[number])
    return Estimate.of_marks(np.array(marks), of)


if __name__ == "__main__":
    main()
