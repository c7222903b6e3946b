"""What visitors say of answers, kept where the operator wants it.

MARQUE_FEEDBACK turns it on: a folder, or the name of a dataset of the Hub (org/name), to which it
is sent every few minutes. `feedback.jsonl` has a line for every word of a visitor. Where the
visitor agreed, the photo lies in `photos/CLASS/`, a folder of classes that `trainer.train --data`
reads.
"""

import json
import re
import threading
import uuid
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from space.answers import Recognition
from space.errors import MarqueError

_MINUTES = 5  # between two commits to the Hub
_MOST_BYTES = 2 * 2**30  # that are kept; then nothing is taken any more
_UNFIT = re.compile(r'[\x00-\x1f/\\:*?"<>|]+')  # in the name of a folder, on any system


class Feedback:
    """Keeps what visitors say of answers. Safe between threads."""

    def __init__(self, place: str, commits: Path | None = None):
        """Takes a place.

        Args:
            place: a folder, or org/name of a dataset on the Hub.
            commits: where what is to be sent waits; by default the folder `feedback`.

        Raises:
            MarqueError: the folder cannot be written.
        """
        hub = re.fullmatch(r"[\w.-]+/[\w.-]+", place) is not None and not Path(place).exists()
        self._folder = (commits or Path("feedback")) if hub else Path(place).expanduser()
        self._lock: AbstractContextManager[Any] = threading.Lock()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._kept = sum(path.stat().st_size for path in self._folder.rglob("*"))
        except OSError as error:
            raise MarqueError(
                f"the folder for feedback {self._folder} cannot be written ({error.strerror}); "
                "name another one in MARQUE_FEEDBACK"
            ) from None
        if hub:
            from huggingface_hub import CommitScheduler

            self._scheduler = CommitScheduler(
                repo_id=place,
                repo_type="dataset",
                folder_path=self._folder,
                every=_MINUTES,
                private=True,
            )
            self._lock = self._scheduler.lock

    def keep(
        self, said: str, recognition: Recognition, revision: str, picture: Image.Image | None = None
    ) -> None:
        """Keeps one word of a visitor.

        Args:
            said: what the car is.
            recognition: what was answered.
            revision: of the checkpoint.
            picture: the photo, where the visitor agreed to leave it.

        Raises:
            MarqueError: it cannot be written, or there is no room any more.
        """
        if self._kept > _MOST_BYTES:
            raise MarqueError("there is no room for more feedback")
        best = recognition.predictions[0] if recognition.predictions else None
        name = uuid.uuid4().hex
        folder = " ".join(_UNFIT.sub(" ", said).split()).strip(" .")[:80].strip() or "unnamed"
        path = Path("photos", folder, f"{name}.jpg") if picture else None
        line = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "said": said,
            "label": best.label if best else None,
            "confidence": round(best.confidence, 4) if best else None,
            "verdict": recognition.verdict,
            "revision": revision,
            "photo": path.as_posix() if path else None,
        }
        try:
            with self._lock:
                if picture and path:
                    target = self._folder / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    picture.save(target, quality=92)  # without metadata: no place, no owner
                    self._kept += target.stat().st_size
                text = json.dumps(line, ensure_ascii=False) + "\n"
                with (self._folder / "feedback.jsonl").open("a", encoding="utf-8") as file:
                    file.write(text)
                self._kept += len(text)
        except OSError as error:
            raise MarqueError(f"the feedback cannot be kept: {error.strerror}") from None
