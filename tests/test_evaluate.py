"""Evaluation: which photos are judged, by what, and what is written."""

import json

import pytest
from conftest import TINY_LABELS, draw_car

from trainer.evaluate import Share, main


@pytest.fixture
def two_sources(tmp_path):
    """Two data sets that name the same car otherwise, and the split of both."""
    rows = ["source,path,label,split,group"]
    for source, label in (("one", TINY_LABELS[0]), ("two", "2012 audi a4 sedan")):
        (tmp_path / source / label).mkdir(parents=True)
        for seed in range(3):
            draw_car(seed).save(tmp_path / source / label / f"{seed}.png")
            rows.append(f"{source},{label}/{seed}.png,{label},test,{source}{seed}")
    (tmp_path / "split.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def arguments(checkpoint, folder, *names: str) -> list[str]:
    specs = [f"--data={name}={folder / name}" for name in names]
    return [str(checkpoint), *specs, f"--split-file={folder / 'split.csv'}"]


def test_several_data_sets_are_told_apart_and_matched_by_car(
    tiny_checkpoint, two_sources, tmp_path
):
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    for path in tiny_checkpoint.iterdir():
        (checkpoint / path.name).write_bytes(path.read_bytes())
    assert main(arguments(checkpoint, two_sources, "one", "two")) == 0
    metrics = json.loads((checkpoint / "metrics.json").read_text())
    assert metrics["split"]["photos"] == 6
    assert {name: found["photos"] for name, found in metrics["sources"].items()} == {
        "one": 3,
        "two": 3,
    }
    # The same photos of the same car: whatever is right in one is right in the other.
    assert metrics["sources"]["one"]["top1"] == metrics["sources"]["two"]["top1"]
    assert metrics["top5"]["value"] == 1.0  # the checkpoint has four classes


def test_photos_of_the_split_that_are_missing_are_counted(tiny_checkpoint, two_sources, capsys):
    assert main(arguments(tiny_checkpoint, two_sources, "one")) == 1
    assert "names 6 test photos, but --data has only 3 of them" in capsys.readouterr().err


def test_a_class_that_the_checkpoint_does_not_know_is_named(tiny_checkpoint, tmp_path, capsys):
    (tmp_path / "one" / "Zaz 965").mkdir(parents=True)
    draw_car(1).save(tmp_path / "one" / "Zaz 965" / "1.png")
    (tmp_path / "split.csv").write_text(
        "source,path,label,split,group\none,Zaz 965/1.png,Zaz 965,test,a\n"
    )
    assert main(arguments(tiny_checkpoint, tmp_path, "one")) == 1
    assert "does not know 1 of the classes: Zaz 965" in capsys.readouterr().err


def test_the_interval_is_wilsons():
    share = Share.of(8, 10)
    assert (round(share.value, 3), round(share.low, 3), round(share.high, 3)) == (0.8, 0.490, 0.943)
