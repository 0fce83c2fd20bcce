"""Decode values that come with weights count where a person names none."""

from __future__ import annotations

import pytest

from opsef_bridge.config import parse_config
from opsef_bridge.engines import Weights, engine_class
from opsef_bridge.engines.parameters import tuned
from opsef_bridge.errors import WeightsError

YAML = "opsef: 1\nimages: {source: a.tif}\nmodels: {m: {engine: unet, weights: mine%s}}\n"


def decodes(rest: str, values: dict[str, float]) -> list[tuple[float, float | None]]:
    (model,) = parse_config(YAML % rest).model_settings()
    return [(d.threshold, d.foreground) for _, d in model.combinations(values)]


def test_they_count_before_the_defaults_of_the_engine_and_after_an_axis():
    values = {"threshold": 0.55, "foreground": 0.65}
    assert decodes("", values) == [(0.55, 0.65)]
    assert decodes(", threshold: [0.3, 0.4]", values) == [(0.3, 0.65), (0.4, 0.65)]


def test_an_engine_that_reads_them_itself_is_left_alone():
    card = {"thresholds": {"prob": 0.6, "nms": 0.3}}
    assert tuned(engine_class("stardist"), Weights("s", "stardist", card=card)) == {}


@pytest.mark.parametrize("told", [{"threshold": "high"}, {"prob": 0.5}, ["threshold"], 7])
def test_values_that_the_engine_does_not_take_are_named(told):
    with pytest.raises(WeightsError, match="thresholds") as error:
        tuned(engine_class("unet"), Weights("mine", "unet", card={"thresholds": told}))
    assert "threshold, " in error.value.hint
