"""Tables as CSV files that are safe to open in a spreadsheet."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

# How spreadsheets know formulas.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a CSV file.

    A cell of text that a spreadsheet would run as a formula has an apostrophe in front, and so has
    one that starts with an apostrophe: to read the text, drop one from the front. Text that is no
    text in any encoding, as a path on disk may be, is written as an escape.
    """
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for row in rows:
            writer.writerow([_harmless(cell) if isinstance(cell, str) else cell for cell in row])


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith((*_FORMULA, "'")) else text
