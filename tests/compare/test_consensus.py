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


def test_no_labels_and_shares_that_are_none_are_refused():
    with pytest.raises(InputError, match="no variant has labels"):
        consensus([None], grouped([None], []))
    image = np.array([[1]])
    with pytest.raises(InputError, match="overlap is 2"):
        consensus([image], grouped([image], [1]), overlap=2)


def test_the_work_list_has_doubtful_objects_first_and_then_what_is_missing():
    mine = np.array([[1, 0, 2, 0, 0, 0, 0]])
    other = np.array([[6, 0, 0, 0, 7, 0, 8]])
    groups = grouped([mine, other], [0.9, 0.2], [0.9, 0.8, 0.3])
    found = work_list(groups, 0, groups.support)
    assert [(what, support) for what, _, support in found] == [
        ("doubtful", 0.2),
        ("doubtful", 0.9),
        ("missing", 0.8),
    ]
    assert [int(groups.label[group]) for _, group, _ in found] == [2, 1, 7]
