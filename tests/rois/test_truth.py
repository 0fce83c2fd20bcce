"""Truth: where somebody vouches for objects, what later claims do to it, and its files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from opsef_bridge.errors import InputError, NotFoundError, ProjectError
from opsef_bridge.files import lock
from opsef_bridge.images import read_labels, write_labels
from opsef_bridge.project import ImageEntry, Project
from opsef_bridge.rois.merging import ObjectChanges, object_changes
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.revisions import Base, History, Source
from opsef_bridge.rois.truth import (
    Box,
    Touched,
    Truth,
    Whole,
    add_truth,
    fold,
    list_truth,
    parse_scope,
    read_truth,
)

IMAGE = "i00001-cells"
NOTHING = ObjectChanges()


def of(*rows: str, classes=None) -> Objects:
    """Objects drawn with digits, ``.`` is background."""
    picture = [[0 if mark == "." else int(mark) for mark in row] for row in rows]
    return Objects(np.array(picture, np.int32), classes or {})


def drawn(truth: Truth) -> list[str]:
    """The labels with digits; ``.`` is known background, ``?`` is open.

    A digit says nothing of whether its pixel is known.
    """
    marks = np.where(truth.known, ".", "?").astype(object)
    marks[truth.labels > 0] = truth.labels[truth.labels > 0]
    return ["".join(map(str, row)) for row in marks]


def after(*claims: tuple[Objects, object]) -> Truth:
    """Truth after claims for revisions, each made from the one before."""
    truth, before = None, None
    for objects, scope in claims:
        base = before or Objects(np.zeros_like(objects.labels))
        truth, _ = fold(truth, objects, scope, object_changes(base, objects))
        before = objects
    return truth


FIRST = of("11.2", "11.2", "...2", "33..", classes={1: 4, 2: 5})


class TestScopes:
    @pytest.mark.parametrize(
        ("text", "scope"),
        [
            ("whole", Whole()),
            (" Touched\n", Touched()),
            ("3,4,10,20", Box(3, 4, 10, 20)),
            (" 0 , -4, 10,+20 ", Box(0, -4, 10, 20)),
        ],
    )
    def test_text_is_a_scope_and_back(self, text, scope):
        assert parse_scope(text) == scope
        assert parse_scope(str(scope)) == scope

    @pytest.mark.parametrize(
        "text",
        ["", "all", "1,2,3", "1,2,3,4,5", "1.5,2,3,4", "1;2;3;4", "a,b,c,d", "1,2,3,", "٣,1,1,1"],
    )
    def test_anything_else_is_refused(self, text):
        with pytest.raises(InputError, match="whole"):
            parse_scope(text)

    def test_a_box_over_the_border_is_clipped(self):
        assert Box(-2, 3, 4, 9).clipped((7, 6, 5)) == Box(0, 3, 2, 2)
        assert Box(0, 0, 6, 5).clipped((6, 5)) == Box(0, 0, 6, 5)

    @pytest.mark.parametrize(
        "box",
        [Box(6, 0, 1, 1), Box(0, 5, 1, 1), Box(-3, 0, 3, 3), Box(0, -1, 3, 1), Box(1, 1, 0, 3),
         Box(1, 1, 3, -1), Box(-5, 0, -2, 4)],
    )  # fmt: skip
    def test_a_box_without_a_pixel_in_the_image_is_refused(self, box):
        with pytest.raises(InputError, match="6 rows and 5 columns"):
            fold(None, Objects(np.zeros((6, 5), np.int32)), box, NOTHING)


class TestFirstClaim:
    def test_whole_knows_every_pixel(self):
        truth, effect = fold(None, FIRST, Whole(), NOTHING)
        assert truth.known.all() and truth.objects == set()
        np.testing.assert_array_equal(truth.labels, FIRST.labels)
        assert truth.classes == {1: 4, 2: 5}
        assert effect == ([1, 2, 3], [], [], [])

    def test_whole_without_objects_is_background(self):
        truth, effect = fold(None, of("..", ".."), Whole(), NOTHING)
        assert drawn(truth) == ["..", ".."] and effect.vouched == []

    def test_a_box_keeps_objects_whole_and_knows_only_itself(self):
        truth, effect = fold(None, FIRST, Box(1, 1, 2, 2), NOTHING)
        assert drawn(truth) == ["11??", "11.?", "?..?", "????"]
        assert truth.known.sum() == 4 and truth.known[1:3, 1:3].all()
        assert truth.objects == {1} and truth.classes == {1: 4}
        assert effect.reaching_out == effect.vouched == [1]

    def test_an_object_inside_a_box_is_not_vouched_one_by_one(self):
        truth, effect = fold(None, FIRST, Box(0, 0, 3, 3), NOTHING)
        assert drawn(truth)[:3] == ["11.?", "11.?", "...?"]
        assert truth.objects == set() and effect.reaching_out == []

    def test_a_box_goes_through_all_planes(self):
        volume = np.stack(
            [FIRST.labels, np.zeros_like(FIRST.labels), FIRST.labels * (FIRST.labels == 2)]
        )
        truth, _ = fold(None, Objects(volume), Box(2, 3, 1, 9), NOTHING)
        np.testing.assert_array_equal(truth.labels, volume * (volume == 2))
        assert truth.known.sum() == 3 and truth.known[:, 2, 3].all() and truth.objects == {2}

    def test_touched_knows_no_background(self):
        changes = ObjectChanges(added=(3,), deleted=(9,), reclassified={1: (0, 4)})
        truth, effect = fold(None, FIRST, Touched(), changes)
        assert drawn(truth) == ["11??", "11??", "????", "33??"]
        assert not truth.known.any() and truth.objects == {1, 3} and truth.classes == {1: 4}
        assert effect == ([1, 3], [], [], [])

    def test_touched_needs_a_touched_object(self):
        with pytest.raises(InputError, match="touched no object"):
            fold(None, FIRST, Touched(), NOTHING)


class TestLaterClaims:
    def test_whole_replaces_all_of_any_shape(self):
        wider = of("5....", "....5")
        truth, _ = fold(None, FIRST, Whole(), NOTHING)
        truth, effect = fold(truth, wider, Whole(), NOTHING)
        assert drawn(truth) == ["5....", "....5"] and truth.classes == {}
        assert effect.removed == [1, 2, 3]

    @pytest.mark.parametrize("scope", [Box(0, 0, 1, 1), Touched()])
    def test_other_claims_need_the_same_shape(self, scope):
        truth, _ = fold(None, FIRST, Whole(), NOTHING)
        with pytest.raises(InputError, match=r"shape \(1, 2\), truth \(4, 4\)"):
            fold(truth, of("1."), scope, ObjectChanges(added=(1,)))

    def test_touched_leaves_the_others_as_they_were(self):
        # 1 shrank, 3 has another class, 2 is gone, 4 is new where 2 was.
        second = of("1..4", "1...", "....", "33..", classes={3: 1})
        truth = after((FIRST, Whole()), (second, Touched()))
        assert drawn(truth) == ["1..4", "1...", "....", "33.."]
        assert truth.known.all() and truth.classes == {3: 1}

    def test_touched_does_not_speak_of_edits_between(self):
        # Nobody vouches for the second revision, in which 2 was deleted and 3 moved.
        second = of("11..", "11..", "....", "..33")
        third = of("1...", "11..", "....", "..33")
        truth, _ = fold(None, FIRST, Whole(), NOTHING)
        truth, effect = fold(truth, third, Touched(), object_changes(second, third))
        assert drawn(truth) == ["1..2", "11.2", "...2", "33.."] and truth.known.all()
        assert effect == ([1], [], [], [])

    def test_a_deleted_object_is_removed_and_its_place_stays_known(self):
        second = of("...2", "...2", "...2", "33..", classes={2: 5})
        truth = after((FIRST, Box(0, 0, 2, 2)), (second, Touched()))
        assert drawn(truth) == ["..??", "..??", "????", "????"] and truth.classes == {}

    def test_all_deleted(self):
        truth = after((FIRST, Whole()), (of(*["...."] * 4), Touched()))
        assert drawn(truth) == ["...."] * 4

    def test_what_is_under_an_object_nobody_vouched_for_is_open(self):
        # 4 came without a claim; then 1 shrank away from under it.
        second, third = of("11.4", "11.."), of("14..", "11..")
        truth, _ = fold(None, of("11..", "11.."), Whole(), NOTHING)
        truth, _ = fold(truth, third, Touched(), ObjectChanges(changed=(1,)))
        assert drawn(truth) == ["1?..", "11.."]
        assert second.ids == third.ids

    def test_a_box_replaces_what_lies_in_it(self):
        second = of("....", "5...", "....", "6...", classes={5: 9})
        truth = after((FIRST, Whole()), (second, Box(0, 0, 3, 3)))
        assert drawn(truth) == ["...2", "5..2", "...2", "33.."]
        assert truth.known.all() and truth.classes == {2: 5, 5: 9}

    def test_an_object_reaching_out_of_a_box_replaces_what_it_covers(self):
        # 7 covers a pixel of 2 outside of the box: nobody says what 2 looks like now.
        second = of("....", ".777", "....", "33..")
        truth, _ = fold(None, FIRST, Whole(), NOTHING)
        truth, effect = fold(truth, second, Box(1, 1, 1, 2), NOTHING)
        assert drawn(truth) == ["...?", ".777", "...?", "33.."]
        assert effect == ([7], [7], [1], [2])
        assert truth.objects == set()  # where 7 reaches out, every pixel was known before

    def test_an_object_that_left_the_box_is_withdrawn(self):
        second = of("...2", "...2", "..11", "33..")
        truth, _ = fold(None, FIRST, Whole(), NOTHING)
        truth, effect = fold(truth, second, Box(0, 0, 1, 2), NOTHING)
        assert drawn(truth) == ["...2", "??.2", "...2", "33.."] and effect.withdrawn == [1]

    def test_the_same_id_is_the_same_object(self):
        moved = of("....", "....", "....", "3..1")
        truth = after((FIRST, Box(0, 0, 2, 2)), (moved, Box(3, 3, 1, 1)))
        assert drawn(truth) == ["..??", "..??", "????", "???1"]

    def test_the_same_claim_again_changes_nothing(self):
        for scope in (Whole(), Box(1, 1, 2, 2), Touched()):
            once, _ = fold(None, FIRST, scope, ObjectChanges(added=(1, 3)))
            twice, effect = fold(once, FIRST, scope, ObjectChanges(added=(1, 3)))
            assert twice.same_as(once) and effect.removed == effect.withdrawn == []


LABELS = arrays(np.int32, (4, 5), elements=st.sampled_from([0, 0, 1, 2, 3, 4]))
BOXES = st.builds(Box, st.integers(0, 3), st.integers(0, 4), st.integers(1, 4), st.integers(1, 5))
SCOPES = st.one_of(st.just(Whole()), st.just(Touched()), BOXES)


def pixels(labels: np.ndarray, id_: int) -> bytes:
    return (labels == id_).tobytes()


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(LABELS, SCOPES), min_size=1, max_size=5))
def test_whatever_is_claimed(claims):
    truth, before = None, Objects(np.zeros((4, 5), np.int32))
    seen: dict[int, set[bytes]] = {}
    for labels, scope in claims:
        objects = Objects(labels, {id_: id_ for id_ in np.unique(labels) if id_ % 2})
        changes, before = object_changes(before, objects), objects
        if isinstance(scope, Touched) and not changes:
            continue
        was = truth
        truth, effect = fold(truth, objects, scope, changes)
        for id_ in objects.ids:
            seen.setdefault(id_, set()).add(pixels(labels, id_))
        # Every object is what some revision has, and the claimed ones are this one's.
        for id_ in np.unique(truth.labels[truth.labels > 0]).tolist():
            assert pixels(truth.labels, id_) in seen[id_]
            assert truth.classes.get(id_, 0) in (0, id_)
        for id_ in effect.vouched:
            assert pixels(truth.labels, id_) == pixels(labels, id_)
        assert set(truth.classes) <= set(truth.labels.ravel().tolist())
        if isinstance(scope, Touched):
            assert set(effect.vouched) == changes.touched & set(objects.ids)
            assert not set(changes.deleted) & set(truth.labels.ravel().tolist())
            assert not (truth.known & ~(was.known if was else np.zeros((4, 5), bool))).any()
        else:
            box = scope.clipped((4, 5)) if isinstance(scope, Box) else Box(0, 0, 4, 5)
            area = np.s_[box.y : box.y + box.height, box.x : box.x + box.width]
            np.testing.assert_array_equal(truth.labels[area], labels[area])
            assert truth.known[area].all()
        # Outside `known` is nothing but the objects that are vouched for one by one.
        open_ = truth.labels[~truth.known]
        assert set(open_[open_ > 0].tolist()) == truth.objects


@pytest.fixture
def project(tmp_path) -> Project:
    project = Project(tmp_path)
    shape = FIRST.labels.shape
    entries = [ImageEntry(f"i0000{n}-{name}", f"{name}.tif", axes="YX", shape=shape, unit="um",
                          pixel_size_x=0.5, pixel_size_y=0.5)
               for n, name in ((1, "cells"), (2, "more"))]  # fmt: skip
    project.write_images(entries)
    return project


def save(project: Project, objects: Objects, *, image: str = IMAGE, blind: bool = False) -> str:
    """Save the next revision of an image; return its id."""
    history = History(project, image)
    head = history.head()
    base = Base(revision=head.id) if head else Base(run="run-0001", variant="v0003")
    number = len(history.revisions()) + 1
    saved = history.save(
        objects,
        base=base,
        base_objects=None if head else Objects(np.zeros_like(objects.labels)),
        author="Ada",
        source=Source(file="a.zip", sha256=f"{number:064x}", kind="imagej-zip"),
        blind=blind,
    )
    return saved.revision.id


SECOND = of("11.2", "11..", "....", "33.4", classes={1: 4, 2: 6})


class TestFiles:
    def test_a_claim_is_written_and_read(self, project):
        first = save(project, FIRST, blind=True)
        record = add_truth(project, IMAGE, first, Box(2, 2, 5, 5), author=" Ada ")
        truth = read_truth(project, IMAGE)
        assert drawn(truth) == ["???2", "???2", "??.2", "??.."]
        assert truth.labels.dtype == np.int32 and truth.known.dtype == bool
        assert truth.objects == {2} and truth.classes == {2: 5}
        assert truth.record == {k: v for k, v in record.items() if k != "new"} and record["new"]
        (claim,) = record["claims"]
        expected = {"scope": "box", "box": [2, 2, 2, 2], "revision": first, "author": "Ada",
                    "blind": True, "run": "run-0001", "variant": "v0003", "objects": 1,
                    "ids": [2], "reaching_out": [2], "removed": [], "withdrawn": []}  # fmt: skip
        assert expected.items() <= claim.items() and claim["at"].endswith("+00:00")
        assert record["known_pixels"] == 4 and record["shape"] == [4, 4]
        labels = read_labels(project.truth_file(IMAGE).with_suffix(".tif"))
        np.testing.assert_array_equal(labels, truth.labels)

    def test_claims_of_revisions_add_up(self, project):
        first, second = save(project, FIRST), save(project, SECOND)
        add_truth(project, IMAGE, first, Whole(), author="Ada")
        record = add_truth(project, IMAGE, second, Touched(), author="Bob")
        truth = read_truth(project, IMAGE)
        assert drawn(truth) == ["11.2", "11..", "....", "33.4"] and truth.known.all()
        assert truth.classes == {1: 4, 2: 6}
        assert [claim["author"] for claim in record["claims"]] == ["Ada", "Bob"]
        # The second revision was made from the first, and that from the variant.
        assert {claim["variant"] for claim in record["claims"]} == {"v0003"}

    def test_an_older_revision_can_be_claimed_later(self, project):
        first, second = save(project, FIRST), save(project, SECOND)
        for revision in (first, second, first):
            assert add_truth(project, IMAGE, revision, Whole(), author="Ada")["new"]
        np.testing.assert_array_equal(read_truth(project, IMAGE).labels, FIRST.labels)

    def test_the_same_claim_twice_is_one(self, project):
        first = save(project, FIRST)
        add_truth(project, IMAGE, first, Box(0, 0, 9, 9), author="Ada")
        files = {f.name: f.read_bytes() for f in project.truth_folder.iterdir()}
        again = add_truth(project, IMAGE, first, Box(-1, -1, 9, 9), author="Ada")
        assert not again["new"] and len(again["claims"]) == 1
        for name, content in files.items():
            if not name.endswith(".lock"):
                assert (project.truth_folder / name).read_bytes() == content
        other = add_truth(project, IMAGE, first, Box(0, 0, 4, 4), author="Bob")
        assert other["new"] and len(other["claims"]) == 2

    def test_a_revision_without_objects(self, project):
        save(project, FIRST)
        empty = save(project, of(*["...."] * 4))
        add_truth(project, IMAGE, empty, Whole(), author="Ada")
        truth = read_truth(project, IMAGE)
        assert drawn(truth) == ["...."] * 4 and truth.objects == set()

    @pytest.mark.parametrize("harm", ["labels gone", "mask gone", "labels edited", "mask edited"])
    def test_labels_and_mask_are_made_again_from_the_claims(self, project, harm):
        first, second = save(project, FIRST), save(project, SECOND)
        add_truth(project, IMAGE, first, Box(0, 0, 4, 2), author="Ada")
        add_truth(project, IMAGE, second, Touched(), author="Ada")
        before = read_truth(project, IMAGE)
        what, how = harm.split()
        file = project.truth_file(IMAGE).with_suffix({"labels": ".tif", "mask": ".known.tif"}[what])
        if how == "gone":
            file.unlink()
        else:
            write_labels(file, np.ones((4, 4), np.uint8))
        truth = read_truth(project, IMAGE)
        assert truth.same_as(before) and truth.record == before.record
        add_truth(project, IMAGE, second, Whole(), author="Ada")
        assert read_truth(project, IMAGE).known.all()

    def test_a_crash_before_the_record_leaves_the_truth_from_before(self, project, monkeypatch):
        first, second = save(project, FIRST), save(project, SECOND)
        add_truth(project, IMAGE, first, Whole(), author="Ada")

        def crash(*_):
            raise OSError("no space left")

        with monkeypatch.context() as patch, pytest.raises(OSError, match="space"):
            patch.setattr("opsef_bridge.rois.truth.write_json", crash)
            add_truth(project, IMAGE, second, Whole(), author="Ada")
        truth = read_truth(project, IMAGE)
        np.testing.assert_array_equal(truth.labels, FIRST.labels)
        assert len(truth.record["claims"]) == 1

    def test_the_list_has_all_images(self, project):
        assert list_truth(project) == []
        for image in ("i00002-more", IMAGE):
            revision = save(project, FIRST, image=image)
            add_truth(project, image, revision, Whole(), author="Ada")
        records = list_truth(project)
        assert [record["image"] for record in records] == [IMAGE, "i00002-more"]
        assert records[0] == read_truth(project, IMAGE).record

    def test_what_is_not_there(self, project):
        for image in (IMAGE, "i00009-none", "../x"):
            with pytest.raises(NotFoundError):
                read_truth(project, image)
            with pytest.raises(NotFoundError):
                add_truth(project, image, "r0001", Whole(), author="Ada")

    def test_refusals_write_nothing(self, project):
        first = save(project, FIRST)
        for scope, author in ((Whole(), "  "), (Box(9, 9, 1, 1), "Ada")):
            with pytest.raises(InputError):
                add_truth(project, IMAGE, first, scope, author=author)
        with pytest.raises(NotFoundError):
            add_truth(project, IMAGE, "r0002", Whole(), author="Ada")
        assert list_truth(project) == []

    @pytest.mark.parametrize("content", ["{", "[1]", "{}", json.dumps({"image": IMAGE})])
    def test_a_damaged_record_is_named(self, project, content):
        file = project.truth_file(IMAGE)
        file.parent.mkdir()
        file.write_text(content)
        for read in (lambda: read_truth(project, IMAGE), lambda: list_truth(project)):
            with pytest.raises(ProjectError, match=file.name):
                read()

    def test_one_writer_at_a_time(self, project):
        first = save(project, FIRST)
        with lock(project.truth_folder / f".{IMAGE}.lock"), pytest.raises(Exception, match="held"):
            add_truth(project, IMAGE, first, Whole(), author="Ada")
