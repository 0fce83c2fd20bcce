"""Background: what is uneven goes, what is wanted stays, and nothing wraps."""

import numpy as np
import pytest
import scipy.ndimage as ndi
import skimage
import tifffile
from skimage.restoration import rolling_ball

import opsef_bridge.imagej
from opsef_bridge.errors import ConfigError, InputError, NotFoundError
from opsef_bridge.imagej import worker
from opsef_bridge.preprocess import apply_recipe, recipe_identity, resolve_files
from tests.imagej.conftest import missing

Y, X = np.mgrid[:120, :150]
RAMP = 1000 + 20.0 * X + 10.0 * Y


def spots(height=3000.0):
    image = np.zeros(Y.shape)
    for y in range(15, 120, 30):
        for x in range(15, 150, 30):
            image[np.hypot(Y - y, X - x) <= 4] = height
    return image


@pytest.mark.parametrize(
    "entry",
    [
        {"gaussian_background": {"sigma": 25}},
        {"rolling_ball": {"engine": "skimage", "radius": 20}},
        {"white_tophat": {"radius": 8}},
    ],
    ids=lambda entry: next(iter(entry)),
)
def test_a_ramp_goes_and_spots_stay(entry):
    image = (RAMP + spots()).astype(np.uint16)
    result = apply_recipe(image, [entry]).astype(float)
    inside, outside = result[spots() > 0], result[ndi.maximum_filter(spots(), 11) == 0]
    assert np.median(inside) > 2000
    assert np.median(outside) < 500, "the ramp rises by 4180"


def test_gaussian_background_is_the_image_minus_its_blur():
    image = skimage.data.coins()
    blur = ndi.gaussian_filter(image.astype(float), 30, mode="nearest")
    expected = np.maximum(image - blur, 0)
    result = apply_recipe(image, [{"gaussian_background": {"sigma": 30}}])
    assert np.abs(result - expected).max() <= 0.51
    assert (apply_recipe(image, [{"gaussian_background": {"sigma": 500}}]) <= image).all()


def test_the_ball_is_scikit_images():
    image = skimage.data.coins()[:90, :100]
    recipe = [{"rolling_ball": {"engine": "skimage", "radius": 12}}]
    below = rolling_ball(image.astype(float), radius=12)
    assert np.abs(apply_recipe(image, recipe) - (image - below)).max() <= 0.51
    light = [{"rolling_ball": {"engine": "skimage", "radius": 12, "light": True}}]
    np.testing.assert_array_equal(
        apply_recipe(image, light), apply_recipe(image, ["invert", *recipe, "invert"])
    )


@pytest.fixture
def imagej():
    try:
        yield worker.provider("ij1")
    except NotFoundError as error:
        missing(str(error))
    finally:
        worker.close()


def test_the_ball_is_imagejs_where_that_is_named(imagej):
    image = skimage.data.coins()[:90, :100]
    for more in ({}, {"light": True}, {"sliding": True}):
        recipe = [{"rolling_ball": {"engine": "imagej", "radius": 12} | more}]
        expected = opsef_bridge.imagej.rolling_ball(image, 12, **more)
        np.testing.assert_array_equal(apply_recipe(image, recipe), expected)
    ours = apply_recipe(image, [{"rolling_ball": {"engine": "skimage", "radius": 12}}])
    theirs = apply_recipe(image, [{"rolling_ball": {"engine": "imagej", "radius": 12}}])
    assert 0.5 < np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] < 0.999
    # Both engines have the same idea of a light background.
    for engine in ("imagej", "skimage"):
        how = {"engine": engine, "radius": 12}
        light = apply_recipe(image, [{"rolling_ball": how | {"light": True}}])
        inverted = apply_recipe(image, ["invert", {"rolling_ball": how}, "invert"]).astype(int)
        assert np.abs(light - inverted).max() <= 1


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, ["engine", "missing"]),
        ({"engine": "fiji"}, ["engine", "fiji", "imagej"]),
        ({"engine": "skimage", "sliding": True}, ["sliding", "imagej"]),
        ({"engine": "skimage", "radius": 0.5}, ["radius", "0.5"]),
    ],
)
def test_the_ball_is_never_rolled_by_another_engine(parameters, words):
    with pytest.raises(ConfigError) as caught:
        apply_recipe(np.zeros((5, 5), np.uint8), [{"rolling_ball": parameters}])
    assert all(word in str(caught.value) for word in words)


def vignette(depth=0.6):
    return 1 - depth * np.hypot((Y - 60) / 60, (X - 75) / 75) ** 2 / 2


def test_a_reference_flattens_exactly(tmp_path):
    truth, light = 2000 + spots(), vignette()
    tifffile.imwrite(tmp_path / "flat.tif", (30000 * light + 100).astype(np.uint16))
    image = (truth * light + 100).astype(np.uint16)
    entry = {"flat_field": {"reference": str(tmp_path / "flat.tif"), "dark": 100}}
    result = apply_recipe(image, [entry])
    np.testing.assert_allclose(result / light.mean(), truth, rtol=2e-3)
    volume = apply_recipe(np.stack([image, image // 2]), [entry])
    np.testing.assert_array_equal(volume[0], result)


def test_without_a_reference_the_blur_is_the_light():
    image = 2000 * vignette() + 100
    flat = ndi.gaussian_filter(image, 30, mode="nearest") - 100
    result = apply_recipe(image, [{"flat_field": {"sigma": 30, "dark": 100}}])
    np.testing.assert_allclose(result, (image - 100) / flat * flat.mean(), rtol=1e-6)
    assert result.std() / result.mean() < 0.6 * image.std() / image.mean()


def test_dark_corners_are_not_brightened_without_end():
    image = np.full((40, 40), 1000.0)
    image[:2, :2] = 0.001
    result = apply_recipe(image, [{"flat_field": {"sigma": 0.1}}])
    assert result.max() <= 1010
    assert (apply_recipe(np.zeros((9, 9)), ["flat_field"]) == 0).all()


def test_a_reference_goes_through_the_bins_of_its_image(tmp_path):
    light = vignette()
    tifffile.imwrite(tmp_path / "flat.tif", (30000 * light).astype(np.uint16))
    image = (2000 * light).astype(np.uint16)
    entry = {"flat_field": {"reference": str(tmp_path / "flat.tif")}}
    result = apply_recipe(image, [{"bin": {"factor": 4}}, entry])
    assert result.shape == (30, 38)
    np.testing.assert_allclose(result, 2000 * light.mean(), rtol=5e-3)


def test_wrong_references_are_told(tmp_path):
    image = np.ones((30, 40), np.uint8)
    flat = tmp_path / "flat.tif"
    recipe = [{"flat_field": {"reference": str(flat)}}]
    for ask in (lambda: apply_recipe(image, recipe), lambda: recipe_identity(recipe)):
        with pytest.raises(InputError, match=r"flat\.tif.*No such file"):
            ask()
    tifffile.imwrite(flat, np.ones((31, 40), np.uint8))
    with pytest.raises(InputError, match=r"\(31, 40\).*\(30, 40\)"):
        apply_recipe(image, recipe)
    tifffile.imwrite(flat, np.ones((4, 30, 40), np.uint8), imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(InputError, match="volume of 4 planes"):
        apply_recipe(image, recipe)


def test_the_key_of_a_recipe_holds_what_is_in_its_file_not_where_it_lies(tmp_path):
    for name, value in (("a.tif", 7), ("b.tif", 7), ("c.tif", 8)):
        tifffile.imwrite(tmp_path / name, np.full((5, 5), value, np.uint8))
    keys = [
        recipe_identity(resolve_files([{"flat_field": {"reference": name}}], tmp_path))
        for name in ("a.tif", "b.tif", "c.tif")
    ]
    assert keys[0] == keys[1] != keys[2]
    assert str(tmp_path) not in str(keys)
    assert recipe_identity(["flat_field"]) not in keys
    before = keys[0]
    tifffile.imwrite(tmp_path / "a.tif", np.full((5, 6), 9, np.uint8))
    entry = {"flat_field": {"reference": str(tmp_path / "a.tif")}}
    assert recipe_identity([entry]) != before


def test_paths_become_whole_and_other_steps_stay_as_they_are_written(tmp_path, monkeypatch):
    recipe = ["invert", {"flat_field": {"reference": "x/flat.tif", "dark": 3}}, "flat_field"]
    resolved = resolve_files(recipe, tmp_path)
    reference = str(tmp_path / "x" / "flat.tif")
    assert resolved == ["invert", {"flat_field": {"reference": reference, "dark": 3}}, "flat_field"]
    assert resolve_files(resolved, "elsewhere") == resolved
    assert recipe[1] == {"flat_field": {"reference": "x/flat.tif", "dark": 3}}
    monkeypatch.chdir(tmp_path)
    assert resolve_files(recipe, ".") == resolved
