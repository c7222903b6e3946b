"""The notebook runs from top to bottom, as in a fresh session beside the code."""

import os
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from space import CarRecognizer
from trainer.data.toys import CLASSES

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """The executed notebook and the folder that it ran in: the code alone, without tests."""
    folder = tmp_path_factory.mktemp("session")
    for name in ("space", "trainer"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    notebook = nbformat.read(ROOT / "notebooks" / "train.ipynb", as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))  # no settings of who runs the tests
        patch.setenv("ACCELERATE_USE_CPU", "1")
        # The kernel of this name is the one of the Python that runs the tests.
        NotebookClient(
            notebook,
            timeout=1800,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
        ).execute()
    return notebook, folder


def test_there_is_a_notebook():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_no_outputs_are_committed(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert [cell.outputs for cell in code_cells(notebook) if cell.outputs] == []
    assert {cell.execution_count for cell in code_cells(notebook)} == {None}


def test_a_checkpoint_comes_out_that_opens(session):
    _, folder = session
    recognizer = CarRecognizer.from_pretrained(folder / "runs" / "notebook" / "checkpoint")
    assert recognizer.labels == tuple(CLASSES)
    assert recognizer.rule.calibration is not None


def test_what_the_notebook_shows_is_there(session):
    notebook, folder = session
    texts = "".join(
        output.text
        for cell in code_cells(notebook)
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stdout"
    )
    assert "written: reports/notebook/report.html" in texts
    assert "epoch 2: training loss" in texts
    assert "top1 " in texts
    assert "review: " in texts or "auto-tag: " in texts or "rejected: " in texts
    pictures = [
        output
        for cell in code_cells(notebook)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 7  # the audit's, the curves, three of the evaluation, photo and map
    assert (folder / "runs" / "notebook" / "why.png").stat().st_size


def test_the_notebook_needs_no_clone_beside_the_code(session):
    _, folder = session
    assert not (folder / "marque").exists()
    assert not os.path.lexists(folder / "tests")
