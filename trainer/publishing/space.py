"""Brings Marque's page to a Space: `python -m trainer.deploy org/space --model org/name`.

The Space is created or brought up to date in one commit. It gets what its page is made of and
nothing else, and answers with that commit of the model which is the newest one now (or the one that
`org/name@revision` names), until it is deployed again.
"""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download, metadata_load, metadata_save
from huggingface_hub.errors import EntryNotFoundError

from space.checkpoints import (
    BUNDLED,
    GRAPH,
    SERVING_FILES,
    Checkpoint,
    open_checkpoint,
)
from space.detector import NANODET
from space.errors import MarqueError
from trainer.publishing.upload import explained

ROOT = Path(__file__).parents[2]
_APP = ROOT / "app.py"
# Read by app.py. A file, since it changes in one commit with the page and with what is preloaded,
# and goes back with them; a variable of the Space is set apart from both.
MODEL = "model.txt"

# Of this package, what a page never imports.
_NOT_SERVED = {"__main__.py", "cli.py", "cluster.py", "resume.py", "walk.py"}

_ABOUT = """
# Marque

Give it a photo and it names the car: make, model and year, how sure it is, and what it looked at.

{model}

Programs may ask as well: see "Use via API" at the foot of the page.
"""
_HUB_MODEL = (
    "[{repo}](https://huggingface.co/{repo}/tree/{revision}) answers. Which cars it knows, how "
    "good it is and where it fails stands there."
)
_BUNDLED_MODEL = "The checkpoint that comes with Marque answers; it lies in `space/checkpoint`."


def stage(folder: Path, model: str | None = None) -> None:
    """Fills a folder with what a Space needs.

    A Space that names a model of the Hub does not get the bundled checkpoint: the model's files
    are put into its image when it is built (`preload_from_hub`), so that it starts as fast and
    without the Hub, and should they be missing, a page that says so is better than one that
    silently answers with another model.

    Args:
        folder: empty.
        model: `org/name` or `org/name@revision`; None for the bundled checkpoint.

    Raises:
        CheckpointError: the model cannot be had, or is none that the page could open.
        MarqueError: it is not on the Hub or has no graph, or this is not Marque's repository.
    """
    if not _APP.is_file():
        raise MarqueError(f"{_APP} is missing: deploy from a copy of Marque's repository")
    for path in (_APP, ROOT / "requirements.txt", ROOT / "LICENSE"):
        shutil.copyfile(path, folder / path.name)
    (folder / "space").mkdir()
    for path in sorted((ROOT / "space").glob("*.py")):
        if path.name not in _NOT_SERVED:
            shutil.copyfile(path, folder / "space" / path.name)
    for part in (NANODET.parent, ROOT / "space" / "web"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(part, folder / "space" / part.name, ignore=ignored)
    head = metadata_load(ROOT / "README.md") or {}
    if model is None:
        (folder / "space" / BUNDLED.name).mkdir()
        for name in _files_of(BUNDLED):
            shutil.copyfile(BUNDLED / name, folder / "space" / BUNDLED.name / name)
        about = _BUNDLED_MODEL
    else:
        if Path(model).is_dir():
            raise MarqueError(
                f"{model} is a folder; a Space finds its model on the Hub: send it there with "
                "`python -m trainer.publish`"
            )
        checkpoint = open_checkpoint(model)  # what does not open here would not open there
        if not checkpoint.has_graph:
            raise MarqueError(
                f"{model} has no {GRAPH}, and a Space answers without PyTorch; write it with "
                "`python -m trainer.export FOLDER` and publish the model again"
            )
        repo, revision = model.partition("@")[0], checkpoint.revision
        (folder / MODEL).write_text(f"{repo}@{revision}\n", encoding="utf-8")
        head |= _front_matter(repo, checkpoint)
        about = _HUB_MODEL.format(repo=repo, revision=revision)
    readme = folder / "README.md"
    readme.write_text(_ABOUT.format(model=about), encoding="utf-8")
    metadata_save(readme, head)


def _front_matter(repo: str, checkpoint: Checkpoint) -> dict[str, Any]:
    """What the Hub should know of the model: that it is used, and is to be fetched beforehand."""
    head: dict[str, Any] = {"models": [repo]}
    with explained(repo):
        info = HfApi().model_info(repo, revision=checkpoint.revision)
        with suppress(EntryNotFoundError):  # a model without a card
            card = hf_hub_download(repo, "README.md", revision=checkpoint.revision)
            if datasets := (metadata_load(card) or {}).get("datasets"):
                head["datasets"] = datasets
    if info.private or info.gated:
        print(
            f"{repo} is not public: give the Space a secret HF_TOKEN that may read it; "
            "without one it will not start"
        )
    else:  # an image is built without secrets
        files = ",".join(_files_of(checkpoint.folder))
        head["preload_from_hub"] = [f"{repo} {files} {checkpoint.revision}"]
    return head


def _files_of(checkpoint: Path) -> list[str]:
    """The files of a checkpoint that a recognizer reads."""
    return [name for name in SERVING_FILES if (checkpoint / name).is_file()]
