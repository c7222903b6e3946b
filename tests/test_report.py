"""The report of an audit: what it says, what it survives, how large it may grow."""

import csv
import itertools
import json
import random
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import draw_car
from PIL import Image

from trainer.auditing import files, sheets, words
from trainer.auditing.files import in_words, write_audit
from trainer.auditing.findings import (
    Audit,
    Case,
    Finding,
    PhotoFacts,
    Spread,
    expected_leak,
    flagged,
    summarize,
)
from trainer.rendering import percent, plain

NASTY = {
    "script": '<script>alert("1")</script>.jpg',
    "attribute": "\" onerror='alert(1)' x=\".jpg",
    "comma, quote": 'a,"b",c.jpg',
    "newline": "first\nsecond.jpg",
    "formula": '=HYPERLINK("http://evil.example","x")',
    "apostrophe": "'quoted'.jpg",
    "template": "{{ 7 * 7 }}{% raw %}",
    "no text": "caf\udce9.jpg",
    "backwards": "gpj.\u202etxt",
    "another script": "سيارة/车.jpg",
    "dollars": "$\\frac{1}$2$.jpg",
}


def facts(path: str, label: str = "clio", group: str = "", **more) -> PhotoFacts:
    given = {"width": 160, "height": 120, "mode": "RGB", "format": "JPEG", "bytes": 1000}
    return PhotoFacts("cars", path, label, group, **(given | more))


def audit_of(photos, findings=(), **settings) -> Audit:
    locations = dict.fromkeys(sorted({photo.source for photo in photos}), "folder")
    return Audit(summarize(photos, locations), tuple(photos), tuple(findings), settings)


def picture(index: int) -> Image.Image:
    return draw_car(index % 7, size=(256, 256))


def no_picture(index: int) -> None:
    return None


def read_csv(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


class Page(HTMLParser):
    """The tags, the attributes and the text that a browser would see."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def small_audit() -> Audit:
    photos = [
        facts("a.jpg", group="1", car=0.9, seen="sports car", width=640),
        facts("b.jpg", group="1", car=0.5, seen="minivan"),
        facts("c.jpg", "golf", "2", car=0.01, seen="seat belt", format="PNG"),
        facts("d.jpg", "golf", note="is no picture", format="", width=0),
        facts("e.jpg", "clio", "3", bytes=3000),
    ]
    findings = (
        Finding("exact_copies", "The same file more than once", "Equal bytes.", (Case((0, 1)),)),
        Finding("no_exterior", "No car from outside", "Seats.", (Case((2,), "seen: seat belt"),)),
        Finding("unreadable", "Files that cannot be opened", "Broken.", (Case((3,)),)),
        Finding("near_copies", "Nearly the same photo", "None."),
    )
    return audit_of(flagged(photos, findings), findings, seed=3, command="python -m trainer.audit")


@pytest.fixture(scope="module")
def small_report(small_audit, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_audit(small_audit, folder, lambda index: None if index == 3 else picture(index))
    return folder


def test_sources_are_counted(small_audit):
    (source,) = small_audit.sources
    assert (source.photos, source.unreadable, source.groups, source.repeated) == (5, 1, 3, 2)
    assert source.per_class == {"clio": 3, "golf": 1}
    assert (source.classes, source.smallest(1)) == (2, [("golf", 1)])
    assert source.imbalance == 3
    assert source.evenness == pytest.approx(0.8113, abs=1e-4)  # entropy of 3/4 and 1/4 in bits
    assert source.formats == {"JPEG": 3, "PNG": 1}
    assert source.width == Spread(160, 160, 640)
    assert source.bytes == Spread(1000, 1000, 3000)


def test_a_class_whose_photos_are_all_unreadable_is_counted_with_none():
    (source,) = audit_of([facts("a"), facts("b", "golf", note="broken")]).sources
    assert source.per_class == {"clio": 1, "golf": 0}
    assert source.imbalance is None
    assert source.evenness == 0


def test_a_source_without_photos_is_counted_and_reported(tmp_path):
    sources = summarize([], {"empty": "folder"})
    write_audit(Audit(sources, ()), tmp_path, no_picture)
    assert json.loads((tmp_path / "summary.json").read_text())["sources"][0]["photos"] == 0
    assert "Nothing was found" in Page(tmp_path / "report.html").text


def test_a_photo_carries_the_kinds_it_was_found_in(small_audit):
    flags = [photo.flags for photo in small_audit.photos]
    assert flags == ["exact_copies", "exact_copies", "no_exterior", "unreadable", ""]
    both = [Finding(kind, "", "", (Case((0,)), Case((0,)))) for kind in ("a", "b")]
    assert flagged([facts("x", flags="old")], both)[0].flags == "a b"


@pytest.mark.parametrize("groups", ["aaabbcde", "aabbccdd", "abcd", "aaaa", "aaaaab"])
@pytest.mark.parametrize("share", [0.5, 0.6, 0.8])
def test_the_expected_leak_is_the_mean_over_all_splits(groups, share):
    trained = round(len(groups) * share)
    leaks = []
    for training in itertools.combinations(range(len(groups)), trained):
        seen = {groups[index] for index in training}
        tested = [groups[index] for index in range(len(groups)) if index not in training]
        leaks.append(sum(group in seen for group in tested) / len(tested))
    assert expected_leak(groups, share) == pytest.approx(sum(leaks) / len(leaks))


def test_the_expected_leak_is_what_random_splits_of_three_parts_come_near_to():
    groups = [f"{index // 3}" if index < 90 else f"alone {index}" for index in range(200)]
    rng = random.Random(0)
    leaks = []
    for _ in range(2000):
        assigned = rng.sample(groups, len(groups))
        training, test = set(assigned[:160]), assigned[180:]
        leaks.append(sum(group in training for group in test) / len(test))
    assert expected_leak(groups) == pytest.approx(sum(leaks) / len(leaks), abs=0.01)


def test_photos_of_no_known_group_stand_alone():
    assert expected_leak([""] * 10) == 0
    assert expected_leak([]) == 0
    assert expected_leak(["a"]) == 0


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5])
def test_a_leak_needs_photos_on_both_sides(share):
    with pytest.raises(ValueError, match="between 0 and 1"):
        expected_leak(["a"], share)


def test_the_verdict_counts_copies_in_all_sources_together():
    photos = [PhotoFacts(source, "x", "clio", "g") for source in ("one", "two")]
    audit = audit_of(photos)
    assert [source.repeated for source in audit.sources] == [0, 0]
    said = words.verdict(audit, words.all_together(audit))
    assert said[0].text.endswith("2 of 2 photos stand more than once. Such a test measures memory.")


def test_the_verdict_says_what_each_finding_does(small_audit):
    said = words.verdict(small_audit, words.all_together(small_audit))
    assert [statement.figure for statement in said] == ["50%", "1", "1", "2"]
    assert said[1].text.startswith("photo shows no car from outside")
    assert said[2].text.startswith("file cannot be opened")
    assert said[3].text.startswith("classes have fewer than 10 photos")


def test_every_file_is_there(small_report):
    files = {path.relative_to(small_report).as_posix() for path in small_report.rglob("*.*")}
    assert files == {
        "report.html", "summary.json", "images_metadata.csv",
        "class_distribution.png", "sample_grid.png",
        "findings/exact_copies.csv", "findings/no_exterior.csv", "findings/unreadable.csv",
        "sheets/exact_copies.png", "sheets/no_exterior.png", "sheets/unreadable.png",
    }  # fmt: skip
    for path in small_report.rglob("*.png"):
        with Image.open(path) as image:
            image.verify()


def test_what_an_earlier_audit_left_is_replaced(small_audit, tmp_path):
    for name in ("findings/old.csv", "sheets/old-2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("old")
    write_audit(small_audit, tmp_path, no_picture)
    assert not [*tmp_path.rglob("old*")]


def test_the_metadata_has_a_row_a_photo(small_report):
    path = small_report / "images_metadata.csv"
    assert path.read_text("utf-8").startswith("source,path,label,group,width,height,mode,format,")
    header, *rows = read_csv(path)
    assert header[8:] == ["bytes", "sha256", "dhash", "car", "seen", "flags", "note"]
    assert len(rows) == 5
    assert rows[0][:5] == ["cars", "a.jpg", "clio", "1", "640"]
    assert [row[11] for row in rows] == ["0.9000", "0.5000", "0.0100", "", ""]


def test_a_finding_s_table_names_its_cases(small_report):
    assert read_csv(small_report / "findings" / "exact_copies.csv") == [
        ["case", "source", "path", "label", "note"],
        ["1", "cars", "a.jpg", "clio", ""],
        ["1", "cars", "b.jpg", "clio", ""],
    ]


def test_the_summary_for_programs(small_report):
    summary = json.loads((small_report / "summary.json").read_text("utf-8"))
    assert (summary["photos"], summary["repeated"], summary["expected_leak"]) == (5, 2, 0.5)
    assert summary["sources"][0]["per_class"] == {"clio": 3, "golf": 1}
    assert summary["findings"][0]["kind"] == "exact_copies"
    assert (summary["findings"][0]["cases"], summary["findings"][0]["photos"]) == (1, 2)
    assert summary["settings"]["seed"] == 3


def test_the_summary_for_people(small_audit):
    lines = in_words(small_audit).splitlines()
    assert lines[0].startswith("50% ")
    assert "The same file more than once: 1 case, 2 photos" in lines
    assert "Nearly the same photo: none" in lines


def test_the_page_loads_and_runs_nothing(small_report):
    page = Page(small_report / "report.html")
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("src", "href", "srcset", "action", "data", "poster"):
            assert value.startswith(("data:image/webp;base64,", "#")), (tag, name, value)
    style = (small_report / "report.html").read_text("utf-8").split("</style>")[0]
    assert not re.search(r"url\(|@import|https?:", style)
    assert ("meta", "content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in (
        page.attributes
    )


def test_the_page_can_be_found_one_s_way_in(small_report):
    page = Page(small_report / "report.html")
    names = [value for _, name, value in page.attributes if name == "id"]
    assert len(names) == len(set(names))
    links = {value[1:] for _, name, value in page.attributes if name == "href"}
    assert {"sources", "exact_copies", "settings"} <= links <= set(names)
    assert page.tags.count("img") == sum(n == "alt" and bool(v) for _, n, v in page.attributes)
    assert page.tags.count("details") == 3
    assert ("html", "lang", "en") in page.attributes


@pytest.mark.parametrize("name", NASTY.values(), ids=NASTY)
def test_any_name_is_shown_and_none_is_obeyed(name, tmp_path):
    photos = [facts(name, label=name, group="1", seen=name), facts("b", name, "1")]
    finding = Finding("near_copies", name, name, (Case((0, 1), name), Case((0,))))
    write_audit(audit_of(photos, [finding], seed=0, command=name), tmp_path, picture)

    page = Page(tmp_path / "report.html")
    assert "script" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert plain(name) in page.text
    assert json.loads((tmp_path / "summary.json").read_text("utf-8"))["settings"]["command"]

    for table, column in (("images_metadata.csv", 1), ("findings/near_copies.csv", 2)):
        rows = read_csv(tmp_path / table)
        assert len(rows) in (3, 4)
        cell = rows[1][column]
        assert cell[0] not in "=+-@\t\r"
        # Nothing is lost: without the apostrophe that was put in front, it is the path itself.
        assert cell.removeprefix("'").replace("\\udce9", "\udce9") == name


def test_text_for_the_eye_stays_on_one_line_and_bounded():
    assert plain("a\nb\u202e") == r"a\nb\u202e"
    short = plain("folder/" * 100 + "end.jpg", 40)
    assert len(short) == 40
    assert short.startswith("folder/")
    assert short.endswith("/end.jpg")


def test_a_share_that_is_not_nothing_does_not_read_so():
    shares = [0, 0.0001, 0.5, 0.9999, 1]
    assert [*map(percent, shares)] == ["0%", "under 1%", "50%", "over 99%", "100%"]


def test_many_cases_are_told_of_but_not_all_shown(tmp_path):
    photos = [facts(f"photo {index}.jpg", f"class {index % 700}") for index in range(1400)]
    wide = [Case(tuple(range(900)))]
    pairs = [Case((index, index + 700)) for index in range(699)]
    asked: list[int] = []

    def counting(index: int) -> Image.Image:
        asked.append(index)
        return Image.new("RGB", (256, 256), "teal")

    finding = Finding("near_copies", "Nearly the same", "Copies.", (*wide, *pairs))
    write_audit(audit_of(photos, [finding]), tmp_path, counting)
    page = Page(tmp_path / "report.html")
    assert "60 of 700 cases shown; all are in findings/near_copies.csv" in page.text
    assert "and 894 more photos" in page.text
    assert page.tags.count("img") == 6 + 59 * 2 + 8 * 2
    assert len(read_csv(tmp_path / "findings" / "near_copies.csv")) == 1 + 900 + 699 * 2
    assert len(asked) == 2 * (6 + 59 * 2) + 8 * 2 + 24 * 2  # sheets and page, samples
    sheets = [path.name for path in sorted((tmp_path / "sheets").iterdir())]
    assert sheets == ["near_copies-2.png", "near_copies-3.png", "near_copies.png"]


def test_thumbnails_stop_where_the_page_is_full(small_audit, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_THUMBNAIL_BUDGET", 6000)
    write_audit(small_audit, tmp_path, picture)
    page = Page(tmp_path / "report.html")
    thumbnails = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    assert 0 < sum(map(len, thumbnails)) <= 6000
    assert "not shown: the page is full" in page.text


def test_the_same_audit_makes_the_same_report(small_audit, small_report, tmp_path):
    write_audit(small_audit, tmp_path, lambda index: None if index == 3 else picture(index))
    for path in small_report.rglob("*.*"):
        if path.name != "class_distribution.png":  # matplotlib signs it with its version alone
            again = tmp_path / path.relative_to(small_report)
            assert again.read_bytes() == path.read_bytes(), path.name


def test_classes_are_drawn_however_many_there_are(tmp_path):
    heights = []
    for classes in (20, 196, 3000):
        photos = [facts(f"{index}", f"class {index % classes}") for index in range(classes * 2)]
        sheets.write_class_distribution(audit_of(photos).sources, tmp_path / "x.png")
        with Image.open(tmp_path / "x.png") as image:
            heights.append(image.height)
    assert heights[0] < 700 < 3000 < heights[1] < heights[2] < 20000
