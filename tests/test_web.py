"""The parts of the page without a browser: words, answers, many photos, feedback, facts."""

import csv
import io
import json
import re
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
from conftest import TINY_DATA_CONFIG, draw_car
from PIL import Image

from space.answers import MakeScore, ModelScore, Plausible, Prediction, Recognition, YearScore
from space.boxes import WHOLE, Box
from space.claims import Check
from space.errors import MarqueError
from space.explain import HeatMap, heat_map
from space.gate import OTHER, PART, REASONS
from space.verdict import UNFAMILIAR
from space.web import batch, sessions
from space.web.about import about_html
from space.web.answer import answer_html, check_html, figure_html, heat_html, refused_html
from space.web.facts import NEWEST, Facts
from space.web.feedback import Feedback
from space.web.sessions import Sessions
from space.web.strings import _SAID, LANGUAGES, Language
from trainer.data.cache import PhotoCache
from trainer.data.dataset import read_photos

ENGLISH, FRENCH, ARABIC = (Language(code) for code in LANGUAGES)


def text_of(markup: str) -> str:
    """What a reader sees of HTML."""
    return " ".join(re.sub(r"<[^>]*>", " ", markup).split())


def recognition(verdict: str, level: str | None, **changes) -> Recognition:
    """An answer to a photo of one of three Audis."""
    audi = Prediction("Audi A4 Sedan 2012", "Audi", "A4 Sedan", 2012, 0.55, 0.5)
    given = {
        "reason": "98% of answers this confident were right on validation photos",
        "predictions": (audi, Prediction("<Audi>", "<Audi>", "", None, 0.002, 0.1)),
        "makes": (MakeScore("Audi", 0.99),),
        "models": (ModelScore("Audi", "A4 Sedan", 0.94),),
        "years": (YearScore(2012, 0.55), YearScore(2008, 0.35)),
        "plausible": Plausible(("Audi A4 Sedan 2012", "<Audi>"), 0.95),
    }
    return Recognition(verdict, level=level, **given | changes)


# Words


@pytest.mark.parametrize("key", list(_SAID))
def test_every_sentence_has_the_same_places_in_every_language(key):
    places = [set(re.findall(r"\{(\w+)\}", said)) for said in _SAID[key]]
    assert places[0] == places[1] == places[2]
    assert all(said.strip() for said in _SAID[key])


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("fr-FR,fr;q=0.9,en;q=0.8", "fr"),
        ("ar", "ar"),
        ("de-DE,fr;q=0.9", "en"),
        ("", "en"),
        (None, "en"),
        ("EN-us", "en"),
    ],
)
def test_the_language_is_the_first_that_the_browser_asks_for(header, code):
    assert Language.asked_for(header).code == code


def test_numbers_are_written_as_in_the_language():
    assert ENGLISH.percent(0.944) == "94%"
    assert FRENCH.percent(0.944) == "94 %"
    told = [ENGLISH.percent(share) for share in (1.0, 0.995, 0.994, 0.006, 0.004, 0.0)]
    assert told == ["over 99%", "over 99%", "99%", "1%", "under 1%", "under 1%"]
    assert ARABIC.direction == "rtl"


# The answer


@pytest.mark.parametrize(
    ("verdict", "level", "title", "sure", "told"),
    [
        ("auto-tag", "year", "Audi A4 Sedan, 2012", "55% sure", "answers this sure, 98% were"),
        ("review", "model", "Audi A4 Sedan", "94% sure", "It looks most like Audi A4 Sedan, 2012"),
        ("review", "make", "Audi", "99% sure", "Sure of this much only"),
        ("review", None, "Perhaps Audi A4 Sedan, 2012", "55% sure", "right 95 times in 100"),
    ],
)
def test_the_answer_says_as_much_as_is_sure(verdict, level, title, sure, told):
    markup = answer_html(recognition(verdict, level), True, ENGLISH)
    assert re.search(r"<h2[^>]*>(.*?)</h2>", markup)[1] == f"<bdi>{title}</bdi>"
    assert sure in markup
    assert told in text_of(markup)
    assert f'data-sentence="{title}. {sure}"' in markup


def test_make_model_and_year_have_their_own_certainty():
    markup = answer_html(recognition("auto-tag", "year"), True, ENGLISH)
    rows = re.findall(r"<dt>(.*?)</dt><dd[^>]*>(.*?)</dd><dd>(.*?)</dd>", markup)
    assert [(name, text_of(value), share) for name, value, share in rows] == [
        ("Make", "Audi", "99%"),
        ("Model", "A4 Sedan", "94%"),
        ("Year", "2012", "55%"),
    ]


def test_the_same_answer_stands_once_as_bars():
    markup = answer_html(recognition("auto-tag", "year"), True, ENGLISH)
    assert markup.count("<li>") == 2
    assert "under 1%" in markup


def test_an_uncalibrated_answer_says_so():
    markup = answer_html(recognition("review", None), False, ENGLISH)
    assert "never calibrated" in markup
    assert "<bdi>Audi A4 Sedan, 2012</bdi>" in markup


def test_a_car_that_may_be_of_no_known_class_is_named_with_that_doubt():
    markup = answer_html(recognition("review", None, reason=UNFAMILIAR), True, ENGLISH)
    assert "Perhaps Audi A4 Sedan, 2012" in text_of(markup)
    assert "a car that I do not know" in text_of(markup)


@pytest.mark.parametrize(
    ("reason", "title", "after"),
    [
        (REASONS[OTHER], "This is not a car", "the whole car can be seen"),
        (REASONS[PART], "This is the inside or a part of a car", "from outside"),
        ("this is unlike all 4 classes", "This is a car I do not know", "not in the list under"),
    ],
)
def test_a_rejected_photo_says_what_to_do_and_names_nothing(reason, title, after):
    markup = answer_html(recognition("rejected", None, reason=reason), True, ENGLISH)
    assert title in text_of(markup)
    assert after in text_of(markup)
    assert "Audi" not in markup
    assert "<ol" not in markup


@pytest.mark.parametrize("language", [ENGLISH, FRENCH, ARABIC])
def test_labels_and_texts_are_escaped_in_every_language(language):
    attack = "<img src=x onerror=alert(1)>"
    hostile = Prediction(attack, attack, attack, None, 0.5, 0.5)
    answer = recognition(
        "review", "make", predictions=(hostile,), plausible=Plausible((attack, "b"), 0.95),
        catalogue=attack,
    )  # fmt: skip
    check = Check("cannot tell", "x", None, answer)
    parts = [
        answer_html(answer, True, language),
        refused_html(attack, language),
        check_html(check, attack, language),
    ]
    for markup in parts:
        assert "<img" not in markup
        assert f'lang="{language.code}" dir="{language.direction}"' in markup


def test_cars_that_differ_in_the_year_alone_are_told_so():
    cars = tuple(
        Prediction(f"Audi A4 {year}", "Audi", "A4", year, 0.4, 0.4) for year in (2008, 2012)
    )
    labels = tuple(car.label for car in cars)
    answer = recognition("review", None, predictions=cars, plausible=Plausible(labels, 0.95))
    assert "only the year differs" in answer_html(answer, True, ENGLISH)
    other = Prediction("Audi S4 2012", "Audi", "S4", 2012, 0.4, 0.4)
    answer = recognition(
        "review", None, predictions=(cars[0], other),
        plausible=Plausible((labels[0], other.label), 0.95),
    )  # fmt: skip
    assert "They are all Audi" in text_of(answer_html(answer, True, ENGLISH))


def test_every_car_is_a_numbered_button_and_the_chosen_one_is_pressed():
    boxes = [Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1)]
    markup = figure_html(draw_car(1), boxes, 1, ENGLISH)
    assert re.findall(r'data-car="(\d)" aria-label="(Car \d)" aria-pressed="(\w+)"', markup) == [
        ("0", "Car 1", "false"),
        ("1", "Car 2", "true"),
    ]
    assert "left:50.00%;top:0.00%;width:50.00%" in markup
    alone = figure_html(draw_car(1), boxes[:1], 0, ENGLISH)
    assert "<b>1</b>" not in alone  # a single car needs no number
    drawn = figure_html(draw_car(1), boxes, Box(0.1, 0.2, 0.3, 0.4), ENGLISH)
    assert 'class="mq-frame drawn" style="left:10.00%' in drawn


# The heat map


def test_the_photo_shows_through_where_nothing_was_found(tiny_recognizer):
    found = heat_map(tiny_recognizer, draw_car(3), "BMW")
    layer, photo, both = found.layer(), found.photo, found.overlay()
    assert layer.mode == "RGBA"
    assert layer.size == photo.size == both.size
    alpha = list(layer.getchannel("A").get_flattened_data())
    cold = [place for place, share in enumerate(alpha) if share == 0]
    assert cold
    assert max(alpha) > 200
    before, after = list(photo.get_flattened_data()), list(both.get_flattened_data())
    assert all(before[place] == after[place] for place in cold)


def test_what_the_network_did_not_see_is_framed_off():
    heat = np.ones((2, 2), np.float32)
    layer = HeatMap(Image.new("RGB", (100, 100)), heat, Box(0.5, 0.0, 1.0, 1.0)).layer()
    assert layer.getpixel((10, 50))[3] == 0
    assert layer.getpixel((75, 50))[3] > 200
    assert layer.getpixel((50, 50)) == (255, 255, 255, 255)  # the frame
    whole = HeatMap(Image.new("RGB", (100, 100)), heat, WHOLE).layer()
    assert whole.getpixel((0, 0)) != (255, 255, 255, 255)


def test_a_heat_map_says_how_to_read_it(tiny_recognizer):
    found = heat_map(tiny_recognizer, draw_car(3), "BMW")
    assert "Grad-CAM" in heat_html(found, False, ENGLISH)
    assert "not for the second" in heat_html(found, True, ENGLISH)


# Many photos


@pytest.fixture
def photos(tmp_path) -> list[str]:
    paths = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        draw_car(number).save(path)
        paths.append(str(path))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    return [*paths, str(broken)]


def test_a_table_of_many_photos_is_corrected_and_taken_away(photos, tiny_recognizer, tmp_path):
    given = batch.collect(photos)
    table = batch.Table(len(given))
    for photo, row in zip(given, batch.answers(tiny_recognizer, given), strict=True):
        table.add(row, photo)
    table.correct(1, " =HYPERLINK(1) ")
    markup = table.as_html(tiny_recognizer, ENGLISH)
    assert markup.count("<tr") == 5  # with the head
    assert "broken.jpg is not a picture" in text_of(markup)
    assert str(tmp_path) not in markup
    assert "=HYPERLINK(1)" in markup
    (tmp_path / "out").mkdir()
    table_path, lines_path = table.write(tmp_path / "out", tiny_recognizer)
    rows = list(csv.DictReader(io.StringIO(Path(table_path).read_text("utf-8-sig"))))
    assert [row["path"] for row in rows] == ["0.png", "1.png", "2.png", "broken.jpg"]
    expected = tiny_recognizer.predict(photos[:3])
    assert [row["label"] for row in rows[:3]] == [one.predictions[0].label for one in expected]
    assert [row["correction"] for row in rows] == ["", "'=HYPERLINK(1)", "", ""]
    lines = [json.loads(line) for line in Path(lines_path).read_text("utf-8").splitlines()]
    assert lines[1]["correction"] == "=HYPERLINK(1)"
    assert "correction" not in lines[0]
    with pytest.raises(MarqueError, match="no row 9"):
        table.correct(9, "x")


def packed(path: Path, entries: dict[str, bytes]) -> str:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return str(path)


def test_what_a_zip_may_hold_is_limited(tmp_path, photos, monkeypatch):
    many = {f"{n}.jpg": b"x" for n in range(batch.MAX_ZIPPED + 1)}
    with pytest.raises(MarqueError, match=r"many\.zip holds 201 files; 200 are the limit"):
        batch.collect([packed(tmp_path / "many.zip", many)])
    with pytest.raises(MarqueError, match="61 photos are too many"):
        batch.collect([photos[0]] * (batch.MAX_FILES + 1))
    monkeypatch.setattr(batch, "MAX_BYTES", 1000)
    with pytest.raises(MarqueError, match=r"bomb\.zip holds more than"):
        batch.collect([packed(tmp_path / "bomb.zip", {"a.jpg": bytes(600), "b.jpg": bytes(600)})])


def test_a_zip_that_cannot_be_read_says_why(tmp_path):
    path = Path(packed(tmp_path / "cars.zip", {"a.jpg": bytes(range(256)) * 8}))
    content = bytearray(path.read_bytes())
    content[60] ^= 255
    path.write_bytes(content)
    with pytest.raises(MarqueError, match=r"cars\.zip is damaged"):
        batch.collect([str(path)])
    content = bytearray(path.read_bytes())
    for head in (content.find(b"PK\x03\x04") + 6, content.find(b"PK\x01\x02") + 8):
        content[head] |= 1  # says that it is encrypted
    path.write_bytes(content)
    with pytest.raises(MarqueError, match=r"cars\.zip cannot be unpacked: .*encrypted"):
        batch.collect([str(path)])


def test_an_empty_zip_holds_no_photos(tmp_path):
    with pytest.raises(MarqueError, match="there are no photos"):
        batch.collect([packed(tmp_path / "empty.zip", {"__MACOSX/a.jpg": b"", ".x": b""})])


# Feedback


def test_feedback_is_kept_as_a_source_that_the_trainer_reads(tmp_path, tiny_recognizer):
    kept = Feedback(str(tmp_path / "kept"))
    answer = tiny_recognizer.predict(draw_car(1))
    kept.keep("Audi TT Coupe", answer, tiny_recognizer.revision, draw_car(1))
    kept.keep("../BMW: X5", answer, tiny_recognizer.revision, draw_car(2))
    kept.keep("BMW", answer, tiny_recognizer.revision)
    lines = [
        json.loads(line) for line in (tmp_path / "kept/feedback.jsonl").read_text().splitlines()
    ]
    assert [line["said"] for line in lines] == ["Audi TT Coupe", "../BMW: X5", "BMW"]
    assert lines[0]["label"] == answer.predictions[0].label
    assert [bool(line["photo"]) for line in lines] == [True, True, False]
    assert (tmp_path / "kept" / lines[1]["photo"]).resolve().is_relative_to(tmp_path / "kept")
    data = read_photos(
        [f"feedback={tmp_path / 'kept' / 'photos'}"],
        PhotoCache(tmp_path / "cache", TINY_DATA_CONFIG),
    )
    assert sorted(photo.label for photo in data.photos) == ["Audi TT Coupe", "BMW X5"]


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MarqueError, match="cannot be written"):
        Feedback(str(tmp_path / "file" / "below"))


# Facts

TABLE = """make,model,year,MSRP,Displacement,Length (in),Body Style
Audi,A4,2012,32500,20,185.2,4dr
Audi,A4,2015,35900,20,185.1,4dr
BMW,X5,2008,46200,,191.1,SUV
BMW,X5,2010,48000,30,191.1,SUV
"""


def asked(make: str, model: str, year: int | None) -> Prediction:
    return Prediction(f"{make} {model}", make, model, year, 0.9, 0.9)


@pytest.fixture
def facts(tmp_path) -> Facts:
    (tmp_path / "specs.csv").write_text(TABLE)
    return Facts(str(tmp_path / "specs.csv"))


def test_facts_say_which_year_they_are_of(facts):
    exact = facts.of(asked("Audi", "A4 Sedan", 2012))
    assert (exact.car.year, exact.how) == (2012, "without body style")
    near = facts.of(asked("Audi", "A4", 2009))
    assert (near.car.year, near.how) == (2012, "another year")
    newest = facts.of(asked("BMW", "X5", None))
    assert (newest.car.year, newest.how) == (2010, NEWEST)
    assert facts.of(asked("Lada", "Niva", 2012)) is None


def test_facts_have_units_and_a_source(facts):
    told = text_of(facts.as_html(asked("Audi", "A4", 2009), ENGLISH))
    assert "Displacement (L) 2.0" in told
    assert "Length (in) 185.2" in told
    assert "from specs.csv" in told
    assert "Another year than that of the photo" in told
    assert "no such car" in facts.as_html(asked("Lada", "Niva", 2012), ENGLISH)


def test_facts_come_from_parquet_too(tmp_path, facts):
    table = pyarrow.csv.read_csv(tmp_path / "specs.csv")
    pyarrow.parquet.write_table(table, tmp_path / "specs.parquet")
    car = asked("Audi", "A4", 2012)
    assert Facts(str(tmp_path / "specs.parquet")).of(car).values == facts.of(car).values
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(MarqueError, match="is no Parquet file"):
        Facts(str(tmp_path / "bad.parquet"))


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(MarqueError, match="cannot be read"):
        Facts(str(tmp_path / "nowhere.csv"))


@pytest.mark.real
def test_the_real_table_tells_of_cars_that_the_checkpoint_names(real_data, bundled):
    facts = Facts(str(real_data / "car_specs.csv"))
    cars = zip(bundled.labels, bundled.cars, strict=True)
    found = [
        match for label, car in cars
        if (match := facts.of(Prediction(label, car.make, car.model, car.year, 1, 1)))
    ]  # fmt: skip
    assert len(found) >= 50
    horsepower = [match.values["net_horsepower"] for match in found]
    assert all(value is None or value < 800 for value in horsepower)


# The model


def test_the_page_of_the_model_tells_what_was_measured(bundled):
    metrics = json.loads((bundled.checkpoint.folder / "metrics.json").read_text())
    told = about_html(bundled, ENGLISH)
    for name in ("listings_brazil", "stanford_cars"):
        source = metrics["sources"][name]
        assert ENGLISH.percent(source["top1"]["value"]) in told
        assert f"{source['photos']:,}" in told
    assert told.index("Listings (Brazil)") < told.index("Stanford Cars")
    assert told.count("<li>") == len(bundled.labels)
    assert bundled.revision in told


def test_a_checkpoint_without_measurements_says_so(tiny_recognizer):
    assert "No measurements lie beside" in about_html(tiny_recognizer, ENGLISH)
    assert "Aucune mesure" in about_html(tiny_recognizer, FRENCH)


# Visits


def visit(name: str):
    return SimpleNamespace(session_hash=name)


def test_what_is_kept_of_a_visit_is_for_that_visit_alone(monkeypatch):
    monkeypatch.setattr(sessions, "_MOST", 2)
    kept = Sessions()
    kept.put(visit("a"), 1)
    kept.put(visit("b"), 2)
    assert (kept.get(visit("a")), kept.get(visit("b")), kept.get(visit("c"))) == (1, 2, None)
    kept.put(visit("c"), 3)  # the visit that was quiet longest is forgotten
    assert (kept.get(visit("a")), kept.get(visit("b")), kept.get(visit("c"))) == (None, 2, 3)
    kept.put(visit("c"), None)
    assert kept.get(visit("c")) is None
