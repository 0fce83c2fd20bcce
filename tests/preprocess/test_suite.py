"""Every registered step passes the suite that others inherit."""

import numpy as np
import pytest

from opsef_bridge.errors import ConfigError
from opsef_bridge.preprocess import STEPS, find_step, step
from opsef_bridge.testing.steps import StepSuite

IN_JAVA = {"imagej", "clahe_fiji", "colour_deconvolution_fiji"}
"""Steps that are tested where there is a Java machine, or a Fiji: `test_imagej_steps`."""

WAYS = [
    ("rolling_ball", {"engine": "skimage", "radius": 5}),
    ("rolling_ball", {"engine": "skimage", "radius": 5, "light": True}),
    ("median", {"radius": 2, "z_radius": 1}),
    ("median", {"radius": 2, "legacy": True}),
    ("mean", {"radius": 3, "z_radius": 2}),
    ("mean", {"radius": 3, "legacy": True}),
    ("gaussian", {"sigma": 2, "z_sigma": 1}),
    ("bin", {"factor": 3, "legacy": True}),
    ("denoise", {"method": "nl_means", "radius": 2}),
    ("denoise", {"method": "bilateral", "radius": 2}),
    ("clahe", {"engine": "opencv"}),
    ("clahe", {"volume": True, "tiles": 2}),
    ("edges", {"filter": "roberts"}),
    ("edges", {"filter": "log"}),
    ("normalise", {"low": 0, "high": 100, "clip": True, "per_plane": True}),
    ("flat_field", {"sigma": 3, "dark": 5}),
    ("to_8bit", {"scale": "max"}),
    ("to_8bit", {"scale": "none", "legacy": True}),
    ("colour_deconvolution", {"stain": "dab", "stains": "h-dab"}),
    ("single_channel", {"channel": "blue"}),
    ("grey", {"weights": "mean"}),
]
"""Steps with other parameters than their defaults."""

PLAIN = [(name, {}) for name in sorted(set(STEPS) - IN_JAVA - {"rolling_ball"})]


class TestSteps(StepSuite):
    @pytest.fixture(params=PLAIN + WAYS, ids=lambda way: "-".join([way[0], *map(str, way[1])]))
    def way(self, request):
        return request.param

    @pytest.fixture
    def name(self, way):
        return way[0]

    @pytest.fixture
    def parameters(self, way):
        return way[1]


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
        suite.test_dtype_and_shape_are_as_declared(wrong_step, ["wrong"], "uint8", (33, 40))
    with pytest.raises(ValueError, match="read-only"):
        suite.test_the_image_is_not_changed(wrong_step, ["wrong"])
    with pytest.raises(pytest.fail.Exception):
        suite.test_parameters_are_named_limited_and_plain(wrong_step, {})


def test_field_limits_come_from_the_signature():
    schema = STEPS["median"].Parameters.model_json_schema()["properties"]["radius"]
    assert (schema["minimum"], schema["maximum"], schema["default"]) == (1, 20, 1)


def test_a_parameter_without_a_default_must_be_given():
    with pytest.raises(ConfigError) as caught:
        find_step("rolling_ball").validate({"radius": 20})
    assert "engine is missing" in str(caught.value)
    assert "engine (needed)" in str(caught.value) and "radius (default 50.0)" in str(caught.value)


def test_values_that_do_not_go_together_are_refused():
    @step(dtype="same", check=lambda low, high: "low is above high" if low > high else None)
    def window(image: np.ndarray, *, low: int = 0, high: int = 9) -> np.ndarray:
        return image

    try:
        assert find_step("window").validate({"low": 3}) == {"low": 3, "high": 9}
        with pytest.raises(ConfigError, match=r"window: low is above high"):
            find_step("window").validate({"low": 10})
        with pytest.raises(ConfigError, match=r"low is 'x'"):
            find_step("window").validate({"low": "x"})
    finally:
        del STEPS["window"]
