"""The ranking in words and figures, with answers, and by the size of objects."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from opsef_bridge.compare.vouched import combined, tally
from opsef_bridge.errors import NotFoundError, ProjectError
from opsef_bridge.files import read_json
from opsef_bridge.images import read_labels
from opsef_bridge.project import read_csv
from opsef_bridge.rois.answers import Answer, add_answer
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.revisions import Base, History, Source
from opsef_bridge.rois.truth import Box, Touched, Whole, add_truth
from opsef_bridge.sweep.evidence import cut_vouched
from opsef_bridge.sweep.planned import Plan
from opsef_bridge.sweep.rank import VARIANT_COLUMNS, rerank
from opsef_bridge.sweep.ranking import ranking_file, words_of_run

THREE = {"probe": {"engine": "probe", "threshold": [0.4, 0.6, 0.8]}}


@pytest.fixture
def swept(bench):
    project = bench.project(models=THREE)
    assert bench.sweep(project).ok == 6
    return project


def rows_of(project, group="default"):
    return [row for row in read_csv(project.run().variants_file) if row["group"] == group]


def told_of(project, group="default"):
    return read_json(ranking_file(project.run()))["groups"][group]


def answer_right(project, variant, images=None, asked=True) -> int:
    """Answer of every object of a variant that it is right; return how many there are."""
    run, count = project.run(), 0
    for entry in project.images():
        if images and entry.id not in images:
            continue
        planned = next(i for i in Plan.from_json(run.plan()).images if i.id == entry.id)
        y, x, *_ = planned.box or (0, 0)
        labels = read_labels(run.label_file(variant, entry.id))
        whole = np.zeros(entry.shape, np.int32)
        whole[y : y + labels.shape[0], x : x + labels.shape[1]] = labels
        for label in range(1, labels.max() + 1):
            outline = np.flatnonzero(whole == label)
            one = Answer("right", run.id, variant, label, "me", outline, asked=asked)
            add_answer(project, entry.id, one, entry.shape)
            count += 1
    return count


def test_what_is_told_of_a_sweep(bench, swept):
    told, rows = told_of(swept), rows_of(swept)
    assert list(rows[0]) == VARIANT_COLUMNS
    assert (told["method"], told["families"], told["variants"], told["images"]) == (
        "plain",
        1,
        3,
        2,
    )
    assert told["first"] == rows[0]["id"] == told["shown"][0]
    assert told["agreement"] == told["score"] == float(rows[0]["agreement"])
    assert told["answers"] == 0 and told["plain_first"] is None
    assert told["confidence"]["by"] == "images" and told["confidence"]["count"] == 2
    assert sum(told["confidence"]["shares"].values()) == pytest.approx(1, abs=0.1)
    assert set(told["intervals"]) == {row["id"] for row in rows}
    for row in rows:
        low, high = told["intervals"][row["id"]]
        assert 0 < low <= float(row["score"]) <= high <= 1
    assert [text[:18] for text in told["words"][:2]] == ["Order only, 1 fami", "Only 3 variants: a"]
    assert words_of_run(swept.run()) == {"default": told["words"]}
    sizes = told["sizes"]
    assert set(sizes) == {entry.id for entry in swept.images()}
    assert all(16 < size < 19 for size in sizes.values())  # discs of radius 9
    assert [one["images"] for one in told["bins"]] == [list(sizes)]
    assert told["words"][0] in swept.run().report_file.read_text("utf-8")


def test_without_answers_ranking_again_changes_nothing(swept):
    run = swept.run()
    before = run.variants_file.read_bytes(), ranking_file(run).read_bytes()
    shutil.rmtree(run.root / "labels")  # what they say of each other is kept
    told = rerank(swept, run)
    assert (run.variants_file.read_bytes(), ranking_file(run).read_bytes()) == before
    assert told["default"] == told_of(swept)


def test_answers_turn_the_order(swept):
    run, before = swept.run(), rows_of(swept)
    assert before[0]["id"] != "v0001"
    count = answer_right(swept, "v0001")  # the lowest threshold finds most
    told = rerank(swept, run)["default"]
    after = rows_of(swept)
    assert after[0]["id"] == told["first"] == "v0001"
    assert list(after[0]) == VARIANT_COLUMNS
    assert told["answers"] == count and told["confidence"]["by"] == "answers"
    assert [row["rank"] for row in after] == ["1", "2", "3"]
    agreement = {row["id"]: float(row["agreement"]) for row in before}
    assert {row["id"]: float(row["agreement"]) for row in after} == agreement
    tallies = []
    for entry in swept.images():
        labels = [read_labels(run.label_file(v, entry.id)) for v in sorted(agreement)]
        tallies.append(tally(labels[0], np.zeros(entry.shape, bool), labels))
    ids = sorted(agreement)
    wanted = combined(np.array([agreement[v] for v in ids]), tallies, asked=True)
    found = {row["id"]: float(row["score"]) for row in after}
    assert [found[v] for v in ids] == pytest.approx(wanted, abs=1e-5)
    assert any(f"{count} answers of a person" in text for text in told["words"])
    assert any(f"order from before, with {before[0]['id']} first" in text for text in told["words"])
    assert rerank(swept, run)["default"] == told  # the order of stacks and report stays known


def test_answers_without_a_question_weigh_more(swept):
    run = swept.run()
    one = swept.images()[0].id
    answer_right(swept, "v0001", [one])
    asked = {row["id"]: row["score"] for row in rerank(swept, run) and rows_of(swept)}
    shutil.rmtree(swept.truth_folder)
    answer_right(swept, "v0001", [one], asked=False)
    chosen = {row["id"]: row["score"] for row in rerank(swept, run) and rows_of(swept)}
    assert float(chosen["v0001"]) > float(asked["v0001"])
    assert float(chosen["v0003"]) < float(asked["v0003"])


def test_only_images_with_new_answers_are_read(swept):
    run = swept.run()
    first, second = (entry.id for entry in swept.images())
    answer_right(swept, "v0001", [first])
    told = rerank(swept, run)
    for file in run.root.glob(f"labels/*/{first}.tif"):
        file.unlink()
    assert rerank(swept, run) == told
    answer_right(swept, "v0001", [second])
    assert rerank(swept, run)["default"]["answers"] > told["default"]["answers"]


def test_lost_labels_without_a_cache_are_an_error(swept):
    run = swept.run()
    shutil.rmtree(swept.cache_folder)
    next(run.root.glob("labels/v0002/*.tif")).unlink()
    with pytest.raises(ProjectError, match=r"labels.v0002.*is gone"):
        rerank(swept, run)


def test_answers_of_another_part_of_an_image_do_not_count(swept):
    entry = swept.images()[0]
    one = Answer("nothing", "run-0001", "v0001", 1, "me", np.array([3]))
    add_answer(swept, entry.id, one, (9, 9))
    told = rerank(swept, swept.run())["default"]
    assert told["answers"] == 0
    assert any(f"vouched for of {entry.id} does not count" in text for text in told["words"])


def test_a_crop_sees_the_answers_in_its_box(bench, make_discs):
    images = {"a.tif": make_discs(1, (90, 180)), "b.tif": make_discs(2, (90, 180))}
    project = bench.project(images, models=THREE, sweep={"crop": 64})
    bench.sweep(project)
    run, entry = project.run(), project.images()[0]
    count = answer_right(project, "v0001", [entry.id])
    y, x, _, width = Plan.from_json(run.plan()).images[0].box
    outside = (x + width) % 180 if x == 0 else 0
    for column, row in ((outside, 0), (x + 1, y + 1)):
        ground = np.array([row * 180 + column])
        one = Answer("nothing", run.id, "v0002", 1 + column, "me", ground)
        add_answer(project, entry.id, one, entry.shape)
    told = rerank(project, run)["default"]
    assert told["answers"] == count + 1


def vouch(project, image: str, shape: tuple[int, int], scope) -> None:
    """Save an object in the lower right corner as a revision, and vouch for it."""
    labels = np.zeros(shape, np.int32)
    labels[-9:-1, -9:-1] = 1
    source = Source("a.zip", "0" * 64, "imagej-zip")
    saved = History(project, image).save(
        Objects(labels),
        base=Base(run="run-0001", variant="v0001"),
        base_objects=Objects(np.zeros(shape, np.int32)),
        author="ada",
        source=source,
    )
    add_truth(project, image, saved.revision.id, scope, author="ada")


@pytest.fixture
def cropped(bench):
    """A sweep of the upper left of two images: nothing is to be seen in the rest."""
    images = {name: np.zeros((90, 180), np.uint8) for name in ("a.tif", "b.tif")}
    for image in images.values():
        image[10:24, 10:24] = image[10:24, 34:50] = 200
    project = bench.project(images, models=THREE, sweep={"crop": 64})
    bench.sweep(project)
    boxes = [image.box for image in Plan.from_json(project.run().plan()).images]
    assert all(y + height < 80 and x + width < 170 for y, x, height, width in boxes)
    return project


@pytest.mark.parametrize("scope", [Touched(), Box(80, 170, 10, 10)])
def test_truth_outside_of_the_crop_counts_nothing_and_is_told(cropped, scope):
    before = [row["score"] for row in rows_of(cropped)]
    entry = cropped.images()[0]
    vouch(cropped, entry.id, (90, 180), scope)
    for _ in range(2):
        told = rerank(cropped, cropped.run())["default"]
        assert told["answers"] == 0
        [said] = [text for text in told["words"] if entry.id in text]
        assert "does not count: none of it lies in the crop that run-0001 saw" in said
        assert "sweep whole images" in said
    assert [row["score"] for row in rows_of(cropped)] == before


def test_truth_of_the_whole_image_counts_in_the_crop(cropped):
    entry = cropped.images()[0]
    vouch(cropped, entry.id, (90, 180), Whole())
    told = rerank(cropped, cropped.run())["default"]
    assert not any("does not count" in text for text in told["words"])


@pytest.mark.parametrize("shape", [(120, 200), (89, 180), (40, 40)])
def test_truth_of_another_shape_than_the_whole_image_does_not_count(cropped, shape):
    entry = cropped.images()[0]
    vouch(cropped, entry.id, shape, Whole())
    told = rerank(cropped, cropped.run())["default"]
    assert told["answers"] == 0
    [said] = [text for text in told["words"] if entry.id in text]
    assert f"it is of shape {shape}, the image of (90, 180)" in said


def test_objects_cut_by_the_box_belong_to_the_side_that_has_most():
    labels = np.array([[1, 1, 1, 2, 2, 2, 3, 3, 3, 3]])
    known = np.ones((1, 10), bool)
    cut, inside = cut_vouched(labels, known, (0, 2, 1, 6))
    assert cut.tolist() == [[0, 2, 2, 2, 3, 3]]
    assert inside.tolist() == [[False, True, True, True, True, True]]
    whole, known_whole = cut_vouched(labels, known, None)
    assert whole is labels and known_whole is known


def test_a_run_that_is_not_ranked(bench, swept):
    swept.run().variants_file.unlink()
    with pytest.raises(NotFoundError, match="not ranked yet"):
        rerank(swept, swept.run())


def test_runs_of_older_versions_have_words_too(swept):
    words = told_of(swept)["words"]
    ranking_file(swept.run()).unlink()
    assert words_of_run(swept.run())["default"][:2] == words[:2]
    assert rerank(swept, swept.run())["default"]["words"] == words


def test_empty_and_failed_images(bench):
    nothing = np.zeros((40, 40), np.uint8)
    project = bench.project({"a.tif": nothing, "b.tif": nothing}, models=THREE)
    bench.sweep(project)
    told = told_of(project)
    assert told["words"] == ["No variant found an object: there is nothing to rank."]
    assert told["first"] is None and told["confidence"] is None and told["bins"] == []


def test_no_image_at_all_could_be_read(bench):
    project = bench.project()
    for file in (project.root / "data").iterdir():
        file.write_bytes(b"II*\0broken")
    assert bench.sweep(project).failed == 4
    told = told_of(project)
    assert (told["images"], told["first"], told["sizes"]) == (0, None, {})
