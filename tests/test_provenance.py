"""What training.json and metrics.json keep of how they came to be."""

from pathlib import Path

import pytest

from trainer import provenance
from trainer.provenance import command_line, homeless


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ada"))


def test_a_command_can_be_typed_again(monkeypatch):
    monkeypatch.setattr(provenance.sys, "argv", ["train.py", "--data", "cars=my photos", "--flip"])
    assert command_line("trainer/train.py") == "trainer/train.py --data 'cars=my photos' --flip"
    assert command_line("python -m x", ["a"]) == "python -m x a"
    assert command_line("python -m x", []) == "python -m x"


def test_records_do_not_tell_whose_home_folder_it_was():
    found = command_line("python -m x", ["/home/ada/run", "cars=/home/ada/cars", "/home/adam/run"])
    assert found == "python -m x ~/run cars=~/cars /home/adam/run"
    record = {
        "data": ["a=/home/ada/a", "b"],
        "lr": 0.1,
        "weights": None,
        "more": {"x": "/home/ada/y"},
    }
    assert homeless(record) == {
        "data": ["a=~/a", "b"], "lr": 0.1, "weights": None, "more": {"x": "~/y"},
    }  # fmt: skip
