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
    assert said == ["No condition is known of i00003-c."]


def test_wells_are_named_with_and_without_their_plate(tmp_path):
    table, said = told(tmp_path, "well,drug\na01,none\nB2,taxol\nH12,other\n")
    assert table["drug"].tolist() == ["none", "taxol", "none"]
    assert said == ["Conditions of what is not in the tables: H12."]
    table, said = told(tmp_path, "plate,well,drug,objects\nP1,A01,none,x\nP2,A1,taxol,y\n")
    assert table["drug"].tolist() == ["none", "", "taxol"]
    assert table["objects"].tolist() == [3, 4, 5]
    assert table["condition_objects"].tolist() == ["x", "", "y"]


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
    assert np.isnan([row.low, row.high, row.hedges_g]).all() and "only 1 unit" in row.said
    summary = summarise_conditions(values)
    assert summary["units"].tolist() == [1, 1] and summary["low"].isna().all()


def test_units_may_be_wells_and_must_be_in_one_condition():
    table = measured(4, 10, 1.0, seed=1)
    table["well"] = [f"{name[:2]}{int(name[-1]) // 2}" for name in table["image"]]
    assert len(image_values(table, "area", "treatment", unit="well")) == 4
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
