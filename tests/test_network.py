"""The network at work: what it saw, and the same answers from both engines."""

import shutil

import numpy as np
import pytest
import timm
import torch
from conftest import TINY_DATA_CONFIG, TINY_LABELS, draw_car, save_tiny_checkpoint

from space.checkpoints import CheckpointError, open_checkpoint
from space.network import GRAPH, OnnxEngine, TorchEngine, engine_of
from space.pytorch import normalize
from space.recognizer import CarRecognizer
from trainer.checkpoints import save_checkpoint


def pixels_of(recognizer: CarRecognizer, count: int) -> torch.Tensor:
    parts = [recognizer.prepare(draw_car(seed)).pixels for seed in range(count)]
    return torch.from_numpy(np.stack(parts))


@pytest.fixture(scope="module")
def inputs(tiny_recognizer) -> torch.Tensor:
    pixels = pixels_of(tiny_recognizer, 3)
    return normalize(pixels, TINY_DATA_CONFIG)


def engine(folder) -> OnnxEngine:
    found = engine_of(open_checkpoint(folder))
    assert isinstance(found, OnnxEngine)
    return found


# What a network saw


def test_features_are_the_stages_and_the_input_of_the_classifier(tiny_checkpoint, inputs):
    model = open_checkpoint(tiny_checkpoint).model
    logits, features, heat = TorchEngine(model)(inputs)
    channels = [info["num_chs"] for info in model.feature_info]
    assert features.shape == (3, sum(channels) + model.num_features)
    with torch.no_grad():
        assert torch.allclose(model(inputs), logits, atol=1e-5)
        assert torch.allclose(model.classifier(features[:, -model.num_features :]), logits)
        assert torch.allclose(model.forward_features(inputs).norm(dim=1), heat, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["test_efficientnet", "test_resnet", "test_convnext", "test_byobnet", "marque_cnn"]
)
def test_every_convolutional_network_has_heat(name):
    model = timm.create_model(name, num_classes=3).eval()
    heat = TorchEngine(model)(torch.rand(2, 3, 96, 96)).heat
    assert heat.shape[0] == 2
    assert (heat.amax(dim=(1, 2)) > heat.amin(dim=(1, 2))).all()


def test_network_of_tokens_has_none():
    model = timm.create_model("test_vit", num_classes=3, img_size=64).eval()
    assert TorchEngine(model)(torch.rand(2, 3, 64, 64)).heat.shape == (2, 0, 0)


# Both engines


def test_checkpoint_without_a_graph_is_run_by_pytorch(tiny_checkpoint):
    assert not (tiny_checkpoint / GRAPH).exists()
    assert isinstance(engine_of(open_checkpoint(tiny_checkpoint)), TorchEngine)


@pytest.mark.parametrize("count", [1, 3])
def test_both_engines_answer_alike(exported_checkpoint, inputs, count):
    expected = TorchEngine(open_checkpoint(exported_checkpoint).model)(inputs[:count])
    found = engine(exported_checkpoint)(inputs[:count])
    for name in expected._fields:
        assert torch.allclose(getattr(found, name), getattr(expected, name), atol=1e-4), name


def test_only_what_is_asked_for_is_computed(exported_checkpoint, inputs):
    logits, features, heat = engine(exported_checkpoint)(inputs, ["logits"])
    assert logits.shape == (3, len(TINY_LABELS))
    assert features.numel() == heat.numel() == 0


def test_recogniser_answers_alike_with_and_without_a_graph(exported_checkpoint, tiny_recognizer):
    photos = [draw_car(seed) for seed in range(4)]
    with_graph = CarRecognizer.from_pretrained(exported_checkpoint).predict(photos)
    for one, other in zip(with_graph, tiny_recognizer.predict(photos), strict=True):
        assert [p.label for p in one.predictions] == [p.label for p in other.predictions]
        scores = [p.score for p in other.predictions]
        assert [p.score for p in one.predictions] == pytest.approx(scores, abs=1e-5)


def test_bundled_checkpoint_has_a_graph_that_answers_as_pytorch(bundled):
    checkpoint = open_checkpoint()
    found = engine_of(checkpoint)
    assert isinstance(found, OnnxEngine)
    pixels = pixels_of(bundled, 2)
    inputs = normalize(pixels, checkpoint.data_config)
    expected = TorchEngine(checkpoint.model)(inputs)
    for one, other in zip(found(inputs), expected, strict=True):
        assert (one - other).abs().max() < 1e-4 * other.abs().max()


def test_graph_takes_the_weights_beside_it(exported_checkpoint, tmp_path, inputs):
    folder = save_tiny_checkpoint(tmp_path / "other", seed=1)
    shutil.copy(exported_checkpoint / GRAPH, folder)
    expected = TorchEngine(open_checkpoint(folder).model)(inputs).logits
    assert torch.allclose(engine(folder)(inputs).logits, expected, atol=1e-4)


def test_graph_in_the_cache_of_the_hub_finds_its_weights(exported_checkpoint, tmp_path, inputs):
    # As huggingface_hub lays it out: links to files that are named after their contents.
    folder, blobs = tmp_path / "snapshots" / "main", tmp_path / "blobs"
    folder.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(exported_checkpoint.iterdir())):
        shutil.copy(path, blobs / str(number))
        (folder / path.name).symlink_to(blobs / str(number))
    expected = engine(exported_checkpoint)(inputs).logits
    assert torch.equal(engine(folder)(inputs).logits, expected)


# Graphs that do not fit


def refused(folder) -> str:
    with pytest.raises(CheckpointError, match=rf"{GRAPH} does not fit.*trainer\.export") as caught:
        CarRecognizer.from_pretrained(folder)
    return str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no graph"])
def test_damaged_graph_is_refused(tiny_checkpoint, tmp_path, content):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    (folder / GRAPH).write_bytes(content)
    assert str(folder) in refused(folder)


def save(folder, architecture="test_efficientnet", labels=TINY_LABELS, size=(3, 64, 64)):
    save_checkpoint(
        folder,
        timm.create_model(architecture, num_classes=len(labels)),
        architecture=architecture,
        model_args={},
        labels=labels,
        data_config=TINY_DATA_CONFIG | {"input_size": size},
        training={},
    )
    return folder


@pytest.mark.parametrize(
    "other",
    [{"architecture": "test_resnet"}, {"labels": TINY_LABELS[:3]}, {"size": (3, 96, 96)}],
    ids=["another network", "fewer classes", "another size"],
)
def test_graph_of_another_checkpoint_is_refused(exported_checkpoint, tmp_path, other):
    folder = save(tmp_path / "checkpoint", **other)
    shutil.copy(exported_checkpoint / GRAPH, folder)
    refused(folder)
