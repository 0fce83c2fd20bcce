"""A project that is moved with what its recipes name is the same project."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tifffile

from opsef_bridge.project import Project
from opsef_bridge.sweep import adopt, plan_batch, plan_sweep, run_plan
from tests.small_projects import Here, discs

CONFIG = """\
opsef: 1
images: {source: [data/*]}
preprocess: {even: [{flat_field: {reference: flat/light.tif}}], raw: []}
models: {classic: {engine: watershed, threshold: [otsu]}}
class_mask: {source: "masks/{stem}.tif"}
sweep: {crop: none}
compare: {base: even}
"""


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "here"
    for name, image in (
        ("data/a.tif", discs(1)),
        ("masks/a.tif", np.ones((72, 80), np.uint8)),
        ("flat/light.tif", np.full((72, 80), 900, np.uint16)),
    ):
        (root / name).parent.mkdir(parents=True)
        tifffile.imwrite(root / name, image)
    (root / "opsef.yaml").write_text(CONFIG)
    return Project(root)


def moved(project: Project) -> Project:
    target = project.root.with_name("elsewhere")
    shutil.move(project.root, target)
    return Project(target)


def test_a_moved_project_goes_on_with_its_runs(project):
    first = run_plan(project, plan_sweep(project), Here())
    assert (first.ok, first.failed) == (2, 0)
    adopt(project, "even_classic_threshold-otsu")
    batch = run_plan(project, plan_batch(project), Here())
    assert batch.ok == 1
    for run in map(project.run, project.runs()):
        for file in (run.plan_file, run.record_file, project.adopted_file):
            text = file.read_text("utf-8")
            assert str(project.root) not in text and "flat/light.tif" in text
    key, before = plan_sweep(project).key, project.root
    there = moved(project)
    plan = plan_sweep(there)
    assert plan.key == key
    assert run_plan(there, plan, Here()).run == first.run
    assert run_plan(there, plan_batch(there), Here()).run == batch.run
    # What works there reads the reference there.
    [steps] = [v["steps"] for v in there.run(first.run).plan()["variants"] if v["recipe"] == "even"]
    assert steps[0][1]["reference"] == str(there.root / "flat" / "light.tif")
    assert str(before) not in str(there.adopted())
    with_more = CONFIG.replace("[otsu]", "[otsu, 0.8]")
    there.config_file.write_text(with_more)
    more = run_plan(there, plan_sweep(there), Here())
    assert (more.ok, more.failed) == (4, 0) and more.run != first.run


def test_another_reference_is_another_plan(project):
    key = plan_sweep(project).key
    tifffile.imwrite(project.root / "flat" / "light.tif", np.full((72, 80), 800, np.uint16))
    assert plan_sweep(project).key != key


def test_a_plan_of_an_earlier_version_with_whole_paths_is_read(project):
    run = project.run(run_plan(project, plan_sweep(project), Here()).run)
    told = run.plan()
    assert str(project.root) in str(told)
    text = run.plan_file.read_text("utf-8").replace(
        "flat/light.tif", f"{project.root}/flat/light.tif"
    )
    run.plan_file.write_text(text)
    assert run.plan() == told
