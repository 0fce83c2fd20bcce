"""Objects in volumes whose voxels lie in one plane: their hull has no volume."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from skimage.measure import regionprops_table

from opsef_bridge.measure import region_table
from opsef_bridge.postprocess import clean

HULL = ["solidity", "feret_diameter_max"]


@pytest.fixture
def labels():
    """Four flat objects (a square, a voxel, a diagonal, a tilted sheet), then two that are not."""
    made = np.zeros((6, 30, 30), int)
    made[1, 2:8, 2:8] = 1
    made[1, 20, 20] = 2
    for k in range(4):
        made[k, 26 - k, 3 + k] = 3
        made[k, 20 + k, 12:17] = 4
    made[1:5, 10:15, 10:15] = 5
    made[1:3, 2:12, 20] = made[1:3, 2, 20:29] = 6
    return made


@pytest.mark.parametrize("spacing", [None, (3.0, 0.5, 0.5)])
@pytest.mark.parametrize("names", [HULL, HULL[1:], [*HULL, "euler_number"]], ids=str)
def test_they_have_no_value_and_no_warning_is_given(labels, names, spacing):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = region_table(labels, spacing=spacing, properties=names)
    hulls = [name for name in names if name in HULL]
    assert table[hulls][:4].isna().all(axis=None)
    theirs = regionprops_table(
        np.where(labels > 4, labels, 0), properties=names, spacing=spacing or (1, 1, 1)
    )
    for name in names:
        np.testing.assert_array_equal(table[name][4:], theirs[name])
    if "euler_number" in names:
        assert table.euler_number.tolist() == [1] * 6 and table.euler_number.dtype == np.int64


def test_what_has_no_value_is_kept(labels):
    kept = clean(labels, keep=[{"solidity": (0.95, 1)}])
    assert region_table(labels, properties=["solidity"]).solidity[5] < 0.95
    assert np.unique(labels[kept > 0]).tolist() == [1, 2, 3, 4, 5]


def test_without_objects_dtypes_are_the_same(labels):
    names = [*HULL, "euler_number"]
    none = region_table(np.zeros_like(labels), properties=names)
    assert len(none) == 0 and none.dtypes.equals(region_table(labels, properties=names).dtypes)
