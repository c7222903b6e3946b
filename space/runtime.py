"""How ONNX Runtime runs what is served: the recognizer's network and the detector's."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def open_session(model: Path | bytes, weights: Mapping[str, np.ndarray] | None = None) -> Any:
    """Opens an `onnxruntime.InferenceSession`; what is wrong is told by its exception alone.

    The threads of a session wait by spinning, for speed. When its answer is there they stop, or
    they would take the cores from the other network, whose turn it is next: the two together took
    half as long again.

    Args:
        model: the file, or its content.
        weights: of a graph that holds none, by their names.
    """
    import onnxruntime  # takes a while, and a program may never need it

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Where every core has a process of its own, as in `space.cluster`.
    options.intra_op_num_threads = int(os.environ.get("MARQUE_THREADS") or 0)
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if weights:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
        options.add_external_initializers(list(weights), values)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
