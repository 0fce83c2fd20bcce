"""Parts of an image after a recipe are those of the whole image, and the sample is like it."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from opsef_bridge.config import parse_config
from opsef_bridge.errors import ConfigError, ImageError
from opsef_bridge.images import Region, read_image
from opsef_bridge.preprocess import apply_recipe, normalise_recipe
from opsef_bridge.preprocess.registry import find_step
from opsef_bridge.project import ImageEntry, Project
from opsef_bridge.sweep import parts as module
from opsef_bridge.sweep.boxes import cut_box
from opsef_bridge.sweep.cache import ArrayCache
from opsef_bridge.sweep.parts import Whole, Windows
from opsef_bridge.sweep.planned import PlannedImage
from opsef_bridge.sweep.predict import open_parts
from opsef_bridge.sweep.reach import REACH, recipe_reach
from opsef_bridge.sweep.sample import choose_box, choose_box_in
from tests.sweep.test_reach import STEPS

RECIPES = {
    "raw": [],
    "bin": [{"bin": {"factor": 3}}],
    "edges": [{"edges": {"filter": "sobel"}}],
    "log": [{"edges": {"filter": "log", "sigma": 1}}],
    "gaussian": [{"gaussian": {"sigma": 1.5}}],
    "gaussian_background": [{"gaussian_background": {"sigma": 2}}],
    "invert": ["invert"],
    "mean": [{"mean": {"radius": 4}}],
    "median": [{"median": {"radius": 3}}],
    "rolling_ball": [{"rolling_ball": {"engine": "skimage", "radius": 5}}],
    "subtract": [{"subtract": {"value": 40}}],
    "to_8bit": [{"to_8bit": {"scale": "none"}}],
    "white_tophat": [{"white_tophat": {"radius": 4}}],
    "several": [{"bin": {"factor": 2}}, {"median": {"radius": 2}}, {"white_tophat": {"radius": 3}}],
}
COLOUR = ["colour_deconvolution", "grey", "single_channel"]


def test_every_step_that_is_said_to_work_in_tiles_is_tried():
    tried = {name for recipe in RECIPES.values() for name, _ in normalise_recipe(recipe)}
    elsewhere = {name for step in STEPS for name, _ in normalise_recipe([step])} | {"imagej"}
    assert tried | set(COLOUR) | elsewhere == set(REACH)


class Nowhere:
    """A cache that keeps nothing."""

    def get(self, key):
        return None

    def put(self, key, arrays, values):
        pass


def windows(image: np.ndarray, cache=None, colour: np.ndarray | None = None) -> Windows:
    def read(box, with_colour):
        y, x, height, width = box
        source = colour if with_colour else image
        return source[..., y : y + height, x : x + width]

    return Windows(read, image.shape, "key", cache or Nowhere())


@functools.cache
def noise(axes: str) -> np.ndarray:
    shape = {"YX": (90, 77), "ZYX": (3, 60, 71)}[axes]
    return np.random.default_rng(len(axes)).integers(0, 250, shape, np.uint16)


@functools.cache
def output(name: str, axes: str) -> np.ndarray:
    return apply_recipe(noise(axes), RECIPES[name])


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(sorted(RECIPES)), st.sampled_from(["YX", "ZYX"]), st.data())
def test_a_part_is_what_the_recipe_makes_of_the_whole_image(name, axes, data):
    image, steps = noise(axes), normalise_recipe(RECIPES[name])
    y, x = (data.draw(st.integers(0, side - 1)) for side in image.shape[-2:])
    sides = (
        data.draw(st.integers(1, n - at)) for n, at in zip(image.shape[-2:], (y, x), strict=True)
    )
    box = (y, x, *sides)
    found = windows(image).part(steps, box)
    # The kernel of `log` ends at 4 sigma and has a sum, so its first pixel shines through.
    tolerance = 0.1 if name == "log" else 0
    assert np.allclose(found, cut_box(output(name, axes), steps, box), rtol=0, atol=tolerance)


@pytest.mark.parametrize("step", COLOUR)
def test_steps_that_make_grey_of_colour(step):
    colour = np.random.default_rng(1).integers(1, 255, (3, 60, 50), np.uint8)
    recipe = normalise_recipe([step, {"median": {"radius": 2}}])
    whole = apply_recipe(np.moveaxis(colour, 0, -1), recipe)
    found = windows(colour[0], colour=colour).part(recipe, (20, 10, 30, 25))
    assert np.array_equal(found, whole[20:50, 10:35])
    in_memory = Whole(colour[0], lambda: colour, "key", Nowhere())
    assert np.array_equal(in_memory.part(recipe, None), whole)
    before = normalise_recipe([{"median": {"radius": 1}}, step])
    expected = apply_recipe(np.moveaxis(colour, 0, -1), before)
    assert np.array_equal(in_memory.part(before, None), expected)


@pytest.mark.parametrize(
    "step",
    [
        "denoise",
        "clahe_fiji",
        {"clahe": {"volume": True}},
        {"rolling_ball": {"engine": "imagej", "sliding": True}},
        {"imagej": {"plugin": "rolling_ball", "sliding": True}},
        {"imagej": {"plugin": "sliding_paraboloid"}},
        {"imagej": {"plugin": "gaussian", "sigma": 4.6}},
        {"imagej": {"plugin": "find_maxima"}},
        {"imagej": {"plugin": "auto_threshold"}},
        {"imagej": {"macro": "x"}},
    ],
    ids=str,
)
def test_steps_that_look_at_the_whole_image_are_refused(step):
    name = step if isinstance(step, str) else next(iter(step))
    with pytest.raises(ConfigError, match=f"{name} looks at the whole") as caught:
        recipe_reach([step])
    assert "normalise" in caught.value.hint


def test_steps_that_are_not_known_are_refused(monkeypatch):
    monkeypatch.delitem(REACH, "median")
    assert find_step("median")
    with pytest.raises(ConfigError, match="median"):
        recipe_reach(["median"])


@pytest.mark.parametrize("name", ["raw", "bin", "median"])
@pytest.mark.parametrize("axes", ["YX", "ZYX"])
def test_the_sample_of_a_small_image_is_the_image(name, axes, monkeypatch):
    monkeypatch.setattr(module, "SIDE", 32)
    steps = normalise_recipe(RECIPES[name])
    assert np.array_equal(windows(noise(axes)).reference(steps), output(name, axes))


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)), st.integers(5, 40), st.integers(1, 400),
    st.sampled_from([1, 3]),
)  # fmt: skip
def test_the_sample_is_every_so_many_pixels_of_the_whole(shape, side, size, factor):
    image = np.arange(np.prod(shape)).reshape(shape).astype(np.float32)
    steps = normalise_recipe([{"bin": {"factor": factor}}] if factor > 1 else [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SIDE", side)
        patch.setattr(module, "SAMPLE", size)
        sample = windows(image).reference(steps)
    whole = apply_recipe(image, steps)
    step = int(np.ceil(np.sqrt(whole.size / size)))
    assert np.array_equal(sample, whole[::step, ::step])


def test_percentiles_of_the_sample_are_near_those_of_the_image(monkeypatch):
    monkeypatch.setattr(module, "SAMPLE", 2**14)
    image = np.random.default_rng(0).gamma(2, 300, (700, 650)).astype(np.uint16)
    sample = windows(image).reference(())
    assert sample.size <= 2**14
    for percent in (0.1, 1, 50, 99, 99.9):
        rank = (image < np.percentile(sample, percent)).mean() * 100
        assert abs(rank - percent) < 5 * np.sqrt(percent * (100 - percent) / sample.size) + 0.05


def test_the_sample_is_taken_once(tmp_path):
    reads = []

    def read(box, colour):
        reads.append(box)
        return noise("YX")[box[0] : box[0] + box[2], box[1] : box[1] + box[3]]

    for _ in range(2):
        parts = Windows(read, noise("YX").shape, "key", ArrayCache(tmp_path))
        assert np.array_equal(parts.reference(()), noise("YX"))
    assert len(reads) == 1
    Windows(read, noise("YX").shape, "other", ArrayCache(tmp_path)).reference(())
    assert len(reads) == 2
    forgetful = Windows(read, noise("YX").shape, "key", Nowhere())
    assert forgetful.reference(()) is forgetful.reference(())
    assert len(reads) == 3


def test_whole_images_have_the_same_parts(tmp_path):
    image, steps = noise("YX"), normalise_recipe(RECIPES["several"])
    whole = Whole(image, lambda: np.stack([image, image // 2]), "key", ArrayCache(tmp_path))
    box = (8, 16, 40, 30)
    assert np.array_equal(whole.part(steps, box), windows(image).part(steps, box))
    assert whole.part((), None) is whole.reference(()) is image
    colour = whole.part(steps, box, colour=True)
    assert np.array_equal(colour[1], cut_box(apply_recipe(image // 2, steps), steps, box))


def opened(tmp_path, image: np.ndarray, **how):
    """Open a file of a project as a large image."""
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, image, **how)
    entry = ImageEntry("i00001-a", "a.tif", axes="YX", shape=image.shape)
    config = parse_config("opsef: 1\nimages: {source: a}\nmodels: {w: {engine: watershed}}\n")
    planned = PlannedImage(entry.id, "key", "g", None, tiles=(64, 8, *image.shape))
    return open_parts(Project(tmp_path), config, entry, planned, ArrayCache(tmp_path / "c"))


def test_a_large_image_is_read_where_it_is_asked_for(tmp_path):
    image = noise("YX")
    parts = opened(tmp_path, image, tile=(16, 16), compression="zlib")
    assert parts.shape == image.shape
    assert np.array_equal(parts.part((), (7, 11, 20, 30)), image[7:27, 11:41])
    region = Region(y=(7, 27), x=(11, 41))
    assert np.array_equal(read_image(tmp_path / "a.tif", region=region).data, image[7:27, 11:41])


def test_pixels_that_are_no_numbers_are_told_where_they_are_read(tmp_path):
    image = noise("YX").astype(np.float32)
    image[80, 70] = np.nan
    parts = opened(tmp_path, image)
    assert np.isfinite(parts.part((), (0, 0, 40, 40))).all()
    with pytest.raises(ImageError, match="NaN"):
        parts.part((), (60, 60, 30, 17))


@given(st.tuples(st.integers(1, 70), st.integers(1, 70)), st.integers(8, 40), st.integers(0, 9))
def test_the_box_of_an_image_is_found_row_by_row(shape, side, seed):
    image = np.random.default_rng(seed).integers(0, 9, shape)
    held = min(side, shape[0])
    found = choose_box_in(lambda row: image[row : row + held], shape, side)
    assert found == choose_box(image, side)
    if found is None:
        assert max(shape) <= side
        return
    y, x, height, width = found
    spread = image[y : y + height, x : x + width].std()
    rows = range(0, max(shape[0] - height, 0) // 8 * 8 + 1, 8)
    columns = range(0, max(shape[1] - width, 0) // 8 * 8 + 1, 8)
    grid = [image[r : r + height, c : c + width].std() for r in rows for c in columns]
    assert spread <= max(grid) + 1e-9 and spread >= np.median(grid) - 1e-9
