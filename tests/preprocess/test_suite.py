"""Every registered step passes the suite that others inherit."""

import numpy as np
import pytest

from opsef_bridge.preprocess import STEPS, step
from opsef_bridge.testing.steps import StepSuite


class TestSteps(StepSuite):
    @pytest.fixture(params=sorted(STEPS))
    def name(self, request):
        return request.param


@pytest.fixture
def wrong_step():
    """A step that breaks the rules: it changes its image and wraps."""

    def wrong(image: np.ndarray, *, by: int = 3) -> np.ndarray:
        """Do.

        Parameters
        ----------
        by

        Returns
        -------
        """
        image += by
        return image

    step(dtype="float32")(wrong)
    yield "wrong"
    del STEPS["wrong"]


def test_the_suite_catches_a_wrong_step(wrong_step):
    suite = StepSuite()
    with pytest.raises(AssertionError):
        suite.test_dtype_and_shape_are_as_declared(wrong_step, "uint8", (33, 40))
    with pytest.raises(ValueError, match="read-only"):
        suite.test_the_image_is_not_changed(wrong_step)
    with pytest.raises(pytest.fail.Exception):
        suite.test_parameters_are_named_limited_and_plain(wrong_step)


def test_field_limits_come_from_the_signature():
    schema = STEPS["median"].Parameters.model_json_schema()["properties"]["radius"]
    assert (schema["minimum"], schema["maximum"], schema["default"]) == (1, 20, 1)
