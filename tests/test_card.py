"""The model card: every number from a file, no photo, valid for the Hub, examples that run."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
from conftest import TINY_DATA_CONFIG, TINY_LABELS, draw_car, save_tiny_checkpoint
from huggingface_hub import ModelCard

from benchmarks.latency import main as measure_latency
from model_card import render
from model_card.card import CHARTS, card, facts, main, write_card
from model_card.render import ROOT
from space.checkpoints import BUNDLED, open_checkpoint
from space.errors import MarqueError
from space.heads import MlpHead, replace_classifier
from trainer.average import average
from trainer.training.checkpoints import save_checkpoint

# What a card may say in figures of its own: how sure an interval is, and names.
PROSE = re.compile(
    r"95% interval|Intervals are 95%|where 95% of cars are|95th percentile|0 is a map"
    r"|macro F1|by F1|SHA-256"
)


@pytest.fixture
def run(measured, tmp_path) -> Path:
    """A run with a measured checkpoint that a test may change."""
    return shutil.copytree(measured, tmp_path / "run")


@pytest.fixture
def checkpoint(run) -> Path:
    return run / "checkpoint"


@pytest.fixture
def bundled_copy(tmp_path) -> Path:
    return shutil.copytree(BUNDLED, tmp_path / "bundled")


def figure(name: str, shows: str) -> str:
    return f"![{shows}]({name})"


def change(path: Path, *keys: str, **changes: Any) -> None:
    """Changes values of a JSON file below some keys; ... removes one."""
    content = json.loads(path.read_text("utf-8"))
    place = content
    for key in keys:
        place = place[key]
    place |= changes
    for name in [name for name, value in changes.items() if value is ...]:
        del place[name]
    path.write_text(json.dumps(content), "utf-8")


def section(text: str, heading: str) -> str:
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


# Every number from a file


def told_by(content: Any) -> set[Any]:
    """Every number and every text in what a JSON file holds, names included."""
    if isinstance(content, dict):
        return set(content) | {item for value in content.values() for item in told_by(value)}
    if isinstance(content, list):
        return {item for value in content for item in told_by(value)}
    return {content}


def own_figures(text: str) -> list[str]:
    """The numbers in a card's text that no filter wrote."""
    text = re.sub(r"\A---\n.*?\n---\n|```.*?```|`[^`\n]*`|\x02.*?\x03", "", text, flags=re.DOTALL)
    text = re.sub(r"\]\([^)]*\)", "]", PROSE.sub("", text))
    return re.findall(r".{0,30}\d.{0,30}", text)


@pytest.fixture
def filtered(monkeypatch) -> list[Any]:
    """What goes through the filters, which mark what they write."""
    values: list[Any] = []

    def marking(write):
        def marked(value, *more):
            if isinstance(value, dict):
                values.extend(value[end] for end in ("value", "low", "high") if end in value)
            elif value is not None:
                values.append(value)
            return f"\x02{write(value, *more)}\x03"

        return marked

    for name, write in list(render.FILTERS.items()):
        monkeypatch.setitem(render.FILTERS, name, marking(write))
    return values


@pytest.mark.parametrize("which", ["bundled", "measured"])
def test_every_number_in_the_card_stands_in_a_json_file(which, measured, filtered):
    folder = BUNDLED if which == "bundled" else measured / "checkpoint"
    text = card(folder, figure)
    assert own_figures(text) == []
    files = [*folder.glob("*.json"), *(ROOT / "benchmarks").glob("*.json")]
    known = told_by([json.loads(path.read_text("utf-8")) for path in files])
    title = facts(folder)["title"]
    assert len(filtered) > 100
    assert [value for value in filtered if value not in {*known, title}] == []


def test_a_number_in_the_text_of_a_template_would_be_found(measured, filtered):
    text = card(measured / "checkpoint", lambda name, shows: "of 12.3% of the photos")
    assert own_figures(text)


@pytest.mark.parametrize(
    ("file", "keys", "name"),
    [
        ("metrics.json", ("top1",), "high"),
        ("metrics.json", ("sources", "two"), "make"),
        ("metrics.json", ("calibration", "after", "model"), "ece"),
        ("metrics.json", ("thresholds", "0.9", "make"), "precision"),
        ("metrics.json", ("rejection", "others", "drawings"), "auroc"),
        ("metrics.json", ("robustness", "dark"), "top1"),
        ("calibration.json", ("thresholds", "0.9"), "year"),
        ("config.json", ("pretrained_cfg",), "license"),
    ],
)
def test_a_missing_number_stops_the_card(checkpoint, capsys, file, keys, name):
    change(checkpoint / file, *keys, **{name: ...})
    assert main([str(checkpoint)]) == 1
    assert name in capsys.readouterr().err
    assert not (checkpoint / "README.md").exists()
    assert not (checkpoint / "figures").exists()


# Figures


@pytest.mark.parametrize("name", CHARTS)
def test_a_missing_figure_stops_the_card(run, capsys, name):
    (run / "evaluation" / name).unlink()
    assert main([str(run / "checkpoint")]) == 1
    assert f"{run / 'evaluation' / name} is missing" in capsys.readouterr().err
    assert not (run / "checkpoint" / "README.md").exists()


def test_figures_lie_beside_the_card_and_no_photo_among_them(run, checkpoint):
    assert (run / "evaluation" / "gallery.png").is_file()
    text = write_card(checkpoint).read_text("utf-8")
    shown = {path.relative_to(checkpoint).as_posix() for path in checkpoint.glob("figures/*")}
    assert shown == set(re.findall(r"!\[.+?\]\((.+?)\)", text)) == {f"figures/{n}" for n in CHARTS}


def test_a_figure_of_another_evaluation_stops_the_card(run, checkpoint, capsys):
    shutil.copy(run / "evaluation" / "classes.png", run / "evaluation" / "robustness.png")
    assert main([str(checkpoint)]) == 1
    assert "robustness.png is none of those that were drawn with" in capsys.readouterr().err
    assert not (checkpoint / "README.md").exists()


def test_a_card_is_written_again_from_the_figures_that_it_has(run, checkpoint):
    first = write_card(checkpoint).read_text("utf-8")
    shutil.rmtree(run / "evaluation")
    assert write_card(checkpoint).read_text("utf-8") == first
    assert len([*checkpoint.glob("figures/*")]) == len(CHARTS)


def test_figures_of_an_earlier_card_do_not_stay(run, checkpoint):
    write_card(checkpoint)
    change(checkpoint / "metrics.json", robustness=...)
    write_card(checkpoint, run / "evaluation")
    assert not (checkpoint / "figures" / "robustness.png").exists()


def test_the_checkpoint_still_opens(checkpoint):
    write_card(checkpoint)
    open_checkpoint(checkpoint)


# What the Hub reads


def test_the_hub_reads_how_to_open_it_and_its_results(checkpoint):
    metrics = json.loads((checkpoint / "metrics.json").read_text("utf-8"))
    data = ModelCard.load(write_card(checkpoint, repo="org/marque-toy")).data
    assert (data.library_name, data.pipeline_tag, data.license) == (
        "timm", "image-classification", "mit",
    )  # fmt: skip
    assert data.model_name == "marque-toy"
    results = {(r.dataset_name, r.metric_name): r.metric_value for r in data.eval_results}
    assert results == {
        (f"{name}, split by Marque", called): metrics["sources"][name][measure]["value"]
        for name in ("one", "two")
        for measure, called in (
            ("top1", "Top-1 accuracy"),
            ("top5", "Top-5 accuracy"),
            ("f1_macro", "Macro F1"),
        )
    }
    # Not the datasets' own test photos, which is what a split here would say.
    assert {result.dataset_split for result in data.eval_results} == {None}


def test_the_bundled_checkpoint_names_its_data_set_on_the_hub():
    data = ModelCard(card(BUNDLED, figure)).data
    assert data.datasets == ["tanganke/stanford_cars"]
    assert {result.dataset_name for result in data.eval_results} == {
        "Stanford Cars, split by Marque",
        "Algerian Used Cars, split by Marque",
        "Brazilian listings, split by Marque",
    }


def test_results_on_one_data_set_are_its_own(checkpoint):
    metrics = json.loads((checkpoint / "metrics.json").read_text("utf-8"))
    change(checkpoint / "metrics.json", sources=..., data=["toy|cars"])
    text = card(checkpoint, figure)
    (top1, *_) = ModelCard(text).data.eval_results
    assert top1.dataset_name == "toy|cars, split by Marque"
    assert (top1.dataset_type, top1.metric_value) == ("toy-cars", metrics["top1"]["value"])
    assert "trained on toy\\|cars" in text


# What was not measured, and what does not belong together


def test_what_was_not_measured_is_said_and_left_out(checkpoint):
    shown: list[str] = []
    for name in ("rejection", "robustness", "thresholds", "sources", "backgrounds"):
        if name in json.loads((checkpoint / "metrics.json").read_text("utf-8")):
            change(checkpoint / "metrics.json", **{name: ...})
    (checkpoint / "calibration.json").unlink()
    text = card(checkpoint, lambda name, shows: shown.append(name) or name)
    for heading in ("Rejection", "Robustness", "Heat maps", "Speed and size"):
        assert "ot measured" in section(text, heading)
    assert "not calibrated" in section(text, "Confidence")
    assert not {"rejection.png", "robustness.png", "reliability.png"} & {*shown}


def test_a_checkpoint_that_recorded_nothing_says_so(checkpoint):
    text = card(checkpoint, figure)
    assert "not recorded" in section(text, "Data")
    assert "Not recorded" in section(text, "Training")


def test_time_and_hardware_that_were_not_recorded_are_said_to_be_so(bundled_copy):
    new = ("averaged", "cost", "hardware", "sources", "left_out")
    training = json.loads((BUNDLED / "training.json").read_text("utf-8"))
    old = {name: value for name, value in training.items() if name not in new}
    (bundled_copy / "training.json").write_text(json.dumps(old))
    text = card(bundled_copy, figure)
    for row in ("hardware", "time"):
        assert f"| {row} | not recorded |" in text
    assert "Why photos were left out was not recorded" in text


def test_settings_that_an_older_trainer_did_not_know_are_said_to_be_so(bundled_copy):
    training = json.loads((BUNDLED / "training.json").read_text("utf-8"))
    for name in ("optimizer", "schedule", "head"):
        del training["config"][name]
    (bundled_copy / "training.json").write_text(json.dumps(training))
    text = card(bundled_copy, figure)
    assert "| optimizer | not recorded, learning rate 0.0005, schedule not recorded," in text
    assert "| head | not recorded |" in text


@pytest.mark.parametrize("name", ["weights", "split"])
def test_metrics_without_what_they_are_of(checkpoint, capsys, name):
    change(checkpoint / "metrics.json", **{name: ...})
    assert main([str(checkpoint)]) == 1
    assert f"lack a number that the card tells: '{name}'" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(checkpoint, capsys):
    (checkpoint / "figures").write_text("in the way")
    assert main([str(checkpoint)]) == 1
    assert "figures" in capsys.readouterr().err


@pytest.mark.parametrize("repo", ["name", "org/na me"])
def test_a_repository_that_the_hub_does_not_take(checkpoint, capsys, repo):
    with pytest.raises(SystemExit):
        main([str(checkpoint), "--repo", repo])
    assert repo in capsys.readouterr().err


@pytest.mark.parametrize("name", ["metrics.json", "calibration.json"])
def test_measurements_of_other_weights_are_refused(checkpoint, name):
    other = {"weights": "sha256:0123", "weights_sha256": "0123", "checkpoint": "sha256:0123"}
    path = checkpoint / name
    if not path.exists():
        path.write_text("{}")
    change(path, **other)
    with pytest.raises(MarqueError, match=f"{name} is about other weights"):
        card(checkpoint, figure)


def test_measures_of_validation_photos_are_refused(checkpoint):
    change(checkpoint / "metrics.json", "split", name="validation")
    with pytest.raises(MarqueError, match="tells of validation photos"):
        card(checkpoint, figure)


def test_a_checkpoint_that_was_not_measured_is_refused(tiny_checkpoint, capsys):
    assert main([str(tiny_checkpoint)]) == 1
    assert "measure it with `python -m trainer.evaluate`" in capsys.readouterr().err


# How it was trained, and how fast it is


RECORD = {
    "config": {
        "data": ["cars=photos/cars"], "epochs": 7, "train_size": 32, "test_size": 48, "seed": 5,
        "optimizer": "adamw", "lr": 0.003, "schedule": "cosine", "batch_size": 8, "head": "linear",
    },
    "started": "2026-11-21T15:19:49+00:00",
    "git_revision": "0123abc",
    "dataset": {"photos": 2345, "unusable": 2, "classes": 4},
    "split": {"sha256": "0", "train": 1789, "validation": 12, "test": 23, "excluded": 4},
    "sources": {
        "cars": {"train": 1789, "validation": 12, "test": 23, "excluded": 4, "unusable": 2}
    },
    "left_out": {"the same photo stands under 2 labels": 4, "the file is missing": 2},
    "starting_weights": "package efficientnet-lite0, weights.pth",
    "processes": 1,
    "hardware": {"processor": "Toy CPU", "threads": 3, "gpu": "Toy GPU"},
    "packages": {"torch": "2.15.0", "numpy": None},
    "best_epoch": {"epoch": 6},
    "cost": {"epochs": 7, "seconds": 9000.0},
}  # fmt: skip


def test_the_card_tells_how_it_was_trained(checkpoint):
    (checkpoint / "training.json").write_text(json.dumps(RECORD))
    text = card(checkpoint, figure)
    assert "| cars | 1,789 | 12 | 23 | 4 | 2 |" in text
    assert "the same photo stands under 2 labels (4); the file is missing (2)." in text
    assert "the files do not show that training used it too" in text
    assert "| epochs | 7, of which epoch 6 is kept |" in text
    assert "| hardware | Toy CPU, 3 threads, Toy GPU; processes: 1 |" in text
    assert "| time | 2.5 hours for 7 epochs |" in text


def test_test_photos_of_the_same_split_took_no_part_in_training(checkpoint):
    metrics = json.loads((checkpoint / "metrics.json").read_text("utf-8"))
    split = RECORD["split"] | {"sha256": metrics["split"]["file_sha256"]}
    (checkpoint / "training.json").write_text(json.dumps(RECORD | {"split": split}))
    assert "the test photos took part in none of it" in card(checkpoint, figure)


def test_a_streamed_data_set_is_told_with_its_commit(checkpoint):
    streamed = {
        "dataset": {"streamed": "org/cars", "revision": "0123abc", "classes": 4},
        "split": {"train": 2345, "validation": 12, "parts": {"train": "train"}},
    }
    (checkpoint / "training.json").write_text(json.dumps(RECORD | streamed))
    text = section(card(checkpoint, figure), "Data")
    assert "2,345 photos were streamed from `org/cars` (revision `0123abc`)" in text
    assert "test photos may have copies among the training photos" in text
    assert "no group straddles" not in text
    assert ModelCard(card(checkpoint, figure)).data.datasets == ["org/cars"]


def trained(checkpoint: Path, **sources: str) -> str:
    """The card of a run on datasets with these origins, by the names that their user gave."""
    counts = RECORD["sources"]["cars"]
    record = RECORD | {
        "config": RECORD["config"] | {"data": [f"{name}=somewhere" for name in sources]},
        "sources": {name: counts | {"origin": origin} for name, origin in sources.items()},
    }
    (checkpoint / "training.json").write_text(json.dumps(record))
    return card(checkpoint, figure)


def test_a_known_data_set_is_told_whatever_its_user_calls_it(checkpoint):
    text = trained(checkpoint, one="stanford_cars", two="tanganke/more_cars")
    assert ModelCard(text).data.datasets == ["tanganke/stanford_cars", "tanganke/more_cars"]
    assert {result.dataset_type for result in ModelCard(text).data.eval_results} == {
        "tanganke/stanford_cars",
        "tanganke/more_cars",
    }
    assert "cars sold in the United States" in section(text, "Limits")
    assert "collected from the web for research" in section(text, "License")
    assert "Krause" in section(text, "Citation")
    assert "| Stanford Cars |" in section(text, "Accuracy")


def test_a_data_set_of_ones_own_has_nothing_of_a_known_one(checkpoint):
    text = trained(checkpoint, stanford_cars="")
    assert ModelCard(text).data.datasets is None
    assert "Krause" not in text
    assert "a dataset of its maker's own" in section(text, "Data")


def test_two_parts_of_one_data_set_stay_apart(checkpoint):
    text = trained(checkpoint, one="stanford_cars", two="stanford_cars")
    assert {r.dataset_type for r in ModelCard(text).data.eval_results} == {"one", "two"}


def test_official_test_photos_are_told_as_such(checkpoint):
    assert "they are not the test photos that a dataset's authors chose" in card(BUNDLED, figure)
    config = RECORD["config"] | {"split": "official", "split_file": ""}
    (checkpoint / "training.json").write_text(json.dumps(RECORD | {"config": config}))
    text = card(checkpoint, figure)
    assert "authors chose" not in text
    assert {r.dataset_split for r in ModelCard(text).data.eval_results} == {"test"}


def test_averaged_weights_tell_of_each_run(checkpoint, tmp_path):
    other = save_tiny_checkpoint(tmp_path / "other", seed=1)
    for folder, epochs in ((checkpoint, 7), (other, 9)):
        config = RECORD["config"] | {"epochs": epochs}
        (folder / "training.json").write_text(json.dumps(RECORD | {"config": config}))
    average([checkpoint, other], tmp_path / "mean", [3, 1])
    shutil.copy(tmp_path / "mean" / "training.json", checkpoint)
    text = section(card(checkpoint, figure), "Training")
    assert "| 75.0% |" in text
    assert "| epochs | 7, of which epoch 6 is kept |" in text
    assert "| epochs | 9, of which epoch 6 is kept |" in text


def test_the_card_tells_the_speed_that_was_measured(checkpoint):
    measure_latency([f"--model={checkpoint}", "--rounds=1"])
    found = json.loads((checkpoint / "metrics.json").read_text("utf-8"))["speed"]
    text = section(card(checkpoint, figure), "Speed and size")
    assert f"| {found['network']['median_ms']:.1f} ms |" in text
    assert f"{found['weights_bytes'] / 1e6:.1f} MB of weights, input 64 × 64 pixels" in text


def test_the_leak_is_told_of_the_data_set_that_has_it(checkpoint):
    assert "leaking split" not in card(checkpoint, figure)
    assert "+14.0 (+9.9 to +18.0) points that are not there" in card(BUNDLED, figure)


# How to use it


def test_the_examples_in_the_card_run(checkpoint, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", card(checkpoint, figure), re.DOTALL)
    monkeypatch.chdir(checkpoint.parent)
    draw_car(1).save("car.jpg")
    ran = [block for block in blocks if "gradio_client" not in block]  # test_readme runs that one
    for block in ran:
        exec(block, {})
    assert [block.split()[1] for block in ran] == ["space", "timm", "transformers"]
    assert capsys.readouterr().out.count("TT Coupe") == len(ran)


def test_the_bundled_checkpoint_goes_by_its_folder_in_the_repository():
    assert 'from_pretrained("space/checkpoint")' in card(BUNDLED, figure)


def test_on_the_hub_it_goes_by_its_repository(checkpoint):
    text = card(checkpoint, figure, repo="org/marque-toy")
    assert 'from_pretrained("org/marque-toy")' in text
    assert '"hf-hub:org/marque-toy"' in text
    assert text.count('checkpoint")') == 0


def test_no_other_library_is_told_to_open_what_it_cannot(checkpoint):
    model = timm.create_model("test_efficientnet", num_classes=len(TINY_LABELS))
    replace_classifier(model, MlpHead(model.num_features, [8], len(TINY_LABELS)))
    save_checkpoint(
        checkpoint,
        model,
        architecture="test_efficientnet",
        model_args={},
        labels=TINY_LABELS,
        data_config=TINY_DATA_CONFIG,
        training={},
    )
    weights = open_checkpoint(checkpoint).revision.removeprefix("sha256:")
    change(checkpoint / "metrics.json", weights=weights)
    change(checkpoint / "calibration.json", weights_sha256=weights)
    text = card(checkpoint, figure)
    assert "create_model" not in text
    assert ModelCard(text).data.library_name is None
