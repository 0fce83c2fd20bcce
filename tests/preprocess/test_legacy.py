"""OpSeF's own numbers, against the calls that it made (facts of its code, restated)."""

import numpy as np
import pytest
import scipy.ndimage as ndi
import skimage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.filters import rank, roberts, sobel
from skimage.morphology import disk as skimage_disk

from opsef_bridge.errors import ConfigError, InputError
from opsef_bridge.preprocess import apply_recipe, legacy_recipe
from opsef_bridge.preprocess.opencv_clahe import opencv_clahe

planes = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14))


@settings(max_examples=60, deadline=None)
@given(planes, st.integers(1, 7))
def test_mean_7_is_a_disk_of_radius_7_cut_at_the_border(image, radius):
    expected = rank.mean(image, skimage_disk(radius))
    result = apply_recipe(image, [{"mean": {"radius": radius, "legacy": True}}])
    np.testing.assert_array_equal(result, expected)


def test_the_mean_of_floats_is_not_cut():
    image = np.random.default_rng(0).random((12, 15))
    result = apply_recipe(image, [{"mean": {"radius": 3, "legacy": True}}])
    inside = np.pad(np.ones(image.shape), 3)
    total = ndi.correlate(np.pad(image, 3), skimage_disk(3).astype(float))[3:-3, 3:-3]
    count = ndi.correlate(inside, skimage_disk(3).astype(float))[3:-3, 3:-3]
    np.testing.assert_allclose(result, total / count)


@settings(max_examples=40, deadline=None)
@given(planes, st.integers(1, 3))
def test_median_is_a_square(image, radius):
    footprint = np.ones((2 * radius + 1, 2 * radius + 1), bool)
    expected = skimage.filters.median(image, footprint)
    result = apply_recipe(image, [{"median": {"radius": radius, "legacy": True}}])
    np.testing.assert_array_equal(result, expected)


def test_corrected_means_differ_from_them():
    image = skimage.data.coins()
    for name in ("mean", "median"):
        new, old = ([{name: {"radius": 3, "legacy": old}}] for old in (False, True))
        assert not np.array_equal(apply_recipe(image, new), apply_recipe(image, old))


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.uint16, np.int64]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.integers(0, 60000),
    )
)
def test_8_bits_are_those_of_a_cast(image):
    wrapped = apply_recipe(image, [{"to_8bit": {"scale": "none", "legacy": True}}])
    np.testing.assert_array_equal(wrapped, (image & 255).astype(np.uint8))
    if image.max():
        scaled = apply_recipe(image, [{"to_8bit": {"scale": "max", "legacy": True}}])
        np.testing.assert_array_equal(
            scaled, (255 * image.astype(np.int64) // int(image.max())).astype(np.uint8)
        )
    kept = apply_recipe(image, [{"to_8bit": {"scale": "none"}}])
    np.testing.assert_array_equal(kept, np.minimum(image, 255))


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5])
def test_bins_are_bilinear(factor):
    cv2 = pytest.importorskip("cv2")
    image = skimage.data.coins()[: 20 * factor, : 30 * factor]
    expected = cv2.resize(image, (30, 20), interpolation=cv2.INTER_LINEAR)
    result = apply_recipe(image, [{"bin": {"factor": factor, "legacy": True}}])
    assert np.abs(result.astype(int) - expected).max() <= 1  # halves are rounded differently
    assert (result == expected).mean() > 0.7


@settings(max_examples=60, deadline=None)
@given(planes, st.integers(1, 9), st.sampled_from([0.5, 2.0, 3.0, 40.0, 256.0]))
def test_clahe_is_opencvs(image, tiles, limit):
    cv2 = pytest.importorskip("cv2")
    expected = cv2.createCLAHE(limit, (tiles, tiles)).apply(image).astype(int)
    # 1, because a processor that multiplies and adds at once may round halves otherwise.
    assert np.abs(opencv_clahe(image, tiles, limit) - expected).max() <= 1


@pytest.mark.parametrize(("tiles", "limit"), [(8, 2.0), (18, 3.0), (5, 40.0)])
def test_clahe_of_a_photograph_is_opencvs(tiles, limit):
    cv2 = pytest.importorskip("cv2")
    image = skimage.data.coins()
    expected = cv2.createCLAHE(limit, (tiles, tiles)).apply(image)
    assert (opencv_clahe(image, tiles, limit) == expected).mean() > 0.999


def original(plane, filter, kernel, subtract, projection, clahe, edges, invert):
    """The steps of ``preprocess_step2`` on one plane, by the libraries that it called."""
    if filter == "Median":
        plane = skimage.filters.median(plane, np.ones((kernel, kernel), bool))
    elif filter == "Mean":
        plane = rank.mean(plane, skimage_disk(kernel))
    plane = np.where(plane < subtract, 0, plane - subtract).astype(plane.dtype)
    if projection == "Sum":
        plane = plane.astype(np.uint64)
        eight = (255 * plane / plane.max()).astype(np.uint8)
    else:
        eight = (plane & 255).astype(np.uint8)
    if edges != "no":
        found = {"sobel": sobel, "roberts": roberts}[edges](eight)
        eight = (255 * found / found.max()).astype(np.uint8)
    if invert:
        eight = 255 - eight
    if clahe:
        eight = opencv_clahe(eight, 18, 3)  # which is cv2's, as the test above says
    return eight


@pytest.mark.filterwarnings("ignore:Bad rank filter performance")
@pytest.mark.parametrize("filter", [("None", 0), ("Median", 3), ("Mean", 7)], ids=str)
@pytest.mark.parametrize("projection", ["Max", "Sum"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pipelines_have_opsefs_grey_values(filter, projection, dtype):
    image = skimage.data.coins()[:120, :140].astype(dtype) * (1 if dtype == np.uint8 else 5)
    for clahe, edges, invert in [
        (False, "no", False), (True, "no", True), (False, "sobel", True), (True, "roberts", False)
    ]:  # fmt: skip
        recipe = legacy_recipe(*filter, 50, projection, clahe, edges=edges, invert=invert)
        result = apply_recipe(image, recipe)
        if result.dtype == np.float32:  # CLAHE: 0 to 1
            result = np.rint(result * 255).astype(np.uint8)
        expected = original(image, *filter, 50, projection, clahe, edges, invert)
        np.testing.assert_array_equal(result, expected, err_msg=f"{clahe} {edges} {invert}")


@pytest.mark.parametrize("edges", ["sobel", "roberts"])
@pytest.mark.parametrize("projection", ["Max", "Sum"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), clahe=st.booleans(), blurred=st.booleans())
def test_edges_are_cut_as_of_float64(edges, projection, seed, clahe, blurred):
    image = np.random.default_rng(seed).integers(0, 256, (90, 100))
    image = (ndi.gaussian_filter(image, 2) if blurred else image).astype(np.uint8)
    recipe = legacy_recipe(projection=projection, clahe=clahe, edges=edges)
    result = apply_recipe(image, recipe)
    result = np.rint(result * 255).astype(np.uint8) if clahe else result
    expected = original(image, "None", 0, 0, projection, clahe, edges, False)
    np.testing.assert_array_equal(result, expected)


def test_edges_of_opsef_are_planes_of_float64_and_no_log():
    volume = np.stack([skimage.data.coins()[:40, :50]] * 2)
    result = apply_recipe(volume, [{"edges": {"legacy": True}}])
    assert result.dtype == np.float64 and result.shape == volume.shape
    np.testing.assert_array_equal(result[0], sobel(volume[0]))
    with pytest.raises(ConfigError, match="leave out legacy"):
        apply_recipe(volume, [{"edges": {"filter": "log", "legacy": True}}])


def test_the_order_is_that_of_the_code():
    recipe = legacy_recipe("Mean", 7, 50, "Sum", True, ((18, 18), 3), "sobel", True)
    names = [next(iter(step)) for step in recipe]
    assert names == ["mean", "subtract", "to_8bit", "edges", "to_8bit", "invert", "clahe"]
    assert recipe[-1] == {"clahe": {"tiles": 18, "clip": 3 / 256, "engine": "opencv"}}
    assert legacy_recipe("Median", 1) == [{"to_8bit": {"scale": "none", "legacy": True}}]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"filter": "Gaussian", "kernel": 2}, "Gaussian"),
        ({"filter": "Median", "kernel": 4}, "4"),
        ({"filter": "Mean", "kernel": 0}, "0"),
        ({"projection": "Min"}, "Min"),
        ({"edges": "canny"}, "canny"),
        ({"clahe": True, "clahe_parameters": ((8, 9), 3)}, "8 x 9"),
    ],
)
def test_what_has_no_counterpart_is_told(arguments, words):
    with pytest.raises(InputError, match=words):
        legacy_recipe(**arguments)
