"""Where the most prominent car of each photo is, found once and kept on disk."""

import csv
import threading
from pathlib import Path

from PIL import Image

from space.boxes import Box
from space.detector import NANODET, Detector
from trainer.data.source import content_key


class CarBoxes:
    """The boxes that the detector finds, by what a photo's file holds.

    Another detector makes another file beside the old one. A line that a kill cut short costs one
    detection. Safe to share between threads, not between processes that write at the same time.
    """

    def __init__(self, folder: str | Path, detector: Detector | None = None):
        """Opens or creates the file of boxes under `folder`.

        Args:
            detector: the one that is shipped by default.
        """
        self.detector_key = content_key(NANODET.read_bytes())[:12]
        self._detector = detector or Detector()
        self._file = Path(folder) / f"boxes-{self.detector_key}.csv"
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._known = self._read()

    def find(self, key: str, picture: Image.Image) -> Box | None:
        """The box of the most prominent car, or None when the detector sees no vehicle.

        Args:
            key: the hash of the photo's file, see `trainer.data.source.content_key`.
            picture: the photo, upright, RGB.
        """
        if key not in self._known:
            found = self._detector.detect(picture)
            box = found[0].box if found else None
            with self._lock, self._file.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerow([key, *(box or [""] * 4)])
            self._known[key] = box
        return self._known[key]

    def _read(self) -> dict[str, Box | None]:
        if not self._file.exists():
            return {}
        known: dict[str, Box | None] = {}
        with self._file.open(newline="", encoding="utf-8", errors="replace") as file:
            for line in csv.reader(file):
                if len(line) != 5:
                    continue  # a line that a kill cut short
                try:
                    known[line[0]] = Box(*map(float, line[1:])) if line[1] else None
                except ValueError:
                    continue
        return known
