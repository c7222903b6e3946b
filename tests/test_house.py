"""The rules of the house, held by reading the code."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import space

ROOT = Path(__file__).parent.parent
FOLDERS = ("space", "trainer", "model_card", "scripts", "benchmarks")
FILES = sorted(
    [ROOT / "app.py", *(path for name in FOLDERS for path in (ROOT / name).rglob("*.py"))]
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> set[str]:
    """Every module that a file names in an import, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def importers(package: str) -> set[str]:
    return {
        name_of(path)
        for path in FILES
        if any(f"{module}.".startswith(f"{package}.") for module in imports(path))
    }


def calls(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """What a file calls, as written, and the keyword arguments."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            keywords = {word.arg: ast.unparse(word.value) for word in node.keywords if word.arg}
            yield ast.unparse(node.func), keywords


def test_rules_are_held_over_the_whole_project():
    names = {name_of(path) for path in FILES}
    assert {"app.py", "space/page.py", "trainer/weights.py"} <= names


# From the lowest floor to the highest, as CONTRIBUTING.md has them: imports only go down.
FLOORS = (
    ("space/",),
    ("trainer/weights.py", "trainer/heap.py", "trainer/provenance.py", "trainer/rendering.py"),
    ("trainer/data/",),
    ("trainer/collection/",),
    ("trainer/training/",),
    ("trainer/evaluation/",),
    ("trainer/extending/",),
    ("trainer/auditing/",),
    ("model_card/",),
    ("trainer/publishing/",),
    ("trainer/", "app.py"),  # commands
    ("benchmarks/", "scripts/"),
)


def floor(name: str) -> int:
    return next(n for n, places in enumerate(FLOORS) if name.startswith(places))


def file_of(module: str) -> str | None:
    """The file of this project that an imported name comes from, if it does."""
    path = ROOT.joinpath(*module.split("."))
    for place in (path.with_suffix(".py"), path / "__init__.py"):
        if place.is_file():
            return name_of(place)
    parent = module.rpartition(".")[0]
    return file_of(parent) if parent else None


def test_no_import_goes_up():
    wrong = []
    for path in FILES:
        name = name_of(path)
        for module in imports(path):
            used = file_of(module)
            if used and used.split("/")[0] in FOLDERS and floor(used) > floor(name):
                wrong.append(f"{name} imports {used}")
    assert wrong == []


def test_commands_import_no_commands():
    commands = {name_of(path) for path in (ROOT / "trainer").glob("*.py")} - {
        *FLOORS[1],
        "trainer/__init__.py",
    }
    wrong = [
        f"{name} imports {used}"
        for name in sorted(commands)
        for module in imports(ROOT / name)
        if (used := file_of(module)) in commands
    ]
    assert wrong == []


def test_no_file_is_long():
    lines = {name_of(path): len(path.read_text("utf-8").splitlines()) for path in FILES}
    assert {name: count for name, count in lines.items() if count > 400} == {}


def test_the_map_names_every_folder():
    contributing = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    rooms = {f"trainer/{path.parent.name}/" for path in (ROOT / "trainer").glob("*/__init__.py")}
    assert [room for room in sorted(rooms) if f"`{room}`" not in contributing] == []


def test_every_package_is_installed_with_the_others():
    told = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    there = [
        ".".join(path.parent.relative_to(ROOT).parts)
        for name in ("space", "trainer", "model_card")
        for path in (ROOT / name).rglob("__init__.py")
    ]
    assert sorted(told["packages"]) == sorted(there)


def test_only_the_page_and_its_arguments_import_gradio():
    web = {f"space/web/{name}.py" for name in ("many", "parts", "photo", "sessions")}
    assert importers("gradio") - web == {"space/page.py", "space/arguments.py"}


def test_only_the_trainer_imports_accelerate():
    names = importers("accelerate")
    assert names
    assert all(name.startswith("trainer/") for name in names)


@pytest.mark.parametrize("module", ["pickle", "dill", "joblib", "cloudpickle", "marshal", "shelve"])
def test_nothing_imports_a_module_whose_files_can_run_code(module):
    assert importers(module) == set()


def test_only_starting_weights_are_read_by_torch_and_only_as_weights():
    loads = [
        (name_of(path), keywords.get("weights_only"))
        for path in FILES
        for function, keywords in calls(path)
        if function == "torch.load"
    ]
    assert loads == [("trainer/weights.py", "True")]
    assert not [path for path in FILES if "torch.load" in imports(path)]  # not by another name


def test_no_code_from_the_hub_is_trusted():
    assert not [
        (name_of(path), function)
        for path in FILES
        for function, keywords in calls(path)
        if "trust_remote_code" in keywords
    ]


def test_space_exports_what_its_users_need():
    assert sorted(space.__all__) == [
        "Car",
        "CarRecognizer",
        "CheckpointError",
        "MakeScore",
        "MarqueError",
        "ModelScore",
        "PhotoError",
        "Plausible",
        "Prediction",
        "Recognition",
        "YearScore",
        "load_photo",
        "parse_label",
    ]
    assert all(hasattr(space, name) for name in space.__all__)


def test_importing_space_brings_no_package_that_serving_does_not_need():
    unwanted = ("datasets", "accelerate", "transformers", "gradio", "scipy.io", "trainer")
    script = f"import sys, space.cli; print([name for name in {unwanted} if name in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, cwd=ROOT, encoding="utf-8"
    )
    assert answer.stdout.strip() == "[]"
