"""What every preprocessing step keeps, as tests to inherit.

Import the step, name it, and run pytest::

    import my_package.steps
    from opsef_bridge.testing.steps import StepSuite

    class TestHalve(StepSuite):
        @pytest.fixture
        def name(self):
            return "halve"
"""

from __future__ import annotations

import inspect
import json
import warnings

import numpy as np
import pytest

from opsef_bridge.errors import ConfigError
from opsef_bridge.preprocess import apply_recipe, find_step, recipe_scale

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


class StepSuite:
    """Tests of one step; a subclass has a fixture ``name`` that returns its name."""

    @pytest.fixture
    def name(self) -> str:
        raise NotImplementedError("a subclass names its step")

    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_dtype_and_shape_are_as_declared(self, name: str, dtype: str, shape: tuple) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = apply_recipe(example(shape, dtype), [name])
        step, scale = find_step(name), recipe_scale([name])
        same = "uint8" if dtype == "bool" else dtype
        assert result.dtype.name == (same if step.dtype == "same" else "float32")
        assert result.shape[:-2] == shape[:-2]
        assert result.shape[-2:] == tuple(int(np.ceil(size * scale)) for size in shape[-2:])
        assert np.isfinite(result).all()

    @pytest.mark.parametrize("value", [0, 7, 255])
    @pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
    def test_constant_images_stay_constant(self, name: str, dtype: str, value: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = apply_recipe(np.full((20, 24), value, dtype), [name])
        assert np.isfinite(result).all()
        assert np.ptp(result.astype(float)) <= 1e-3

    def test_the_image_is_not_changed(self, name: str) -> None:
        image = example((20, 24), "uint16")
        before = image.copy()
        image.flags.writeable = False
        apply_recipe(image, [name])
        np.testing.assert_array_equal(image, before)

    def test_memory_layout_and_byte_order_do_not_matter(self, name: str) -> None:
        image = example((3, 20, 24), "uint16")
        expected = apply_recipe(image, [name])
        wide = np.zeros((3, 24, 40), "uint16").transpose(0, 2, 1)
        wide[:, ::2] = image
        for other in (wide[:, ::2], image.astype(">u2"), np.asfortranarray(image)):
            np.testing.assert_array_equal(apply_recipe(other, [name]), expected)

    def test_equal_input_gives_equal_output(self, name: str) -> None:
        image = example((20, 24), "float32")
        np.testing.assert_array_equal(apply_recipe(image, [name]), apply_recipe(image, [name]))

    def test_parameters_are_named_limited_and_plain(self, name: str) -> None:
        step = find_step(name)
        json.dumps(step.validate(None), allow_nan=False)
        with pytest.raises(ConfigError, match="no_such_parameter"):
            step.validate({"no_such_parameter": 1})
        for parameter, field in step.Parameters.model_fields.items():
            if isinstance(field.default, int | float) and not isinstance(field.default, bool):
                with pytest.raises(ConfigError, match=parameter):
                    step.validate({parameter: -(10**9)})

    def test_it_says_what_it_does(self, name: str) -> None:
        text = inspect.getdoc(find_step(name).function) or ""
        assert "Parameters\n" in text and "Returns\n" in text
        assert all(parameter in text for parameter in find_step(name).Parameters.model_fields)
