"""ImageJ's perimeter and smallest width, against the same worked out object by object.

`tests/imagej/test_measures.py` asks the real ImageJ.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial import ConvexHull

from opsef_bridge.errors import InputError
from opsef_bridge.measure.hulls import hull_widths
from opsef_bridge.measure.outlines import traced_perimeters
from opsef_bridge.measure.overlap import label_runs
from opsef_bridge.measure.regions import object_columns, region_table
from opsef_bridge.measure.trace import trace_loops

IMAGEJ = ["perimeter_imagej", "circularity_imagej", "feret_diameter_min"]
sizes = st.sampled_from([0.1, 0.65, 1.0, 3.0])


@st.composite
def label_images(draw):
    """Blocks of labels, enlarged, with pixels punched out: specks, holes, lines, pieces."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))
    blocks = draw(hnp.arrays(np.int32, shape, elements=st.sampled_from([0, 0, 1, 2, 5])))
    labels = np.kron(blocks, np.ones((draw(st.integers(1, 4)), draw(st.integers(1, 4))), np.int32))
    share = draw(st.sampled_from([0, 0, 0.05, 0.5, 0.95]))
    punched = np.random.default_rng(draw(st.integers(0, 99))).random(labels.shape) < share
    labels[punched] = 0
    return labels


def perimeters_of_loops(labels: np.ndarray, height: float, width: float) -> dict[int, float]:
    """Walk the corners of the ROIs' outlines, as ImageJ does."""
    vertices, starts, owners = trace_loops(labels)
    found = dict.fromkeys(owners.tolist(), 0.0)
    for k, owner in enumerate(owners.tolist()):
        loop = vertices[starts[k] : starts[k + 1]]
        before = np.abs(loop - np.roll(loop, 1, axis=0))
        corners, counted = 0, False
        for side in before.sum(axis=1).tolist():
            counted = side > 1 or not counted
            corners += counted
        along_x, along_y = before.sum(axis=0).tolist()
        cut = width + height - np.hypot(width, height)
        found[owner] += along_x * width + along_y * height - corners * cut
    return found


def width_of_corners(mask: np.ndarray, height: float, width: float) -> float:
    """Smallest width over all edges of the hull of the corners of all pixels."""
    corners = [np.argwhere(mask) + step for step in ((0, 0), (0, 1), (1, 0), (1, 1))]
    points = np.concatenate(corners) * (height, width)
    hull = ConvexHull(points)
    heights = hull.equations[:, :2] @ points[hull.vertices].T
    return float(np.ptp(heights, axis=1).min())


@settings(max_examples=150, deadline=None)
@given(label_images(), sizes, sizes)
def test_random_objects(labels, height, width):
    runs = label_runs(labels)
    theirs = perimeters_of_loops(labels, height, width)
    assert sorted(theirs) == runs.labels.tolist()
    expected = [theirs[number] for number in runs.labels.tolist()]
    np.testing.assert_allclose(traced_perimeters(runs, (height, width)), expected, rtol=1e-11)
    widths = [width_of_corners(labels == number, height, width) for number in runs.labels]
    np.testing.assert_allclose(hull_widths(runs, np.array([height, width])), widths, rtol=1e-9)
    table = region_table(labels, spacing=(height, width), properties=["area", *IMAGEJ])
    round_one = 4 * np.pi * table.area / table.perimeter_imagej**2
    np.testing.assert_allclose(table.circularity_imagej, np.minimum(round_one, 1))


@pytest.mark.parametrize(
    ("rows", "perimeter", "width"),
    [
        (["1"], 4 - 2 * (2 - np.sqrt(2)), 1),  # as ImageJ's documentation says
        (["11", "11"], 8 - 4 * (2 - np.sqrt(2)), 2),
        (["1" * 102], 206 - 3 * (2 - np.sqrt(2)), 1),
        (["101"], 8 - 4 * (2 - np.sqrt(2)), 1),
        (["111", "101", "111"], 16 - 6 * (2 - np.sqrt(2)), 3),
        (["100", "010", "001"], 12 - 6 * (2 - np.sqrt(2)), np.sqrt(2)),
    ],
)
def test_drawn_objects(rows, perimeter, width):
    labels = np.array([[int(pixel) for pixel in row] for row in rows])
    table = region_table(np.pad(labels, 1), properties=IMAGEJ)
    assert table.perimeter_imagej.tolist() == pytest.approx([perimeter])
    assert table.feret_diameter_min.tolist() == pytest.approx([width])


def test_a_disk_is_round_and_a_large_square_as_wide_as_its_side():
    y, x = np.indices((601, 601)) - 300
    table = region_table((np.hypot(y, x) < 280).astype(int), properties=IMAGEJ)
    assert table.circularity_imagej[0] == pytest.approx(0.9, abs=0.02)
    assert table.feret_diameter_min[0] == pytest.approx(559, abs=1)
    square = region_table(np.ones((500, 700), int), spacing=(2.0, 1.0), properties=IMAGEJ)
    assert square.feret_diameter_min[0] == pytest.approx(700)
    turned = region_table((np.abs(y) + np.abs(x) < 200).astype(int), properties=IMAGEJ)
    assert turned.feret_diameter_min[0] == pytest.approx(399 / np.sqrt(2), abs=0.8)


def test_they_belong_to_planes_and_nothing_has_no_row():
    assert set(IMAGEJ) <= set(object_columns("yx"))
    assert not set(IMAGEJ) & set(object_columns("zyx"))
    for name in IMAGEJ:
        with pytest.raises(InputError, match=f"{name}.*3D"):
            region_table(np.ones((2, 3, 4), int), properties=[name])
    for shape in ((4, 5), (0, 5), (5, 0)):
        table = region_table(np.zeros(shape, int), properties=IMAGEJ)
        assert len(table) == 0
        assert set(table[IMAGEJ].dtypes) == {np.dtype(float)}


def test_an_object_measures_the_same_beside_others():
    labels = np.kron(np.arange(1, 5).reshape(2, 2), np.ones((6, 7), int))
    labels[2, 3] = labels[8, 10] = 0
    labels[5, 6] = 4  # reaches between the others
    table = region_table(labels, properties=IMAGEJ).set_index("label")
    for number in range(1, 5):
        alone = region_table(labels * (labels == number), properties=IMAGEJ).set_index("label")
        assert alone.loc[number].tolist() == table.loc[number].tolist()
