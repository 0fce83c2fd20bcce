from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import label, regionprops_table

from opsef_bridge.errors import InputError
from opsef_bridge.measure.regions import region_table

RANDOM = np.random.default_rng(3)
PROPERTIES = [
    *("area", "centroid", "bbox", "extent"),
    *("axis_major_length", "axis_minor_length", "eccentricity"),
    *("perimeter", "solidity", "euler_number", "feret_diameter_max"),
    *("intensity_mean", "intensity_min", "intensity_max", "intensity_std"),
]
FLAT_ONLY = {"axis_major_length", "axis_minor_length", "eccentricity", "perimeter"}


def image(shape: tuple[int, ...], share: float = 0.4) -> np.ndarray:
    return label(RANDOM.random(shape) < share, connectivity=1) * 3


@pytest.mark.parametrize("spacing", [None, (0.5, 0.5)])
def test_planes_as_scikit_image_measures_them(spacing):
    labels, intensity = image((40, 50)), RANDOM.normal(size=(40, 50)).astype(np.float32)
    table = region_table(labels, intensity, spacing, PROPERTIES)
    theirs = regionprops_table(labels, intensity, PROPERTIES, spacing=spacing or (1, 1))
    assert len(table.columns) == len(theirs) + 1
    np.testing.assert_array_equal(table.label, np.unique(labels)[1:])
    for column, expected in zip(table.columns[1:], theirs.values(), strict=True):
        # Intensities of float32 images are summed in float64 here.
        tolerance = 1e-5 if column.startswith("intensity") else 1e-9
        np.testing.assert_allclose(table[column], expected, rtol=tolerance, atol=1e-6)


@pytest.mark.parametrize("spacing", [None, (2.0, 0.5, 0.25)])
def test_volumes_as_scikit_image_measures_them(spacing):
    labels = np.zeros((7, 9, 11), np.int32)
    labels[1:4, 2:6, 3:8] = 2
    labels[2, 3, 4] = 0
    labels[5:, 6:, 8:] = 5
    names = [name for name in PROPERTIES if name not in FLAT_ONLY]
    intensity = RANDOM.random(labels.shape)
    table = region_table(labels, intensity, spacing, names)
    theirs = regionprops_table(labels, intensity, names, spacing=spacing or (1, 1, 1))
    assert table.columns[1:5].tolist() == ["area", "centroid_z", "centroid_y", "centroid_x"]
    for column, expected in zip(table.columns[1:], theirs.values(), strict=True):
        np.testing.assert_allclose(table[column], expected, rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(hnp.arrays("u1", hnp.array_shapes(min_dims=2, max_dims=3), elements=st.integers(0, 4)))
def test_the_cheap_set_is_that_of_a_loop(labels):
    intensity = np.arange(labels.size, dtype=np.uint16).reshape(labels.shape)
    table = region_table(labels, intensity).set_index("label")
    assert table.index.tolist() == [v for v in np.unique(labels).tolist() if v]
    axes = "zyx"[-labels.ndim :]
    for value, row in table.iterrows():
        places = np.argwhere(labels == value)
        inside = intensity[labels == value]
        assert row.area == len(places)
        assert row[[f"centroid_{a}" for a in axes]].tolist() == pytest.approx(places.mean(0))
        assert row[[f"bbox_{a}0" for a in axes]].tolist() == places.min(0).tolist()
        assert row[[f"bbox_{a}1" for a in axes]].tolist() == (places.max(0) + 1).tolist()
        border = (places == 0) | (places == np.array(labels.shape) - 1)
        assert row.touches_border == border.any()
        ball = len(places) * 4 / np.pi if labels.ndim == 2 else len(places) * 6 / np.pi
        assert row.equivalent_diameter == pytest.approx(ball ** (1 / labels.ndim))
        assert row.intensity_sum == inside.sum()
        assert row.intensity_mean == pytest.approx(inside.mean())
        assert (row.intensity_min, row.intensity_max) == (inside.min(), inside.max())
        assert row.intensity_std == pytest.approx(inside.std())


def test_orientation_of_lines():
    labels = np.zeros((20, 20), int)
    labels[2:12, 15] = 1
    labels[18, 2:12] = 2
    labels[np.arange(3, 9), np.arange(3, 9)] = 3
    labels[0, 0] = 4
    table = region_table(labels, properties=["orientation", "eccentricity"])
    assert table.orientation.abs().tolist() == pytest.approx([0, np.pi / 2, np.pi / 4, 0])
    theirs = regionprops_table(labels, properties=["orientation"])["orientation"]
    assert table.orientation[2] == pytest.approx(theirs[2])
    assert table.eccentricity.tolist() == pytest.approx([1, 1, 1, 0])


def test_channels_first_or_last():
    labels = image((8, 9))
    channels = RANDOM.integers(0, 4096, (2, 8, 9), dtype=np.uint16)
    table = region_table(labels, channels, properties=["intensity_max", "intensity_sum"])
    assert table.columns.tolist()[1:] == [
        "intensity_max_0",
        "intensity_max_1",
        "intensity_sum_0",
        "intensity_sum_1",
    ]
    last = region_table(
        labels, np.moveaxis(channels, 0, -1), properties=["intensity_max", "intensity_sum"]
    )
    assert last.equals(table)
    alone = region_table(labels, channels[1], properties=["intensity_max"])
    assert alone.intensity_max.tolist() == table.intensity_max_1.tolist()
    assert "intensity_mean_0" in region_table(labels, channels[:1])


@pytest.mark.parametrize("shape", [(5, 6), (3, 5, 6), (0, 6)])
def test_no_object_has_the_same_columns_and_dtypes(shape):
    names = [n for n in PROPERTIES if len(shape) == 2 or n not in FLAT_ONLY] + ["touches_border"]
    one = np.zeros([max(n, 4) for n in shape], int)
    one[..., 1:3, 1:3] = 1
    if len(shape) == 3:
        one[0] = one[-1] = 0
    for chosen in (names, None):
        empty = region_table(np.zeros(shape, int), np.zeros(shape), properties=chosen)
        full = region_table(one, one.astype(float), properties=chosen)
        assert len(empty) == 0
        assert empty.dtypes.to_dict() == full.dtypes.to_dict()


def test_huge_label_values_cost_nothing():
    labels = np.zeros((6, 6), np.int64)
    labels[1:4, 1:4] = 2**50
    table = region_table(labels, properties=["area", "solidity"])
    assert table.to_dict("records") == [{"label": 2**50, "area": 9, "solidity": 1.0}]


def test_columns_can_be_asked_for_by_name():
    labels = image((8, 9))
    table = region_table(labels, properties=["centroid_x", "label", "area", "bbox_y1"])
    assert table.columns.tolist() == ["label", "centroid_x", "area", "bbox_y1"]
    whole = region_table(labels)
    assert region_table(labels, properties=whole.columns).equals(whole)


def test_spacing_scales_lengths_and_areas_but_not_boxes():
    labels = np.zeros((10, 10), np.uint8)
    labels[2:6, 4:6] = 1
    row = region_table(labels, spacing=(0.5, 2.0)).iloc[0]
    assert row.area == 8.0
    assert (row.centroid_y, row.centroid_x) == (1.75, 9.0)
    assert (row.bbox_y0, row.bbox_x1) == (2, 6)
    assert row.equivalent_diameter == pytest.approx(np.sqrt(32 / np.pi))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"properties": ["area", "roundness"]}, "'roundness'.*eccentricity"),
        ({"properties": ["intensity_mean"]}, "need an intensity image"),
        ({"intensity": np.zeros((3, 5))}, r"\(3, 5\).*\(4, 5\)"),
        ({"spacing": (1.0,)}, "spacing"),
        ({"spacing": (1.0, 0.0)}, "above 0"),
        ({"spacing": (1.0, 2.0), "properties": ["perimeter"]}, "square pixels"),
    ],
)
def test_bad_requests_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        region_table(np.ones((4, 5), int), **arguments)


def test_what_volumes_do_not_have_is_refused():
    with pytest.raises(InputError, match=r"eccentricity.*3D"):
        region_table(np.ones((2, 3, 4), int), properties=["eccentricity"])
    with pytest.raises(InputError, match="2D or 3D"):
        region_table(np.ones(5, int))


@pytest.mark.parametrize("percent", [0, 5, 50, 99.5, 100])
def test_percentiles_are_those_of_numpy(percent):
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 9, (3, 20, 30)) * 3
    image = rng.normal(size=(2, 3, 20, 30))
    name = f"intensity_p{percent}"
    table = region_table(labels, image, properties=["intensity_median_1", name])
    assert list(table) == ["label", "intensity_median_1", f"{name}_0", f"{name}_1"]
    for row in table.itertuples(index=False):
        inside = image[:, labels == row.label]
        wanted = [np.median(inside[1]), *np.percentile(inside, percent, axis=1)]
        np.testing.assert_allclose(row[1:], wanted, rtol=1e-12)


def test_an_image_without_objects_has_the_columns_of_percentiles():
    empty = np.zeros((4, 5), np.int32)
    table = region_table(empty, empty, properties=["intensity_median", "intensity_p5"])
    assert list(table) == ["label", "intensity_median", "intensity_p5"]
    assert {str(kind) for kind in table.dtypes[1:]} == {"float64"} and not len(table)


@pytest.mark.parametrize("name", ["intensity_p101", "intensity_p-1", "intensity_p", "intensity_q5"])
def test_what_is_no_percentile_is_refused(name):
    with pytest.raises(InputError, match=name):
        region_table(np.eye(3, dtype=int), np.eye(3), properties=[name])


def test_a_pixel_that_is_no_number_makes_the_intensities_of_its_object_none():
    labels = np.array([[1, 1, 1, 2, 2, 2]])
    picture = np.array([[5, np.nan, 1, 4, 2, 9]], np.float32)
    names = [f"intensity_{name}" for name in ("mean", "min", "max", "sum", "std", "median", "p0")]
    table = region_table(labels, picture, properties=names)
    assert table.loc[0, names].isna().all()
    assert table.loc[1, names].tolist() == pytest.approx([5, 2, 9, 15, np.std([4, 2, 9]), 4, 2])


def test_small_spreads_on_a_large_level_are_exact():
    labels = np.repeat([[7, 3]], 50, axis=1)
    picture = 1e9 + np.tile([[0.25, 0.75]], 50)
    table = region_table(labels, picture, properties=["intensity_std", "intensity_mean"])
    assert table.intensity_std.tolist() == [0.25, 0.25]
    assert table.intensity_mean.tolist() == [1e9 + 0.5] * 2
