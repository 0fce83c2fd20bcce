"""Outlines and hulls of all objects at once, against scikit-image's object by object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.draw import ellipse, line, polygon
from skimage.measure import regionprops, regionprops_table

from opsef_bridge.errors import InputError
from opsef_bridge.measure.hulls import convex_hulls
from opsef_bridge.measure.moments import boxes
from opsef_bridge.measure.outlines import euler_numbers, perimeters
from opsef_bridge.measure.overlap import label_runs
from opsef_bridge.measure.regions import object_columns, region_table

LABELS = sorted((Path(__file__).parents[2] / "examples" / "data" / "labels").glob("*.tif"))


def check(labels: np.ndarray, spacing: tuple[float, float] = (1.0, 1.0)) -> None:
    """Compare all four with scikit-image; the perimeter in pixels, as it needs square ones."""
    names = ["label", "area_convex", "euler_number", "perimeter", "solidity"]
    theirs = regionprops_table(labels, properties=names)
    runs = label_runs(labels)
    areas, diameters = convex_hulls(runs, np.array(spacing))
    np.testing.assert_array_equal(runs.labels, theirs["label"])
    np.testing.assert_array_equal(areas, theirs["area_convex"])
    np.testing.assert_array_equal(euler_numbers(runs), theirs["euler_number"])
    np.testing.assert_allclose(perimeters(runs), theirs["perimeter"], rtol=1e-9)
    far = regionprops_table(labels, properties=["feret_diameter_max"], spacing=spacing)
    np.testing.assert_allclose(diameters, far["feret_diameter_max"], rtol=1e-9)
    table = region_table(labels, spacing=spacing, properties=["solidity", "feret_diameter_max"])
    np.testing.assert_array_equal(table.solidity, theirs["solidity"])
    np.testing.assert_array_equal(table.feret_diameter_max, diameters)
    assert convex_hulls(runs)[1] is None


@st.composite
def label_images(draw):
    """Blocks of labels, enlarged, with pixels punched out: specks, holes, lines, pieces."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))
    blocks = draw(hnp.arrays(np.int32, shape, elements=st.sampled_from([0, 0, 1, 2, 5])))
    labels = np.kron(blocks, np.ones((draw(st.integers(1, 4)), draw(st.integers(1, 4))), np.int32))
    share = draw(st.sampled_from([0, 0, 0.05, 0.5, 0.95]))
    punched = np.random.default_rng(draw(st.integers(0, 99))).random(labels.shape) < share
    labels[punched] = 0
    labels[0, -1] = 1  # scikit-image wants an object
    return labels


sizes = st.sampled_from([0.1, 0.65, 1.0, 3.0])


@settings(max_examples=150, deadline=None)
@given(label_images(), st.tuples(sizes, sizes))
def test_random_objects(labels, spacing):
    check(labels, spacing)


@pytest.mark.parametrize("path", LABELS, ids=lambda path: path.stem)
def test_real_objects(path):
    check(tifffile.imread(path).astype(np.int32), (0.5, 0.65))


def test_there_are_real_objects():
    assert len(LABELS) >= 10


def drawn(shape: tuple[int, int], *parts: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    labels = np.zeros(shape, np.int32)
    for number, part in enumerate(parts, 1):
        labels[part] = number
    return labels


DRAWN = {
    "one pixel": np.ones((1, 1), int),
    "two": np.ones((1, 2), int),
    "two at a corner": np.eye(2, dtype=int),
    "a row": np.ones((1, 30), int),
    "a column": np.ones((30, 1), int),
    "a diagonal": np.eye(20, dtype=int),
    "the whole image": np.ones((12, 17), int),
    "far apart, a slim hull": drawn((40, 40), (np.array([0, 11]), np.array([0, 3]))),
    "a chess board": np.indices((9, 10)).sum(0) % 2,
    "rings in rings": np.abs(np.indices((21, 21)) - 10).max(axis=0) % 3,
    "a comb": np.where(np.arange(20) % 2, 1, (np.arange(12) < 2)[:, None]).astype(int),
    "lines": drawn((60, 90), line(0, 0, 59, 7), line(5, 20, 30, 89), line(58, 15, 51, 88)),
    "ellipses": drawn((90, 90), ellipse(20, 30, 12, 29, rotation=0.3), ellipse(45, 75, 40, 3)),
    "a large triangle": drawn((700, 900), polygon([3, 611, 697], [5, 893, 37])),
}


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_objects(name):
    for labels in (DRAWN[name], DRAWN[name].T, DRAWN[name][::-1]):
        check(np.ascontiguousarray(labels), (0.3, 2.0))


@settings(max_examples=40, deadline=None)
@given(label_images())
def test_boxes_and_centroids(labels):
    low, high, centre = boxes(label_runs(labels))
    for number, region in enumerate(regionprops(labels)):
        assert (*low[:, number], *high[:, number]) == region.bbox
        assert centre[:, number] == pytest.approx(region.centroid)


def test_circularity_is_imagejs_with_this_perimeter():
    labels = drawn((90, 200), ellipse(40, 40, 30, 30), ellipse(40, 130, 10, 50))
    table = region_table(labels, properties=["area", "perimeter", "circularity"])
    expected = 4 * np.pi * table.area / table.perimeter**2
    assert table.circularity.tolist() == pytest.approx(expected.tolist())
    assert 0.85 < table.circularity[0] < 1
    assert table.circularity[1] < 0.5


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.ones((1, 1), int), 1.0),
        (np.ones((1, 2), int), 1.0),
        (np.eye(2, dtype=int), 1.0),
        (np.ones((3, 3), int), 1.0),
        (np.ones((1, 102), int), 4 * np.pi * 102 / 100**2),
    ],
)
def test_small_objects_are_no_rounder_than_a_disk(labels, expected):
    table = region_table(np.pad(labels, 2), properties=["circularity"])
    assert table.circularity.tolist() == pytest.approx([expected])


@settings(max_examples=40, deadline=None)
@given(label_images(), sizes)
def test_circularity_has_no_unit(labels, size):
    plain = region_table(labels, properties=["circularity"])
    scaled = region_table(labels, spacing=(size, size), properties=["circularity", "perimeter"])
    np.testing.assert_array_equal(scaled.circularity, plain.circularity)
    assert ((plain.circularity > 0) & (plain.circularity <= 1)).all()
    pixels = region_table(labels, properties=["perimeter"]).perimeter
    np.testing.assert_allclose(scaled.perimeter, pixels * size)


def test_circularity_belongs_to_planes_with_square_pixels():
    assert "circularity" in object_columns("yx")
    assert "circularity" not in object_columns("zyx")
    with pytest.raises(InputError, match=r"circularity.*3D"):
        region_table(np.ones((2, 3, 4), int), properties=["circularity"])
    with pytest.raises(InputError, match="square pixels"):
        region_table(np.ones((3, 4), int), spacing=(1, 2), properties=["circularity"])


def test_no_object_has_no_row():
    for shape in ((4, 5), (0, 5), (5, 0)):
        table = region_table(np.zeros(shape, int), properties=object_columns("yx"))
        assert len(table) == 0
        assert table.columns.tolist() == ["label", *object_columns("yx")]


def test_an_object_measures_the_same_beside_others():
    labels = np.kron(np.arange(1, 5).reshape(2, 2), np.ones((6, 7), int))
    labels[2, 3] = labels[8, 10] = 0
    names = ["perimeter", "solidity", "euler_number", "feret_diameter_max", "circularity"]
    table = region_table(labels, properties=names).set_index("label")
    for number in range(1, 5):
        alone = region_table(labels * (labels == number), properties=names).set_index("label")
        assert alone.loc[number].tolist() == table.loc[number].tolist()
