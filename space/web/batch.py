"""Many photos at once: files and zips in, answers, a table and CSV and JSON Lines out."""

import html
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from space.answers import AUTO_TAG, REJECTED
from space.errors import MarqueError, PhotoError
from space.photos import MAX_BYTES, load_photo
from space.recognizer import CarRecognizer
from space.rows import Row, as_csv, as_json_lines, csv_columns
from space.web.answer import data_url, headline, verdict_of
from space.web.strings import Language

MAX_FILES = 60  # of one upload
MAX_ZIPPED = 200  # photos in a zip
TOP_K = 5
_THUMBNAIL = (112, 84)
_EVERY = 8  # photos between two pictures of the table


@dataclass(frozen=True)
class NamedPhoto:
    """A photo of many.

    Attributes:
        name: of its file, or of its entry in a zip.
        data: the path of the file, or the bytes of the entry.
    """

    name: str
    data: str | bytes


def collect(paths: Sequence[str]) -> list[NamedPhoto]:
    """The photos of uploaded files; a zip gives all in it.

    Raises:
        MarqueError: there are none, there are too many, or a zip is damaged or encrypted.
    """
    photos: list[NamedPhoto] = []
    files = 0
    for path in paths:
        if zipfile.is_zipfile(path):
            photos += _unzipped(path)
        else:
            files += 1
            photos.append(NamedPhoto(Path(path).name, path))
    if files > MAX_FILES:
        raise MarqueError(f"{files} photos are too many; send {MAX_FILES} at once, or a zip")
    if len(photos) > MAX_ZIPPED:
        raise MarqueError(f"{len(photos)} photos are too many; a zip may hold {MAX_ZIPPED}")
    if not photos:
        raise MarqueError("there are no photos; send one or more, or a zip of them")
    return photos


def _unzipped(path: str) -> list[NamedPhoto]:
    """The files in a zip, but for those that systems add; none is written to disk."""
    name = Path(path).name
    photos: list[NamedPhoto] = []
    total = 0
    try:
        with zipfile.ZipFile(path) as packed:
            entries = [
                entry
                for entry in packed.infolist()
                if not entry.is_dir()
                and not any(
                    part.startswith((".", "__MACOSX")) for part in entry.filename.split("/")
                )
            ]
            if len(entries) > MAX_ZIPPED:
                raise MarqueError(f"{name} holds {len(entries)} files; {MAX_ZIPPED} are the limit")
            for entry in entries:
                with packed.open(entry) as file:
                    data = file.read(MAX_BYTES - total + 1)  # whatever the entry says of its size
                total += len(data)
                if total > MAX_BYTES:
                    limit = MAX_BYTES // 2**20
                    raise MarqueError(f"{name} holds more than {limit} MiB; send a smaller one")
                photos.append(NamedPhoto(entry.filename, data))
    except MarqueError:
        raise
    except RuntimeError as error:  # of encrypted entries
        raise MarqueError(f"{name} cannot be unpacked: {error}") from None
    except Exception:  # zipfile and its decoders raise nearly anything on broken files
        raise MarqueError(f"{name} is damaged, or packed in a way that is not known") from None
    return photos


def answers(
    recognizer: CarRecognizer, photos: Sequence[NamedPhoto], top_k: int = TOP_K
) -> Iterator[Row]:
    """The answer to each photo, as it comes; errors name the photo."""
    found = recognizer.stream((photo.data for photo in photos), top_k)
    for photo, recognition in zip(photos, found, strict=True):
        told = photo.data if isinstance(photo.data, str) else "the photo"
        error = recognition.error and recognition.error.replace(told, photo.name, 1)
        yield Row(Path(photo.name), replace(recognition, error=error))


class Table:
    """The answers to many photos, and what a visitor corrected in them."""

    def __init__(self, count: int):
        """Takes the number of photos that are to come."""
        self.count = count
        self.rows: list[Row] = []
        self._thumbnails: list[str] = []

    def add(self, row: Row, photo: NamedPhoto) -> None:
        """Takes the next answer."""
        self.rows.append(row)
        self._thumbnails.append("" if row.recognition.error else _thumbnail(photo))

    @property
    def due(self) -> bool:
        """Whether it is time to show it anew."""
        return len(self.rows) in (1, self.count) or len(self.rows) % _EVERY == 0

    def correct(self, number: int, text: str) -> None:
        """Takes what a visitor says that a photo shows.

        Raises:
            MarqueError: there is no such row.
        """
        if not 0 <= number < len(self.rows):
            raise MarqueError(f"there is no row {number}")
        self.rows[number] = replace(self.rows[number], correction=text.strip())

    def write(self, folder: Path, recognizer: CarRecognizer) -> list[str]:
        """Writes the rows as CSV and as JSON Lines; returns the paths."""
        paths = [folder / "cars.csv", folder / "cars.jsonl"]
        columns = csv_columns(TOP_K, grouped=False, expected=False, corrected=True)
        # With a byte order mark, by which Excel knows UTF-8.
        with paths[0].open("w", newline="", encoding="utf-8-sig") as file:
            write = as_csv(file, columns)
            for row in self.rows:
                write(row)
        with paths[1].open("w", encoding="utf-8") as file:
            write = as_json_lines(file, recognizer)
            for row in self.rows:
                write(row)
        return [str(path) for path in paths]

    def as_html(self, recognizer: CarRecognizer, language: Language) -> str:
        """All rows so far."""
        calibrated = recognizer.rule.calibration is not None
        body = "".join(
            self._row(number, row, calibrated, language) for number, row in enumerate(self.rows)
        )
        unsure = sum(row.recognition.verdict != AUTO_TAG for row in self.rows)
        done = len(self.rows)
        progress = ""
        if done < self.count:
            told = language.html("many_progress", done=done, count=self.count)
            progress = f'<p role="status">{told} <progress max="{self.count}" value="{done}"></p>'
        heads = "".join(
            f"<th scope='col'>{language.html(f'many_{name}')}</th>"
            for name in ("photo", "answer", "verdict", "correction")
        )
        every = language.html("many_filter_all", count=done)
        check = language.html("many_filter_check", count=unsure)
        return (
            f'<div class="mq-table" {language.attributes}>{progress}'
            f'<div class="mq-filter"><button type="button" data-filter="all" aria-pressed="true">'
            f'{every}</button><button type="button" data-filter="check" aria-pressed="false">'
            f'{check}</button></div><div class="mq-scroll"><table><thead><tr>{heads}</tr></thead>'
            f"<tbody>{body}</tbody></table></div></div>"
        )

    def _row(self, number: int, row: Row, calibrated: bool, language: Language) -> str:
        recognition, name = row.recognition, html.escape(row.path.name)
        kind, verdict = verdict_of(recognition, language)
        sure = " data-sure" if recognition.verdict == AUTO_TAG else ""
        if recognition.error:
            answer = html.escape(recognition.error)
        elif recognition.verdict == REJECTED:
            answer = "–"
        else:
            title, percent = headline(recognition, calibrated, language)
            answer = f"<bdi>{html.escape(title)}</bdi><br>{html.escape(percent)}"
        image = self._thumbnails[number]
        picture = f'<img alt="" src="{image}">' if image else ""
        label = html.escape(f"{language.say('many_correction')}: {row.path.name}")
        return (
            f"<tr{sure}><td>{picture}<span class='mq-name'><bdi>{name}</bdi></span></td>"
            f"<td>{answer}</td><td><b class='{kind}'>{html.escape(verdict)}</b></td>"
            f'<td><input data-row="{number}" aria-label="{label}" maxlength="200" '
            f'value="{html.escape(row.correction)}"></td></tr>'
        )


def _thumbnail(photo: NamedPhoto) -> str:
    try:
        picture = load_photo(photo.data)
    except PhotoError:  # read a moment ago, gone since
        return ""
    picture.thumbnail(_THUMBNAIL, Image.Resampling.BICUBIC)
    return data_url(picture)
