from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from opsef_bridge.errors import InputError
from opsef_bridge.measure.overlap import best_iou, iou_pairs, label_runs, overlap, reaches

SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=7)
DTYPES = st.sampled_from(["u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4"])


@st.composite
def two_images(draw):
    shape = draw(SHAPES)
    most = draw(st.sampled_from([1, 4, 100]))
    return tuple(
        draw(hnp.arrays(draw(DTYPES), shape, elements=st.integers(0, most))) for _ in range(2)
    )


@settings(max_examples=80, deadline=None)
@given(two_images())
def test_counts_are_those_of_a_loop_over_pixels(images):
    a, b = images
    expected = np.zeros((int(a.max()) + 1, int(b.max()) + 1), np.int64)
    np.add.at(expected, (a.ravel().astype(int), b.ravel().astype(int)), 1)
    counts = overlap(a, b)
    assert counts.dtype == np.int64
    assert counts.has_canonical_format
    np.testing.assert_array_equal(counts.toarray(), expected)
    assert counts.nnz == np.count_nonzero(expected)


@settings(max_examples=60, deadline=None)
@given(two_images())
def test_iou_of_every_pair_and_the_best_of_each_object(images):
    a, b = images
    pairs = iou_pairs(a, b)
    found = {
        (int(pairs.a.labels[i]), int(pairs.b.labels[j])): iou
        for i, j, iou in zip(pairs.i, pairs.j, pairs.iou, strict=True)
    }
    expected = {}
    for i in set(np.unique(a).tolist()) - {0}:
        for j in set(np.unique(b).tolist()) - {0}:
            both = np.count_nonzero((a == i) & (b == j))
            if both:
                expected[i, j] = both / np.count_nonzero((a == i) | (b == j))
    assert found == expected
    best_a, best_b = best_iou(pairs)
    for best, runs, side in ((best_a, pairs.a, 0), (best_b, pairs.b, 1)):
        for label, value in zip(runs.labels.tolist(), best, strict=True):
            mine = [iou for key, iou in expected.items() if key[side] == label]
            assert value == np.float32(max(mine, default=0))


def test_runs_end_with_their_row():
    runs = label_runs(np.array([[0, 5, 5], [5, 2, 2]], np.uint8))
    assert list(zip(runs.start, runs.stop, runs.labels[runs.index], strict=True)) == [
        (1, 3, 5),
        (3, 4, 5),
        (4, 6, 2),
    ]
    assert runs.areas.tolist() == [2, 3]


def test_a_view_that_is_not_contiguous():
    a = np.arange(24).reshape(4, 6)[::2, ::-3]
    assert overlap(a, a).diagonal().sum() == a.size


def test_sparse_label_values_allocate_no_table_of_them():
    a = np.array([[0, 3, 2**40, 2**40]])
    b = np.array([[2**62, 2**62, 2**62, 7]])
    pairs = iou_pairs(a, b)
    found = zip(pairs.a.labels[pairs.i], pairs.b.labels[pairs.j], pairs.pixels, strict=True)
    assert sorted(found) == [(3, 2**62, 1), (2**40, 7, 1), (2**40, 2**62, 1)]
    assert overlap(b[:, 3:], a[:, 3:])[7, 2**40] == 1
    with pytest.raises(InputError, match=f"{2**40}.*iou_pairs"):
        overlap(a, b)


@pytest.mark.parametrize(
    ("a", "message"),
    [
        (np.zeros((2, 2)), "float64"),
        (np.zeros((2, 2), bool), "skimage.measure.label"),
        (np.array([[0, -3]]), "-3"),
        (np.array([[0, 2**64 - 1]], np.uint64), "18446744073709551615"),
        (np.array(3), r"shape \(\)"),
        (np.zeros((2, 3), int), r"\(2, 3\)"),
    ],
)
def test_what_is_no_label_image_is_refused(a, message):
    with pytest.raises(InputError, match=message):
        overlap(a, np.zeros((1, 2), int))


def test_empty_arrays():
    assert overlap(np.zeros((0, 4), int), np.zeros((0, 4), int)).shape == (1, 1)
    assert overlap(np.zeros((2, 2), int), np.zeros((2, 2), int)).toarray().tolist() == [[4]]


def test_thresholds_are_compared_as_float32():
    assert reaches(np.array([3 / 5]), np.arange(0.5, 1, 0.05)[2]).all()
    assert not reaches(np.array([0.599999]), 0.6).any()
