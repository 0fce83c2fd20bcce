"""What every preprocessing step keeps, as tests to inherit.

Import the step, name it, and run pytest::

    import my_package.steps
    from opsef_bridge.testing.steps import StepSuite

    class TestHalve(StepSuite):
        @pytest.fixture
        def name(self):
            return "halve"

A step with a parameter that must be given has a fixture ``parameters`` too. A step with
``colour=True`` is given axes YXS and ZYXS.
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from opsef_bridge.errors import ConfigError
from opsef_bridge.preprocess import apply_recipe, find_step, recipe_scale
from opsef_bridge.preprocess.whole import Piece, Place

__all__ = ["StepSuite"]

DTYPES = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
SHAPES = ((33, 40), (3, 17, 20), (1, 1), (2, 3), (1, 9))


def example(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return blobs on noise that use the whole range of an integer dtype."""
    random = np.random.default_rng(0)
    values = random.random(shape) * 0.2
    values[..., shape[-2] // 3 :, shape[-1] // 3 :] += 0.7
    values.flat[0], values.flat[-1] = 0, 1
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return (values * 5000 - 100).astype(dtype)
    if kind.kind == "b":
        return values > 0.5
    limits = np.iinfo(kind)
    # The sum of two halves, because float64 holds neither range nor its end beyond 2**53.
    return (limits.min + values * (int(limits.max) - int(limits.min))).astype(dtype)


def coloured(image: np.ndarray, name: str) -> np.ndarray:
    """Return `image`, or, for a step that takes colour, three samples of it, in axes ..S."""
    if not find_step(name).colour:
        return image
    return np.stack([image, image[..., ::-1], image[..., ::-1, :]], axis=-1)


def in_pieces(image: np.ndarray, rim: int) -> Iterator[Piece]:
    """Go through an image in four pieces of unequal size."""
    height, width = image.shape[-2:]
    for top, bottom in ((0, height // 3), (height // 3, height)):
        for left, right in ((0, width // 2), (width // 2, width)):
            y, x = max(top - rim, 0), max(left - rim, 0)
            inside = (slice(top - y, bottom - y), slice(left - x, right - x))
            yield Piece(image[..., y : bottom + rim, x : right + rim], (y, x), inside)


class StepSuite:
    """Tests of one step; a subclass has a fixture ``name`` that returns its name."""

    @pytest.fixture
    def name(self) -> str:
        raise NotImplementedError("a subclass names its step")

    @pytest.fixture
    def parameters(self) -> dict[str, Any]:
        """Parameters to test with; by default none, so that all have their defaults."""
        return {}

    @pytest.fixture
    def recipe(self, name: str, parameters: dict[str, Any]) -> list[Any]:
        """The step with its parameters."""
        return [{name: parameters}]

    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_dtype_and_shape_are_as_declared(
        self, name: str, recipe: list[Any], dtype: str, shape: tuple
    ) -> None:
        image = coloured(example(shape, dtype), name)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = apply_recipe(image, recipe)
        step, scale = find_step(name), recipe_scale(recipe)
        same = "uint8" if dtype == "bool" else dtype
        assert result.dtype.name == (same if step.dtype == "same" else step.dtype)
        assert result.shape[:-2] == shape[:-2]
        assert result.shape[-2:] == tuple(int(np.ceil(size * scale)) for size in shape[-2:])
        assert np.isfinite(result).all()

    @pytest.mark.parametrize("value", [0, 7, 255])
    @pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
    def test_constant_images_stay_constant(
        self, name: str, recipe: list[Any], dtype: str, value: int
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = apply_recipe(coloured(np.full((20, 24), value, dtype), name), recipe)
        assert np.isfinite(result).all()
        assert np.ptp(result.astype(float)) <= 1e-3

    def test_the_image_is_not_changed(self, name: str, recipe: list[Any]) -> None:
        image = coloured(example((20, 24), "uint16"), name)
        before = image.copy()
        image.flags.writeable = False
        apply_recipe(image, recipe)
        np.testing.assert_array_equal(image, before)

    def test_memory_layout_and_byte_order_do_not_matter(self, name: str, recipe: list[Any]) -> None:
        image = coloured(example((3, 20, 24), "uint16"), name)
        expected = apply_recipe(image, recipe)
        wide = np.zeros((*image.shape[:1], 40, *image.shape[2:]), "uint16")
        wide[:, ::2] = image
        for other in (wide[:, ::2], image.astype(">u2"), np.asfortranarray(image)):
            np.testing.assert_array_equal(apply_recipe(other, recipe), expected)

    def test_equal_input_gives_equal_output(self, name: str, recipe: list[Any]) -> None:
        image = coloured(example((20, 24), "float32"), name)
        once, twice = apply_recipe(image, recipe), apply_recipe(image, recipe)
        np.testing.assert_array_equal(once, twice)

    @pytest.mark.parametrize("shape", [(20, 24), (3, 17, 20)], ids=str)
    def test_what_it_is_told_of_the_whole_is_enough(
        self, name: str, parameters: dict[str, Any], shape: tuple
    ) -> None:
        step = find_step(name)
        image, parameters = example(shape, "uint16"), step.validate(parameters)
        if step.part is None:
            assert step.measure is None, "nothing uses what it measures"
            return
        expected = step.function(image, **parameters)
        try:
            pieces = partial(in_pieces, image)
            known = step.measure(pieces, shape, **parameters) if step.measure else {}
        except ConfigError:  # by these parameters it cannot
            return
        result = step.part(image, Place((0, 0), shape[-2:], known), **parameters)
        assert result.dtype == expected.dtype
        # The order of a sum may differ, by which a value may be rounded to its neighbour.
        slack = 1 if expected.dtype.kind != "f" else 1e-5
        np.testing.assert_allclose(result.astype(float), expected, rtol=0, atol=slack)

    def test_parameters_are_named_limited_and_plain(
        self, name: str, parameters: dict[str, Any]
    ) -> None:
        step = find_step(name)
        json.dumps(step.validate(parameters), allow_nan=False)
        with pytest.raises(ConfigError, match="no_such_parameter"):
            step.validate(parameters | {"no_such_parameter": 1})
        for parameter, field in step.Parameters.model_fields.items():
            if isinstance(field.default, int | float) and not isinstance(field.default, bool):
                with pytest.raises(ConfigError, match=parameter):
                    step.validate(parameters | {parameter: -(10**9)})

    def test_it_says_what_it_does(self, name: str) -> None:
        text = inspect.getdoc(find_step(name).function) or ""
        assert "Parameters\n" in text and "Returns\n" in text
        assert all(parameter in text for parameter in find_step(name).Parameters.model_fields)
