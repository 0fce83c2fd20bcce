"""Which object is which after an edit, and what differs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from opsef_bridge.errors import InputError
from opsef_bridge.measure.changes import LARGEST_ID, Changes, align, changes, present

IMAGES = hnp.arrays(np.int32, (7, 9), elements=st.integers(0, 6))


def row(*parts: tuple[int, int]) -> np.ndarray:
    """One row of labels from (label, length) parts."""
    return np.repeat([part[0] for part in parts], [part[1] for part in parts])[None]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint32, np.int64])
def test_present_lists_each_label_once(dtype):
    labels = np.array([[0, 9, 9, 2], [2, 0, 9, 120]], dtype)
    assert present(labels) == [2, 9, 120]


def test_present_of_masks_of_nothing_and_of_large_labels():
    assert present(np.array([[False, True]])) == [1]
    assert present(np.zeros((0, 4), np.int32)) == []
    assert present(np.zeros((3, 4), np.int32)) == []
    assert present(np.array([[0, LARGEST_ID, 70_000]])) == [70_000, LARGEST_ID]
    assert present(np.array([[0, -3, 5]])) == [-3, 5]
    with pytest.raises(InputError, match="float64"):
        present(np.zeros((2, 2)))


@given(hnp.arrays(np.int64, (4, 5), elements=st.sampled_from([0, 0, 1, 2, 65_536, 2**40])))
def test_present_is_what_numpy_finds(labels):
    assert present(labels) == [value for value in np.unique(labels).tolist() if value]


def test_exact_objects_are_found_by_whatever_number():
    base = row((10, 3), (0, 1), (20, 2), (0, 1), (30, 4))
    labels = row((2, 3), (0, 1), (3, 2), (0, 1), (1, 4))
    assert align(base, labels) == {1: 30, 2: 10, 3: 20}


def test_an_exact_object_goes_before_its_number():
    """AnnotatorJ numbered anew after a deletion: 20 is now 10, which is gone."""
    base = row((10, 2), (20, 2), (30, 2))
    assert align(base, row((0, 2), (10, 2), (20, 2))) == {10: 20, 20: 30}


def test_half_the_pixels_are_enough_and_less_are_not():
    base = row((7, 4), (0, 4))
    assert align(base, row((1, 2), (0, 6))) == {1: 7}
    assert align(base, row((1, 1), (0, 7))) == {1: 8}


def test_a_small_rest_keeps_its_own_free_number():
    base = row((7, 9), (0, 1), (3, 2))
    assert align(base, row((7, 1), (0, 9), (3, 2))) == {3: 3, 7: 7}
    away = row((0, 9), (7, 1), (3, 2))
    assert align(base, away) == {3: 3, 7: 8}, "it shares no pixel with what was 7"


def test_the_larger_half_of_a_split_keeps_the_id():
    base = row((5, 7), (0, 1))
    assert align(base, row((1, 2), (0, 1), (2, 4), (0, 1))) == {1: 6, 2: 5}


def test_equal_halves_go_to_the_own_number_then_to_the_lower():
    base = row((5, 4))
    assert align(base, row((2, 2), (3, 2))) == {2: 5, 3: 6}
    assert align(base, row((2, 2), (5, 2))) == {2: 6, 5: 5}


def test_merged_objects_get_the_id_of_the_larger():
    base = row((4, 5), (8, 3))
    assert align(base, row((1, 8))) == {1: 4}


def test_new_ids_lie_above_all_that_were_given():
    base, labels = row((4, 2), (0, 4)), row((1, 2), (0, 1), (9, 1), (0, 1), (2, 1))
    assert align(base, labels) == {1: 4, 2: 5, 9: 6}
    assert align(base, labels, after=70_000) == {1: 4, 2: 70_001, 9: 70_002}
    assert align(base, labels, after=2) == {1: 4, 2: 5, 9: 6}


def test_ids_come_to_an_end():
    base = row((LARGEST_ID, 2), (0, 2))
    assert align(base, row((1, 2), (0, 2))) == {1: LARGEST_ID}
    with pytest.raises(InputError, match=str(LARGEST_ID)):
        align(base, row((0, 2), (1, 2)))


def test_volumes_count_all_planes():
    base = np.zeros((3, 2, 4), np.int32)
    base[:, 0, :2] = 7
    labels = np.where(base, 1, 0)
    labels[2] = 0
    labels[2, 1, 3] = 7
    assert align(base, labels) == {1: 7, 7: 8}


def test_shapes_must_be_the_same():
    for compare in (align, changes):
        with pytest.raises(InputError, match="shape"):
            compare(np.zeros((2, 3), int), np.zeros((3, 2), int))


@given(IMAGES, st.permutations(range(1, 7)))
def test_renumbering_is_seen_through(base, numbers):
    renumbered = np.array([0, *numbers])[base] * 100
    back = align(base, renumbered)
    assert {label: numbers[id_ - 1] * 100 for label, id_ in back.items()} == {
        label: label for label in back
    }


@settings(max_examples=200)
@given(IMAGES, IMAGES, st.integers(0, 20))
def test_ids_differ_and_aligning_again_changes_nothing(base, labels, after):
    ids = align(base, labels, after=after)
    assert list(ids) == present(labels)
    assert len(set(ids.values())) == len(ids)
    new = set(ids.values()) - set(present(base))
    assert all(id_ > max([after, *present(base)]) for id_ in new)
    table = np.zeros(7, np.int32)
    table[list(ids)] = list(ids.values())
    again = align(base, table[labels], after=after)
    kept = {id_: again[id_] for id_ in again if id_ not in new}
    assert kept == {id_: id_ for id_ in kept}


def test_changes_are_named_by_id():
    base = np.array([[1, 1, 2, 0, 3, 70_000]])
    labels = np.array([[1, 0, 0, 4, 3, 70_001]])
    assert changes(base, labels) == Changes([4, 70_001], [2, 70_000], [1])
    assert changes(base, base) == Changes([], [], [])


@given(IMAGES, IMAGES)
def test_changes_are_those_that_a_look_at_each_object_finds(base, labels):
    found = changes(base, labels)
    before, after = set(present(base)), set(present(labels))
    assert found.added == sorted(after - before)
    assert found.deleted == sorted(before - after)
    both = sorted(before & after)
    assert found.changed == [i for i in both if not np.array_equal(base == i, labels == i)]


def test_where_there_are_no_ids_yet_labels_are_ids():
    labels = np.array([[0, 7, 2]])
    assert align(np.zeros_like(labels), labels) == {2: 2, 7: 7}
    assert align(np.zeros_like(labels), labels, after=4) == {2: 5, 7: 6}
