from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from stardist.matching import matching

from opsef_bridge.errors import InputError
from opsef_bridge.measure.match import match
from opsef_bridge.measure.quality import judge, quality
from tests.measure.test_match import THRESHOLDS, blobs

IMAGES = st.tuples(*[hnp.arrays("u1", (6, 7), elements=st.integers(0, 4))] * 2)


def assert_as_stardist(a, b):
    table = quality(a, b, THRESHOLDS)
    for row, theirs in zip(table.itertuples(), matching(a, b, tuple(THRESHOLDS)), strict=True):
        assert (row.tp, row.fp, row.fn) == (theirs.tp, theirs.fp, theirs.fn)
        assert row.rq == row.f1 == pytest.approx(theirs.f1, abs=1e-12)
        if row.threshold >= 0.5:
            assert row.pq == pytest.approx(theirs.panoptic_quality, abs=1e-6)
            assert row.sq == pytest.approx(theirs.mean_matched_score, abs=1e-6)
    return table


@settings(max_examples=40, deadline=None)
@given(IMAGES)
def test_noise_has_the_panoptic_quality_of_stardist(images):
    assert_as_stardist(*images)


@pytest.mark.parametrize("seed", range(4))
def test_blobs_and_volumes_have_the_panoptic_quality_of_stardist(seed):
    a, b = blobs(seed)
    assert assert_as_stardist(a, b).pq.iloc[0] > 0.1
    assert_as_stardist(*(np.stack([x, np.roll(x, 1, 0), x * 0]) for x in (a, b)))


@settings(max_examples=40, deadline=None)
@given(IMAGES)
def test_the_first_columns_are_those_of_match(images):
    counts = match(*images, THRESHOLDS)
    table = quality(*images, THRESHOLDS)
    assert table.columns.tolist() == [*counts.columns, "pq", "sq", "rq", "dice"]
    assert table[counts.columns].equals(counts)
    everywhere = np.ones(images[0].shape, bool)
    assert quality(*images, THRESHOLDS, everywhere).equals(table)


@settings(max_examples=40, deadline=None)
@given(IMAGES, hnp.arrays(bool, (6, 7)))
def test_dice_is_that_of_the_masks_where_they_are_valid(images, valid):
    a, b = ((image > 0)[valid] for image in images)
    both, all_ = np.count_nonzero(a & b), a.sum() + b.sum()
    assert quality(*images, 0.5, valid).dice.item() == pytest.approx(2 * both / max(all_, 1))


@settings(max_examples=60, deadline=None)
@given(IMAGES, hnp.arrays(bool, (6, 7)), st.sampled_from(THRESHOLDS))
def test_every_object_that_counts_has_one_fate(images, valid, threshold):
    judged = judge(*images, valid)
    for image, counts in zip(images, (judged.truth, judged.labels), strict=True):
        names = [label for label in np.unique(image) if label]
        assert counts.tolist() == [valid[image == name].mean() >= 0.5 for name in names]
    row = quality(*images, threshold, valid).iloc[0]
    assert row.tp + row.fn == judged.truth.sum()
    assert row.fp <= judged.labels.sum()
    assert row.splits <= judged.truth.sum() and row.merges <= judged.labels.sum()


def test_objects_outside_are_left_out_on_both_sides():
    truth, labels = np.zeros((2, 20, 20), int)
    truth[2:6, 2:6], labels[2:6, 2:6] = 1, 1  # found inside
    truth[2:6, 12:16], labels[12:16, 12:16] = 2, 2  # missed outside; invented outside
    valid = np.zeros((20, 20), bool)
    valid[:, :9] = True
    row = quality(truth, labels, 0.5, valid).iloc[0]
    assert (row.tp, row.fp, row.fn, row.f1, row.dice) == (1, 0, 0, 1, 1)
    row = quality(truth, labels).iloc[0]
    assert (row.tp, row.fp, row.fn) == (1, 1, 1)


@pytest.mark.parametrize(
    ("truth_from", "labels_from", "counts"),
    [
        (6, 6, (1, 0, 0)),  # half of both inside: asked for and found, with all its pixels
        (6, 7, (1, 0, 0)),  # found, by an outline that lies outside by more than half
        (7, 6, (0, 0, 0)),  # not asked for, so neither right nor wrong
        (7, 7, (0, 0, 0)),
        (6, None, (0, 0, 1)),
        (None, 6, (0, 1, 0)),
        (7, None, (0, 0, 0)),
        (None, 7, (0, 0, 0)),
    ],
)
def test_an_object_cut_by_the_border_counts_from_half_of_it(truth_from, labels_from, counts):
    images = np.zeros((2, 10, 20), int)
    for image, first in zip(images, (truth_from, labels_from), strict=True):
        if first is not None:
            image[3:7, first : first + 8] = 1
    valid = np.zeros((10, 20), bool)
    valid[:, :10] = True
    row = quality(*images, 0.5, valid).iloc[0]
    assert (row.tp, row.fp, row.fn) == counts


def test_exactly_half_is_matched_and_the_next_threshold_is_the_paper_s():
    truth, labels = np.array([[1, 1]]), np.array([[1, 0]])
    above = np.nextafter(np.float32(0.5), np.float32(1))
    assert quality(truth, labels, [0.5, above]).pq.tolist() == [0.5, 0]


def test_nothing_gives_zeros():
    table = quality(np.zeros((3, 3), int), np.zeros((3, 3), int), THRESHOLDS)
    assert (table.drop(columns="threshold") == 0).all(axis=None)
    table = quality(np.ones((3, 3), int), np.ones((3, 3), int), 0.5, np.zeros((3, 3), bool))
    assert (table.drop(columns="threshold") == 0).all(axis=None)


def test_impossible_input_is_refused():
    image = np.ones((3, 3), int)
    for valid in (np.ones((3, 3), int), np.ones((3, 4), bool)):
        with pytest.raises(InputError, match="valid is"):
            quality(image, image, 0.5, valid)
    with pytest.raises(InputError, match="differ in shape"):
        quality(image, image[:2])
    with pytest.raises(InputError, match=r"\(0, 1\]"):
        quality(image, image, [0.5, 0])
