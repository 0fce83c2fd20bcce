"""Classes by a mask: of a file, of another channel, in boxes and in parts."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from opsef_bridge import cli
from opsef_bridge.cli.common import Context
from opsef_bridge.config import Config, parse_config
from opsef_bridge.errors import ConfigError, ImageError
from opsef_bridge.exchange.annotatorj import export_annotatorj
from opsef_bridge.exchange.files import export_objects
from opsef_bridge.exchange.sources import subject_of, variant_of
from opsef_bridge.files import read_json
from opsef_bridge.images import write_hyperstack
from opsef_bridge.project import Project
from opsef_bridge.rois import read_roi_set, read_rois, write_rois
from opsef_bridge.rois.revisions import History
from opsef_bridge.sweep import adopt, plan_batch, plan_sweep, resume_run, run_plan, status
from opsef_bridge.sweep.classes import classes_of, mask_file
from opsef_bridge.sweep.importing import import_images
from tests.running import run_opsef
from tests.small_projects import Here

LABELS = np.zeros((80, 90), np.int32)
LABELS[10:30, 10:30] = 1
LABELS[10:30, 60:80] = 2
LABELS[50:70, 60:80] = 3
STAIN = np.where(np.arange(90) < 45, 4000, 100) * np.ones((80, 1), int)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "data").mkdir()
    (tmp_path / "masks").mkdir()
    pictures = np.stack([200 + 3000 * (LABELS > 0), STAIN]).astype(np.uint16)
    write_hyperstack(tmp_path / "data" / "cells.tif", pictures, "CYX")
    (tmp_path / "opsef.yaml").write_text(text("channel: 1, filter: none, opening: 0"))
    return Project(tmp_path)


def text(mask: str, more: str = "") -> str:
    return (
        f"opsef: 1\nimages: {{source: data{more}}}\nclass_mask: {{{mask}}}\n"
        "models: {classic: {engine: watershed, threshold: [otsu]}}\n"
        "sweep: {images: all, crop: none}\ncompare: {rois: 1}\n"
    )


def config(mask: str, more: str = "") -> Config:
    return parse_config(text(mask, more))


def test_another_channel_sorts_the_objects(project):
    how = config("channel: 1, filter: none, opening: 0")
    [entry] = import_images(project, how)
    assert classes_of(project, how, entry, LABELS) == {1: 1, 2: 2, 3: 2}


def test_a_box_of_the_image_gets_the_same_box_of_the_mask(project):
    how = config("channel: 1, filter: none, opening: 0")
    [entry] = import_images(project, how)
    box = (5, 8, 60, 40)
    cut = LABELS[5:65, 8:48]
    assert classes_of(project, how, entry, cut, box) == {1: 1}


def test_a_file_of_the_user_also_for_a_part_of_the_image(project):
    mask = np.zeros((80, 90), np.uint8)
    mask[45:] = 255
    tifffile.imwrite(project.root / "masks" / "cells-mask.tif", mask)
    how = config('source: "masks/{stem}-mask.tif"')
    [entry] = import_images(project, how)
    assert classes_of(project, how, entry, LABELS) == {1: 2, 2: 2, 3: 1}
    tiles = config(
        'source: "masks/{stem}-mask.tif"', ", tiles: {size: 64, overlap: 0, separate: true}"
    )
    last = import_images(project, tiles)[-1]
    assert last.part == "y=64:80 x=64:90"
    assert classes_of(project, tiles, last, LABELS[64:, 64:]) == {3: 1}


def test_a_mask_of_another_shape_names_both(project):
    tifffile.imwrite(project.root / "masks" / "cells.tif", np.zeros((70, 90), np.uint8))
    how = config('source: "masks/{stem}.tif"')
    [entry] = import_images(project, how)
    words = r"class_mask of i00001-cells: .*\(80, 90\), the mask \(70, 90\)"
    with pytest.raises(ImageError, match=words):
        classes_of(project, how, entry, LABELS)


def test_a_mask_that_is_not_there_is_said_before_the_sweep(project):
    project.config_file.write_text(text('source: "masks/{stem}.tif"'))
    with pytest.raises(ConfigError, match=r"no file masks/cells\.tif"):
        plan_sweep(project)


def test_classes_go_out_with_the_objects(project):
    result = run_plan(project, plan_sweep(project))
    run = project.run(result.run)
    [zipped] = run.root.glob("rois/v0001/*_ROIs.zip")
    objects, _, _ = read_roi_set(zipped, (80, 90))
    subject = subject_of(project, project.images()[0], variant=variant_of(project, "v0001"))
    assert sorted(objects.classes.values()) == [1, 2, 2]
    assert dict(subject.objects.classes) == dict(objects.classes)


def test_another_mask_is_another_run(project):
    first = run_plan(project, plan_sweep(project)).run
    assert run_plan(project, plan_sweep(project)).run == first
    project.config_file.write_text(text("channel: 1, filter: none, opening: 0, fraction: 0.9"))
    assert run_plan(project, plan_sweep(project)).run != first


def test_objects_are_kept_by_the_intensity_of_the_source(project):
    found = []
    for low in ("0", "3000"):
        more = text("channel: 1") + f"postprocess: {{keep: [{{intensity_mean: [{low}, null]}}]}}\n"
        project.config_file.write_text(
            more.replace("sweep:", "preprocess: {inverted: [invert, invert]}\nsweep:")
        )
        result = run_plan(project, plan_sweep(project))
        found.append(project.labels(result.run, "v0001", "i00001-cells").max())
    assert found == [3, 3]
    project.config_file.write_text(more.replace("3000", "3300"))
    result = run_plan(project, plan_sweep(project))
    assert project.labels(result.run, "v0001", "i00001-cells").max() == 0


def test_a_mask_of_a_time_series_is_cut_as_its_images_are(project):
    (project.root / "data" / "cells.tif").unlink()
    pictures = np.stack([200 + 3000 * (LABELS > 0)] * 2).astype(np.uint16)
    write_hyperstack(project.root / "data" / "live.tif", pictures, "TYX")
    masks = np.zeros((2, 80, 90), np.uint8)
    masks[0, :, :45] = masks[1, 45:] = 255
    write_hyperstack(project.root / "masks" / "live.tif", masks, "TYX")
    how = config('source: "masks/{stem}.tif"')
    found = [classes_of(project, how, entry, LABELS) for entry in import_images(project, how)]
    assert found == [{1: 1, 2: 2, 3: 2}, {1: 2, 2: 2, 3: 1}]


def test_a_mask_of_a_volume_for_its_projection(project):
    (project.root / "data" / "cells.tif").unlink()
    pictures = np.stack([200 + 3000 * (LABELS > 0)] * 4).astype(np.uint16)
    write_hyperstack(project.root / "data" / "deep.tif", pictures, "ZYX")
    masks = np.zeros((4, 80, 90), np.uint8)
    masks[3, :, :45] = 255
    write_hyperstack(project.root / "masks" / "deep.tif", masks, "ZYX")
    how = config('source: "masks/{stem}.tif"', ", projection: max, substacks: {size: 2}")
    found = [classes_of(project, how, entry, LABELS) for entry in import_images(project, how)]
    assert found == [{1: 2, 2: 2, 3: 2}, {1: 1, 2: 2, 3: 2}]


def test_a_mask_that_was_painted_anew_is_another_run(project):
    project.config_file.write_text(text('source: "masks/{stem}.tif"'))
    file = project.root / "masks" / "cells.tif"
    tifffile.imwrite(file, np.zeros((80, 90), np.uint8))
    first = run_plan(project, plan_sweep(project)).run
    assert run_plan(project, plan_sweep(project)).run == first
    tifffile.imwrite(file, np.full((80, 90), 255, np.uint8))
    second = run_plan(project, plan_sweep(project)).run
    assert second != first
    [zipped] = project.run(second).root.glob("rois/v0001/*_ROIs.zip")
    objects, _, _ = read_roi_set(zipped, (80, 90))
    assert set(objects.classes.values()) == {1}


def test_each_time_point_has_its_own_mask_by_its_id(project):
    (project.root / "data" / "cells.tif").unlink()
    pictures = np.stack([200 + 3000 * (LABELS > 0)] * 2).astype(np.uint16)
    write_hyperstack(project.root / "data" / "live.tif", pictures, "TYX")
    how = config('source: "masks/{id}.tif"')
    entries = import_images(project, how)
    assert len({entry.source for entry in entries}) == 1
    left, below = np.zeros((2, 80, 90), np.uint8)
    left[:, :45] = below[45:] = 255
    for entry, mask in zip(entries, (left, below), strict=True):
        tifffile.imwrite(mask_file(project, how.class_mask, entry), mask)
    found = [classes_of(project, how, entry, LABELS) for entry in entries]
    assert found == [{1: 1, 2: 2, 3: 2}, {1: 2, 2: 2, 3: 1}]


def test_a_mask_of_a_substack_has_its_planes_and_one_of_the_file_all(project):
    (project.root / "data" / "cells.tif").unlink()
    pictures = np.stack([200 + 3000 * (LABELS > 0)] * 4).astype(np.uint16)
    write_hyperstack(project.root / "data" / "deep.tif", pictures, "ZYX")
    masks = np.zeros((4, 80, 90), np.uint8)
    masks[2:, :, :45] = 255
    by_id = config('source: "masks/{id}.tif"', ", projection: none, substacks: {size: 2}")
    entries = import_images(project, by_id)
    for number, entry in enumerate(entries):
        part = masks[2 * number : 2 * number + 2]
        write_hyperstack(mask_file(project, by_id.class_mask, entry), part, "ZYX")
    write_hyperstack(project.root / "masks" / "deep.tif", masks, "ZYX")
    by_stem = config('source: "masks/{stem}.tif"', ", projection: none, substacks: {size: 2}")
    volume = np.stack([LABELS] * 2)
    for how in (by_id, by_stem):
        found = [classes_of(project, how, entry, volume) for entry in entries]
        assert found == [{1: 2, 2: 2, 3: 2}, {1: 1, 2: 2, 3: 2}]


def test_masks_by_id_are_looked_for_and_are_part_of_the_plan(project):
    project.config_file.write_text(text('source: "masks/{id}.tif"'))
    with pytest.raises(ConfigError, match=r"no file masks/i00001-cells\.tif"):
        plan_sweep(project)
    file = project.root / "masks" / "i00001-cells.tif"
    tifffile.imwrite(file, np.zeros((80, 90), np.uint8))
    first = plan_sweep(project).key
    assert plan_sweep(project).key == first
    tifffile.imwrite(file, np.full((80, 90), 255, np.uint8))
    assert plan_sweep(project).key != first


def test_a_mask_that_cannot_be_used_is_said_wherever_the_run_is_looked_at(
    project, capsys, monkeypatch
):
    project.config_file.write_text(text('source: "masks/{stem}.tif"').replace("rois: 1", "rois: 2"))
    file = project.root / "masks" / "cells.tif"
    tifffile.imwrite(file, np.zeros((70, 90), np.uint8))
    result = run_plan(project, plan_sweep(project), Here())
    run = project.run(result.run)
    assert (result.ok, result.failed) == (1, 0), "the mask costs the classes, not the labels"
    [said] = result.remarks
    assert said.startswith("i00001-cells: its objects have no classes: class_mask of")
    assert "(70, 90)" in said
    assert read_json(run.record_file)["remarks"] == [said] == list(status(run).remarks)
    assert said in capsys.readouterr().err, "the log of the unit"
    assert "its objects have no classes" in run.report_file.read_text("utf-8")
    assert list(resume_run(project, run, Here()).remarks) == [said]
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["opsef", "-p", str(project.root), "sweep", "status"])
    monkeypatch.setattr(Context, "folder", Path("."))
    with pytest.raises(SystemExit):
        cli.main()
    assert said in capsys.readouterr().out.splitlines()
    adopt(project, "v0001")
    batch = run_plan(project, plan_batch(project), Here())
    assert batch.remarks == (said,)
    tifffile.imwrite(file, np.zeros((80, 90), np.uint8))
    again = run_plan(project, plan_sweep(project), Here())
    assert again.run != result.run and not again.remarks
    assert read_json(project.run(again.run).record_file)["remarks"] == []


def test_a_remark_goes_when_its_unit_is_done_again_without_it(project):
    project.config_file.write_text(text('source: "masks/{stem}.tif"'))
    file = project.root / "masks" / "cells.tif"
    tifffile.imwrite(file, np.zeros((70, 90), np.uint8))
    run = project.run(run_plan(project, plan_sweep(project), Here()).run)
    tifffile.imwrite(file, np.zeros((80, 90), np.uint8))
    for unit in run.plan()["units"]:
        if unit["kind"] == "compare":
            run.done_file(unit["id"]).unlink()
    assert not resume_run(project, run, Here()).remarks
    assert read_json(run.record_file)["remarks"] == []


@pytest.fixture
def one_bad(project):
    """Two images, swept; then the mask of the first is put out of shape."""
    two = np.stack([200 + 3000 * (LABELS[::-1] > 0), STAIN]).astype(np.uint16)
    write_hyperstack(project.root / "data" / "other.tif", two, "CYX")
    project.config_file.write_text(text('source: "masks/{stem}.tif"'))
    mask = np.where(np.arange(90) < 45, 255, 0) * np.ones((80, 1), np.uint8)
    for name in ("cells", "other"):
        tifffile.imwrite(project.root / "masks" / f"{name}.tif", mask.astype(np.uint8))
    assert run_plan(project, plan_sweep(project), Here()).ok == 2
    tifffile.imwrite(project.root / "masks" / "cells.tif", mask[:70].astype(np.uint8))
    return project


def classes_in(file: Path) -> set[int]:
    return set(read_roi_set(file, (80, 90))[0].classes.values())


REMARK = "i00001-cells: its objects have no classes: class_mask of i00001-cells"


def test_a_bad_mask_costs_the_export_the_classes_of_its_image_only(one_bad, monkeypatch, capfd):
    code, out, err = run_opsef(monkeypatch, capfd, "-p", one_bad.root, "rois", "export", "v0001")
    assert code == 0 and err.count("no classes") == 1 and REMARK in err
    first, second = map(Path, out.splitlines())
    assert [classes_in(first), classes_in(second)] == [set(), {1, 2}]
    assert len(read_rois(first)) == len(read_rois(second)) == 3
    done = export_annotatorj(one_bad, "round1", ["v0001"], layout="zips")
    assert [note for note in done.notes if REMARK in note] == list(done.notes)
    with pytest.raises(ImageError, match="class_mask of i00001-cells"):  # nobody takes the remark
        subject_of(one_bad, one_bad.images()[0], variant=variant_of(one_bad, "v0001"))


def test_edits_of_objects_without_classes_come_back(one_bad, monkeypatch, capfd):
    first, _ = export_objects(one_bad, ["v0001"])
    write_rois(first, read_rois(first)[1:])
    code, out, _ = run_opsef(
        monkeypatch, capfd, "-p", one_bad.root, "rois", "import", first, "--author", "ada"
    )
    assert code == 0 and "1 deleted" in out and REMARK in out
    [revision] = History(one_bad, "i00001-cells").revisions()
    assert any(REMARK in note for note in revision.notes)
    assert not revision.changes.reclassified
