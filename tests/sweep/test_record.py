"""What the record of a run says of the programs that did its steps."""

from __future__ import annotations

from opsef_bridge.config import parse_config
from opsef_bridge.engines import find_weights
from opsef_bridge.imagej.imagej2 import VARIABLE
from opsef_bridge.preprocess import recipe_identity
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


FIJI = """\
opsef: 1
images: {source: data}
preprocess:
  raw: []
  java: [{rolling_ball: {radius: 20, engine: imagej}}]
  local: [{imagej: {macro: 'run("Invert");'}}, clahe_fiji]
models: {m: {engine: watershed}}
"""


def test_results_of_a_local_fiji_are_kept_by_what_is_in_it(tmp_path, monkeypatch):
    for name in ("jars/ij-1.54p.jar", "jars/imagej-2.17.0.jar", "plugins/mpicbg_-1.6.0.jar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    weights = {"m": find_weights("watershed", None, [])}
    entry = ImageEntry("i00001-a", "data/a.tif", axes="YX", shape=(40, 50))

    def planned():
        plan = make_plan(parse_config(FIJI), [entry], weights, {})
        image = plan.images[0]
        return plan, {
            v.recipe: (v.key, v.label_key(image), v.pass_key(image)) for v in plan.variants
        }

    before, keys = planned()
    told = programs_of_steps(before)
    assert told["clahe_fiji"] == ["imagej-2.17.0+ij-1.54p+mpicbg_-1.6.0"]
    assert told["imagej"][0].startswith("imagej-2.17.0+ij-1.54p+files-")
    assert recipe_identity(["clahe_fiji"])[0][-1] == told["clahe_fiji"][0]
    (tmp_path / "jars" / "ij-1.54p.jar").rename(tmp_path / "jars" / "ij-1.55a.jar")
    after, others = planned()
    assert after.key != before.key
    assert {recipe for recipe in keys if keys[recipe] != others[recipe]} == {"local"}
    assert not set(keys["local"]) & set(others["local"])
    assert "ij-1.55a" in programs_of_steps(after)["clahe_fiji"][0]
    # What was planned with the one is not done with the other: a unit sees that its key is not
    # that of the plan. Without any Fiji it can be planned, and its outcomes say what is missing.
    assert [v.recipe for v in before.variants if v.key != v.current_key()] == ["local"]
    monkeypatch.delenv(VARIABLE)
    without, _ = planned()
    assert set(programs_of_steps(without)) == {"rolling_ball"}
