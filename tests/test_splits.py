"""Splits: who goes where, and that copies stay together."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from space.errors import DataError
from trainer.data.splits import (
    EXCLUDED,
    TEST,
    TRAIN,
    VALIDATION,
    Photo,
    Scheme,
    apply_split,
    fewest_photos,
    join_series,
    make_split,
    read_split,
    write_split,
)


def some_photos(classes=4, groups=20, copies=2) -> list[Photo]:
    return [
        Photo(
            "s",
            f"{label}/{group}-{copy}.jpg",
            f"class {label}",
            f"{group}{copy}",
            group=f"{label}-{group}",
            target=label,
        )
        for label in range(classes)
        for group in range(groups)
        for copy in range(copies)
    ]


def test_no_group_straddles_the_split():
    splits = {}
    for photo in make_split(some_photos(), Scheme(0.2, 0.3), seed=1):
        assert splits.setdefault(photo.group, photo.split) == photo.split


def test_every_class_gets_its_share():
    photos = make_split(some_photos(copies=1), Scheme(0.2, 0.3), seed=1)
    for label in range(4):
        splits = [photo.split for photo in photos if photo.label == f"class {label}"]
        assert [splits.count(name) for name in (TRAIN, VALIDATION, TEST)] == [10, 4, 6]


def test_a_small_class_keeps_a_photo_for_training():
    photos = make_split(some_photos(groups=1), Scheme(0.5, 0.4), seed=1)
    assert {photo.split for photo in photos} == {TRAIN}


def test_contradicting_labels_are_excluded():
    photos = [*some_photos(1), Photo("s", "x.jpg", "class 9", "k", group="0-0", target=9)]
    excluded = [p for p in make_split(photos, Scheme(0.2, 0.2), seed=1) if p.split == EXCLUDED]
    assert [photo.path for photo in excluded] == ["0/0-0.jpg", "0/0-1.jpg", "x.jpg"]
    assert {photo.reason for photo in excluded} == {
        "the same photo stands under 2 labels: class 0; class 9"
    }


def test_a_class_under_two_names_does_not_contradict_itself():
    photos = [*some_photos(1), Photo("t", "x.jpg", "Class Zero", "k", group="0-0", target=0)]
    assert not [p for p in make_split(photos, Scheme(0.2, 0.2), seed=1) if p.split == EXCLUDED]


def test_a_photo_with_a_reason_takes_its_group_out():
    first, *others = some_photos(1)
    photos = make_split([replace(first, reason="a tire"), *others], Scheme(0.2, 0.2), seed=1)
    assert [(p.path, p.reason) for p in photos if p.split == EXCLUDED] == [
        ("0/0-0.jpg", "a tire"),
        ("0/0-1.jpg", "a tire"),
    ]


@pytest.mark.parametrize(
    ("text", "validation", "test"),
    [("70/15/15", 0.15, 0.15), ("90/10", 0.09, 0.1), ("80/20/0", 0.2, 0.0), ("100/0/0", 0, 0)],
)
def test_schemes_are_written_in_percent(text, validation, test):
    scheme = Scheme.parse(text)
    assert (round(scheme.validation, 6), scheme.test) == (validation, test)


@pytest.mark.parametrize(
    "text", ["", "70/15", "70/15/20", "0/50/50", "fold:0/5", "fold:6/5", "fold:1/1", "official2"]
)
def test_other_schemes_are_refused_with_what_to_write(text):
    with pytest.raises(DataError, match=r"write training/validation/test in percent \(70/15/15\)"):
        Scheme.parse(text)


def test_every_photo_is_tested_on_in_one_fold():
    photos = some_photos(groups=23)
    tested = []
    for fold in range(1, 6):
        assigned = make_split(photos, Scheme.parse(f"fold:{fold}/5"), seed=1)
        tested += [photo.path for photo in assigned if photo.split == TEST]
        counts = Counter(photo.split for photo in assigned)
        assert counts[TRAIN] > 6 * counts[VALIDATION] > 0
        assert not counts[EXCLUDED]
    assert sorted(tested) == sorted(photo.path for photo in photos)


def official(photos: list[Photo], test: int) -> list[Photo]:
    """The photos of the first groups of each class in the official test, the others in training."""
    return [
        replace(p, official=TEST if int(p.group.split("-")[1]) < test else TRAIN) for p in photos
    ]


def test_the_official_test_stays_whole_and_its_copies_leave_training():
    photos = official(some_photos(), test=5)
    photos[0] = replace(photos[0], official=TRAIN)  # a copy of a test photo
    assigned = make_split(photos, Scheme.parse("official"), seed=1)
    assert (assigned[0].split, assigned[0].reason) == (
        EXCLUDED,
        "a copy of a photo of the official test",
    )
    assert all((p.split == TEST) == (p.official == TEST) for p in assigned)
    counts = Counter(photo.split for photo in assigned)
    assert counts == {TEST: 39, EXCLUDED: 1, VALIDATION: 16, TRAIN: 104}


def test_an_official_validation_is_kept():
    photos = official(some_photos(), test=5)
    photos = [replace(p, official=VALIDATION) if "-9" in p.group else p for p in photos]
    assigned = make_split(photos, Scheme.parse("official"), seed=1)
    assert all(photo.split == photo.official for photo in assigned)


def test_photos_that_a_network_has_seen_stay_in_training():
    photos = some_photos(groups=20, copies=2)
    seen = {p.group for p in make_split(photos, Scheme(0.1, 0.1), seed=5) if p.split == TRAIN}
    assigned = make_split(photos, Scheme(0.1, 0.1), 1, seen)
    held_out = {p.group for p in assigned if p.split in (VALIDATION, TEST)}
    assert len(held_out) == 4 * 4
    assert not held_out & seen
    # A class has no more to hold out than was not seen.
    assigned = make_split(photos, Scheme(0.3, 0.3), 1, seen)
    held_out = {p.group for p in assigned if p.split in (VALIDATION, TEST)}
    assert len(held_out) == 4 * 4
    assert not held_out & seen


def test_a_data_set_without_an_official_test_gets_one_beside_another_that_has_it():
    photos = official(some_photos(), test=5)
    other = [
        replace(p, source="listings", official="", group=f"l-{p.group}") for p in some_photos()
    ]
    assigned = make_split(photos + other, Scheme.parse("official"), 1)
    assert all((p.split == TEST) == (p.official == TEST) for p in assigned[: len(photos)])
    counts = Counter(photo.split for photo in assigned[len(photos) :])
    assert counts[VALIDATION] == counts[TEST] > 0
    assert not counts[EXCLUDED]
    assert counts[TRAIN] > counts[TEST] + counts[VALIDATION]


def test_a_series_stays_together():
    photos = [
        Photo("listings", f"civic/civic_gen_10_{n}.jpg", "civic", f"k{n}", f"g{n:02}")
        for n in range(40)
    ]
    photos += [replace(photos[0], source="other", group="apart")]
    photos[15] = replace(photos[15], group="g03")  # a copy joins two series
    joined = join_series(photos, "listings", 10)
    groups = [{p.group for p in joined[start : start + 10]} for start in range(0, 40, 10)]
    assert groups == [{"g00"}, {"g00"}, {"g20"}, {"g30"}]
    assert joined[40].group == "apart"


def test_a_series_of_photos_under_two_labels_stays_apart():
    photos = [
        Photo("a", "x/1.jpg", "x", "k1", "same", target=0),
        Photo("a", "y/1.jpg", "y", "k2", "same", target=1),
        Photo("a", "x/2.jpg", "x", "k3", "own", target=0),
        Photo("a", "x/3.jpg", "x", "k4", "another", target=0),
    ]
    groups = [photo.group for photo in join_series(photos, "a", 10)]
    assert groups == ["same", "same", "another", "another"]


@pytest.mark.parametrize(("source", "length"), [("a", 1), ("b", 10)])
def test_series_of_nothing_are_refused(source, length):
    with pytest.raises(DataError, match=f"--series {source}={length}"):
        join_series([Photo("a", "x/1.jpg", "x", "k1")], source, length)


def test_without_an_official_test_there_is_no_official_split():
    with pytest.raises(DataError, match="no part': 160"):
        make_split(some_photos(), Scheme.parse("official"), seed=1)


def test_the_split_depends_on_the_seed_and_not_on_the_order():
    photos = some_photos()
    first = {p.path: p.split for p in make_split(photos, Scheme(0.2, 0.2), seed=1)}
    again = {p.path: p.split for p in make_split(photos[::-1], Scheme(0.2, 0.2), seed=1)}
    other = {p.path: p.split for p in make_split(photos, Scheme(0.2, 0.2), seed=2)}
    assert first == again != other


def test_a_split_file_gives_the_same_split(tmp_path):
    photos = make_split(some_photos(), Scheme(0.2, 0.2), seed=1)
    write_split(tmp_path / "split.csv", photos)
    assert apply_split(tmp_path / "split.csv", some_photos()) == photos


def test_a_split_file_that_does_not_fit_is_refused(tmp_path):
    photos = make_split(some_photos(), Scheme(0.2, 0.2), seed=1)
    write_split(tmp_path / "split.csv", photos[1:])
    with pytest.raises(DataError, match=r"0/0-0\.jpg of s is not in it"):
        apply_split(tmp_path / "split.csv", photos)
    (tmp_path / "other.csv").write_text("path,label\n")
    with pytest.raises(DataError, match="the columns should be source,path,label,split,group"):
        read_split(tmp_path / "other.csv")


def test_a_split_file_that_parts_copies_is_refused(tmp_path):
    photos = make_split(some_photos(), Scheme(0.2, 0.2), seed=1)
    moved = next(photo for photo in photos if photo.split == TEST)
    photos[photos.index(moved)] = replace(moved, split=TRAIN)
    write_split(tmp_path / "split.csv", photos)
    with pytest.raises(DataError, match=f"the group {moved.group} are the same photo"):
        apply_split(tmp_path / "split.csv", some_photos())


COMMITTED = Path(__file__).parent.parent / "trainer" / "splits"


@pytest.mark.parametrize("name", ["stanford_and_algerian.csv", "official.csv"])
def test_a_committed_split_keeps_copies_together(name):
    splits: dict[str, str] = {}
    for row in read_split(COMMITTED / name).values():
        if row["split"] != EXCLUDED:
            assert splits.setdefault(row["group"], row["split"]) == row["split"]
    assert set(splits.values()) == {TRAIN, VALIDATION, TEST}


def test_the_official_split_tests_on_the_official_test_alone_and_keeps_series_together():
    series: dict[tuple[str, int], set[str]] = {}
    for row in read_split(COMMITTED / "official.csv").values():
        if row["source"] == "stanford_cars":
            half = row["path"].split("/")[0]
            allowed = {TEST} if half == "cars_test" else {TRAIN, VALIDATION}
            assert row["split"] in allowed | {EXCLUDED}, row["path"]
        elif row["source"] == "listings_brazil":
            number = int(Path(row["path"]).stem.split("_")[-1])
            series.setdefault((row["label"], number // 10), set()).add(row["split"])
    assert len(series) > 100
    assert all(len(splits) == 1 for splits in series.values())


@pytest.mark.parametrize("text", ["80/10/10", "90/10", "70/15/15", "fold:1/5", "official"])
def test_fewest_photos_of_a_class_give_one_for_validation_and_no_fewer_do(text):
    scheme = replace(Scheme.parse(text), official=False)
    needed = fewest_photos(scheme)
    for count, there in ((needed - 1, False), (needed, True)):
        photos = [Photo("a", str(n), "x", str(n), group=str(n)) for n in range(count)]
        assert any(p.split == VALIDATION for p in make_split(photos, scheme, 0)) is there


def test_split_without_validation_never_has_one():
    assert fewest_photos(Scheme.parse("80/0/20")) is None


def test_byte_order_mark_of_an_editor_is_no_part_of_a_split_file(tmp_path):
    path = tmp_path / "split.csv"
    path.write_text("source,path,label,split,group\na,1.jpg,x,train,g\n", "utf-8-sig")
    assert read_split(path)["a", "1.jpg"]["split"] == "train"


@pytest.mark.parametrize(
    ("rows", "cause"),
    [
        (b"a,1.jpg\n", "line 2: it has 2 cells"),
        (b"a,\xff.jpg,x,train,g\n", "not UTF-8"),
        (b'a,"1.jpg,x,train,g\n', "line 2"),
        (b"a," + b"1" * 200_000 + b",x,train,g\n", "line 2: field larger"),
        (b"a,1.jpg,x,training,g\n", "unknown split"),
    ],
)
def test_damaged_split_file_is_refused_with_its_place(tmp_path, rows, cause):
    path = tmp_path / "split.csv"
    path.write_bytes(b"source,path,label,split,group\n" + rows)
    with pytest.raises(DataError, match=rf"split\.csv.*{cause}"):
        read_split(path)
