"""Going on with the answer files of a run that was interrupted."""

import csv
import json
import os
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from space.errors import MarqueError
from space.rows import FORMULA


def finished(
    csv_file: Path | None, jsonl_file: Path | None, header: Sequence[str], drop_last: bool
) -> tuple[set[str], int]:
    """Which photos have their rows in every answer file; the files keep the rows of these alone.

    A last row that was cut short, as by a kill or a full disk, goes, and so do rows that another
    file lacks.

    Args:
        csv_file, jsonl_file: what the earlier run wrote; None for a file that is not asked for.
        header: the columns that the CSV file has to have.
        drop_last: the last photo may have only a part of its rows.

    Returns:
        The paths as `row_key` writes them, and how many of the photos could not be read.

    Raises:
        MarqueError: a file holds something else, or was written with other options.
        OSError: it cannot be read or written.
    """
    tables: list[tuple[Path, list[tuple[str, str, bool]]]] = []
    if csv_file:
        tables.append((csv_file, _csv_rows(csv_file, header)))
    if jsonl_file:
        tables.append((jsonl_file, _json_rows(jsonl_file)))
    done: set[str] | None = None
    for _, rows in tables:
        keys = {key for key, _, _ in rows}
        if drop_last and rows:
            keys.discard(rows[-1][0])
        done = keys if done is None else done & keys
    done = done or set()
    unreadable: set[str] = set()
    for path, rows in tables:
        unreadable |= {key for key, _, failed in rows if failed and key in done}
        first = [_line(header)] if path == csv_file else []
        _replace(path, first + [text for key, text, _ in rows if key in done])
    return done, len(unreadable)


def row_key(path: str | Path) -> str:
    """A path as answer files hold it, whatever bytes it has."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def _csv_rows(path: Path, header: Sequence[str]) -> list[tuple[str, str, bool]]:
    if not path.is_file() or not path.stat().st_size:
        return []
    with path.open(newline="", encoding="utf-8") as file:
        try:
            rows = list(csv.reader(file))
        except (csv.Error, UnicodeDecodeError) as error:
            raise MarqueError(f"--resume: {path} cannot be read as CSV: {error}") from None
    if len(rows) < 2 and not _ends_whole(path):
        return []  # not even its first line
    if rows[0] != list(header):
        raise MarqueError(
            f"--resume: {path} has other columns than this command would write; give the same "
            "options as before, or another file"
        )
    if not _ends_whole(path):
        rows.pop()
    width, failed = len(header), header.index("error")
    whole = [row for row in rows[1:] if len(row) == width]
    # A cell that looks like a formula has an apostrophe in front.
    return [(_plain(row[0]), _line(row), bool(row[failed])) for row in whole]


def _json_rows(path: Path) -> list[tuple[str, str, bool]]:
    if not path.is_file():
        return []
    found = []
    for line in path.read_text("utf-8").split("\n"):
        try:
            row = json.loads(line)
            found.append((row["path"], line + "\n", row["error"] is not None))
        except (ValueError, KeyError, TypeError):
            continue  # the last one, cut short
    return found


def _plain(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and cell[1:2] in FORMULA else cell


def _line(cells: Sequence[str]) -> str:
    text = StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue()


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _replace(path: Path, lines: Sequence[str]) -> None:
    """Writes a file again beside itself, so that no kill loses what it holds."""
    draft = path.with_name(f"{path.name}.part")
    with draft.open("w", newline="", encoding="utf-8") as file:
        file.writelines(lines)
    draft.replace(path)
