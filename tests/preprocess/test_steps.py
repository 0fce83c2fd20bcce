"""Values of the steps: against scipy, scikit-image and arithmetic in wider types."""

import numpy as np
import pytest
import scipy.ndimage as ndi
import skimage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from opsef_bridge.errors import ConfigError
from opsef_bridge.images.tiles import grow_box
from opsef_bridge.preprocess import apply_recipe, recipe_identity
from opsef_bridge.preprocess.disk import ball, disk, disk_mean, disk_opening
from opsef_bridge.sweep.reach import recipe_reach

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
@given(planes, st.one_of(st.floats(0, 2**17), st.integers(0, 2**32)))
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
    ("name", "parameters"),
    [
        *[(name, {}) for name in ("median", "mean", "gaussian", "white_tophat", "clahe", "edges")],
        *[(name, {}) for name in ("bin", "gaussian_background", "flat_field", "denoise")],
        ("rolling_ball", {"engine": "skimage", "radius": 4}),
        ("clahe", {"engine": "opencv"}),
        ("edges", {"filter": "log"}),
        ("normalise", {"per_plane": True}),
        ("median", {"legacy": True}),
        ("mean", {"legacy": True}),
        ("bin", {"legacy": True}),
    ],
)
def test_volumes_are_worked_on_plane_by_plane(name, parameters):
    volume = np.stack([skimage.data.coins()[:40, :50], skimage.data.coins()[40:80, 50:100]])
    if parameters.get("engine") == "opencv":
        # Other images than 8-bit ones have one scale to 8 bits, that of the volume.
        volume[:, 0, 0], volume[:, 0, 1] = 0, 255
    result = apply_recipe(volume, [{name: parameters}])
    for plane, expected in zip(result, volume, strict=True):
        np.testing.assert_array_equal(plane, apply_recipe(expected, [{name: parameters}]))


def test_ints_of_32_bits_are_not_rounded_to_float32():
    image = np.full((5, 5), 2**31 - 3, np.int32)
    for name in ("mean", "gaussian", "median", "bin", "subtract"):
        assert (apply_recipe(image, [name]) == 2**31 - 3).all(), name


VOLUME = np.random.default_rng(0).integers(0, 60000, (7, 17, 19)).astype(np.uint16)


@pytest.mark.parametrize(("radius", "z_radius"), [(1, 1), (3, 1), (2, 4), (5, 2)])
def test_an_ellipsoid_is_the_disk_in_the_middle_and_thins_out(radius, z_radius):
    inside = ball(radius, z_radius)
    np.testing.assert_array_equal(inside[z_radius], disk(radius))
    np.testing.assert_array_equal(inside, inside[::-1, ::-1, ::-1])
    sizes = inside.sum(axis=(1, 2))
    assert (np.diff(sizes[: z_radius + 1]) >= 0).all() and sizes[0] > 0
    assert ball(radius, 0).shape[0] == 1


@pytest.mark.parametrize(("radius", "z_radius"), [(1, 1), (3, 1), (2, 4)])
def test_mean_and_median_across_planes_are_those_over_the_ellipsoid(radius, z_radius):
    inside = ball(radius, z_radius)
    result = apply_recipe(VOLUME, [{"median": {"radius": radius, "z_radius": z_radius}}])
    expected = ndi.median_filter(VOLUME, footprint=inside, mode="nearest")
    np.testing.assert_array_equal(result, expected)
    weights = inside / inside.sum()
    expected = ndi.correlate(VOLUME.astype(float), weights, mode="nearest")
    result = apply_recipe(VOLUME, [{"mean": {"radius": radius, "z_radius": z_radius}}])
    assert np.abs(result - expected).max() <= 0.5 + 1e-6
    plane = apply_recipe(VOLUME[3], [{"mean": {"radius": radius, "z_radius": z_radius}}])
    np.testing.assert_array_equal(plane, apply_recipe(VOLUME[3], [{"mean": {"radius": radius}}]))


def test_gaussian_across_planes():
    result = apply_recipe(VOLUME, [{"gaussian": {"sigma": 2, "z_sigma": 0.7}}])
    expected = ndi.gaussian_filter(VOLUME.astype(float), (0.7, 2, 2), mode="nearest")
    assert np.abs(result - expected).max() <= 0.51


@pytest.mark.parametrize("method", ["tv", "nl_means", "bilateral"])
def test_denoise_removes_noise_and_keeps_edges(method):
    truth = np.where(np.arange(60) < 30, 1000.0, 3000.0) * np.ones((50, 1))
    image = truth + np.random.default_rng(0).normal(0, 150, truth.shape)
    recipe = [{"denoise": {"method": method, "strength": 0.3, "radius": 3}}]
    result = apply_recipe(image, recipe)
    flat = (slice(8, -8), slice(8, 22))
    assert result[flat].std() < 0.5 * image[flat].std()
    step = result[8:-8, 32].mean() - result[8:-8, 27].mean()
    assert step > 1400
    # In grey levels of the image, whatever its scale.
    scaled = apply_recipe(image * 7 + 5000, recipe)
    np.testing.assert_allclose(scaled, result * 7 + 5000, rtol=1e-5)


def test_log_is_bright_on_spots_of_its_size():
    y, x = np.mgrid[:61, :61]
    spot = np.where(np.hypot(y - 30, x - 30) <= 1.4 * 4, 1000, 0).astype(np.uint16)
    answers = {
        sigma: apply_recipe(spot, [{"edges": {"filter": "log", "sigma": sigma}}])[30, 30]
        for sigma in (1.5, 4, 12)
    }
    assert answers[4] > 2 * answers[1.5] and answers[4] > 2 * answers[12] > 0
    result = apply_recipe(spot, [{"edges": {"filter": "log", "sigma": 1.5}}])
    assert result[30, 34] > 0 > result[30, 38]
    flat = apply_recipe(np.full((30, 30), 60000, np.uint16), [{"edges": {"filter": "log"}}])
    assert not flat.any()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_log_sees_its_neighbourhood_only(dtype):
    recipe = [{"edges": {"filter": "log"}}]
    corner = np.full((80, 80), 200, dtype)
    corner[0, 0] = 90
    result = apply_recipe(corner, recipe)
    assert result[0, 0] < -1
    result[:10, :10] = 0  # 4 sigma, and one for the difference
    assert not result.any()


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["log", "sobel", "roberts"]), st.floats(0.3, 3),
    st.integers(0, 40), st.integers(0, 40), st.sampled_from(["uint16", "float32"]),
)  # fmt: skip
def test_edges_of_a_part_are_those_of_the_whole(name, sigma, y, x, dtype):
    image = np.random.default_rng(0).integers(900, 1100, (60, 60)).astype(dtype)
    image[:5] += 30000
    recipe = [{"edges": {"filter": name, "sigma": sigma}}]
    box = grow_box((y, x, 20, 20), recipe_reach(recipe), image.shape)
    part = image[box[0] : box[0] + box[2], box[1] : box[1] + box[3]]
    inside = apply_recipe(part, recipe)[y - box[0] :, x - box[1] :][:20, :20]
    expected = apply_recipe(image, recipe)[y : y + 20, x : x + 20]
    np.testing.assert_array_equal(inside, expected)


def test_log_is_the_laplacian_of_a_gaussian():
    image = skimage.data.coins().astype(float)
    result = apply_recipe(image, [{"edges": {"filter": "log", "sigma": 4}}])
    # The kernel of SciPy, cut off at 8 sigma, sums to 0 but for rounding.
    expected = -16 * ndi.gaussian_laplace(image, 4, mode="reflect", truncate=8)
    assert np.abs(result - expected).max() < 0.02 * np.abs(expected).max()


def test_normalise_by_minimum_and_maximum_and_clipped():
    recipe = [{"normalise": {"low": 0, "high": 100}}]
    result = apply_recipe(VOLUME, recipe)
    expected = (VOLUME - VOLUME.min()) / float(np.ptp(VOLUME))
    np.testing.assert_allclose(result, expected, atol=1e-6)
    clipped = apply_recipe(VOLUME, [{"normalise": {"low": 20, "high": 80, "clip": True}}])
    assert (clipped.min(), clipped.max()) == (0, 1)
    assert 0.38 < np.isin(clipped, (0, 1)).mean() < 0.42


def test_planes_that_fade_are_normalised_alike_only_by_plane():
    fading = np.stack([VOLUME[0], VOLUME[0] // 2, VOLUME[0] // 4])
    alike = apply_recipe(fading, [{"normalise": {"per_plane": True}}])
    np.testing.assert_allclose(alike[0], alike[2], atol=1e-3)
    assert np.ptp(apply_recipe(fading, ["normalise"]).mean(axis=(1, 2))) > 0.3


def test_tiles_of_a_volume_part_its_planes_too():
    volume = np.stack([skimage.data.coins()[:64, :64] // (1 + z) for z in range(6)])
    by_plane = apply_recipe(volume, [{"clahe": {"tiles": 2}}])
    whole = apply_recipe(volume, [{"clahe": {"tiles": 2, "volume": True}}])
    assert whole.shape == by_plane.shape and not np.allclose(whole, by_plane)
    assert whole[0].mean() > whole[5].mean()
    expected = skimage.exposure.equalize_adapthist(
        (volume - volume.min()) / np.ptp(volume), kernel_size=[3, 32, 32], clip_limit=0.01
    )
    np.testing.assert_allclose(whole, expected, atol=2e-3)
    with pytest.raises(ConfigError, match="for planes"):
        apply_recipe(volume, [{"clahe": {"volume": True, "engine": "opencv"}}])


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [({}, [0, 128, 255]), ({"scale": "max"}, [85, 170, 255]), ({"scale": "none"}, [100, 200, 255])],
)
def test_8_bits(parameters, expected):
    image = np.array([[100, 200, 300]], np.uint16)
    assert apply_recipe(image, [{"to_8bit": parameters}])[0].tolist() == expected
    dark = np.array([[-5.0, -300.0]])
    assert apply_recipe(dark, [{"to_8bit": {"scale": "none"}}])[0].tolist() == [0, 0]
    assert apply_recipe(dark, [{"to_8bit": {"scale": "max"}}])[0].tolist() == [0, 0]


def test_parameters_that_came_later_leave_old_keys_as_they_were():
    assert recipe_identity([{"median": {"legacy": False, "z_radius": 0}}]) == [
        ["median", 1, {"radius": 1}]
    ]
    assert recipe_identity([{"median": {"legacy": True}}]) == [
        ["median", 1, {"radius": 1, "legacy": True}]
    ]
