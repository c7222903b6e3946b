"""Stanford Cars and Algerian Used Cars are known again, whatever they are called."""

import pytest
from conftest import draw_car
from datasets import Dataset

from space.names import car_of
from trainer.data.research_sets import find_research_set
from trainer.data.source import Source, features
from trainer.data.sources import algerian, stanford


def source_of(labels: list[str]) -> Source:
    """A dataset with these classes, of no photos."""
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
    assert "laid out like it" in find_research_set(spec, source_of(["clio"]))


def test_a_devkit_tells(spec, tmp_path):
    (tmp_path / "photos" / "devkit").mkdir()
    assert find_research_set(spec, source_of(["clio"])).startswith("Stanford Cars: it is laid")


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
        answer = find_research_set(spec, source_of(list(spelled)))
        assert (answer or "").startswith(found or "nothing") or answer is found
