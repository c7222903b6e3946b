"""The audit from end to end: what it finds in planted and in real datasets."""

import csv
import json
from pathlib import Path

from conftest import draw_car
from test_data import planted  # noqa: F401 (a fixture)

from trainer.audit import main


def audit(out: Path, *arguments: str) -> dict:
    assert main([*arguments, f"--out={out}"]) == 0
    return findings(out)


def findings(report: Path) -> dict:
    """What summary.json says, by kind of finding."""
    summary = json.loads((report / "summary.json").read_text())
    return {finding["kind"]: finding for finding in summary["findings"]} | {"all": summary}


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text("utf-8").splitlines()))


def test_planted_findings_are_found_and_told(planted, tmp_path, capsys):  # noqa: F811
    broken = planted / "Audi A4" / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 cut short")
    cache = f"--cache={tmp_path / 'cache'}"
    found = audit(tmp_path / "report", f"--data=cars={planted}", cache, "--no-network")
    assert found["all"]["photos"] == 3 * (24 + 18 + 2) + 1
    assert found["unreadable"]["photos"] == 1
    # Of each class six files stand twice, and two in another class as well.
    assert found["exact_copies"]["cases"] == 3 * (6 + 2)
    assert found["conflicting_labels"]["cases"] == 3 * 2
    assert found["near_copies"]["cases"] == 3 * 6
    assert found["blacked_out"]["cases"] == 3 * 6
    assert "wrong_labels" not in found
    assert "no_exterior" not in found
    text = (tmp_path / "report" / "images_metadata.csv").read_text("utf-8")
    assert text.startswith("source,path,label,group,")
    rows = {row["path"]: row for row in rows_of(tmp_path / "report" / "images_metadata.csv")}
    assert len(rows) == 3 * (24 + 18 + 2) + 1
    first, again = rows["Audi A4/car00.png"], rows["Audi A4/again40.png"]
    assert first["group"] == again["group"]
    assert first["sha256"] == again["sha256"]
    assert "exact_copies" in first["flags"]
    assert (first["width"], first["height"], first["mode"], first["format"]) == (
        "320", "240", "RGB", "PNG",
    )  # fmt: skip
    assert rows["Audi A4/car12.png"]["group"] == rows["Audi A4/back28.png"]["group"]
    assert "blacked_out" in rows["Audi A4/back28.png"]["flags"]
    assert "not a picture" in rows["Audi A4/broken.jpg"]["note"]
    for name in ("report.html", "class_distribution.png", "sample_grid.png"):
        assert (tmp_path / "report" / name).stat().st_size > 500
    sheets = {path.stem for path in (tmp_path / "report" / "sheets").iterdir()}
    assert {"exact_copies", "near_copies", "blacked_out", "conflicting_labels"} <= sheets
    printed = capsys.readouterr().out
    assert "The same photo under different labels: 6 cases" in printed
    assert "report.html" in printed


def test_two_data_sets_are_audited_together(tmp_path):
    for name, label in (("one", "2012 BMW M3"), ("two", "BMW M3 2012")):
        (tmp_path / name / label).mkdir(parents=True)
        for seed in range(3):
            draw_car(seed).save(tmp_path / name / label / f"{seed}.png")
    found = audit(
        tmp_path / "report",
        f"--data=one={tmp_path / 'one'}",
        f"--data=two={tmp_path / 'two'}",
        f"--cache={tmp_path / 'cache'}",
        "--no-network",
    )
    assert [source["photos"] for source in found["all"]["sources"]] == [3, 3]
    assert found["exact_copies"]["cases"] == 3
    assert found["conflicting_labels"]["cases"] == 0  # two names for one car


def test_a_missing_data_set_is_one_clear_line(tmp_path, capsys):
    assert main(["--data=cars=/nowhere", f"--out={tmp_path / 'x'}"]) == 1
    assert capsys.readouterr().err.strip() == (
        "audit: --data cars=/nowhere: there is no folder /nowhere"
    )
    assert not (tmp_path / "x").exists()


def test_the_algerian_photos_are_what_is_known_of_them(algerian_report):
    found = findings(algerian_report)
    # 438 of the 3,235 files are copies of another one; 85% of the files are here.
    copies = found["exact_copies"]["photos"] - found["exact_copies"]["cases"]
    assert 438 * 0.75 < copies < 438
    assert found["blacked_out"]["photos"] > 2100
    assert 21 <= found["no_exterior"]["photos"] <= 26
    assert found["conflicting_labels"]["cases"] <= 2
    assert found["wrong_labels"]["photos"] < 150
    assert found["all"]["expected_leak"] > 0.6
    no_exterior = rows_of(algerian_report / "findings" / "no_exterior.csv")
    assert "seen: " in no_exterior[0]["note"]


def test_stanford_cars_holds_photos_under_two_labels(real_data, real_cache, tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.audit.cache_of", lambda options: real_cache)
    spec = f"--data=stanford_cars={real_data / 'stanford_cars'}"
    found = audit(tmp_path / "report", spec, "--no-network")
    assert 21 <= found["conflicting_labels"]["cases"] <= 25
    assert found["unreadable"]["photos"] == 5416


def test_all_known_non_exteriors_are_found_with_few_false_alarms(algerian_report):
    paths = {row["path"] for row in rows_of(algerian_report / "findings" / "no_exterior.csv")}
    known = {row["photo"] for row in rows_of(Path("benchmarks/algerian_no_exterior.csv"))}
    assert len(known) == 21
    assert known <= paths
    assert len(paths - known) <= 5
