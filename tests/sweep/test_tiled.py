"""Images larger than a tile: planned in tiles, segmented in tiles, merged to the same labels."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from skimage.measure import label

from opsef_bridge.config import Config, parse_config
from opsef_bridge.engines import Weights
from opsef_bridge.errors import ConfigError, NotFoundError
from opsef_bridge.execute import run_local, run_unit
from opsef_bridge.execute.jobs import group_units
from opsef_bridge.execute.snakefile import snakefile
from opsef_bridge.files import read_json
from opsef_bridge.images import read_labels
from opsef_bridge.images.tiles import tile_boxes
from opsef_bridge.measure import match
from opsef_bridge.project import ImageEntry
from opsef_bridge.sweep import adopt, plan_batch, plan_sweep, resume_run, run_plan
from opsef_bridge.sweep.plan import make_batch_plan, make_plan
from opsef_bridge.sweep.planned import Plan
from opsef_bridge.sweep.run import TARGET
from opsef_bridge.sweep.stitched import stitch_parent

TILES = {"tiles": {"size": 96, "overlap": 28}}
CLASSIC = {"classic": {"engine": "watershed", "threshold": ["otsu", 0.8]}}
WHOLE = {"crop": "none"}

TEXT = """\
opsef: 1
images: {source: data, tiles: {size: 1000, overlap: 100}}
preprocess: {raw: [], smooth: [{median: {radius: 1}}]}
models: {classic: {engine: watershed, scale: [0.5, 1.0]}, probe: {engine: unet}}
sweep: {crop: none}
"""
WEIGHTS = {"classic": Weights("", "watershed"), "probe": Weights("nuclei", "unet", sha256="aa")}
SMALL = ImageEntry("i00001-small", "s.tif", sha256="1", axes="YX", shape=(1000, 900))
LARGE = ImageEntry("i00002-large", "l.tif", sha256="2", axes="ZCYX", shape=(5, 2, 3000, 8000))


def planned(text: str = TEXT, images=(SMALL, LARGE), **boxes) -> Plan:
    return make_plan(parse_config(text), images, WEIGHTS, boxes)


def test_a_large_image_is_planned_in_ranges_of_tiles_and_merged():
    plan = planned()
    assert [image.tiles for image in plan.images] == [None, (1000, 100, 3000, 8000)]
    boxes = plan.images[1].tile_boxes()
    kinds = [(unit.kind, unit.turn) for unit in plan.units]
    sample, merges = plan.units[0], [unit for unit in plan.units if unit.kind == "merge"]
    assert kinds[0] == ("sample", "sample") and len(boxes) == 4 * 9
    for merge, model in zip(merges, ("probe", "classic"), strict=True):
        tiles = [plan_unit for plan_unit in plan.units if plan_unit.id in merge.needs]
        assert {unit.kind for unit in tiles} == {"tiles"}
        assert {unit.inputs["model"] for unit in tiles} == {model}
        assert all(unit.needs == (sample.id,) for unit in tiles)
        ranges = [unit.inputs["tiles"] for unit in tiles]
        assert [start for start, _ in ranges] == [0, *(stop for _, stop in ranges[:-1])]
        assert ranges[-1][1] == len(boxes)
        assert sum(len(unit.makes) for unit in tiles) == len(boxes) * len(merge.makes)
    rank = next(unit for unit in plan.units if unit.kind == "rank")
    assert {unit.id for unit in merges} <= set(rank.needs)
    # An engine is one turn, whatever its units do.
    assert [turn for i, (_, turn) in enumerate(kinds) if not i or kinds[i - 1][1] != turn] == [
        "sample", "unet", "watershed", "merge", "rank", "compare", "report",
    ]  # fmt: skip
    keys = [key for unit in plan.units for _, _, key in unit.makes]
    assert len(keys) == len(set(keys))
    assert plan.passes() == 6 * (1 + len(boxes))
    assert Plan.from_json(plan.to_json()) == plan


def test_the_snakefile_merges_after_the_tiles():
    plan = planned()
    jobs = group_units(plan.units, slots=len(plan.units), seconds=lambda unit: 1e6)
    of = {unit: job for job in jobs for unit in job.units}
    assert set(of) == {unit.id for unit in plan.units}
    for unit in plan.units:
        assert {of[need].name for need in unit.needs} <= set(of[unit.id].needs)
    merges = [unit for unit in plan.units if unit.kind == "merge"]
    assert merges and all(len(of[unit.id].needs) >= len(unit.needs) > 1 for unit in merges)
    text = snakefile("/p", "run-0001", jobs)
    assert all(repr(job.name) in text for job in jobs)


def label_keys(text: str, image: ImageEntry) -> set[str]:
    plan = planned(text, [image])
    return {variant.label_key(i) for i in plan.images for variant in plan.variants}


def test_keys_hold_the_tiles_only_of_images_that_are_cut():
    untiled = TEXT.replace(", tiles: {size: 1000, overlap: 100}", "")
    other = TEXT.replace("overlap: 100", "overlap: 120")
    assert label_keys(TEXT, SMALL) == label_keys(untiled, SMALL) == label_keys(other, SMALL)
    three = [label_keys(text, LARGE) for text in (TEXT, untiled, other)]
    assert len(set.union(*three)) == sum(map(len, three))


def test_tiles_that_are_images_are_not_merged():
    text = TEXT.replace("overlap: 100", "overlap: 100, separate: true")
    assert {unit.kind for unit in planned(text).units} == {"predict", "rank", "compare", "report"}


def test_a_box_of_a_large_image_is_no_tile():
    plan = planned(**{LARGE.id: (0, 0, 512, 512)})
    assert plan.images[1].tiles and not plan.images[1].tile_boxes()
    assert {unit.kind for unit in plan.units} == {"sample", "predict", "rank", "compare", "report"}
    needs = {need for unit in plan.units if unit.kind == "predict" for need in unit.needs}
    assert needs == {plan.units[0].id}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{median: {radius: 1}}", "denoise", "denoise looks at the whole image"),
        ("{median: {radius: 1}}", "median, clahe: {volume: true}", "clahe"),
        ("sweep:", "postprocess: {open: 2}\nsweep:", "postprocess.open"),
        ("sweep:", "postprocess: {keep: [{centroid_x: [5, null]}]}\nsweep:", "centroid_x"),
    ],
)
def test_what_tiles_cannot_do_is_refused_before_a_tile_is_read(old, new, message):
    text = TEXT.replace(old, new)
    with pytest.raises(ConfigError, match=message):
        planned(text)
    planned(text, [SMALL])
    adopted = {"default": planned(text, [SMALL]).variants[-1]}
    with pytest.raises(ConfigError, match=message):
        make_batch_plan(parse_config(text), [SMALL, LARGE], adopted)


def test_an_image_too_large_to_be_ranked_whole_needs_a_crop():
    huge = ImageEntry("i00003-huge", "h.tif", sha256="3", axes="YX", shape=(9000, 9000))
    with pytest.raises(ConfigError, match=r"9000 x 9000.*crop"):
        planned(images=[huge])
    planned(images=[huge], **{huge.id: (0, 0, 512, 512)})
    adopted = {"default": planned(images=[SMALL]).variants[0]}
    assert len(make_batch_plan(parse_config(TEXT), [huge], adopted).images) == 1


def same_objects(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal up to renumbering."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


def swept(bench, files, *, tiled: bool, **sections):
    """Sweep files whole or in tiles; return the project."""
    name = "tiled" if tiled else "whole"
    images = {**sections.pop("images", {}), **(TILES if tiled else {})}
    project = bench.project(files, name=name, images=images, sweep=WHOLE, **sections)
    result = bench.sweep(project)
    assert result.exit_code == 0, list(project.run().outcomes())
    return project


def assert_same(bench, files, **sections) -> None:
    """Sweep whole and in tiles, and compare all that came out."""
    whole, tiled = (swept(bench, files, tiled=t, **sections) for t in (False, True))
    expected, found = bench.labels(whole), bench.labels(tiled)
    assert found.keys() == expected.keys() and expected
    for key, labels in expected.items():
        assert found[key].shape == labels.shape
        assert same_objects(found[key], labels), key
    kept = ("status", "objects", "diameter")
    before, after = (
        {key: [outcome[name] for name in kept] for key, outcome in bench.outcomes(one).items()}
        for one in (whole, tiled)
    )
    assert after == before
    assert {unit.kind for unit in Plan.from_json(tiled.run().plan()).units} >= {"tiles", "merge"}
    assert not list((tiled.run().root / "tiles").glob("*/*/*"))


def test_tiles_give_the_labels_of_the_whole(bench, make_discs):
    recipes = {"raw": [], "smooth": ["median", "invert", "invert"], "binned": [{"bin": {}}]}
    assert_same(bench, {"a.tif": make_discs(3, (200, 150))}, models=CLASSIC, preprocess=recipes)


def test_touching_objects_at_a_seam_are_parted_as_in_the_whole(bench):
    # Pairs of discs in any direction, which the engine parts at the neck between them.
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:230, :200]
    image = np.full(y.shape, 10, np.uint8)
    for top in range(18, 230 - 18, 37):
        for left in range(18, 200 - 18, 37):
            angle = rng.uniform(0, np.pi)
            down, right = 7.5 * np.sin(angle), 7.5 * np.cos(angle)
            for side in (-1, 1):
                image[np.hypot(y - top - side * down, x - left - side * right) < 9] = 200
    both = (
        bench.labels(swept(bench, {"a.tif": image}, tiled=tiled, models=CLASSIC))
        for tiled in (False, True)
    )
    expected, found = both
    for key, labels in expected.items():
        assert labels.max() == found[key].max() == 60
        # Pixels right between two discs go to the one or the other.
        assert match(labels, found[key], [0.9]).f1.tolist() == [1.0]


def test_the_labels_are_cleaned_as_a_whole(bench, make_discs):
    image = make_discs(4, (150, 230))
    image[30:34, 40:44] = 10  # a hole
    keep = [{"area": [200, 260]}, {"solidity": [0.9, None]}]
    post = {"fill_holes": True, "clear_border": True, "keep": keep}
    assert_same(bench, {"a.tif": image}, postprocess=post, images={"segment": {"channel": 0}})


def test_volumes(bench):
    rng = np.random.default_rng(0)
    volume = np.kron(rng.random((2, 18, 30)) < 0.4, np.ones((2, 7, 7)))
    volume = (volume * 200).astype(np.uint8)
    file = bench.folder / "v.tif"
    tifffile.imwrite(file, volume, imagej=True, metadata={"axes": "ZYX"})
    assert_same(bench, {"v.tif": file})


def test_colour_for_an_engine_that_takes_it(bench, make_discs):
    discs = make_discs(5, (120, 150))
    colour = np.stack([discs, discs // 2, 255 - discs], axis=-1)
    models = {"probe": {"engine": "probe", "colour": True}}
    assert_same(bench, {"a.tif": colour}, models=models)


def test_without_overlap_objects_are_joined_across_the_seams(bench, make_discs, monkeypatch):
    image = {"a.tif": make_discs(6, (200, 200))}
    monkeypatch.setitem(TILES, "tiles", {"size": 80, "overlap": 0})
    assert_same(bench, image)


def test_a_crop_of_a_large_image_is_read_by_itself(bench, make_discs):
    image = make_discs(7, (300, 260))
    image[150:, 130:] = np.where(image[150:, 130:] > 10, 255, 0)
    boxes = {}
    for name, images in (("whole", {}), ("tiled", TILES)):
        project = bench.project({"a.tif": image}, name=name, images=images, sweep={"crop": 64})
        assert bench.sweep(project).exit_code == 0
        boxes[name] = (Plan.from_json(project.run().plan()).images[0].box, bench.labels(project))
        assert len(list((project.run().root / "compare").glob("*.tif"))) == 1
    assert boxes["whole"][0] == boxes["tiled"][0] is not None
    for key, labels in boxes["whole"][1].items():
        assert np.array_equal(labels, boxes["tiled"][1][key])


def test_an_adopted_variant_on_a_large_image(bench, make_discs):
    files = {"a.tif": make_discs(8, (250, 190)), "b.tif": make_discs(9, (90, 90))}
    project = bench.project(files, images=TILES, sweep={"crop": 64}, models=CLASSIC)
    bench.sweep(project)
    adopt(project, "v0001")
    result = run_plan(project, plan_batch(project), bench.here)
    assert (result.ok, result.failed, result.open) == (2, 0, 0)
    units = Plan.from_json(project.run().plan()).units
    assert [unit.kind for unit in units] == ["sample", "predict", "tiles", "merge", "batch"]
    # The small one was finished by no sweep: that had a crop of it.
    labels = project.labels(None, "v0001", "i00001-a")
    assert labels.shape == (250, 190) and labels.max() == result_objects(project, "i00001-a")
    assert project.run().batch_file.is_file()


def result_objects(project, image: str) -> int:
    return next(o["objects"] for o in project.run().outcomes() if o["image"] == image)


def test_large_images_are_no_frame_of_the_batch_stack(bench, make_discs, monkeypatch):
    from opsef_bridge.sweep import batch

    monkeypatch.setattr(batch, "LARGEST", 200 * 200)
    files = {"a.tif": make_discs(8, (250, 190)), "b.tif": make_discs(9, (90, 90))}
    project = bench.project(files, images=TILES, sweep={"crop": 64}, models=CLASSIC)
    bench.sweep(project)
    adopt(project, "v0001")
    run_plan(project, plan_batch(project), bench.here)
    assert tifffile.imread(project.run().batch_file).shape[-2:] == (90, 90)
    rois = [file.name for file in (project.run().root / "rois").rglob("*.zip")]
    assert rois == ["i00002-b_ROIs.zip"]


def test_a_further_threshold_leaves_what_was_merged(bench, make_discs):
    image = {"a.tif": make_discs(1, (200, 150))}
    project = swept(bench, image, tiled=True)
    before, passes = bench.labels(project), bench.passes()
    models = {"probe": {"engine": "probe", "threshold": [0.4, 0.5, 0.6]}}
    bench.configure(project.root, models=models, images=TILES, sweep=WHOLE)
    result = bench.sweep(project)
    assert (result.ok, result.exit_code, project.run().id) == (3, 0, "run-0002")
    after = bench.labels(project)
    assert all(np.array_equal(after[key], labels) for key, labels in before.items())
    # One more pass a tile: maps of tiles are not kept. None for the two that were there.
    tiles = len(Plan.from_json(project.run().plan()).images[0].tile_boxes())
    assert bench.passes() == passes + tiles
    assert bench.sweep(project).passes == result.passes


def with_deadly_pixel(make_discs) -> np.ndarray:
    image = make_discs(2, (200, 300))
    image[150, 280] = 251
    return image


def test_a_worker_that_dies_on_a_tile_costs_the_image(bench, make_discs):
    files = {"a.tif": with_deadly_pixel(make_discs), "b.tif": make_discs(3, (150, 150))}
    calm = swept(bench, files, tiled=True)
    project = bench.project(files, name="hard", images=TILES, sweep=WHOLE)
    bench.deadly.touch()

    class Dying(type(bench.here)):
        def run(self, project, run, plan):
            for unit in plan.units:
                if unit.kind == "tiles" and unit.makes[0][0] == "i00001-a":
                    assert not run_local(TARGET, str(project.root), run, [unit], workers=1)
                else:
                    run_unit(str(project.root), run.id, unit.id)
            return {}

    result = bench.sweep(project, Dying())
    assert (result.ok, result.failed, result.open, result.problems) == (2, 2, 0, {})
    failed = [o for o in project.run().outcomes() if o["status"] == "failed"]
    assert {o["image"] for o in failed} == {"i00001-a"}
    assert all("tiles failed" in o["message"] for o in failed)
    before = bench.passes()
    bench.deadly.unlink()
    assert resume_run(project, project.run(), bench.here).exit_code == 0
    assert bench.passes() > before
    whole, again = bench.labels(calm), bench.labels(project)
    assert all(np.array_equal(again[key], labels) for key, labels in whole.items())


def test_a_unit_that_is_stopped_goes_on_with_the_next_tile(bench, make_discs):
    image = {"a.tif": make_discs(4, (300, 300))}
    calm = swept(bench, image, tiled=True)
    project = bench.project(image, name="stopped", images=TILES, sweep=WHOLE)
    before = bench.passes()

    class Stopped(Exception):
        pass

    class Stopping(type(bench.here)):
        def run(self, project, run, plan):
            for unit in plan.units:

                def progress(message, done, of, unit=unit):
                    if unit.kind == "tiles" and done >= 8:
                        raise Stopped

                run_unit(str(project.root), run.id, unit.id, progress)
            return {}

    with pytest.raises(Stopped):
        run_plan(project, plan_sweep(project), Stopping())
    done = bench.passes() - before
    [record] = [
        value for file in (project.run().root / "units").glob("u*.json")
        if (value := read_json(file))["kind"] == "tiles"
    ]  # fmt: skip
    assert 0 < len(record["outcomes"]) == 2 * done < 50
    assert resume_run(project, project.run(), bench.here).exit_code == 0
    tiles = len(Plan.from_json(project.run().plan()).images[0].tile_boxes())
    assert bench.passes() - before == tiles
    for key, labels in bench.labels(calm).items():
        assert np.array_equal(bench.labels(project)[key], labels)


def test_a_tile_that_cannot_be_read_fails_its_image_in_words(bench, make_discs):
    project = bench.project({"b.tif": make_discs(1)}, images=TILES, sweep=WHOLE)
    file = project.root / "data" / "a.tif"
    image = make_discs(2, (256, 320))
    tifffile.imwrite(file, image, tile=(64, 64), compression="zlib")
    with tifffile.TiffFile(file) as tiff:
        offset, length = tiff.pages[0].dataoffsets[13], tiff.pages[0].databytecounts[13]
    good = file.read_bytes()
    data = bytearray(good)
    data[offset : offset + length] = b"\xff" * length
    file.write_bytes(data)
    result = bench.sweep(project)
    assert (result.ok, result.failed, result.open) == (2, 2, 0)
    for outcome in project.run().outcomes():
        if outcome["status"] == "failed":
            assert outcome["image"].endswith("-a") and outcome["code"] == "bad-image"
            assert "tiles failed" in outcome["message"] and "a.tif" in outcome["message"]
    file.write_bytes(good)
    assert bench.sweep(project).exit_code == 0


def test_a_file_that_changed_since_fails_before_a_tile_is_read(bench, make_discs):
    project = bench.project({"a.tif": make_discs(1, (200, 150))}, images=TILES, sweep=WHOLE)
    plan = plan_sweep(project)
    tifffile.imwrite(project.root / "data" / "a.tif", make_discs(2, (200, 150)))
    result = run_plan(project, plan, bench.here)
    assert (result.ok, result.failed) == (0, 2) and bench.passes() == 0
    assert all("changed" in outcome["message"] for outcome in project.run().outcomes())


def test_lost_tiles_are_told(bench, make_discs):
    project = bench.project({"a.tif": make_discs(1, (200, 150))}, images=TILES, sweep=WHOLE)

    class Losing(type(bench.here)):
        def run(self, project, run, plan):
            for unit in plan.units:
                if unit.kind == "merge":
                    next(run.root.glob("tiles/v0001/*/*.tif")).unlink()
                run_unit(str(project.root), run.id, unit.id)
            return {}

    result = run_plan(project, plan_sweep(project), Losing())
    assert (result.ok, result.failed) == (1, 1)
    [failed] = [o for o in project.run().outcomes() if o["status"] == "failed"]
    assert failed["variant"] == "v0001" and ".tif is not a file" in failed["message"]


@pytest.mark.parametrize("overlap", [0, 20])
def test_tiles_that_are_images_can_be_stitched_back(bench, make_discs, overlap):
    image = make_discs(2, (150, 230))
    tiles = {"size": 64, "overlap": overlap, "separate": True}
    project = bench.project(
        {"a.tif": image}, images={"tiles": tiles}, sweep=WHOLE | {"images": "all"}
    )
    assert bench.sweep(project).exit_code == 0
    entries = project.images()
    assert len(entries) == len(tile_boxes(image.shape, 64, overlap, shift=False)) > 9
    [parent] = {entry.parent for entry in entries}
    # Each tile is normalised by itself, but any threshold parts these discs from the ground.
    found = stitch_parent(project, None, "v0001", parent)
    assert found.shape == image.shape
    assert same_objects(found, label(image > 10, connectivity=1))
    file = project.root / "whole.tif"
    code, out, _ = bench.opsef(project, "images", "stitch", parent, "v0001", "--to", str(file))
    assert code == 0 and f"{found.max()} objects" in out
    np.testing.assert_array_equal(read_labels(file), found)
    with pytest.raises(NotFoundError, match=r"'b\.tif'"):
        stitch_parent(project, None, "v0001", "b.tif")


def test_the_configuration_of_a_plan_can_be_read_again():
    config = parse_config(TEXT)
    assert Config(**config.model_dump(mode="json")) == config
