"""Curves in TensorBoard or trackio, for those who watch runs there."""

from dataclasses import asdict

from accelerate import Accelerator

from space.errors import MarqueError
from trainer.training.config import TrainConfig
from trainer.training.loop import EpochResult

PROJECT = "marque"


def start_tracker(config: TrainConfig, accelerator: Accelerator) -> None:
    """Opens the tracker that the settings name, with all settings.

    Raises:
        MarqueError: it is not installed.
    """
    if config.tracker == "none":
        return
    if not accelerator.log_with:
        raise MarqueError(
            f"--tracker is {config.tracker}, which is not installed; "
            f"`pip install {config.tracker}` brings it"
        )
    settings = {
        name: value if isinstance(value, (bool, int, float, str)) else str(value)
        for name, value in config.as_json().items()
    }
    accelerator.init_trackers(PROJECT, settings)


def track(accelerator: Accelerator, result: EpochResult) -> None:
    """Tells the tracker, if there is one, how an epoch went."""
    values = {name: value for name, value in asdict(result).items() if value is not None}
    accelerator.log(values, step=values.pop("epoch"))
