"""Paths of files that steps name: whole at work, relative in the files of a project."""

from __future__ import annotations

from pathlib import Path

import pytest

from opsef_bridge.preprocess import normalise_recipe, resolve_files
from opsef_bridge.preprocess.step_files import (
    map_files,
    map_plan_files,
    map_variant_files,
    relative_to,
    whole_in,
)

RECIPE = [
    "invert",
    {"flat_field": {"reference": "a/flat.tif", "dark": 3}},
    "flat_field",
    {"median": None},
]


def test_whole_paths_are_those_of_the_configuration(tmp_path):
    assert map_files(RECIPE, whole_in(tmp_path)) == resolve_files(RECIPE, tmp_path)


def test_there_and_back_it_is_the_same_recipe(tmp_path):
    there = map_files(RECIPE, whole_in(tmp_path))
    assert str(tmp_path) in str(there) and "a/flat.tif" in str(RECIPE)
    assert map_files(there, relative_to(tmp_path)) == RECIPE
    steps = normalise_recipe(there)
    as_json = [list(step) for step in steps]
    back = map_files(steps, relative_to(tmp_path))
    assert back == [tuple(step) for step in map_files(as_json, relative_to(tmp_path))]


@pytest.mark.parametrize("file", ["../flat.tif", "x/../../flat.tif"])
def test_a_file_beside_the_project_is_found_as_it_was_written(tmp_path, file):
    whole = whole_in(tmp_path)(file)
    assert Path(whole).is_absolute()
    assert whole_in(tmp_path)(relative_to(tmp_path)(whole)) == whole


def test_a_file_elsewhere_keeps_its_whole_path(tmp_path):
    elsewhere = str(tmp_path.parent / "flat.tif")
    assert relative_to(tmp_path)(elsewhere) == elsewhere


def test_steps_of_a_package_that_is_gone_stay(tmp_path):
    recipe = [{"of_a_package_that_is_gone": {"reference": "flat.tif"}}]
    assert map_files(recipe, whole_in(tmp_path)) == recipe


def test_plans_and_variants_of_other_forms_stay():
    assert map_plan_files({"units": []}, str.upper) == {"units": []}
    assert map_variant_files({"id": "v0001"}, str.upper) == {"id": "v0001", "steps": []}
