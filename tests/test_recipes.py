"""Recipes, and every command of the docs that trains: what they name exists and fits together."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import timm
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser

import space.checkpoints  # noqa: F401  # makes marque_cnn known to timm
from space.checkpoints import GRAPH, open_checkpoint
from space.errors import MarqueError
from trainer.data.toys import CLASSES
from trainer.toys import main as draw_toys
from trainer.training.config import RECIPES, TrainConfig, parse_config, read_recipe
from trainer.training.optimization import build_optimizer
from trainer.weights import create_model

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "TRAINING.md").read_text("utf-8")
# What was tried is told with the commands of its day.
PAGES = sorted(
    {ROOT / "README.md", *(ROOT / "docs").rglob("*.md")} - {ROOT / "docs/EXPERIMENTS.md"}
)
NAMES = sorted(path.stem for path in RECIPES.glob("*.toml"))
SCRIPT = "trainer/train.py"
# What a recipe cannot know.
NEEDS = {"distil": ["--teacher=runs/large/checkpoint"]}


def configure(name: str, *more: str) -> TrainConfig:
    given = ["--recipe", name, "--data=cars=photos", "--out=runs/mine", *NEEDS.get(name, [])]
    return parse_config([*given, *more])


def commands() -> list[str]:
    """Every command of the docs that trains, on one line."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            found += [line for line in block.replace("\\\n", " ").splitlines() if SCRIPT in line]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_makes_a_run(name):
    config = configure(name)
    assert config.recipe == name
    assert config.data == ("cars=photos",)
    for key, value in read_recipe(name).items():
        assert key == "data" or getattr(config, key) == value


@pytest.mark.parametrize("name", NAMES)
def test_the_network_and_the_optimizer_of_a_recipe_can_be_built(name):
    config = configure(name)
    assert timm.is_model(config.model)
    drop_path = {"drop_path_rate": config.drop_path} if config.drop_path else {}
    model, _ = create_model(config.model, 3, "none", drop_rate=config.dropout, **drop_path)
    assert build_optimizer(config, model).param_groups


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_begins_with_what_it_is_for(name):
    first, *_ = (RECIPES / f"{name}.toml").read_text("utf-8").splitlines()
    assert first.startswith("# ")


def test_the_guide_lists_every_recipe():
    table = re.search(r"\| recipe \|.*?\n\n", GUIDE, re.DOTALL)[0]
    assert sorted(re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)) == NAMES


def test_the_command_line_goes_before_the_recipe():
    assert configure("smoke").epochs == 2
    config = configure("smoke", "--epochs=5", "--no-keep-non-exteriors")
    assert (config.epochs, config.keep_non_exteriors, config.batch_size) == (5, False, 8)


def test_a_file_of_your_own_is_a_recipe(tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text('data = ["cars=photos", "more=other"]\nepochs = 3\nlr = 1\n')
    config = parse_config([f"--recipe={mine}", f"--out={tmp_path}"])
    assert config.data == ("cars=photos", "more=other")
    assert (config.epochs, config.lr) == (3, 1.0)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("epoch = 3", ["epoch = 3", "not a setting"]),
        ('out = "runs/mine"', ["out = 'runs/mine'", "not a setting"]),
        ('epochs = "three"', ["epochs", "'three'", "int"]),
        ("epochs = 2.5", ["epochs", "2.5", "int"]),
        ("freeze_norm = 1", ["freeze_norm", "1", "bool"]),
        ("epochs = ", ["not TOML"]),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(tmp_path, content, named):
    path = tmp_path / "wrong.toml"
    path.write_text(content)
    with pytest.raises(MarqueError) as refused:
        read_recipe(str(path))
    for part in [str(path), *named]:
        assert part in str(refused.value)


def test_an_unknown_recipe_is_refused_with_those_that_are_known(capsys):
    with pytest.raises(SystemExit, match="2"):
        configure("smoky")
    message = capsys.readouterr().err
    assert "--recipe is smoky" in message
    assert all(name in message for name in NAMES)


def test_a_value_that_cannot_be_is_refused_by_name(tmp_path, capsys):
    path = tmp_path / "wrong.toml"
    path.write_text('schedule = "sideways"')
    with pytest.raises(SystemExit, match="2"):
        configure(str(path))
    assert "--schedule is sideways; it is one of onecycle" in capsys.readouterr().err


def test_distilling_without_a_teacher_is_refused():
    with pytest.raises(MarqueError, match=r"--teacher-share is 0\.7.*--teacher"):
        TrainConfig(data=("cars=photos",), **read_recipe("distil"))


def test_the_docs_have_commands_that_train():
    assert len(commands()) > 10


@pytest.mark.parametrize("line", commands())
def test_every_command_of_the_docs_is_one(line):
    words = shlex.split(line, comments=True)
    while "=" in words[0]:  # variables of the environment
        words.pop(0)
    arguments = words[words.index(SCRIPT) + 1 :]
    if words[:2] == ["accelerate", "launch"]:
        launch = launch_command_parser().parse_args(words[2:])
    else:
        assert words[0] == "torchrun"
        launch = get_args_parser().parse_args(words[1:])
    assert launch.training_script == SCRIPT
    assert launch.training_script_args == arguments
    assert parse_config(arguments).data


def test_the_smoke_recipe_trains_on_toys(tmp_path, capsys):
    photos, out = tmp_path / "toys", tmp_path / "run"
    assert draw_toys([str(photos), "--each=10"]) == 0
    assert "4 classes with 10 photos each" in capsys.readouterr().out
    arguments = ["--recipe=smoke", f"--data=cars={photos}", f"--out={out}"]
    result = subprocess.run(
        [sys.executable, SCRIPT, *arguments, f"--cache={tmp_path / 'cache'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    assert open_checkpoint(out / "checkpoint").labels == tuple(CLASSES)
    assert "model.onnx: differs from PyTorch by at most" in result.stdout
    assert (out / "checkpoint" / GRAPH).is_file()
    # What a run prints of its settings is a recipe.
    mine = tmp_path / "mine.toml"
    mine.write_text("\n".join(re.findall(r"^\w+ = .*$", result.stdout, re.MULTILINE)))
    again = parse_config([f"--recipe={mine}", "--out=runs/again"])
    assert again.as_json() == {**parse_config(arguments).as_json(), "recipe": str(mine)}
    assert len((out / "log.csv").read_text().splitlines()) == 3
