"""Two edits of the same objects, joined where they do not meet."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from opsef_bridge.errors import InputError
from opsef_bridge.rois.merging import ObjectChanges, identify, merge, object_changes
from opsef_bridge.rois.objects import Objects

LABELS = hnp.arrays(np.int32, (5, 6), elements=st.integers(0, 5))
CLASSES = st.dictionaries(st.integers(1, 5), st.integers(1, 3))
EDITS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(1, 3), st.integers(0, 7)),
    max_size=3,
)


@st.composite
def objects(draw):
    """Any objects: labels 1 to 5, some of them classified."""
    labels = draw(LABELS)
    classes = draw(CLASSES)
    return Objects(labels, {k: v for k, v in classes.items() if (labels == k).any()})


@st.composite
def edited(draw, base):
    """`base` with a few boxes painted over, and other classes."""
    labels = base.labels.copy()
    for y, x, side, value in draw(EDITS):
        labels[y : y + side, x : x + side] = value
    classes = {**base.classes, **draw(CLASSES)}
    classes = {k: v for k, v in classes.items() if (labels == k).any()}
    return identify(base, Objects(labels, classes))


@st.composite
def two_edits(draw):
    """Base and two edits of it."""
    base = draw(objects())
    return base, draw(edited(base)), draw(edited(base))


def of(*values: int, classes: dict[int, int] | None = None) -> Objects:
    """Objects on one row."""
    return Objects(np.array([values], np.int32), classes or {})


def row(merged) -> list[int]:
    """The one row of what a merge gave."""
    return merged.objects.labels[0].tolist()


def pixel_sets(found: Objects) -> set[tuple[bytes, int]]:
    """Objects as pixels and class, whatever their numbers."""
    return {((found.labels == i).tobytes(), found.classes.get(i, 0)) for i in found.ids}


BASE = of(1, 1, 0, 2, 2, 0, 3, 3, classes={1: 1})


def test_changes_of_an_edit():
    new = of(1, 1, 0, 2, 0, 0, 4, 0, classes={1: 2, 2: 5})
    made = object_changes(BASE, new)
    assert made == ObjectChanges((4,), (3,), (2,), {1: (1, 2), 2: (0, 5)})
    assert made.touched == {1, 2, 3, 4}
    assert made.summary() == "1 added, 1 deleted, 1 changed, 2 reclassified"


def test_no_changes_are_false():
    made = object_changes(BASE, BASE)
    assert not made and made.summary() == "nothing changed" and made.touched == frozenset()
    assert object_changes(BASE, of(1, 1, 0, 2, 2, 0, 3, 3))


def test_a_class_of_an_added_or_deleted_object_is_no_reclassification():
    made = object_changes(BASE, of(0, 0, 4, 2, 2, 0, 3, 3, classes={4: 3}))
    assert made == ObjectChanges((4,), (1,), (), {})


def test_changes_survive_json():
    made = ObjectChanges((7, 70_000), (2,), (5,), {1: (0, 255), 5: (3, 0)})
    assert ObjectChanges.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize("broken", [{}, {"added": 3}, {"added": ["x"]}, None])
def test_broken_json_of_changes_raises_plain_errors(broken):
    with pytest.raises((KeyError, TypeError, ValueError)):
        ObjectChanges.from_json(broken)


def test_identify_carries_classes_to_the_ids_of_the_base():
    new = identify(BASE, of(9, 9, 0, 0, 0, 5, 7, 7, classes={9: 4, 5: 6}))
    assert new.labels[0].tolist() == [1, 1, 0, 0, 0, 4, 3, 3]
    assert new.classes == {1: 4, 4: 6}


def test_different_objects_of_the_two_sides_are_joined():
    theirs = of(1, 0, 0, 2, 2, 0, 3, 3, classes={1: 1})
    ours = of(1, 1, 0, 0, 0, 4, 3, 3, classes={1: 1, 4: 2})
    merged = merge(BASE, theirs, ours)
    assert row(merged) == [1, 0, 0, 0, 0, 4, 3, 3]
    assert merged.objects.classes == {1: 1, 4: 2}
    assert merged.conflicts == ()
    assert merged.taken == "theirs: 1 changed; ours: 1 added, 1 deleted"


def test_class_of_one_and_shape_of_the_other_are_both_kept():
    shape = of(1, 1, 1, 2, 2, 0, 3, 3, classes={1: 1})
    kind = of(1, 1, 0, 2, 2, 0, 3, 3, classes={1: 7})
    for theirs, ours in ((shape, kind), (kind, shape)):
        merged = merge(BASE, theirs, ours)
        assert row(merged) == [1, 1, 1, 2, 2, 0, 3, 3]
        assert merged.objects.classes == {1: 7}


def test_a_class_taken_away_by_one_side_is_gone():
    merged = merge(BASE, BASE, of(1, 1, 0, 2, 2, 0, 3, 3))
    assert merged.objects.classes == {}


def test_the_same_edit_by_both_is_taken_once():
    both = of(1, 0, 4, 2, 2, 0, 0, 0, classes={1: 3, 4: 2})
    merged = merge(BASE, both, both)
    assert merged.objects.same_as(both) and merged.conflicts == ()


def test_twins_by_other_ids_are_one_object():
    theirs = of(1, 1, 4, 2, 2, 5, 3, 3, classes={1: 1})
    ours = of(1, 1, 0, 2, 2, 4, 3, 3, classes={1: 1})
    assert merge(BASE, theirs, ours).objects.same_as(theirs)


def test_twins_of_different_classes_are_in_conflict():
    theirs = of(1, 1, 4, 2, 2, 0, 3, 3, classes={1: 1, 4: 2})
    ours = of(1, 1, 9, 2, 2, 0, 3, 3, classes={1: 1, 9: 3})
    (conflict,) = merge(BASE, theirs, ours).conflicts
    assert (conflict.id, conflict.base, conflict.theirs, conflict.ours) == (
        (4, "absent", "added", "added")
    )
    assert merge(BASE, theirs, ours, resolve="ours").objects.classes == {1: 1, 4: 3}


def test_an_id_that_both_gave_goes_to_theirs():
    theirs = of(1, 1, 4, 2, 2, 0, 3, 3, classes={1: 1})
    ours = of(1, 1, 0, 2, 2, 4, 3, 3, classes={1: 1, 4: 2})
    merged = merge(BASE, theirs, ours, after=70_000)
    assert row(merged) == [1, 1, 4, 2, 2, 70_001, 3, 3]
    assert merged.objects.classes == {1: 1, 70_001: 2}
    assert row(merge(BASE, theirs, ours)) == [1, 1, 4, 2, 2, 5, 3, 3]


@pytest.mark.parametrize(
    ("theirs", "ours", "words"),
    [
        ((1, 0, 0), (0, 1, 0), ("changed", "changed")),
        ((0, 0, 0), (1, 1, 1), ("deleted", "changed")),
        ((1, 0, 0), (0, 0, 0), ("changed", "deleted")),
    ],
)
def test_one_object_in_two_ways_is_a_conflict(theirs, ours, words):
    base, theirs, ours = of(1, 1, 0), of(*theirs), of(*ours)
    merged = merge(base, theirs, ours)
    assert merged.objects is None
    (conflict,) = merged.conflicts
    assert (conflict.id, conflict.base, conflict.theirs, conflict.ours) == (1, "present", *words)
    assert merge(base, theirs, ours, resolve="ours").objects.same_as(ours)
    assert merge(base, theirs, ours, resolve="theirs").objects.same_as(theirs)


def test_classes_in_two_ways_are_a_conflict_and_pixels_go_along():
    theirs = of(1, 1, 1, 2, 2, 0, 3, 3, classes={1: 2})
    ours = of(1, 1, 0, 2, 2, 0, 3, 3)
    merged = merge(BASE, theirs, ours)
    (conflict,) = merged.conflicts
    assert conflict.theirs == "changed, reclassified 1 -> 2"
    assert conflict.ours == "reclassified 1 -> 0"
    assert merge(BASE, theirs, ours, resolve="ours").objects.same_as(ours)
    assert merge(BASE, theirs, ours, resolve="theirs").objects.same_as(theirs)


def test_new_objects_in_one_place_are_a_conflict_that_names_both():
    base, theirs, ours = of(1, 0, 0, 0, 0), of(1, 2, 2, 0, 0), of(1, 0, 2, 2, 0)
    found = merge(base, theirs, ours).conflicts
    assert [(c.id, c.theirs, c.ours, c.others) for c in found] == [
        (2, "added", "absent", (3,)),
        (3, "absent", "added", (2,)),
    ]
    assert row(merge(base, theirs, ours, resolve="ours")) == [1, 0, 3, 3, 0]
    assert row(merge(base, theirs, ours, resolve="theirs")) == [1, 2, 2, 0, 0]


def test_growth_over_an_object_of_the_other_is_a_conflict():
    base, theirs, ours = of(1, 0, 0, 2), of(1, 1, 1, 2), of(1, 0, 2, 2)
    found = merge(base, theirs, ours).conflicts
    assert [c.id for c in found] == [1, 2]
    assert row(merge(base, theirs, ours, resolve="ours")) == [1, 0, 2, 2]


def test_an_object_that_is_put_back_gets_its_whole_place_back():
    """They joined 1 and 2; we gave 2 a class. With ours, 1 has its old pixels again."""
    base, theirs = of(1, 1, 2, 0), of(1, 1, 1, 0)
    ours = of(1, 1, 2, 0, classes={2: 5})
    found = merge(base, theirs, ours).conflicts
    assert [(c.id, c.theirs, c.ours) for c in found] == [
        (1, "changed", "present"),
        (2, "deleted", "reclassified 0 -> 5"),
    ]
    assert merge(base, theirs, ours, resolve="ours").objects.same_as(ours)
    assert merge(base, theirs, ours, resolve="theirs").objects.same_as(theirs)


def test_what_is_not_in_conflict_is_joined_whoever_wins():
    base = of(1, 1, 0, 2, 0, 0, 3)
    theirs, ours = of(1, 0, 0, 0, 0, 0, 3), of(0, 1, 0, 2, 4, 0, 3)
    assert row(merge(base, theirs, ours, resolve="theirs")) == [1, 0, 0, 0, 4, 0, 3]
    assert row(merge(base, theirs, ours, resolve="ours")) == [0, 1, 0, 0, 4, 0, 3]
    assert merge(base, theirs, ours, resolve="ours").taken.endswith(
        "1 object in conflict taken from ours"
    )


def test_a_conflict_says_where_in_a_volume():
    base = np.zeros((2, 3, 4), np.int32)
    base[1, 2, 1:3] = 70_000
    theirs, ours = base.copy(), base.copy()
    theirs[1, 2, 1] = 0
    ours[1, 2, 2] = 0
    (conflict,) = merge(Objects(base), Objects(theirs), Objects(ours)).conflicts
    assert conflict.id == 70_000 and conflict.place == (1, 2, 1)
    assert json.loads(json.dumps(conflict.to_json()))["place"] == [1, 2, 1]


def test_bad_inputs():
    with pytest.raises(InputError, match="mine"):
        merge(BASE, BASE, BASE, resolve="mine")
    with pytest.raises(InputError, match="shape"):
        merge(BASE, BASE, of(1, 1))
    with pytest.raises(InputError, match="shape"):
        merge(of(1, 1), BASE, BASE)


@given(objects().flatmap(lambda base: st.tuples(st.just(base), edited(base))))
def test_an_edit_of_one_side_alone_is_the_result(pair):
    base, edit = pair
    assert merge(base, base, edit).objects.same_as(edit)
    assert merge(base, edit, base).objects.same_as(edit)
    assert merge(base, edit, edit).objects.same_as(edit)


@settings(max_examples=200)
@given(two_edits())
def test_sides_can_be_swapped(three):
    base, theirs, ours = three
    one, other = merge(base, theirs, ours), merge(base, ours, theirs)
    assert len(one.conflicts) == len(other.conflicts)
    if one.objects is not None:
        assert pixel_sets(one.objects) == pixel_sets(other.objects)
    first = merge(base, theirs, ours, resolve="ours").objects
    second = merge(base, ours, theirs, resolve="theirs").objects
    assert pixel_sets(first) == pixel_sets(second)


@settings(max_examples=200)
@given(two_edits(), st.sampled_from(["ours", "theirs"]))
def test_every_object_is_whole_and_that_of_one_side(three, resolve):
    base, theirs, ours = three
    merged = merge(base, theirs, ours, resolve=resolve).objects
    pixels = {found for found, _ in pixel_sets(merged)}
    assert pixels <= {found for found, _ in pixel_sets(theirs) | pixel_sets(ours)}


@settings(max_examples=200)
@given(two_edits())
def test_without_conflict_nothing_that_a_side_did_is_lost(three):
    base, theirs, ours = three
    merged = merge(base, theirs, ours).objects
    assume(merged is not None)
    for side in (theirs, ours):
        made = object_changes(base, side)
        found = {pixels for pixels, _ in pixel_sets(merged)}
        assert all((side.labels == i).tobytes() in found for i in (*made.added, *made.changed))
        assert not set(made.deleted) & set(merged.ids)
        assert all(merged.classes.get(i, 0) == new for i, (_, new) in made.reclassified.items())


@given(objects(), st.permutations(range(1, 6)))
def test_renumbered_objects_are_the_same(base, numbers):
    new = base.renumbered({old: numbers[old - 1] + 50 for old in base.ids})
    assert identify(base, new).same_as(base)
