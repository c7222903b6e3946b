"""Writes a checkpoint's model card: `python -m model_card.card CHECKPOINT`.

The checkpoint gets README.md, which begins with what the Hub reads about it, and figures/. All that
the card says comes from the checkpoint's JSON files: how it was trained, what was measured, how
fast it is. What was not measured or recorded is said to be missing; a number or a figure that a
measurement should have brought stops the card.
"""

import argparse
import hashlib
import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import yaml
from huggingface_hub import EvalResult, ModelCardData, metadata_load

from model_card.render import DATA_SETS, ROOT, read_json, render, title
from space.checkpoints import (
    CALIBRATION,
    CARD,
    CARD_SOURCES,
    CONFIG,
    FIGURES,
    METRICS,
    TRAINING,
    WEIGHTS,
    checkpoint_of,
    file_hash,
    open_checkpoint,
)
from space.errors import CheckpointError, MarqueError
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
# What benchmarks/ found out about datasets, told on the card of who trained on them.
FAITHFULNESS = ROOT / "benchmarks" / "faithfulness.json"
FINDINGS = {
    "leak": {"algerian_used_cars"},
    "unknown": {"stanford_cars", "algerian_used_cars"},
}
# What people add to a card stands below this line, and stays when the card is written again.
OWN_WORDS = "<!-- Below this line write what you like: it stays when the card is written again. -->"
# Networks that no other library opens.
_MARQUE_ALONE = "marque_cnn"


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
    measured = _read(folder / METRICS) if (folder / METRICS).is_file() else {}
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
        raise MarqueError(f"the head of {path} is not in order: {error}") from None
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


def facts(folder: Path, repo: str | None = None) -> dict[str, Any]:
    """What the card may tell: the JSON files by name, and what follows from them.

    Raises:
        MarqueError: one is missing or is about other weights, or no test photos were measured.
    """
    try:
        checkpoint = open_checkpoint(folder)
    except CheckpointError as error:
        raise MarqueError(str(error)) from None
    if not (folder / METRICS).is_file():
        raise MarqueError(
            f"{folder} has no {METRICS}; measure it with `python -m trainer.evaluate`"
        )
    config, training, metrics = (_read(folder / name) for name in (CONFIG, TRAINING, METRICS))
    calibration = _read(folder / CALIBRATION) if (folder / CALIBRATION).is_file() else None
    weights = checkpoint.revision.removeprefix("sha256:")
    for name, content, key, how in (
        (METRICS, metrics, "weights", "trainer.evaluate"),
        (CALIBRATION, calibration, "weights_sha256", "trainer.evaluate"),
    ):
        if content and not content[key].removeprefix("sha256:").startswith(weights):
            raise MarqueError(
                f"{folder / name} is about other weights than {folder / WEIGHTS}; "
                f"measure again with `python -m {how}`"
            )
    if metrics["split"]["name"] != "test":
        raise MarqueError(
            f"{folder / METRICS} tells of {metrics['split']['name']} photos, and a card of "
            "test photos; leave out --split of `python -m trainer.evaluate`"
        )
    runs = list(_runs(training))
    known_as = _known_as(runs)
    runs = [{**run, **_renamed(run, ("sources",), known_as)} for run in runs]
    metrics |= _renamed(metrics, ("sources", "backgrounds"), known_as)
    if "rejection" in metrics:
        metrics["rejection"] |= _renamed(metrics["rejection"], ("exteriors",), known_as)
    trained = [known_as.get(name, name) for run in runs for name in _names_of(run)]
    tested = [known_as.get(name, name) for name in metrics.get("data", [])]
    tested = tested or list(metrics.get("sources", {})) or trained
    data = list(dict.fromkeys([*trained, *tested]))
    assigned = {json.dumps(run["split"]): run for run in reversed(runs) if "split" in run}
    makes = defaultdict(list)
    for label, car in zip(checkpoint.labels, checkpoint.cars, strict=True):
        makes[car.make].append(label)
    return {
        "title": repo.partition("/")[2] if repo else f"Marque, {config['architecture']}",
        "repo": repo,
        "place": repo or _place(folder),
        "told": {
            name: file_hash(folder / name) for name in CARD_SOURCES if (folder / name).is_file()
        },
        "config": config,
        "metrics": metrics,
        "calibration": calibration,
        "speed": metrics.get("speed"),
        "faithfulness": _faithfulness_of(metrics["weights"]),
        **{
            name: read_json(ROOT / "benchmarks" / f"{name}.json") if names <= {*data} else None
            for name, names in FINDINGS.items()
        },
        "averaged": training.get("averaged", []),
        "runs": runs,
        "assigned": list(reversed(assigned.values())),
        "same_split": all(
            run.get("split", {}).get("sha256") == metrics["split"]["file_sha256"] for run in runs
        ),
        "went_on": any(run.get("starting_weights", "").startswith("checkpoint") for run in runs),
        "data": data,
        "tested": tested,
        "known": {name: DATA_SETS[name] for name in data if name in DATA_SETS},
        "hub": [hub for name in data if (hub := _hub_id(name))],
        "streamed": any("streamed" in run.get("dataset", {}) for run in runs),
        "grouped": all("sha256" in run.get("split", {}) for run in runs),
        # The parts that the authors of a dataset made, and no split of one's own.
        "official": all(
            run.get("config", {}).get("split") == "official" and not run["config"]["split_file"]
            for run in runs
        ),
        "makes": dict(sorted(makes.items(), key=lambda item: item[0].casefold())),
        "years": sorted({car.year for car in checkpoint.cars if car.year is not None}),
        "marque_alone": config["architecture"] == _MARQUE_ALONE or "mlp_head" in config,
    }


def _faithfulness_of(weights: str) -> dict[str, Any] | None:
    """What `benchmarks.faithfulness` found on a checkpoint of these weights."""
    found = read_json(FAITHFULNESS) if FAITHFULNESS.is_file() else {}
    return found if found.get("checkpoint") == weights else None


def metadata(known: dict[str, Any], text: str) -> ModelCardData:
    """What the Hub reads: how to open the checkpoint, and its results on each dataset."""
    config, metrics = known["config"], known["metrics"]
    parts = metrics.get("sources") or {" and ".join(known["tested"]): metrics}
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=_hub_id(name) or re.sub(r"[^\w./-]+", "-", name),
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


def _known_as(runs: Sequence[dict[str, Any]]) -> dict[str, str]:
    """What each dataset is known as, by the name that its user gave it.

    Records that do not say go by the name alone, and so do datasets whose layout tells nothing.
    """
    found = {}
    by_layout = {name for name, told in DATA_SETS.items() if "known_by" not in told}
    of_hub = {told["hub"]: name for name, told in DATA_SETS.items() if "hub" in told}
    for run in runs:
        for name, part in run.get("sources", {}).items():
            origin = part.get("origin", name)
            own = f"{name} of its user's own" if name in by_layout else name
            found[name] = of_hub.get(origin, origin or own)
        if streamed := run.get("dataset", {}).get("streamed"):
            found |= dict.fromkeys(_names_of(run), of_hub.get(streamed, streamed))
    if len({*found.values()}) < len(found):  # parts of one dataset, which must stay apart
        return {}
    return found


def _renamed(
    content: Mapping[str, Any], keys: Sequence[str], known_as: Mapping[str, str]
) -> dict[str, Any]:
    """The tables below some keys with datasets by what they are known as.

    A row is called after its dataset, or after it and a condition: "cars, original".
    """

    def name(row: str) -> str:
        own, comma, more = row.partition(", ")
        return known_as.get(own, own) + comma + more

    return {
        key: {name(row): part for row, part in content[key].items()}
        for key in keys
        if key in content
    }


def _hub_id(name: str) -> str | None:
    """Where the Hub has the dataset; None where it does not, or is not known to."""
    return DATA_SETS.get(name, {}).get("hub") or (name if name.count("/") == 1 else None)


def _place(folder: Path) -> str:
    """What to call a folder without telling where on this machine it lies."""
    path = folder.resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except json.JSONDecodeError as error:
        raise MarqueError(f"{path} is not valid JSON: {error}") from None


def _runs(training: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The runs that weights come from: one, or those whose checkpoints were averaged."""
    first, *others = training.get("averaged") or [{}]
    yield training | first  # the first one's record is that of the whole
    for part in others:
        for run in _runs(part.get("training", {})):
            yield {"checkpoint": part["checkpoint"], **run}


def _names_of(run: dict[str, Any]) -> list[str]:
    """The names that the run's user gave its datasets."""
    return [spec.partition("=")[0] for spec in run.get("config", {}).get("data", [])]


if __name__ == "__main__":
    sys.exit(main())
