from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from opsef_bridge.compare import support
from opsef_bridge.compare.groups import object_groups
from opsef_bridge.errors import InputError


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def ones(labels: list[np.ndarray | None]) -> list[np.ndarray]:
    return [np.ones(0 if a is None else len(np.unique(a[a > 0]))) for a in labels]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_groups_are_what_the_words_say(data):
    shape = data.draw(st.sampled_from([(5, 6), (2, 4, 3)]))
    count = data.draw(st.integers(1, 4))
    images = [
        data.draw(hnp.arrays(np.int32, shape, elements=st.integers(0, 4))) for _ in range(count)
    ]
    numbers = [np.unique(image[image > 0]) for image in images]
    q = [data.draw(hnp.arrays(float, len(n), elements=st.integers(0, 9))) / 10 for n in numbers]
    groups = object_groups(images, q)
    # Heads by falling support; each object that is alike to a free head belongs to it.
    assert (np.diff(groups.support) <= 0).all()
    free = {(v, n) for v, mine in enumerate(numbers) for n in mine}
    of = {(v, n): s for v, mine in enumerate(numbers) for n, s in zip(mine, q[v], strict=True)}
    for g in range(len(groups)):
        head = int(groups.variant[g]), int(groups.label[g])
        here = images[head[0]] == head[1]
        alike = {one for one in free if iou(here, images[one[0]] == one[1]) >= 0.5}
        equal = {
            (v, n) for v, n in free if np.array_equal(images[v], images[head[0]]) and n == head[1]
        }
        members = {(v, int(n)) for v, n in enumerate(groups.member[g]) if n}
        assert head in members
        assert members <= alike | equal
        # Two halves of an object are both taken, and one of them is named.
        assert {v for v, _ in alike} == {v for v, _ in members}
        assert groups.area[g] == np.count_nonzero(here)
        where = np.nonzero(here)
        assert groups.box[g].tolist() == [*(w.min() for w in where), *(w.max() + 1 for w in where)]
        assert groups.support[g] == of[head]
        free -= alike | members
    assert not free


def test_a_failed_variant_holds_nothing():
    image = np.array([[1, 1, 0, 2]])
    groups = object_groups([None, image, None], ones([None, image, None]))
    assert groups.member.tolist() == [[0, 1, 0], [0, 2, 0]]


@pytest.mark.parametrize("images", [[], [None], [np.zeros((3, 3), int)]])
def test_nothing_found_makes_no_groups(images):
    groups = object_groups(images, ones(images))
    assert len(groups) == 0
    assert groups.member.shape == (0, len(images))


def test_supports_that_do_not_fit_are_refused():
    image = np.array([[1, 1, 0, 2]])
    with pytest.raises(InputError, match="2 objects and 1 supports"):
        object_groups([image], [np.ones(1)])
    with pytest.raises(InputError, match="supports for 2"):
        object_groups([image], [np.ones(2), np.ones(2)])


def test_takes_what_support_returns():
    random = np.random.default_rng(0)
    images = [random.integers(0, 5, (12, 12)) for _ in range(3)]
    tables = support(images, ["a", "b", "c"])
    groups = object_groups(images, [table["q"].to_numpy() for table in tables])
    assert groups.support[0] == max(table["q"].max() for table in tables)
