"""Neighbours, against a loop over pixels and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import binary_dilation, generate_binary_structure
from skimage.measure import regionprops

from opsef_bridge.errors import InputError
from opsef_bridge.measure.neighbours import neighbour_table, touching_pairs

SHAPES = st.sampled_from([(7, 9), (3, 5, 6)])
LABELS = SHAPES.flatmap(
    lambda shape: hnp.arrays(np.int32, shape, elements=st.sampled_from([0, 0, 3, 4, 70_000, 9]))
)


@settings(deadline=None)
@given(LABELS)
def test_touching_is_what_one_step_reaches(labels):
    reach = generate_binary_structure(labels.ndim, 1)
    pairs = set()
    for one in np.unique(labels[labels > 0]):
        met = np.unique(labels[binary_dilation(labels == one, reach)])
        pairs |= {(min(one, two), max(one, two)) for two in met if two not in (0, one)}
    assert [tuple(pair) for pair in touching_pairs(labels)] == sorted(pairs)
    table = neighbour_table(labels).set_index("label")
    for one in table.index:
        assert table["touching"][one] == sum(one in pair for pair in pairs)


@settings(deadline=None)
@given(LABELS, st.floats(0.5, 6))
def test_distances_are_those_of_scikit_images_centres(labels, within):
    spacing = (2.0, 0.5, 0.25)[-labels.ndim :]
    table = neighbour_table(labels, spacing, within=within)
    centres = [np.array(region.centroid) * spacing for region in regionprops(labels)]
    for row, one in zip(table.itertuples(), centres, strict=True):
        others = [np.linalg.norm(one - two) for two in centres if two is not one]
        if others:
            assert row.nearest_distance == pytest.approx(min(others))
        else:
            assert np.isnan(row.nearest_distance)
        if all(abs(distance - within) > 1e-9 for distance in others):
            assert row.neighbours_within == sum(distance <= within for distance in others)


def test_no_object_has_the_same_columns_and_dtypes():
    empty = neighbour_table(np.zeros((4, 4), np.int32), within=3)
    some = neighbour_table(np.eye(4, dtype=np.int32), within=3)
    assert empty.dtypes.to_dict() == some.dtypes.to_dict() and not len(empty)


@pytest.mark.parametrize("within", [0, -1, float("nan")])
def test_a_distance_must_be_above_0(within):
    with pytest.raises(InputError, match="above 0"):
        neighbour_table(np.eye(3, dtype=int), within=within)
