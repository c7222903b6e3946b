"""The command line: `python -m space PHOTO_OR_FOLDER…`."""

import argparse
import csv
import glob
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import ExitStack
from io import TextIOWrapper
from itertools import tee
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from space.answers import Recognition
from space.errors import MarqueError, PhotoError
from space.printable import printable
from space.recognizer import BATCH_SIZE, CarRecognizer
from space.resume import finished, row_key
from space.rows import Row, Writer, as_block, as_csv, as_json_lines, as_line, csv_columns
from space.walk import photos_in, user_path

OK, SOME_UNREADABLE, WRONG_USAGE = 0, 1, 2
INTERRUPTED = 130  # what shells report for Ctrl-C

_DESCRIPTION = """\
Names the car in each photo: make, model, year, and how sure the answer is.
Folders are searched for photos, also those inside them, in alphabetical order."""

_EPILOG = """\
examples:
  python -m space car.jpg                       one photo, the five best answers
  python -m space photos/ --csv cars.csv        a folder into a spreadsheet
  python -m space photos/ --model org/name@v2   another checkpoint from the Hub

exit status: 0 all photos were read, 1 some could not be read (their rows say
why), 2 wrong usage or no usable checkpoint, 130 interrupted."""

# How files that this command wrote begin.
_CSV_START, _JSONL_START = b"path,label,make,", b'{"path": '

Expected = Callable[[Path], str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if wrong := _check_options(options) or _check_outputs(options):
        print(f"marque: {printable(wrong)}", file=sys.stderr)
        return WRONG_USAGE
    # What a warning says of a photo, in one line and without the code that says it.
    warnings.formatwarning = lambda message, *_, **__: f"marque: {printable(str(message))}\n"
    if isinstance(sys.stdout, TextIOWrapper):  # a file name need not be text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        recognizer = CarRecognizer.from_pretrained(
            options.model,
            precision=options.precision,
            coverage=options.coverage,
            catalogue=options.catalogue,
        )
        expected = _expected(options.expect)
    except MarqueError as error:
        print(f"marque: {error}", file=sys.stderr)
        return WRONG_USAGE
    if options.model and not Path(options.model).exists():  # on the Hub a name may move on
        print(f"marque: {recognizer.source} at revision {recognizer.revision}", file=sys.stderr)
    try:
        with ExitStack() as stack:
            columns = csv_columns(options.top_k, bool(options.group_by), expected is not None)
            done: set[str] = set()
            earlier = 0
            if options.resume:
                done, earlier = finished(options.csv, options.jsonl, columns, options.all_cars)
            writers: list[Writer] = []
            if options.csv:
                file = stack.enter_context(_open(options.csv, options.resume))
                writers.append(as_csv(file, columns, header=not options.resume))
            if options.jsonl:
                file = stack.enter_context(_open(options.jsonl, options.resume))
                writers.append(as_json_lines(file, recognizer))
            found, unreadable = _run(recognizer, options, writers, expected, done)
            unreadable += earlier
    except MarqueError as error:
        print(f"marque: {printable(error)}", file=sys.stderr)
        return WRONG_USAGE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"marque: {where}{error.strerror or error}", file=sys.stderr)
        return WRONG_USAGE
    except KeyboardInterrupt:
        print("marque: interrupted; the answers so far are kept", file=sys.stderr)
        return INTERRUPTED
    if not found:
        print("marque: no photos found in the folders given", file=sys.stderr)
        return WRONG_USAGE
    if unreadable:
        print(f"marque: {unreadable} of {found} photos could not be read", file=sys.stderr)
        return SOME_UNREADABLE
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="marque" if Path(sys.argv[0]).stem == "marque" else "python -m space",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "photos", nargs="+", type=user_path, metavar="PHOTO_OR_FOLDER", help="a photo, or a folder"
    )
    parser.add_argument(
        "--model",
        metavar="SOURCE",
        help="a checkpoint folder, or org/name or org/name@revision on the Hub "
        "(default: the one that comes with Marque)",
    )
    parser.add_argument(
        "--top-k", type=_positive, default=5, metavar="N", help="answers a photo (default: 5)"
    )
    parser.add_argument(
        "--precision", type=_share, default=0.98, metavar="SHARE",
        help="share of auto-tagged answers that should be right: 0.9, 0.95, 0.98 or 0.99 "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--coverage", type=_share, default=0.95, metavar="SHARE",
        help="share of photos whose car should be among the plausible ones: 0.9, 0.95 or 0.99 "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--all-cars", action="store_true",
        help="name every car in a photo, each in a row of its own, the most prominent first",
    )  # fmt: skip
    parser.add_argument(
        "--catalogue", metavar="NAMES", default=os.environ.get("MARQUE_CATALOGUE") or None,
        help="answer only with these makes, models, years (2005-2012), markets or labels, "
        "separated by commas, or the lines of a .txt file (default: MARQUE_CATALOGUE, or all)",
    )  # fmt: skip
    parser.add_argument(
        "--group-by", metavar="folder|PATTERN",
        help="one answer for all photos of a car: those in one folder, or those whose paths have "
        "the same match of a regular expression, such as '(car\\d+)_'",
    )  # fmt: skip
    parser.add_argument(
        "--expect", metavar="TEXT|FILE.csv",
        help='what the seller says, such as "Golf 2012", or a CSV file with the columns path and '
        "expected: each photo agrees, contradicts or cannot tell",
    )  # fmt: skip
    parser.add_argument(
        "--resume", action="store_true",
        help="go on with the --csv and --jsonl files of a run that was interrupted, with the same "
        "options: no photo is answered twice",
    )  # fmt: skip
    parser.add_argument(
        "--csv", type=user_path, metavar="FILE", help="write a row a photo, or a car"
    )
    parser.add_argument(
        "--jsonl", type=user_path, metavar="FILE", help="write a JSON object a photo, or a car"
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share between 0 and 1, such as 0.98")
    return share


def _open(path: Path, resume: bool) -> TextIO:
    # A row at a time, so that a long run can be followed and leaves its answers if it is killed.
    if resume:
        return path.open("a", buffering=1, newline="", encoding="utf-8", errors="backslashreplace")
    return path.open("w", buffering=1, newline="", encoding="utf-8", errors="backslashreplace")


def find_photos(paths: Iterable[Path]) -> Iterator[Path]:
    """Yields files as given and the photos in folders, depth first in alphabetical order.

    A pattern that no shell has expanded, such as '*.jpg', is expanded where no file is called so.
    """
    for path in paths:
        if _is_folder(path):
            yield from photos_in(path)
        elif glob.has_magic(str(path)) and not os.path.lexists(path):
            found = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
            yield from find_photos(map(Path, found)) if found else (path,)
        else:
            yield path


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # opening it says why, in its row


def _check_options(options: argparse.Namespace) -> str | None:
    """Why options do not go together."""
    chosen = [
        name
        for name, given in (
            ("--all-cars", options.all_cars),
            ("--group-by", options.group_by),
            ("--expect", options.expect is not None),
        )
        if given
    ]
    if len(chosen) > 1:
        return f"{' and '.join(chosen)} do not go together; choose one of them"
    if options.group_by and options.group_by != "folder":
        try:
            re.compile(options.group_by)
        except re.error as error:
            return f"--group-by {options.group_by} is neither folder nor a pattern: {error}"
    if options.resume and not (options.csv or options.jsonl):
        return "--resume goes on with a file: give --csv or --jsonl"
    if options.expect is not None and not options.expect.strip():
        return "--expect is blank; say a make or a model, such as Golf 2012"
    return None


def _check_outputs(options: argparse.Namespace) -> str | None:
    """Why the files to write cannot be those: nothing that is not an answer file is overwritten."""
    if options.csv and options.jsonl and options.csv.resolve() == options.jsonl.resolve():
        return f"--csv and --jsonl are the same file, {options.csv}; give two names"
    for option, path, start in (
        ("--csv", options.csv, _CSV_START),
        ("--jsonl", options.jsonl, _JSONL_START),
    ):
        try:
            if path is None or not path.is_file():
                continue
            with path.open("rb") as file:
                found = file.read(len(start))
        except OSError:
            continue  # opening it for writing says why
        if not start.startswith(found):  # a first line cut short is one of ours
            return (
                f"{option} {path} exists and holds no answers of this command, so it is not "
                "overwritten; give another name, or remove it"
            )
    return None


def _run(
    recognizer: CarRecognizer,
    options: argparse.Namespace,
    writers: list[Writer],
    expected: Expected | None,
    done: Set[str],
) -> tuple[int, int]:
    """Recognizes all photos; returns how many were found and how many could not be read."""
    # Counting first costs little beside recognizing, and gives the bar an end.
    total = count = 0
    for path in find_photos(options.photos):
        total += 1
        count += not options.group_by and row_key(path) in done
    table = Console(highlight=False, soft_wrap=True, emoji=False)
    writers = [as_block(table) if total == 1 else as_line(table), *writers]
    unreadable = 0
    with Progress(
        TextColumn("photos"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        # On a terminal the table scrolls above the bar; a table sent elsewhere stays free of it.
        console=table if table.is_terminal else Console(stderr=True),
        redirect_stdout=False,
        redirect_stderr=False,
        transient=True,
        disable=total <= BATCH_SIZE,
    ) as progress:
        task = progress.add_task("", total=total, completed=count)
        for photos, rows in _answers(recognizer, options, expected, done):
            for row in rows:
                for write in writers:
                    write(row)
            count += photos
            if rows and rows[0].recognition.error is not None:
                unreadable += photos
            progress.update(task, completed=count)
    return count, unreadable


def _answers(
    recognizer: CarRecognizer,
    options: argparse.Namespace,
    expected: Expected | None,
    done: Set[str],
) -> Iterator[tuple[int, list[Row]]]:
    """For each photo, or each group of photos, how many they are and their rows; what is `done`
    already has none."""
    if options.group_by:
        groups: dict[str, list[Path]] = {}
        for path in find_photos(options.photos):
            groups.setdefault(_group(path, options.group_by), []).append(path)
        for name, some in groups.items():
            if row_key(name) in done:
                yield len(some), []
                continue
            answer = recognizer.predict_car(some, options.top_k)
            yield len(some), [Row(Path(name), answer, photos=len(some))]
        return
    paths, sources = tee(path for path in find_photos(options.photos) if row_key(path) not in done)
    if expected is not None:
        for path in paths:
            yield 1, [_checked(recognizer, path, expected(path))]
        return
    answers = (
        recognizer.stream_all(sources, options.top_k)
        if options.all_cars
        else ([answer] for answer in recognizer.stream(sources, options.top_k))
    )
    for path, cars in zip(paths, answers, strict=True):
        yield 1, [Row(path, car) for car in cars]


def _group(path: Path, by: str) -> str:
    """What photos of one car have in common: their folder, or what a pattern finds in their path.

    A path in which it finds nothing is a group of its own.
    """
    if by == "folder":
        return str(path.parent)
    found = re.search(by, str(path))
    return (found[1] if found.groups() else found[0]) if found else str(path)


def _checked(recognizer: CarRecognizer, path: Path, text: str) -> Row:
    try:
        if not text.strip():
            return Row(path, recognizer.predict(path), expected=text)
        found = recognizer.check(path, text)
    except PhotoError as error:
        return Row(path, Recognition(error=str(error)), expected=text)
    return Row(path, found.recognition, expected=text, check=found)


def _expected(given: str | None) -> Expected | None:
    """What is expected of each photo: one text for all, or the rows of a CSV file by path.

    Raises:
        MarqueError: the file cannot be read, or lacks the columns.
    """
    if given is None:
        return None
    if not given.lower().endswith(".csv"):
        return lambda path: given
    try:
        with Path(given).expanduser().open(newline="", encoding="utf-8-sig") as file:
            texts = {row["path"]: row["expected"] or "" for row in csv.DictReader(file)}
    except KeyError:
        raise MarqueError(f"--expect {given}: the columns should be path and expected") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MarqueError(f"--expect {given} cannot be read: {error}") from None
    return lambda path: texts.get(str(path), texts.get(path.name, ""))
