"""What a card may tell of a checkpoint, and what follows from it."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from model_card.render import DATA_SETS, ROOT, read_json
from space.checkpoints import (
    CALIBRATION,
    CARD_SOURCES,
    CONFIG,
    METRICS,
    TRAINING,
    WEIGHTS,
    file_hash,
    open_checkpoint,
)
from space.errors import CheckpointError, MarqueError

# What benchmarks/ found out about datasets, told on the card of who trained on them.
FAITHFULNESS = ROOT / "benchmarks" / "faithfulness.json"
FINDINGS = {
    "leak": {"algerian_used_cars"},
    "unknown": {"stanford_cars", "algerian_used_cars"},
}
# Networks that no other library opens.
_MARQUE_ALONE = "marque_cnn"


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
    config, training, metrics = (read_file(folder / name) for name in (CONFIG, TRAINING, METRICS))
    calibration = read_file(folder / CALIBRATION) if (folder / CALIBRATION).is_file() else None
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
        "hub": [hub for name in data if (hub := hub_id(name))],
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


def hub_id(name: str) -> str | None:
    """Where the Hub has the dataset; None where it does not, or is not known to."""
    return DATA_SETS.get(name, {}).get("hub") or (name if name.count("/") == 1 else None)


def _place(folder: Path) -> str:
    """What to call a folder without telling where on this machine it lies."""
    path = folder.resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def read_file(path: Path) -> dict[str, Any]:
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
