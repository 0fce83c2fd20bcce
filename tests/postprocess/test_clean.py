import numpy as np
import pydantic
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from opsef_bridge.errors import InputError
from opsef_bridge.postprocess import Postprocess, clean

images = hnp.arrays(
    np.int32,
    hnp.array_shapes(min_dims=2, max_dims=3, max_side=9),
    elements=st.sampled_from([0, 0, 1, 2, 5, 9, 70000]),
)


def draw(*rows):
    return np.array([[int(c) for c in row] for row in rows])


@settings(max_examples=60, deadline=None)
@given(images)
def test_without_options_it_only_renumbers(labels):
    before = labels.copy()
    result = clean(labels)
    ids = np.unique(labels[labels > 0])
    assert result.dtype == np.int32
    np.testing.assert_array_equal(
        result, np.searchsorted(ids, labels) * (labels > 0) + (labels > 0)
    )
    np.testing.assert_array_equal(labels, before)


@settings(max_examples=60, deadline=None)
@given(images, st.integers(0, 6), st.integers(0, 12))
def test_area_bounds_are_inclusive(labels, low, more):
    result = clean(labels, keep=[{"area": (low, low + more)}])
    for label in np.unique(labels[labels > 0]):
        area = (labels == label).sum()
        kept = result[labels == label] > 0
        assert kept.all() == kept.any() == (low <= area <= low + more)


@settings(max_examples=80, deadline=None)
@given(images)
def test_filling_takes_background_only_and_leaves_no_hole(labels):
    result = clean(labels, fill_holes=True)
    assert ((result > 0) >= (labels > 0)).all()
    plain = clean(labels)
    np.testing.assert_array_equal(result[labels > 0], plain[labels > 0])
    for label in range(1, result.max() + 1):
        mask = result == label
        assert (result[ndi.binary_fill_holes(mask) & ~mask] > 0).all()


def test_the_inner_of_two_rings_keeps_its_hole():
    rings = draw("1111111", "1000001", "1022201", "1020201", "1022201", "1000001", "1111111")
    expected = draw("1111111", "1111111", "1122211", "1122211", "1122211", "1111111", "1111111")
    for numbers in ((0, 1, 2), (0, 2, 1)):
        swap = np.array(numbers)
        np.testing.assert_array_equal(clean(swap[rings], fill_holes=True), swap[expected])


def test_objects_at_the_border_go():
    labels = draw("10000", "10220", "00200", "03000", "03044")
    np.testing.assert_array_equal(clean(labels, clear_border=True) > 0, labels == 2)
    volume = np.stack([labels] * 2)
    np.testing.assert_array_equal(clean(volume, clear_border=True) > 0, volume == 2)


def test_solidity_and_area_together():
    labels = np.zeros((40, 80), int)
    labels[5:25, 5:25] = 4
    labels[5:25, 40:60] = 8
    labels[8:25, 43:57] = 0  # a U: solidity about a third
    labels[30:33, 30:33] = 6
    result = clean(labels, keep=[{"area": [30, None]}, {"solidity": [0.8, None]}])
    np.testing.assert_array_equal(result, labels == 4)


def test_an_open_range_keeps_all_and_an_empty_image_stays():
    labels = draw("0110", "2200")
    np.testing.assert_array_equal(clean(labels, keep=[{"area": (None, None)}]), labels)
    for options in ({"fill_holes": True}, {"clear_border": True}, {"keep": [{"area": (1, 2)}]}):
        assert not clean(np.zeros((5, 6), int), **options).any()


@pytest.mark.parametrize("name", ["roundness", "centroid", "intensity_mean"])
def test_unknown_properties_are_named(name):
    with pytest.raises(InputError, match=name):
        clean(draw("011"), keep=[{name: (0, 1)}])


@pytest.mark.parametrize(
    "labels", [draw("01") - 1, np.zeros((3, 3)), np.zeros(3, int), np.zeros((0, 3), int)]
)
def test_what_is_no_label_image_is_refused(labels):
    with pytest.raises(InputError):
        clean(labels)


@pytest.mark.parametrize(
    "block",
    [
        {"fill": True},
        {"keep": [{"area": [5, 3]}]},
        {"keep": [{"area": 5}]},
        {"keep": {"area": [5, 9]}},
        {"fill_holes": "maybe"},
        {"keep": [{"area": [float("nan"), None]}]},
    ],
)
def test_the_model_refuses(block):
    with pytest.raises(pydantic.ValidationError):
        Postprocess(**block)


def test_the_model_fits_the_function():
    block = Postprocess(fill_holes=True, keep=[{"area": [2, None]}])
    assert clean(draw("0110", "0102"), **block.model_dump()).max() == 1
    assert Postprocess.model_validate_json(block.model_dump_json()) == block
