"""What the record of a run says of the programs that did its steps."""

from __future__ import annotations

from opsef_bridge.config import parse_config
from opsef_bridge.engines import find_weights
from opsef_bridge.project import ImageEntry
from opsef_bridge.sweep.plan import make_plan
from opsef_bridge.sweep.record import programs_of_steps

CONFIG = """\
opsef: 1
images: {source: data}
preprocess:
  raw: []
  java: [{rolling_ball: {radius: 20, engine: imagej}}, median]
  python: [{rolling_ball: {radius: 20, engine: skimage}}]
  again: [{rolling_ball: {radius: 30, engine: imagej}}]
models: {m: {engine: watershed}}
"""


def test_the_program_of_a_step_that_several_can_do_is_in_the_record():
    weights = {"m": find_weights("watershed", None, [])}
    entry = ImageEntry("i00001-a", "data/a.tif", axes="YX", shape=(40, 50))
    plan = make_plan(parse_config(CONFIG), [entry], weights, {})
    [java, python] = programs_of_steps(plan)["rolling_ball"]
    assert java == "ij-1.54p" and python.startswith("scikit-image-")
    assert set(programs_of_steps(plan)) == {"rolling_ball"}, "a median is ours"
