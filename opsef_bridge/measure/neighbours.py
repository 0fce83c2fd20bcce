"""Neighbours of objects: how many touch, how near the next one is, how many are around."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from opsef_bridge.errors import InputError
from opsef_bridge.measure.regions import region_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["neighbour_table", "touching_pairs"]


def neighbour_table(
    labels: np.ndarray,
    spacing: Mapping[str, float] | Sequence[float] | None = None,
    within: float | None = None,
) -> pd.DataFrame:
    """Measure the surroundings of every object of a label image.

    Parameters
    ----------
    labels : ndarray of int
        Label image, ``(Y, X)`` or ``(Z, Y, X)``.
    spacing : mapping of axis to float, or sequence of float, optional
        Pixel size along each axis; distances are then in that unit, else in pixels.
    within : float, optional
        Distance, above 0, for ``neighbours_within``, a column that is left out without it.

    Returns
    -------
    DataFrame
        One row per object, ascending by label:

        - label : int64
        - touching : int64, how many other objects have a pixel side by side with one of it
          (voxels: face by face)
        - nearest_distance : float64, from its centre to the nearest centre of another; NaN for a
          single object
        - neighbours_within : int64, how many others have their centre within that distance

    Notes
    -----
    Objects near the border of the image have neighbours that were not seen; ``touches_border``
    of `region_table` helps to leave them out.

    Examples
    --------
    >>> labels = np.array([[1, 1, 2, 0, 0, 0, 7]])
    >>> neighbour_table(labels, within=2)
       label  touching  nearest_distance  neighbours_within
    0      1         1               1.5                  1
    1      2         1               1.5                  1
    2      7         0               4.0                  0
    """
    import pandas as pd
    from scipy.spatial import KDTree

    if within is not None and not within > 0:
        raise InputError(f"within is {within}", hint="Give a distance above 0")
    table = region_table(labels, spacing=spacing, properties=["centroid"])
    centres = table.drop(columns="label").to_numpy()
    found = {"label": table["label"].to_numpy()}
    pairs = touching_pairs(labels)
    found["touching"] = np.bincount(
        np.searchsorted(found["label"], pairs.reshape(-1)), minlength=len(table)
    )
    found["nearest_distance"] = np.full(len(table), np.nan)
    if len(table) > 1:
        found["nearest_distance"] = KDTree(centres).query(centres, k=2)[0][:, 1]
    if within is not None:
        found["neighbours_within"] = np.zeros(len(table), np.int64)
        if len(table):
            tree = KDTree(centres)
            counts = tree.query_ball_point(centres, within, return_length=True)
            found["neighbours_within"] = np.asarray(counts, np.int64) - 1
    return pd.DataFrame(found)


def touching_pairs(labels: np.ndarray) -> np.ndarray:
    """Return the pairs of objects that have pixels side by side.

    Parameters
    ----------
    labels : ndarray of int

    Returns
    -------
    (P, 2) ndarray of int64
        Each pair once, the smaller label first, ascending.

    Examples
    --------
    >>> touching_pairs(np.array([[5, 5, 2], [0, 9, 9]]))
    array([[2, 5],
           [2, 9],
           [5, 9]])
    """
    labels = np.asarray(labels)
    pairs = [np.zeros((0, 2), np.int64)]
    for axis in range(labels.ndim):
        one = np.moveaxis(labels, axis, 0)[:-1].reshape(-1)
        two = np.moveaxis(labels, axis, 0)[1:].reshape(-1)
        meet = (one != two) & (one != 0) & (two != 0)
        pairs.append(np.column_stack([one[meet], two[meet]]).astype(np.int64))
    return np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)
