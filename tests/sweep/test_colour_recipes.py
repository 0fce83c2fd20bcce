"""Recipes that take colour, or a file, through plan and sweep."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from skimage.data import immunohistochemistry

from opsef_bridge.errors import ConfigError
from opsef_bridge.preprocess import apply_recipe
from opsef_bridge.project import Project
from opsef_bridge.sweep import plan_sweep, run_plan
from opsef_bridge.sweep.cache import ArrayCache
from opsef_bridge.sweep.predict import open_parts
from tests.small_projects import Here, discs

STAIN = [{"colour_deconvolution": {"stain": "dab"}}, {"median": {"radius": 1}}]

CONFIG = """\
opsef: 1
images: {source: [data/*], scale: SCALE}
preprocess:
  raw: []
  stain: [{colour_deconvolution: {stain: dab}}, {median: {radius: 1}}]
models:
  classic: {engine: watershed}
  tissue: {engine: stardist, weights: he-stardist}
sweep: {crop: none}
"""


@pytest.fixture
def stained(tmp_path):
    """A project of one colour image; returns how to make it, by scale, and the image."""
    image = immunohistochemistry()[100:180, 120:216]
    (tmp_path / "data").mkdir()
    tifffile.imwrite(tmp_path / "data" / "a.tif", image, photometric="rgb")

    def make(scale: float = 1) -> Project:
        (tmp_path / "opsef.yaml").write_text(CONFIG.replace("SCALE", str(scale)), "utf-8")
        return Project(tmp_path)

    return make, image


@pytest.mark.parametrize("scale", [1, 0.5])
def test_a_recipe_that_takes_colour_gets_the_samples(stained, scale):
    make, image = stained
    project = make(scale)
    plan = plan_sweep(project)
    assert run_plan(project, plan, Here()).failed == 0
    parts = open_parts(
        project, project.config, project.images()[0], plan.images[0],
        ArrayCache(project.cache_folder),
    )  # fmt: skip
    before = [{"bin": {"factor": 2}}] if scale < 1 else []
    expected = apply_recipe(image, [*before, *STAIN])
    steps = project.config.recipes()["stain"]
    np.testing.assert_array_equal(parts.part(steps, None), expected)


def test_what_takes_colour_is_not_given_grey(stained):
    make, _ = stained
    plan = plan_sweep(make())
    pairs = {(variant.recipe, variant.model) for variant in plan.variants}
    assert pairs == {("raw", "classic"), ("stain", "classic"), ("raw", "tissue")}


def test_a_plan_of_nothing_is_told(stained, tmp_path):
    make, _ = stained
    make()
    text = (tmp_path / "opsef.yaml").read_text("utf-8")
    text = text.replace("  raw: []\n", "").replace("  classic: {engine: watershed}\n", "")
    (tmp_path / "opsef.yaml").write_text(text, "utf-8")
    with pytest.raises(ConfigError, match="every model takes colour"):
        plan_sweep(Project(tmp_path))


def test_a_file_of_a_recipe_is_found_from_the_project(tmp_path):
    image = discs(0)
    light = np.linspace(0.2, 1, image.shape[1]) * np.ones(image.shape)
    (tmp_path / "data").mkdir()
    tifffile.imwrite(tmp_path / "data" / "a.tif", (image * light).astype(np.uint16))
    tifffile.imwrite(tmp_path / "flat.tif", (light * 30000).astype(np.uint16))
    (tmp_path / "opsef.yaml").write_text(
        "opsef: 1\nimages: {source: [data/*]}\n"
        "preprocess: {raw: [], flat: [{flat_field: {reference: flat.tif}}]}\n"
        "models: {classic: {engine: watershed}}\nsweep: {crop: none}\n",
        "utf-8",
    )
    project = Project(tmp_path)
    plan = plan_sweep(project)
    assert run_plan(project, plan, Here()).failed == 0
    raw, flat = (outcome["objects"] for outcome in project.run(project.runs()[0]).outcomes())
    assert int(flat) > int(raw), "objects in the dark are found"
    keys = [variant.key for variant in plan.variants]
    tifffile.imwrite(tmp_path / "flat.tif", (light * 20000 + 7).astype(np.uint16))
    again = [variant.key for variant in plan_sweep(Project(tmp_path)).variants]
    assert (again[0] == keys[0]) and (again[1] != keys[1])
