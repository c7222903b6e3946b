"""Datasets, read through `datasets` into one form whatever their layout.

A source is written `NAME=LOCATION` in every command. NAME is what the dataset is called from then
on; LOCATION is where it lies, with the adapter that reads it in front:

    stanford_cars:FOLDER        the devkit layout, or a mirror with one folder per class
    algerian_used_cars:FOLDER   folders named as its authors named them
    folder:FOLDER               one folder per class, or make/model folders
    filenames:FOLDER            files named like "bmw_x5_2019_01.jpg"
    hub:ID                      any dataset of the Hub, or a folder of Parquet files

The adapter may be left out where NAME is one, or where the location shows which it is. In place of
a FOLDER stands a zip of it, or `kaggle:OWNER/DATASET`. NAME alone is the folder of that name under
the environment variable `MARQUE_DATA`.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from space.errors import DataError
from trainer.data.source import Columns, Source
from trainer.data.sources import algerian, folder, hub, stanford
from trainer.data.sources.fetch import fetch

__all__ = ["locate", "read_source", "read_sources"]

ADAPTERS: dict[str, Callable[[str, str, Columns], Source]] = {
    "stanford_cars": stanford.read,
    "algerian_used_cars": algerian.read,
    "folder": folder.read,
    "filenames": folder.read_file_names,
    "hub": hub.read,
}


def read_sources(specs: Iterable[str], columns: Columns | None = None) -> list[Source]:
    """Reads each `NAME=LOCATION`.

    Args:
        columns: which columns of a Hub dataset hold the picture and its class.

    Raises:
        DataError: a source is not found, not understood, empty, or a name is given twice.
    """
    sources = [read_source(spec, columns) for spec in specs]
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise DataError(f"two datasets have the same name: {', '.join(names)}")
    return sources


def read_source(spec: str, columns: Columns | None = None) -> Source:
    """Reads one `NAME=LOCATION`; see the module's head for what it may be."""
    name, adapter, location = locate(spec)
    source = ADAPTERS[adapter](name, location, columns or Columns())
    if not len(source.photos):
        raise DataError(f"--data {spec}: no photo found there")
    return replace(source, origin=_origin(adapter, location))


def locate(spec: str) -> tuple[str, str, str]:
    """The name, the adapter and the location that `NAME=LOCATION` means.

    Raises:
        DataError: it is not written like that, or nothing is there.
    """
    name, separator, location = spec.partition("=")
    if not name or (separator and not location):
        raise DataError(f"--data {spec!r}: write NAME=LOCATION, such as cars=photos/cars")
    if not separator:
        if not os.environ.get("MARQUE_DATA"):
            raise DataError(
                f"--data {spec}: say where it lies ({spec}=FOLDER_OR_HUB_ID), "
                "or set MARQUE_DATA to the folder that holds it"
            )
        location = str(Path(os.environ["MARQUE_DATA"]) / name)
    prefix, _, rest = location.partition(":")
    adapter = prefix if prefix in ADAPTERS else None
    # No shell expands the "~" of NAME=~/cars.
    location = rest if adapter else location
    location = fetch(spec, str(Path(location).expanduser()) if location[:1] == "~" else location)
    adapter = adapter or _guess(name, location)
    if adapter is None and location.lower().endswith(".csv"):
        raise DataError(
            f"--data {spec}: a table of addresses is not a dataset yet; download its photos with "
            f"`python -m trainer.collect {location} --out FOLDER` and name FOLDER/photos"
        )
    if adapter is None:
        raise DataError(f"--data {spec}: there is no folder {location}")
    return name, adapter, location


def _origin(adapter: str, location: str) -> str:
    if adapter in ("stanford_cars", "algerian_used_cars"):
        return adapter
    return location if adapter == "hub" and not Path(location).exists() else ""


def _guess(name: str, location: str) -> str | None:
    """The adapter for a location without one; None when nothing is there."""
    path = Path(location)
    if path.is_dir():
        if any(path.rglob("*.parquet")):
            return "hub"
        if name in ADAPTERS:
            return name
        return "stanford_cars" if stanford.find_devkit(path) else "folder"
    if location.count("/") == 1 and not location.startswith((".", "/", "~")):
        return "hub"
    return None
