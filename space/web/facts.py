"""Facts about a named car, from a table of specifications that the operator has.

MARQUE_SPECS names it: a CSV or Parquet file, or a dataset of the Hub (org/name) with one. It is
cleaned as `space.specifications` says, and what was taken out of it is told in the log.
"""

import csv
import html
import logging
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from space.answers import Prediction
from space.errors import DataError, MarqueError
from space.labels import Car
from space.spec_columns import to_litres, written
from space.specifications import Match, join, read_specifications
from space.web.strings import Language

_YEARS_APART = 100  # any year of the model is better than none, and is marked
_TABLES = (".csv", ".parquet")
NEWEST = "newest year"  # the photo's class names no year
_log = logging.getLogger("marque")


class Facts:
    """A table of specifications, ready to be asked.

    Attributes:
        source: what it is called on the page.
    """

    def __init__(self, place: str):
        """Reads a table.

        Raises:
            MarqueError: it cannot be had or read.
        """
        path = _file_of(place)
        self.source = place if path.name not in place else path.name
        with tempfile.TemporaryDirectory() as folder:
            if path.suffix.lower() == ".parquet":
                path = _as_csv(path, Path(folder))
            try:
                self._table = read_specifications(path)
            except DataError as error:
                raise MarqueError(str(error)) from None
        for one in self._table.blanked:
            _log.info("%s, row %s, %s: %s", self.source, one.row, one.column, one.reason)
        left_out = len(self._table.blanked)
        _log.warning(
            "%s: %d cars; %d values taken out", self.source, len(self._table.cars), left_out
        )

    def of(self, car: Prediction) -> Match | None:
        """The facts of a car; None where the table has none."""
        asked = Car(car.make, car.model, car.year)
        found, _ = join([asked], self._table, _YEARS_APART)
        if asked not in found and car.year is None:
            years = [
                known.year
                for known in self._table.cars
                if known.year and known.make.casefold() == car.make.casefold()
            ]
            for year in sorted(set(years), reverse=True):  # the newest of the model
                dated = Car(car.make, car.model, year)
                found, _ = join([dated], self._table, 0)
                if dated in found:
                    match = found[dated]
                    return Match(match.car, match.values, NEWEST)
        return found.get(asked)

    def as_html(self, car: Prediction, language: Language) -> str:
        """A table of the facts of a car, with their source."""
        match = self.of(car)
        if match is None:
            return _part(language, f"<p>{language.html('facts_none')}</p>")
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td><bdi>{html.escape(value)}</bdi></td></tr>"
            for name, value in _told(match)
        )
        named = " ".join(filter(None, (match.car.make, match.car.model, str(match.car.year or ""))))
        notes = [language.html("facts_of", car=named, source=self.source)]
        if "another year" in match.how:
            notes.append(f"<b>{language.html('facts_other_year')}</b>")
        if match.how == NEWEST:
            notes.append(f"<b>{language.html('facts_newest')}</b>")
        if "body" in match.how:
            notes.append(language.html("facts_other_body"))
        return _part(language, f"<p>{' '.join(notes)}</p><table><tbody>{rows}</tbody></table>")


def _part(language: Language, body: str) -> str:
    return f'<div class="mq-facts" {language.attributes}>{body}</div>'


def _told(match: Match) -> Iterator[tuple[str, str]]:
    """What is known of a car: name with unit, and value, as they are read."""
    for column, value in match.values.items():
        if value is None:
            continue
        if column == "displacement" and isinstance(value, float):
            yield "Displacement (L)", f"{to_litres(value):.1f}"
            continue
        yield _words(column), f"{value:,g}" if isinstance(value, float) else written(value)


def _words(column: str) -> str:
    """A column's name with its unit, as it is read: "length_in" is "Length (in)"."""
    name, _, unit = column.rpartition("_")
    units = {"in", "mm", "cm", "m", "l", "hp", "kw", "mpg", "km", "kg", "lb", "usd", "eur", "nm"}
    if name and unit in units:
        return f"{name.replace('_', ' ').capitalize()} ({unit})"
    return "MSRP" if column == "msrp" else column.replace("_", " ").capitalize()


def _file_of(place: str) -> Path:
    """A table on this machine, or of the Hub."""
    path = Path(place).expanduser()
    if path.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", place) or path.suffix in _TABLES:
        return path
    from huggingface_hub import HfApi, hf_hub_download

    try:
        names = HfApi().list_repo_files(place, repo_type="dataset")
        table = next((name for name in sorted(names) if name.endswith(_TABLES)), None)
        if table is None:
            raise MarqueError(f"the dataset {place} holds no table; it needs a CSV or Parquet file")
        return Path(hf_hub_download(place, table, repo_type="dataset"))
    except (OSError, ValueError) as error:
        raise MarqueError(f"the table {place} cannot be had from the Hub: {error}") from None


def _as_csv(path: Path, folder: Path) -> Path:
    """A Parquet file as the CSV that the reader of tables takes, written into a folder."""
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise MarqueError(
            f"{path} is a Parquet file, which needs pyarrow; install it, or give a CSV file"
        ) from None
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise MarqueError(f"{path} is no Parquet file: {error}") from None
    written_to = folder / f"{path.stem}.csv"
    with written_to.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table.column_names)
        for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
            writer.writerow("" if value is None else value for value in row)
    return written_to
