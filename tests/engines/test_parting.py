"""Parting of touching objects: prominence means what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from opsef_bridge.engines.parting import join_shallow, part

EIGHT = np.ones((3, 3))


def two_discs(radius: int, apart: int) -> np.ndarray:
    y, x = np.indices((2 * radius + 5, 2 * radius + apart + 5))
    centres = (radius + 2, radius + 2 + apart)
    return np.any([(x - c) ** 2 + (y - radius - 2) ** 2 <= radius**2 for c in centres], axis=0)


@pytest.mark.parametrize(("radius", "apart"), [(7, 12), (12, 20), (30, 45)])
def test_a_neck_parts_and_a_bulge_does_not(radius, apart):
    cores = two_discs(radius, apart)
    assert part(cores, cores, 0.75).max() == 2
    neck = np.sqrt(radius**2 - (apart / 2) ** 2)
    assert part(cores, cores, radius - neck + 1).max() == 1


def test_one_round_object_stays_whole_however_small_the_prominence():
    cores = two_discs(20, 0)
    labels = part(cores, cores, 0.01)
    np.testing.assert_array_equal(labels, cores)


@pytest.mark.parametrize("cores", [np.ones((30, 40), bool), np.ones((1, 9), bool)])
def test_a_core_that_fills_the_image_is_one_object(cores):
    assert (part(cores, cores, 0.75) == 1).all()


def test_the_edge_of_the_image_does_not_part():
    y, x = np.indices((30, 60))
    cores = y < 12 - 0 * x  # a strip that runs out of the image on three sides
    assert part(cores, cores, 0.5).max() == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 3), st.sampled_from([0.5, 1.0, 2.0]))
def test_every_piece_of_core_is_found_and_nothing_else(seed, prominence, blur):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random((40, 50)), 1.5)
    cores, foreground = smooth > np.quantile(smooth, 0.7), smooth > np.quantile(smooth, 0.5)
    labels = part(cores, foreground, prominence, blur=blur)
    assert set(np.unique(labels)) | {0} == set(range(labels.max() + 1))
    assert (labels[cores] > 0).all()
    assert not labels[~foreground].any()
    for label in range(1, labels.max() + 1):
        assert ndimage.label(labels == label, EIGHT)[1] == 1
        assert cores[labels == label].any()
    pieces, count = ndimage.label(cores, EIGHT)
    assert labels.max() >= count
    assert part(cores, foreground, 1e9, blur=blur).max() == count
    if prominence:
        assert labels.max() <= part(cores, foreground, 0, blur=blur).max()
    for piece in range(1, count + 1):  # no object bridges two pieces
        assert not np.isin(labels[pieces == piece], labels[cores & (pieces != piece)]).any()


def test_joining_goes_from_the_deepest_neck_and_counts_what_was_joined():
    #            part:    1         2         3         4
    depth = np.array([[5.0, 4.5, 4.9, 3.9, 4.2, 1.0, 9.0]])
    labels = np.array([[1, 1, 2, 2, 3, 3, 4]])
    # 2 joins 1 (0.4 above the neck), 3 joins both (0.3 above), 4 stands 4 above them.
    np.testing.assert_array_equal(join_shallow(labels, depth, 0.5), [[1, 1, 1, 1, 1, 1, 4]])
    np.testing.assert_array_equal(join_shallow(labels, depth, 0.35), [[1, 1, 2, 2, 2, 2, 4]])
    np.testing.assert_array_equal(join_shallow(labels, depth, 0.1), labels)
