"""The upload folder: which files came from clients, how long they stay and how much room they get.

gradio puts every uploaded file and every picture that it shows into one folder. By itself it
forgets those of broken uploads and of earlier processes, and sets no limit on the folder.
"""

import base64
import binascii
import hashlib
import os
import tempfile
import time
from pathlib import Path

from space.errors import MarqueError
from space.photos import MAX_BYTES

MAX_AGE = 3600  # seconds that a file stays
MAX_FOLDER_BYTES = 2 * 1024**3
# What a file takes of the disk beside its bytes: a folder, and the rest of a block.
FILE_BYTES = 8192
# A file this young may belong to a call that waits in the queue: it is never removed for room.
_IN_USE = 120  # seconds


class UploadError(MarqueError):
    """A photo of a client cannot be taken; the message is one sentence for the client."""


def folder() -> Path:
    """Where gradio keeps uploads, resolved; the same rule as `gradio.utils.get_upload_folder`."""
    named = os.environ.get("GRADIO_TEMP_DIR")
    return Path(named or Path(tempfile.gettempdir()) / "gradio").resolve()


def received(path: object) -> str:
    """The path of a file below the upload folder.

    Raises:
        UploadError: anything else, with one message whether or not there is such a file.
    """
    try:
        resolved = Path(path).resolve()  # type: ignore[arg-type]
        if resolved.is_relative_to(folder()) and resolved.is_file():
            return str(path)
    except (OSError, TypeError, ValueError):  # not a path at all, such as one with a NUL byte
        pass
    raise UploadError("the photo was not uploaded to this server; upload it first")


def keep_data_url(url: str) -> str:
    """Writes the bytes of a base64 data URL to the upload folder; returns the path of the file.

    Raises:
        UploadError: it is not base64, or larger than a photo may be.
    """
    head, _, body = url.partition(",")
    if not head.endswith(";base64"):
        raise UploadError("the data URL of the photo is not base64")
    if len(body) * 3 // 4 > MAX_BYTES:
        raise UploadError(f"the photo is too large; the limit is {MAX_BYTES // 2**20} MiB")
    try:
        data = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise UploadError("the data URL of the photo is not base64") from None
    path = folder() / hashlib.sha256(data).hexdigest() / "photo"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def sweep(max_age: float = MAX_AGE, max_bytes: float = MAX_FOLDER_BYTES) -> int:
    """Removes files older than `max_age` seconds, then the oldest until `max_bytes` are not passed.

    Links are removed, never followed. Files of the last two minutes are not removed for room.

    Returns:
        The bytes that are left, `FILE_BYTES` more for each file.
    """
    now = time.time()
    files = []
    for parent, _, names in os.walk(folder(), topdown=False):
        for name in names:
            path = Path(parent, name)
            try:
                status = path.lstat()
            except OSError:  # removed meanwhile
                continue
            files.append((status.st_mtime, status.st_size + FILE_BYTES, path))
        _remove_if_empty(Path(parent), now)
    left = sum(size for _, size, _ in files)
    for modified, size, path in sorted(files):
        age = now - modified
        if age <= max_age and (left <= max_bytes or age <= _IN_USE):
            continue
        try:
            path.unlink(missing_ok=True)
        except OSError:  # not ours to remove
            continue
        left -= size
    return left


def _remove_if_empty(path: Path, now: float) -> None:
    try:
        # A young one may be about to get its file.
        if path != folder() and now - path.stat().st_mtime > _IN_USE:
            path.rmdir()
    except OSError:  # not empty
        pass
