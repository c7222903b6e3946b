"""Averaged checkpoints: the mean of the weights, and nothing of what does not belong together."""

import json

import pytest
import timm
import torch
from conftest import TINY_DATA_CONFIG, TINY_LABELS, save_tiny_checkpoint
from safetensors.torch import load_file

from space.checkpoints import (
    CONFIG,
    GRAPH,
    WEIGHTS,
    open_checkpoint,
    read_license,
    write_json,
)
from trainer.average import average, main
from trainer.training.checkpoints import save_checkpoint


@pytest.fixture
def two(tmp_path):
    return [save_tiny_checkpoint(tmp_path / str(seed), seed) for seed in range(2)]


@pytest.mark.parametrize(("shares", "first"), [(None, 0.5), ([3, 1], 0.75)])
def test_weights_are_the_mean(two, tmp_path, shares, first):
    average(two, tmp_path / "mean", shares)
    one, other, mean = (load_file(folder / WEIGHTS) for folder in (*two, tmp_path / "mean"))
    for name, tensor in mean.items():
        expected = one[name].double() * first + other[name].double() * (1 - first)
        assert torch.allclose(tensor.double(), expected, atol=1e-3)
    checkpoint = open_checkpoint(tmp_path / "mean")
    assert checkpoint.labels == open_checkpoint(two[0]).labels


def test_the_mean_ends_with_its_graph(two, tmp_path, capsys):
    assert main([*map(str, two), f"--out={tmp_path / 'mean'}"]) == 0
    assert "differs from PyTorch by at most" in capsys.readouterr().out
    assert (tmp_path / "mean" / GRAPH).is_file()


def test_checkpoint_averaged_with_itself_stays_as_it_is(two, tmp_path):
    average([two[0], two[0]], tmp_path / "mean")
    one, mean = load_file(two[0] / WEIGHTS), load_file(tmp_path / "mean" / WEIGHTS)
    assert all(torch.equal(mean[name], tensor) for name, tensor in one.items())


def test_sources_are_kept(two, tmp_path):
    average(two, tmp_path / "mean", [1, 3])
    averaged = open_checkpoint(tmp_path / "mean").folder / "training.json"
    for folder, share in zip(two, ("0.25", "0.75"), strict=True):
        assert open_checkpoint(folder).revision in averaged.read_text()
        assert share in averaged.read_text()
    record = json.loads(averaged.read_text())
    for one in (record, record["averaged"][1]["training"]):
        assert one["note"] == "untrained, for tests"


def relicense(folder, license):
    config = json.loads((folder / CONFIG).read_text())
    config["pretrained_cfg"]["license"] = license
    write_json(folder / CONFIG, config)


def test_the_licence_is_kept_where_all_have_it(two, tmp_path):
    for folder in two:
        relicense(folder, "cc-by-4.0")
    average(two, tmp_path / "mean")
    assert read_license(tmp_path / "mean") == "cc-by-4.0"


def refused(arguments, tmp_path, capsys) -> str:
    assert main([*map(str, arguments), f"--out={tmp_path / 'mean'}"]) == 1
    assert not (tmp_path / "mean").exists()
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("shares", "message"), [(["1"], "2 checkpoints need as many"), (["1", "0"], "above 0")]
)
def test_shares_that_do_not_fit(two, tmp_path, capsys, shares, message):
    assert message in refused([*two, "--shares", *shares], tmp_path, capsys)


def test_missing_checkpoint(two, tmp_path, capsys):
    assert "no folder" in refused([two[0], tmp_path / "none"], tmp_path, capsys)


def test_different_licences(two, tmp_path, capsys):
    relicense(two[1], "cc-by-nc-4.0")
    message = refused(two, tmp_path, capsys)
    assert f"{two[1]} has another license (cc-by-nc-4.0) than {two[0]} (mit)" in message


@pytest.mark.parametrize(
    ("architecture", "labels", "message"),
    [
        ("test_efficientnet", TINY_LABELS[::-1], "other classes"),
        ("test_resnet", TINY_LABELS, "another network"),
    ],
)
def test_what_does_not_belong_together(two, tmp_path, capsys, architecture, labels, message):
    save_checkpoint(
        tmp_path / "other",
        timm.create_model(architecture, num_classes=len(labels)),
        architecture=architecture,
        model_args={},
        labels=labels,
        data_config=TINY_DATA_CONFIG,
        training={},
    )
    assert message in refused([two[0], tmp_path / "other"], tmp_path, capsys)
