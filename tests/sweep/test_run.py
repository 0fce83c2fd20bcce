"""Sweeps from end to end: what is computed, what is not, and what comes out."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import tifffile

from opsef_bridge.errors import ImageError
from opsef_bridge.files import read_json
from opsef_bridge.images import read_image, read_labels
from opsef_bridge.measure import fill_rois, match
from opsef_bridge.postprocess import clean
from opsef_bridge.project import read_csv
from opsef_bridge.rois import read_rois
from opsef_bridge.sweep import Executor, plan_sweep, segment

WATERSHED = {"classic": {"engine": "watershed", "threshold": ["otsu", 0.8]}}


def test_thresholds_cost_no_pass(bench):
    recipes = {"raw": [], "smooth": [{"median": {}}]}
    one = bench.project(
        name="one", models={"p": {"engine": "probe", "threshold": 0.5}}, preprocess=recipes
    )
    bench.sweep(one)
    assert bench.passes() == 2 * len(recipes)
    many = bench.project(
        name="many",
        models={"p": {"engine": "probe", "threshold": [0.3, 0.4, 0.5, 0.6, 0.7]}},
        preprocess=recipes,
    )
    result = bench.sweep(many, Executor(workers=2))
    assert (result.ok, result.passes) == (20, 4)
    assert bench.passes() == 8


def test_a_threshold_added_later_costs_no_pass(bench):
    project = bench.project()
    bench.sweep(project)
    before = bench.passes()
    bench.configure(project.root, models={"probe": {"engine": "probe", "threshold": [0.4, 0.5]}})
    result = bench.sweep(project)
    assert (result.run, result.ok, result.passes) == ("run-0002", 4, 0)
    assert bench.passes() == before


def test_a_second_run_does_nothing(bench):
    project = bench.project(models=WATERSHED)

    def state():
        files = (p for p in project.root.rglob("*") if p.is_file() and p.name != "index.csv")
        return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in files if "lock" not in p.name}

    first = bench.sweep(project)
    before = state()
    assert bench.sweep(project, Executor()) == first
    assert state() == before
    assert project.runs() == ["run-0001"]


def test_a_changed_configuration_links_what_is_finished(bench):
    project = bench.project(models=WATERSHED)
    bench.sweep(project)
    bench.configure(
        project.root, models=WATERSHED, preprocess={"even": [{"median": {}}], "raw": []}
    )
    result = bench.sweep(project)
    assert result.run == "run-0002"
    old, new = (project.run(name) for name in ("run-0001", "run-0002"))
    for image in project.images():
        # The variants moved: v0001 of the first run is v0003 of the second.
        assert os.path.samefile(
            old.label_file("v0001", image.id), new.label_file("v0003", image.id)
        )
    assert len(new.outcomes()) == 8


def test_prefixes_of_recipes_are_computed_once(bench, monkeypatch):
    from opsef_bridge.sweep import parts

    applied = []

    def apply_recipe(image, steps):
        applied.append(steps[0][0])
        return real(image, steps)

    real = parts.apply_recipe
    monkeypatch.setattr(parts, "apply_recipe", apply_recipe)
    recipes = {
        "short": ["median"],
        "longer": ["median", "invert"],
        "longest": ["median", "invert", "clahe"],
    }
    models = {"classic": {"engine": "watershed", "scale": [0.5, 1.0]}, "probe": {"engine": "probe"}}
    bench.sweep(bench.project(preprocess=recipes, models=models))
    assert sorted(applied) == 2 * ["clahe"] + 2 * ["invert"] + 2 * ["median"]


def test_the_same_labels_come_again_without_cache_and_runs(bench):
    image = bench.examples / "small_fadeb0ab0928.png"
    models = {**WATERSHED, "unet": {"engine": "unet", "threshold": [0.4, 0.6]}}
    project = bench.project({"a.png": image}, models=models)
    bench.sweep(project)
    folder = project.run().root / "labels"
    before = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.tif")}
    shutil.rmtree(project.cache_folder)
    shutil.rmtree(project.runs_folder)
    bench.sweep(project)
    assert {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.tif")} == before
    assert len(before) == 4


def test_labels_from_cached_maps_are_those_decoded_at_once(bench):
    image = bench.examples / "small_fadeb0ab0928.png"
    unet = {"engine": "unet", "scale": 0.5}
    project = bench.project({"a.png": image}, models={"unet": unet | {"threshold": 0.4}})
    bench.sweep(project)
    bench.configure(project.root, models={"unet": unet | {"threshold": [0.4, 0.5, 0.6]}})
    assert bench.sweep(project).passes == 0
    found = bench.labels(project)
    assert len(found) == 3
    array = read_image(image)
    for threshold in (0.4, 0.5, 0.6):
        name, slug = project.images()[0].id, f"raw_unet_scale-0.5_threshold-{threshold}"
        direct = segment(array, "unet", scale=0.5, threshold=threshold)
        np.testing.assert_array_equal(found[name, slug], clean(direct))


def inside(labels: np.ndarray) -> np.ndarray:
    """Objects that do not touch the border, renumbered."""
    return clean(labels, clear_border=True)


def test_a_crop_is_normalised_as_the_whole_image(bench, make_discs):
    image = make_discs(3, (200, 220))
    image[150:170, 5:25] = 255  # far from the crop, and far brighter than the discs
    image[:140, :140] = np.minimum(image[:140, :140], 130)
    image[:120, :120] += (np.indices((120, 120)).sum(0) % 3).astype(np.uint8)
    models = {"probe": {"engine": "probe", "threshold": 0.3}}
    crop = bench.project({"a.tif": image}, name="crop", models=models, sweep={"crop": 96})
    whole = bench.project({"a.tif": image}, name="all", models=models, sweep={"crop": "none"})
    bench.sweep(crop)
    bench.sweep(whole)
    (y, x, height, width) = plan_sweep(crop).images[0].box
    assert image[y : y + height, x : x + width].max() < 255, "the crop shows all there is"
    (cut,), (full,) = (bench.labels(p).values() for p in (crop, whole))
    part = full[y : y + height, x : x + width]
    np.testing.assert_array_equal(cut > 0, part > 0)
    np.testing.assert_array_equal(inside(cut), inside(part))
    assert inside(cut).max() > 3


def test_unet_finds_the_same_on_crop_and_whole_image(bench):
    image = bench.examples / "u2os_F12_s9.tif"
    models = {"unet": {"engine": "unet", "threshold": 0.5}}
    crop = bench.project({"a.tif": image}, name="crop", models=models, sweep={"crop": 256})
    whole = bench.project({"a.tif": image}, name="all", models=models, sweep={"crop": "none"})
    bench.sweep(crop)
    bench.sweep(whole)
    y, x, height, width = plan_sweep(crop).images[0].box
    (cut,), (full,) = (bench.labels(p).values() for p in (crop, whole))
    part = full[y : y + height, x : x + width]
    assert match(inside(part), inside(cut))["f1"].item() > 0.9


def test_rois_of_a_crop_lie_in_the_source(bench, make_discs):
    image = make_discs(4, (150, 180))
    project = bench.project({"a.tif": image}, sweep={"crop": 64})
    bench.sweep(project)
    run, entry = project.run(), project.images()[0]
    y, x, height, width = run.plan()["images"][0]["box"]
    assert (height, width) == (64, 64)
    variant = read_csv(run.variants_file)[0]["id"]
    filled = fill_rois(read_rois(run.rois_file(variant, entry.id)), image.shape)
    labels = project.labels(run.id, variant, entry.id)
    assert labels.shape == (64, 64) and labels.max() > 1
    np.testing.assert_array_equal(filled[y : y + height, x : x + width], labels)
    assert np.count_nonzero(filled) == np.count_nonzero(labels)


@pytest.mark.parametrize("crop", [64, "none"])
def test_binned_recipes_give_labels_in_the_grid_of_the_source(bench, make_discs, crop):
    image = make_discs(5, (151, 183))
    recipes = {"raw": [], "small": [{"bin": {"factor": 2}}, {"bin": {"factor": 2}}]}
    models = {"probe": {"engine": "probe", "threshold": 0.3}}
    project = bench.project(
        {"a.tif": image}, preprocess=recipes, models=models, sweep={"crop": crop}
    )
    assert bench.sweep(project).ok == 2
    small, raw = (bench.labels(project)[project.images()[0].id, s] for s in
                  ("small_probe_threshold-0.3", "raw_probe_threshold-0.3"))  # fmt: skip
    assert small.shape == raw.shape == ((64, 64) if crop == 64 else image.shape)
    assert match(inside(raw), inside(small))["f1"].item() == 1


def test_nothing_of_the_user_lies_in_runs(bench):
    project = bench.project()
    bench.sweep(project)
    table = project.index_file.read_text().splitlines()
    table = [table[0] + ",dose", *(f"{row},{k}" for k, row in enumerate(table[1:]))]
    project.index_file.write_text("\n".join(table) + "\n")
    shutil.rmtree(project.runs_folder)
    shutil.rmtree(project.cache_folder)
    assert bench.sweep(project).ok == 4
    assert [entry.more for entry in project.images()] == [{"dose": "0"}, {"dose": "1"}]


def volume(make_discs) -> np.ndarray:
    """Discs that go through slices 1 to 3 of 5."""
    stack = np.full((5, 72, 96), 10, np.uint8)
    stack[1:4] = make_discs(6)
    return stack


def test_volumes_are_segmented_whole(bench, make_discs):
    project = bench.project({}, models=WATERSHED)
    stack = volume(make_discs)
    tifffile.imwrite(project.root / "data" / "v.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    assert bench.sweep(project).ok == 2
    labels = project.labels(None, "v0001", project.images()[0].id)
    assert labels.shape == stack.shape
    assert not labels[[0, 4]].any()
    np.testing.assert_array_equal(labels[1], labels[3])
    assert labels.max() == len(np.unique(labels[2])) - 1 == 12
    with tifffile.TiffFile(project.run().compare_file(project.images()[0].id)) as file:
        metadata = file.imagej_metadata
    assert (metadata["frames"], metadata["slices"], metadata["channels"]) == (2, 5, 4)
    rois = read_rois(project.run().rois_file("v0001", project.images()[0].id))
    assert len(rois) == 12 * 3  # objects times planes
    np.testing.assert_array_equal(fill_rois(rois, stack.shape), labels)
    assert {roi.position for roi in rois} == {2, 3, 4}


def test_projected_volumes_are_planes(bench, make_discs):
    project = bench.project({}, images={"projection": "max"}, models=WATERSHED)
    tifffile.imwrite(
        project.root / "data" / "v.tif", volume(make_discs), imagej=True, metadata={"axes": "ZYX"}
    )
    assert bench.sweep(project).ok == 2
    assert project.labels(None, "v0001", project.images()[0].id).shape == (72, 96)


def test_an_engine_of_planes_refuses_a_volume(bench, make_discs):
    project = bench.project({"b.tif": make_discs(1)}, models={"unet": {"engine": "unet"}})
    tifffile.imwrite(
        project.root / "data" / "v.tif", volume(make_discs), imagej=True, metadata={"axes": "ZYX"}
    )
    result = bench.sweep(project)
    assert (result.ok, result.failed, result.exit_code) == (1, 1, 1)
    outcome = bench.outcomes(project)["i00002", "v0001"]
    assert outcome["code"] == "bad-input"
    assert "(5, 72, 96)" in outcome["message"] and "projection" in outcome["hint"]


def test_the_channel_is_chosen(bench, make_discs):
    data = np.stack([make_discs(7, radius=5), make_discs(8, radius=12)])
    found = {}
    for channel in (0, 1):
        project = bench.project(
            {}, name=f"c{channel}", images={"segment": {"channel": channel}}, models=WATERSHED
        )
        tifffile.imwrite(
            project.root / "data" / "c.tif", data, imagej=True, metadata={"axes": "CYX"}
        )
        found[channel] = bench.sweep(project), bench.outcomes(project)["i00001", "v0001"]
    assert found[0][1]["diameter"] == pytest.approx(10, rel=0.15)
    assert found[1][1]["diameter"] == pytest.approx(24, rel=0.15)


def test_an_image_that_lacks_the_channel_fails_alone(bench, make_discs):
    project = bench.project({}, images={"segment": {"channel": 1}}, models=WATERSHED)
    one = make_discs(7, radius=5)
    options = {"imagej": True, "metadata": {"axes": "CYX"}}
    tifffile.imwrite(project.root / "data" / "b.tif", np.stack([one, one]), **options)
    tifffile.imwrite(project.root / "data" / "c.tif", one)
    result, outcome = bench.sweep(project), bench.outcomes(project)["i00002", "v0001"]
    assert (result.ok, result.failed, result.exit_code) == (2, 2, 1)
    assert outcome["code"] == ImageError.code and "channel 1" in outcome["message"]


def test_the_record_says_how_the_labels_came_about(bench):
    project = bench.project(models={"unet": {"engine": "unet"}})
    bench.sweep(project)
    record = read_json(project.run().record_file)
    assert record["device"] in ({"unet": ["cpu"]}, {"unet": ["cuda"]})
    assert [len(sha) for sha in record["weights"].values()] == [64]
    assert record["config"]["models"] == {"unet": {"engine": "unet"}}
    assert record["result"]["passes"] == 2
    assert {"numpy", "onnxruntime"} <= set(record["versions"])


OFFLINE = """
import os, socket
with open(os.environ["OFFLINE_LOG"], "a") as log:
    log.write(f"{os.getpid()}\\n")
def refuse(self, address, *rest):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise RuntimeError(f"the network was asked for {address}")
    return real(self, address, *rest)
real = socket.socket.connect
socket.socket.connect = socket.socket.connect_ex = refuse
"""


def test_a_sweep_needs_no_network(bench, monkeypatch):
    """Sockets are blocked in the command and in its workers."""
    site = bench.folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(OFFLINE)
    log = bench.folder / "offline.txt"
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ['PYTHONPATH']}")
    monkeypatch.setenv("OFFLINE_LOG", str(log))
    project = bench.project(models={**WATERSHED, "unet": {"engine": "unet"}})
    code, out, err = bench.opsef(project, "sweep", "run", "--workers", "1")
    assert code == 0, err
    assert "6 ok" in out
    assert len(set(log.read_text().split())) >= 3, "not all processes were offline"


def test_label_files_say_where_they_come_from(bench, make_discs):
    project = bench.project({}, sweep={"crop": 64})
    tifffile.imwrite(
        project.root / "data" / "a.tif", make_discs(9), imagej=True,
        resolution=(4.0, 4.0), metadata={"axes": "YX", "unit": "um"},
    )  # fmt: skip
    bench.sweep(project)
    file = project.run().label_file("v0001", project.images()[0].id)
    with tifffile.TiffFile(file) as tiff:
        metadata = tiff.imagej_metadata
    assert metadata["unit"] == "um"
    assert "box: y" in metadata["Info"] and "variant: raw_probe" in metadata["Info"]
    assert read_image(file).spacing == {"Y": 0.25, "X": 0.25}
    assert read_labels(file).dtype == np.int32
