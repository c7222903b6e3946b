"""The page on a Space: what goes there, what the Hub is told, and that it starts there."""

import ast
import contextlib
import io
import re
import shutil
import sys
import tomllib
import urllib.request
from collections.abc import Mapping
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from apps import start
from huggingface_hub import hf_hub_download

from space.checkpoints import BUNDLED, GRAPH, SERVING_FILES
from space.detector import NANODET
from trainer.deploy import main
from trainer.training.graph import export

ROOT = Path(__file__).parent.parent
CARD = b"---\nlicense: mit\ndatasets:\n- org/cars\n---\n# A model\n"


def front_matter(readme: str) -> dict[str, Any]:
    return yaml.safe_load(readme.split("---\n")[1])


def pins(name: str) -> dict[str, str]:
    """The packages that a requirements file itself names, and their versions."""
    lines = (ROOT / name).read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


# What the repository says of itself


def test_the_front_matter_has_the_versions_that_are_pinned():
    head = front_matter((ROOT / "README.md").read_text("utf-8"))
    assert head["sdk"] == "gradio"
    assert head["sdk_version"] == pins("requirements.txt")["gradio"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["requires-python"] == f">={head['python_version']}"
    assert (ROOT / head["app_file"]).is_file()


def test_a_space_installs_no_package_of_training():
    served = {normal(name) for name in pins("requirements.txt")}
    assert served.isdisjoint(normal(name) for name in pins("requirements-train.txt"))
    assert served.isdisjoint({"accelerate", "datasets", "transformers", "scikit-learn", "pytest"})


# Deployed


@pytest.fixture(scope="module")
def checkpoint(calibrated_checkpoint, tmp_path_factory) -> Path:
    """A checkpoint with its graph."""
    folder = tmp_path_factory.mktemp("model") / "checkpoint"
    shutil.copytree(calibrated_checkpoint, folder)
    export(folder)
    return folder


@pytest.fixture(scope="module")
def model(hub, checkpoint):
    """A model on the Hub with a card; another one without its graph."""
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    hub.add_repo("org/no-graph", {name: file for name, file in files.items() if name != GRAPH})
    return hub.add_repo("org/model", files | {"README.md": CARD, "figures/a.png": b"png"}, tag="v1")


# These run in the other process.


def run(*arguments: str) -> tuple[int, str, str]:
    """The exit status, and what was printed for people and as errors."""
    with (
        contextlib.redirect_stdout(io.StringIO()) as printed,
        contextlib.redirect_stderr(io.StringIO()) as errors,
    ):
        status = main(arguments)
    return status, printed.getvalue(), errors.getvalue()


def preload(line: str, cache: Path) -> None:
    """What the Hub does with a line of `preload_from_hub` when it builds a Space."""
    repo, files, revision = line.split()
    for name in files.split(","):
        hf_hub_download(repo, name, revision=revision, cache_dir=cache)


@pytest.fixture(scope="module")
def space(hub, call, model) -> Mapping[str, bytes]:
    """The files of a Space with that model."""
    status, printed, errors = call(run, "org/space", "--model", "org/model")
    assert (status, errors) == (0, "")
    assert "logged in as ada" in printed
    repo = hub.repo("org/space", "space")
    assert f"{hub.url}/spaces/org/space is at {repo.head}" in printed
    assert repo.sdk == "gradio"
    assert len(repo.history) == 2  # as it was created, and one commit
    return repo.files


def imported(files: Mapping[str, bytes]) -> tuple[set[str], set[str]]:
    """What app.py imports, directly or not: the files of ours, and the packages of others."""
    ours: set[str] = set()
    others: set[str] = set()
    todo = ["app.py"]
    while todo:
        ours.add(name := todo.pop())
        modules: set[str] = set()
        for node in ast.walk(ast.parse(files[name])):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules |= {f"{node.module}.{alias.name}" for alias in node.names}
        for module in modules:
            package, *below = module.split(".")
            if package == "space":
                paths = {"space/__init__.py", "space/web/__init__.py"}
                paths |= {f"space/{'/'.join(below[:depth])}.py" for depth in (1, 2)}
                todo += (paths & set(files)) - ours
            elif package not in sys.stdlib_module_names:
                others.add(package)
    return ours, others


def test_a_space_gets_what_its_page_imports_and_no_more(space):
    ours, _ = imported(space)
    others = {".gitattributes", "LICENSE", "README.md", "model.txt", "requirements.txt"}
    detector = {f"space/nanodet/{path.name}" for path in NANODET.parent.iterdir()}
    looks = {"space/web/page.css", "space/web/page.js"}
    assert set(space) == ours | others | detector | looks


def test_a_space_installs_what_its_page_imports(space):
    pinned = {normal(name) for name in pins("requirements.txt")}
    distributions = packages_distributions()
    _, packages = imported(space)
    assert {"onnxruntime", "gradio", "PIL"} <= packages
    # For checkpoints without a graph, and for tables in Parquet, where these are installed.
    packages -= {"torch", "timm", "pyarrow"}
    missing = [name for name in packages if not pinned & set(map(normal, distributions[name]))]
    assert missing == []


def normal(name: str) -> str:
    """A package's name as the index compares it."""
    return re.sub("[-_.]+", "-", name).lower()


def test_the_hub_is_told_of_versions_and_of_the_model(space, model):
    readme = space["README.md"].decode()
    head = front_matter(readme)
    whole = front_matter((ROOT / "README.md").read_text("utf-8"))
    assert {key: head[key] for key in whole} == whole
    assert head["models"] == ["org/model"]
    assert head["datasets"] == ["org/cars"]
    (line,) = head["preload_from_hub"]
    repo, files, revision = line.split(" ")
    assert (repo, revision) == ("org/model", model.head)
    assert {"config.json", "model.safetensors", "classes.txt"} <= set(files.split(","))
    assert "figures/a.png" not in files
    assert f"https://huggingface.co/org/model/tree/{model.head}" in readme
    assert len(readme) < 2000


def test_a_space_answers_with_its_model_though_the_hub_is_away(hub, call, space, model, tmp_path):
    folder, home = tmp_path / "space", tmp_path / "home"
    for name, content in space.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (line,) = front_matter(space["README.md"].decode())["preload_from_hub"]
    call(preload, line, home / "hub")
    with hub.down():
        page, address = start(folder, tmp_path / "log", HF_ENDPOINT=hub.url, HF_HOME=str(home))
        try:
            with urllib.request.urlopen(f"{address}/config", timeout=60) as answer:
                config = answer.read().decode()
        finally:
            page.kill()
            page.wait()
    assert model.head in config


def test_a_second_time_nothing_is_committed_and_a_new_model_is_one_commit(hub, call, checkpoint):
    moving = hub.add_repo("org/moving", checkpoint)
    assert call(run, "org/second", "--model", "org/moving")[0] == 0
    repo = hub.repo("org/second", "space")
    assert call(run, "org/second", "--model", "org/moving")[0] == 0
    assert len(repo.history) == 2
    moving.commit({**moving.files, "README.md": CARD})
    assert call(run, "org/second", "--model", "org/moving")[0] == 0
    assert len(repo.history) == 3
    assert repo.files["model.txt"].decode() == f"org/moving@{moving.head}\n"


def test_a_space_without_a_model_carries_the_bundled_one(hub, call):
    assert call(run, "org/own")[0] == 0
    files = hub.repo("org/own", "space").files
    carried = {name.removeprefix("space/checkpoint/") for name in files if "/checkpoint/" in name}
    assert carried == {name for name in SERVING_FILES if (BUNDLED / name).is_file()}
    assert "model.txt" not in files
    assert not front_matter(files["README.md"].decode()).keys() & {"models", "preload_from_hub"}


def test_a_private_model_is_not_preloaded(hub, call, checkpoint):
    hub.add_repo("org/secret", checkpoint, private=True)
    status, printed, _ = call(run, "org/whispering", "--model", "org/secret")
    assert status == 0
    assert "give the Space a secret HF_TOKEN" in printed
    head = front_matter(hub.repo("org/whispering", "space").files["README.md"].decode())
    assert head["models"] == ["org/secret"]
    assert "preload_from_hub" not in head


def test_a_dry_run_lists_what_would_go(hub, call, model):
    status, printed, _ = call(run, "org/dry", "--model", "org/model@v1", "--dry-run")
    assert status == 0
    assert "  space/recognizer.py\n" in printed
    assert "space/deploy.py" not in printed
    with pytest.raises(KeyError):
        hub.repo("org/dry", "space")


@pytest.mark.parametrize(
    ("model_name", "message"),
    [
        ("org/nothing", "no Hub repository org/nothing that you may read"),
        ("org/model@v9", "has no revision v9"),
        ("org/poems", r"has no config\.json"),
        ("org/no-graph", r"has no model\.onnx, and a Space answers without PyTorch"),
    ],
)
def test_a_model_that_would_not_open_is_not_deployed(hub, call, model, model_name, message):
    hub.add_repo("org/poems", {"poems.txt": b"roses"})
    status, _, errors = call(run, "org/broken", "--model", model_name)
    assert status == 1
    assert re.search(message, errors)
    with pytest.raises(KeyError):
        hub.repo("org/broken", "space")


@pytest.mark.parametrize(
    ("name", "why"), [("space", "space names no owner; give org/name"), ("org/a b", "alphanumeric")]
)
def test_a_name_that_the_hub_would_not_take(capsys, name, why):
    with pytest.raises(SystemExit, match="2"):
        main([name])
    assert why in capsys.readouterr().err


def test_a_folder_is_no_model_of_a_space(call, checkpoint):
    status, _, errors = call(run, "org/broken", "--model", str(checkpoint))
    assert status == 1
    assert "is a folder; a Space finds its model on the Hub" in errors


def test_another_app_is_left_alone(hub, call):
    repo = hub.add_repo("org/game", {"app.py": b"import game", "README.md": b"# A game"}, "space")
    status, _, errors = call(run, "org/game")
    assert status == 1
    assert "the space org/game holds something else (app.py and no space/recognizer.py)" in errors
    assert repo.files["app.py"] == b"import game"
