"""What a person may say of a training: numbers that no training can have are refused."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch")

from opsef_bridge.errors import InputError
from opsef_bridge.train.choices import checked_settings, cycles_of
from opsef_bridge.train.loop import UNetLearner

MADE = UNetLearner()


@pytest.mark.parametrize("text, number", [("1e-3", 1e-3), ("2E+0", 2.0), ("0.5", 0.5)])
def test_numbers_that_yaml_takes_for_text_are_numbers(text, number):
    assert checked_settings(MADE, {"rate": text}) == {"rate": number}


@pytest.mark.parametrize(
    "values",
    [
        {"rate": 0}, {"rate": -1}, {"rate": math.nan}, {"rate": "inf"}, {"rate": "fast"},
        {"rate": True}, {"weight_decay": -1.0}, {"warm_up": -5}, {"batch": 0}, {"width": -3},
        {"batch": 2.5}, {"bfloat16": 1}, {"steps": "1e3"},
    ],
)  # fmt: skip
def test_settings_that_cannot_be(values):
    (name,) = values
    with pytest.raises(InputError, match=f"^{name} "):
        checked_settings(MADE, values)


def test_settings_of_lists_are_checked_one_by_one():
    from opsef_bridge.train.fpn2ws import FPN2Learner

    assert checked_settings(FPN2Learner(), {"widths": [8, 16]}) == {"widths": (8, 16)}
    with pytest.raises(InputError, match="widths is 0"):
        checked_settings(FPN2Learner(), {"widths": [8, 0]})


def test_words():
    from opsef_bridge.train.stardist import StarDistLearner

    made = StarDistLearner()
    assert checked_settings(made, {"distance_loss": "absolute"}) == {"distance_loss": "absolute"}
    with pytest.raises(InputError, match="distance_loss is 'iou'"):
        checked_settings(made, {"distance_loss": "iou"})


def test_what_may_be_0():
    values = {"warm_up": 0, "weight_decay": 0.0, "border_weight": 0}
    assert checked_settings(MADE, values) == values


@pytest.mark.parametrize("name", ["steps", "minutes", "passes"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_cycles_that_cannot_be(name, value):
    with pytest.raises(InputError, match=f"{name} is"):
        cycles_of(MADE, {}, {name: value})
