"""Brings a dataset to this disk when it is not a folder yet: a zip, or a dataset of Kaggle."""

import shutil
import zipfile
from pathlib import Path

from space.errors import DataError

_KAGGLE = "kaggle:"
_KAGGLE_STEPS = (
    "Kaggle wants to know who downloads: make an account at kaggle.com, open Settings, API, "
    "Create New Token, and put the kaggle.json that it gives you into ~/.kaggle/. Or download the "
    "zip by hand and give its path instead"
)


def fetch(spec: str, location: str) -> str:
    """The folder that a zip or `kaggle:OWNER/DATASET` becomes; anything else as it stands.

    Raises:
        DataError: a damaged zip, or Kaggle does not hand the dataset out.
    """
    if location.startswith(_KAGGLE):
        return str(_from_kaggle(spec, location.removeprefix(_KAGGLE)))
    if Path(location).suffix.lower() == ".zip":
        return str(_unpack(spec, Path(location)))
    return location


def _unpack(spec: str, archive: Path) -> Path:
    """Unpacks a zip beside itself, once, and again when the zip has changed.

    What was unpacked from which zip stands beside the folder, in `.unpacked.from`.
    """
    folder = archive.with_name(archive.name + ".unpacked")
    stamp = archive.with_name(archive.name + ".unpacked.from")
    unfinished = archive.with_name(archive.name + ".unpacking")
    try:
        if not archive.exists() and folder.is_dir():
            return folder  # the zip was removed once it had been unpacked
        status = archive.stat()
        version = f"{status.st_size} bytes, {status.st_mtime_ns}"
        if folder.is_dir() and stamp.is_file() and stamp.read_text("utf-8") == version:
            return folder
        shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
        with zipfile.ZipFile(archive) as file:
            needed = sum(entry.file_size for entry in file.infolist())
            free = shutil.disk_usage(archive.parent).free
            if needed > free:
                raise OSError(f"unpacked it has {needed} bytes, and {free} are free")
            file.extractall(unfinished)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
        stamp.write_text(version, "utf-8")
    except Exception as error:  # zipfile and its decoders raise nearly anything on broken files
        raise DataError(f"--data {spec}: {archive} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _from_kaggle(spec: str, dataset: str) -> Path:
    try:
        import kagglehub
    except ImportError:
        raise DataError(
            f"--data {spec} needs kagglehub: `pip install kagglehub`. {_KAGGLE_STEPS}"
        ) from None
    try:
        return Path(kagglehub.dataset_download(dataset))
    except Exception as error:  # kagglehub raises its own, requests' and the system's errors
        raise DataError(
            f"--data {spec} could not be downloaded from Kaggle ({error}). {_KAGGLE_STEPS}"
        ) from error
