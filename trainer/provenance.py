"""What a record says of where it comes from: the code, the command, the machine."""

import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "accelerate",
    "datasets",
    "safetensors",
    "pillow",
    "numpy",
)


def command_line(program: str, arguments: Sequence[str] | None = None) -> str:
    """What was typed, for a record: with `~` for the home folder, outside of quotes, so that bash
    takes it for that where a word or the FOLDER of NAME=FOLDER begins with it.

    Args:
        program: how it was started.
        arguments: the command line's if None.
    """
    typed = sys.argv[1:] if arguments is None else arguments
    return " ".join([program, *map(_quote, typed)])


def _quote(word: str) -> str:
    parts = re.split(r"(~/|~$)", str(redact_home(word)))
    parts[::2] = [part and shlex.quote(part) for part in parts[::2]]  # the others are the tildes
    return "".join(parts) or shlex.quote(word)


def redact_home(value: Any) -> Any:
    """A value of JSON with `~` for the home folder in its texts: records are published, and the
    folder's name is often that of a person."""
    if isinstance(value, str):
        # A folder of that name may also be a part of another path, or begin another name.
        folder = rf"(?:(?<=[=:'\"\s,])|^){re.escape(str(Path.home()))}(?=[/:'\"\s,]|$)"
        return re.sub(folder, "~", value)
    if isinstance(value, Mapping):
        return {key: redact_home(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_home(item) for item in value]
    return value


def git_revision() -> str | None:
    """The commit of this code, with `-dirty` when files differ from it; None outside git."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    names = Path("/proc/cpuinfo")
    if names.is_file():
        for line in names.read_text("utf-8", errors="replace").splitlines():
            key, _, name = line.partition(":")
            if key.strip() == "model name":
                return name.strip()
    return platform.processor() or platform.machine()


def package_versions(names: Iterable[str]) -> dict[str, str | None]:
    """The installed version of each package; None for one that is not."""
    return {name: _version(name) for name in names}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
