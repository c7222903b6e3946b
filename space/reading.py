"""Photos read in other threads while the network answers those before them."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from space.errors import PhotoError
from space.photos import PhotoSource
from space.preprocessing import Prepared

_READERS = int(os.environ.get("MARQUE_THREADS") or os.cpu_count() or 1)


def read_ahead(
    photos: Iterable[PhotoSource], prepare: Callable[[PhotoSource], list[Prepared]], size: int
) -> Iterator[list[list[Prepared] | str]]:
    """Yields batches of photos made ready, one batch ahead of whoever asks.

    Args:
        prepare: from a photo to the parts of it that the network is to see.
        size: photos of a batch.

    Returns:
        For each photo its parts, or why it cannot be used.
    """
    photos = iter(photos)
    with ThreadPoolExecutor(_READERS) as readers:

        def read() -> list[Future[list[Prepared] | str]]:
            return [readers.submit(attempt, prepare, photo) for photo in islice(photos, size)]

        batch = read()
        while batch:
            following = read()
            yield [photo.result() for photo in batch]
            batch = following


def attempt(
    prepare: Callable[[PhotoSource], list[Prepared]], photo: PhotoSource
) -> list[Prepared] | str:
    """The parts of a photo, or why it cannot be used: what one photo raises costs one row."""
    try:
        return prepare(photo)
    except PhotoError as refused:
        return str(refused)
    except Exception as other:
        name = photo if isinstance(photo, str | Path) else "the photo"
        return f"{name} cannot be used: {str(other) or type(other).__name__}"
