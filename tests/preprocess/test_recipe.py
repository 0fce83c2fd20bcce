import numpy as np
import pytest

from opsef_bridge.errors import ConfigError, InputError
from opsef_bridge.files import key_of
from opsef_bridge.images import Image
from opsef_bridge.preprocess import (
    DEFAULT_ORDER,
    STEPS,
    apply_recipe,
    default_order,
    find_step,
    normalise_recipe,
    recipe_identity,
    recipe_scale,
    step,
    step_schema,
    to_source_grid,
)

IMAGE = np.random.default_rng(0).integers(0, 4000, (21, 30)).astype(np.uint16)


def test_all_forms_of_a_step_mean_the_same():
    forms = (["clahe"], [{"clahe": None}], [{"clahe": {}}], [{"clahe": {"tiles": 8}}])
    assert len({key_of(recipe_identity(form)) for form in forms}) == 1
    done = normalise_recipe(forms[0])
    assert normalise_recipe(done) == done == (("clahe", {"tiles": 8, "clip": 0.01}),)


def test_order_matters_and_is_kept():
    a = apply_recipe(IMAGE, ["invert", {"subtract": {"value": 100}}])
    b = apply_recipe(IMAGE, [{"subtract": {"value": 100}}, "invert"])
    assert not np.array_equal(a, b)
    assert recipe_identity(["invert", "bin"]) != recipe_identity(["bin", "invert"])


def test_a_recipe_is_its_steps_one_after_the_other():
    recipe = [{"white_tophat": {"radius": 5}}, {"median": {"radius": 1}}, "clahe"]
    expected = IMAGE
    for entry in recipe:
        expected = apply_recipe(expected, [entry])
    np.testing.assert_array_equal(apply_recipe(IMAGE, recipe), expected)
    assert recipe_identity(recipe)[:2] == recipe_identity(recipe[:2])


def test_the_default_order_has_every_step():
    assert set(DEFAULT_ORDER) == set(STEPS) - {"imagej"}  # which does what it is told to
    assert default_order(list(reversed(DEFAULT_ORDER))) == list(DEFAULT_ORDER)
    assert default_order([{"imagej": {}}, "invert"]) == ["invert", {"imagej": {}}]


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (["medain"], ["medain", "median"]),
        ([{"median": {"radius": 0}}], ["median", "radius", "0", "1"]),
        ([{"median": {"radius": "big"}}], ["radius", "big"]),
        ([{"median": {"size": 3}}], ["size", "radius"]),
        ([{"median": 3}], ["median"]),
        ([{"median": {}, "clahe": {}}], ["clahe"]),
        ([3], ["3"]),
        ("median", ["median", "list"]),
        (None, ["None", "list"]),
        ([{"gaussian": {"sigma": float("nan")}}], ["sigma"]),
        ([{"edges": {"filter": "canny"}}], ["canny", "sobel", "roberts"]),
        ([{"normalise": {"low": 60}}], ["low", "60", "50"]),
    ],
)
def test_wrong_recipes_name_the_value_and_the_choices(recipe, words):
    with pytest.raises(ConfigError) as caught:
        apply_recipe(IMAGE, recipe)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((2, 3, 4, 5)),
        np.zeros(5),
        np.zeros((0, 5)),
        np.zeros((4, 4), complex),
        np.array([["a"]]),
        np.array([[1.0, np.nan]]),
        np.array([[1.0, np.inf]], np.float32),
    ],
    ids=["4d", "1d", "empty", "complex", "text", "nan", "inf"],
)
def test_wrong_images_are_refused(image):
    with pytest.raises(InputError):
        apply_recipe(image, ["invert"])


def test_of_a_colour_image_the_luminance_is_taken():
    colour = np.random.default_rng(0).integers(0, 255, (8, 9, 3)).astype(np.uint8)
    result = apply_recipe(Image(colour, "YXS"), [])
    assert result.shape == (8, 9) and result.dtype == np.uint8


@pytest.mark.parametrize("shape", [(21, 30), (1, 1), (3, 7, 8)])
@pytest.mark.parametrize("factors", [(2,), (3, 2), ()])
def test_labels_come_back_from_the_binned_grid(shape, factors):
    recipe = [{"bin": {"factor": factor}} for factor in factors]
    small = apply_recipe(np.zeros(shape, np.uint8), recipe)
    labels = np.arange(small.size).reshape(small.shape)
    back = to_source_grid(labels, recipe, shape)
    assert back.shape == shape and np.array_equal(np.unique(back), np.unique(labels))
    assert recipe_scale(recipe) == pytest.approx(1 / np.prod(factors, initial=1))
    block = int(np.prod(factors))
    assert back[..., :block, :block].max(axis=(-2, -1)).tolist() == labels[..., 0, 0].tolist()


def test_labels_of_another_image_are_refused():
    with pytest.raises((InputError, IndexError)):
        to_source_grid(np.zeros((5, 2, 2), int), ["bin"], (4, 4))


def test_a_package_brings_a_step_by_its_entry_point(monkeypatch):
    def halve(image: np.ndarray, *, by: int = 2) -> np.ndarray:
        """Halve."""
        return image // by

    class Entry:
        name = "halve"

        def load(self):
            return step(dtype="same", version=3)(halve)

    def entry_points(group, name="halve"):
        return [Entry()] if (group, name) == ("opsef_bridge.steps", "halve") else []

    monkeypatch.setattr("opsef_bridge.preprocess.registry.entry_points", entry_points)
    with pytest.raises(ConfigError, match="halve"):  # listed, though not loaded
        find_step("half")
    try:
        assert recipe_identity(["halve"]) == [["halve", 3, {"by": 2}]]
        np.testing.assert_array_equal(apply_recipe(IMAGE, ["halve"]), IMAGE // 2)
    finally:
        STEPS.pop("halve", None)


def test_the_schema_has_every_step():
    schema = step_schema()
    names, *objects = schema["anyOf"]
    assert set(names["enum"]) == set(STEPS) == {o["required"][0] for o in objects}
