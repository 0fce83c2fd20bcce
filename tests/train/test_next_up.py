"""Which images to correct next."""

from __future__ import annotations

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
from opsef_bridge.sweep.review import review_order
from opsef_bridge.train.next_up import in_order, minutes_of, next_up
from tests.running import run_opsef
from tests.small_projects import swept_to_judge


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


def test_bad_input(project, tmp_path):
    with pytest.raises(InputError, match="0 images"):
        next_up(project, count=0)
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
