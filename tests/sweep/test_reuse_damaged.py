"""Labels of earlier runs that cannot be used any more: they are made again, the run goes on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from opsef_bridge.images import read_labels
from opsef_bridge.images.labels import read_labels_info
from opsef_bridge.project import Project, read_csv, write_csv
from opsef_bridge.sweep import label_files, plan_sweep, predict, run_plan
from tests.small_projects import Here, discs, swept

TILED = "images: {source: [data/*], tiles: {size: 64, overlap: 24}}"


@pytest.fixture
def project(tmp_path) -> Project:
    """Two images that were swept."""
    return swept(tmp_path / "p", {"a.tif": discs(1), "b.tif": discs(2)})


def edit(project: Project, old: str, new: str) -> None:
    text = project.config_file.read_text("utf-8")
    assert old in text
    project.config_file.write_text(text.replace(old, new), "utf-8")


def sweep_with_one_more_threshold(project: Project):
    edit(project, "[otsu, 0.8]", "[otsu, 0.8, 0.6]")
    return run_plan(project, plan_sweep(project), Here())


def files_of(project: Project, run: str = "run-0001") -> list[Path]:
    return sorted((project.run(run).root / "labels").glob("*/*.tif"))


def shorten(file: Path) -> None:
    os.truncate(file, 300)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def lose_the_end(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 20)


def flip_pixels(file: Path) -> None:
    """Change bytes in the middle of the deflated pixels: the header stays as it is."""
    with tifffile.TiffFile(file) as tiff:
        offset, count = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    data = bytearray(file.read_bytes())
    for at in range(offset + count // 2, offset + count // 2 + 8):
        data[at] ^= 0xFF
    file.write_bytes(data)


def write_text_there(file: Path) -> None:
    file.write_text("this is no TIFF")


@pytest.mark.parametrize(
    "damage", [shorten, empty, lose_the_end, flip_pixels, write_text_there, Path.unlink]
)
def test_a_damaged_label_file_is_made_again_and_costs_nothing_else(project, damage, capsys):
    expected = {file.name: read_labels(file) for file in files_of(project)[:2]}
    damaged = files_of(project)[0]
    damage(damaged)
    result = sweep_with_one_more_threshold(project)
    assert (result.ok, result.failed, result.open, result.problems) == (6, 0, 0, {})
    made = files_of(project, result.run)
    assert len(made) == 6
    for file in made[:2]:
        assert np.array_equal(read_labels(file), expected[file.name])
    if damage is not Path.unlink:
        assert f"{damaged} is not taken over" in capsys.readouterr().err
    # The rest is the very files of the earlier run.
    assert sum(file.stat().st_nlink > 1 for file in made) == 3


def test_an_older_run_stands_in_for_a_damaged_file(project, monkeypatch):
    edit(project, "models:", "compare: {rois: 1}\nmodels:")
    second = run_plan(project, plan_sweep(project), Here())
    assert second.run == "run-0002"
    file = files_of(project, "run-0002")[0]
    shutil.copyfile(file, copy := file.with_suffix(".copy"))
    os.replace(copy, file)  # else it is the very file of the first run
    shorten(file)
    monkeypatch.setattr(predict.Desk, "segment", lambda *given: pytest.fail("segmented again"))
    edit(project, "rois: 1", "rois: 2")
    third = run_plan(project, plan_sweep(project), Here())
    assert (third.run, third.ok, third.failed) == ("run-0003", 4, 0)


def test_a_file_that_goes_while_it_is_taken_over(project, monkeypatch):
    """It was there when earlier runs were looked through."""
    looked_through = label_files.finished_before

    def then_gone(job, keys):
        found = looked_through(job, keys)
        assert found
        for file, _ in list(found.values())[:1]:
            file.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(label_files, "finished_before", then_gone)
    result = sweep_with_one_more_threshold(project)
    assert (result.ok, result.failed, result.problems) == (6, 0, {})
    assert len(files_of(project, result.run)) == 6


@pytest.mark.parametrize("largest", [2**24, 64])
def test_damaged_labels_of_an_image_in_tiles(tmp_path, monkeypatch, largest):
    """Of large ones header and end are looked at; their tiles are segmented again."""
    project = swept(tmp_path / "p", {"a.tif": discs(1, (96, 150))})
    edit(project, "images: {source: [data/*]}", TILED)
    first = run_plan(project, plan_sweep(project), Here())
    assert first.ok == 2
    expected = [read_labels(file) for file in files_of(project, first.run)]
    monkeypatch.setattr(label_files, "LARGEST_CHECKED", largest)
    lose_the_end(files_of(project, first.run)[0])
    result = sweep_with_one_more_threshold(project)
    assert (result.ok, result.failed, result.problems) == (3, 0, {})
    found = [read_labels(file) for file in files_of(project, result.run)]
    for old, new in zip(expected, found, strict=False):
        assert np.array_equal(old, new)


@pytest.mark.parametrize("shape", [(72, 80), (3, 72, 80)], ids=["plane", "volume"])
def test_the_end_of_a_large_label_file_is_looked_at(tmp_path, monkeypatch, shape):
    project = swept(tmp_path / "p", {"a.tif": np.broadcast_to(discs(1), shape)})
    file = files_of(project)[0]
    monkeypatch.setattr(label_files, "LARGEST_CHECKED", 64)
    assert label_files._intact(file)
    lose_the_end(file)
    assert not label_files._intact(file)


def test_corrected_texts_reach_the_labels_of_the_next_run(project):
    rows = read_csv(project.index_file)
    first = [{**rows[0], "time_step": "7,5"}, *rows[1:]]
    write_csv(project.index_file, first, [*rows[0], "time_step"])
    before = {file: read_labels_info(file) for file in files_of(project)}
    result = run_plan(project, plan_sweep(project), Here())
    assert (result.run, result.ok) == ("run-0002", 4)
    for old, new in zip(files_of(project), files_of(project, "run-0002"), strict=True):
        corrected = rows[0]["id"] == new.stem
        assert ("time step: 7.5 s" in read_labels_info(new)) == corrected
        assert np.array_equal(read_labels(old), read_labels(new))
        assert os.path.samefile(old, new) != corrected
        assert read_labels_info(old) == before[old]
