"""Importing: which files are images, and that an image keeps its id for ever."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PilImage

from opsef_bridge.config import Config, parse_config
from opsef_bridge.errors import ConfigError, ImageError
from opsef_bridge.images import image_info, image_infos, series_names
from opsef_bridge.images.ome_zarr_write import write_zarr
from opsef_bridge.project import Project
from opsef_bridge.sweep.importing import import_images
from tests.images.lif_files import Series, X, Y, write_lif


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


def many_series(file: Path, count: int, bad: int | None = None) -> None:
    """Write an OME-TIFF; complex numbers cannot be worked on."""
    with tifffile.TiffWriter(file, ome=True) as writer:
        for number in range(count):
            data = np.zeros((2, 6, 7 + number), np.complex64 if number == bad else np.uint16)
            options = {"axes": "ZYX", "Name": f"site {number}", "PhysicalSizeX": 0.5}
            writer.write(data, photometric="minisblack", metadata=options)


def swap(file: Path, content: bytes) -> None:
    """Give a file other bytes, as many and of the same time: that it changed is not seen."""
    before = file.stat()
    assert len(content) == before.st_size
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_file_that_did_not_change_is_not_opened_again(project):
    file = project.root / "data" / "many.ome.tif"
    many_series(file, 3)
    first = import_images(project, config())
    assert [entry.id[7:] for entry in first] == [f"many-ome-site-{n}" for n in range(3)]
    assert [entry.shape for entry in first] == [(2, 6, 7), (2, 6, 8), (2, 6, 9)]
    swap(file, bytes(file.stat().st_size))
    assert import_images(project, config()) == first
    project.index_file.unlink()
    anew = import_images(project, config())
    told = [(entry.id, entry.shape, entry.spacing, entry.channels) for entry in anew]
    assert told == [(entry.id, entry.shape, entry.spacing, entry.channels) for entry in first]
    shutil.rmtree(project.cache_folder)
    assert {entry.axes for entry in import_images(project, config())} == {""}


def test_what_is_remembered_depends_on_images_axes(project):
    file = project.root / "data" / "v.tif"
    tifffile.imwrite(file, np.zeros((3, 5, 7), np.uint8), photometric="minisblack")
    [volume] = import_images(project, config("data/*, axes: ZYX"))
    [channels] = import_images(project, config("data/*, axes: CYX"))
    [again] = import_images(project, config("data/*, axes: ZYX"))
    assert [one.axes for one in (volume, channels, again)] == ["ZYX", "CYX", "ZYX"]


def test_that_a_file_could_not_be_read_is_not_remembered(project):
    add(project, "data/a.png")
    file = project.root / "data" / "a.png"
    content = file.read_bytes()
    file.write_bytes(bytes(len(content)))
    assert import_images(project, config())[0].axes == ""
    swap(file, content)
    assert import_images(project, config())[0].axes == "YX"


def test_a_series_that_could_not_be_read_is_asked_for_again(project):
    file = project.root / "data" / "many.ome.tif"
    many_series(file, 3, bad=1)
    axes = [entry.axes for entry in import_images(project, config())]
    assert axes == ["ZYX", "", "ZYX"]
    swap(file, bytes(file.stat().st_size))
    assert {entry.axes for entry in import_images(project, config())} == {""}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"null", b"[]", b"3", b"{}", b'{"key": "x", "files": {}}', b"\xff\xfe",
        b'{"key": null, "files": {"data/a.png": {"size": 1}}}', b'{"key": "x", "files": NaN}',
        b"[" * 9999,
    ],
    ids=lambda content: repr(content[:12]),
)  # fmt: skip
def test_a_damaged_or_foreign_memory_is_ignored(project, content):
    add(project, "data/a.png")
    first = import_images(project, config())
    memory = project.cache_folder / "images.json"
    good = memory.read_bytes()
    memory.write_bytes(content)
    assert import_images(project, config()) == first
    assert memory.read_bytes() == good, "it is written anew"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_a_memory_with_wrong_bits_is_ignored(project, place, bit):
    add(project, "data/a.png", "data/b.png")
    first = import_images(project, config())
    memory = project.cache_folder / "images.json"
    good = memory.read_bytes()
    flipped = bytearray(good)
    flipped[int(place * len(good))] ^= 1 << bit
    memory.write_bytes(flipped)
    assert import_images(project, config()) == first


def test_a_cache_that_cannot_be_written_is_no_error(project):
    add(project, "data/a.png")
    project.cache_folder.write_text("in the way")
    assert ids(project) == ids(project) == ["i00001-a"]
    project.cache_folder.unlink()
    (project.cache_folder / "images.json").mkdir(parents=True)
    assert ids(project) == ["i00001-a"]


def written(folder: Path, kind: str, count: int) -> Path:
    """Write a file of several series that differ in width."""
    file = folder / f"{count}{kind}"
    sizes = [(8 + 8 * number, number) for number in range(count)]
    if kind == ".lif":
        pytest.importorskip("readlif", reason="readlif is not installed")
        write_lif(file, [
            Series(f"s{n}", np.zeros((2, 8, wide), np.uint8), [(X, wide, 1e-5), (Y, 8, 1e-5)],
                   ("Green", "Red"))
            for wide, n in sizes
        ])  # fmt: skip
    elif kind == ".ome.tif":
        many_series(file, count, bad=1)
    elif kind == ".tif":
        with tifffile.TiffWriter(file) as writer:
            for wide, n in sizes:  # of two channels, or slices: it does not say
                data = np.zeros((2, 8, wide) if n == 1 else (8, wide), np.uint8)
                writer.write(data, photometric="minisblack", metadata=None)
    elif kind == ".zarr":
        zarr = pytest.importorskip("zarr", reason="zarr is not installed")
        zarr.open_group(str(file), mode="w", zarr_format=2, attributes={"bioformats2raw.layout": 3})
        for wide, n in sizes:
            write_zarr(folder / "one.zarr", np.zeros((8, wide), np.uint8), "YX")
            (folder / "one.zarr").rename(file / str(n))
    else:
        PilImage.fromarray(np.zeros((8, 8), np.uint8)).save(file)
    return file


@pytest.mark.parametrize("kind", [".lif", ".ome.tif", ".tif", ".zarr", ".png"])
def test_all_series_at_once_are_what_each_is_alone(tmp_path, kind):
    file = written(tmp_path, kind, 4)
    found = image_infos(file)
    assert len(found) == len(series_names(file)) == (1 if kind == ".png" else 4)
    for series, told in enumerate(found):
        if isinstance(told, ImageError):
            with pytest.raises(ImageError) as error:
                image_info(file, series)
            assert str(told) == str(error.value)
        else:
            assert told == image_info(file, series)


@pytest.mark.parametrize("name", ["a.tif", "a.lif", "a.png", "a.zarr"])
@pytest.mark.parametrize(
    "content", [None, b"", b"II*\0", bytes(99)], ids=["no", "empty", "cut", "0"]
)
def test_a_file_that_is_no_image_is_one_error(tmp_path, name, content):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    [told] = image_infos(file)
    assert isinstance(told, ImageError) and name in str(told)


@pytest.mark.parametrize("kind", [".lif", ".ome.tif", ".tif"])
def test_a_file_is_opened_as_often_for_many_series_as_for_few(tmp_path, monkeypatch, kind):
    opened = []
    if kind == ".lif":
        owner = pytest.importorskip("readlif.reader", reason="readlif is not installed").LifFile
    else:
        owner = tifffile.TiffFile
    real = owner.__init__
    monkeypatch.setattr(
        owner, "__init__", lambda *a, **more: (opened.append(kind), real(*a, **more))[1]
    )
    counts = []
    for count in (3, 12):
        file = written(tmp_path, kind, count)
        opened.clear()
        assert len(image_infos(file)) == count
        counts.append(len(opened))
    assert counts[0] == counts[1] > 0


def test_axes_for_files_that_do_not_say_leave_the_others_alone(project):
    folder = project.root / "data"
    stack = np.arange(7 * 12 * 16, dtype=np.uint8).reshape(7, 12, 16)
    with tifffile.TiffWriter(folder / "plain.tif") as tiff:
        for plane in stack:
            tiff.write(plane, metadata=None, contiguous=False)
    tifffile.imwrite(folder / "colour.tif", stack[:3].transpose(1, 2, 0), photometric="rgb")
    tifffile.imwrite(folder / "named.ome.tif", stack, metadata={"axes": "CYX"})
    found = import_images(project, config("data/*, axes: ZYX"))
    assert {Path(entry.source).name: entry.axes for entry in found} == {
        "plain.tif": "ZYX",
        "colour.tif": "YXS",
        "named.ome.tif": "CYX",
    }


def test_names_of_channels_that_a_person_gave_stay_till_the_file_changes(project):
    file = project.root / "data" / "a.ome.tif"

    def write(*names: str) -> None:
        channels = {"axes": "CYX", "Channel": {"Name": list(names)}}
        tifffile.imwrite(file, np.zeros((2, 6, 8), np.uint8), metadata=channels)

    write("ch0", "ch1")
    [entry] = import_images(project, config())
    assert entry.channels == "ch0|ch1"
    project.write_images([replace(entry, channels="DAPI|GFP")])
    [entry] = import_images(project, config())
    assert entry.channels == "DAPI|GFP"
    write("nuclei", "cells, membranes")
    [entry] = import_images(project, config())
    assert entry.channels == "nuclei|cells, membranes"


def test_a_persons_calibration_outlives_a_file_that_was_damaged_for_a_while(project):
    add(project, "data/a.tif")
    [entry] = import_images(project, config())
    project.write_images([replace(entry, pixel_size_x=0.5, pixel_size_y=0.5, unit="um")])
    file = project.root / entry.source
    whole = file.read_bytes()
    file.write_bytes(whole[:9])
    [damaged] = import_images(project, config())
    assert damaged.axes == "" and damaged.pixel_size_x == 0.5
    [damaged] = import_images(project, config())
    file.write_bytes(whole)
    [again] = import_images(project, config())
    assert (again.axes, again.pixel_size_x, again.unit) == ("YX", 0.5, "um")
    assert again.sha256 == entry.sha256
    # Other bytes that can be read are another image, also where they could not be at first.
    file.write_bytes(whole[:9])
    import_images(project, config())
    PilImage.fromarray(np.full((6, 8), 77, np.uint8)).save(file)
    [other] = import_images(project, config())
    assert other.sha256 != entry.sha256 and other.pixel_size_x == 0
