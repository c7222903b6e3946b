"""How ONNX Runtime runs what is served: the recogniser's network and the detector's."""

from typing import Any


def session_options() -> Any:
    """Options of an `onnxruntime.InferenceSession`; what is wrong is told by its exception alone.

    The threads of a session wait by spinning, for speed. When its answer is there they stop, or
    they would take the cores from the other network, whose turn it is next: the two together took
    half as long again.
    """
    import onnxruntime  # takes a while, and a program may never need it

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options
