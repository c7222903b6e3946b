"""A small run of `benchmarks.fuzz`; its full size is for the benchmark."""

import random

import pytest

from benchmarks import fuzz

FEW = {"photos": 1500, "zips": 150, "tables": 200, "mat": 400, "checkpoints": 80}


@pytest.mark.parametrize("kind", list(FEW))
def test_damaged_files_are_answered_or_refused_and_nothing_else(kind):
    told = fuzz.part(kind, 1_000_000, FEW[kind])
    assert [finding for finding in told["findings"] if ": took " not in finding] == []
    assert sum(told["outcomes"].values()) == FEW[kind]
    assert len(told["outcomes"]) == 2  # both happen, or the run would show nothing


@pytest.mark.parametrize(
    ("kind", "number"), [("tables", 72), ("tables", 5199), ("mat", 515), ("mat", 4814)]
)
def test_what_was_found_stays_mended(kind, number):
    assert fuzz.part(kind, number, 1)["findings"] == []


def test_a_finding_can_be_made_again():
    seeds = [bytes(range(256)) * 4]
    assert fuzz.mutated(random.Random(7), seeds) == fuzz.mutated(random.Random(7), seeds)
    assert fuzz.mutated(random.Random(7), seeds) != fuzz.mutated(random.Random(8), seeds)


def test_what_is_not_meant_is_a_finding(monkeypatch):
    def careless(content: bytes) -> None:
        raise KeyError("x")

    monkeypatch.setitem(fuzz.KINDS, "photos", lambda folder: ([b"abc"], careless, ValueError))
    assert fuzz.part("photos", 0, 2)["findings"][0].startswith("0: KeyError at test_fuzz.py:")
