"""Pixel size, channel names and time step: from a file into everything that is made of it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from typer import Exit

from opsef_bridge import cli
from opsef_bridge.cli.common import Context
from opsef_bridge.exchange.annotatorj import export_annotatorj
from opsef_bridge.exchange.files import export_objects, import_path
from opsef_bridge.exchange.saving import How
from opsef_bridge.files import read_json
from opsef_bridge.images import image_info, read_image, write_hyperstack
from opsef_bridge.images.large_labels import write_large_labels
from opsef_bridge.images.ome_zarr_write import write_zarr
from opsef_bridge.project import Project, read_csv
from opsef_bridge.service.kinds import table_of
from opsef_bridge.sweep import adopt, plan_batch, plan_sweep, run_plan
from tests.small_projects import Here, discs

NAMES = ["DAPI", "Alexa 488", "\N{MICRO SIGN}Tub"]
SIZES = {"Z": 2.0, "Y": 0.5, "X": 0.25}
TOLD = {"channels": NAMES, "time_step": 30.0}
CONFIG = """\
opsef: 1
images:
  source: [data]
  times: [1, 2]
  projection: PROJECTION
  segment: {channel: 1}
  measure: {channels: all}
sweep: {crop: none}
models: {m: {engine: watershed}}
"""
FLAT, VOLUME = "max", "none"


def live(file: Path, planes: int = 2, shape: tuple[int, int] = (72, 80)) -> None:
    """Write three time points of discs in three channels, with all that a microscope tells."""
    plane = discs(3, shape, first=(12, 12))
    data = np.stack([np.stack([plane // (c + 1) for c in range(3)])] * planes)
    write_hyperstack(
        file, np.stack([data] * 3), "TZCYX", spacing=SIZES, unit="um", time_step=30.0,
        channels=NAMES,
    )  # fmt: skip
    with tifffile.TiffFile(file) as tiff:
        assert (tiff.imagej_metadata or {})["finterval"] == 30


@pytest.fixture(scope="module", params=[FLAT, VOLUME], ids=["plane", "volume"])
def made_once(request, tmp_path_factory) -> Path:
    """A project that was swept, and whose first variant went over all images."""
    folder = tmp_path_factory.mktemp("calibrated") / "project"
    (folder / "data").mkdir(parents=True)
    live(folder / "data" / "live.tif")
    (folder / "opsef.yaml").write_text(CONFIG.replace("PROJECTION", request.param), "utf-8")
    project = Project(folder)
    assert run_plan(project, plan_sweep(project), Here()).ok == 2
    adopt(project, "v0001")
    assert run_plan(project, plan_batch(project), Here()).ok == 2
    return folder


@pytest.fixture
def made(made_once, tmp_path) -> Project:
    return Project(shutil.copytree(made_once, tmp_path / "project"))


def is_volume(project: Project) -> bool:
    return project.config.images.projection == VOLUME


def told_by(file: Path) -> tuple[dict[str, float], str]:
    """Return pixel size and Info text of a TIFF as ImageJ finds them in its tags."""
    with tifffile.TiffFile(file) as tiff:
        metadata = tiff.imagej_metadata or {}
        tags = tiff.pages[0].tags
        sizes = {a: tags[f"{a}Resolution"].value[::-1] for a in "YX"}
        found = {axis: length / count for axis, (length, count) in sizes.items()}
        assert metadata.get("unit") == "um", file
        if metadata.get("slices", 1) > 1:
            found["Z"] = metadata["spacing"]
        return found, metadata.get("Info", "")


def check_tiff(project: Project, file: Path, part: str = "t=1", *, words: bool = True) -> None:
    sizes, text = told_by(file)
    expected = SIZES if is_volume(project) else {axis: SIZES[axis] for axis in "YX"}
    assert sizes == pytest.approx(expected), file
    if words:
        assert f"part: {part}\n" in text, file
        assert f"channels of the file: {', '.join(NAMES)}" in text
        assert "time step: 30 s" in text


def check_json(record: dict[str, Any]) -> None:
    assert record["calibration"] == {
        "pixel_size": SIZES, "unit": "um", "part": "t=1", **TOLD
    }  # fmt: skip


def first(project: Project) -> str:
    return project.images()[0].id


def test_the_index_and_the_files_of_a_run(made):
    row = read_csv(made.index_file)[0]
    assert row["channels"] == "|".join(NAMES) and float(row["time_step"]) == 30
    assert [float(row[f"pixel_size_{axis}"]) for axis in "zyx"] == [2, 0.5, 0.25]
    image = first(made)
    sweep, batch = (made.run(run) for run in made.runs())
    for run in (sweep, batch):
        check_tiff(made, run.label_file("v0001", image))
        check_json(read_json(run.rois_file("v0001", image).with_suffix(".json")))
    check_tiff(made, sweep.compare_file(image))
    with tifffile.TiffFile(sweep.compare_file(image)) as tiff:
        assert "finterval" not in tiff.imagej_metadata, "its frames are variants, no time points"
    page = sweep.report_file.read_text("utf-8")
    assert "pixel Z x Y x X: 2 x 0.5 x 0.25 um" in page and "time step 30 s" in page
    assert f"channels of the file {', '.join(NAMES)}" in page


def test_all_images_in_one_stack(made):
    batch = made.run()
    check_tiff(made, batch.batch_file, words=False)
    _, text = told_by(batch.batch_file)
    row = next(line for line in text.splitlines() if first(made) in line)
    assert f"part t=1; channels of the file {', '.join(NAMES)}; time step 30 s" in row


def test_objects_for_other_programs(made):
    for kind in ("imagej", "labels", "geojson"):
        [file, _] = export_objects(made, ["v0001"], format=kind, to=made.root / kind)
        beside = file.with_suffix(".json") if kind == "imagej" else Path(f"{file}.json")
        check_json(read_json(beside))
        if kind == "labels":
            check_tiff(made, file)
        if kind == "geojson":
            check_json(json.loads(file.read_text("utf-8")))
    [file, _] = export_objects(made, ["v0001"], format="labels", blind=True)
    assert "v0001" not in told_by(file)[1], "the text does not give away what is hidden"
    record = read_json(Path(f"{file}.json"))
    check_json(record)
    assert "variant" not in record


@pytest.mark.parametrize("layout", ["opsef", "zips"])
def test_for_annotatorj(made, layout):
    exported = export_annotatorj(made, "round1", ["v0001"], layout=layout)
    items = read_json(exported.folder / "opsef.json")["items"]
    check_json(items[min(items)]["record"])
    if layout == "zips":
        sizes, _ = told_by(min(exported.folder.glob("*.tif")))
        assert sizes == pytest.approx({"Y": 0.5, "X": 0.25})


def test_truth(made):
    [file, _] = export_objects(made, ["v0001"], format="labels")
    [saved] = import_path(made, file, How("ada", truth="whole"))
    assert saved.error is None
    truth = made.truth_file(first(made))
    for picture in (truth.with_suffix(".tif"), truth.with_suffix(".known.tif")):
        check_tiff(made, picture)


def test_the_table(made):
    table, _ = table_of(made, first(made))
    ndim = 3 if is_volume(made) else 2
    for axis in "zyx"[-ndim:]:
        assert set(table[f"pixel_size_{axis}"]) == {SIZES[axis.upper()]}
    assert set(table["unit"]) == {"um"} and set(table["time"]) == {30.0}
    labels = made.labels(None, "v0001", first(made))
    pixel = np.prod([SIZES[axis] for axis in "ZYX"[-ndim:]])
    assert table["area"].tolist() == pytest.approx(np.bincount(labels.ravel())[1:] * pixel)
    dapi, alexa, _ = (
        table[f"intensity_mean_{name}"] for name in ("DAPI", "Alexa_488", "\u03bcTub")
    )
    np.testing.assert_allclose(dapi, 2 * alexa, rtol=0.01)
    np.testing.assert_allclose(alexa, table["mean_intensity"])


def test_what_the_service_sends(made, tmp_path):
    pytest.importorskip("fastapi", reason="the extra `service` is not installed")
    from fastapi.testclient import TestClient

    from opsef_bridge.service.app import create_app
    from opsef_bridge.service.jobs import Jobs
    from opsef_bridge.service.people import invite

    head = {"Authorization": f"Bearer {invite(tmp_path, 'ada')[1]}"}
    app = create_app(tmp_path, jobs=Jobs(tmp_path, at_most=0), pump=False)
    file = tmp_path / "sent.tif"
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        row = client.get("/v1/projects/project/images", headers=head).json()["images"][0]
        expected = {"pixel_size": SIZES, "unit": "um", "series": 0, "part": "t=1", **TOLD}
        assert {name: row[name] for name in expected} == expected
        address = f"/v1/projects/project/images/{first(made)}/data"
        file.write_bytes(client.get(address, headers=head).content)
        check_tiff(made, file)
        text = made.index_file.read_text("utf-8")
        made.index_file.write_text(text.replace(",0.25,", ",0.125,"), "utf-8")
        file.write_bytes(client.get(address, headers=head).content)
        assert told_by(file)[0]["X"] == pytest.approx(0.125), "a corrected size is sent at once"


def test_separate_tiles_that_are_stitched(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    live(tmp_path / "data" / "live.tif", planes=1, shape=(72, 120))
    text = CONFIG.replace("[1, 2]", "[1]").replace("PROJECTION", FLAT)
    tiles = "images:\n  tiles: {size: 72, overlap: 24, separate: true}"
    (tmp_path / "opsef.yaml").write_text(text.replace("images:", tiles, 1), "utf-8")
    project = Project(tmp_path)
    assert run_plan(project, plan_sweep(project), Here()).ok == 2
    to = tmp_path / "whole.tif"
    words = ["-p", tmp_path, "images", "stitch", "data/live.tif", "v0001", "--to", to]
    monkeypatch.setattr(sys, "argv", ["opsef", *map(str, words)])
    monkeypatch.setattr(Context, "folder", Path("."))
    with pytest.raises((SystemExit, Exit)) as ended:
        cli.main()
    assert not ended.value.code
    check_tiff(project, to)
    assert "image: data/live.tif\npart: t=1\nchannels" in told_by(to)[1]
    table, _ = table_of(project, project.images()[1].id, run="run-0001", variant="v0001")
    assert set(table["x_from"]) == {48} and set(table["time_point"]) == {1}


def test_labels_too_large_for_imagej(tmp_path):
    labels = np.ones((2, 20, 30), np.int32)
    info = "part: t=1\ntime step: 30 s"
    file = tmp_path / "large.tif"
    write_large_labels(
        file, lambda part: labels[part], labels.shape, 1, spacing=SIZES, info=info, largest=1
    )
    assert image_info(file).spacing == SIZES
    with tifffile.TiffFile(file) as tiff:
        assert tiff.is_ome and "time step: 30 s" in tiff.ome_metadata


def test_labels_as_ome_zarr(tmp_path):
    pytest.importorskip("zarr", reason="the extra `zarr` is not installed")
    file = tmp_path / "labels.zarr"
    write_zarr(file, np.ones((3, 2, 20, 30), np.int32), "TZYX", SIZES, time_step=30.0)
    info = image_info(file)
    assert (info.spacing, info.unit, info.time_step) == (SIZES, "um", 30)


def test_pixels_and_meaning_of_the_source_come_in(tmp_path):
    """What all others here rely on."""
    live(tmp_path / "a.tif")
    found = read_image(tmp_path / "a.tif")
    assert (found.axes, found.spacing, found.unit) == ("TZCYX", SIZES, "um")
    assert found.channels == tuple(NAMES) and found.time_step == 30
