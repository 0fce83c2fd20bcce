"""What must not happen: labels under a wrong key, paths out of the project, dead ends."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from opsef_bridge.compare.report_sections import _command
from opsef_bridge.engines.devices import gpu_names
from opsef_bridge.engines.watershed import Watershed
from opsef_bridge.errors import ConfigError, NotFoundError, ProjectError
from opsef_bridge.exchange.files import export_objects
from opsef_bridge.execute import run_unit
from opsef_bridge.files import read_json, write_json
from opsef_bridge.project import ImageEntry, Project, read_csv
from opsef_bridge.rois import EditedError
from opsef_bridge.sweep import adopt, plan_batch, plan_sweep, run_plan
from opsef_bridge.sweep.importing import import_images
from opsef_bridge.sweep.plan import left_out
from opsef_bridge.sweep.planned import Plan
from opsef_bridge.sweep.stacks import export_rois


def disc(shape=(64, 64), radius=12, offset=0) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (200 * ((x - 30 - offset) ** 2 + (y - 30) ** 2 < radius**2)).astype(np.uint8)


@pytest.fixture
def project(tmp_path):
    """Two images and two variants of the watershed."""
    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    for number in (1, 2):
        tifffile.imwrite(folder / "data" / f"tile_{number}.tif", disc(offset=4 * number))
    (folder / "opsef.yaml").write_text(
        "opsef: 1\nimages: {source: data}\n"
        "models: {c: {engine: watershed, threshold: [otsu, 0.8]}}\n"
    )
    return Project(folder)


def edit(project: Project, old: str, new: str) -> None:
    text = project.config_file.read_text()
    assert old in text
    project.config_file.write_text(text.replace(old, new))


def test_a_file_that_changed_since_the_plan_is_not_filed_under_its_key(project):
    plan = plan_sweep(project)
    run = project.new_run()
    write_json(run.plan_file, plan.to_json())
    file = project.root / "data" / "tile_1.tif"
    kept = file.with_suffix(".old")
    shutil.copy2(file, kept)
    tifffile.imwrite(file, disc((80, 96)))
    counts = run_unit(str(project.root), run.id, "u0001")
    assert (counts["ok"], counts["failed"]) == (2, 2)
    message = next(o["message"] for o in run.outcomes() if o["status"] == "failed")
    assert "changed since it was planned" in message
    os.replace(kept, file)
    assert run_plan(project, plan_sweep(project)).failed == 2  # until they are tried again


def test_a_file_that_was_only_touched_is_the_planned_one(project):
    plan = plan_sweep(project)
    os.utime(project.root / "data" / "tile_1.tif", (1, 1))
    assert run_plan(project, plan).ok == 4


def test_another_version_of_the_engine_does_not_fill_the_old_plan(project, monkeypatch):
    run = project.new_run()
    write_json(run.plan_file, plan_sweep(project).to_json())
    monkeypatch.setattr(Watershed, "version", "of tomorrow")
    with pytest.raises(ProjectError, match="another version"):
        run_unit(str(project.root), run.id, "u0001")
    assert run.outcomes() == []


@pytest.mark.parametrize("name", ["../../../escaped", "a/b", "..", "", "a b"])
def test_an_id_cannot_lead_out_of_the_project(project, name):
    import_images(project, project.config)
    text = project.index_file.read_text()
    project.index_file.write_text(text.replace("i00001-tile-1", name))
    with pytest.raises(ProjectError, match="no id"):
        project.images()
    run = project.new_run()
    for make in (run.compare_file, lambda n: run.label_file("v0001", n)):
        with pytest.raises(ValueError, match="no id"):
            make(name)


def test_reading_labels_by_a_wrong_id_is_not_found(project):
    run_plan(project, plan_sweep(project))
    with pytest.raises(NotFoundError):
        project.labels("run-0001", "../v0001", "i00001-tile-1")


def test_the_command_of_the_report_survives_any_group_name():
    class Named:
        name = "x; touch <b>"
        id = "v0001"
        run = "run-0001; ls"
        family = "unet"

    command = str(_command(Named, Named)[0])
    assert "--run &#x27;run-0001; ls&#x27;" in command
    assert "--group &#x27;x; touch &lt;b&gt;&#x27;" in command


def test_the_commands_of_the_readme_work_in_their_order(project):
    sweep = run_plan(project, plan_sweep(project))
    chosen = adopt(project, "v0002")["default"]
    batch = run_plan(project, plan_batch(project))
    assert (sweep.run, batch.run, chosen["id"]) == ("run-0001", "run-0002", "v0002")
    files = export_objects(project, ["v0002"])
    assert [file.parts[-4] for file in files] == ["run-0001"] * 2


def test_a_zip_that_a_person_edited_is_left_as_it_is(project, capsys):
    run_plan(project, plan_sweep(project))
    run, plan = project.run(), Plan.from_json(project.run().plan())
    best = read_csv(run.variants_file)[0]["id"]  # its ROIs are written by the sweep
    first, second = (run.rois_file(best, image.id) for image in plan.images)
    edited = first.read_bytes() + b"edited"
    first.write_bytes(edited)
    second.unlink()
    with pytest.raises(EditedError, match=r"1 files are written, 1 .*opsef rois import"):
        export_objects(project, [best])
    assert second.is_file()
    assert not export_rois(project, run, plan, plan.images[0], best)
    assert "left as it is" in capsys.readouterr().err
    # A compare unit that is done again goes on to its end.
    unit = next(unit for unit in plan.units if unit.kind == "compare")
    run.done_file(unit.id).unlink()
    run_unit(str(project.root), run.id, unit.id)
    assert run.done_file(unit.id).is_file()
    assert first.read_bytes() == edited


def test_a_batch_says_which_groups_it_leaves_out(project):
    edit(project, "models:", 'groups: {one: "tile_1*", two: "tile_2*"}\nmodels:')
    run_plan(project, plan_sweep(project))
    adopt(project, "v0001", group="one")
    plan = plan_batch(project)
    assert left_out(plan, project.images()) == {"two": 1}
    edit(project, '"tile_1*"', '"tile_*"')
    edit(project, "{one:", "{other:")
    with pytest.raises(ConfigError, match="adopted for one, the images are of other"):
        plan_batch(project)


NO_GPU = pytest.mark.skipif(bool(gpu_names()), reason="this machine has a GPU")
UNET = ("engine: watershed, threshold: [otsu, 0.8]", "engine: unet, threshold: [0.5, 0.7]")


@NO_GPU
def test_a_device_that_is_not_there_is_refused_before_the_sweep(project):
    edit(project, *UNET)
    edit(project, "models:", "sweep: {device: cuda}\nmodels:")
    with pytest.raises(ConfigError, match="cuda, but the engine 'unet' can only use cpu"):
        plan_sweep(project)


def test_a_method_without_a_network_runs_on_the_cpu_whatever_is_wanted(project):
    edit(project, "models:", "sweep: {device: cuda}\nmodels:")
    assert run_plan(project, plan_sweep(project)).ok == 4
    assert read_json(project.run("run-0001").root / "run.json")["device"] == {"watershed": ["cpu"]}


@NO_GPU
def test_a_corrected_device_reaches_a_run_that_was_begun(project):
    edit(project, *UNET)
    plan = plan_sweep(project)
    settings = {**plan.config, "sweep": {**plan.config["sweep"], "device": "cuda"}}
    first = run_plan(project, replace(plan, config=settings))
    assert first.failed == 4
    again = run_plan(project, plan_sweep(project))
    assert (again.run, again.ok) == (first.run, 4)


def test_a_channel_that_no_image_has_is_refused(project):
    edit(project, "source: data", "source: data, segment: {channel: 5}")
    with pytest.raises(ConfigError, match="channel is 5, the images have 1"):
        plan_sweep(project)


def test_a_group_without_images_is_refused(project):
    edit(project, "models:", 'groups: {one: "tyle_*"}\nmodels:')
    with pytest.raises(ConfigError, match="tyle_"):
        plan_sweep(project)


def test_one_file_named_twice_is_one_image(project):
    edit(project, "source: data", 'source: [data, "../project/data/tile_1.tif"]')
    assert len(import_images(project, project.config)) == 2


def test_an_index_row_round_trips():
    entry = ImageEntry("i00001-a", "a.tif", shape=(3, 4), axes="YX", more={"dose": "1,5"})
    row = {key: str(value) for key, value in entry.to_row().items()}
    assert ImageEntry.from_row(row) == entry
