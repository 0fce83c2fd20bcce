"""Files that are many images: series, time points, substacks, tiles; choices in the index."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from opsef_bridge.config import Config, parse_config
from opsef_bridge.config.images import RESERVED
from opsef_bridge.errors import ConfigError, ImageError, ProjectError
from opsef_bridge.exchange.annotatorj import export_annotatorj
from opsef_bridge.exchange.sources import chosen_images
from opsef_bridge.images import image_info, read_labels, write_hyperstack
from opsef_bridge.images.labels import read_labels_info
from opsef_bridge.images.ome_zarr_write import write_zarr
from opsef_bridge.project import ImageEntry, Project, read_csv, write_csv
from opsef_bridge.sweep import plan_sweep, run_plan
from opsef_bridge.sweep.importing import import_images
from opsef_bridge.sweep.plan import make_batch_plan, make_plan
from opsef_bridge.sweep.predict import segmented_array
from opsef_bridge.sweep.sample import sample_images

LIF = Path(__file__).parents[1] / "data" / "lif" / "synthetic_cc0.lif"
DATA = np.random.default_rng(4).integers(0, 60000, (3, 5, 2, 70, 90), np.uint16)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    folder = tmp_path / "Projekt"
    (folder / "data").mkdir(parents=True)
    return Project(folder)


def config(more: str = "", source: str = "data") -> Config:
    text = f"opsef: 1\nimages: {{source: {source}{more}}}\nmodels: {{m: {{engine: watershed}}}}\n"
    return parse_config(text)


def series(project: Project, name: str = "live.tif") -> None:
    write_hyperstack(project.root / "data" / name, DATA, "TZCYX", spacing=(2, 0.5, 0.5), unit="um")


def test_time_points_and_substacks_are_images_with_one_parent(project):
    series(project)
    found = import_images(project, config(", times: [0, 2], substacks: {size: 3}"))
    assert [entry.id for entry in found] == [
        "i00001-live-t000-z000",
        "i00002-live-t000-z003",
        "i00003-live-t002-z000",
        "i00004-live-t002-z003",
    ]
    assert {entry.parent for entry in found} == {"data/live.tif"}
    assert [entry.shape for entry in found[:2]] == [(3, 2, 70, 90), (2, 2, 70, 90)]
    assert found[0].axes == "ZCYX" and found[0].spacing == {"Z": 2.0, "Y": 0.5, "X": 0.5}
    assert project.images() == found, "the index says the same"


def test_pixels_of_a_piece_are_those_of_the_file(project):
    series(project)
    how = config(", segment: {channel: 1}, projection: max")
    for t, entry in enumerate(import_images(project, how)):
        expected = DATA[t, :, 1].max(axis=0)
        np.testing.assert_array_equal(segmented_array(project, how, entry), expected)


def test_ids_and_choices_stay_when_more_is_asked_for(project):
    series(project)
    first = import_images(project, config(", times: [1]"))
    project.write_images([replace(first[0], projection="sum", more={"dose": "5"})])
    again = import_images(project, config())
    assert [entry.id for entry in again] == [
        "i00001-live-t001",
        "i00002-live-t000",
        "i00003-live-t002",
    ]
    kept = next(entry for entry in again if entry.part == "t=1")
    assert (kept.id, kept.projection, kept.more["dose"]) == (first[0].id, "sum", "5")
    array = segmented_array(project, config(), kept)
    np.testing.assert_array_equal(array, DATA[1, :, 0].sum(axis=0, dtype=np.int64))


def test_a_person_chooses_crop_and_channel_for_one_image(project):
    series(project)
    [entry, *_] = import_images(project, config(", times: [2]"))
    chosen = replace(entry, crop="z=1:4 y=10:60 x=5:85", segment_channel="1")
    project.write_images([chosen])
    [entry] = import_images(project, config(", times: [2]"))
    assert (entry.axes, entry.shape) == ("ZCYX", (3, 2, 50, 80))
    np.testing.assert_array_equal(
        segmented_array(project, config(), entry), DATA[2, 1:4, 1, 10:60, 5:85]
    )


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("crop", "top left", "region 'top left'"),
        ("crop", "y=9:3", "start below"),
        ("projection", "avarage", "projection is 'avarage'"),
    ],
)
def test_a_choice_that_makes_no_sense(project, column, value, words):
    series(project)
    [entry, *_] = import_images(project, config())
    with pytest.raises(ProjectError, match=words):
        project.write_images([replace(entry, **{column: value})])
        project.images()


def test_a_crop_that_does_not_fit_fails_that_image_alone(project):
    series(project, "a.tif")
    series(project, "b.tif")
    entries = import_images(project, config(", times: [0]"))
    project.write_images([replace(entries[0], crop="y=0:900"), entries[1]])
    bad, good = import_images(project, config(", times: [0]"))
    assert bad.axes == "" and good.axes == "ZCYX"
    with pytest.raises(ImageError, match=r"y=0:900 is outside .* y=0:70"):
        segmented_array(project, config(), bad)


def test_a_channel_by_the_name_that_the_file_gives(project):
    [*_] = import_lif(project)
    entry = next(e for e in project.images() if e.channels)
    name = entry.channels.split("|")[-1]
    by_name = replace(entry, segment_channel=name)
    by_number = replace(entry, segment_channel=str(len(entry.channels.split("|")) - 1))
    found = [segmented_array(project, config(), one) for one in (by_name, by_number)]
    np.testing.assert_array_equal(*found)
    with pytest.raises(ImageError, match=r"segment_channel of .* is 'DAPY'"):
        segmented_array(project, config(), replace(entry, segment_channel="DAPY"))


def import_lif(project: Project) -> list[ImageEntry]:
    pytest.importorskip("readlif", reason="readlif is not installed")
    (project.root / "data" / "all.lif").write_bytes(LIF.read_bytes())
    return import_images(project, config())


def test_every_series_and_time_point_of_a_lif_file(project):
    found = import_lif(project)
    assert len({entry.id for entry in found}) == len(found) == 5  # 1 stack, 1 plane, 3 times
    assert [entry.series for entry in found] == [0, 1, 2, 2, 2]
    assert [entry.parent for entry in found] == ["", ""] + ["data/all.lif:2"] * 3
    assert all(segmented_array(project, config(), entry).size for entry in found)


def test_separate_tiles_lose_no_pixel(project):
    tifffile.imwrite(project.root / "data" / "slide.tif", DATA[0, 0, 0])
    how = config(", tiles: {size: 64, overlap: 0, separate: true}")
    found = import_images(project, how)
    assert [entry.id for entry in found] == [
        f"i0000{n}-slide-y{y:05d}-x{x:05d}"
        for n, (y, x) in enumerate([(0, 0), (0, 64), (64, 0), (64, 64)], start=1)
    ]
    whole = np.zeros((70, 90), np.uint16)
    for entry in found:
        (y, *_), (x, *_) = entry.region.y, entry.region.x
        height, width = entry.shape
        whole[y : y + height, x : x + width] = segmented_array(project, how, entry)
    np.testing.assert_array_equal(whole, DATA[0, 0, 0])


def test_names_of_files_become_columns_that_a_person_may_change(project):
    for well, field in (("B03", 1), ("B03", 2), ("C11", 1)):
        name = f"AssayPlate_7_{well}_T0001F00{field}L01A01Z01C01.tif"
        tifffile.imwrite(project.root / "data" / name, DATA[0, 0, 0])
    tifffile.imwrite(project.root / "data" / "other.tif", DATA[0, 0, 0])
    found = import_images(project, config(", names: yokogawa"))
    assert [entry.more.get("well") for entry in found] == ["B03", "B03", "C11", None]
    assert found[1].more["field"] == "002" and found[1].more["plate"] == "AssayPlate_7"
    changed = replace(found[0], more={**found[0].more, "well": "B04"})
    project.write_images([changed, *found[1:]])
    again = import_images(project, config(", names: yokogawa"))
    assert again[0].more["well"] == "B04", "what a person wrote stays"
    grouped = import_images(
        project,
        parse_config(
            "opsef: 1\nimages: {source: data, names: yokogawa}\ngroups: well\n"
            "models: {m: {engine: watershed}}\n"
        ),
    )
    assert [entry.group for entry in grouped] == ["B04", "B03", "C11", "default"]


def test_an_own_pattern(project):
    tifffile.imwrite(project.root / "data" / "ctrl_r2.tif", DATA[0, 0, 0])
    how = config(r", names: '(?P<condition>[a-z]+)_r(?P<replicate>\d)'")
    [entry] = import_images(project, how)
    assert entry.more == {"condition": "ctrl", "replicate": "2"}


def test_a_file_that_cannot_be_read_any_more_keeps_its_images(project):
    series(project)
    before = import_images(project, config())
    file = project.root / "data" / "live.tif"
    file.write_bytes(file.read_bytes()[:100])
    after = import_images(project, config())
    assert [entry.id for entry in after] == [entry.id for entry in before]
    assert {entry.axes for entry in after} == {""}


def test_pieces_of_one_file_have_keys_of_their_own(project):
    series(project)
    entries = import_images(project, config())
    entries.append(replace(entries[0], id="x1", segment_channel="1"))
    entries.append(replace(entries[0], id="x2", projection="max"))
    entries.append(replace(entries[0], id="x3", crop="y=0:64"))
    adopted = {"default": make_plan(config(), entries, weights_of(), {}).variants[0]}
    keys = [image.key for image in make_batch_plan(config(), entries, adopted).images]
    assert len(set(keys)) == len(keys) == 6


def weights_of() -> dict:
    from opsef_bridge.engines import find_weights

    return {"m": find_weights("watershed", None, [])}


def test_a_series_that_cannot_be_read_leaves_the_others_alone(project):
    file = project.root / "data" / "three.ome.tif"
    for bad in (0, 1, 2):
        with tifffile.TiffWriter(file, ome=True) as writer:
            for number in range(3):
                kind = np.complex64 if number == bad else np.uint16
                writer.write(DATA[0, 0, 0].astype(kind), photometric="minisblack")
        first = import_images(project, config())
        assert [entry.series for entry in first] == [0, 1, 2]
        assert [entry.axes for entry in first] == ["" if n == bad else "YX" for n in range(3)]
        assert [e.id for e in import_images(project, config())] == [e.id for e in first]


def test_a_series_of_a_lif_file_that_cannot_be_read_leaves_the_others_alone(project):
    pytest.importorskip("readlif", reason="readlif is not installed")
    content = LIF.read_bytes()
    old, new = 'Resolution="8"'.encode("utf-16-le"), 'Resolution="4"'.encode("utf-16-le")
    assert old in content
    head, _, tail = content.rpartition(old)
    (project.root / "data" / "odd.lif").write_bytes(head + new + tail)
    found = import_images(project, config())
    assert {entry.axes for entry in found if entry.series == 0} == {"ZCYX"}
    assert [entry.axes for entry in found if entry.series == 2] == [""]


@pytest.mark.parametrize("crop", ["t=1", "c=1", "t=0 y=0:9"])
def test_a_crop_is_of_planes_rows_and_columns(project, crop):
    series(project)
    [entry, *_] = import_images(project, config())
    project.write_images([replace(entry, crop=crop)])
    with pytest.raises(ProjectError, match="no t or c"):
        project.images()


def test_planes_that_a_volume_does_not_have_give_no_image(project):
    series(project)
    assert import_images(project, config(", planes: [5, 9], substacks: {size: 2}")) == []


def test_what_is_not_asked_for_any_more_is_gone_but_keeps_its_row(project):
    series(project)
    assert len(import_images(project, config())) == 3
    import_images(project, config(", times: [1]"))
    assert [entry.gone for entry in project.images()] == ["yes", "", "yes"]
    assert [entry.id for entry in chosen_images(project)] == ["i00002-live-t001"]
    import_images(project, config())
    assert {entry.gone for entry in project.images()} == {""}


@pytest.mark.parametrize("size", [None, 64])
def test_an_ome_zarr_folder_is_swept_whole_and_in_tiles(tmp_path, size):
    (tmp_path / "data").mkdir()
    square = np.zeros((100, 120), np.uint16)
    square[20:50, 20:50] = square[60:90, 70:110] = 4000
    write_zarr(tmp_path / "data" / "a b.zarr", square, "YX", {"Y": 0.5, "X": 0.5}, "um")
    tiles = f", tiles: {{size: {size}, overlap: 16}}" if size else ""
    (tmp_path / "opsef.yaml").write_text(
        f"opsef: 1\nimages: {{source: data{tiles}}}\nsweep: {{crop: none}}\n"
        "models: {m: {engine: watershed}}\n"
    )
    project = Project(tmp_path)
    result = run_plan(project, plan_sweep(project))
    assert (result.ok, result.failed, result.open) == (1, 0, 0), result
    assert project.labels(result.run, "v0001", "i00001-a-b").max() == 2
    os.utime(a_file_in(tmp_path / "data"))  # only touched: it is the same picture
    assert run_plan(project, plan_sweep(project)).run == result.run


def a_file_in(folder: Path) -> Path:
    return next(path for path in folder.rglob("*") if path.is_file())


def test_the_columns_of_the_index_cannot_be_told_by_names():
    assert set(RESERVED) == {field.name for field in fields(ImageEntry)}
    with pytest.raises(ConfigError, match="series is a column of its own"):
        config(r", names: '(?P<series>\d)'")


@pytest.mark.parametrize(("text", "value"), [("nein", False), ("FALSCH", False), ("Ja", True)])
def test_excel_speaks_the_language_of_the_computer(project, text, value):
    series(project)
    import_images(project, config(", times: [0]"))
    index = project.index_file.read_text("utf-8")
    project.index_file.write_text(index.replace(",yes,", f",{text},"), "utf-8")
    assert project.images()[0].include is value
    project.index_file.write_text(index.replace(",0.5,", ",abc,", 1), "utf-8")
    with pytest.raises(ProjectError, match="row 'i00001-live-t000': pixel_size_x is 'abc'"):
        project.images()


def test_a_corrected_pixel_size_reaches_the_labels_without_a_new_pass(project):
    series(project)
    project.config_file.write_text(
        "opsef: 1\nimages: {source: data, times: [0]}\nmodels: {m: {engine: watershed}}\n"
    )
    first = run_plan(project, plan_sweep(project))
    [entry] = project.images()
    assert label_spacing(project, first.run) == {"Z": 2.0, "Y": 0.5, "X": 0.5}
    project.write_images([replace(entry, pixel_size_x=0.25, pixel_size_y=0.25)])
    second = run_plan(project, plan_sweep(project))
    assert second.run != first.run and second.passes == 0
    assert label_spacing(project, second.run) == {"Z": 2.0, "Y": 0.25, "X": 0.25}
    assert label_spacing(project, first.run)["X"] == 0.5, "what was written stays"
    files = [project.run(run).label_file("v0001", entry.id) for run in (first.run, second.run)]
    assert read_labels_info(files[0]) == read_labels_info(files[1]) != ""
    np.testing.assert_array_equal(*map(read_labels, files))


def label_spacing(project: Project, run: str) -> dict[str, float]:
    [entry] = project.images()
    return image_info(project.run(run).label_file("v0001", entry.id)).spacing


def test_what_is_made_says_what_it_is_of_the_file(project):
    write_hyperstack(
        project.root / "data" / "live.tif", DATA[:, 0, 0], "TYX", spacing=(0.5, 0.5), unit="um",
        time_step=30.0,
    )  # fmt: skip
    project.config_file.write_text(
        "opsef: 1\nimages: {source: data, times: [1]}\nmodels: {m: {engine: watershed}}\n"
    )
    result = run_plan(project, plan_sweep(project))
    [entry] = project.images()
    assert entry.time_step == 30 and entry.origin() == {"part": "t=1", "time step": "30 s"}
    run = project.run(result.run)
    assert "part: t=1\ntime step: 30 s" in read_labels_info(run.label_file("v0001", entry.id))
    assert "part: t=1\ntime step: 30 s" in read_labels_info(run.compare_file(entry.id))


def test_the_pictures_for_annotatorj_have_the_pixel_size(project):
    series(project)
    project.config_file.write_text(
        "opsef: 1\nimages: {source: data, times: [1], projection: max}\nsweep: {crop: none}\n"
        "models: {m: {engine: watershed}}\n"
    )
    run_plan(project, plan_sweep(project))
    made = export_annotatorj(project, "round1", ["v0001"], layout="zips")
    [picture] = made.folder.glob("*.tif")
    assert image_info(picture).spacing == {"Y": 0.5, "X": 0.5}


def test_a_persons_calibration_stays_when_the_crop_changes(project):
    series(project)
    [entry, *_] = import_images(project, config(", times: [0]"))
    project.write_images([replace(entry, pixel_size_x=0.25, pixel_size_y=0.25)])
    for crop in ("z=0:1 y=0:40", "y=0:9000", "y=0:64", ""):
        project.write_images([replace(project.images()[0], crop=crop)])
        [entry] = import_images(project, config(", times: [0]"))
        assert (entry.pixel_size_x, entry.pixel_size_z) == (0.25, 2.0), crop


def three(project: Project, name: str = "three.ome.tif") -> Path:
    file = project.root / "data" / name
    with tifffile.TiffWriter(file, ome=True) as writer:
        for number in range(3):
            writer.write(DATA[0, 0, 0, number:], photometric="minisblack")
    return file


def test_series_of_a_file_that_cannot_be_read_any_more_are_listed_all(project):
    file = three(project)
    before = import_images(project, config(", series: [0, 2]"))
    file.write_bytes(file.read_bytes()[:50])
    for how in (", series: [0, 2]", ""):
        after = import_images(project, config(how))
        assert [entry.id for entry in after] == [entry.id for entry in before]
        assert {entry.axes for entry in after} == {""}


def test_a_chosen_series_of_a_file_that_never_could_be_read_is_listed(project):
    (project.root / "data" / "a.tif").write_bytes(b"II*\0")
    [entry] = import_images(project, config(", series: [1]"))
    assert (entry.series, entry.axes, entry.gone) == (1, "", "")
    assert import_images(project, config(", series: [1]")) == [entry]


def said(project: Project, more: str) -> list[str]:
    sentences: list[str] = []
    import_images(project, config(more), sentences.append)
    return sentences


def test_what_is_left_over_or_not_there_is_said_with_the_files(project):
    series(project, "a.tif")
    series(project, "b.tif")
    three(project)
    assert said(project, ", times: [0], planes: [0, 1]") == []
    assert said(project, ", times: [0, 4], substacks: {size: 3}, series: [0, 3]") == [
        "a.tif and 1 more: there is no series 3: it has 1, counted from 0",
        "a.tif and 1 more: there is no time point 4: it has 3, counted from 0",
        "a.tif and 1 more: 5 planes in substacks of 3: the last has 2",
        "three.ome.tif: there is no series 3: it has 3, counted from 0",
        "three.ome.tif, series 0: times 0, 4 are asked for, it has one: it is taken whole",
    ]
    again = ", times: [0, 4], substacks: {size: 3}, series: [0, 3]"
    assert said(project, again) == said(project, again) != [], "also where no file is read"


def test_crops_that_do_not_fit_and_files_that_cannot_be_read_are_said(project):
    series(project, "a.tif")
    (project.root / "data" / "b.tif").write_bytes(b"II*\0")
    entries = import_images(project, config(", times: [0]"))
    project.write_images([replace(entries[0], crop="y=0:900"), entries[1]])
    crop, torn = said(project, ", times: [0]")
    assert crop.startswith("i00001-a-t000: crop 'y=0:900': y=0:900 is outside of the image")
    assert torn.startswith("i00002-b: data/b.tif cannot be read: ")
    project.write_images([replace(entries[0], crop="y=0:64"), entries[1]])
    assert said(project, ", times: [0]") == [torn]


def test_choices_made_in_the_file_stay_and_take_effect(project):
    """As in a spreadsheet: cells of index.csv are changed, columns are added."""
    series(project, "a.tif")
    series(project, "b.tif")
    how = config(", times: [0]")
    import_images(project, how)
    rows = read_csv(project.index_file)
    chosen = {
        "crop": "z=0:2 y=3:67 x=0:80", "segment_channel": "1", "projection": "max",
        "group": "mine", "pixel_size_x": "0,25", "unit": "um", "dose": "5",
    }  # fmt: skip
    write_csv(project.index_file, [rows[0] | chosen, rows[1] | {"include": "no"}],
              [*rows[0], "crop", "segment_channel", "projection", "dose"])  # fmt: skip
    for _ in range(3):
        first, second = import_images(project, how)
        kept = {row["id"]: row for row in read_csv(project.index_file)}[first.id]
        assert {name: kept[name] for name in chosen} == chosen | {"pixel_size_x": "0.25"}
        assert (first.include, second.include) == (True, False)
        assert first.spacing == {"Z": 2.0, "Y": 0.5, "X": 0.25}
        os.utime(project.root / "data" / "a.tif", (1, 1))  # then it is opened again
    np.testing.assert_array_equal(
        segmented_array(project, how, first), DATA[0, :2, 1, 3:67, :80].max(axis=0)
    )
    planned = make_plan(how, sample_images([first, second], "all", 0), weights_of(), {})
    assert [(image.id, image.group) for image in planned.images] == [(first.id, "mine")]
