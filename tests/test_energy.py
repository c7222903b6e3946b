"""What training costs, counted and estimated."""

import math

import pynvml
import pytest
import torch

from trainer.training.energy import WATTS_PER_THREAD, Meter, kilowatt_hours


def test_a_processor_pays_for_its_work_and_no_gpu():
    meter = Meter(torch.device("cpu"))
    seconds, joules = meter.read()
    while meter.read()[0] == seconds:  # work until the clock of this process has moved
        math.factorial(2000)
    more, joules = meter.read()
    assert more > seconds >= 0
    assert joules == 0


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_does_not_count_is_unknown_and_not_free(device, monkeypatch):
    def fail():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    assert Meter(torch.device(device)).read()[1] is None


def test_energy_is_that_of_busy_threads_and_of_the_gpu():
    assert kilowatt_hours(3600, 0) == pytest.approx(WATTS_PER_THREAD / 1000)
    assert kilowatt_hours(0, 3.6e6) == pytest.approx(1)


@pytest.mark.parametrize("unknown", [(None, 0.0), (1.0, None)])
def test_energy_of_which_a_part_is_unknown_is_unknown(unknown):
    assert kilowatt_hours(*unknown) is None
