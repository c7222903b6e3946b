"""Adapters: every layout becomes the same table, and what cannot be matched is listed."""

import os
import shutil
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import draw_car
from datasets import ClassLabel, Dataset, Features, Image, Value
from scipy.io import savemat

from space.errors import DataError
from space.labels import Car
from trainer.data.classes import match, unite
from trainer.data.source import Columns
from trainer.data.sources import read_source, read_sources
from trainer.data.sources.mat import read_array
from trainer.data.sources.stanford import LABELS


def photo(path: Path, seed: int = 0) -> None:
    """Draws a car there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_car(seed, size=(48, 36)).save(path)


@pytest.fixture
def stanford(tmp_path) -> Path:
    """The original layout, with one of four files missing; classes count from 1."""
    folder = tmp_path / "stanford"
    (folder / "devkit").mkdir(parents=True)
    (folder / "cars_train").mkdir()
    names = np.array(["AM General Hummer SUV 2000", "Acura RL Sedan 2012"], dtype=object)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names})
    fields = [(f"{n:05}.jpg", 1 + n % 2) for n in range(1, 5)]
    rows = np.array(fields, dtype=[("fname", object), ("class", object)])
    savemat(folder / "devkit" / "cars_train_annos.mat", {"annotations": rows})
    for n in (1, 2, 4):
        draw_car(n).save(folder / "cars_train" / f"{n:05}.jpg")
    return folder


def test_class_folders_are_classes(folders):
    source = read_source(f"cars={folders}")
    assert source.label_names == ["Audi A4 Sedan 2012", "BMW M3 Coupe 2012"]
    assert len(source.photos) == 20
    assert source.photos["path"][9] == "Audi A4 Sedan 2012/more/9.PNG"


def test_the_stanford_layout_counts_classes_from_one(stanford):
    source = read_source(f"cars={stanford}")
    assert source.photos["path"] == [f"cars_train/0000{n}.jpg" for n in (1, 2, 4)]
    assert source.photos["label"] == [1, 0, 0]


def test_missing_files_are_listed(stanford):
    (problem,) = read_source(f"cars={stanford}").problems
    assert (problem.path, problem.reason) == ("cars_train/00003.jpg", "the file is missing")


def test_the_real_stanford_cars_lack_part_of_the_test_half(real_data):
    source = read_source(f"stanford_cars={real_data / 'stanford_cars'}")
    assert (len(source.photos), len(source.problems)) == (10769, 5416)
    assert len(source.label_names) == 196
    assert source.label_names[0] == "AM General Hummer SUV 2000"


def test_a_name_alone_is_a_folder_of_marque_data(folders, monkeypatch):
    monkeypatch.setenv("MARQUE_DATA", str(folders.parent))
    assert len(read_source("cars").photos) == 20
    monkeypatch.delenv("MARQUE_DATA")
    with pytest.raises(DataError, match="set MARQUE_DATA"):
        read_source("cars")


@pytest.mark.parametrize("spec", ["=folder", "cars=", "cars=/nowhere", "cars=./nowhere"])
def test_a_source_that_is_not_there_is_refused_by_its_name(spec):
    with pytest.raises(DataError, match=f"--data '?{spec}"):
        read_source(spec)


def test_two_sources_need_two_names(folders):
    with pytest.raises(DataError, match="same name"):
        read_sources([f"cars={folders}", f"cars={folders}"])


# Stanford Cars


def test_a_mirror_is_matched_whatever_its_case_and_punctuation(tmp_path):
    for part, folder in (
        ("train", "acura rl sedan 2012"),
        ("train", "Ram C-V Cargo Van Minivan 2012"),
        ("test", "Mercedes-Benz_C-Class_Sedan_2012"),
        ("test", "Acura RX Sedan 2012"),
    ):
        photo(tmp_path / part / folder / "1.jpg")
    source = read_source(f"stanford_cars={tmp_path}")
    found = {
        path: (source.label_names[label], official)
        for path, label, official in zip(
            source.photos["path"], source.photos["label"], source.photos["official"], strict=True
        )
    }
    assert found == {
        "train/acura rl sedan 2012/1.jpg": ("Acura RL Sedan 2012", "train"),
        "train/Ram C-V Cargo Van Minivan 2012/1.jpg": ("Ram C/V Cargo Van Minivan 2012", "train"),
        "test/Mercedes-Benz_C-Class_Sedan_2012/1.jpg": ("Mercedes-Benz C-Class Sedan 2012", "test"),
    }
    (problem,) = source.problems
    assert problem.path == "test/Acura RX Sedan 2012/1.jpg"
    assert problem.reason == "the folder 'Acura RX Sedan 2012' is none of the 196 classes"
    assert tuple(source.label_names) == LABELS


def test_a_mirror_without_any_class_is_refused(tmp_path):
    photo(tmp_path / "Yugo 45 1988" / "1.jpg")
    with pytest.raises(DataError, match="no folder there is named like a class"):
        read_source(f"stanford_cars={tmp_path}")


def test_a_damaged_devkit_is_named(stanford):
    (stanford / "devkit" / "cars_meta.mat").write_bytes(b"junk")
    with pytest.raises(
        DataError, match=r"cars_meta\.mat is not a file of the Stanford Cars devkit"
    ):
        read_source(f"cars={stanford}")


def test_the_labels_are_those_of_the_real_devkit(real_data):
    source = read_source(f"stanford_cars={real_data / 'stanford_cars'}")
    assert tuple(source.label_names) == LABELS


# Algerian Used Cars


def test_algerian_folders_mean_makes_and_models(tmp_path):
    names = ("chevroulet aveo", "bmw serie 1", "clio", "nemo citroen", "octavia", "golf 7")
    for folder in names:
        photo(tmp_path / "DATA" / folder / "car1.jpg")
    (tmp_path / "DATA" / "clio" / ".DS_Store").write_bytes(b"junk")
    source = read_source(f"algerian_used_cars={tmp_path}")
    cars = dict(zip(source.label_names, source.cars, strict=True))
    assert cars["chevroulet aveo"] == Car("Chevrolet", "Aveo", None)
    assert cars["bmw serie 1"] == Car("BMW", "1 Series", None)
    assert cars["clio"] == Car("Renault", "Clio", None)
    assert cars["nemo citroen"] == Car("Citroën", "Nemo", None)
    assert cars["octavia"] == Car("Škoda", "Octavia", None)
    assert len(source.photos) == 5
    assert [problem.path for problem in source.problems] == ["DATA/golf 7/car1.jpg"]


def test_the_real_algerian_photos_are_all_matched(real_data):
    source = read_source(f"algerian_used_cars={real_data / 'algerian_used_cars'}")
    assert len(source.photos) > 2700
    assert source.problems == ()
    assert len(set(source.photos["label"])) == 20
    assert len({car.make for car in source.cars}) == 12


def test_a_zip_is_read_like_its_folder(tmp_path):
    photo(tmp_path / "car.jpg")
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.write(tmp_path / "car.jpg", "algerian/DATA/clio/car1.jpg")
    for _ in range(2):  # the second time it is unpacked already
        source = read_source(f"algerian_used_cars={tmp_path / 'archive.zip'}")
        assert source.photos["path"] == ["algerian/DATA/clio/car1.jpg"]
    (tmp_path / "broken.zip").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"broken\.zip cannot be unpacked"):
        read_source(f"algerian_used_cars={tmp_path / 'broken.zip'}")


def test_kaggle_without_kagglehub_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)  # as if it were not installed
    with pytest.raises(DataError, match=r"pip install kagglehub.*kaggle\.json.*zip by hand"):
        read_source("algerian_used_cars=kaggle:someone/algerian-used-cars")


# Folders and file names


def labels_of(folder: Path, *paths: str) -> dict[str, Car]:
    for path in paths:
        photo(folder / path)
    source = read_source(f"mine=folder:{folder}")
    return dict(zip(source.label_names, source.cars, strict=True))


def test_folder_names_are_read_in_either_order(tmp_path):
    assert labels_of(
        tmp_path, "2023 Acura MDX/1.jpg", "BMW M3 Coupe 2012/1.jpg", "toyota/1.jpg", "Zaz 965/1.jpg"
    ) == {
        "2023 Acura MDX": Car("Acura", "MDX", 2023),
        "BMW M3 Coupe 2012": Car("BMW", "M3 Coupe", 2012),
        "Zaz 965": Car("Zaz", "965", None),
        "toyota": Car("Toyota", "", None),
    }


def test_makes_with_folders_of_models_are_nested_classes(tmp_path):
    assert labels_of(
        tmp_path, "BMW/X5/1.jpg", "BMW/X5/2019/1.jpg", "Land Rover/Defender/front/1.jpg"
    ) == {
        "BMW X5": Car("BMW", "X5", None),
        "BMW X5 2019": Car("BMW", "X5", 2019),
        "Land Rover Defender": Car("Land Rover", "Defender", None),
    }


def test_parts_share_one_class_list_whatever_classes_each_has(tmp_path):
    for path in ("train/Audi/1.jpg", "train/Kia/1.jpg", "val/Kia/1.jpg", "test/Zaz/1.jpg"):
        photo(tmp_path / path)
    source = read_source(f"mine={tmp_path}")
    assert source.label_names == ["Audi", "Kia", "Zaz"]
    assert dict(zip(source.photos["path"], source.photos["official"], strict=True)) == {
        "train/Audi/1.jpg": "train",
        "train/Kia/1.jpg": "train",
        "val/Kia/1.jpg": "validation",
        "test/Zaz/1.jpg": "test",
    }


def test_photos_without_a_class_folder_are_pointed_to_file_names(tmp_path):
    photo(tmp_path / "bmw_x5.jpg")
    with pytest.raises(DataError, match="write mine=filenames:"):
        read_source(f"mine={tmp_path}")


def test_file_names_say_what_they_show_word_by_word(tmp_path):
    for name in (
        "bmw_x5_2019_01.jpg",
        "2023 Tesla Model S_82.jpg",
        "chevy-camaro.jpg",
        "vw golf (3).jpg",
        "scamper_van.jpg",  # no Camper, no Amp, nothing
        "audi vs bmw.jpg",
        "IMG_0001.jpg",
    ):
        photo(tmp_path / name)
    source = read_source(f"mine=filenames:{tmp_path}")
    names = [source.label_names[label] for label in source.photos["label"]]
    assert dict(zip(source.photos["path"], names, strict=True)) == {
        "2023 Tesla Model S_82.jpg": "Tesla Model S 2023",
        "bmw_x5_2019_01.jpg": "BMW x5 2019",
        "chevy-camaro.jpg": "Chevrolet camaro",
        "vw golf (3).jpg": "Volkswagen golf",
    }
    assert {problem.path for problem in source.problems} == {
        "IMG_0001.jpg",
        "audi vs bmw.jpg",
        "scamper_van.jpg",
    }


# Hub and Parquet


def parquet(folder: Path, part: str, features: Features, rows: list[dict]) -> None:
    folder.mkdir(exist_ok=True)
    Dataset.from_list(rows, features=features).to_parquet(folder / f"{part}.parquet")


def test_other_columns_of_a_hub_data_set_can_be_named(tmp_path):
    photo(tmp_path / "car.png")
    row = {"picture": {"bytes": (tmp_path / "car.png").read_bytes(), "path": None}}
    features = Features(picture=Image(), brand=Value("string"))
    rows = [row | {"brand": "bmw m3 coupe 2012"}, row | {"brand": "Zaz"}, row | {"brand": None}]
    parquet(tmp_path / "set", "train", features, rows)
    with pytest.raises(DataError, match="--image-column and --label-column name others"):
        read_source(f"mine={tmp_path / 'set'}")
    source = read_source(f"mine={tmp_path / 'set'}", Columns("picture", "brand"))
    assert source.label_names == ["BMW M3 Coupe 2012", "Zaz"]
    assert source.readers()[0]() == (tmp_path / "car.png").read_bytes()
    assert [problem.reason for problem in source.problems] == ["it has no class"]


def test_parts_of_parquet_are_official_parts(tmp_path):
    photo(tmp_path / "car.png")
    image = {"bytes": (tmp_path / "car.png").read_bytes(), "path": "car.png"}
    features = Features(image=Image(), label=ClassLabel(names=["Audi", "Kia"]))
    for part, label in (("train", 0), ("test", 1)):
        parquet(tmp_path / "set", part, features, [{"image": image, "label": label}])
    source = read_source(f"mine={tmp_path / 'set'}")
    assert source.photos["official"] == ["train", "test"]
    assert source.photos["label"] == [0, 1]


# Several at once


def test_what_means_the_same_car_is_one_class(tmp_path):
    for path in ("a/BMW M3 2012/1.jpg", "a/Golf/1.jpg", "b/2012 bmw m3/1.jpg", "b/VW Golf/1.jpg"):
        photo(tmp_path / path)
    photo(tmp_path / "c" / "clio" / "1.jpg")
    photo(tmp_path / "c" / "Golf" / "1.jpg")
    sources = read_sources(
        [f"a={tmp_path / 'a'}", f"b={tmp_path / 'b'}", f"algerian_used_cars={tmp_path / 'c'}"]
    )
    classes = unite(sources)
    assert classes.targets["a", "BMW M3 2012"] == classes.targets["b", "2012 bmw m3"]
    # In an unknown folder "Golf" is a name and no more; of the Algerian set it is known to be a VW.
    assert classes.targets["algerian_used_cars", "Golf"] == classes.targets["b", "VW Golf"]
    assert classes.targets["a", "Golf"] != classes.targets["b", "VW Golf"]
    assert len(classes.labels) == len(set(classes.labels)) == 3 + 19
    assert classes.labels[:3] == ("BMW M3 2012", "Golf", "VW Golf")


def test_one_name_for_two_cars_is_told_apart_by_its_source(tmp_path):
    photo(tmp_path / "a" / "Golf" / "1.jpg")
    photo(tmp_path / "c" / "clio" / "1.jpg")
    sources = read_sources([f"a={tmp_path / 'a'}", f"algerian_used_cars={tmp_path / 'c'}"])
    labels = unite(sources).labels
    assert "Golf" in labels
    assert "Golf (algerian_used_cars)" in labels


def test_a_source_is_matched_to_the_classes_of_a_checkpoint(tmp_path):
    photo(tmp_path / "2012 bmw m3" / "1.jpg")
    photo(tmp_path / "Zaz" / "1.jpg")
    source = read_source(f"mine={tmp_path}")
    cars = [Car("BMW", "M3", 2012), Car("Audi", "A4", None)]
    assert match(source, ["BMW M3 2012", "Audi A4"], cars) == {"2012 bmw m3": "BMW M3 2012"}


# Folders as people have them


def files_of(folder: Path, *paths: str) -> dict[str, tuple[str, str]]:
    """For each photo that is read, its label and official part."""
    for path in paths:
        photo(folder / path)
    source = read_source(f"mine=folder:{folder}")
    names = source.label_names
    rows = zip(*(source.photos[c] for c in ("path", "label", "official")), strict=True)
    return {path: (names[label], official) for path, label, official in rows}


def test_unlabeled_part_beside_labeled_ones_is_no_class(tmp_path):
    assert files_of(tmp_path, "train/Audi/1.jpg", "train/Kia/1.jpg", "test/1.jpg") == {
        "train/Audi/1.jpg": ("Audi", "train"),
        "train/Kia/1.jpg": ("Kia", "train"),
    }
    (problem,) = read_source(f"mine=folder:{tmp_path}").problems
    assert (problem.path, problem.reason) == ("test/1.jpg", "it lies in no folder of a class")


@pytest.mark.parametrize("around", ["data", "data/cars"])
def test_folder_around_everything_is_no_class(tmp_path, around):
    paths = [f"{around}/{path}" for path in ("Train/Audi/1.jpg", "Train/Kia/1.jpg")]
    assert files_of(tmp_path, *paths) == dict(
        zip(paths, [("Audi", "train"), ("Kia", "train")], strict=True)
    )


def test_make_around_everything_stays_the_make(tmp_path):
    assert set(files_of(tmp_path, "BMW/X5/1.jpg", "BMW/X3/1.jpg").values()) == {
        ("BMW X5", ""), ("BMW X3", ""),
    }  # fmt: skip


def test_hidden_folders_are_no_classes_and_strays_are_listed(tmp_path):
    found = files_of(
        tmp_path, "Audi/1.jpg", "Kia/1.jpg", ".ipynb_checkpoints/1.jpg", "__MACOSX/Audi/1.jpg",
        "stray.jpg",
    )  # fmt: skip
    assert set(found) == {"Audi/1.jpg", "Kia/1.jpg"}
    (problem,) = read_source(f"mine=folder:{tmp_path}").problems
    assert problem.path == "stray.jpg"


def test_linked_class_folders_are_read(tmp_path):
    photo(tmp_path / "elsewhere/1.jpg")
    photo(tmp_path / "cars/Audi/1.jpg")
    (tmp_path / "cars/Kia").symlink_to(tmp_path / "elsewhere")
    assert files_of(tmp_path / "cars") == {"Audi/1.jpg": ("Audi", ""), "Kia/1.jpg": ("Kia", "")}


@pytest.mark.parametrize("bad", [os.fsdecode(b"caf\xe9"), "two\nlines", "a\x1bb"])
@pytest.mark.parametrize("where", ["{}/1.jpg", "Audi/{}.jpg"])
def test_bad_name_costs_one_row(tmp_path, bad, where):
    path = where.format(bad)
    assert set(files_of(tmp_path, "Audi/1.jpg", "Kia/1.jpg", path)) == {"Audi/1.jpg", "Kia/1.jpg"}
    (problem,) = read_source(f"mine=folder:{tmp_path}").problems
    assert problem.path == path.encode("utf-8", "backslashreplace").decode()
    assert "rename it" in problem.reason


def test_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    photo(tmp_path / "cars/Audi/1.jpg")
    assert len(read_source("mine=~/cars").photos) == 1
    assert len(read_source("mine=folder:~/cars").photos) == 1


# Stanford Cars and zips as people have them


@pytest.mark.parametrize(
    ("devkit", "cars"),
    [
        ("car_devkit/devkit", "cars_train/cars_train"),
        ("stanford_cars/devkit", "stanford_cars/cars_train"),
        ("stanford_cars/car_devkit/devkit", "stanford_cars/cars_train/cars_train"),
    ],
)
def test_the_layouts_of_mirrors_are_read(stanford, tmp_path, devkit, cars):
    folder = tmp_path / "mirror"
    for source, target in (("devkit", devkit), ("cars_train", cars)):
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (stanford / source).rename(folder / target)
    source = read_source(f"cars={folder}")
    assert source.photos["path"] == [f"{cars}/0000{n}.jpg" for n in (1, 2, 4)]
    assert source.photos["label"] == [1, 0, 0]


@pytest.mark.parametrize("number", [0, -1, 3])
def test_impossible_class_number_is_refused(stanford, number):
    rows = np.array([("00001.jpg", number)], dtype=[("fname", object), ("class", object)])
    savemat(stanford / "devkit" / "cars_train_annos.mat", {"annotations": rows})
    with pytest.raises(DataError, match=rf"00001\.jpg has the class {number}, .* from 1 to 2"):
        read_source(f"cars={stanford}")


def test_one_file_for_all_photos_is_read(tmp_path):
    kinds = [("relative_im_path", object), ("class", object), ("test", object)]
    rows = np.array([("car_ims/1.jpg", 2, 0), ("car_ims/2.jpg", 1, 1)], dtype=kinds)
    names = np.array(["AM General Hummer SUV 2000", "Acura RL Sedan 2012"], dtype=object)
    savemat(tmp_path / "cars_annos.mat", {"annotations": rows, "class_names": names})
    for n in (1, 2):
        photo(tmp_path / f"car_ims/{n}.jpg")
    source = read_source(f"cars={tmp_path}")
    assert source.photos["path"] == ["car_ims/1.jpg", "car_ims/2.jpg"]
    assert (source.photos["label"], source.photos["official"]) == ([1, 0], ["train", "test"])


def zipped(path: Path, name: str, content: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)


def test_replaced_zip_is_unpacked_again(tmp_path):
    photo(tmp_path / "car.jpg")
    content = (tmp_path / "car.jpg").read_bytes()
    for number, label in enumerate(("Audi", "Kia")):
        zipped(tmp_path / "cars.zip", f"{label}/1.jpg", content)
        os.utime(tmp_path / "cars.zip", (number, number))
        assert read_source(f"mine={tmp_path / 'cars.zip'}").photos["path"] == [f"{label}/1.jpg"]


@pytest.mark.parametrize("kind", ["encrypted", "deflate64", "damaged", "cut"])
def test_zip_that_cannot_be_unpacked_is_refused_and_leaves_nothing(tmp_path, kind):
    path = tmp_path / "cars.zip"
    zipped(path, "Audi/1.jpg", bytes(range(256)) * 40)
    content = bytearray(path.read_bytes())
    central = content.index(b"PK\1\2")
    if kind == "encrypted":
        content[6] |= 1
        content[central + 8] |= 1
    elif kind == "deflate64":
        content[8] = content[central + 10] = 9
    elif kind == "damaged":
        content[45:60] = bytes(15)
    else:
        del content[-30:]
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cars\.zip cannot be unpacked"):
        read_source(f"mine={path}")
    assert [below.name for below in tmp_path.iterdir()] == ["cars.zip"]


def test_zip_that_would_fill_the_disk_is_refused_unopened(tmp_path, monkeypatch):
    zipped(tmp_path / "cars.zip", "Audi/1.jpg", bytes(1000))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=999))
    with pytest.raises(DataError, match="unpacked it has 1000 bytes, and 999 are free"):
        read_source(f"mine={tmp_path / 'cars.zip'}")
    assert [below.name for below in tmp_path.iterdir()] == ["cars.zip"]


def test_damaged_mat_files_are_refused_and_nothing_else(stanford):
    """Bytes changed, and cut anywhere: every reading ends in a list or DataError."""
    random = np.random.default_rng(0)
    path = stanford / "devkit" / "cars_meta.mat"
    original = np.frombuffer(path.read_bytes(), np.uint8)
    refused = 0
    for _ in range(300):
        content = original[: random.integers(1, len(original) + 1)].copy()
        places = random.integers(0, len(content), 1 + len(content) // 1000)
        content[places] = random.integers(0, 256, len(places))
        path.write_bytes(content.tobytes())
        try:
            assert read_source(f"cars={stanford}").label_names
        except DataError as error:
            refused += "cars_meta.mat" in str(error)
    assert refused > 100


def test_mat_file_that_names_a_file_elsewhere_is_refused(stanford):
    rows = np.array([("../../etc/1.jpg", 1)], dtype=[("fname", object), ("class", object)])
    savemat(stanford / "devkit" / "cars_train_annos.mat", {"annotations": rows})
    with pytest.raises(DataError, match=r"cars_train_annos\.mat .*not the name of a photo"):
        read_source(f"cars={stanford}")


@pytest.mark.parametrize("compressed", [False, True])
def test_mat_files_are_read_as_scipy_reads_them(tmp_path, compressed):
    path = tmp_path / "arrays.mat"
    rows = np.array([("é.jpg", 3), ("b", 300)], dtype=[("fname", object), ("class", object)])
    names = np.array(["Škoda Octavia 2012", "A"], dtype=object)
    arrays = {"names": names, "rows": rows, "numbers": np.arange(5.0)}
    savemat(path, arrays, do_compression=compressed)
    assert read_array(path, "names") == list(names)
    assert read_array(path, "rows") == [
        {"fname": "é.jpg", "class": [3]}, {"fname": "b", "class": [300]},
    ]  # fmt: skip
    assert read_array(path, "numbers") == [0, 1, 2, 3, 4]


def test_folder_that_cannot_be_listed_costs_one_row(tmp_path, monkeypatch):
    photo(tmp_path / "Audi/1.jpg")
    photo(tmp_path / "Kia/1.jpg")
    (tmp_path / "locked").mkdir()
    listed = Path.iterdir

    def iterdir(path):
        if path.name == "locked":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    source = read_source(f"mine={tmp_path}")
    (problem,) = source.problems
    assert (len(source.photos), problem.path) == (2, "locked")
    assert "chmod" in problem.reason


@pytest.mark.parametrize(
    ("one", "other"),
    [("Toyota Prius", "Toyota Prius+"), ("VW Golf 1.6", "VW Golf 16"), ("VW up", "VW up!"),
     ("トヨタ ガ", "トヨタ カ"), ("+", "++")],
)  # fmt: skip
def test_distinct_names_stay_distinct(tmp_path, one, other):
    files_of(tmp_path, f"{one}/1.jpg", f"{other}/1.jpg")
    assert set(unite(read_sources([f"mine=folder:{tmp_path}"])).labels) == {one, other}


@pytest.mark.parametrize("label", ["Audi\nA4", "Audi\u2028A4", "Audi\x85A4"])
def test_class_that_no_checkpoint_can_hold_is_refused_by_name(tmp_path, label):
    table = {"image": [draw_car(0)], "label": [label]}
    kinds = Features(image=Image(), label=Value("string"))
    Dataset.from_dict(table, features=kinds).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"the class 'Audi.*A4' of mine holds a line break"):
        unite([read_source(f"mine=hub:{tmp_path}")])
