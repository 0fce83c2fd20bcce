"""Answers about single places: what they say together with truth, and their file."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opsef_bridge.errors import InputError, LockedError, NotFoundError, ProjectError
from opsef_bridge.files import lock, read_json
from opsef_bridge.project import ImageEntry, Project
from opsef_bridge.rois.answers import (
    Answer,
    add_answer,
    fold_answers,
    list_answers,
    read_answers,
    vouched,
)
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.places import answered_places, pixels_of, runs_text
from opsef_bridge.rois.revisions import Base, History, Source
from opsef_bridge.rois.truth import Box, Whole, add_truth, list_truth

IMAGE = "i00001-cells"
SHAPE = (4, 6)


def at(*rows: str, mark: str = "x") -> np.ndarray:
    """Flat positions of the marked places of a picture."""
    return np.flatnonzero(np.array([list(row) for row in rows]) == mark)


def said(what: str, outline: np.ndarray, drawn: np.ndarray | None = None, **more) -> Answer:
    known = {"run": "run-0001", "variant": "v0001", "label": int(outline[0]) + 1, "author": "Ada"}
    return Answer(what, **{**known, **more}, outline=outline, drawn=drawn)


LEFT = at("xxx...", "xxx...", "......", "......")
RIGHT = at("....xx", "....xx", "......", "......")
BELOW = at("......", "......", "xxxx..", "xxxx..")


@pytest.fixture
def project(tmp_path) -> Project:
    (tmp_path / "opsef.yaml").write_text("opsef: 1\nimages: {source: [data/*]}\n")
    made = Project(tmp_path)
    made.write_images(
        [ImageEntry(id_, "a.tif", axes="YX", shape=SHAPE) for id_ in (IMAGE, "i00002-more")]
    )
    return made


def save(project: Project, labels: np.ndarray) -> str:
    saved = History(project, IMAGE).save(
        Objects(labels),
        base=Base(run="run-0001", variant="v0003"),
        base_objects=Objects(np.zeros_like(labels)),
        author="Ada",
        source=Source("x.zip", "0" * 64, "imagej-zip"),
    )
    return saved.revision.id


class TestFolding:
    def test_each_kind_of_answer(self):
        inner = LEFT[[0, 1, 3, 4]]
        found = fold_answers(
            [said("drawn", LEFT, inner), said("right", RIGHT), said("nothing", BELOW)], SHAPE
        )
        ids = found.labels.ravel()
        assert set(np.flatnonzero(ids)) == {*inner, *RIGHT}
        assert len(set(ids[inner])) == len(set(ids[RIGHT])) == 1 and ids[inner[0]] != ids[RIGHT[0]]
        np.testing.assert_array_equal(np.flatnonzero(found.known), BELOW)
        assert (found.empty, found.asked, found.answers) == (1, True, 3)

    def test_replaced_answers_say_nothing(self):
        assert fold_answers([replace(said("right", LEFT), replaced=True)], SHAPE) is None
        assert fold_answers([], SHAPE) is None

    def test_the_later_answer_has_the_pixel(self):
        wide = at("..xxxx", "..xxxx", "......", "......")
        found = fold_answers([said("right", LEFT), said("right", wide)], SHAPE)
        ids = found.labels.ravel()
        assert set(np.flatnonzero(ids == ids[wide[0]])) == set(wide)
        assert set(np.flatnonzero(ids == ids[0])) == set(LEFT) - set(wide)
        assert found.answers == 2

    def test_an_answer_that_is_mostly_overruled_does_not_count(self):
        most = at("xxx...", "x.....", "......", "......")
        found = fold_answers([said("nothing", LEFT), said("right", most)], SHAPE)
        assert (found.empty, found.answers) == (0, 1) and not found.known.any()

    def test_truth_wins_over_answers(self):
        truth = np.zeros(SHAPE, np.int32)
        truth.flat[LEFT] = 7
        known = np.zeros(SHAPE, bool)
        known.flat[BELOW] = True
        answers = [said("nothing", LEFT), said("right", BELOW), said("right", RIGHT)]
        found = fold_answers(answers, SHAPE, truth, known)
        np.testing.assert_array_equal(found.known, known)
        np.testing.assert_array_equal(found.labels == 7, truth == 7)
        assert set(np.flatnonzero(found.labels)) == {*LEFT, *RIGHT}
        assert (found.empty, found.asked, found.answers) == (0, False, 1)
        assert truth.max() == 7 and known.sum() == len(BELOW)  # what was given is as it was

    def test_truth_in_another_memory_order(self):
        truth = np.asfortranarray(np.zeros(SHAPE, np.int32))
        found = fold_answers([said("right", LEFT)], SHAPE, truth, truth > 0)
        np.testing.assert_array_equal(np.flatnonzero(found.labels), LEFT)

    def test_chosen_places_weigh_less_only_if_they_are_the_more(self):
        own = [said("right", LEFT, asked=False), said("right", RIGHT, asked=False)]
        assert not fold_answers(own, SHAPE).asked
        assert not fold_answers([own[0], said("right", RIGHT)], SHAPE).asked
        assert fold_answers([own[0], said("right", RIGHT), said("nothing", BELOW)], SHAPE).asked

    def test_truth_without_an_object_or_pixel_is_nothing(self):
        nothing = np.zeros(SHAPE, np.int32)
        assert fold_answers([], SHAPE, nothing, nothing > 0) is None
        checked = fold_answers([], SHAPE, nothing, nothing == 0)
        assert checked.known.all() and not checked.asked

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_in_any_order_the_parts_fit(self, data):
        pixels = st.sets(st.integers(0, 23), min_size=1).map(lambda s: np.array(sorted(s)))
        kinds = st.tuples(st.sampled_from(["right", "drawn", "nothing"]), pixels, pixels)
        answers = [
            said(what, outline, drawn if what == "drawn" else None)
            for what, outline, drawn in data.draw(st.lists(kinds, max_size=5))
        ]
        found = fold_answers(answers, SHAPE)
        if not answers:
            assert found is None
            return
        # The last answer stands whole; nothing is both an object and known to be none.
        last = answers[-1]
        if last.object is None:
            assert found.known.flat[last.outline].all()
            assert not found.labels.flat[last.outline].any()
        else:
            assert len(set(found.labels.flat[last.object])) == 1
            assert not found.known.flat[last.object].any()
        objects = len(np.unique(found.labels[found.labels > 0]))
        assert objects + found.empty == found.answers <= len(answers)


class TestRuns:
    @given(st.sets(st.integers(0, 10**9)))
    def test_back_and_forth(self, pixels):
        pixels = np.array(sorted(pixels), np.int64)
        np.testing.assert_array_equal(pixels_of(runs_text(pixels)), pixels)

    def test_runs_are_joined(self):
        assert runs_text(LEFT) == "0:3 6:3"

    @pytest.mark.parametrize("text", ["1", "1:0", "-1:2", "5:2 1:1", "1:2:3", "0:9999999999", 7])
    def test_what_is_no_list_of_runs(self, text):
        with pytest.raises(ValueError):
            pixels_of(text)


class TestFile:
    def test_what_was_said_comes_back(self, project):
        answer = said("drawn", LEFT, RIGHT, label=12, variant="v0003", asked=False)
        (kept,) = add_answer(project, IMAGE, answer, SHAPE)
        shape, (read,) = read_answers(project, IMAGE)
        assert shape == SHAPE and kept.at and not kept.replaced
        assert read.to_json() == kept.to_json()
        np.testing.assert_array_equal(read.object, RIGHT)

    def test_without_runs_nothing_is_lost(self, project):
        add_answer(project, IMAGE, said("right", LEFT), SHAPE)
        before = vouched(project, IMAGE)
        shutil.rmtree(project.runs_folder, ignore_errors=True)
        np.testing.assert_array_equal(vouched(project, IMAGE).labels, before.labels)

    def test_the_ids_of_another_run_of_that_name_are_another_question(self, project):
        add_answer(project, IMAGE, said("right", LEFT, label=5), SHAPE)
        first, second = add_answer(project, IMAGE, said("nothing", BELOW, label=5), SHAPE)
        assert not first.replaced and not second.replaced

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"crop": "y=1:5 x=1:7"}, "of part 'none', which is 'y=1:5 x=1:7' now"),
            ({"projection": "max"}, "of projection 'none', which is 'max' now"),
            ({"sha256": "ab" * 32}, "of another file than lies there now"),
        ],
    )
    def test_answers_to_another_part_or_file_do_not_count(self, project, change, words):
        add_answer(project, IMAGE, said("right", LEFT), SHAPE)
        entry, *others = project.images()
        project.write_images([replace(entry, **change), *others])
        with pytest.raises(ProjectError, match=words):
            vouched(project, IMAGE)
        with pytest.raises(ProjectError, match=words):
            add_answer(project, IMAGE, said("right", RIGHT), SHAPE)
        project.write_images([entry, *others])
        assert vouched(project, IMAGE).answers == 1

    def test_answers_of_earlier_versions_count(self, project):
        add_answer(project, IMAGE, said("right", LEFT), SHAPE)
        file = project.answers_file(IMAGE)
        told = read_json(file)
        del told["of"]
        file.write_text(json.dumps(told))
        assert vouched(project, IMAGE).answers == 1

    def test_the_same_question_again_replaces(self, project):
        add_answer(project, IMAGE, said("right", LEFT), SHAPE)
        first, second = add_answer(project, IMAGE, said("nothing", LEFT), SHAPE)
        assert first.replaced and not second.replaced
        assert vouched(project, IMAGE).empty == 1 and not vouched(project, IMAGE).labels.any()
        assert len(read_json(project.answers_file(IMAGE))["answers"]) == 2

    def test_a_like_outline_of_another_variant_replaces(self, project):
        add_answer(project, IMAGE, said("right", LEFT), SHAPE)
        other = said("nothing", LEFT[:5], variant="v0009", run="run-0002")
        assert [one.replaced for one in add_answer(project, IMAGE, other, SHAPE)] == [True, False]
        third = said("nothing", RIGHT, variant="v0009")
        assert [one.replaced for one in add_answer(project, IMAGE, third, SHAPE)] == [
            True, False, False,
        ]  # fmt: skip

    def test_two_objects_of_one_merged_outline_both_stand(self, project):
        left, right = BELOW[[0, 1, 4, 5]], BELOW[[2, 3, 6, 7]]
        add_answer(project, IMAGE, said("drawn", BELOW, left), SHAPE)
        both = add_answer(project, IMAGE, said("drawn", BELOW, right, variant="v0002"), SHAPE)
        assert [one.replaced for one in both] == [False, False]
        assert vouched(project, IMAGE).answers == 2

    def test_what_stands_is_not_recorded_again(self, project):
        add_answer(project, IMAGE, said("right", LEFT), SHAPE)
        content = project.answers_file(IMAGE).read_bytes()
        assert len(add_answer(project, IMAGE, said("right", LEFT), SHAPE)) == 1
        assert project.answers_file(IMAGE).read_bytes() == content
        assert len(add_answer(project, IMAGE, said("right", LEFT, author="Bob"), SHAPE)) == 2

    def test_pixels_are_sorted(self, project):
        add_answer(project, IMAGE, said("right", LEFT[::-1]), SHAPE)
        np.testing.assert_array_equal(read_answers(project, IMAGE)[1][0].outline, LEFT)

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (said("right", LEFT, author="  "), "nobody"),
            (said("drawn", LEFT), "nothing is drawn"),
            (said("right", LEFT, RIGHT), "draws"),
            (said("right", LEFT + 20), "outline"),
            (said("right", LEFT - 1), "outline"),
            (said("drawn", LEFT, LEFT[:0]), "drawn object"),
        ],
    )
    def test_refusals_write_nothing(self, project, answer, words):
        with pytest.raises(InputError, match=words):
            add_answer(project, IMAGE, answer, SHAPE)
        assert not project.answers_file(IMAGE).exists()

    def test_what_is_not_there(self, project):
        for image in ("i00009-none", "../x"):
            with pytest.raises(NotFoundError):
                add_answer(project, image, said("right", LEFT), SHAPE)
        with pytest.raises(NotFoundError):
            vouched(project, "../x")
        assert vouched(project, IMAGE) is None and read_answers(project, IMAGE) == ((), [])

    def test_an_image_of_another_shape_is_refused(self, project):
        add_answer(project, IMAGE, said("right", LEFT), SHAPE)
        with pytest.raises(ProjectError, match="shape"):
            add_answer(project, IMAGE, said("right", LEFT), (9, 9))
        add_truth(project, IMAGE, save(project, np.ones((9, 9), np.int32)), Whole(), author="Ada")
        with pytest.raises(ProjectError, match="shape"):
            vouched(project, IMAGE)

    @pytest.mark.parametrize(
        "harm",
        [
            lambda record: record.pop("shape"),
            lambda record: record["answers"][0].pop("outline"),
            lambda record: record["answers"][0].update(outline="9:99"),
            lambda record: record["answers"][0].update(outline=""),
            lambda record: record["answers"][0].update(answer="perhaps"),
            lambda record: record["answers"][0].update(colour="red"),
            lambda record: record.update(answers=None),
        ],
    )
    def test_a_damaged_record_is_named(self, project, harm):
        add_answer(project, IMAGE, said("right", LEFT), SHAPE)
        file = project.answers_file(IMAGE)
        record = read_json(file)
        harm(record)
        file.write_text(json.dumps(record))
        for read in (read_answers, vouched):
            with pytest.raises(ProjectError, match=file.name):
                read(project, IMAGE)

    def test_one_writer_at_a_time(self, project, monkeypatch):
        monkeypatch.setattr("opsef_bridge.rois.answers.PATIENCE", 0)
        with (
            lock(project.truth_folder / f".{IMAGE}.answers.lock"),
            pytest.raises(LockedError),
        ):
            add_answer(project, IMAGE, said("right", LEFT), SHAPE)

    def test_many_answer_at_once(self, project):
        answers = [said("right", np.array([2 * n])) for n in range(12)]
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda one: add_answer(project, IMAGE, one, SHAPE), answers))
        assert vouched(project, IMAGE).answers == 12


class TestBesideTruth:
    def test_both_are_vouched_for(self, project):
        labels = np.zeros(SHAPE, np.int32)
        labels.flat[LEFT] = 1
        add_truth(project, IMAGE, save(project, labels), Box(0, 0, 2, 4), author="Ada")
        add_answer(project, IMAGE, said("nothing", BELOW), SHAPE)
        found = vouched(project, IMAGE)
        np.testing.assert_array_equal(found.labels > 0, labels > 0)
        assert found.known.sum() == 8 + len(BELOW)
        assert (found.empty, found.asked, found.answers) == (1, False, 1)

    def test_lists_keep_them_apart(self, project):
        add_truth(project, IMAGE, save(project, np.ones(SHAPE, np.int32)), Whole(), author="Ada")
        add_answer(project, IMAGE, said("right", LEFT), SHAPE)
        add_answer(project, IMAGE, said("nothing", LEFT), SHAPE)
        add_answer(project, "i00002-more", said("right", LEFT, author="Bob"), SHAPE)
        assert [record["image"] for record in list_truth(project)] == [IMAGE]
        one, two = list_answers(project)
        assert one == {
            "image": IMAGE, "answers": 1, "right": 0, "drawn": 0, "nothing": 1, "replaced": 1,
            "by": ["Ada"],
        }  # fmt: skip
        assert (two["image"], two["by"]) == ("i00002-more", ["Bob"])

    def test_places_are_those_that_stand(self):
        gone = replace(said("right", RIGHT), replaced=True)
        places = answered_places([said("drawn", LEFT, BELOW), gone])
        assert [place.tolist() for place in places] == [LEFT.tolist(), BELOW.tolist()]
