"""Stanford Cars and Algerian Used Cars are known again, whatever they are called."""

from dataclasses import replace

import pytest
from conftest import draw_car
from datasets import Dataset

from trainer.data import research_sets
from trainer.data.names import car_of
from trainer.data.research_sets import find_file, find_research_set, main
from trainer.data.source import Source, content_key, features
from trainer.data.sources import algerian, read_source, stanford
from trainer.data.splits import Photo


def source_of(labels: list[str]) -> Source:
    """A data set with these classes, of no photos."""
    kinds = features(labels)
    nothing = Dataset.from_dict({column: [] for column in kinds}, features=kinds)
    return Source("mine", nothing, tuple(car_of(label) for label in labels))


@pytest.fixture
def spec(tmp_path) -> str:
    (tmp_path / "photos" / "Audi A4").mkdir(parents=True)
    draw_car(0).save(tmp_path / "photos" / "Audi A4" / "0.png")
    return f"mine={tmp_path / 'photos'}"


@pytest.mark.parametrize("adapter", ["stanford_cars", "algerian_used_cars"])
def test_the_layout_tells(spec, adapter):
    spec = spec.replace("=", f"={adapter}:")
    assert "laid out like it" in find_research_set(spec, source_of(["clio"]), [])


def test_a_devkit_tells(spec, tmp_path):
    (tmp_path / "photos" / "devkit").mkdir()
    assert find_research_set(spec, source_of(["clio"]), []).startswith("Stanford Cars: it is laid")


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (stanford.LABELS, "Stanford Cars: 196 of its 196 classes"),
        (stanford.LABELS[:150], "Stanford Cars: 150 of its 196 classes"),
        (stanford.LABELS[:100], None),
        (algerian.LABELS, "Algerian Used Cars: 20 of its 20 classes"),
        (("golf", "polo", "clio", "megane", "duster", "logan", "sandero", "octavia"), None),
    ],
)
def test_most_class_names_tell_in_any_spelling(spec, labels, found):
    for spelled in (labels, [label.upper().replace(" ", "_") for label in labels]):
        answer = find_research_set(spec, source_of(list(spelled)), [])
        assert (answer or "").startswith(found or "nothing") or answer is found


def test_one_file_among_others_tells(spec, real_data):
    taken_from = min((real_data / "algerian_used_cars").rglob("*.jpg"))
    own = Photo("mine", "Audi A4/own.jpg", "Audi A4", key="0" * 64)
    key = content_key(taken_from.read_bytes())
    taken = replace(own, path="Audi A4/taken.jpg", key=key)
    assert find_research_set(spec, source_of(["Audi A4"]), [own]) is None
    found = find_research_set(spec, source_of(["Audi A4"]), [own, taken])
    assert found == "Algerian Used Cars: Audi A4/taken.jpg is one of its photos"
    elsewhere = replace(taken, source="other")
    assert find_research_set(spec, source_of(["Audi A4"]), [elsewhere]) is None


@pytest.mark.parametrize(
    ("name", "title"),
    [("stanford_cars", "Stanford Cars"), ("algerian_used_cars", "Algerian Used Cars")],
)
def test_every_file_of_a_set_is_known(real_data, name, title):
    readers = read_source(f"{name}={real_data / name}").readers()
    assert len(readers) > 2000
    assert {find_file(content_key(read())) for read in readers} == {title}


def test_other_files_are_not_known(spec):
    (read,) = read_source(spec).readers()
    assert find_file(content_key(read())) is None


def test_a_list_has_one_short_hash_for_each_different_file(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(research_sets, "_FOLDER", tmp_path)
    photo = folders / "Audi A4 Sedan 2012" / "0.png"
    (photo.parent / "again.png").write_bytes(photo.read_bytes())
    assert main([f"stanford_cars={folders}"]) == 0
    lines = (tmp_path / "stanford_cars_files.txt").read_text("utf-8").splitlines()
    assert content_key(photo.read_bytes())[:12] in lines
    assert len(lines) == 20
    assert lines == sorted(lines)


def test_a_list_of_no_photos_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(research_sets, "_FOLDER", tmp_path)
    for wrong in (f"stanford_cars={tmp_path}", f"my_cars={tmp_path}"):
        with pytest.raises(SystemExit, match="2"):
            main([wrong])
    assert not [*tmp_path.iterdir()]
