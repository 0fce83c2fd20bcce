"""Values of the steps: against scipy, scikit-image and arithmetic in wider types."""

import numpy as np
import pytest
import scipy.ndimage as ndi
import skimage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from opsef_bridge.preprocess import apply_recipe
from opsef_bridge.preprocess.disk import disk, disk_mean, disk_opening

planes = hnp.arrays(
    st.sampled_from([np.uint8, np.uint16, np.int16, np.int32]),
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
)
radii = st.integers(1, 5)


def brute_disk(radius):
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return y**2 + x**2 <= radius**2 + 1


@pytest.mark.parametrize("radius", [1, 2, 3, 7, 25])
def test_the_disk_is_imagejs(radius):
    np.testing.assert_array_equal(disk(radius), brute_disk(radius))


@settings(max_examples=60, deadline=None)
@given(planes, radii)
def test_mean_equals_a_convolution_and_does_not_wrap(image, radius):
    footprint = brute_disk(radius) / brute_disk(radius).sum()
    expected = ndi.correlate(image.astype(float), footprint, mode="nearest")
    np.testing.assert_allclose(disk_mean(image, radius), expected, rtol=1e-9, atol=1e-6)
    result = apply_recipe(image, [{"mean": {"radius": radius}}])
    assert np.abs(result.astype(float) - expected).max() <= 0.5 + 1e-3


@settings(max_examples=60, deadline=None)
@given(planes, radii)
def test_opening_equals_scipys(image, radius):
    footprint = brute_disk(radius)
    eroded = ndi.minimum_filter(image, footprint=footprint, mode="nearest")
    expected = ndi.maximum_filter(eroded, footprint=footprint, mode="nearest")
    result = disk_opening(image, radius)
    np.testing.assert_array_equal(result, expected)
    assert (result <= image).all()


@settings(max_examples=60, deadline=None)
@given(planes, st.floats(0, 2**17))
def test_subtract_never_wraps(image, value):
    result = apply_recipe(image, [{"subtract": {"value": value}}])
    expected = np.rint(np.maximum(image.astype(float) - value, 0))
    np.testing.assert_allclose(result, expected, atol=1)  # atol: float32 at .5
    assert (result >= 0).all()


@settings(max_examples=60, deadline=None)
@given(planes, st.integers(1, 5))
def test_bin_is_the_mean_of_blocks(image, factor):
    result = apply_recipe(image, [{"bin": {"factor": factor}}])
    for (y, x), value in np.ndenumerate(result):
        block = image[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
        assert value == np.rint(block.astype(float).mean())


def test_values_near_the_end_of_uint16_do_not_wrap():
    image = np.full((9, 11), 65535, np.uint16)
    image[4, 5] = 65533
    for recipe in (["mean"], ["gaussian"], ["median"], ["bin"]):
        assert apply_recipe(image, recipe).min() >= 65533


def test_tophat_removes_a_ramp_and_keeps_spots():
    ramp = np.tile(np.linspace(0, 20000, 200), (150, 1))
    spots = np.zeros_like(ramp)
    spots[40:46, 50:56] = spots[100:106, 150:156] = 3000
    image = (ramp + spots).astype(np.uint16)
    result = apply_recipe(image, [{"white_tophat": {"radius": 20}}])
    assert result[42, 52] > 2500 and result[102, 152] > 2500
    away = result[(ndi.maximum_filter(spots, 25) == 0)][:]
    assert np.median(away) < 2100  # the ramp rises by at most 2000 over a radius


def test_gaussian_is_not_black_on_integers():
    image = skimage.data.coins()
    result = apply_recipe(image, [{"gaussian": {"sigma": 2}}])
    expected = ndi.gaussian_filter(image.astype(float), 2, mode="nearest")
    assert np.abs(result - expected).max() <= 0.51


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_invert_twice_is_nothing(dtype):
    image = (np.arange(60).reshape(6, 10) / 64).astype(dtype)
    twice = apply_recipe(image, ["invert", "invert"])
    np.testing.assert_array_equal(twice, image)
    np.testing.assert_array_equal(apply_recipe(image, ["invert"]), skimage.util.invert(image))


def test_normalise_maps_the_percentiles_and_keeps_what_is_beyond():
    image = np.arange(1000, dtype=np.uint16).reshape(20, 50)
    result = apply_recipe(image, [{"normalise": {"low": 10, "high": 90}}])
    np.testing.assert_allclose(np.percentile(result, (10, 90)), (0, 1), atol=1e-6)
    assert result.min() < 0 and result.max() > 1


def test_normalise_of_a_few_objects_on_black():
    image = np.zeros((100, 100), np.uint8)
    image[3, 4] = 200
    assert apply_recipe(image, ["normalise"]).max() == 1


def test_clahe_does_not_depend_on_scale_or_offset():
    image = skimage.data.coins().astype(np.float64)
    a = apply_recipe(image, ["clahe"])
    b = apply_recipe(image * 1000 - 5e5, ["clahe"])
    np.testing.assert_allclose(a, b, atol=2e-3)
    assert a.min() >= 0 and a.max() <= 1 and a.std() > 0.1


def test_edges_are_in_grey_levels_whatever_the_dtype():
    image = skimage.data.coins()
    for name in ("sobel", "roberts"):
        recipe = [{"edges": {"filter": name}}]
        expected = getattr(skimage.filters, name)(image.astype(float))
        for dtype in ("uint8", "uint16", "float64"):
            result = apply_recipe(image.astype(dtype), recipe)
            np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "name", ["median", "mean", "gaussian", "white_tophat", "clahe", "edges", "bin"]
)
def test_volumes_are_worked_on_plane_by_plane(name):
    volume = np.stack([skimage.data.coins()[:40, :50], skimage.data.coins()[40:80, 50:100]])
    result = apply_recipe(volume, [name])
    for plane, expected in zip(result, volume, strict=True):
        np.testing.assert_array_equal(plane, apply_recipe(expected, [name]))


def test_ints_of_32_bits_are_not_rounded_to_float32():
    image = np.full((5, 5), 2**31 - 3, np.int32)
    for name in ("mean", "gaussian", "median", "bin", "subtract"):
        assert (apply_recipe(image, [name]) == 2**31 - 3).all(), name
