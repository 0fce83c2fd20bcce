"""Colour steps: stains are told apart, and recipes with one of them take samples."""

import numpy as np
import pytest
import skimage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.color import rgb2hed

from opsef_bridge.demo import example_data
from opsef_bridge.errors import ConfigError, InputError
from opsef_bridge.images import Image, read_image, read_labels
from opsef_bridge.preprocess import apply_recipe, normalise_recipe, takes_colour

RUIFROK = {
    "haematoxylin": (0.65, 0.70, 0.29),
    "eosin": (0.07, 0.99, 0.11),
    "dab": (0.27, 0.57, 0.78),
}
"""Optical density in red, green and blue of the pure stains: the paper's, to two digits."""

colours = hnp.arrays(
    st.sampled_from([np.uint8, np.uint16]),
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6).map(lambda s: (*s, 3)),
)


def stained(densities):
    """Return a colour image of stains in optical densities, on white glass (float, 1)."""
    absorbed = sum(d[..., np.newaxis] * RUIFROK[name] for name, d in densities.items())
    return 10.0**-absorbed


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_the_density_of_each_stain_comes_back(dtype):
    random = np.random.default_rng(0)
    put = {name: random.random((20, 30)) * 0.5 for name in RUIFROK}
    image = stained(put)
    if dtype != "float32":
        image = np.rint(image * np.iinfo(dtype).max)
    for name, density in put.items():
        entry = {"colour_deconvolution": {"stain": name}}
        result = apply_recipe(image.astype(dtype), [entry])
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, density, atol=0.05 if dtype == "uint8" else 2e-3)


def test_it_is_scikit_images_but_for_its_unit():
    image = skimage.data.immunohistochemistry()[100:160, 100:180]
    for number, stain in enumerate(RUIFROK):
        result = apply_recipe(image, [{"colour_deconvolution": {"stain": stain}}])
        np.testing.assert_allclose(result, 6 * rgb2hed(image)[..., number], atol=1e-3)


def test_two_stains_part_what_three_confuse():
    put = {"haematoxylin": np.full((4, 4), 0.3), "dab": np.full((4, 4), 0.6)}
    image = (stained(put) * 255).astype(np.uint8)
    for stain, density in put.items():
        entry = {"colour_deconvolution": {"stain": stain, "stains": "h-dab"}}
        np.testing.assert_allclose(apply_recipe(image, [entry]), density, atol=0.03)


def test_glass_is_empty_whatever_its_grey_level():
    image = np.full((3, 4, 3), 4095, np.uint16)
    entry = {"colour_deconvolution": {"white": 4095}}
    assert apply_recipe(image, [entry]).max() == 0
    assert apply_recipe(image, ["colour_deconvolution"]).min() > 0.1
    black = apply_recipe(np.zeros((3, 4, 3), np.uint8), ["colour_deconvolution"])
    assert np.isfinite(black).all() and black.max() < 4


def test_nuclei_of_stained_tissue_become_bright():
    name = "tissue_5d75a63972ef"
    image = read_image(example_data() / "images" / f"{name}.png")
    labels = read_labels(example_data() / "labels" / f"{name}.tif")
    result = apply_recipe(image, ["colour_deconvolution"])
    assert result[labels > 0].mean() > 1.5 * result[labels == 0].mean()


@settings(max_examples=30, deadline=None)
@given(colours)
def test_grey_and_single_channels(image):
    for number, channel in enumerate(("red", "green", "blue")):
        one = apply_recipe(image, [{"single_channel": {"channel": channel}}])
        np.testing.assert_array_equal(one, image[..., number])
    mean = apply_recipe(image, [{"grey": {"weights": "mean"}}])
    np.testing.assert_allclose(mean, image.astype(float).mean(axis=-1), atol=0.51)
    np.testing.assert_array_equal(
        apply_recipe(image, ["grey"]), apply_recipe(Image(image, "YXS"), [])
    )


def test_recipes_say_whether_they_take_colour():
    assert takes_colour([{"single_channel": {"channel": "red"}}, "clahe"])
    assert takes_colour([{"bin": {"factor": 2}}, "grey"])
    assert not takes_colour([]) and not takes_colour(["invert", "bin"])


def test_of_an_image_the_samples_are_taken_and_alpha_is_not():
    random = np.random.default_rng(0)
    colour = random.integers(0, 255, (8, 9, 4)).astype(np.uint8)
    result = apply_recipe(Image(colour, "YXS"), [{"single_channel": {"channel": "blue"}}])
    np.testing.assert_array_equal(result, colour[..., 2])
    volume = random.integers(0, 255, (5, 8, 9, 3)).astype(np.uint8)
    result = apply_recipe(Image(volume, "ZYXS"), [{"single_channel": {"channel": "green"}}])
    np.testing.assert_array_equal(result, volume[..., 1])


def test_steps_before_work_on_each_sample():
    colour = np.random.default_rng(0).integers(0, 255, (3, 9, 12, 3)).astype(np.uint8)
    before = [{"bin": {"factor": 2}}, {"median": {"radius": 1}}]
    after = [{"single_channel": {"channel": "green"}}, "invert"]
    expected = apply_recipe(colour[..., 1], [*before, "invert"])
    np.testing.assert_array_equal(apply_recipe(colour, [*before, *after]), expected)
    # Step by step, as a cache of prefixes does it.
    samples = apply_recipe(colour, before, samples=True)
    assert samples.shape == (3, 5, 6, 3)
    np.testing.assert_array_equal(apply_recipe(samples, after), expected)
    np.testing.assert_array_equal(apply_recipe(colour, [], samples=True), colour)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 9), np.uint8),
        np.zeros((8, 9, 2), np.uint8),
        np.zeros((8, 9, 4), np.uint8),
        np.zeros((2, 3, 4, 5, 3), np.uint8),
        np.zeros((0, 9, 3), np.uint8),
        Image(np.zeros((8, 9), np.uint8), "YX"),
        Image(np.zeros((2, 8, 9), np.uint8), "CYX"),
    ],
    ids=["YX", "two", "four", "5d", "empty", "grey image", "channels"],
)
def test_what_has_no_colour_is_refused(image):
    with pytest.raises(InputError):
        apply_recipe(image, ["grey"])
    with pytest.raises(InputError):
        apply_recipe(np.zeros((8, 9, 3), np.uint8), ["grey"], samples=False)


def test_a_recipe_makes_grey_once():
    with pytest.raises(ConfigError, match="grey and colour_deconvolution"):
        normalise_recipe(["grey", "colour_deconvolution"])
    with pytest.raises(ConfigError, match="h-dab has no eosin, only haematoxylin and dab"):
        normalise_recipe([{"colour_deconvolution": {"stain": "eosin", "stains": "h-dab"}}])
