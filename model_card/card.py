"""Writes a checkpoint's model card: `python -m model_card.card CHECKPOINT`.

The checkpoint gets README.md, which begins with what the Hub reads about it, and figures/. All that
the card says comes from the checkpoint's JSON files: how it was trained, what was measured, how
fast it is. What was not measured or recorded is said to be missing; a number or a figure that a
measurement should have brought stops the card.
"""

import argparse
import hashlib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import yaml
from huggingface_hub import EvalResult, ModelCardData, metadata_load

from model_card.facts import facts, hub_id, read_file
from model_card.render import render, title
from space.checkpoints import (
    CARD,
    CARD_SOURCES,
    FIGURES,
    METRICS,
    checkpoint_of,
    file_hash,
)
from space.errors import MarqueError
from space.hub import repo_id
from space.walk import user_path

# The charts. No picture that shows photos, as gallery.png does, may be passed on.
CHARTS = (
    "classes.png",
    "confusion_shares.png",
    "rejection.png",
    "reliability.png",
    "reliability_levels.png",
    "risk_coverage.png",
    "robustness.png",
    "worst_pairs.png",
)
# What people add to a card stands below this line, and stays when the card is written again.
OWN_WORDS = "<!-- Below this line write what you like: it stays when the card is written again. -->"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m model_card.card",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=user_path, metavar="RUN",
                        help="a run that was evaluated, or a checkpoint folder")  # fmt: skip
    parser.add_argument("--figures", type=user_path, metavar="FOLDER",
                        help="what `python -m trainer.evaluate` drew (default: evaluation/ "
                        "beside the checkpoint, or figures/ in it)")  # fmt: skip
    parser.add_argument("--repo", type=repo_id, metavar="ORG/NAME",
                        help="the Hub repository that it will be, for the examples in the "
                        "card")  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        path = write_card(checkpoint_of(options.checkpoint), options.figures, options.repo)
    except (MarqueError, OSError) as error:
        print(f"card: {error}", file=sys.stderr)
        return 1
    print(path)
    return 0


def write_card(folder: Path, figures: Path | None = None, repo: str | None = None) -> Path:
    """Writes README.md and figures/ into a checkpoint folder.

    Args:
        folder: the checkpoint.
        figures: the folder that its evaluation wrote; if None, `evaluation` beside the checkpoint
            or, without one, what an earlier card took.
        repo: the Hub repository that it will be.

    Returns:
        The card's path.

    Raises:
        MarqueError: a file, a number or a figure is missing, or they do not belong together;
            nothing was written.
    """
    drawn = figures or folder.parent / "evaluation"
    if not figures and not drawn.is_dir():
        drawn = folder / FIGURES
    measured = read_file(folder / METRICS) if (folder / METRICS).is_file() else {}
    hashes: dict[str, str] = measured.get("figures", {})
    shown: dict[str, bytes] = {}

    def figure(name: str, shows: str) -> str:
        assert name in CHARTS, f"{name} is none of the charts"
        if not (drawn / name).is_file():
            raise MarqueError(
                f"the figure {drawn / name} is missing; name the folder of the evaluation with "
                "--figures, or make it with `python -m trainer.evaluate`"
            )
        if hashes and hashes.get(name) != file_hash(drawn / name):
            raise MarqueError(
                f"the figure {drawn / name} is none of those that were drawn with "
                f"{folder / METRICS}; name their folder with --figures, or make both again with "
                "`python -m trainer.evaluate`"
            )
        shown[name] = (drawn / name).read_bytes()
        return f"![{shows}]({FIGURES}/{name})"

    text = card(folder, figure, repo)
    target = folder / FIGURES
    target.mkdir(exist_ok=True)
    for name in CHARTS:
        if name not in shown:  # it is that of an earlier card
            (target / name).unlink(missing_ok=True)
        elif drawn != target:
            (target / name).write_bytes(shown[name])
    (folder / CARD).write_text(text, encoding="utf-8")
    return folder / CARD


def card(folder: Path, figure: Callable[[str, str], str], repo: str | None = None) -> str:
    """The text of a checkpoint's card.

    Args:
        figure: takes a chart's name and what it shows, and gives what stands in the text for it.

    Raises:
        MarqueError: see `write_card`.
    """
    try:
        known = facts(folder, repo)
        text = render("card.md.jinja", figure=figure, **known)
        head = metadata(known, text).to_yaml()
    except (jinja2.UndefinedError, KeyError) as error:
        raise MarqueError(
            f"the JSON files of {folder} lack a number that the card tells: {error}; "
            "measure again with `python -m trainer.evaluate`"
        ) from None
    return f"---\n{head}\n---\n\n{text}\n{OWN_WORDS}\n{own_words(folder)}"


def own_words(folder: Path) -> str:
    """What people have added below the card of a checkpoint folder; "" where there is none."""
    path = folder / CARD
    return path.read_text("utf-8").partition(f"{OWN_WORDS}\n")[2] if path.is_file() else ""


def is_current(folder: Path, repo: str | None) -> bool:
    """Whether a card was written from the files beside it, for this repository.

    Raises:
        MarqueError: it would have to be written again, and has been edited above the line below
            which words are kept; or what the Hub reads of it is not in order.
    """
    path = folder / CARD
    if not path.is_file():
        return False
    try:
        head = metadata_load(path) or {}
    except (ValueError, yaml.YAMLError) as error:
        raise MarqueError(f"the front matter of {path} is damaged: {error}") from None
    told = head.get("marque")
    if not isinstance(told, dict):
        raise MarqueError(
            f"{path} is not a card that Marque wrote; keep it elsewhere, or delete it"
        )
    sources = {name: file_hash(folder / name) for name in CARD_SOURCES if (folder / name).is_file()}
    if told.get("files") == sources and told.get("repo") == repo:
        return True
    text = path.read_text("utf-8").partition("\n---\n\n")[2].partition(f"\n{OWN_WORDS}\n")[0]
    if "text_sha256" in told and told["text_sha256"] != _hash(text):
        raise MarqueError(
            f"{path} tells of other files than those beside it, and was edited by hand; move what "
            f"you added below the line {OWN_WORDS!r}, where it is kept, or delete the card"
        )
    return False


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def metadata(known: dict[str, Any], text: str) -> ModelCardData:
    """What the Hub reads: how to open the checkpoint, and its results on each dataset."""
    config, metrics = known["config"], known["metrics"]
    parts = metrics.get("sources") or {" and ".join(known["tested"]): metrics}
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=hub_id(name) or re.sub(r"[^\w./-]+", "-", name),
            dataset_name=title(name) + ("" if known["official"] else ", split by Marque"),
            # Only where it is the split of that name that `datasets` would load.
            dataset_split=metrics["split"]["name"] if known["official"] else None,
            dataset_args={
                "photos": part["photos"],
                "split_file_sha256": metrics["split"]["file_sha256"],
            },
            metric_type=kind,
            metric_name=called,
            metric_value=part[measure]["value"],
        )
        for name, part in parts.items()
        for measure, kind, called in (
            ("top1", "accuracy", "Top-1 accuracy"),
            ("top5", "accuracy", "Top-5 accuracy"),
            ("f1_macro", "f1", "Macro F1"),
        )
    ]
    return ModelCardData(
        model_name=known["title"],
        library_name=None if known["marque_alone"] else "timm",
        pipeline_tag="image-classification",
        license=config["pretrained_cfg"]["license"],
        tags=["image-classification", "cars", "fine-grained", "marque"],
        datasets=known["hub"] or None,
        metrics=["accuracy", "f1"],
        eval_results=results,
        # By these whoever publishes it knows a card of other files, for another repository, or
        # one that was edited by hand.
        marque={"repo": known["repo"], "files": known["told"], "text_sha256": _hash(text)},
    )


if __name__ == "__main__":
    sys.exit(main())
