from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from stardist.matching import matching

from opsef_bridge.errors import InputError
from opsef_bridge.measure.match import match

THRESHOLDS = [0.1, 0.2, 0.3, 1 / 3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
COLUMNS = [
    *("threshold", "tp", "fp", "fn", "precision", "recall"),
    *("f1", "ap", "mean_iou", "splits", "merges"),
]


def blobs(seed: int, jitter: int = 3, side: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Two label images of overlapping squares, the second moved, resized, and incomplete."""
    random = np.random.default_rng(seed)
    a, b = np.zeros((2, side, side), np.int32)
    for number in range(1, 40):
        y, x = random.integers(0, side - 8, 2)
        size = random.integers(3, 9)
        a[y : y + size, x : x + size] = number * 3
        dy, dx, grow = random.integers(-jitter, jitter + 1, 3)
        y, x = max(y + dy, 0), max(x + dx, 0)
        if random.random() < 0.9:
            b[y : y + size + grow, x : x + size + grow] = 100 - number
    return a, b


def assert_as_stardist(a, b, thresholds):
    table = match(a, b, thresholds)
    for row, theirs in zip(table.itertuples(), matching(a, b, tuple(thresholds)), strict=True):
        assert (row.tp, row.fp, row.fn) == (theirs.tp, theirs.fp, theirs.fn), row.threshold
        assert row.precision == pytest.approx(theirs.precision, abs=1e-12)
        assert row.recall == pytest.approx(theirs.recall, abs=1e-12)
        assert row.f1 == pytest.approx(theirs.f1, abs=1e-12)
        assert row.ap == pytest.approx(theirs.accuracy, abs=1e-12)
        if row.threshold >= 0.5:
            assert row.mean_iou == pytest.approx(theirs.mean_matched_score, abs=1e-6)
    return table


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[hnp.arrays("u1", (6, 7), elements=st.integers(0, 5))] * 2),
    st.floats(0, 1),
)
def test_noise_counts_as_stardist_counts(images, share):
    a, b = images
    b = np.where(np.random.default_rng(0).random(a.shape) < share, a, b)
    assert_as_stardist(a, b, THRESHOLDS)


@pytest.mark.parametrize("seed", range(12))
def test_blobs_count_as_stardist_counts(seed):
    a, b = blobs(seed)
    table = assert_as_stardist(a, b, THRESHOLDS)
    assert table.tp.iloc[0] > 10
    theirs = matching(a, b, 0.1)
    assert table.mean_iou.iloc[0] == pytest.approx(theirs.mean_matched_score, abs=1e-6)


def test_volumes():
    a, b = (np.stack([x, np.roll(x, 1, 0), x * 0]) for x in blobs(99))
    assert_as_stardist(a, b, THRESHOLDS)


def test_two_halves_are_one_match_at_exactly_half():
    truth, halves = np.array([[1, 1, 0, 2, 2]]), np.array([[1, 2, 0, 3, 0]])
    for a, b in ((truth, halves), (halves, truth)):
        assert match(a, b).tp.item() == 2
        assert match(a, b, 0.51).tp.item() == 0
    table = match(truth, halves)
    assert (table.splits.item(), table.merges.item()) == (1, 0)
    assert match(halves, truth).merges.item() == 1


def test_more_matches_beat_a_higher_iou():
    # 2 with 6 is the best pair (IoU 6/12), but it would leave 1 and 5 without a partner.
    truth = np.array([[1] * 4 + [2] * 9])
    labels = np.array([[6] * 3 + [0] + [6] * 6 + [5] * 3])
    table = match(truth, labels, [0.2, 0.31, 0.4])
    assert table.tp.tolist() == [2, 1, 1]
    assert table.mean_iou[0] == pytest.approx((3 / 10 + 3 / 9) / 2)
    # At 0.31 one match is all there can be; stardist's rule then takes the larger sum of
    # both pairs, although 1 with 6 is below the threshold.
    assert table.mean_iou[1] == pytest.approx(3 / 9)
    assert matching(truth, labels, 0.31).mean_matched_score == pytest.approx(3 / 9)
    assert table.mean_iou[2] == 0.5


def test_splits_and_merges_need_a_tenth():
    truth = np.ones((1, 100), int)
    labels = np.array([[1] * 89 + [2] * 9 + [3] * 2])
    assert match(truth, labels).splits.item() == 0
    labels[0, 88] = 2
    assert match(truth, labels).splits.item() == 1


@pytest.mark.parametrize(("one", "other"), [(0, 0), (0, 1), (1, 0)])
def test_nothing_to_match_gives_zeros(one, other):
    a, b = np.full((3, 3), one), np.full((3, 3), other)
    table = assert_as_stardist(a, b, [0.1, 0.5])
    assert table.columns.tolist() == COLUMNS
    assert (table.fn == one).all()
    assert (table.fp == other).all()
    figures = table[["tp", "precision", "recall", "f1", "ap", "mean_iou", "splits", "merges"]]
    assert (figures == 0).all(axis=None)
    assert (
        table.dtypes.astype(str).tolist()
        == ["float64"] + ["int64"] * 3 + ["float64"] * 5 + ["int64"] * 2
    )


def test_thresholds_keep_their_order_and_may_be_one_number_or_none():
    a, b = blobs(5)
    table = match(a, b, (0.9, 0.1))
    assert table.threshold.tolist() == [0.9, 0.1]
    assert match(a, b, 0.9).equals(table.iloc[:1])
    assert match(a, b, ()).columns.tolist() == COLUMNS


@pytest.mark.parametrize("threshold", [0, -0.1, 1.01, np.nan])
def test_impossible_thresholds_are_refused(threshold):
    with pytest.raises(InputError, match=r"\(0, 1\]"):
        match(np.ones((2, 2), int), np.ones((2, 2), int), threshold)


def test_many_objects_cost_no_table_of_pairs():
    import tracemalloc

    a = np.kron(np.arange(1, 10_001).reshape(100, 100), np.ones((8, 8), int)).astype(np.int32)
    b = np.roll(a, 2, axis=1)
    match(a[:8], b[:8], 0.1)
    tracemalloc.start()
    table = match(a, b, [0.1, 0.5])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert table.tp.tolist() == [10_000, 10_000]
    assert peak < 40e6  # 10,000 x 10,000 would be 800 MB
