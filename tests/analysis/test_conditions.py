"""Conditions of images, statistics by image, plates."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from opsef_bridge.analysis.conditions import read_conditions
from opsef_bridge.analysis.plate import parse_well, plate_grid
from opsef_bridge.analysis.statistics import (
    as_sentences,
    compare_conditions,
    hedges_g,
    image_values,
    summarise_conditions,
)
from opsef_bridge.errors import InputError

IMAGES = pd.DataFrame(
    {
        "image": ["i00001-a", "i00002-b", "i00003-c"],
        "source": ["data/a.tif", "data/sub/b.tif", "data/c.tif"],
        "well": ["A1", "B02", "A01"],
        "plate": ["P1", "P1", "P2"],
        "objects": [3, 4, 5],
    }
)


def told(tmp_path, text: str, encoding: str = "utf-8"):
    file = tmp_path / "conditions.csv"
    file.write_bytes(text.encode(encoding))
    return read_conditions(file).join(IMAGES)


@pytest.mark.parametrize(
    "text",
    [
        "image,drug\ni00001-a,none\ni00002-b,taxol\n",
        "image;drug\na.tif;none\nb;taxol\n",
        "file\tdrug\r\ndata/a.tif\tnone\r\nb.tif\ttaxol\r\n",
        "\ufeffid, drug \ni00001-a , none\nb.tif,taxol\n",
        '"image","drug"\n"i00001-a","none"\n"b.tif","taxol"\n',
    ],
)
def test_images_are_named_by_id_or_file(tmp_path, text):
    table, said = told(tmp_path, text)
    assert table["drug"].tolist() == ["none", "taxol", ""]
    assert said == ["1 of 3 images have no condition and are left out of comparisons: i00003-c."]


def test_wells_are_named_with_and_without_their_plate(tmp_path):
    table, said = told(tmp_path, "well,drug\na01,none\nB2,taxol\nH12,other\n")
    assert table["drug"].tolist() == ["none", "taxol", "none"]
    assert said == ["Conditions of what is not in the tables: H12."]
    table, said = told(tmp_path, "plate,well,drug,objects\nP1,A01,none,x\nP2,A1,taxol,y\n")
    assert table["drug"].tolist() == ["none", "", "taxol"]
    assert table["objects"].tolist() == [3, 4, 5]
    assert table["condition_objects"].tolist() == ["x", "", "y"]


@pytest.mark.parametrize(
    ("cells", "values", "kind"),
    [
        (["0", "10", "-2"], [0, 10, -2], "i"),
        (["0", "0.5", "1e-3"], [0, 0.5, 0.001], "f"),
        (["1", "", "2"], [1, np.nan, 2], "f"),
        (["007", "8", "9"], ["007", "8", "9"], "O"),
        (["5", "5 nM", "1"], ["5", "5 nM", "1"], "O"),
        (["nan", "1", "2"], ["nan", "1", "2"], "O"),
        (["1e999", "1", "2"], ["1e999", "1", "2"], "O"),
        (["90071992547409931", "1", "2"], ["90071992547409931", "1", "2"], "O"),
        (["", "", ""], ["", "", ""], "O"),
    ],
)
def test_columns_of_numbers_are_numbers(tmp_path, cells, values, kind):
    rows = "".join(f"{name},{cell}\n" for name, cell in zip("abc", cells, strict=True))
    table, _ = told(tmp_path, f"image,dose\n{rows}")
    assert table["dose"].dtype.kind == kind
    pd.testing.assert_series_equal(
        table["dose"], pd.Series(values), check_names=False, check_dtype=False
    )


def test_the_kind_of_a_column_does_not_hang_on_the_images_that_are_measured(tmp_path):
    table, _ = told(tmp_path, "image,dose,more\na,1,1\nb,2,2\nx,high,3\n")
    assert table["dose"].tolist() == ["1", "2", ""]
    np.testing.assert_array_equal(table["more"], [1, 2, np.nan])


def test_plates_and_wells_have_names(tmp_path):
    file = tmp_path / "conditions.csv"
    file.write_text("image,well,plate\na,1,7\nb,2,8\n", "utf-8")
    table, _ = read_conditions(file).join(IMAGES[["image", "source"]])
    assert table["plate"].tolist() == ["7", "8", ""] and table["well"].tolist() == ["1", "2", ""]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_any_table_of_a_spreadsheet_is_read_the_same_way(tmp_path, encoding):
    table, _ = told(tmp_path, "image\tdrug\r\na\tµ\r\n\t\r\nb\tß\r\n", encoding)
    assert table["drug"].tolist() == ["µ", "ß", ""]
    with pytest.raises(InputError, match="line 5 has no image"):
        told(tmp_path, "image\tdrug\r\na\tµ\r\n\r\nb\tß\r\n\tx\r\n", encoding)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "columns are none"), ("drug,dose\na,b\n", "drug, dose"),
     ("image,drug\na,none\na,taxol\n", "line 3 says something else of a"),
     ("drug,image\nnone,a\nb\n", "line 3 has no image")],
)  # fmt: skip
def test_files_that_say_nothing_or_two_things_are_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        told(tmp_path, text)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_conditions(tmp_path / "no.csv")
    with pytest.raises(InputError, match="UTF-8"):
        told(tmp_path, "image,drug\na,Zweifel für\n", "latin-1")


def measured(images: int, objects: int, difference: float, seed: int) -> pd.DataFrame:
    """Objects of images that differ more between than within images."""
    rng = np.random.default_rng(seed)
    rows = []
    for condition, shift in (("control", 0.0), ("drug", difference)):
        for number in range(images):
            own = rng.normal(shift, 1.0)
            rows += [
                (f"{condition}-{number}", condition, value)
                for value in rng.normal(own, 0.3, objects)
            ]
    return pd.DataFrame(rows, columns=["image", "treatment", "area"])


def test_an_image_counts_once_however_many_objects_it_has():
    table = measured(5, 200, 0.5, seed=2)
    values = image_values(table, "area", "treatment")
    assert len(values) == 10 and set(values["objects"]) == {200}
    for row in values.itertuples():
        assert row.value == pytest.approx(table.loc[table["image"] == row.unit, "area"].mean())
    middle = image_values(table, "area", "treatment", statistic="median")
    assert not np.allclose(middle["value"], values["value"])


def test_a_difference_by_chance_is_not_made_sure_by_many_objects():
    """95 % intervals by image hold no difference in most draws; by object in hardly any."""
    by_image = by_object = 0
    for seed in range(60):
        table = measured(8, 50, 0.0, seed)
        [row] = compare_conditions(image_values(table, "area", "treatment")).itertuples()
        by_image += row.low <= 0 <= row.high
        one, two = (table.loc[table["treatment"] == name, "area"] for name in ("drug", "control"))
        error = 1.96 * np.sqrt(one.var() / len(one) + two.var() / len(two))
        by_object += abs(one.mean() - two.mean()) <= error
    assert by_image >= 48, "the bootstrap of 8 images covers about 90 %"
    assert by_object <= 30


def test_a_difference_that_is_there_is_found_with_its_size():
    values = image_values(measured(12, 30, 3.0, seed=0), "area", "treatment")
    found = compare_conditions(values, "control")
    [row] = found.itertuples()
    assert (row.condition, row.reference, row.units, row.reference_units) == (
        "drug", "control", 12, 12,
    )  # fmt: skip
    assert row.low < row.difference < row.high and row.low > 0 and 1.5 < row.hedges_g < 5
    assert row.g_low < row.hedges_g < row.g_high
    [back] = compare_conditions(values, "drug").itertuples()
    assert back.difference == pytest.approx(-row.difference)
    [sentence] = as_sentences(found, "area")
    assert "drug is +" in sentence and "12 and 12 images" in sentence


def test_a_single_image_has_no_interval_and_it_is_said():
    table = measured(1, 30, 1.0, seed=0)
    values = image_values(table, "area", "treatment")
    [row] = compare_conditions(values).itertuples()
    assert np.isnan([row.low, row.high, row.hedges_g]).all() and "only 1 image on" in row.said
    [sentence] = as_sentences(compare_conditions(values), "area")
    assert "nan" not in sentence and "Hedges" not in sentence
    summary = summarise_conditions(values)
    assert summary["units"].tolist() == [1, 1] and summary["low"].isna().all()


def test_units_may_be_wells_and_must_be_in_one_condition():
    table = measured(4, 10, 1.0, seed=1)
    table["well"] = [f"{name[:2]}{int(name[-1]) // 2}" for name in table["image"]]
    assert len(image_values(table, "area", "treatment", unit="well")) == 4
    [row] = compare_conditions(
        image_values(table, "area", "treatment", unit="well"), unit="well"
    ).itertuples()
    assert row.said == "only 2 wells on one side"
    with pytest.raises(InputError, match="both 'image'"):
        image_values(table, "area", "image")
    table["well"] = "A1"
    with pytest.raises(InputError, match="well A1 is in 2 conditions"):
        image_values(table, "area", "treatment", unit="well")


def test_a_well_is_one_of_its_plate_and_objects_without_one_do_not_count():
    table = measured(4, 10, 1.0, seed=1)
    table["plate"] = ["P" + name[-1] for name in table["image"]]
    table["well"] = ["A01" if name[0] == "c" else "A02" for name in table["image"]]
    assert len(image_values(table, "area", "treatment", unit="well")) == 8
    table.loc[table["image"] == "drug-3", "well"] = ""
    values = image_values(table, "area", "treatment", unit="well")
    assert len(values) == 7 and set(values["objects"]) == {10}


def test_rows_without_condition_or_value_are_left_out():
    table = measured(3, 10, 1.0, seed=1)
    table.loc[table["image"] == "drug-0", "treatment"] = ""
    table.loc[table["image"] == "drug-1", "area"] = np.nan
    values = image_values(table, "area", "treatment")
    assert values["unit"].tolist() == ["control-0", "control-1", "control-2", "drug-2"]


def test_numbers_are_compared_in_their_order_and_zero_is_the_reference():
    """As text 10 comes before 2, and 0.5 before 0."""
    doses = [10.0, 2.0, 0.0, 0.5]
    rows = [(f"i{n}-{k}", dose, n + 0.1 * k) for n, dose in enumerate(doses) for k in range(3)]
    table = pd.DataFrame([*rows, ("i9", np.nan, 1.0)], columns=["image", "dose", "area"])
    values = image_values(table, "area", "dose")
    assert summarise_conditions(values)["condition"].tolist() == [0, 0.5, 2, 10]
    found = compare_conditions(values)
    assert found["condition"].tolist() == [0.5, 2, 10] and set(found["reference"]) == {0}
    assert found["difference"].tolist() == pytest.approx([1.0, -1.0, -2.0])
    assert "area: 10 is -2 from 0 (" in as_sentences(found, "area")[2]
    assert set(compare_conditions(values, "10")["reference"]) == {10}
    with pytest.raises(InputError, match=r"Choose of 0, 0\.5, 2, 10"):
        compare_conditions(values, "3")


@pytest.mark.parametrize(
    ("column", "by"), [("no", "treatment"), ("image", "treatment"), ("area", "no")]
)
def test_columns_that_cannot_be_compared_are_refused(column, by):
    with pytest.raises(InputError, match=r"no column|no numbers"):
        image_values(measured(2, 3, 0, 0), column, by)


def test_conditions_that_cannot_be_compared_are_refused():
    values = image_values(measured(2, 3, 0, 0), "area", "treatment")
    with pytest.raises(InputError, match="Choose of control, drug"):
        compare_conditions(values, "placebo")
    with pytest.raises(InputError, match="one condition"):
        compare_conditions(values[:2])


def test_hedges_g_against_its_definition():
    rng = np.random.default_rng(0)
    one, two = rng.normal(1, 2, 9), rng.normal(0, 2, 6)
    pooled = np.sqrt((8 * one.var(ddof=1) + 5 * two.var(ddof=1)) / 13)
    expected = (one.mean() - two.mean()) / pooled * (1 - 3 / (4 * 15 - 9))
    assert hedges_g(one, two) == pytest.approx(expected)
    assert np.isnan(hedges_g(np.ones(3), np.ones(3)))
    assert np.isnan(hedges_g(np.array([1.0, 2.0]), np.array([5.0])))  # no 0 of a large difference
    assert np.isfinite(hedges_g(np.array([1.0, 2.0]), np.array([5.0, 6.0])))


@pytest.mark.parametrize(("text", "place"), [("H12", (7, 11)), ("p24", (15, 23)), ("A-1", (0, 0)),
                                             ("A00", None), ("ZZ1", None), ("", None)])  # fmt: skip
def test_wells(text, place):
    assert parse_well(text) == place


def test_a_plate_is_the_smallest_that_holds_all_wells():
    table = pd.DataFrame({"well": ["A01", "H12", "", "H12"], "n": [1.0, 2.0, 9.0, np.nan]})
    grid = plate_grid(table, "n")
    assert grid.shape == (8, 12) and grid[0, 0] == 1 and grid[7, 11] == 2
    assert np.isfinite(grid).sum() == 2
    table.loc[2, "well"] = "I1"
    assert plate_grid(table, "n").shape == (16, 24)
    with pytest.raises(InputError, match="names no well"):
        plate_grid(table.assign(well="left"), "n")
