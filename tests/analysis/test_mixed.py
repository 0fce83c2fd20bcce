"""Planes and volumes in one project: their tables go together, their sizes are not compared."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from opsef_bridge.analysis.dictionary import describe, units_shown
from opsef_bridge.analysis.gather import dimensions_of
from tests.small_projects import discs, swept

FILES = {"flat.tif": discs(0), "deep.tif": np.stack([discs(1)] * 6)}
BOTH = "i00001-deep", "i00002-flat"


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    return swept(tmp_path_factory.mktemp("mixed") / "project", FILES)


def test_the_tables_are_written_and_the_rest_is_left_out(project, opsef):
    code, out, err = opsef("--json", "analyse", "v0001")
    told = json.loads(out)
    assert code == 0, err
    [said] = [line for line in told["said"] if "Only tables" in line]
    assert all(image in said for image in BOTH) and "--image" in said
    objects = pd.read_csv(project.tables_folder / "objects.csv")
    assert set(objects["image"]) == set(BOTH)
    columns = (project.tables_folder / "columns.md").read_text("utf-8")
    assert "| `pixel`^2, of volumes ^3 | area" in columns
    assert not (project.root / "plots").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("analyse", "v0001", "--cluster", "ward"),
        ("analyse", "v0001", "--by", "group"),
        ("analyse", "v0001", "--embed", "tsne"),
        ("classify", "v0001", "--cluster", "ward", "--clusters", "2"),
        ("classify", "v0001", "--learn"),
    ],
)
def test_what_would_compare_areas_with_volumes_is_refused(project, opsef, words):
    code, _, err = opsef(*words)
    assert code == 2 and all(image in err for image in BOTH) and "--image" in err
    assert (project.tables_folder / "objects.csv").is_file() == (words[0] == "analyse")


@pytest.mark.parametrize(("image", "unit"), [(BOTH[0], "pixel^3"), (BOTH[1], "pixel^2")])
def test_images_of_one_kind_are_analysed_as_ever(project, opsef, image, unit):
    code, _, err = opsef("analyse", "v0001", "--image", image, "--no-page")
    assert code == 0, err
    columns = (project.tables_folder / "columns.md").read_text("utf-8")
    assert f"| {unit} |" in columns and (project.root / "plots" / "pca.png").is_file()


def test_a_volume_without_objects_makes_no_volumes_of_planes():
    planes = pd.DataFrame({"centroid_z": [np.nan, np.nan]})
    assert dimensions_of(planes) == 2 and dimensions_of(planes[:0]) == 3
    assert dimensions_of(planes.fillna(0.0)) == 3 and dimensions_of(planes[[]]) == 2


def test_sizes_of_planes_and_volumes_have_no_unit_on_an_axis():
    found = describe({"area": "float64", "density": "float64", "perimeter": "float64"}, ["um"], 0)
    assert units_shown(found) == {"area": "", "density": "", "perimeter": "um"}
