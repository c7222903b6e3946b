"""The command line: `python -m space PHOTO_OR_FOLDER…`."""

import argparse
import csv
import glob
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from io import TextIOWrapper
from itertools import tee
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from space.answers import AUTO_TAG, REJECTED, REVIEW, Prediction, Recognition
from space.boxes import Box
from space.errors import CheckpointError
from space.printable import printable
from space.recognizer import BATCH_SIZE, CarRecognizer
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

Writer = Callable[[Path, Recognition], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if wrong := _check_outputs(options):
        print(f"marque: {printable(wrong)}", file=sys.stderr)
        return WRONG_USAGE
    if isinstance(sys.stdout, TextIOWrapper):  # a file name need not be text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        recognizer = CarRecognizer.from_pretrained(
            options.model,
            precision=options.precision,
            coverage=options.coverage,
        )
    except CheckpointError as error:
        print(f"marque: {error}", file=sys.stderr)
        return WRONG_USAGE
    if options.model and not Path(options.model).exists():  # on the Hub a name may move on
        print(f"marque: {recognizer.source} at revision {recognizer.revision}", file=sys.stderr)
    try:
        with ExitStack() as stack:
            writers: list[Writer] = []
            if options.csv:
                writers.append(_csv(stack.enter_context(_open(options.csv)), options.top_k))
            if options.jsonl:
                writers.append(_jsonl(stack.enter_context(_open(options.jsonl)), recognizer))
            found, unreadable = _run(recognizer, options, writers)
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


def _open(path: Path) -> TextIO:
    # A row at a time, so that a long run can be followed and leaves its answers if it is killed.
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
        if found and found != start:
            return (
                f"{option} {path} exists and holds no answers of this command, so it is not "
                "overwritten; give another name, or remove it"
            )
    return None


def _run(
    recognizer: CarRecognizer, options: argparse.Namespace, writers: list[Writer]
) -> tuple[int, int]:
    """Recognises all photos; returns how many were found and how many could not be read."""
    # Counting first costs little beside recognizing, and gives the bar an end.
    total = sum(1 for _ in find_photos(options.photos))
    table = Console(highlight=False, soft_wrap=True, emoji=False)
    writers = [_block(table) if total == 1 else _line(table), *writers]
    paths, sources = tee(find_photos(options.photos))
    done = unreadable = 0
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
        task = progress.add_task("", total=total)
        answers = (
            recognizer.stream_all(sources, options.top_k)
            if options.all_cars
            else ([answer] for answer in recognizer.stream(sources, options.top_k))
        )
        for path, cars in zip(paths, answers, strict=True):
            for recognition in cars:
                for write in writers:
                    write(path, recognition)
            done += 1
            unreadable += cars[0].error is not None
            progress.advance(task)
    return done, unreadable


def _block(console: Console) -> Writer:
    """One photo on the terminal: all its answers."""

    def write(path: Path, recognition: Recognition) -> None:
        console.print(Text(printable(path, breaks=True), style="bold"))
        if recognition.error:
            console.print(Text.assemble("  ", (printable(recognition.error), "red")))
        for car in recognition.predictions:
            console.print(Text("  " + _columns(car)))
        if recognition.verdict:
            reason = printable(recognition.reason)
            console.print(Text.assemble("  ", _verdict(recognition), f": {reason}"))

    return write


def _line(console: Console) -> Writer:
    """Many photos on the terminal: a line each, with the best answer."""

    def write(path: Path, recognition: Recognition) -> None:
        if recognition.error:
            console.print(Text(printable(recognition.error), style="red"))
        else:
            best = _columns(recognition.predictions[0])
            name = (printable(path, breaks=True), "dim")
            console.print(Text.assemble(_verdict(recognition), f"  {best}  ", name))

    return write


def _verdict(recognition: Recognition) -> tuple[str, str]:
    color = {AUTO_TAG: "green", REVIEW: "yellow", REJECTED: "red"}[recognition.verdict]
    return f"{recognition.verdict:<8}", color


def _columns(car: Prediction) -> str:
    make, model = printable(car.make), printable(car.model)
    return f"{car.confidence:6.1%}  {make:<13} {car.year or '':>4}  {model:<32}"


def _cell(value: object) -> object:
    """A cell that no spreadsheet runs: text that begins like a formula has an apostrophe before."""
    dangerous = isinstance(value, str | Path) and str(value).startswith(tuple("=+-@\t\r"))
    return f"'{value}" if dangerous else value


def _csv(file: TextIO, top_k: int) -> Writer:
    """One row a car: the best answer in columns of its own, the others, and where the car is."""
    output = csv.writer(file)
    others = [
        f"{column}_{rank}" for rank in range(2, top_k + 1) for column in ("label", "confidence")
    ]
    first = ["path", "label", "make", "model", "year", "confidence", "verdict", "reason"]
    place = [f"box_{side}" for side in Box._fields]
    output.writerow([*first, *others, "error", *place, "cars_found"])

    def write(path: Path, recognition: Recognition) -> None:
        cells: list[object] = [""] * 7
        if recognition.predictions:
            best = recognition.predictions[0]
            cells = [best.label, best.make, best.model, best.year or "", f"{best.confidence:.4f}"]
            cells += [recognition.verdict, recognition.reason]
        for car in recognition.predictions[1:]:
            cells += [car.label, f"{car.confidence:.4f}"]
        cells += [""] * (7 + len(others) - len(cells))
        cells += [recognition.error or ""]
        cells += [f"{side:.4f}" for side in recognition.box] if recognition.box else [""] * 4
        cells += ["" if recognition.cars_found is None else recognition.cars_found]
        output.writerow(map(_cell, [path, *cells]))

    return write


def _jsonl(file: TextIO, recognizer: CarRecognizer) -> Writer:
    """One object a photo, with every answer and the model that gave it."""
    model = {"source": recognizer.source, "revision": recognizer.revision}

    def write(path: Path, recognition: Recognition) -> None:
        row = {"path": str(path), **recognition.as_json(), "model": model}
        file.write(json.dumps(row, ensure_ascii=False) + "\n")

    return write
