"""ImageJ's algorithms against numpy, scipy and scikit-image, in the real ImageJ.

What agrees and how well is `imagej-bridge` of the reference, section 6; here it is asserted.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from skimage.data import coins
from skimage.filters import threshold_otsu
from skimage.restoration import rolling_ball as skimage_rolling_ball

from opsef_bridge.errors import InputError, NotFoundError, WorkerError
from opsef_bridge.imagej import (
    auto_threshold,
    find_maxima,
    particles,
    project,
    rolling_ball,
    run_plugin,
)
from opsef_bridge.imagej.parameters import ALGORITHMS, METHODS
from opsef_bridge.preprocess.disk import disk
from opsef_bridge.preprocess.steps import gaussian, mean, median

pytestmark = pytest.mark.usefixtures("imagej_worker")

COINS = coins()[100:250, 60:260]
CORNERS = np.ones((3, 3))

KINDS = {
    "uint8": COINS,
    "uint16": COINS.astype(np.uint16) * 200 + 7,
    "float32": COINS.astype(np.float32) * 3 - 100,
}
"""The same picture in ImageJ's own dtypes."""

LARGEST = {"uint8": 255, "uint16": 65535, "float32": np.inf}


@pytest.fixture(params=KINDS)
def image(request):
    return KINDS[request.param]


@pytest.mark.parametrize("radius", [1, 2, 5])
def test_median_is_our_step_bit_for_bit(image, radius):
    found = run_plugin(image, "median", radius=radius)
    np.testing.assert_array_equal(found, median(image, radius=radius))


@pytest.mark.parametrize("radius", [1, 2, 5])
def test_mean_is_our_step(image, radius):
    found = run_plugin(image, "mean", radius=radius)
    expected = mean(image, radius=radius)
    # Halves: ImageJ rounds up, numpy to even; and its running sums are of float32.
    most = 1 if image.dtype.kind == "u" else 1e-3
    assert np.abs(found.astype(float) - expected).max() <= most
    if image.dtype.kind == "u":
        assert (found == expected).mean() > 0.99


@pytest.mark.parametrize(("plugin", "scipys"), [("minimum", "minimum"), ("maximum", "maximum")])
def test_extremes_are_those_over_the_disk(image, plugin, scipys):
    expected = getattr(ndi, f"{scipys}_filter")(image, footprint=disk(3), mode="nearest")
    np.testing.assert_array_equal(run_plugin(image, plugin, radius=3), expected)


def test_variance_is_that_over_the_disk(image):
    wide, count = image.astype(float), disk(2).sum()
    average = ndi.correlate(wide, disk(2) / count, mode="nearest")
    variance = ndi.correlate(wide**2, disk(2) / count, mode="nearest") - average**2
    expected = np.minimum(variance, LARGEST[image.dtype.name])
    found = run_plugin(image, "variance", radius=2)
    np.testing.assert_allclose(found, expected, atol=1, rtol=1e-4)


@pytest.mark.parametrize("sigma", [1, 2, 6])
def test_gaussian_is_our_step_within_one(image, sigma):
    found = run_plugin(image, "gaussian", sigma=sigma).astype(float)
    difference = np.abs(found - gaussian(image, sigma=sigma))
    # ImageJ's kernel ends sooner: within 0.02 % of the range, for 8 bits within 0.2 %.
    assert difference.max() <= max(1, 2e-4 * np.ptp(image.astype(float)))
    if image.dtype == np.uint8:
        assert (difference == 0).mean() > 0.98


def test_unsharp_mask_is_its_formula():
    image = KINDS["float32"]
    found = run_plugin(image, "unsharp_mask", sigma=2, weight=0.6)
    blurred = ndi.gaussian_filter(image, 2, mode="nearest")
    # The plugin blurs with an accuracy of 1 %.
    np.testing.assert_allclose(found, (image - 0.6 * blurred) / 0.4, atol=8)


def test_unsharp_mask_of_integers_is_rounded_and_kept_in_range():
    wide = run_plugin(COINS.astype(np.float32), "unsharp_mask", sigma=2, weight=0.6)
    found = run_plugin(COINS, "unsharp_mask", sigma=2, weight=0.6)
    expected = np.clip(np.floor(wide + 0.5), 0, 255)
    assert (wide < 0).any() and (wide > 255).any()
    np.testing.assert_array_equal(found, expected)


class TestProject:
    @pytest.fixture
    def volume(self, image):
        return np.stack([image, image[::-1], image[:, ::-1], np.roll(image, 3)])

    @pytest.mark.parametrize("method", ["max", "min", "sum"])
    def test_extremes_and_sum_are_identical(self, volume, method):
        expected = getattr(np, method)(volume, axis=0)
        np.testing.assert_array_equal(project(volume, method), expected.astype(np.float32))

    def test_standard_deviation(self, volume):
        expected = volume.std(axis=0, ddof=1, dtype=float)
        np.testing.assert_allclose(project(volume, "sd"), expected, rtol=1e-4, atol=0.05)

    @pytest.mark.parametrize(("method", "numpys"), [("avg", np.mean), ("median", np.median)])
    def test_average_and_median_are_rounded_where_the_image_is_whole(self, volume, method, numpys):
        found, expected = project(volume, method), numpys(volume.astype(float), axis=0)
        assert found.dtype == volume.dtype
        most = 0.5 if volume.dtype.kind == "u" else 1e-4
        assert np.abs(found - expected).max() <= most

    def test_a_plane_cannot_be_projected(self):
        with pytest.raises(InputError, match=r"\(150, 200\).*ZYX"):
            project(COINS)


class TestThreshold:
    def test_otsu_is_that_of_scikit_image(self):
        # ImageJ tells its threshold as the last value of the background.
        assert auto_threshold(COINS, "Otsu") == threshold_otsu(COINS) + 1

    @pytest.mark.parametrize("method", METHODS)
    def test_every_method_parts_the_coins_from_their_ground(self, method):
        low = auto_threshold(COINS, method)
        mask = run_plugin(COINS, "auto_threshold", method=method)
        np.testing.assert_array_equal(mask, np.where(low <= COINS, 255, 0))
        dark = run_plugin(COINS, "auto_threshold", method=method, light=True)
        np.testing.assert_array_equal(dark, 255 - mask)
        assert mask.dtype == np.uint8 and 0.05 < (mask > 0).mean() < 0.95

    def test_more_than_8_bits_are_counted_in_256_steps(self):
        for name in ("uint16", "float32"):
            image = KINDS[name]
            step = np.ptp(image.astype(float)) / 256
            shift = image.astype(float) - COINS.astype(float) * (200 if name == "uint16" else 3)
            eight = threshold_otsu(COINS) * (200 if name == "uint16" else 3) + shift.flat[0]
            assert abs(auto_threshold(image, "Otsu") - eight) <= 2 * step

    @pytest.mark.parametrize("method", METHODS)
    def test_one_value_throughout_is_no_object(self, method):
        assert not run_plugin(np.full((9, 9), 7, np.uint8), "auto_threshold", method=method).any()

    def test_a_volume_has_no_one_threshold(self):
        with pytest.raises(InputError, match="one plane"):
            auto_threshold(np.stack([COINS, COINS]))

    def test_every_plane_of_a_volume_has_its_own(self):
        volume = np.stack([COINS, COINS // 2])
        found = run_plugin(volume, "auto_threshold", method="Otsu")
        each = [run_plugin(plane, "auto_threshold", method="Otsu") for plane in volume]
        np.testing.assert_array_equal(found, each)


class TestParticles:
    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(arrays(bool, (12, 14)))
    def test_count_and_areas_are_those_of_8_connected_labels(self, mask):
        found = particles(mask)
        expected, count = ndi.label(mask, CORNERS)
        assert found.dtype == np.int32 and found.max() == count
        np.testing.assert_array_equal(found > 0, mask)
        # Every label meets exactly one, both ways.
        pairs = {*zip(found[mask].tolist(), expected[mask].tolist(), strict=True)}
        assert len(pairs) == count

    def test_areas_limit_inclusively(self):
        mask = COINS > 110
        sizes = np.bincount(ndi.label(mask, CORNERS)[0].ravel())[1:]
        low, high = np.sort(sizes)[[1, -2]]
        found = np.bincount(particles(mask, min_area=low, max_area=high).ravel())[1:]
        assert sorted(found) == sorted(sizes[(low <= sizes) & (sizes <= high)])
        assert 0 < len(found) < len(sizes)

    def test_edges_holes_and_roundness(self):
        mask = np.zeros((40, 60), np.uint8)
        mask[0:6, 0:6] = 1  # at the border
        mask[10:30, 10:30] = 1  # a ring
        mask[15:25, 15:25] = 0
        mask[18:21, 18:21] = 1  # an object in its hole
        mask[35, 5:55] = 1  # a line
        assert particles(mask).max() == 4
        assert particles(mask, exclude_edges=True).max() == 3
        whole = particles(mask, include_holes=True)
        assert whole.max() == 3 and (whole[10:30, 10:30] == whole[10, 10]).all()
        assert particles(mask, min_circularity=0.5).max() == 3

    def test_planes_of_a_volume_are_numbered_on(self):
        mask = np.zeros((3, 9, 9), bool)
        mask[0, 1, 1] = mask[0, 5, 5] = mask[2, 5, 5] = True
        found = particles(mask)
        assert found[0, 1, 1] == 1 and found[0, 5, 5] == 2 and found[2, 5, 5] == 3
        assert np.count_nonzero(found) == 3

    def test_what_lies_in_a_mask_of_any_kind(self):
        mask = (COINS > 110) * -3.5
        assert particles(mask).max() == 0
        np.testing.assert_array_equal(particles(-mask), particles(mask < 0))

    def test_more_than_can_be_numbered_is_an_error(self):
        mask = np.zeros((520, 520), np.uint8)
        mask[::2, ::2] = 1
        with pytest.raises(WorkerError, match=r"67600 objects.*65535"):
            particles(mask)


class TestMaxima:
    @pytest.fixture
    def hills(self):
        y, x = np.mgrid[:60, :80]
        places = [(15, 15, 200), (15, 50, 100), (45, 30, 150)]
        height = [h * np.exp(-((y - a) ** 2 + (x - b) ** 2) / 50) for a, b, h in places]
        return np.max(height, axis=0).astype(np.float32)

    def test_one_point_a_hill(self, hills):
        found = find_maxima(hills, 10)
        assert found.dtype == np.uint8 and set(np.unique(found)) == {0, 255}
        assert np.argwhere(found).tolist() == [[15, 15], [15, 50], [45, 30]]

    def test_the_tolerance_leaves_out_low_hills(self, hills):
        assert np.argwhere(find_maxima(hills, 120)).tolist() == [[15, 15], [45, 30]]

    def test_light_finds_dips(self, hills):
        np.testing.assert_array_equal(find_maxima(-hills, 10, light=True), find_maxima(hills, 10))

    def test_within_tolerance_and_segmented(self, hills):
        near = find_maxima(hills, 10, output="within_tolerance")
        assert near[15, 15] and near[15, 16] and not near[15, 30]
        parts = find_maxima(hills, 10, output="segmented")
        assert ndi.label(parts)[1] == 3

    def test_nothing_stands_out_of_a_plain(self):
        assert not find_maxima(np.full((20, 20), 9, np.uint8)).any()


class TestRollingBall:
    """ImageJ's differs from scikit-image's: why every record names the engine."""

    def test_it_differs_visibly_from_scikit_images(self):
        ij = rolling_ball(COINS, 50)
        ski = COINS - skimage_rolling_ball(COINS, radius=50).astype(np.uint8)
        equal = (ij == ski).mean()
        difference = np.abs(ij.astype(int) - ski).mean()
        print(f"engine ij-1.54p against scikit-image: {equal:.1%} equal, mean {difference:.1f}")
        assert equal < 0.1 and difference > 5
        rough = rolling_ball(COINS, 50, smooth=False)
        assert np.corrcoef(rough.ravel(), ski.ravel())[0, 1] > 0.9, "yet of the same kind"

    def test_background_goes_and_small_objects_stay(self):
        y, x = np.mgrid[:120, :150]
        image = (50 + 0.3 * x + 0.2 * y).astype(np.float32)
        image[50:56, 70:76] += 40
        found = rolling_ball(image, 30)
        assert np.abs(found[:40]).max() < 3
        assert np.abs(found[52:54, 72:74] - 40).max() < 3

    def test_light_is_the_inverse(self):
        dark = rolling_ball(COINS, 20)
        light = rolling_ball(255 - COINS, 20, light=True)
        assert np.abs(light.astype(int) - (255 - dark.astype(int))).max() <= 1

    def test_the_paraboloid_is_another_and_has_two_names(self):
        found = rolling_ball(COINS, 20, sliding=True)
        np.testing.assert_array_equal(found, run_plugin(COINS, "sliding_paraboloid", radius=20))
        assert (found != rolling_ball(COINS, 20)).mean() > 0.5

    def test_smoothing_matters(self):
        assert (rolling_ball(COINS, 20) != rolling_ball(COINS, 20, smooth=False)).mean() > 0.5

    @pytest.mark.parametrize("shape", [(1, 1), (2, 3), (9, 1), (1, 9), (5, 8), (8, 5)], ids=str)
    @pytest.mark.parametrize("radius", [5, 25, 80, 300])
    def test_images_smaller_than_the_ball(self, shape, radius):
        # Plain ImageJ raises ArrayIndexOutOfBoundsException for the narrow ones.
        image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        found = rolling_ball(image, radius)
        assert found.shape == shape and found.max() <= image.max()


class TestDtypes:
    @pytest.mark.parametrize("dtype", ["int8", "int16", "uint32", "int32", "float64"])
    def test_others_go_through_float32_and_come_back(self, dtype):
        image = (COINS // 2).astype(dtype) - (60 if dtype.startswith("i") else 0)
        found = run_plugin(image, "median", radius=2)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, median(image, radius=2))

    def test_the_ends_of_wide_integers_do_not_wrap(self):
        for dtype in ("uint32", "int32"):
            limits = np.iinfo(dtype)
            image = np.array([[limits.min, limits.max]] * 3, dtype)
            np.testing.assert_array_equal(run_plugin(image, "maximum", radius=1), limits.max)
            np.testing.assert_array_equal(run_plugin(image, "minimum", radius=1), limits.min)

    def test_bool_is_taken_as_uint8(self):
        assert run_plugin(COINS > 100, "maximum", radius=1).dtype == np.uint8

    def test_bytes_in_any_order(self):
        image = KINDS["uint16"]
        found = run_plugin(image.astype(">u2")[:, ::-1], "median", radius=1)
        np.testing.assert_array_equal(found[:, ::-1], run_plugin(image, "median", radius=1))

    def test_a_volume_is_its_planes(self):
        volume = np.stack([COINS, COINS[::-1]])
        expected = [rolling_ball(plane, 20) for plane in volume]
        np.testing.assert_array_equal(rolling_ball(volume, 20), expected)


class TestBadInput:
    @pytest.mark.parametrize(
        "image",
        [
            np.zeros((0, 5)),
            np.zeros(5),
            np.zeros((2, 2, 2, 2)),
            np.array([["a"]]),
            np.array([[1j]]),
            np.array([[np.nan]]),
            np.array([[np.inf, 0]]),
        ],
        ids=["empty", "1-D", "4-D", "text", "complex", "nan", "inf"],
    )
    def test_what_is_no_image(self, image):
        with pytest.raises(InputError):
            rolling_ball(image)

    @pytest.mark.parametrize(
        ("plugin", "parameters", "said"),
        [
            ("median", {"radius": 0}, "radius is 0"),
            ("median", {"radius": 101}, "radius is 101"),
            ("median", {"radius": float("nan")}, "radius is nan"),
            ("median", {"radius": "wide"}, "radius is 'wide'"),
            ("median", {"sigma": 1}, "no parameter 'sigma'"),
            ("gaussian", {"sigma": 0}, "sigma is 0"),
            ("auto_threshold", {"method": "otsu"}, "method is 'otsu'"),
            ("unsharp_mask", {"weight": 1}, "weight is 1"),
            ("find_maxima", {"output": "list"}, "output is 'list'"),
        ],
    )
    def test_parameters_out_of_their_limits(self, plugin, parameters, said):
        with pytest.raises(InputError, match=said):
            run_plugin(COINS, plugin, **parameters)

    def test_only_what_is_on_the_list(self):
        with pytest.raises(NotFoundError, match=r"'exec'.*rolling_ball, "):
            run_plugin(COINS, "exec")


TRAPS = """
from scyjava import jimport
from opsef_bridge.imagej import algorithms, imagej2
from opsef_bridge.errors import WorkerError

def said(call):
    try:
        call()
    except BaseException as error:
        return type(error).__name__
    return "nothing"

def run():
    image = algorithms.image_plus(algorithms.processor(inputs["image"]))
    jimport("ij.IJ").run(image, "Median...", "radius=2")
    outputs["after"] = algorithms.pixels_of(image.getProcessor())

outputs["first"] = np.array(said(run))
outputs["second"] = np.array(said(run))
outputs["manager"] = np.array(said(lambda: jimport("ij.plugin.frame.RoiManager")(False)))
outputs["dialog"] = np.array(said(lambda: jimport("ij.gui.GenericDialog")("ask")))

lut = jimport("ij.process.LUT").createLutFromColor(jimport("java.awt.Color")(10, 20, 30))
outputs["lut"] = np.array(said(lambda: lut.getRed(255)))
import jpype
outputs["wrapped"] = np.array(int(lut.getRed(jpype.JInt(255))))

outputs["direct"] = algorithms.run("median", inputs["image"], {"radius": 2.0})[0]
outputs["macro"] = np.array(said(
    lambda: imagej2.run_macro(inputs["image"], 'run("Median...", "radius=2");')
))
algorithms._CALLS["fails"] = lambda image: jimport("ij.process.ByteProcessor")(-1, 5)
outputs["java"] = np.array(said(lambda: algorithms.run("fails", inputs["image"], {})))
methods = jimport("ij.process.AutoThresholder").getMethods()
outputs["methods"] = np.array([str(name) for name in methods])
"""


def test_traps_of_an_imagej_without_a_display(in_imagej):
    """Why the worker never uses ``IJ.run``: without a display it does nothing, in silence."""
    found = in_imagej(TRAPS, image=COINS)
    assert "HeadlessException" in str(found["first"])
    assert found["second"] == "nothing", "if it raises now, the rule may be looked at again"
    np.testing.assert_array_equal(found["after"], COINS)
    assert "HeadlessException" in str(found["manager"])
    assert "HeadlessException" in str(found["dialog"])
    assert found["lut"] == "TypeError" and found["wrapped"] == 10
    np.testing.assert_array_equal(found["direct"], median(COINS, radius=2))
    assert found["macro"] == "WorkerError", "what IJ.run swallows is told of a macro"
    assert found["java"] == "WorkerError", "errors of Java have a type of ours"
    assert tuple(found["methods"]) == METHODS


COMMANDS = {
    "median": ({"radius": 2}, 'run("Median...", "radius=2");'),
    "gaussian": ({"sigma": 2}, 'run("Gaussian Blur...", "sigma=2");'),
    "unsharp_mask": ({"sigma": 1, "weight": 0.6}, 'run("Unsharp Mask...", "radius=1 mask=0.60");'),
    "variance": ({"radius": 2}, 'run("Variance...", "radius=2");'),
    "rolling_ball": ({"radius": 50}, 'run("Subtract Background...", "rolling=50");'),
    "sliding_paraboloid": (
        {"radius": 20, "light": True, "smooth": False},
        'run("Subtract Background...", "rolling=20 light sliding disable");',
    ),
    "find_maxima": (
        {"tolerance": 10},
        'run("Find Maxima...", "prominence=10 output=[Single Points]");',
    ),
    "auto_threshold": (
        {"method": "Triangle"},
        'setOption("BlackBackground", true); setAutoThreshold("Triangle dark");'
        ' run("Convert to Mask");',
    ),
}

IN_WINDOW = """
import json
from opsef_bridge.imagej import imagej2
for name, macro in json.loads(str(inputs["macros"])).items():
    for kind in ("uint8", "uint16", "float32"):
        outputs[f"{name} {kind}"] = imagej2.run_macro(inputs[kind], macro)
"""


def test_the_classes_give_what_the_commands_of_the_menu_give(in_imagej, display):
    """In ImageJ with a display, where commands work; so `imagej2.run_macro` is seen to work."""
    import json

    macros = json.dumps({name: macro for name, (_, macro) in COMMANDS.items()})
    found = in_imagej(IN_WINDOW, headless=False, macros=np.array(macros), **KINDS)
    for name, (parameters, _) in COMMANDS.items():
        for kind, image in KINDS.items():
            ours = run_plugin(image, name, **parameters)
            np.testing.assert_array_equal(found[f"{name} {kind}"], ours, f"{name} {kind}")


def test_every_algorithm_of_ij1_has_a_call():
    from opsef_bridge.imagej import algorithms

    ours = {name for name, one in ALGORITHMS.items() if one.provider == "ij1"}
    assert set(algorithms._CALLS) == ours
