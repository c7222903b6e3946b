"""The app as a process of its own, for the tests that need one."""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path


def start(folder: Path, log: Path, **variables: str) -> tuple[subprocess.Popen, str]:
    """Starts app.py as a Space does; returns its process and its address once it is there.

    Variables of Marque come from `variables` alone, and its port is free unless they name one.

    Args:
        folder: holds app.py.
        log: what the app prints goes to this file.
    """
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("MARQUE_", "GRADIO_SERVER"))
    }
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-u", "app.py"],
            cwd=folder,
            env=inherited | variables | {"NO_PROXY": "127.0.0.1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    return process, address(process, log)


def address(process: subprocess.Popen, log: Path) -> str:
    """Waits until the app says where it is."""
    with log.open(encoding="utf-8") as file:
        printed = ""
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
            printed += file.read()
            if found := re.search(r"http://\S+:\d+(?=\s)", printed):
                return found[0].replace("0.0.0.0", "127.0.0.1")
        raise AssertionError(f"the page did not start: {printed + file.read()}")
