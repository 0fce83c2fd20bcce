"""Steps that look at the whole image give in tiles what they give of the whole."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from opsef_bridge.errors import InputError, NotFoundError
from opsef_bridge.imagej import worker
from opsef_bridge.images.tiles import tile_boxes
from opsef_bridge.preprocess import apply_recipe, legacy_recipe, normalise_recipe
from opsef_bridge.sweep import parts as module
from opsef_bridge.sweep.boxes import bin_factor, cut_box
from opsef_bridge.sweep.cache import ArrayCache
from opsef_bridge.sweep.parts import Whole, Windows
from opsef_bridge.sweep.reach import recipe_grid
from tests.imagej.conftest import missing

STEPS = [
    {"normalise": {}},
    {"normalise": {"low": 3, "per_plane": True, "clip": True}},
    {"normalise": {"low": 0, "high": 100}},
    {"to_8bit": {}},
    {"to_8bit": {"scale": "max", "legacy": True}},
    {"flat_field": {"sigma": 3, "dark": 5}},
    {"denoise": {"method": "bilateral", "radius": 3}},
    {"denoise": {"method": "nl_means", "radius": 3, "strength": 0.5}},
    {"clahe": {}},
    {"clahe": {"tiles": 5, "clip": 0.03}},
    {"clahe": {"tiles": 5, "engine": "opencv"}},
]
BEFORE = [[], [{"bin": {"factor": 2}}], [{"gaussian": {"sigma": 1.3}}]]
AFTER = [[], ["median"], [{"bin": {"factor": 3}}, {"normalise": {"high": 90}}]]
TILE, SIDE = 31, 40
"""Sides that part no image evenly, nor each other, nor the tiles of CLAHE."""


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(module, "SIDE", SIDE)


class Source:
    """An image that is read in windows, and how many pixels were."""

    def __init__(self, image: np.ndarray, colour: np.ndarray | None = None) -> None:
        self.image, self.colour, self.pixels = image, colour, 0

    def __call__(self, box, with_colour: bool) -> np.ndarray:
        y, x, height, width = box
        self.pixels += height * width
        found = self.colour if with_colour else self.image
        assert found is not None
        return found[..., y : y + height, x : x + width]


@functools.cache
def picture(axes: str, dtype: str) -> np.ndarray:
    """Return noise on light that is not even, in planes of their own brightness."""
    shape = {"YX": (90, 77), "ZYX": (2, 83, 70)}[axes]
    values = np.random.default_rng(5).gamma(2, 30, shape) + 20 * np.sin(np.arange(shape[-1]) / 9)
    values *= np.arange(1, shape[0] + 1)[:, np.newaxis, np.newaxis] / 2 if axes == "ZYX" else 1
    image = values.clip(0, 255) if dtype == "uint8" else values * 20
    return image.astype(dtype)


def stitched(parts: Windows, steps, **more) -> np.ndarray:
    """Put what the recipe makes of all tiles together."""
    factor = bin_factor(steps)
    found: np.ndarray | None = None
    for box in tile_boxes(parts.shape, TILE // factor * factor, shift=False):
        part = parts.part(steps, box, **more)
        if found is None:
            sides = [-(-side // factor) for side in parts.shape[-2:]]
            found = np.zeros((*part.shape[:-2], *sides), part.dtype)
        y, x = box[0] // factor, box[1] // factor
        found[..., y : y + part.shape[-2], x : x + part.shape[-1]] = part
    assert found is not None
    return found


def exact(step) -> bool:
    """Whether no sum over the image is in it."""
    return "flat_field" not in step and "nl_means" not in str(step)


def assert_equal(found: np.ndarray, expected: np.ndarray, steps) -> None:
    """Assert that the bits are equal, but where a sum over the image depends on its order."""
    if all(exact({name: parameters}) for name, parameters in steps):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype
        return
    # The mean of the light, or the running sums of squares, are of float64 or float32: where
    # a grey value lies between two whole numbers it may be rounded to the other.
    rounding = 1 if expected.dtype.kind != "f" else 1e-6 * float(np.ptp(expected))
    difference = np.abs(found.astype(float) - expected.astype(float))
    assert difference.max() <= max(rounding, 1e-6)
    assert (difference > 1e-6 * max(float(np.ptp(expected)), 1)).mean() < 1e-3


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("axes", ["YX", "ZYX"])
def test_stitched_tiles_are_the_whole(axes, step, dtype, tmp_path):
    image = picture(axes, dtype)
    number = STEPS.index(step) + 2 * (axes == "ZYX") + ["uint8", "uint16", "float32"].index(dtype)
    after = AFTER[number // 2 % 3] if exact(step) else []
    for recipe in ([step], [*BEFORE[number % 3], step, *after]):
        steps = normalise_recipe(recipe)
        whole = Whole(image, lambda: image[np.newaxis], "key", ArrayCache(tmp_path / "w"))
        parts = Windows(Source(image), image.shape, "key", ArrayCache(tmp_path / "c"))
        assert_equal(stitched(parts, steps), whole.part(steps, None), steps)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(STEPS), st.sampled_from(BEFORE), st.sampled_from(AFTER),
    st.tuples(st.integers(1, 60), st.integers(1, 60)), st.integers(0, 9),
    st.sampled_from(["uint8", "int16", "float32", "float64"]), st.data(),
)  # fmt: skip
def test_any_part_of_any_image_is_that_of_the_whole(step, before, after, shape, seed, dtype, data):
    image = np.random.default_rng(seed).normal(90, 20, shape).clip(0, 255).astype(dtype)
    steps = normalise_recipe([*before, step, *(after if exact(step) else [])])
    y, x = (data.draw(st.integers(0, side - 1)) for side in shape)
    sides = (data.draw(st.integers(1, n - at)) for n, at in zip(shape, (y, x), strict=True))
    box = (y, x, *sides)
    parts = Windows(Source(image), shape, "key", Nowhere())
    expected = apply_recipe(image, steps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SIDE", 17)
        found = parts.part(steps, box)
    bound = 1 if expected.dtype.kind != "f" else 1e-5 * max(float(np.ptp(expected)), 1)
    bound = 0 if exact(step) else bound
    np.testing.assert_allclose(
        found.astype(float), cut_box(expected, steps, box), rtol=0, atol=bound
    )


class Nowhere:
    """A cache that keeps nothing."""

    def get(self, key):
        return None

    def put(self, key, arrays, values):
        pass


@pytest.mark.parametrize("legacy", [{"projection": "Sum", "clahe": True}, {"edges": "sobel"}])
def test_the_pipelines_of_opsef_work_in_tiles(legacy, tmp_path):
    steps = normalise_recipe(legacy_recipe("Median", 3, 50, **legacy))
    image = picture("YX", "uint16")
    parts = Windows(Source(image), image.shape, "key", ArrayCache(tmp_path))
    assert_equal(stitched(parts, steps), apply_recipe(image, steps), steps)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("axes", ["YX", "ZYX"])
@pytest.mark.parametrize("before", [[], [{"bin": {"factor": 2}}]], ids=["", "bin"])
def test_the_reference_of_flat_field_is_cut_with_the_image(before, axes, dtype, tmp_path):
    image = picture(axes, dtype)
    flat = np.random.default_rng(1).integers(100, 4000, image.shape[-2:]).astype(np.uint16)
    tifffile.imwrite(tmp_path / "flat.tif", flat)
    step = {"flat_field": {"reference": str(tmp_path / "flat.tif"), "dark": 20}}
    steps = normalise_recipe([*before, step])
    parts = Windows(Source(image), image.shape, "key", ArrayCache(tmp_path / "c"))
    # All of the reference is at hand, so its mean is that of the whole, bit for bit.
    np.testing.assert_array_equal(stitched(parts, steps), apply_recipe(image, steps))


def test_a_reference_of_another_size_is_refused(tmp_path):
    image = picture("YX", "uint8")
    tifffile.imwrite(tmp_path / "flat.tif", image[:50, :50])
    steps = normalise_recipe([{"flat_field": {"reference": str(tmp_path / "flat.tif")}}])
    parts = Windows(Source(image), image.shape, "key", Nowhere())
    with pytest.raises(InputError, match=r"\(50, 50\) pixels, the image \(90, 77\)"):
        parts.part(steps, (0, 0, 50, 50))


@pytest.mark.parametrize(
    "recipe",
    [["normalise", "median"], [{"clahe": {"tiles": 3}}], [{"normalise": {}}, {"grey": {}}],
     ["grey", {"bin": {}}, "normalise"]],
    ids=str,
)  # fmt: skip
def test_samples_have_numbers_of_their_own(recipe, tmp_path):
    colour = np.stack([picture("YX", "uint8") // (3 - n) for n in range(3)])
    steps = normalise_recipe(recipe)
    whole = Whole(colour[0], lambda: colour, "key", ArrayCache(tmp_path / "w"))
    parts = Windows(Source(colour[0], colour), colour.shape[1:], "key", ArrayCache(tmp_path / "c"))
    expected = whole.part(steps, None, colour=True)
    np.testing.assert_array_equal(stitched(parts, steps, colour=True), expected)


def test_an_image_is_gone_through_once_for_all_tiles_and_workers(tmp_path):
    image = picture("YX", "uint16")
    steps = normalise_recipe(["median", "normalise"])
    source = Source(image)
    parts = Windows(source, image.shape, "key", ArrayCache(tmp_path))
    parts.part(steps, (0, 0, 8, 8))
    read = source.pixels
    assert read > image.size
    parts.part(steps, (8, 8, 8, 8))
    other = Windows(source, image.shape, "key", ArrayCache(tmp_path))
    other.part(steps, (40, 40, 8, 8))
    assert source.pixels - read <= 2 * 12**2
    # What comes after needs no other numbers, another image and other percentiles do.
    other.part((*steps, ("invert", {})), (40, 40, 8, 8))
    assert source.pixels - read <= 3 * 12**2
    other.part(normalise_recipe(["median", {"normalise": {"low": 5}}]), (40, 40, 8, 8))
    assert source.pixels - read > image.size
    read = source.pixels
    Windows(source, image.shape, "another", ArrayCache(tmp_path)).part(steps, (0, 0, 8, 8))
    assert source.pixels - read > image.size


def test_a_constant_image():
    image = np.full((50, 60), 7, np.uint16)
    for step in STEPS:
        steps = normalise_recipe([step])
        parts = Windows(Source(image), image.shape, "key", Nowhere())
        np.testing.assert_allclose(stitched(parts, steps), apply_recipe(image, steps), atol=1e-6)


@pytest.fixture(scope="module")
def imagej_worker():
    try:
        yield worker.provider("ij1")
    except NotFoundError as error:
        missing(str(error))
    finally:
        worker.close()


@pytest.mark.usefixtures("imagej_worker")
@pytest.mark.parametrize(
    "step",
    [
        {"imagej": {"plugin": "median", "radius": 2.3}},
        {"imagej": {"plugin": "mean", "radius": 3}},
        {"imagej": {"plugin": "maximum", "radius": 0.5}},
        {"imagej": {"plugin": "variance", "radius": 2}},
        {"imagej": {"plugin": "gaussian", "sigma": 4.5}},
        {"imagej": {"plugin": "unsharp_mask", "sigma": 2}},
        {"imagej": {"plugin": "rolling_ball", "radius": 8}},
        {"imagej": {"plugin": "rolling_ball", "radius": 15, "light": True}},
        {"rolling_ball": {"engine": "imagej", "radius": 31}},
    ],
    ids=str,
)
def test_what_imagej_does_in_tiles_is_what_it_does_in_the_whole(step):
    image = np.tile(picture("YX", "uint16"), (2, 2))[:160, :133]
    for dtype in (np.uint16, np.float32):
        for before in ([], [{"bin": {"factor": 3}}]):
            steps = normalise_recipe([*before, step])
            parts = Windows(Source(image.astype(dtype)), image.shape, "key", Nowhere())
            boxes = [(31, 62, 31, 31), (77, 90, 40, 43)]
            expected = apply_recipe(image.astype(dtype), steps)
            for box in boxes:
                np.testing.assert_array_equal(parts.part(steps, box), cut_box(expected, steps, box))


def test_windows_begin_where_blocks_do():
    ball = {"rolling_ball": {"engine": "imagej", "radius": 40}}
    assert recipe_grid([ball]) == 4 and recipe_grid([]) == 1
    assert recipe_grid([{"bin": {"factor": 3}}, ball, "bin"]) == 12
    assert recipe_grid(["bin", {"imagej": {"radius": 101}}]) == 16
    assert recipe_grid([{"rolling_ball": {"engine": "skimage", "radius": 40}}]) == 1
