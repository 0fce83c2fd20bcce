"""From the ranking to all images: adopt, batch."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from opsef_bridge.errors import ConfigError, InputError, LockedError, NotFoundError
from opsef_bridge.files import lock
from opsef_bridge.images import read_image
from opsef_bridge.measure import fill_rois
from opsef_bridge.project import Project, read_csv, write_csv
from opsef_bridge.rois import read_rois
from opsef_bridge.sweep import adopt, plan_batch, plan_sweep, run_plan
from opsef_bridge.sweep.adopt import adopt_by_size
from opsef_bridge.sweep.ranking import ranking_file, words_of_run
from tests.running import run_opsef

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


def test_adopted_json_tells_why(swept):
    run = swept.run()
    (sampled, other), large = (
        [entry.id for entry in swept.images() if entry.group == group][:2]
        for group in ("small", "large")
    )
    row = {"at": "1", "author": "Ann", "image": sampled, "run": run.id, "variant": "v0001"}
    told = [
        row | {"verdict": "good", "request": "1"},
        row | {"verdict": "over", "request": "2", "at": "2"},  # she thought again
        row | {"verdict": "missed", "request": "3", "author": "Bob"},
        row | {"verdict": "good", "request": "4", "variant": "v0002"},
        row | {"verdict": "good", "request": "5", "run": "run-0009"},
        row | {"verdict": "good", "request": "6", "image": large[0]},
    ]
    swept.annotations_folder.mkdir()
    write_csv(swept.annotations_folder / "verdicts.csv", told, list(told[0]))
    in_sweep = {i["id"] for i in run.plan()["images"] if i["group"] == "small"}
    assert sampled in in_sweep or other in in_sweep
    adopt(swept, "v0001", by="Eve")
    small = swept.adopted()["small"]
    line = next(
        r for r in read_csv(run.variants_file) if (r["id"], r["group"]) == ("v0001", "small")
    )
    assert small["agreement"] == float(line["agreement"]) and small["by"] == "Eve"
    assert set(small["sample"]) == in_sweep
    assert small["words"] == words_of_run(run)["small"] != []
    if sampled in in_sweep:
        assert [(v["author"], v["verdict"]) for v in small["verdicts"]] == [
            ("Ann", "over"), ("Bob", "missed"),
        ]  # fmt: skip


@pytest.fixture
def mixed(bench, make_discs):
    """A sweep of two images with small and two with large objects, and an image beside it.

    Of three thresholds two agree: on the small objects the lower ones, on the large ones the
    higher.
    """

    def two_tones(number, radius, share, shape):
        image = make_discs(number, shape, radius)
        rows = np.arange(shape[0])[:, None]
        return np.where(image > 50, np.where(rows < shape[0] / 2, 250, 250 * share), 0).astype("u1")

    images = {f"a{k}.tif": two_tones(k, 5, 0.7, (84, 98)) for k in range(2)}
    images |= {f"b{k}.tif": two_tones(k, 16, 0.5, (144, 108)) for k in range(2)}
    probe = {"probe": {"engine": "probe", "threshold": [0.4, 0.6, 0.8]}}
    project = bench.project(images, sweep={"images": "all"}, models=probe)
    bench.sweep(project)
    tifffile.imwrite(project.root / "data" / "c.tif", make_discs(7, (90, 100), 5))
    plan_sweep(project)  # imports it
    return project


def test_sizes_that_differ_are_said_and_parted(bench, mixed):
    told = json.loads(ranking_file(mixed.run()).read_text())["groups"]["default"]
    ids = [entry.id for entry in mixed.images()]
    assert [one["images"] for one in told["bins"]] == [ids[:2], ids[2:4]]
    assert any("opsef adopt --by-size" in text for text in told["words"])
    chosen = adopt_by_size(mixed, by="Eve")
    assert [one["first"] for one in told["bins"]] == ["v0001", "v0002"]
    low, high = ([round(one[end]) for end in ("low", "high")] for one in told["bins"])
    small, large = (f"default-{a}-{b}px" for a, b in (low, high))
    assert list(chosen) == [small, large, "default"] and set(mixed.adopted()) == set(chosen)
    assert [entry.group for entry in mixed.images()] == [small] * 2 + [large] * 2 + ["default"]
    assert [chosen[name]["id"] for name in (small, large)] == [b["first"] for b in told["bins"]]
    assert chosen["default"]["id"] == told["first"]
    assert "1 image of group default was not in the sweep" in chosen["default"]["words"][0]
    assert chosen[small]["sample"] == ids[:2]
    agreement = f"agreement of the first is {chosen[small]['agreement']:.2f}"
    assert [any(part in said for said in chosen[small]["words"])
            for part in ("Order only, 1 family", agreement)] == [True, True]  # fmt: skip
    assert all(what["by"] == "Eve" and what["rank"] == 1 for what in chosen.values())
    assert batch(bench, mixed).ok == 5  # the import leaves the groups
    assert [entry.group for entry in mixed.images()] == [small] * 2 + [large] * 2 + ["default"]
    again = adopt_by_size(mixed, run="run-0001", by="Eve")
    assert set(again) == set(chosen)


def test_a_group_that_somebody_gave_since_the_sweep_stays(mixed):
    first, *others = mixed.images()
    mixed.write_images([replace(first, group="tumour"), *others])
    adopt_by_size(mixed)
    groups = [entry.group for entry in mixed.images()]
    assert groups[0] == "tumour" and groups[1].startswith("default-")


def test_groups_by_size_are_written_under_the_lock_of_the_index(mixed, monkeypatch):
    written = []
    write = Project.write_images

    def watched(self, entries):
        with pytest.raises(LockedError), lock(self.index_file.with_name(".index.lock")):
            pass
        written.append(entries)
        write(self, entries)

    monkeypatch.setattr(Project, "write_images", watched)
    adopt_by_size(mixed)
    assert len(written) == 1


def test_new_images_are_compared_with_the_sample_whatever_its_group_now(bench, mixed, make_discs):
    adopt_by_size(mixed)
    assert batch(bench, mixed).remarks == ()
    unlike = make_discs(12, (90, 160), 40).astype(np.uint16) * 50
    tifffile.imwrite(mixed.root / "data" / "d.tif", unlike)
    (remark,) = batch(bench, mixed).remarks
    assert remark.startswith("i00006-d: unlike the images of the sweep: ")


def test_a_variant_that_failed_on_a_whole_group_is_not_adopted(bench, make_discs):
    images = {
        "a.tif": make_discs(1, (90, 100), 7),
        "b.tif": np.stack([make_discs(2, (90, 100), 7)] * 3),
    }
    models = {"flat": {"engine": "unet", "scale": 0.5}, "classic": {"engine": "watershed"}}
    project = bench.project(
        images,
        images={"axes": "ZYX"},
        groups={"volume": "b*"},
        models=models,
        sweep={"crop": "none"},
    )
    bench.sweep(project)
    rows = read_csv(project.run().variants_file)
    failed = [(row["group"], row["id"]) for row in rows if row["status"] == "failed"]
    assert [group for group, _ in failed] == ["volume"]
    with pytest.raises(InputError, match="failed on every image of group volume"):
        adopt(project, failed[0][1])
    assert list(adopt(project, failed[0][1], group="default")) == ["default"]


def test_sizes_of_a_run_that_an_older_version_ranked(mixed):
    ranking_file(mixed.run()).unlink()
    assert len(adopt_by_size(mixed)) == 3
    assert ranking_file(mixed.run()).is_file()


def test_a_size_of_one_image_is_said(bench, make_discs):
    images = {"a.tif": make_discs(1, (90, 100), 5), "b.tif": make_discs(2, (110, 120), 16)}
    project = bench.project(images, sweep={"images": "all"})
    bench.sweep(project)
    chosen = adopt_by_size(project)
    assert len(chosen) == 2  # nothing is left in the old group
    assert all("Only 1 image with objects of" in what["words"][-1] for what in chosen.values())


@pytest.mark.parametrize("groups", [{"some": "a*"}, "stain"])
def test_groups_that_the_next_import_would_undo_are_refused(bench, mixed, groups):
    text = mixed.index_file.read_text().splitlines()
    text = [line + (",stain" if not i else ",HE") for i, line in enumerate(text)]
    mixed.index_file.write_text("\n".join(text) + "\n")
    bench.configure(mixed.root, groups=groups)
    with pytest.raises(ConfigError, match="at every import") as caught:
        adopt_by_size(mixed)
    assert "groups: group" in caught.value.hint and mixed.adopted() == {}
    bench.configure(mixed.root, groups="group")
    assert len(adopt_by_size(mixed)) == 3


def test_by_size_says_what_is_wrong(bench):
    swept = bench.project()
    bench.sweep(swept)
    with pytest.raises(NotFoundError, match="no group 'huge'"):
        adopt_by_size(swept, group="huge")
    with pytest.raises(InputError, match="of like size"):
        adopt_by_size(swept)
    swept.run().variants_file.unlink()
    ranking_file(swept.run()).unlink()
    with pytest.raises(NotFoundError, match="not ranked yet"):
        adopt_by_size(swept)
    assert swept.adopted() == {} and {e.group for e in swept.images()} == {"default"}


def test_a_batch_says_which_images_are_unlike_the_sample(bench, make_discs):
    images = {f"a{k}.tif": make_discs(k, (90, 100), 7) for k in range(4)}
    project = bench.project(images, sweep={"images": "all"})
    bench.sweep(project)
    adopt(project, "v0001")
    assert batch(bench, project).remarks == ()
    like, unlike = make_discs(11, (90, 100), 7), make_discs(12, (90, 160), 20)
    tifffile.imwrite(project.root / "data" / "b.tif", like)
    tifffile.imwrite(project.root / "data" / "c.tif", unlike.astype(np.uint16) * 5)
    (remark,) = batch(bench, project).remarks
    assert remark.startswith("i00006-c: unlike the images of the sweep: ")
    assert "its median intensity is" in remark and "its median object diameter in px is" in remark


@pytest.fixture
def opsef(monkeypatch, capfd):
    """Run `opsef` in this process, as the console script does."""

    def run(project, *words):
        return run_opsef(monkeypatch, capfd, "-p", project.root, *words)

    return run


def test_the_command_line_says_the_words(opsef, mixed):
    code, out, err = opsef(mixed, "sweep", "status")
    assert code == 0, err
    assert "Group default, first three of 3 by agreement:" in out
    assert all(text in out for text in words_of_run(mixed.run())["default"])
    code, out, err = opsef(mixed, "adopt", "v0002")
    assert code == 0 and "Only 3 variants: agreement is the plain mean here." in out, err
    code, out, err = opsef(mixed, "adopt", "--by-size")
    assert code == 0, err
    assert out.count("adopts v000") == 3 and "1 image of group default was not in the" in out
    code, out, err = opsef(mixed, "adopt", "v0002", "--by-size")
    assert code == 2 and "name a VARIANT, or use --by-size" in err.replace("\n", " ")
