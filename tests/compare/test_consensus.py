from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from opsef_bridge.compare.consensus import consensus, work_list
from opsef_bridge.compare.groups import object_groups
from opsef_bridge.errors import InputError


def grouped(images, *supports):
    return object_groups(images, [np.array(values, float) for values in supports])


def test_the_better_supported_of_two_views_is_painted():
    whole, split = np.array([[1, 1, 1, 1, 1, 1]]), np.array([[4, 4, 4, 0, 9, 9]])
    groups = grouped([whole, split], [0.6], [0.9, 0.8])
    assert consensus([whole, split], groups).tolist() == [[1, 1, 1, 0, 2, 2]]
    groups = grouped([whole, split], [0.95], [0.9, 0.8])
    assert consensus([whole, split], groups).tolist() == [[1, 1, 1, 1, 1, 1]]


def test_an_object_that_is_touched_a_little_gets_what_is_free():
    left, right = np.zeros((2, 1, 10), int)
    left[:, :5] = 3
    right[:, 4:] = 8
    groups = grouped([left, right], [0.9], [0.8])
    assert consensus([left, right], groups).tolist() == [[1] * 5 + [2] * 5]
    assert consensus([left, right], groups, overlap=0.1).tolist() == [[1] * 5 + [0] * 5]


def test_what_hardly_anybody_has_is_left_out():
    image = np.array([[1, 0, 2]])
    groups = grouped([image, None], [0.4, 0.6], [])
    assert consensus([image, None], groups).tolist() == [[0, 0, 1]]
    assert consensus([image, None], groups, supported=0).tolist() == [[2, 0, 1]]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(hnp.arrays(np.int32, (3, 4, 5), elements=st.integers(0, 5)), min_size=1, max_size=3)
)
def test_every_painted_object_is_most_of_an_object_of_some_variant(images):
    supports = [np.full(len(np.unique(i[i > 0])), 0.7) for i in images]
    painted = consensus(images, object_groups(images, supports))
    assert sorted(np.unique(painted[painted > 0])) == list(range(1, painted.max() + 1))
    for number in range(1, painted.max() + 1):
        here = painted == number
        shares = [
            here.sum() / (image == n).sum()
            for image in images
            for n in np.unique(image[here])
            if n and (image[here] == n).all()
        ]
        assert max(shares) >= 0.75
    # Where nothing is painted, no object fits any more.
    for image in images:
        for n in np.unique(image[image > 0]):
            assert (painted[image == n] > 0).mean() > 0.25


def test_the_outline_is_voted_by_weight():
    images = [np.zeros((1, 12), int) for _ in range(3)]
    for number, (image, end) in enumerate(zip(images, (6, 8, 9), strict=True), start=3):
        image[0, 2:end] = number
    groups = grouped(images, [0.9], [0.8], [0.7])

    def ends(*says):
        painted = consensus(images, groups, says=np.array(says, float))
        assert set(np.unique(painted)) == {0, 1}
        assert (painted[0, 2 : painted.sum() + 2] == 1).all()
        return painted.sum() + 2

    assert ends(1, 1, 1) == 8  # more than half of them
    assert ends(5, 1, 1) == 6
    assert ends(1, 1, 5) == 9
    assert ends(2, 1, 1) == 6  # on half the best supported object decides
    assert ends(1e-9, 1e-9, 1) == 9
    assert consensus(images, groups).sum() == 4


def test_who_does_not_have_an_object_has_no_vote_on_it():
    one = np.array([[1, 1, 1, 0, 0, 0]])
    other = np.array([[0, 0, 0, 0, 7, 7]])
    groups = grouped([one, None, other], [0.9], [], [0.8])
    painted = consensus([one, None, other], groups, says=np.array([1e-3, 1, 1]))
    assert painted.tolist() == [[1, 1, 1, 0, 2, 2]]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(hnp.arrays(np.int32, (3, 4, 5), elements=st.integers(0, 5)), min_size=2, max_size=4),
    st.lists(st.floats(1e-6, 1), min_size=4, max_size=4),
)
def test_votes_of_equal_images_paint_them_and_of_others_nothing_that_nobody_has(images, says):
    weights = np.array(says)
    supports = [np.full(len(np.unique(i[i > 0])), 0.7) for i in images]
    groups = object_groups(images, supports)
    painted = consensus(images, groups, says=weights[: len(images)])
    assert sorted(np.unique(painted[painted > 0])) == list(range(1, painted.max() + 1))
    assert (np.any(images, axis=0) | (painted == 0)).all()
    same = [images[0]] * 3
    groups = object_groups(same, supports[:1] * 3)
    voted = consensus(same, groups, says=weights[:3])
    assert (voted == consensus(same, groups)).all()


def test_what_is_wholly_taken_has_no_number():
    whole, part = np.array([[1, 1, 1, 1, 1]]), np.array([[0, 2, 0, 3, 3]])
    groups = grouped([whole, part], [0.9], [0.8, 0.7])
    assert consensus([whole, part], groups, overlap=1).tolist() == [[1] * 5]


def test_no_labels_and_shares_that_are_none_are_refused():
    with pytest.raises(InputError, match="no variant has labels"):
        consensus([None], grouped([None], []))
    image = np.array([[1]])
    with pytest.raises(InputError, match="overlap is 2"):
        consensus([image], grouped([image], [1]), overlap=2)


def listed(images, variant, *supports, **how):
    """The work list of one variant, and how often the labels of each were read."""
    asked = []

    def read(position):
        asked.append(position)
        return images[position]

    groups = grouped(images, *supports)
    found = work_list(read, groups, variant, np.array(supports[variant], float), **how)
    return [(one.what, one.variant, one.label, one.support) for one in found], asked, found


def test_the_work_list_has_doubtful_objects_first_and_then_what_is_missing():
    mine = np.array([[1, 0, 2, 0, 3, 0, 0, 0, 0]])
    other = np.array([[6, 0, 0, 0, 0, 0, 7, 0, 8]])
    third = np.array([[0, 0, 0, 0, 0, 0, 0, 0, 5]])
    found, asked, items = listed([mine, other, third], 0, [0.9, 0.4, 0.2], [0.9, 0.7, 0.3], [0.8])
    assert found == [
        ("doubtful", 0, 3, 0.2),
        ("doubtful", 0, 2, 0.4),
        ("missing", 2, 5, 0.8),
        ("missing", 1, 7, 0.7),
    ]
    assert sorted(asked) == [0, 1, 2]
    assert [one.box.tolist() for one in items] == [
        [0, 4, 1, 5], [0, 2, 1, 3], [0, 8, 1, 9], [0, 6, 1, 7],
    ]  # fmt: skip
    found, asked, _ = listed([mine, other], 0, [0.9, 0.4, 0.2], [0.9, 0.7, 0.3], supported=0.1)
    assert [label for *_, label, _ in found] == [7, 8]
    assert sorted(asked) == [0, 1]


def test_what_lies_on_a_better_supported_object_is_not_missing():
    whole = np.array([[1, 1, 1, 1, 1, 1]])
    halves = np.array([[4, 4, 0, 0, 9, 9]])
    assert listed([whole, halves], 0, [0.9], [0.8, 0.7])[0] == []
    # a merged object that is doubtful, and its parts
    assert listed([whole, halves], 0, [0.2], [0.8, 0.7])[0] == [
        ("doubtful", 0, 1, 0.2), ("missing", 1, 4, 0.8), ("missing", 1, 9, 0.7),
    ]  # fmt: skip


def test_a_place_is_missing_once():
    mine = np.zeros((1, 8), int)
    one, two = mine.copy(), mine.copy()
    one[:, :3], two[:, :7] = 5, 6  # not alike, and in one place
    assert listed([mine, one, two], 0, [], [0.9], [0.8])[0][0] == ("missing", 1, 5, 0.9)
    assert len(listed([mine, one, two], 0, [], [0.9], [0.8])[0]) == 1
    assert len(listed([mine, one, two], 0, [], [0.9], [0.8], overlap=0.5)[0]) == 2


def test_a_variant_that_failed_lacks_everything():
    image = np.array([[1, 0, 2]])
    assert [one[2] for one in listed([None, image], 0, [], [0.6, 0.4])[0]] == [1]
    assert listed([image, None], 0, [0.6, 0.4], [])[0] == [("doubtful", 0, 2, 0.4)]


def test_the_work_list_wants_a_support_of_each_object():
    image = np.array([[1, 0, 2]])
    with pytest.raises(InputError, match="2 objects and 1 supports"):
        work_list([image].__getitem__, grouped([image], [1, 1]), 0, np.ones(1))
