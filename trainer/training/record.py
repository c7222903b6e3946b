"""How a checkpoint came to be: what training.json keeps."""

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import torch

from trainer.provenance import (
    PACKAGES,
    command_line,
    git_revision,
    package_versions,
    processor,
    redact_home,
)
from trainer.training.config import TrainConfig


def describe_run(
    config: TrainConfig,
    photos: Mapping[str, Any],
    weights: str,
    processes: int,
    device: torch.device,
) -> dict[str, Any]:
    """The facts that are known when training starts.

    Args:
        photos: which they are, see `DataSet.describe`.
        weights: where the starting weights came from.
        processes: how many train together.
        device: that this one trains on; the others have one each like it.
    """
    return {
        "config": redact_home(config.as_json()),
        "command": command_line("trainer/train.py"),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_revision": git_revision(),
        **photos,
        "starting_weights": redact_home(weights),
        "processes": processes,
        "hardware": {
            "processor": processor(),
            "threads": len(os.sched_getaffinity(0)),
            "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        },
        "python": platform.python_version(),
        "packages": package_versions(PACKAGES),
    }
