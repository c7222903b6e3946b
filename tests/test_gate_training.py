"""The recipe `gate`: exteriors told from the rest, by a checkpoint like any other."""

import pytest
from conftest import draw_car

from space.checkpoints import open_checkpoint
from space.recognizer import CarRecognizer
from trainer.evaluation.drawn import drawings
from trainer.train import main as train


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    """Trained on a folder of two folders: exteriors, and everything else."""
    folder = tmp_path_factory.mktemp("gate")
    for name in ("exterior", "interior"):
        (folder / "photos" / name).mkdir(parents=True)
    for number, (_, picture) in enumerate(drawings(40)):
        picture.resize((160, 120)).save(folder / "photos" / "interior" / f"{number}.png")
        draw_car(number).save(folder / "photos" / "exterior" / f"{number}.png")
    options = (
        "--model test_efficientnet --weights none --train-size 32 --test-size 32 --cache-size 40 "
        "--batch-size 8 --split 60/20/20 --keep-non-exteriors --lr 0.003 --epochs 6"
    ).split()
    where = [f"--data=gate={folder / 'photos'}", f"--cache={folder / 'cache'}"]
    assert train([*where, f"--out={folder / 'run'}", *options]) == 0
    return folder / "run" / "checkpoint"


def test_the_trainer_makes_a_gate_from_two_folders(gate):
    assert open_checkpoint(gate).labels == ("exterior", "interior")


def test_it_tells_exteriors_from_the_rest(gate):
    recognizer = CarRecognizer.from_pretrained(gate)
    cars = recognizer.predict([draw_car(seed) for seed in range(100, 116)])
    others = recognizer.predict([picture for _, picture in drawings(16, seed=3)])
    assert sum(answer.predictions[0].label == "exterior" for answer in cars) >= 14
    assert sum(answer.predictions[0].label == "interior" for answer in others) >= 14
