from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from opsef_bridge.compare.vouched import IOUS, Tally, combined, first_places, sparse_f1, tally
from opsef_bridge.errors import InputError
from opsef_bridge.measure import match

IMAGES = hnp.arrays(np.int32, (5, 7), elements=st.integers(0, 4))


@settings(max_examples=60, deadline=None)
@given(IMAGES, IMAGES)
def test_a_wholly_known_image_gives_the_f1_of_match(truth, labels):
    judged = tally(truth, np.ones(truth.shape, bool), [labels])
    # Above 0.5 partners are unique, so that match and the best partner are the same.
    table = match(truth, labels, IOUS[1:])
    for level, row in zip(IOUS[1:], table.itertuples(), strict=True):
        # A share of k/4 says that it is found at the k lowest thresholds.
        reached = (IOUS.index(level) + 1) / len(IOUS)
        assert np.count_nonzero(judged.hits[:, 0] >= reached) == row.tp
    table = match(truth, labels, IOUS)
    if not np.any(_halves(truth, labels)):
        found, wrong = table["tp"].mean(), table["fp"].mean()
        objects = len(np.unique(truth[truth > 0]))
        total = objects + found + wrong
        assert sparse_f1([judged], 1)[0] == pytest.approx(2 * found / total if total else 0)


def _halves(truth, labels):
    """IoUs of exactly one half, where two objects compete for one."""
    return [
        np.count_nonzero((truth == i) & (labels == j)) * 2
        == np.count_nonzero((truth == i) | (labels == j))
        for i in np.unique(truth[truth > 0])
        for j in np.unique(labels[labels > 0])
    ]


def test_what_the_border_of_a_region_cuts_belongs_to_the_side_that_has_most():
    truth = np.zeros((1, 12), int)
    known = np.zeros((1, 12), bool)
    known[:, :6] = True
    mostly_out, half_in, outside = np.zeros((3, 1, 12), int)
    mostly_out[:, 5:9] = 1
    half_in[:, 4:8] = 1
    outside[:, 8:] = 1
    judged = tally(truth, known, [mostly_out, half_in, outside])
    assert judged.false.sum(axis=0).tolist() == [0, 1, 0]


def test_a_single_object_makes_nothing_wrong_beside_it():
    truth = np.array([[1, 1, 1, 1, 0, 0, 0]])
    split = np.array([[1, 1, 2, 2, 0, 3, 3]])
    judged = tally(truth, np.zeros(truth.shape, bool), [truth, split])
    # One half reaches an IoU of 0.5 and no more.
    assert judged.hits.tolist() == [[1, 0.25]]
    assert judged.false.shape == (0, 2)
    assert judged.answers == 1


def test_an_object_in_an_empty_place_is_wrong_and_a_failed_variant_finds_nothing():
    truth, known = np.array([[1, 1, 0, 0]]), np.array([[False, False, True, True]])
    there = np.array([[1, 1, 5, 5]])
    judged = tally(truth, known, [there, truth, None], empty=1)
    assert judged.hits.tolist() == [[1, 1, 0]]
    assert judged.false.tolist() == [[1, 0, 0]]
    assert judged.answers == 2
    assert sparse_f1([judged], 3).tolist() == [2 / 3, 1, 0]


def test_volumes_are_judged_too():
    truth = np.zeros((2, 3, 3), int)
    truth[:, :2] = 7
    judged = tally(truth, np.ones(truth.shape, bool), [truth, np.zeros_like(truth)])
    assert sparse_f1([judged], 2).tolist() == [1, 0]


def test_regions_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"\(2, 2\).*\(2, 3\)"):
        tally(np.zeros((2, 2), int), np.zeros((2, 3), bool), [])
    with pytest.raises(InputError, match="differ in shape"):
        tally(np.ones((2, 2), int), np.ones((2, 2), bool), [np.ones((2, 3), int)])


def test_without_answers_the_score_is_agreement():
    values = np.array([0.3, 0.9, 0.0])
    assert combined(values, [], asked=True).tolist() == values.tolist()
    assert combined(values, [Tally(np.zeros((0, 3)), np.zeros((0, 3)))], asked=False).tolist() == (
        values.tolist()
    )
    assert first_places(values, [], asked=True).tolist() == [0, 1, 0]


def test_answers_count_for_more_the_more_there_are():
    values = np.array([0.8, 0.9])
    firsts = []
    for count in (1, 5, 40):
        answers = Tally(np.tile([1.0, 0.0], (count, 1)), np.zeros((0, 2)))
        scores = combined(values, [answers], asked=False)
        firsts.append(scores[0] - scores[1])
    assert firsts == sorted(firsts)
    assert firsts[-1] > 0.5
    # Objects that the variants were asked about are the hard ones: agreement weighs more.
    asked = combined(values, [answers], asked=True)
    assert asked[0] - asked[1] < firsts[-1]


def test_first_places_say_when_variants_cannot_be_told_apart():
    values = np.array([0.9, 0.9, 0.2])
    undecided = Tally(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]] * 3), np.zeros((0, 3)))
    shares = first_places(values, [undecided], asked=True)
    assert shares.sum() == pytest.approx(1)
    assert shares[:2].min() > 0.3
    assert shares[2] == 0
    sure = Tally(np.tile([1.0, 0.0, 0.0], (6, 1)), np.zeros((0, 3)))
    assert first_places(values, [sure], asked=True).tolist() == [1, 0, 0]
    again = first_places(values, [undecided], asked=True)
    assert again.tolist() == shares.tolist()
