"""How a checkpoint came to be: what training.json keeps."""

import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from trainer.config import TrainConfig
from trainer.data import DataSet

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "accelerate",
    "datasets",
    "safetensors",
    "pillow",
    "numpy",
)


def describe_run(
    config: TrainConfig, photos: Mapping[str, Any], weights: str, processes: int
) -> dict[str, Any]:
    """The facts that are known when training starts.

    Args:
        photos: which they are, see `describe_photos`.
        weights: where the starting weights came from.
        processes: how many train together.
    """
    return {
        "config": config.as_json(),
        "command": shlex.join(["trainer/train.py", *sys.argv[1:]]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_revision": git_revision(),
        **photos,
        "starting_weights": weights,
        "processes": processes,
        "python": platform.python_version(),
        "packages": package_versions(PACKAGES),
    }


def describe_photos(data: DataSet, split_hash: str) -> dict[str, Any]:
    """Which photos a run was made of.

    Args:
        split_hash: of the run's split file.
    """
    return {
        "dataset": {
            "fingerprint": data.fingerprint,
            "photos": len(data.photos),
            "unusable": len(data.problems),
            "classes": len(data.classes.labels),
        },
        "split": {"sha256": split_hash, **data.sizes},
    }


def git_revision() -> str | None:
    """The commit of this code, with `-dirty` when files differ from it; None outside git."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def package_versions(names: Iterable[str]) -> dict[str, str | None]:
    """The installed version of each package; None for one that is not."""
    return {name: _version(name) for name in names}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
