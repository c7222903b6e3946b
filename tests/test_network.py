"""The network at work: what it saw, and the same answers from both engines."""

import shutil
from typing import Any

import numpy as np
import pytest
import timm
import torch
from conftest import TINY_DATA_CONFIG, TINY_LABELS, draw_car, save_tiny_checkpoint
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from space.checkpoints import GRAPH, open_checkpoint
from space.errors import CheckpointError
from space.network import OnnxEngine, engine_of
from space.pytorch import TorchEngine
from space.recognizer import CarRecognizer
from space.transforms import normalize
from trainer.training.checkpoints import save_checkpoint


def inputs_of(recognizer: CarRecognizer, count: int) -> np.ndarray:
    parts = [recognizer.prepare(draw_car(seed)).pixels for seed in range(count)]
    return normalize(np.stack(parts), recognizer.data_config)


@pytest.fixture(scope="module")
def inputs(tiny_recognizer) -> np.ndarray:
    return inputs_of(tiny_recognizer, 3)


def engine(folder) -> OnnxEngine:
    found = engine_of(open_checkpoint(folder))
    assert isinstance(found, OnnxEngine)
    return found


# What a network saw


def test_features_are_the_stages_and_the_input_of_the_classifier(tiny_checkpoint, inputs):
    model = open_checkpoint(tiny_checkpoint).model
    logits, features = TorchEngine(model)(inputs)
    channels = [info["num_chs"] for info in model.feature_info]
    assert features.shape == (3, sum(channels) + model.num_features)
    with torch.no_grad():
        expected = model(torch.from_numpy(inputs)).numpy()
        pooled = torch.from_numpy(features[:, -model.num_features :])
        assert np.allclose(expected, logits, atol=1e-5)
        assert np.allclose(model.classifier(pooled).numpy(), logits, atol=1e-5)


# For each family of networks a tiny one, and the layer whose maps Grad-CAM is made of.
FAMILIES: dict[str, tuple[dict[str, Any], str]] = {
    "test_efficientnet": ({}, "bn2"),
    "test_resnet": ({}, "layer4"),
    "test_byobnet": ({}, "final_conv"),
    "test_convnext": ({}, "norm_pre"),
    "test_mambaout": ({}, "stages.3"),
    "marque_cnn": ({}, "stages"),
    "test_vit": ({}, "blocks.-1.norm1"),
    "test_vit2": ({}, "norm"),
    "deit_tiny_distilled_patch16_224": (
        {"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 2},
        "blocks.-1.norm1",
    ),
    "mixer_s32_224": ({"img_size": 64}, "norm"),
    "swin_tiny_patch4_window7_224": (
        {
            "img_size": 64,
            "embed_dim": 16,
            "depths": (1, 1, 1, 1),
            "num_heads": (1, 2, 2, 2),
            "window_size": 2,
        },
        "norm",
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_heat_maps_are_those_of_pytorch_grad_cam(name):
    arguments, layer = FAMILIES[name]
    torch.manual_seed(3)
    model = timm.create_model(name, num_classes=3, **arguments).eval()
    if name.startswith("mixer"):  # its head starts at zero
        torch.nn.init.normal_(model.head.weight)
    side = arguments.get("img_size", 160)
    inputs = np.random.default_rng(0).normal(size=(1, 3, side, side)).astype(np.float32)
    hottest = 0.0
    for target in range(3):
        found = TorchEngine(model).cam(inputs, target)

        def places(values: torch.Tensor, grid=found.shape) -> torch.Tensor:
            if values.ndim == 3:
                values = values[:, -grid[0] * grid[1] :]
                return values.transpose(1, 2).unflatten(2, grid)
            return values if values.shape[2:] == grid else values.permute(0, 3, 1, 2)

        module = model.get_submodule(
            layer.replace("-1", str(len(getattr(model, "blocks", [])) - 1))
        )
        with GradCAM(model, [module], reshape_transform=places) as cam:
            cam(torch.from_numpy(inputs), [ClassifierOutputTarget(target)])
            seen = cam.activations_and_grads
            maps, slopes = seen.activations[0].cpu().numpy(), seen.gradients[0].cpu().numpy()
            expected = cam.get_cam_image(None, None, None, maps, slopes, False)[0].clip(0)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-3 * expected.max()
        hottest = max(hottest, found.max())
    assert hottest > 0


# Both engines


def test_checkpoint_without_a_graph_is_run_by_pytorch(tiny_checkpoint):
    assert not (tiny_checkpoint / GRAPH).exists()
    assert isinstance(engine_of(open_checkpoint(tiny_checkpoint)), TorchEngine)


@pytest.mark.parametrize("count", [1, 3])
def test_both_engines_answer_alike(exported_checkpoint, inputs, count):
    expected = TorchEngine(open_checkpoint(exported_checkpoint).model)(inputs[:count])
    found = engine(exported_checkpoint)(inputs[:count])
    for name in expected._fields:
        assert np.allclose(getattr(found, name), getattr(expected, name), atol=1e-4), name
    for target in range(len(TINY_LABELS)):
        one, other = (
            each.cam(inputs[:1], target)
            for each in (
                engine(exported_checkpoint),
                TorchEngine(open_checkpoint(exported_checkpoint).model),
            )
        )
        assert np.allclose(one, other, rtol=1e-3, atol=1e-6)


def test_recognizer_answers_alike_with_and_without_a_graph(exported_checkpoint, tiny_recognizer):
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
    inputs = inputs_of(bundled, 2)
    expected = TorchEngine(checkpoint.model)(inputs)
    for one, other in zip(found(inputs), expected, strict=True):
        assert np.abs(one - other).max() < 1e-4 * np.abs(other).max()


def test_graph_takes_the_weights_beside_it(exported_checkpoint, tmp_path, inputs):
    folder = save_tiny_checkpoint(tmp_path / "other", seed=1)
    shutil.copy(exported_checkpoint / GRAPH, folder)
    expected = TorchEngine(open_checkpoint(folder).model)(inputs).logits
    assert np.allclose(engine(folder)(inputs).logits, expected, atol=1e-4)


def test_graph_in_the_cache_of_the_hub_finds_its_weights(exported_checkpoint, tmp_path, inputs):
    # As huggingface_hub lays it out: links to files that are named after their contents.
    folder, blobs = tmp_path / "snapshots" / "main", tmp_path / "blobs"
    folder.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(exported_checkpoint.iterdir())):
        shutil.copy(path, blobs / str(number))
        (folder / path.name).symlink_to(blobs / str(number))
    expected = engine(exported_checkpoint)(inputs).logits
    assert np.array_equal(engine(folder)(inputs).logits, expected)


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
