"""One walk through folders of photos, for the command line and for datasets."""

from collections.abc import Iterator
from pathlib import Path

from space.photos import PHOTO_SUFFIXES

# What systems and archives leave beside photos; names that begin with a dot are passed over too.
_SYSTEM = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information"})


def photos_in(folder: Path) -> Iterator[Path]:
    """Yields the photos at any depth of a folder, depth first in alphabetical order.

    Links are followed, but each real folder is read once, so that a link to a folder above ends.
    Hidden and system folders and hidden files are passed over. A folder that cannot be listed is
    itself yielded: opening it says why.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        try:
            if not path.is_dir():
                if path.suffix.lower() in PHOTO_SUFFIXES:
                    yield path
                continue
            status = path.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            names = sorted((below.name for below in path.iterdir()), reverse=True)
        except OSError:
            yield path
            continue
        waiting += [path / name for name in names if not _is_passed_over(name)]


def is_folder(path: Path) -> bool:
    """Whether a folder is there; what cannot be looked at is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def user_path(text: str) -> Path:
    """A path of a command line, where no shell expands the `~` of `--out=~/x`."""
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:  # there is no such user
        return path


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM
