"""Reads tables that Marque's own commands wrote, whatever an editor or a kill has made of them."""

import csv
from collections.abc import Sequence
from pathlib import Path

from space.errors import DataError


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file in UTF-8, with or without a byte order mark.

    Args:
        columns: that it has to have.

    Raises:
        DataError: it cannot be read, is not UTF-8, lacks a column, or a line is too short or too
            long; the message begins with the file.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            missing = [column for column in columns if column not in header]
            if missing or len(set(header)) < len(header):
                raise DataError(f"{path}: the columns should be {','.join(columns)}")
            rows = []
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise DataError(
                        f"{path}, line {reader.line_num}: it has {len(cells)} cells, "
                        f"the header has {len(header)}"
                    )
                rows.append(dict(zip(header, cells, strict=True)))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error.reason}; save it as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from None
    return rows
