"""Importing: which files are images, and that an image keeps its id for ever."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PilImage

from opsef_bridge.config import Config, parse_config
from opsef_bridge.errors import ConfigError
from opsef_bridge.project import Project
from opsef_bridge.sweep.importing import import_images


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "Projekt [neu] Größe"
    (folder / "data").mkdir(parents=True)
    return Project(folder)


def add(project: Project, *names: str) -> None:
    for name in names:
        path = project.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PilImage.fromarray(np.full((6, 8), len(name), np.uint8)).save(path)


def config(source: str = "data/*", more: str = "") -> Config:
    return parse_config(
        f"opsef: 1\nimages: {{source: {source}}}\nmodels: {{m: {{engine: watershed}}}}\n{more}"
    )


def ids(project: Project, *how: str) -> list[str]:
    return [entry.id for entry in import_images(project, config(*how))]


def test_files_come_in_natural_order_and_get_numbers_and_slugs(project):
    add(project, "data/tile_10.png", "data/tile_2.png", "data/Zähl ung (3).png")
    assert ids(project) == ["i00001-Zahl-ung-3", "i00002-tile-2", "i00003-tile-10"]
    assert project.images()[0].source == "data/Zähl ung (3).png"
    assert ids(project) == ["i00001-Zahl-ung-3", "i00002-tile-2", "i00003-tile-10"]


def test_ids_stay_when_files_come_and_go(project):
    add(project, "data/b.png", "data/c.png")
    before = {entry.source: entry.id for entry in import_images(project, config())}
    add(project, "data/a.png")
    (project.root / "data" / "b.png").unlink()
    assert ids(project) == ["i00002-c", "i00003-a"]
    add(project, "data/b.png", "data/d.png")
    after = {entry.source: entry.id for entry in import_images(project, config())}
    assert before.items() <= after.items()
    assert after["data/d.png"] == "i00004-d", "a number is never given twice"
    assert [entry.id for entry in project.images()] == sorted(after.values())


def test_images_that_no_source_names_any_more_are_not_worked_on(project):
    add(project, "data/a.png", "new/b.png")
    ids(project)
    assert ids(project, "new") == ["i00002-b"]
    assert ids(project) == ["i00001-a"]


@pytest.mark.parametrize("source", ["data", "data/", "data/*.png", "data/**", "'**/*.png'"])
def test_folders_and_globs(project, source):
    add(project, "data/a.png", "data/b.png")
    (project.root / "data" / ".hidden.png").write_bytes(b"x")
    (project.root / "data" / "sub").mkdir()
    assert [one[7:] for one in ids(project, source)] == ["a", "b"]


def test_files_outside_the_project_are_named_in_full(project, tmp_path):
    add(project, "../fern/a.png")
    [entry] = import_images(project, config(f'"{tmp_path.as_posix()}/fern/*.png"'))
    assert Path(entry.source).is_absolute()
    [entry] = import_images(project, config('"../fern/*.png"'))
    assert project.source_file(entry).is_file()


def test_a_name_with_brackets_is_a_name_where_there_is_such_a_file(project):
    add(project, "data/a[1].png", "data/a1.png")
    assert [entry.source for entry in import_images(project, config("'data/a[1].png'"))] == [
        "data/a[1].png"
    ]


def test_two_sources_that_name_one_file(project):
    add(project, "data/a.png", "data/b.png")
    assert len(ids(project, "[data/b.png, data]")) == 2


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("data", r"the folder 'data' holds no image.*\.png.*\.tif"),
        ("nowhere", "there is no file or folder 'nowhere'"),
        ("data/*.lif", r"no file matches 'data/\*\.lif'"),
        ("[ok, data]", "'data' holds no image"),
    ],
)
def test_sources_without_images(project, source, words):
    add(project, "ok/a.png")
    (project.root / "data" / "notes.txt").write_text("x")
    with pytest.raises(ConfigError, match=words):
        ids(project, source)
    assert not project.index_file.exists()


def test_axes_shape_and_calibration_are_in_the_index(project):
    tifffile.imwrite(
        project.root / "data" / "v.tif", np.zeros((3, 5, 7), np.uint16), imagej=True,
        resolution=(4, 2), metadata={"axes": "ZYX", "unit": "um", "spacing": 1.5},
    )  # fmt: skip
    [entry] = import_images(project, config())
    assert (entry.axes, entry.shape, entry.unit) == ("ZYX", (3, 5, 7), "um")
    assert entry.spacing == {"Z": 1.5, "Y": 0.5, "X": 0.25}
    assert len(entry.sha256) == 64


def test_what_a_person_changed_in_the_index_stays(project):
    add(project, "data/a.png", "data/b.png")
    first, second = import_images(project, config())
    mine = replace(first, include=False, pixel_size_x=0.2, pixel_size_y=0.2, unit="um")
    project.write_images([replace(mine, more={"dose": "5"}), second])
    add(project, "data/c.png")
    found = import_images(project, config())
    assert found[0] == replace(mine, more={"dose": "5"})
    assert [(entry.include, entry.more["dose"]) for entry in project.images()] == [
        (False, "5"), (True, ""), (True, ""),
    ]  # fmt: skip


def test_a_file_that_changed_is_read_again(project):
    add(project, "data/a.png")
    [before] = import_images(project, config())
    PilImage.fromarray(np.zeros((9, 9), np.uint8)).save(project.root / "data" / "a.png")
    os.utime(project.root / "data" / "a.png", (1, 1))
    [after] = import_images(project, config())
    assert (after.id, after.shape) == (before.id, (9, 9))
    assert after.sha256 != before.sha256


def test_a_change_of_images_axes_is_seen(project):
    volume = np.zeros((3, 5, 7), np.uint16)
    tifffile.imwrite(project.root / "data" / "v.tif", volume, photometric="minisblack")
    [unknown] = import_images(project, config())
    assert unknown.axes == ""
    [volume] = import_images(project, config("data/*, axes: ZYX"))
    [channels] = import_images(project, config("data/*, axes: CYX"))
    assert (volume.axes, channels.axes) == ("ZYX", "CYX")


def test_a_file_that_cannot_be_read_is_listed_and_the_others_too(project):
    add(project, "data/a.png", "data/c.png")
    (project.root / "data" / "b.png").write_bytes(b"no png")
    found = import_images(project, config())
    assert [(entry.id, entry.axes) for entry in found] == [
        ("i00001-a", "YX"), ("i00002-b", ""), ("i00003-c", "YX"),
    ]  # fmt: skip
    add(project, "data/b.png")
    assert import_images(project, config())[1].axes == "YX"


def test_groups_by_glob_on_names_the_first_that_fits(project):
    add(project, "data/tile_1.png", "data/tile_20.png", "data/x.png")
    found = import_images(project, config(more="groups: {big: 'tile_2*', small: 'tile_*.png'}\n"))
    assert {entry.source: entry.group for entry in found} == {
        "data/tile_1.png": "small", "data/tile_20.png": "big", "data/x.png": "default",
    }  # fmt: skip


def test_groups_by_a_column_of_the_index(project):
    add(project, "data/a.png", "data/b.png")
    by_stain = config(more="groups: stain\n")
    with pytest.raises(ConfigError, match=r"no column 'stain'.*Add it to .*index\.csv.*of group"):
        import_images(project, by_stain)
    first, second = project.images()  # written all the same, or where should the column go?
    project.write_images([replace(first, more={"stain": "dapi"}), second])
    add(project, "data/c.png")
    groups = [entry.group for entry in import_images(project, by_stain)]
    assert groups == ["dapi", "default", "default"]


def test_the_column_group_is_the_users_own(project):
    add(project, "data/a.png", "data/b.png")
    first, second = import_images(project, config())
    project.write_images([replace(first, group="mine"), second])
    found = import_images(project, config(more="groups: group\n"))
    assert [entry.group for entry in found] == ["mine", "default"]
