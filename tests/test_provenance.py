"""What training.json and metrics.json keep of how they came to be."""

import subprocess
from pathlib import Path

import pytest

from trainer import provenance
from trainer.provenance import command_line, redact_home


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ada"))


def test_a_command_can_be_typed_again(monkeypatch):
    monkeypatch.setattr(provenance.sys, "argv", ["train.py", "--data", "cars=my photos", "--flip"])
    assert command_line("trainer/train.py") == "trainer/train.py --data 'cars=my photos' --flip"
    assert command_line("python -m x", ["a"]) == "python -m x a"
    assert command_line("python -m x", []) == "python -m x"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/home/ada", "~"),
        ("cars=/home/ada", "cars=~"),
        ("zip:/home/ada/a.zip", "zip:~/a.zip"),
        ("['/home/ada/a', \"/home/ada\"]", "['~/a', \"~\"]"),
        ("checkpoint 12 of /home/ada, head included", "checkpoint 12 of ~, head included"),
        ("/mnt/home/ada/cars", "/mnt/home/ada/cars"),
        ("../home/ada/cars", "../home/ada/cars"),
        ("/home/ada-old/cars", "/home/ada-old/cars"),
        ("/home/ada.zip", "/home/ada.zip"),
    ],
)
def test_the_home_folder_alone_is_left_out(text, told):
    assert redact_home(text) == told


@pytest.mark.parametrize(
    ("argument", "typed"),
    [
        ("/home/ada", "~"),
        ("/home/ada/my photos", "~/'my photos'"),
        ("cars=/home/ada/my photos", "cars=~/'my photos'"),
        ("my cars=/home/ada", "'my cars='~"),
        ("it's", "'it'\"'\"'s'"),
        ("", "''"),
    ],
)
def test_a_shell_reads_a_recorded_argument_as_it_was(argument, typed):
    assert command_line("python -m x", [argument]) == f"python -m x {typed}"


def test_bash_finds_the_home_folder_again():
    arguments = ["/home/ada/my photos", "cars=/home/ada/my photos", "cars=/home/ada", "a b~", ""]
    typed = command_line("printf '%s\\n'", arguments)
    found = subprocess.run(
        ["bash", "-c", typed], env={"HOME": "/home/ada"}, capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines() == arguments


def test_records_do_not_tell_whose_home_folder_it_was():
    found = command_line("python -m x", ["/home/ada/run", "cars=/home/ada/cars", "/home/adam/run"])
    assert found == "python -m x ~/run cars=~/cars /home/adam/run"
    record = {
        "data": ["a=/home/ada/a", "b"],
        "lr": 0.1,
        "weights": None,
        "more": {"x": "/home/ada/y"},
    }
    assert redact_home(record) == {
        "data": ["a=~/a", "b"], "lr": 0.1, "weights": None, "more": {"x": "~/y"},
    }  # fmt: skip
