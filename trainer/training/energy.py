"""What training costs: processor time, and the energy that GPUs count themselves.

Processors have energy counters too (RAPL), but only root may read them on most systems, virtual
machines have none, and they count whatever else the machine does. So a processor's energy is
estimated from its time.
"""

import time

import pynvml
import torch

# What a busy thread of a processor takes: what codecarbon 3 assumes of processors that it does not
# know. Memory, fans and the rest of the machine come on top.
WATTS_PER_THREAD = 4.0


class Meter:
    """Counts what this process takes from when the meter was made."""

    def __init__(self, device: torch.device):
        """Begins to count.

        Args:
            device: that the process trains on, no other process on the same one.
        """
        self._device = device
        self._processor, self._gpu = time.process_time(), _gpu_joules(device)

    def read(self) -> tuple[float, float | None]:
        """Seconds of processor time, summed over threads, and joules of the GPU so far.

        Joules are 0 without a GPU and None for one that does not count.
        """
        seconds, joules = time.process_time() - self._processor, _gpu_joules(self._device)
        known = joules is not None and self._gpu is not None
        return seconds, joules - self._gpu if known else None  # type: ignore[operator]


def kilowatt_hours(processor_seconds: float | None, gpu_joules: float | None) -> float | None:
    """The energy of both; None where one is unknown."""
    if processor_seconds is None or gpu_joules is None:
        return None
    return (processor_seconds * WATTS_PER_THREAD + gpu_joules) / 3.6e6


def _gpu_joules(device: torch.device) -> float | None:
    """The energy that a device has taken since its driver was loaded."""
    if device.type == "cpu":
        return 0.0
    if device.type != "cuda":
        return None
    try:
        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
    except (pynvml.NVMLError, AttributeError):  # before Volta, a part of a GPU, or not NVIDIA's
        return None
