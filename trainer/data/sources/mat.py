"""Reads the few kinds of arrays that the devkit of Stanford Cars holds from a MATLAB 5 file.

scipy's reader ends the process on some damaged files, and those come from strangers. Here a file is
text, numbers, cells and structures, whose sizes are checked against the bytes that are there.

The format: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""

import math
import struct
import zlib
from pathlib import Path
from typing import Any

_MAX_BYTES = 256 * 2**20  # of the file, and of each array once decompressed; the devkit has 1 MB
_MAX_DEPTH = 6

_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _STRUCTURE, _CHARACTERS, _NUMERIC = 1, 2, 4, range(6, 16)


def read_array(path: Path, wanted: str) -> Any:
    """One variable of a file: text, a list of numbers, a list of such values, or of dicts of them.

    Raises:
        ValueError: it is damaged, of another kind, or holds no such variable.
        OSError: it cannot be read.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"it is larger than {_MAX_BYTES >> 20} MiB")
    content = memoryview(path.read_bytes())
    endian = {b"IM": "<", b"MI": ">"}.get(bytes(content[126:128]))
    if endian is None:
        raise ValueError("it is not a MATLAB 5 file")
    elements = _Elements(content[128:], endian)
    while elements:
        kind, data = elements.next()
        if kind == _COMPRESSED:
            kind, data = _Elements(_decompressed(data), endian).next()
        if kind == _MATRIX:
            name, value = _matrix(data, endian, wanted, 0)
            if name == wanted:
                return value
    raise ValueError(f"it holds no {wanted}")


def _decompressed(data: memoryview) -> memoryview:
    try:
        reader = zlib.decompressobj()
        found = reader.decompress(data, _MAX_BYTES)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if reader.unconsumed_tail:
        raise ValueError(f"an array is larger than {_MAX_BYTES >> 20} MiB")
    return memoryview(found)


class _Elements:
    """The elements that follow one another in some bytes: each has a kind, a size and data."""

    def __init__(self, data: memoryview, endian: str):
        self._data, self._endian, self._at = data, endian, 0

    def __len__(self) -> int:
        return max(0, len(self._data) - self._at)

    def next(self) -> tuple[int, memoryview]:
        if len(self) < 8:
            raise ValueError("it is cut short")
        kind, size = struct.unpack_from(f"{self._endian}II", self._data, self._at)
        if kind >> 16:  # a small element holds its data in place of its size
            start, following = self._at + 4, self._at + 8
            kind, size = kind & 0xFFFF, kind >> 16
            room = 4
        else:
            start, room = self._at + 8, len(self) - 8
            following = start + size + (-size % 8 if kind != _COMPRESSED else 0)
        if size > room:
            raise ValueError("it is cut short")
        self._at = following
        return kind, self._data[start : start + size]

    def numbers(self) -> list[Any]:
        kind, data = self.next()
        if kind not in _NUMBERS:
            raise ValueError(f"numbers of the unknown kind {kind}")
        letter = _NUMBERS[kind]
        count = len(data) // struct.calcsize(letter)
        return list(struct.unpack_from(f"{self._endian}{count}{letter}", data))

    def text(self) -> str:
        kind, data = self.next()
        if kind not in _TEXTS:
            raise ValueError(f"text of the unknown kind {kind}")
        code = _TEXTS[kind]
        if code.endswith(("16", "32")):
            code += "-le" if self._endian == "<" else "-be"
        return bytes(data).decode(code)


def _matrix(data: memoryview, endian: str, wanted: str | None, depth: int) -> tuple[str, Any]:
    """An array's name and value; the value is None where another name is wanted."""
    if not data:
        return "", []
    if depth > _MAX_DEPTH:
        raise ValueError("arrays within arrays without end")
    elements = _Elements(data, endian)
    flags, sizes, name = elements.numbers(), elements.numbers(), elements.text()
    if wanted is not None and name != wanted:
        return name, None
    if not flags or any(not isinstance(size, int) or size < 0 for size in (flags[0], *sizes)):
        raise ValueError("an array without a kind or with sizes that are none")
    kind, count = flags[0] & 0xFF, math.prod(sizes)
    if kind == _CHARACTERS:
        return name, elements.text() if count else ""
    if kind in _NUMERIC:
        return name, elements.numbers()
    if kind not in (_CELL, _STRUCTURE):
        raise ValueError(f"an array of the unknown kind {kind}")
    fields = _fields(elements) if kind == _STRUCTURE else [""]
    if count * max(1, len(fields)) > len(elements) // 8:  # the least that an array within takes
        raise ValueError("it is cut short")
    rows = [{field: _within(elements, endian, depth) for field in fields} for _ in range(count)]
    return name, rows if kind == _STRUCTURE else [row[""] for row in rows]


def _fields(elements: _Elements) -> list[str]:
    (length,), names = elements.numbers(), elements.text()
    if length < 1:
        raise ValueError("names of fields without a length")
    pieces = (names[start : start + length] for start in range(0, len(names), length))
    return [piece.partition("\0")[0] for piece in pieces]


def _within(elements: _Elements, endian: str, depth: int) -> Any:
    kind, data = elements.next()
    if kind != _MATRIX:
        raise ValueError("a part that is not an array")
    return _matrix(data, endian, None, depth + 1)[1]
