"""Graphs for ONNX Runtime: small, without weights, and written only if they answer alike."""

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from conftest import TINY_DATA_CONFIG, TINY_LABELS

from space.checkpoints import GRAPH, WEIGHTS, open_checkpoint
from space.network import INPUT, OUTPUTS, TARGET, OnnxEngine
from space.pytorch import TorchEngine
from trainer.export import main
from trainer.training import graph as module
from trainer.training.checkpoints import save_checkpoint
from trainer.training.graph import export


def save(folder, architecture, dtype=torch.float16):
    torch.manual_seed(0)
    save_checkpoint(
        folder,
        timm.create_model(architecture, num_classes=len(TINY_LABELS)),
        architecture=architecture,
        model_args={},
        labels=TINY_LABELS,
        data_config=TINY_DATA_CONFIG | {"input_size": (3, 160, 160)},
        training={},
        dtype=dtype,
    )
    return folder


@pytest.mark.parametrize(
    ("architecture", "dtype"),
    [
        ("test_resnet", torch.float16),
        ("test_efficientnet", torch.float32),
        ("test_vit", torch.float16),
        ("test_convnext", torch.float16),
        ("test_mambaout", torch.float16),
        ("marque_cnn", torch.float16),
    ],
)
def test_exported_networks_answer_as_in_pytorch(tmp_path, architecture, dtype):
    folder = save(tmp_path / "checkpoint", architecture, dtype)
    assert export(folder) < module.TOLERANCE
    checkpoint = open_checkpoint(folder)
    inputs = np.random.default_rng(0).random((3, 3, 160, 160), np.float32)
    found = OnnxEngine(folder, len(TINY_LABELS), (3, 160, 160))(inputs)
    expected = TorchEngine(checkpoint.model)(inputs)
    assert np.allclose(found.logits, expected.logits, atol=1e-4)


def test_graph_holds_no_weights_and_no_path_of_this_machine(exported_checkpoint):
    content = (exported_checkpoint / GRAPH).read_bytes()
    graph = onnx.load_model_from_string(content).graph
    outside = [t for t in graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    assert outside
    assert all(t.external_data[0].value == WEIGHTS for t in outside)
    # The zeros that stand for biases which a network does not have.
    own = sum(len(t.raw_data) for t in graph.initializer)
    assert own < 0.1 * (exported_checkpoint / WEIGHTS).stat().st_size
    assert b".py" not in content


def test_onnx_runtime_opens_the_folder_without_marque(exported_checkpoint):
    session = onnxruntime.InferenceSession(exported_checkpoint / GRAPH)
    inputs = np.random.default_rng(0).random((2, 3, 64, 64), np.float32)
    found = session.run(None, {INPUT: inputs, TARGET: np.array(0)})
    assert [output.name for output in session.get_outputs()] == list(OUTPUTS)
    expected = TorchEngine(open_checkpoint(exported_checkpoint).model)(inputs)
    assert np.allclose(found[0], expected.logits, atol=1e-4)


def test_onnx_runtime_folds_the_weights_before_it_answers(exported_checkpoint, tmp_path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(exported_checkpoint / GRAPH, options)
    graph = onnx.load(tmp_path / "optimised.onnx").graph
    left = {node.op_type for node in graph.node}
    assert "Conv" in left
    assert not left & {"Cast", "BatchNormalization"}


def test_command_says_what_it_wrote(exported_checkpoint, capsys):
    assert main([str(exported_checkpoint)]) == 0
    assert str(exported_checkpoint / GRAPH) in capsys.readouterr().out


def test_folder_that_is_no_checkpoint_is_refused(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    assert "export: " in capsys.readouterr().err


def test_graph_that_answers_otherwise_is_not_written(exported_checkpoint, monkeypatch, capsys):
    before = (exported_checkpoint / GRAPH).read_bytes()
    monkeypatch.setattr(module, "TOLERANCE", -1.0)
    assert main([str(exported_checkpoint)]) == 1
    assert "answers otherwise" in capsys.readouterr().err
    assert (exported_checkpoint / GRAPH).read_bytes() == before
    assert not [path for path in exported_checkpoint.iterdir() if path.is_dir()]


def test_network_that_cannot_be_exported_is_told(exported_checkpoint, monkeypatch, capsys):
    def export_by_chance(*_, **__):
        raise torch.onnx.errors.OnnxExporterError("no such operator\nand more")

    monkeypatch.setattr(torch.onnx, "export", export_by_chance)
    assert main([str(exported_checkpoint)]) == 1
    assert "PyTorch cannot export" in capsys.readouterr().err
