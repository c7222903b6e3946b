"""Settings: from the command line and recipes, refused by name where they contradict."""

from dataclasses import fields
from pathlib import Path

import pytest

from space.errors import MarqueError
from trainer.training.config import TrainConfig, build_parser, parse_config, read_recipe

NEEDED = ["--data", "cars=photos", "--out", "runs/x"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "--epochs is 0; it must be at least 1"),
        ({"split": "0/50/50"}, "--split: the split '0/50/50' is none"),
        ({"split": "90/0/10"}, "the epoch is chosen on validation photos"),
        ({"train_size": 8}, "--train-size is 8"),
        ({"start_size": 256, "train_size": 160}, "--start-size is 256"),
        ({"precision": "int8"}, "--precision is int8; it is one of fp32, bf16, fp16"),
        ({"ema": 1.0}, "--ema is 1.0"),
        ({"lr": 0.0}, "--lr is 0.0"),
        ({"mixup": -0.1}, "--mixup is -0.1; it must not be negative"),
        ({"shrink": 1.5}, "--shrink is 1.5; it must be between 0 and 1"),
        ({"color": 1.0}, "--color is 1.0; it must be at least 0 and below 1"),
        ({"crop_area": 0.0}, "--crop-area is 0.0; it must be above 0"),
        ({"hidden": "2048,1024"}, "--hidden is 2048,1024; write widths as in 2048-1024"),
        ({"head": "bilinear"}, "--head is bilinear; it is one of linear, mlp"),
        ({"cutmix": 1.0, "batch_size": 7}, "--batch-size is 7; mixup and CutMix need pairs"),
        ({"head": "arcface", "mixup": 0.2}, "--head is arcface; a margin needs one class a photo"),
        ({"head": "cosface", "focal": 2.0}, "--head is cosface; a margin and a focal loss"),
        ({"class_weights": True, "balanced": True}, "--balanced makes up for rare classes"),
        (
            {"head_epochs": 2, "top_epochs": 2, "epochs": 4},
            "--head-epochs is 2; with --top-epochs 2 no epoch of 4 trains all layers",
        ),
        ({"weights": "none", "freeze_norm": True}, "--freeze-norm is True; with --weights none"),
        ({"weights": "none", "head_epochs": 1}, "--head-epochs is 1; with --weights none"),
        ({"patience": 3}, "--patience is 3; --schedule onecycle learns most in its last epochs"),
    ],
)
def test_bad_settings_are_refused_by_name(settings, message):
    with pytest.raises(MarqueError, match=message):
        TrainConfig(data=("cars",), out=Path("runs/x"), **settings)


def test_a_run_without_photos_is_refused():
    with pytest.raises(MarqueError, match="--data is missing"):
        TrainConfig(out=Path("runs/x"))


def test_training_grows_its_photos_when_asked():
    config = TrainConfig(data=("cars",), out=Path("x"), epochs=8, start_size=96, train_size=160)
    assert [config.size_at(epoch) for epoch in range(8)] == [96, 96, 128, 128] + [160] * 4
    config = TrainConfig(data=("cars",), out=Path("x"), epochs=2)
    assert config.size_at(0) == 160


def test_every_setting_says_in_the_help_what_it_is_for(capsys):
    with pytest.raises(SystemExit):
        parse_config(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for item in fields(TrainConfig):
        assert f"--{item.name.replace('_', '-')}" in shown
        assert len(item.metadata["help"]) > 15
        # argparse breaks lines at hyphens; the words are there all the same.
        assert item.metadata["help"].split()[0] in shown
    assert len(build_parser()._action_groups) > 7


def test_what_is_given_goes_before_the_recipe_and_that_before_the_default(tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text('epochs = 7\nlr = 1\nbalanced = true\nmodel = "resnet50"\n')
    config = parse_config([*NEEDED, "--recipe", str(recipe), "--epochs", "3", "--no-balanced"])
    assert (config.epochs, config.lr, config.balanced) == (3, 1.0, False)
    assert (config.model, config.batch_size) == ("resnet50", 64)


def test_a_recipe_may_bring_the_data_and_the_command_line_other_data(tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text('data = ["a=one", "b=two"]\nsplit_file = "split.csv"\n')
    config = parse_config(["--recipe", str(recipe), "--out", "runs/x"])
    assert config.data == ("a=one", "b=two")
    assert config.split_file == Path("split.csv")
    config = parse_config(["--recipe", str(recipe), *NEEDED])
    assert config.data == ("cars=photos",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 7", "mine.toml: epoch = 7 is not a setting that a recipe can make"),
        ('out = "runs/x"', "mine.toml: out = 'runs/x' is not a setting that a recipe can make"),
        ('epochs = "7"', "mine.toml: epochs is '7'; it should be a int"),
        ("epochs = 7.5", "mine.toml: epochs is 7.5; it should be a int"),
        ("balanced = 1", "mine.toml: balanced is 1; it should be a bool"),
        ("epochs = ", "mine.toml is not TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_by_file_and_key(tmp_path, text, message):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(MarqueError, match=message):
        read_recipe(str(tmp_path / "mine.toml"))


def test_an_unknown_recipe_names_those_that_there_are():
    with pytest.raises(MarqueError, match=r"there is no nothing\.toml \(known recipes: .*smoke"):
        read_recipe("nothing")


def test_wrong_usage_prints_why_and_exits_with_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_config([*NEEDED, "--head", "arcface", "--mixup", "0.2"])
    assert stopped.value.code == 2
    assert "--head is arcface; a margin needs one class a photo" in capsys.readouterr().err
