"""Boxes, places and second moments of all objects at once, from their runs."""

from __future__ import annotations

import numpy as np

from opsef_bridge.measure.compiled import compiled
from opsef_bridge.measure.overlap import Runs

__all__ = ["boxes", "covariances", "second_moments"]


def boxes(runs: Runs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the bounding box and the centroid of each object.

    Parameters
    ----------
    runs : Runs
        Objects of a plane or a volume.

    Returns
    -------
    low, high : (axes, N) ndarray of int64
        First index along each axis, and the one after the last.
    centre : (axes, N) ndarray of float64
        Mean index of the pixels along each axis.

    Examples
    --------
    >>> from opsef_bridge.measure.overlap import label_runs
    >>> low, high, centre = boxes(label_runs(np.array([[0, 0, 0], [0, 4, 4]])))
    >>> low.ravel().tolist(), high.ravel().tolist(), centre.ravel().tolist()
    ([1, 1], [2, 3], [1.0, 1.5])
    """
    axes = len(runs.shape)
    depth, height, width = (1,) * (3 - axes) + tuple(runs.shape)
    low, high, total = _sums(runs.start, runs.stop, runs.index, (depth, height, width), len(runs))
    return low[-axes:], high[-axes:], total[-axes:] / runs.areas


def second_moments(runs: Runs, centre: np.ndarray) -> np.ndarray:
    """Return the mean squares and products of each object's distances from its centroid.

    Parameters
    ----------
    runs : Runs
        Objects of a plane.
    centre : (2, N) ndarray of float64
        Their centroids, as `boxes` returns them.

    Returns
    -------
    (3, N) ndarray of float64
        Along y, along x, and of both, in pixels; pixels count as points.

    Examples
    --------
    >>> from opsef_bridge.measure.overlap import label_runs
    >>> runs = label_runs(np.array([[6, 6], [6, 6]]))
    >>> second_moments(runs, boxes(runs)[2]).ravel()
    array([0.25, 0.25, 0.  ])
    """
    total = _spread(runs.start, runs.stop, runs.index, runs.shape[1], centre)
    return total / runs.areas


def covariances(runs: Runs, centre: np.ndarray) -> np.ndarray:
    """Return the mean products of each object's distances from its centroid, of a volume.

    Parameters
    ----------
    runs : Runs
        Objects of a volume.
    centre : (3, N) ndarray of float64
        Their centroids, as `boxes` returns them.

    Returns
    -------
    (N, 3, 3) ndarray of float64
        Along z, y and x, in voxels; voxels count as points.

    Examples
    --------
    >>> from opsef_bridge.measure.overlap import label_runs
    >>> runs = label_runs(np.ones((1, 2, 2), int))
    >>> covariances(runs, boxes(runs)[2])[0].diagonal().tolist()
    [0.0, 0.25, 0.25]
    """
    _, height, width = runs.shape
    rows = runs.start // width
    pixels = runs.stop - runs.start
    middle = (runs.start + runs.stop - 1) / 2 - rows * width
    away = np.stack([rows // height, rows % height, middle]) - centre[:, runs.index]
    found = np.empty((len(runs), 3, 3))
    for i, one in enumerate(away):
        for j, other in enumerate(away):
            # The pixels of a run lie along x, around its middle.
            inside = (pixels * pixels - 1) / 12 if i == j == 2 else 0
            sums = np.bincount(runs.index, pixels * (one * other + inside), len(runs))
            found[:, i, j] = sums / runs.areas
    return found


@compiled
def _sums(start, stop, index, shape, count):  # pragma: no cover
    """First and last indices and sums of indices of each object, along z, y and x."""
    low = np.empty((3, count), np.int64)
    high = np.zeros((3, count), np.int64)
    total = np.zeros((3, count), np.int64)
    width = shape[2]
    place = np.zeros(3, np.int64)
    row = -1
    for k in range(len(start)):
        if start[k] >= (row + 1) * width:
            row = start[k] // width
            place[0], place[1] = divmod(row, shape[1])
        owner = index[k]
        first, last = start[k] - row * width, stop[k] - 1 - row * width
        pixels = stop[k] - start[k]
        new = high[2, owner] == 0
        for axis in range(2):
            if new or place[axis] < low[axis, owner]:
                low[axis, owner] = place[axis]
            high[axis, owner] = max(high[axis, owner], place[axis] + 1)
            total[axis, owner] += place[axis] * pixels
        if new or first < low[2, owner]:
            low[2, owner] = first
        high[2, owner] = max(high[2, owner], last + 1)
        total[2, owner] += (first + last) * pixels // 2
    return low, high, total


@compiled
def _spread(start, stop, index, width, centre):  # pragma: no cover
    """Sums of squares and of products of the distances from the centres, in y and x."""
    total = np.zeros((3, centre.shape[1]))
    row = -1
    for k in range(len(start)):
        if start[k] >= (row + 1) * width:
            row = start[k] // width
        owner = index[k]
        pixels = stop[k] - start[k]
        y = row - centre[0, owner]
        x = (start[k] + stop[k] - 1) / 2 - row * width - centre[1, owner]
        total[0, owner] += pixels * y * y
        total[1, owner] += pixels * (x * x + (pixels * pixels - 1) / 12)
        total[2, owner] += pixels * x * y
    return total
