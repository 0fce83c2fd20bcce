"""Calibrated images whose pixels are no squares or cubes, against scikit-image and SciPy."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.spatial import cKDTree
from skimage.measure import regionprops

from opsef_bridge.analysis import object_table
from opsef_bridge.analysis.gather import dimensions_of, image_summary
from opsef_bridge.analysis.writing import write_columns, write_table
from opsef_bridge.config import parse_config
from opsef_bridge.exchange.sources import Subject
from opsef_bridge.images import write_hyperstack
from opsef_bridge.project import Project
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.revisions import Base
from opsef_bridge.sweep.importing import import_images

SPACING = {"ZYX": (0.9, 0.3, 0.3), "YX": (0.6, 0.2)}
SHAPES = {"ZYX": (14, 60, 64), "YX": (60, 64)}


def ellipsoids(axes: str) -> np.ndarray:
    """Labels of ellipsoids of several sizes, some in contact, numbered with gaps."""
    shape = SHAPES[axes]
    grid = np.indices(shape).astype(float)
    labels = np.zeros(shape, np.int32)
    rng = np.random.default_rng(4)
    for number in (3, 5, 9, 40, 41, 77):
        centre = [rng.uniform(0.2 * side, 0.8 * side) for side in shape]
        radii = [rng.uniform(2, 3 if axis == "Z" else 9) for axis in axes]
        far = sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True))
        labels[(far <= 1) & (labels == 0)] = number
    return labels


@pytest.fixture(scope="module", params=["ZYX", "YX"])
def measured(request, tmp_path_factory):
    """(axes, labels, table, entry) of an image of that kind."""
    axes, folder = request.param, tmp_path_factory.mktemp("anisotropic")
    labels = ellipsoids(axes)
    pixels = np.random.default_rng(1).integers(0, 5000, labels.shape, np.uint16)
    (folder / "data").mkdir()
    write_hyperstack(folder / "data" / "a.tif", pixels, axes, spacing=SPACING[axes], unit="um")
    how = parse_config(
        "opsef: 1\nimages: {source: data}\nmodels: {m: {engine: watershed}}\n"
        "analyse: {neighbours: 4}\n"
    )
    project = Project(folder)
    [entry] = import_images(project, how)
    assert tuple(entry.spacing.values()) == pytest.approx(SPACING[axes])
    table = object_table(project, how, Subject(entry, Objects(labels), Base()))
    return axes, labels, table, entry


def test_shapes_are_those_of_scikit_image_with_that_spacing(measured):
    axes, labels, table, _ = measured
    wanted = {region.label: region for region in regionprops(labels, spacing=SPACING[axes])}
    assert table["label"].tolist() == sorted(wanted)
    names = {
        "area": "area", "equivalent_diameter": "equivalent_diameter_area", "extent": "extent",
        "feret_diameter_max": "feret_diameter_max", "solidity": "solidity",
        "euler_number": "euler_number",
    }  # fmt: skip
    if axes == "YX":
        names |= {f"axis_{one}_length": f"axis_{one}_length" for one in ("major", "minor")}
        names |= {"eccentricity": "eccentricity"}
    for column, name in names.items():
        there = [getattr(wanted[label], name) for label in table["label"]]
        np.testing.assert_allclose(table[column], there, rtol=1e-9, err_msg=column)
    centres = np.array([wanted[label].centroid for label in table["label"]])
    found = table[[f"centroid_{axis.lower()}" for axis in axes]]
    np.testing.assert_allclose(found, centres, rtol=1e-9)
    voxel = np.prod(SPACING[axes])
    np.testing.assert_allclose(table["area"], np.bincount(labels.ravel())[table["label"]] * voxel)


def test_neighbours_are_near_in_micrometres(measured):
    axes, _, table, _ = measured
    centres = table[[f"centroid_{axis.lower()}" for axis in axes]].to_numpy()
    tree = cKDTree(centres)
    np.testing.assert_allclose(table["nearest_distance"], tree.query(centres, 2)[0][:, 1])
    within = [len(near) - 1 for near in tree.query_ball_point(centres, 4.0)]
    assert table["neighbours_within"].tolist() == within and len(set(within)) > 1
    pixels = centres / np.array(SPACING[axes])
    assert (tree.query(centres, 2)[1][:, 1] != cKDTree(pixels).query(pixels, 2)[1][:, 1]).any()


@pytest.mark.filterwarnings("error::RuntimeWarning")  # circularity is missing in all rows
def test_the_units_are_said(measured, tmp_path):
    axes, labels, table, entry = measured
    ndim = dimensions_of(table)
    assert ndim == len(axes)
    row = image_summary(table, entry, Base(), labels)
    assert row["density"] == pytest.approx(len(table) / (labels.size * np.prod(SPACING[axes])))
    import pandas as pd

    tables = {"objects": table, "images": pd.DataFrame([row])}
    said = write_columns(tmp_path / "tables", tables, ndim).read_text("utf-8")
    size = f"um^{ndim}"
    for name, unit in {
        "area": size, "area_median": size, "density": f"1/{size}", "equivalent_diameter": "um",
        "feret_diameter_max": "um", "nearest_distance": "um", f"centroid_{axes[0].lower()}": "um",
        f"pixel_size_{axes[0].lower()}": "um", f"bbox_{axes[0].lower()}0": "px", "solidity": "",
    }.items():  # fmt: skip
        [line] = [line for line in said.splitlines() if line.startswith(f"| {name} |")]
        assert line.split("|")[3].strip() == unit, name
    pq = pytest.importorskip("pyarrow.parquet")
    write_table(tmp_path / "tables", "objects", table, ndim=ndim)
    metadata = pq.read_schema(tmp_path / "tables" / "objects.parquet").metadata
    assert json.loads(metadata[b"opsef_units"])["area"] == size
