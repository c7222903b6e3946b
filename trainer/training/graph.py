"""A checkpoint's graph for ONNX Runtime.

The file, model.onnx, holds no weights: it names model.safetensors beside it as its external data.
So the weights lie in one place and in the precision they have there, and whatever reads ONNX reads
them from there. It is written only if it answers as the network does in PyTorch.
"""

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from onnxscript import optimizer
from torch._decomp import core_aten_decompositions, get_decompositions
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from space.checkpoints import GRAPH, WEIGHTS, Checkpoint, open_checkpoint
from space.errors import MarqueError
from space.network import INPUT, OUTPUTS, TARGET, OnnxEngine
from space.pytorch import FeatureExtractor, Slopes, TorchEngine
from space.transforms import normalize, to_pixels
from trainer.data.toys import draw_car
from trainer.training.checkpoints import seal

# What rounding in another order may change, as a share of the largest value.
TOLERANCE = 1e-4
_PHOTOS, _CLASSES = 8, 3
_TYPES = {
    "F16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "F32": TensorProto.FLOAT,
    "F64": TensorProto.DOUBLE,
}


# Gradients that exporters know as their parts alone.
_STEPS = [
    torch.ops.aten.native_layer_norm_backward,
    torch.ops.aten.native_group_norm_backward,
    torch.ops.aten._softmax_backward_data,
    torch.ops.aten.gelu_backward,
    torch.ops.aten.select_backward,
    torch.ops.aten.slice_backward,
    torch.ops.aten.native_batch_norm_backward,
]


def export(folder: Path) -> float:
    """Writes model.onnx into a checkpoint folder.

    Returns:
        By how much its answers to drawn photos differ from PyTorch's at most, as a share of the
        largest value.

    Raises:
        CheckpointError: the checkpoint cannot be opened.
        MarqueError: PyTorch cannot export the network, or the answers differ. An earlier graph
            stays as it was.
    """
    checkpoint = open_checkpoint(folder)
    graph = graph_of(checkpoint)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        draft = Path(name)
        (draft / WEIGHTS).symlink_to((folder / WEIGHTS).resolve())
        (draft / GRAPH).write_bytes(graph.SerializeToString())
        apart = difference(checkpoint, draft)
        if apart > TOLERANCE:
            raise MarqueError(
                f"the graph of {folder} answers otherwise than the network, by up to {apart:.1e} "
                "of the largest value; nothing was written"
            )
        (draft / GRAPH).replace(folder / GRAPH)
    seal(folder)
    return apart


def graph_of(checkpoint: Checkpoint) -> onnx.ModelProto:
    """The graph of a checkpoint's network, its weights those of model.safetensors.

    Raises:
        MarqueError: PyTorch cannot export the network.
    """
    # Two, since a dimension of one would be taken for one that never changes.
    inputs = torch.zeros(2, *checkpoint.data_config["input_size"])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                _exportable(checkpoint.model, inputs[:1]),
                (inputs, torch.tensor(0)),
                input_names=[INPUT, TARGET],
                output_names=list(OUTPUTS),
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC}, None),
                dynamo=True,
                optimize=False,  # would fold the weights into others
                verbose=False,
            )
    except Exception as error:  # whatever a network does that the exporter does not know
        reason = str(error).strip().partition("\n")[0]
        raise MarqueError(f"PyTorch cannot export {checkpoint.source}: {reason}") from error
    # Without this ONNX Runtime would not see that the rest of the weights can be folded.
    optimizer.fold_constants(program.model, should_fold=_is_no_weight)
    optimizer.remove_unused_nodes(program.model)
    model: onnx.ModelProto = program.model_proto
    _take_weights_from(model.graph, checkpoint.folder / WEIGHTS)
    for node in model.graph.node:  # where in the source code it came from, on this machine
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.value_info[:], model.graph.metadata_props[:], model.metadata_props[:]
    return model


def _exportable(model: Any, photo: torch.Tensor) -> FeatureExtractor:
    """A network with the slopes of its head as steps of their own: exporters know no gradients."""
    extractor = FeatureExtractor(model)
    with torch.no_grad():
        *_, start = extractor.stages(photo)
    # In one layout: in another one pooling takes steps that only PyTorch has.
    extractor.slopes = _TracedSlopes(model, start.contiguous())
    return extractor


class _TracedSlopes(Slopes):
    """Slopes traced for one photo, with the weights as inputs, so that none is kept twice."""

    def __init__(self, model: Any, start: torch.Tensor):
        super().__init__(model)
        names, weights = zip(*Slopes(model).named_parameters(), strict=True)

        def slopes(start: torch.Tensor, target: torch.Tensor, *weights: torch.Tensor):
            named = dict(zip(names, weights, strict=True))
            return functional_call(Slopes(model), named, (start, target))

        steps: Any = {**core_aten_decompositions(), **get_decompositions(_STEPS)}
        with sdpa_kernel(SDPBackend.MATH):
            self._traced = make_fx(slopes, steps)(
                start, torch.tensor(0), *(weight.detach() for weight in weights)
            )

    def forward(self, start: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """See `Slopes`."""
        return self._traced(start, target, *self.model.parameters())


def _is_no_weight(node: Any) -> bool | None:
    """Keeps a weight under its name; its shape and its type may be folded, and all else."""
    first = node.inputs[0] if node.inputs else None
    return (
        False if first is not None and first.is_initializer() and node.op_type != "Shape" else None
    )


def _take_weights_from(graph: onnx.GraphProto, weights: Path) -> None:
    """Replaces the tensors of a graph by places in a safetensors file.

    The file is a header, led by its length in 8 bytes, and then the tensors one after another
    (https://huggingface.co/docs/safetensors), which is what ONNX takes for external data.
    """
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    casts, kept = [], []
    taken = set()
    for tensor in graph.initializer:
        name = tensor.name.removeprefix("slopes.").removeprefix("model.")
        stored = header.get(name)
        if stored is None or stored["dtype"] not in _TYPES:
            kept.append(tensor)  # a constant of the graph
            continue
        first, end = stored["data_offsets"]
        outside = TensorProto(name=name, data_type=_TYPES[stored["dtype"]], dims=stored["shape"])
        outside.data_location = TensorProto.EXTERNAL
        for key, value in (
            ("location", weights.name),
            ("offset", 8 + length + first),
            ("length", end - first),
        ):
            outside.external_data.add(key=key, value=str(value))
        if name not in taken:  # the head and its slopes may each name it
            kept.append(outside)
        taken.add(name)
        casts.append(helper.make_node("Cast", [name], [tensor.name], to=tensor.data_type))
    nodes = [*casts, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)


def difference(checkpoint: Checkpoint, folder: Path) -> float:
    """By how much the graph in a folder and the network in PyTorch differ on drawn photos.

    In batches of several sizes, as a share of the largest value of each output.
    """
    prepare = to_pixels(checkpoint.data_config)
    pixels = np.stack([prepare(draw_car(seed, size=(320, 240))) for seed in range(_PHOTOS)])
    inputs = normalize(pixels, checkpoint.data_config)
    pytorch = TorchEngine(checkpoint.model)
    engine = OnnxEngine(folder, len(checkpoint.labels), checkpoint.data_config["input_size"])
    parts = np.split(inputs, [1, 3])
    found = [np.concatenate(some) for some in zip(*map(engine, parts), strict=True)]
    pairs = list(zip(found, pytorch(inputs), strict=True))
    for target in range(min(_CLASSES, len(checkpoint.labels))):
        # With what speaks against the class: alone, what speaks for it may be next to nothing.
        maps = engine.evidence(inputs[:1], target), pytorch.evidence(inputs[:1], target)
        pairs.append(maps)
    return max(_apart(*pair) for pair in pairs)


def _apart(found: np.ndarray, wanted: np.ndarray) -> float:
    if found.shape != wanted.shape:
        return np.inf
    largest = np.abs(wanted).max(initial=0)
    return float(np.abs(found - wanted).max() / largest) if largest else 0.0
