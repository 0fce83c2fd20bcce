"""From the ranking to all images: adopt, batch."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from opsef_bridge.errors import NotFoundError
from opsef_bridge.images import read_image
from opsef_bridge.measure import fill_rois
from opsef_bridge.project import read_csv
from opsef_bridge.rois import read_rois
from opsef_bridge.sweep import adopt, plan_batch, run_plan

GROUPS = {"small": "s*", "large": "l*"}


@pytest.fixture
def swept(bench, make_discs):
    """Two groups of three images, of which two each were swept on a crop."""
    images = {f"s{k}.tif": make_discs(k, (90, 100), 7) for k in range(3)}
    images |= {f"l{k}.tif": make_discs(k, (100, 120 + k), 12) for k in range(3)}
    project = bench.project(images, groups=GROUPS, sweep={"images": 4, "crop": 64})
    assert bench.sweep(project).ok == 8
    return project


def batch(bench, project):
    return run_plan(project, plan_batch(project), bench.here)


def test_by_id_for_all_groups(swept):
    chosen = adopt(swept, "v0002")
    assert set(chosen) == {"large", "small"} == set(swept.adopted())
    for group, what in swept.adopted().items():
        row = next(
            row
            for row in read_csv(swept.run().variants_file)
            if (row["id"], row["group"]) == ("v0002", group)
        )
        assert (what["id"], what["run"], what["rank"]) == ("v0002", "run-0001", int(row["rank"]))
        assert what["score"] == float(row["score"])


def test_by_slug_for_one_group_and_then_the_other(swept):
    adopt(swept, "raw_probe_threshold-0.6", group="small")
    assert {group: what["id"] for group, what in swept.adopted().items()} == {"small": "v0002"}
    adopt(swept, "v0001", group="large")
    assert {g: what["id"] for g, what in swept.adopted().items()} == {
        "small": "v0002",
        "large": "v0001",
    }


@pytest.mark.parametrize(
    ("variant", "more", "words"),
    [
        ("v0009", {}, "v0001 to v0002"),
        ("v0001", {"group": "huge"}, "large, small"),
        ("v0001", {"run": "run-0007"}, "run-0001"),
    ],
)
def test_what_does_not_exist(swept, variant, more, words):
    with pytest.raises(NotFoundError) as caught:
        adopt(swept, variant, **more)
    assert words in caught.value.hint
    assert swept.adopted() == {}


def test_a_batch_takes_all_images_whole(bench, swept):
    adopt(swept, "v0001", group="large")
    adopt(swept, "v0002", group="small")
    result = batch(bench, swept)
    assert (result.run, result.ok, result.exit_code) == ("run-0002", 6, 0)
    for entry in swept.images():
        outcome = next(o for o in swept.run().outcomes() if o["image"] == entry.id)
        labels = swept.labels(None, outcome["variant"], entry.id)
        assert labels.shape == entry.shape
        rois = read_rois(swept.run().rois_file(outcome["variant"], entry.id))
        np.testing.assert_array_equal(fill_rois(rois, labels.shape), labels)
    assert len(read_csv(swept.run().outcomes_file)) == 6


def test_a_second_batch_computes_nothing(bench, swept):
    adopt(swept, "v0001")
    first = batch(bench, swept)
    before = bench.passes()
    assert batch(bench, swept) == first
    assert bench.passes() == before
    assert swept.runs() == ["run-0001", "run-0002"]
    # The sweep is still the same run, though a batch came after it.
    assert bench.sweep(swept).run == "run-0001"
    assert bench.passes() == before


def test_a_batch_takes_over_what_the_sweep_did_whole(bench):
    project = bench.project(sweep={"images": 1, "crop": "none"})
    bench.sweep(project)
    before = bench.passes()
    adopt(project, "v0002")
    assert batch(bench, project).ok == 2
    assert bench.passes() == before + 1


def test_groups_that_adopted_nothing_are_left_out(bench, swept):
    adopt(swept, "v0001", group="small")
    assert batch(bench, swept).ok == 3
    assert {o["image"].split("-")[1][0] for o in swept.run().outcomes()} == {"s"}


def test_a_batch_needs_no_run(bench, swept):
    """What was adopted is complete in itself."""
    import shutil

    adopt(swept, "v0001")
    shutil.rmtree(swept.runs_folder)
    bench.configure(swept.root, models={"w": {"engine": "watershed"}}, groups=GROUPS)
    assert batch(bench, swept).ok == 6
    assert swept.run().plan()["variants"][0]["slug"] == "raw_probe_threshold-0.4"


def test_excluded_images_are_left_out(bench, swept):
    adopt(swept, "v0001")
    swept.write_images([*swept.images()[:-1]])
    table = swept.index_file.read_text().replace(",yes", ",no", 1)
    swept.index_file.write_text(table)
    assert batch(bench, swept).ok == 5


def test_a_failing_image_leaves_the_rest(bench, swept):
    adopt(swept, "v0001")
    swept.source_file(swept.images()[0]).write_bytes(b"II*\0broken")
    result = batch(bench, swept)
    assert (result.ok, result.failed, result.exit_code) == (5, 1, 1)
    with tifffile.TiffFile(swept.run().batch_file) as file:
        assert file.imagej_metadata["frames"] == 5


def test_the_stack_of_a_batch(bench, swept):
    adopt(swept, "v0001")
    batch(bench, swept)
    with tifffile.TiffFile(swept.run().batch_file) as file:
        stack = file.asarray().reshape(6, 3, 100, 122)
        metadata = file.imagej_metadata
    assert (metadata["frames"], metadata["channels"]) == (6, 3)
    assert "padded right and below to 122 x 100 px" in metadata["Info"]
    for frame, entry in enumerate(swept.images()):
        height, width = entry.shape
        labels = swept.labels(None, "v0001", entry.id)
        caption = metadata["Labels"][3 * frame]
        assert caption.startswith(f"{entry.id} | {labels.max()} objects | {width} x {height} px")
        np.testing.assert_array_equal(stack[frame, 2, :height, :width] > 0, labels > 0)
        assert not stack[frame, :, height:].any() and not stack[frame, :, :, width:].any()
        grey = read_image(swept.source_file(entry)).data.astype(float)
        shown = stack[frame, 0, :height, :width].astype(float)
        assert np.corrcoef(grey.ravel(), shown.ravel())[0, 1] > 0.99


def test_adopted_json_is_for_people_too(swept):
    adopt(swept, "v0001", group="small")
    text = json.loads(swept.adopted_file.read_text())["small"]
    assert {"slug", "run", "rank", "score", "by", "at", "variant"} <= set(text)
