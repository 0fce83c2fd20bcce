"""Which images to correct next, and which boxes of large ones."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsef_bridge.errors import InputError, NotFoundError
from opsef_bridge.exchange.saving import How, save_objects
from opsef_bridge.images import read_labels
from opsef_bridge.project import Project
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.revisions import Base, Source
from opsef_bridge.rois.truth import Box, parse_scope
from opsef_bridge.sweep.planned import Plan
from opsef_bridge.sweep.review import review_order
from opsef_bridge.train.next_parts import grid
from opsef_bridge.train.next_up import NextUp, fitting, in_order, minutes_of, next_up
from tests.running import run_opsef
from tests.small_projects import discs, swept, swept_to_judge


@pytest.fixture(scope="module")
def made_once(tmp_path_factory) -> Path:
    return swept_to_judge(tmp_path_factory.mktemp("next") / "project").root


@pytest.fixture
def project(made_once, tmp_path) -> Project:
    return Project(shutil.copytree(made_once, tmp_path / "project"))


def vouch(project: Project, image: str, truth: str) -> None:
    run = project.run()
    labels = read_labels(run.label_file("v0001", image))
    save_objects(
        project, project.image(image), Objects(labels), How(author="ada", truth=truth),
        base=Base(run=run.id, variant="v0001"), source=Source("file", "labels.tif", ""),
    )  # fmt: skip


def test_most_wrong_objects_per_minute_come_first(project):
    doubts = {one.image: one for one in review_order(project)}
    found = next_up(project)
    assert {one.image for one in found} == {name for name, one in doubts.items() if one.doubt}
    for one in found:
        there = doubts[one.image]
        assert one.wrong == there.doubt and one.places == there.doubtful + there.missing
        assert one.minutes == round(minutes_of(there.objects, one.places), 2)
        assert one.per_minute == pytest.approx(
            there.doubt / minutes_of(there.objects, one.places), abs=0.001
        )
    assert found[0].unlike is None and found[1].unlike >= 0
    assert [one.image for one in next_up(project, count=1)] == [found[0].image]


def test_an_image_that_is_vouched_for_is_left_out_and_others_are_compared_with_it(project):
    first, second = (one.image for one in next_up(project))
    vouch(project, first, "whole")
    (left,) = next_up(project)
    assert left.image == second and left.unlike is not None


def test_an_image_of_which_a_part_is_vouched_for_stays(project):
    image = next_up(project)[0].image
    before = {one.image: one.wrong for one in next_up(project)}
    vouch(project, image, "0,0,40,40")
    after = {one.image: one.wrong for one in next_up(project)}
    assert 0 < after[image] < before[image]


def covered(boxes, shape) -> np.ndarray:
    """Return how many boxes each pixel lies in."""
    found = np.zeros(shape, int)
    for y, x, height, width in boxes:
        assert min(y, x) >= 0 and y + height <= shape[0] and x + width <= shape[1]
        found[y : y + height, x : x + width] += 1
    return found


def test_of_an_image_larger_than_a_tile_boxes_are_listed(project):
    doubts = {one.image: one for one in review_order(project)}
    found = next_up(project, tile=64)
    boxes = {name: [one for one in found if one.image == name] for name in doubts}
    for name, there in doubts.items():
        assert sum(one.wrong for one in boxes[name]) == pytest.approx(there.doubt, abs=0.01)
        assert sum(one.places for one in boxes[name]) == there.doubtful + there.missing
        assert covered([one.box for one in boxes[name]], (72, 80)).max() == 1
        assert {one.box[2:] for one in boxes[name]} == {(36, 40)}
    # The places of each box, by the support of objects: those of the whole, by their middles.
    labels = read_labels(project.run().label_file(found[0].variant, found[0].image))
    y, x, height, width = found[0].box
    middles = [
        (np.argwhere(labels == label).min(0) + np.argwhere(labels == label).max(0) + 1) // 2
        for label in np.unique(labels[labels > 0])
    ]
    inside = sum(y <= a < y + height and x <= b < x + width for a, b in middles)
    assert found[0].objects == inside > 0
    assert found[0].minutes == round(minutes_of(inside, found[0].places), 2)
    assert parse_scope(found[0].scope) == Box(*found[0].box)
    whole = {one.image: one.wrong for one in next_up(project)}
    for tile in (None, 80):
        assert {one.image: one.wrong for one in next_up(project, tile=tile)} == whole
        assert all(one.box is None and one.scope == "whole" for one in next_up(project, tile=tile))


def test_a_box_that_is_vouched_for_is_left_out(project):
    first, *others = next_up(project, tile=64)
    vouch(project, first.image, first.scope)
    left = next_up(project, tile=64)
    assert {(one.image, one.box) for one in left} == {(one.image, one.box) for one in others}
    assert all(one.unlike is not None for one in left), "nothing is compared with the vouched box"
    vouch(project, first.image, "whole")
    assert {one.image for one in next_up(project, tile=64)} == {
        one.image for one in others if one.image != first.image
    }


def test_boxes_of_a_crop_lie_in_the_whole_image(tmp_path):
    project = swept(
        tmp_path / "crops", {"a.tif": discs(0, (150, 160))}, crop="80",
        thresholds="[0.05, 0.8, otsu]",
    )  # fmt: skip
    [planned] = Plan.from_json(project.run().plan()).images
    y, x, height, width = planned.box
    (doubt,) = review_order(project)
    for tile, count in ((64, 4), (100, 1)):
        found = next_up(project, tile=tile)
        seen = covered([one.box for one in found], (150, 160))
        assert 1 <= len(found) <= count and seen.max() == 1
        assert seen[y : y + height, x : x + width].sum() == seen.sum()
        assert sum(one.wrong for one in found) == pytest.approx(doubt.doubt, abs=0.01)
    assert next_up(project, tile=160)[0].box is None


@given(st.integers(1, 5000), st.integers(64, 3000))
def test_a_grid_is_of_boxes_of_nearly_one_size(side, tile):
    (edges,) = grid([side], tile)
    sizes = np.diff(edges)
    assert edges[0] == 0 and edges[-1] == side
    assert sizes.max() <= tile and sizes.max() - sizes.min() <= 1


@given(st.lists(st.floats(0.3, 50), max_size=9), st.floats(0.1, 200))
def test_what_fits_in_a_time(minutes, time):
    found = [NextUp("a", "r", "v", None, 1, 1, 1.0, one, 1.0, None, None) for one in minutes]
    fit = fitting(found, time)
    assert fit == len(found) or sum(minutes[: fit + 1]) > time * (1 - 1e-9)
    assert fit <= 1 or sum(minutes[:fit]) <= time * (1 + 1e-9)
    assert fit >= min(1, len(found))


def test_bad_input(project, tmp_path):
    with pytest.raises(InputError, match="0 images"):
        next_up(project, count=0)
    with pytest.raises(InputError, match="tile of 63 px"):
        next_up(project, tile=63)
    with pytest.raises(NotFoundError, match="run-0009"):
        next_up(project, run="run-0009")
    with pytest.raises(NotFoundError, match="no group"):
        next_up(project, group="x")


@given(
    st.lists(st.tuples(st.floats(0.01, 100), st.floats(-3, 3)), max_size=12),
    st.lists(st.floats(-3, 3), max_size=3),
)
def test_no_image_stands_before_one_of_much_more_worth(images, known):
    worth = [one for one, _ in images]
    looks = [np.array([place]) for _, place in images]
    order = in_order(worth, looks, [np.array([place]) for place in known])
    taken = [at for at, _ in order]
    assert sorted(taken) == list(range(len(images)))
    for number, at in enumerate(taken):
        assert worth[at] >= 0.8 * max(worth[other] for other in taken[number:])
    assert [far is None for _, far in order] == [not known and n == 0 for n in range(len(order))]


def test_among_equals_what_nobody_corrected_comes_first():
    looks = [np.array([0.0]), np.array([5.0])]
    assert in_order([1.0, 0.9], looks, [np.array([0.0])])[0] == (1, 5.0)
    assert in_order([1.0, 0.7], looks, [np.array([0.0])])[0] == (0, 0.0)


def test_the_command(project, monkeypatch, capfd):
    def opsef(*words):
        return run_opsef(monkeypatch, capfd, "-p", project.root, "train", "next", *words)

    code, out, err = opsef("--count", 1)
    assert code == 0, err
    told = json.loads(opsef("--count", 1, "--json")[1])
    (first,) = told["images"]
    assert told["left"] == 1 and first["image"] == next_up(project)[0].image
    assert out.splitlines()[1].split()[:3] == ["1", first["image"], first["variant"]]
    assert f"review {first['image']} --run run-0001" in out
    for image in [one.image for one in next_up(project)]:
        vouch(project, image, "whole")
    code, out, err = opsef()
    assert code == 0 and "Nothing is expected wrong" in out


def test_the_command_with_boxes_and_a_time(project, monkeypatch, capfd, tmp_path):
    def opsef(*words):
        return run_opsef(monkeypatch, capfd, "-p", project.root, *words)

    found = next_up(project, tile=64)
    time = sum(one.minutes for one in found[:3])
    file = tmp_path / "new" / "next.csv"
    code, out, err = opsef("train", "next", "--tile", 64, "--minutes", time + 0.01, "--csv", file)
    assert code == 0, err
    lines = out.splitlines()
    assert "minutes are over" in lines[4] and lines[5].split()[0] == "4"
    for number in (1, 2, 3, 5):
        one = found[number - 1 - (number > 4)]
        assert lines[number].endswith(f"truth add {one.image} {one.scope}")
    with open(file, newline="") as text:
        rows = list(csv.DictReader(text))
    assert [(row["image"], row["scope"], float(row["wrong"])) for row in rows] == [
        (one.image, one.scope, one.wrong) for one in found
    ]
    assert float(rows[2]["until"]) == pytest.approx(time)
    told = json.loads(opsef("train", "next", "--tile", "64", "--minutes", time, "--json")[1])
    assert told["fit"] in (2, 3) and told["images"][0]["box"] == list(found[0].box)
    # What the line says vouches for the box, once there is a revision.
    vouch(project, found[0].image, "0,0,1,1")
    assert opsef("truth", "add", *lines[1].split(" truth add ")[1].split())[0] == 0
    assert found[0].box not in [
        one.box for one in next_up(project, tile=64) if one.image == found[0].image
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--tile", "big"), "no size of tiles"),
        (("--tile", "-5"), "no size of tiles"),
        (("--tile", "8"), "tile of 8 px"),
        (("--minutes", "0"), "no time"),
        (("--minutes", "nan"), "no time"),
        (("--csv", "opsef.yaml"), "made of"),
        (("--csv", "data/next.csv"), "beside its images"),
        (("--csv", "runs"), "is a folder"),
        (("--csv", "opsef.yaml/next.csv"), "is a file"),
    ],
)
def test_bad_words(project, monkeypatch, capfd, words, said):
    monkeypatch.chdir(project.root)
    code, _, err = run_opsef(monkeypatch, capfd, "train", "next", *words)
    assert code == 2 and said in err
