"""What it changes to decode a large JPEG at a fraction: `python -m benchmarks.large_photos …`.

Test photos are enlarged to 12 megapixels, as telephones take them, and answered twice: decoded at a
fraction, as `space.photos` does, and whole. Written to benchmarks/large_photos.json.
"""

import argparse
import io
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import space.photos
from space.checkpoints import write_json
from space.photos import load_photo
from space.recognizer import CarRecognizer
from space.walk import user_path
from trainer.data.options import add_data_options, columns_of
from trainer.data.splits import TEST
from trainer.evaluation.metrics import Estimate
from trainer.evaluation.predictions import find_photos
from trainer.provenance import command_line, git_revision

PATH = Path(__file__).with_suffix(".json")
PIXELS = 12_000_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    add_data_options(parser)
    parser.add_argument("--split-file", type=user_path, required=True, metavar="FILE")
    parser.add_argument("--photos", type=int, default=500, metavar="N")
    options = parser.parse_args(arguments)
    recognizer = CarRecognizer.from_pretrained()
    photos = find_photos(recognizer, options.data, options.split_file, columns_of(options))
    tested = [photo for photo in photos if photo.split == TEST]
    tested = tested[:: max(1, len(tested) // options.photos)][: options.photos]
    enough = space.photos.ENOUGH_PIXELS
    same_label, same_verdict = [], []
    seconds = {"fraction": 0.0, "whole": 0.0}
    for photo in tested:
        large = _enlarged(photo.read())
        answers = {}
        for way, pixels in (("fraction", enough), ("whole", 10**6)):
            space.photos.ENOUGH_PIXELS = pixels
            started = time.perf_counter()
            answers[way] = recognizer.predict(large)
            seconds[way] += time.perf_counter() - started
        fraction, whole = answers["fraction"], answers["whole"]
        same_label.append(fraction.predictions[0].label == whole.predictions[0].label)
        same_verdict.append(fraction.verdict == whole.verdict)
    groups = [photo.group for photo in tested]
    write_json(
        PATH,
        {
            "command": command_line("python -m benchmarks.large_photos", arguments),
            "checkpoint": recognizer.revision,
            "photos": len(tested),
            "same_first_answer": Estimate.of_marks(np.array(same_label), groups),
            "same_verdict": Estimate.of_marks(np.array(same_verdict), groups),
            "whole_over_fraction": seconds["whole"] / seconds["fraction"],
            "git_revision": git_revision(),
        },
    )
    print(PATH.read_text())


def _enlarged(content: bytes) -> bytes:
    """A photo as a JPEG of 12 megapixels."""
    picture = load_photo(content)
    factor = (PIXELS / (picture.width * picture.height)) ** 0.5
    size = round(picture.width * factor), round(picture.height * factor)
    file = io.BytesIO()
    picture.resize(size).save(file, "JPEG", quality=90)
    return file.getvalue()


if __name__ == "__main__":
    main()
