"""Tables of specifications: cleaned, written, joined to classes."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from space.errors import DataError
from space.labels import Car
from space.names import car_of
from space.spec_columns import write_blanked
from space.specifications import join, read_specifications

ROOT = Path(__file__).parent.parent


def read(folder: Path, *lines: str):
    file = folder / "specifications.csv"
    file.write_text("\n".join([*lines, ""]), "utf-8")
    return read_specifications(file)


def reasons(specifications) -> dict[tuple[str, str, str], str]:
    return {(item.row, item.column, item.value): item.reason for item in specifications.blanked}


@pytest.mark.parametrize(
    ("column", "text", "name", "value"),
    [
        ("Front Wheel Size (in)", "19", "front_wheel_size_in", 19),
        ("Front Wheel Size (in)", '19 in ', "front_wheel_size_in", 19),
        ("Front Wheel Size (in)", '"19"""', "front_wheel_size_in", 19),
        ("Front Wheel Size", "19 in", "front_wheel_size_in", 19),
        ("Width, Max w/o mirrors [mm]", "1850.5", "width_max_w_o_mirrors_mm", 1850.5),
        ("MSRP", '"$49,850"', "msrp_usd", 49850),
        ("MSRP", '"49,850"', "msrp", 49850),
        ("Displacement", '"3,5"', "displacement", 3.5),
        ("Highway (mpg)", "26 ", "highway_mpg", 26),
        ("Body Style", " Station  Wagon ", "body_style", "Station Wagon"),
        ("Doors", "", "doors", None),
    ],
)  # fmt: skip
def test_values_are_read_and_columns_named_with_their_unit(tmp_path, column, text, name, value):
    specifications = read(tmp_path, f'make,model,year,"{column}",', f"Kia,Rio,2019,{text},")
    assert specifications.cars == (Car("Kia", "Rio", 2019),)
    assert specifications.columns == (name,)
    assert specifications.values == ((value,),)
    assert specifications.blanked == ()


@pytest.mark.parametrize(
    ("column", "text", "reason"),
    [
        ("Horsepower", "2501", "no car has it: 5 to 2500 is possible"),
        ("Width (in)", "740", "no car has it: 35.43 to 110.2 is possible"),
        ("Width (mm)", "74", "no car has it: 900 to 2800 is possible"),
        ("Width (mm)", "1850 in", "is in in, the column in mm"),
        ("Passenger Doors", "44", "no car has it: 1 to 7 is possible"),
        ("Displacement", "35000", "no car has it: 0.2 to 30 is possible"),
        ("City (mpg)", "- TBD -", "says that there is nothing"),
        ("City (mpg)", "about 20", "is not a number"),
    ],
)
def test_what_no_car_has_is_taken_out_and_listed(tmp_path, column, text, reason):
    usual = {"Horsepower": 200, "Width (in)": 74, "Width (mm)": 1850, "Passenger Doors": 4}
    lines = [f"Kia,Rio,{year},{usual.get(column, 20)}" for year in range(2010, 2016)]
    specifications = read(tmp_path, f"make,model,year,{column}", *lines, f"Kia,Rio,2016,{text}")
    assert specifications.values[-1] == (None,)
    assert all(isinstance(value, float) for (value,) in specifications.values[:-1])
    name = specifications.columns[0]
    assert reasons(specifications) == {("7", name, text): reason}


@pytest.mark.parametrize("litres", ["1.2", "12", "1200"])
def test_horsepower_is_held_against_displacement(tmp_path, litres):
    # Wrong in every year, so that the model's other years cannot tell.
    lines = [f"Mitsubishi,Mirage,{year},740,{litres}" for year in range(2014, 2020)]
    lines.append("Mercedes-Benz,C Class,2024,671,2.0")
    specifications = read(tmp_path, "make,model,year,Net Horsepower,Displacement", *lines)
    assert [power for power, _ in specifications.values] == [None] * 6 + [671]
    assert "617 hp from a litre" in specifications.blanked[0].reason


def test_horsepower_is_held_against_the_models_other_years(tmp_path):
    electric = [f"Nissan,Leaf,{year},{power}" for year, power in
                zip(range(2018, 2023), (147, 147, 1470, 214, 49), strict=True)]  # fmt: skip
    lines = [*electric, "Lucid,Air,2022,480", "Lucid,Air,2023,1234"]  # too few to say
    specifications = read(tmp_path, "make,model,year,hp", *lines)
    found = [value for (value,) in specifications.values]
    assert found == [147, 147, None, 214, 49, 480, 1234]
    assert reasons(specifications) == {
        ("3", "hp", "1470"): "the model has 147 hp in the median of its years"
    }


def test_rows_of_one_car_are_put_together(tmp_path):
    specifications = read(
        tmp_path,
        "Make,Model,Year,Doors,Seats,Dealer",
        "chevy,camaro,2012,2,,Smith",
        "Chevrolet,Camaro,2012.0,,4,Jones",
        "Audi,TT,2012,2,4,Miller",
        "Audi,TT,2012,2,4,Baker",
        "Audi,A4,2012,4,5,Baker",
        "Audi,A4,2012,5,5,Cook",
    )
    assert specifications.columns == ("doors", "seats")
    assert specifications.cars[0] == Car("Chevrolet", "camaro", 2012)
    assert specifications.values == ((2, 4), (2, 4), (4, 5))
    listed = reasons(specifications)
    assert listed["", "dealer", ""] == "differs between rows of the same car, in 3 of 3 cars"
    assert listed["6", "doors", "5"] == "row 5 of the same car has 4"
    assert listed["2", "", "Chevrolet Camaro"] == "the same car as row 1; put together with it"
    assert len(listed) == 5


def test_a_row_without_a_car_is_listed(tmp_path):
    lines = (",Rio,2019,4", "Kia,,2019,4", "Kia,Rio,next,4", ",,,", "Kia,Rio,2019,4")
    specifications = read(tmp_path, "make,model,year,doors", *lines)
    assert specifications.cars == (Car("Kia", "Rio", 2019),)
    assert [item.row for item in specifications.blanked] == ["1", "2", "3"]


def test_a_table_without_makes_is_refused(tmp_path):
    with pytest.raises(DataError, match="needs columns make and model"):
        read(tmp_path, "car,doors", "Kia Rio,4")


def test_a_cleaned_table_is_written_and_reads_the_same(tmp_path):
    first = read(tmp_path, "make,model,year,MSRP,Width (in),Body", 'VW,Golf,,"$20,123",70.5,SUV')
    first.write(tmp_path / "clean.csv")
    text = (tmp_path / "clean.csv").read_text("utf-8")
    assert text == ("make,model,year,msrp_usd,width_in,body\nVolkswagen,Golf,,20123,70.5,SUV\n")
    write_blanked(tmp_path / "blanked.csv", first.blanked)
    with (tmp_path / "blanked.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["row", "column", "value", "reason"]]


@pytest.mark.parametrize(
    ("label", "found", "how"),
    [
        ("Audi A5 2012", "Audi A5 2012", "exact"),
        ("Audi A5 Coupe 2012", "Audi A5 2012", "without body style"),
        ("BMW 3 Series Sedan 2012", "BMW 3-Series 2012", "without body style"),
        ("Ford F-150 Regular Cab 2007", "Ford F-150 2008", "without body style, another year"),
        ("INFINITI Q50 2015", "Infiniti Q50 2014", "another year"),  # the earlier of two
        ("Chevrolet Corvette ZR1 2012", None, None),
        ("Chevrolet Express Cargo Van 2012", "Chevrolet Express 2012", "without body style"),
        ("Audi A5 2010", None, None),
        ("Audi A5", None, None),
        ("Opel A5 2012", None, None),
    ],
)
def test_cars_find_their_specifications(tmp_path, label, found, how):
    specifications = read(
        tmp_path, "make,model,year,doors", "Audi,A5,2012,2", "BMW,3-Series,2012,4",
        "Ford,F-150,2008,4", "INFINITI,Q50,2014,4", "INFINITI,Q50,2016,4",
        "Chevrolet,Corvette,2012,2", "Chevrolet,Express,2012,4",
    )  # fmt: skip
    car = car_of(label)
    matches, missing = join([car], specifications)
    if found is None:
        assert (matches, missing) == ({}, [car])
    else:
        assert (matches[car].car, matches[car].how) == (car_of(found), how)
        assert set(matches[car].values) == {"doors"}
        assert missing == []


def test_the_real_table_is_cleaned_and_joined(real_data):
    specifications = read_specifications(real_data / "car_specs.csv")
    assert len(specifications.cars) == 2748  # of 2,751 rows, three of which stand twice
    column = specifications.columns.index("net_horsepower")
    power = [values[column] for values in specifications.values if values[column] is not None]
    assert max(power) == 810  # a Lucid; the 740 to 980 of small cars are gone
    taken = Counter(item.column for item in specifications.blanked)
    assert taken["net_horsepower"] == 16
    wrong = {(specifications.cars[int(item.row) - 1].make) for item in specifications.blanked
             if item.column == "net_horsepower"}  # fmt: skip
    assert wrong == {"Mitsubishi", "Toyota"}
    assert sum(taken.values()) == 27
    labels = (ROOT / "trainer/data/sources/stanford_cars.txt").read_text("utf-8").splitlines()
    found, missing = join(map(car_of, labels), specifications)
    assert (len(found), len(missing)) == (54, 142)
    assert Counter(match.how for match in found.values()) == {
        "without body style": 44,
        "without body style, another year": 10,
    }
