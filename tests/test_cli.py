"""The command line: what it prints and writes, which photos it finds, how it ends."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SIGHTS, TINY_LABELS, FoundAt, draw_car
from rich.console import Console
from test_checkpoints import change_config

from space.answers import REVIEW, Prediction, Recognition
from space.boxes import Box
from space.cli import (
    INTERRUPTED,
    OK,
    SOME_UNREADABLE,
    WRONG_USAGE,
    find_photos,
    main,
)
from space.gate import KINDS
from space.recognizer import CarRecognizer
from space.rows import Row, as_block, as_line

# A comma, a quote, a line break, rich's markup and emoji codes, another script, no UTF-8 at all.
ODD_NAMES = [
    "a,b.png",
    'the "best".png',
    "two\nlines.png",
    "[bold]x.png",
    "[x].png",
    ":car:.png",
    "سيارة 汽车 é.png",
    os.fsdecode(b"caf\xe9.png"),
]


@pytest.fixture
def marque(tiny_checkpoint, capsys):
    """Runs the command line with the tiny checkpoint: exit status, standard output and error."""

    def run(*arguments):
        status = main(["--model", str(tiny_checkpoint), *map(str, arguments)])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def calibrated_marque(calibrated_checkpoint, capsys):
    """The same with the calibrated checkpoint."""

    def run(*arguments):
        status = main(["--model", str(calibrated_checkpoint), *map(str, arguments)])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def sights(tmp_path) -> Path:
    """A photo of each kind: 0.png is a car, 1.png a part of one, 2.png something else."""
    folder = tmp_path / "sights"
    folder.mkdir()
    for number, kind in enumerate(KINDS):
        SIGHTS[kind].save(folder / f"{number}.png")
    return folder


@pytest.fixture
def photos(tmp_path) -> Path:
    """Three photos and one that cannot be read, in folders."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for seed, name in enumerate(["a.png", "below/b.jpg", "c.webp"]):
        draw_car(seed).save(folder / name)
    (folder / "broken.jpg").write_bytes(b"no photo")
    return folder


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


# On the terminal


def test_one_photo_gets_all_its_answers(marque, photos, tiny_recognizer):
    status, output, errors = marque(photos / "a.png", "--top-k", 3)
    first, *lines, verdict = output.splitlines()
    assert (status, first, errors) == (OK, str(photos / "a.png"), "")
    assert verdict.startswith("  review  : ")
    assert "uncalibrated" in verdict
    expected = tiny_recognizer.predict(photos / "a.png", 3).predictions
    for line, car in zip(lines, expected, strict=True):
        assert (
            line.split() == f"{car.confidence:.1%} {car.make} {car.year or ''} {car.model}".split()
        )


def test_many_photos_get_a_line_each_with_the_best_answer(marque, photos, tiny_recognizer):
    _, output, _ = marque(photos)
    lines = output.splitlines()
    assert len(lines) == 4
    for line, name in zip(
        (lines[0], lines[1], lines[3]), ("a.png", "below/b.jpg", "c.webp"), strict=True
    ):
        best = tiny_recognizer.predict(photos / name, 1).predictions[0]
        assert line.startswith("review ")
        assert f"{best.confidence:.1%}" in line
        assert best.make in line
        assert line.endswith(str(photos / name))
    assert lines[2] == f"{photos / 'broken.jpg'} is not a picture in any format known here"


def test_verdict_stands_before_the_answer_to_each_of_many_photos(calibrated_marque, sights):
    status, output, _ = calibrated_marque(sights)
    assert status == OK  # a photo that is rejected was read
    assert [line.split()[0] for line in output.splitlines()] == ["auto-tag", "rejected", "rejected"]


def test_verdict_of_one_photo_comes_with_its_reason(calibrated_marque, sights):
    _, output, _ = calibrated_marque(sights / "2.png")
    assert output.splitlines()[-1] == "  rejected: this does not look like a car"


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("count", [1, 2])
def test_name_is_printed_as_it_is(marque, tmp_path, name, count):
    draw_car(1).save(tmp_path / name)
    status, output, _ = marque(*[tmp_path / name] * count)
    assert status == OK
    assert output.count(str(tmp_path / name).replace("\udce9", "\\udce9")) == count


def test_output_that_is_no_terminal_has_no_colours_and_no_bar(marque, tmp_path):
    for seed in range(20):
        draw_car(seed, size=(40, 30)).save(tmp_path / f"{seed:02}.png")
    _, output, _ = marque(tmp_path)
    assert len(output.splitlines()) == 20
    assert "\x1b" not in output


def test_help_of_the_command_says_how_to_use_it():
    answer = subprocess.run(
        [sys.executable, "-m", "space", "--help"],
        capture_output=True,
        check=True,
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"COLUMNS": "80"},
        encoding="utf-8",
    )
    assert answer.stdout.startswith("usage: python -m space ")
    options = ("--model", "--top-k", "--precision", "--coverage", "--all-cars", "--csv", "--jsonl")
    for part in (*options, "examples:", "exit status:"):
        assert part in answer.stdout
    assert max(map(len, answer.stdout.splitlines())) <= 80
    assert answer.stderr == ""


# Into files


def test_csv_holds_a_row_a_photo(marque, photos, tmp_path, tiny_recognizer):
    status, _, errors = marque(photos, "--csv", tmp_path / "cars.csv", "--top-k", 2)
    assert (status, errors) == (SOME_UNREADABLE, "marque: 1 of 4 photos could not be read\n")
    rows = read_csv(tmp_path / "cars.csv")
    names = ["a.png", "below/b.jpg", "broken.jpg", "c.webp"]
    assert [row["path"] for row in rows] == [str(photos / name) for name in names]
    answer = tiny_recognizer.predict(photos / "a.png", 2)
    first, second = answer.predictions
    assert rows[0] == {
        "path": str(photos / "a.png"),
        "label": first.label,
        "make": first.make,
        "model": first.model,
        "year": str(first.year or ""),
        "confidence": f"{first.confidence:.4f}",
        "verdict": "review",
        "reason": answer.reason,
        "label_2": second.label,
        "confidence_2": f"{second.confidence:.4f}",
        "error": "",
        **dict.fromkeys(("box_left", "box_upper", "box_right", "box_lower", "cars_found"), ""),
    }


def test_csv_row_of_an_unreadable_photo_holds_only_the_reason(marque, photos, tmp_path):
    marque(photos / "broken.jpg", "--csv", tmp_path / "cars.csv")
    (row,) = read_csv(tmp_path / "cars.csv")
    filled = {column: cell for column, cell in row.items() if cell}
    assert set(filled) == {"path", "error"}
    assert filled["error"].endswith("is not a picture in any format known here")


def test_csv_has_the_same_columns_when_there_are_fewer_classes(marque, photos, tmp_path):
    marque(photos, "--csv", tmp_path / "cars.csv", "--top-k", 6)
    with (tmp_path / "cars.csv").open(newline="", encoding="utf-8") as file:
        widths = {len(row) for row in csv.reader(file)}
    assert widths == {8 + 2 * 5 + 1 + 5}


def test_jsonl_holds_an_object_a_photo(marque, photos, tmp_path, tiny_recognizer):
    marque(photos, "--jsonl", tmp_path / "cars.jsonl", "--top-k", 4)
    rows = read_jsonl(tmp_path / "cars.jsonl")
    assert [Path(row["path"]).name for row in rows] == ["a.png", "b.jpg", "broken.jpg", "c.webp"]
    answer = tiny_recognizer.predict(photos / "a.png", 4)
    assert rows[0]["error"] is None
    assert [car["label"] for car in rows[0]["predictions"]] == [c.label for c in answer.predictions]
    assert [make["make"] for make in rows[0]["makes"]] == [make.make for make in answer.makes]
    assert list(rows[0]) == [
        "path", "verdict", "reason", "level", "predictions", "makes", "models", "years",
        "plausible", "error", "box", "cars_found", "catalogue", "model",
    ]  # fmt: skip
    assert list(rows[0]["predictions"][0]) == [
        "label", "make", "model", "year", "confidence", "score",
    ]  # fmt: skip


@pytest.fixture
def two_cars(calibrated_folder, monkeypatch) -> Path:
    """A checkpoint that cuts cars out, with a detector that finds two in every photo."""
    change_config(calibrated_folder, car_crop={"margin": 0.0})
    detector = FoundAt(Box(0.5, 0.25, 1.0, 1.0), Box(0.0, 0.25, 0.25, 0.75))
    monkeypatch.setattr("space.preprocessing.Detector", lambda: detector)
    return calibrated_folder


@pytest.mark.parametrize("options", [(), ("--all-cars",)])
def test_both_files_hold_where_the_cars_are(two_cars, photos, tmp_path, capsys, options):
    files = ("--csv", str(tmp_path / "o.csv"), "--jsonl", str(tmp_path / "o.jsonl"))
    status = main(["--model", str(two_cars), str(photos), *files, *options])
    assert (status, capsys.readouterr().err) == (
        SOME_UNREADABLE, "marque: 1 of 4 photos could not be read\n",
    )  # fmt: skip
    boxes = [[0.5, 0.25, 1.0, 1.0], [0.0, 0.25, 0.25, 0.75]]
    each = boxes if options else boxes[:1]
    rows = read_jsonl(tmp_path / "o.jsonl")
    paths = [str(photos / name) for name in ("a.png", "below/b.jpg", "broken.jpg", "c.webp")]
    assert [(row["path"], row["box"], row["cars_found"]) for row in rows] == [
        found
        for path in paths
        for found in (
            [(path, None, None)] if "broken" in path else [(path, box, 2) for box in each]
        )
    ]
    for cells, row in zip(read_csv(tmp_path / "o.csv"), rows, strict=True):
        sides = [cells[f"box_{side}"] for side in ("left", "upper", "right", "lower")]
        assert sides == [f"{side:.4f}" for side in row["box"] or ()] or sides == [""] * 4
        assert cells["cars_found"] == str(row["cars_found"] or "")
        assert list(cells)[-6:] == [
            "error", "box_left", "box_upper", "box_right", "box_lower", "cars_found",
        ]  # fmt: skip


def test_both_files_hold_the_verdict(calibrated_marque, sights, tmp_path, calibrated_recognizer):
    calibrated_marque(sights, "--csv", tmp_path / "o.csv", "--jsonl", tmp_path / "o.jsonl")
    for row in (read_csv(tmp_path / "o.csv"), read_jsonl(tmp_path / "o.jsonl")):
        assert [cells["verdict"] for cells in row] == ["auto-tag", "rejected", "rejected"]
        assert row[2]["reason"] == "this does not look like a car"
    found = read_jsonl(tmp_path / "o.jsonl")[0]
    answer = calibrated_recognizer.predict(sights / "0.png")
    assert found["level"] == "year"
    assert found["plausible"] == {"labels": list(answer.plausible.labels), "coverage": 0.95}


def test_jsonl_object_of_an_unreadable_photo_says_why(marque, photos, tmp_path):
    marque(photos / "broken.jpg", "--jsonl", tmp_path / "cars.jsonl")
    (row,) = read_jsonl(tmp_path / "cars.jsonl")
    assert "is not a picture" in row["error"]
    assert row["predictions"] == row["makes"] == row["models"] == row["years"] == []
    assert row["verdict"] == row["reason"] == ""
    assert row["level"] is row["plausible"] is None


def test_jsonl_names_the_model_that_answered(marque, photos, tmp_path, tiny_recognizer):
    marque(photos / "a.png", "--jsonl", tmp_path / "cars.jsonl")
    (row,) = read_jsonl(tmp_path / "cars.jsonl")
    assert row["model"] == {"source": tiny_recognizer.source, "revision": tiny_recognizer.revision}


@pytest.mark.parametrize("name", ODD_NAMES)
def test_name_survives_in_both_files(marque, tmp_path, name):
    draw_car(1).save(tmp_path / name)
    marque(tmp_path / name, "--csv", tmp_path / "o.csv", "--jsonl", tmp_path / "o.jsonl")
    assert [row["path"] for row in read_jsonl(tmp_path / "o.jsonl")] == [str(tmp_path / name)]
    (row,) = read_csv(tmp_path / "o.csv")
    assert row["path"] == str(tmp_path / name).replace("\udce9", "\\udce9")


def test_broken_photo_among_many_costs_one_row(marque, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(40):
        draw_car(seed, size=(40, 30)).save(folder / f"{seed:02}.png")
    (folder / "17.png").write_bytes(b"")
    status, _, errors = marque(folder, "--csv", tmp_path / "cars.csv")
    rows = read_csv(tmp_path / "cars.csv")
    assert status == SOME_UNREADABLE
    assert errors.endswith("marque: 1 of 40 photos could not be read\n")
    assert [Path(row["path"]).name for row in rows] == [f"{seed:02}.png" for seed in range(40)]
    assert [row["path"] for row in rows if row["error"]] == [str(folder / "17.png")]
    assert all(row["label"] in TINY_LABELS for row in rows if not row["error"])


@pytest.mark.parametrize("option", ["--csv", "--jsonl"])
def test_each_answer_is_in_the_file_before_the_next_is_sought(
    marque, photos, tmp_path, monkeypatch, option
):
    seen = []
    stream = CarRecognizer.stream

    def watched(*arguments):
        for recognition in stream(*arguments):
            seen.append((tmp_path / "cars").read_text("utf-8").count("\n"))
            yield recognition

    monkeypatch.setattr(CarRecognizer, "stream", watched)
    marque(photos, option, tmp_path / "cars")
    head = 1 if option == "--csv" else 0
    assert seen == [head + done for done in range(4)]


def test_interruption_keeps_the_answers_so_far(marque, photos, tmp_path, monkeypatch):
    stream = CarRecognizer.stream

    def interrupted(*arguments):
        yield next(stream(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(CarRecognizer, "stream", interrupted)
    status, _, errors = marque(photos, "--csv", tmp_path / "cars.csv")
    assert (status, errors) == (
        INTERRUPTED,
        "marque: interrupted; the answers so far are kept\n",
    )
    assert len(read_csv(tmp_path / "cars.csv")) == 1


# Which photos


def test_folder_is_searched_in_alphabetical_order_and_in_depth(tmp_path):
    names = ["10.jpg", "9.JPEG", "b/c/z.heic", "b/a.png", "b.webp", "a/x.tif", "Z.avif"]
    for name in reversed(names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_photos([tmp_path])]
    assert found == ["10.jpg", "9.JPEG", "Z.avif", "a/x.tif", "b/a.png", "b/c/z.heic", "b.webp"]


def test_folder_passes_over_what_is_no_photo(tmp_path):
    for name in ("notes.txt", ".DS_Store", "movie.mp4", "jpg", "car.jpg.part", "car.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    assert list(find_photos([tmp_path])) == [tmp_path / "car.jpg"]


def test_file_named_outright_is_read_whatever_it_is_called(marque, tmp_path):
    draw_car(1).save(tmp_path / "upload.tmp", "PNG")
    status, output, _ = marque(tmp_path / "upload.tmp")
    assert status == OK
    assert "Audi" in output


def test_photos_keep_the_order_in_which_they_are_given(marque, photos, tmp_path):
    given = [photos / "c.webp", photos / "below", photos / "a.png", photos / "c.webp"]
    marque(*given, "--csv", tmp_path / "cars.csv")
    names = [Path(row["path"]).name for row in read_csv(tmp_path / "cars.csv")]
    assert names == ["c.webp", "b.jpg", "a.png", "c.webp"]


def test_missing_photo_costs_one_row(marque, photos, tmp_path):
    missing = tmp_path / "missing.jpg"
    status, _, _ = marque(missing, photos / "a.png", "--csv", tmp_path / "cars.csv")
    rows = read_csv(tmp_path / "cars.csv")
    assert status == SOME_UNREADABLE
    assert [row["error"] for row in rows] == [f"{missing} does not exist", ""]


def test_folder_without_photos_is_wrong_usage(marque, tmp_path):
    status, output, errors = marque(tmp_path)
    assert (status, output) == (WRONG_USAGE, "")
    assert errors == "marque: no photos found in the folders given\n"


# Wrong usage


@pytest.mark.parametrize("top_k", ["0", "-1", "many", "1.5", ""])
def test_top_k_that_is_no_count_is_wrong_usage(marque, photos, capsys, top_k):
    with pytest.raises(SystemExit) as ending:
        marque(photos, f"--top-k={top_k}")
    assert ending.value.code == WRONG_USAGE
    assert f"--top-k: {top_k} is not a whole number of at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--precision", "--coverage"])
@pytest.mark.parametrize("share", ["0", "1", "-0.5", "98", "98%", "nan", "most", ""])
def test_what_is_no_share_is_wrong_usage(marque, photos, capsys, option, share):
    with pytest.raises(SystemExit) as ending:
        marque(photos, f"{option}={share}")
    assert ending.value.code == WRONG_USAGE
    assert f"{option}: {share} is not a share between 0 and 1" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--precision", "--coverage"])
def test_share_that_was_not_calibrated_is_wrong_usage(calibrated_marque, photos, option):
    status, output, errors = calibrated_marque(photos, option, "0.5")
    assert (status, output, errors.count("\n")) == (WRONG_USAGE, "", 1)
    assert f"{option[2:]} is 0.5; the checkpoint was calibrated for 0.9, 0.9" in errors


def test_precision_and_coverage_reach_the_answer(calibrated_marque, sights, tmp_path):
    options = ("--precision", "0.90", "--coverage", "0.9", "--jsonl", tmp_path / "cars.jsonl")
    calibrated_marque(sights / "0.png", *options)
    (row,) = read_jsonl(tmp_path / "cars.jsonl")
    assert row["verdict"] == "review"
    assert row["plausible"]["coverage"] == 0.9


def test_no_photo_is_wrong_usage(marque, capsys):
    with pytest.raises(SystemExit) as ending:
        marque()
    assert ending.value.code == WRONG_USAGE
    assert "PHOTO_OR_FOLDER" in capsys.readouterr().err


def test_unusable_checkpoint_is_wrong_usage(photos, tmp_path, capsys):
    status = main([str(photos), "--model", str(tmp_path / "nothing")])
    output, errors = capsys.readouterr()
    assert (status, output) == (WRONG_USAGE, "")
    assert errors.startswith(f"marque: there is no folder {tmp_path / 'nothing'}")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("option", ["--csv", "--jsonl"])
@pytest.mark.parametrize(
    ("name", "cause"), [("no/such/cars", "No such file"), ("photos", "Is a directory")]
)
def test_file_that_cannot_be_written_is_wrong_usage(marque, photos, option, name, cause):
    path = photos.parent / name
    status, output, errors = marque(photos, option, path)
    assert (status, output) == (WRONG_USAGE, "")
    assert errors.startswith(f"marque: {path}: {cause}")
    assert errors.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk_is_told_in_one_line(marque, photos):
    status, _, errors = marque(photos, "--csv", "/dev/full")
    assert (status, errors) == (WRONG_USAGE, "marque: No space left on device\n")


# What is never overwritten, obeyed or run


@pytest.mark.parametrize("option", ["--csv", "--jsonl"])
def test_file_that_holds_no_answers_is_not_overwritten(marque, tmp_path, option):
    for name in ("1.png", "2.png"):
        draw_car(1).save(tmp_path / name)
    before = (tmp_path / "1.png").read_bytes()
    status, output, errors = marque(option, tmp_path / "1.png", tmp_path / "2.png")
    assert (status, output) == (WRONG_USAGE, "")
    assert "not overwritten" in errors
    assert (tmp_path / "1.png").read_bytes() == before


@pytest.mark.parametrize("option", ["--csv", "--jsonl"])
def test_file_of_an_earlier_run_is_written_again(marque, photos, tmp_path, option):
    for _ in range(2):
        assert marque(photos, option, tmp_path / "cars")[0] == marque(photos)[0]
    assert (tmp_path / "cars").stat().st_size


def test_two_outputs_need_two_files(marque, photos, tmp_path):
    same = tmp_path / "folder" / ".." / "cars"
    (tmp_path / "folder").mkdir()
    status, _, errors = marque(photos, "--csv", tmp_path / "cars", "--jsonl", same)
    assert status == WRONG_USAGE
    assert "same file" in errors
    assert not (tmp_path / "cars").exists()


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_cell_that_begins_like_a_formula_is_text(marque, tmp_path, monkeypatch, start):
    monkeypatch.chdir(tmp_path)
    draw_car(1).save(f"{start}1.png")
    marque("--csv", "cars.csv", "--", f"{start}1.png")
    assert [row["path"] for row in read_csv(tmp_path / "cars.csv")] == [f"'{start}1.png"]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", ["\x1b[2J\x07.png", "\u202egnp.exe.png", "[bold 13 x]\x9b.png"])
def test_terminal_obeys_no_name(marque, tmp_path, name, count):
    draw_car(1).save(tmp_path / name)
    status, output, errors = marque(*[tmp_path / name] * count)
    assert status == OK
    assert output.count(name.encode("unicode_escape").decode()) == count
    assert not set(output + errors) & {"\x1b", "\x07", "\x9b", "\u202e"}


@pytest.mark.parametrize("writer", [as_block, as_line])
@pytest.mark.parametrize("label", ["[/bold 13 x]", "[/]", "\x1b]0;x\x07", "two\nlines"])
def test_terminal_obeys_no_label(writer, label):
    car = Prediction(label, label, label, None, 0.9, 0.9)
    terminal = Console(file=io.StringIO(), width=200)
    writer(terminal)(Row(Path("x.png"), Recognition(REVIEW, label, predictions=(car,))))
    printed = terminal.file.getvalue()
    assert label.encode("unicode_escape").decode() in printed
    assert not set(printed) & {"\x1b", "\x07"}


# How folders are walked


def test_hidden_and_system_folders_and_files_are_passed_over(tmp_path):
    for name in ("._x.jpg", ".hidden/x.jpg", "__MACOSX/x.jpg", "@eaDir/x.jpg", "a/x.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(find_photos([tmp_path])) == [tmp_path / "a/x.jpg"]


def test_link_to_a_folder_above_ends(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.jpg").touch()
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "a/loop.jpg").symlink_to("loop.jpg")  # a link to itself is a row, not an end
    assert list(find_photos([tmp_path])) == [tmp_path / "a/loop.jpg", tmp_path / "a/x.jpg"]


def test_folder_that_cannot_be_listed_costs_one_row(marque, photos, tmp_path, monkeypatch):
    closed = photos / "closed"
    closed.mkdir()
    iterdir, scandir = Path.iterdir, os.scandir

    def refused(of):  # root may list every folder, so permissions alone would not show it
        def listed(path):
            if Path(path) == closed:
                raise PermissionError(13, "Permission denied", str(path))
            return of(path)

        return listed

    expected = len(list(find_photos([photos])))
    monkeypatch.setattr(Path, "iterdir", refused(iterdir))
    monkeypatch.setattr(os, "scandir", refused(scandir))
    status, _, _ = marque(photos, "--csv", tmp_path / "cars.csv")
    rows = read_csv(tmp_path / "cars.csv")
    assert status == SOME_UNREADABLE
    assert len(rows) == expected + 1
    assert [row["error"] for row in rows if row["path"] == str(closed)] == [
        f"{closed} cannot be read: Permission denied"
    ]


def test_pattern_that_no_shell_expanded_is_expanded(tmp_path):
    for name in ("b.jpg", "a.jpg", "[x].jpg"):
        (tmp_path / name).touch()
    assert list(find_photos([tmp_path / "?.jpg"])) == [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    assert list(find_photos([tmp_path / "[x].jpg"])) == [tmp_path / "[x].jpg"]
    assert list(find_photos([tmp_path / "*.png"])) == [tmp_path / "*.png"]


# Going on after an interruption


@pytest.fixture
def folder_of_six(tmp_path):
    folder = tmp_path / "six"
    folder.mkdir()
    for number, name in enumerate(("a", "b", "=c", "d", "e")):
        draw_car(number).save(folder / f"{name}.png")
    (folder / "f.jpg").write_bytes(b"no photo")
    return folder


@pytest.mark.parametrize("cut", [0, 1, 40, 200, 500, 900])
def test_an_interrupted_run_goes_on_and_ends_alike(marque, folder_of_six, tmp_path, cut):
    whole = {name: tmp_path / f"whole.{name}" for name in ("csv", "jsonl")}
    half = {name: tmp_path / f"half.{name}" for name in ("csv", "jsonl")}

    def run(files, *more):
        return marque(folder_of_six, *(f"--{name}={path}" for name, path in files.items()), *more)

    assert run(whole)[0] == SOME_UNREADABLE
    content = {name: path.read_bytes() for name, path in whole.items()}
    # A kill, or a full disk, anywhere: of the two files one is further than the other.
    half["csv"].write_bytes(content["csv"][:cut])
    half["jsonl"].write_bytes(content["jsonl"][: cut * 3])
    status, _, errors = run(half, "--resume")
    assert status == SOME_UNREADABLE, errors
    for name, path in half.items():
        assert sorted(path.read_bytes().splitlines()) == sorted(content[name].splitlines())
    status, output, _ = run(half, "--resume")  # there is nothing left to do
    assert (status, output) == (SOME_UNREADABLE, "")
    assert {name: len(path.read_bytes()) for name, path in half.items()} == {
        name: len(text) for name, text in content.items()
    }


def test_what_cannot_be_resumed_is_left_as_it_is(marque, folder_of_six, tmp_path):
    assert marque(folder_of_six, "--resume")[0] == WRONG_USAGE
    file = tmp_path / "x.csv"
    marque(folder_of_six, f"--csv={file}", "--top-k=2")
    before = file.read_bytes()
    status, _, errors = marque(folder_of_six, f"--csv={file}", "--resume")
    assert status == WRONG_USAGE
    assert "has other columns than this command would write" in errors
    assert file.read_bytes() == before


def test_resuming_with_nothing_begins(marque, folder_of_six, tmp_path):
    file = tmp_path / "new.csv"
    assert marque(folder_of_six, f"--csv={file}", "--resume")[0] == SOME_UNREADABLE
    assert len(read_csv(file)) == 6
