"""Label files of finished runs that are deleted or damaged: they, and no others, are made again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from opsef_bridge.errors import ProjectError
from opsef_bridge.execute import run_unit
from opsef_bridge.images import read_labels
from opsef_bridge.project import Project
from opsef_bridge.sweep import adopt, plan_batch, plan_sweep, resume_run, run_plan, status
from opsef_bridge.sweep.asking import questions
from opsef_bridge.sweep.consensus import consensus
from opsef_bridge.sweep.rank import rerank
from tests.small_projects import Here, discs, swept

TILES = {"tiles": {"size": 96, "overlap": 28}}
WHOLE = {"crop": "none"}


def stamps(project: Project, run: str | None = None) -> dict[Path, int]:
    """When each label file of a run was written, or linked to that of another run."""
    files = (project.run(run).root / "labels").glob("*/*.tif")
    return {file: file.stat().st_ctime_ns for file in files}


def lose(project: Project, *numbers: int, run: str | None = None) -> set[Path]:
    """Delete some label files of a run, counted in the order of their names."""
    files = sorted(stamps(project, run))
    lost = {files[number] for number in numbers}
    for file in lost:
        file.unlink()
    return lost


def written_again(before: dict[Path, int], after: dict[Path, int]) -> set[Path]:
    assert before.keys() == after.keys()
    return {file for file in after if after[file] != before[file]}


@pytest.mark.parametrize("way", ["run", "resume"])
def test_what_is_gone_is_made_again_and_nothing_else(bench, way):
    project = bench.project()
    assert bench.sweep(project).ok == 4
    whole, before, passes = bench.result(project), stamps(project), bench.passes()
    stack = project.run().compare_file(project.images()[0].id).read_bytes()
    shutil.rmtree(project.cache_folder)
    lost = lose(project, 1)

    again = bench.sweep if way == "run" else lambda p: resume_run(p, p.run(), bench.here)
    result = again(project)
    assert (result.run, result.ok, result.exit_code) == ("run-0001", 4, 0)
    assert written_again(before, stamps(project)) == lost
    assert bench.passes() == passes + 1
    assert bench.result(project) == whole
    assert project.run().compare_file(project.images()[0].id).read_bytes() == stack

    after = stamps(project)
    again(project)
    assert stamps(project) == after and bench.passes() == passes + 1


def test_all_labels_of_an_empty_result_count_too(bench):
    blank = np.zeros((72, 96), np.uint8)
    project = bench.project({"a.tif": blank})
    assert bench.sweep(project).empty == 2
    lost = lose(project, 0, 1)
    assert bench.sweep(project).empty == 2
    assert all(file.is_file() for file in lost)


def test_a_copy_of_an_image_has_labels_of_its_own(bench, make_discs):
    """Two files of the same pixels share their keys."""
    project = bench.project({"a.tif": make_discs(1), "b.tif": make_discs(1)})
    assert bench.sweep(project).ok == 4
    first, second = (entry.id for entry in project.images())
    [file] = [f for f in stamps(project) if f.parent.name == "v0002" and f.stem == second]
    file.unlink()
    result = bench.sweep(project)
    assert (result.ok, result.open) == (4, 0)
    np.testing.assert_array_equal(read_labels(file), project.labels(None, "v0002", first))


def test_what_cannot_be_made_again_fails_and_is_ranked_so(bench):
    project = bench.project()
    bench.sweep(project)
    plan = plan_sweep(project)
    shutil.rmtree(project.cache_folder)
    [lost] = lose(project, 0)
    (project.root / "data" / "a.tif").unlink()
    result = run_plan(project, plan, bench.here)
    assert (result.ok, result.failed, result.exit_code) == (3, 1, 1)
    rows = {row["id"]: row["status"] for row in bench.result(project)["variants"]}
    assert rows[lost.parent.name] == "partly failed"


def test_labels_merged_from_tiles(bench, make_discs):
    images = {"a.tif": make_discs(1, (200, 150)), "b.tif": make_discs(2, (200, 150))}
    project = bench.project(images, images=TILES, sweep=WHOLE)
    assert bench.sweep(project).ok == 4
    whole, before, passes = bench.result(project), stamps(project), bench.passes()
    lost = lose(project, 0)
    assert bench.sweep(project).exit_code == 0
    assert written_again(before, stamps(project)) == lost
    assert bench.result(project) == whole
    [image] = {file.stem for file in lost}
    boxes = next(i for i in plan_sweep(project).images if i.id == image).tile_boxes()
    assert bench.passes() == passes + len(boxes)  # one variant on the tiles of one image


def test_tiles_that_are_gone_before_they_are_merged(bench, make_discs):
    project = bench.project({"a.tif": make_discs(1, (200, 150))}, images=TILES, sweep=WHOLE)

    class Losing(type(bench.here)):
        def run(self, project, run, plan):
            for unit in plan.units:
                if unit.kind == "merge":
                    next(run.root.glob("tiles/v0001/*/*.tif")).unlink()
                run_unit(str(project.root), run.id, unit.id)
            return {}

    assert run_plan(project, plan_sweep(project), Losing()).failed == 1
    passes = bench.passes()
    result = resume_run(project, project.run(), bench.here)
    assert (result.ok, result.failed, result.exit_code) == (2, 0, 0)
    assert bench.passes() == passes + 1


def test_a_batch_makes_its_lost_labels_again(bench):
    project = bench.project(images={"source": ["data/*"]}, sweep={"images": 1})
    bench.sweep(project)
    adopt(project, "v0001")
    run = run_plan(project, plan_batch(project), bench.here).run
    whole, before = {k: v.tolist() for k, v in bench.labels(project, run).items()}, stamps(project)
    assert run == "run-0002" and len(before) == 2
    lost = lose(project, 0, run=run)
    again = run_plan(project, plan_batch(project), bench.here)
    assert (again.run, again.ok, again.exit_code) == (run, 2, 0)
    assert written_again(before, stamps(project)) == lost
    assert {k: v.tolist() for k, v in bench.labels(project, run).items()} == whole


def test_a_lost_consensus(tmp_path):
    project = swept(tmp_path / "p", {"a.tif": discs(1), "b.tif": discs(2)})
    made = consensus(project, executor=Here())
    before = stamps(project)
    lost = {file for file in before if file.parent.name == "v0003" and file.stem[:6] == "i00001"}
    for file in lost:
        file.unlink()
    assert resume_run(project, project.run(), Here()) == made
    assert written_again(before, stamps(project)) == lost


def test_looking_at_the_status_opens_nothing(bench):
    project = bench.project()
    done = bench.sweep(project)
    lose(project, 0)
    assert status(project.run()) == done
    assert all(project.run().done_file(unit["id"]).is_file() for unit in done_units(project))


def done_units(project: Project) -> list[dict]:
    return project.run().plan()["units"]


@pytest.mark.parametrize("size", [0, 300])
@pytest.mark.parametrize("look", [rerank, lambda project, run: questions(project)])
def test_a_damaged_file_is_named_with_the_way_out(tmp_path, look, size):
    project = swept(tmp_path / "p", {"a.tif": discs(1), "b.tif": discs(2)})
    shutil.rmtree(project.cache_folder)
    damaged = project.run().label_file("v0002", project.images()[0].id)
    os.truncate(damaged, size)
    with pytest.raises(ProjectError) as caught:
        look(project, project.run())
    assert f"{damaged} is damaged" in caught.value.message
    assert "Delete it; then `opsef sweep resume --run run-0001`" in caught.value.hint

    damaged.unlink()  # as it says
    assert resume_run(project, project.run(), Here()).exit_code == 0
    look(project, project.run())


def test_labels_of_a_project_that_are_damaged(tmp_path):
    project = swept(tmp_path / "p", {"a.tif": discs(1)})
    image = project.images()[0].id
    os.truncate(project.run().label_file("v0001", image), 300)
    with pytest.raises(ProjectError, match=r"is damaged.*Delete it"):
        project.labels(None, "v0001", image)
