"""Convex hulls of all objects of a plane at once: their pixels, diameters and widths.

For widths a pixel counts as a square, as in ImageJ. Else it counts as the diamond between the
middles of its edges, and a pixel whose centre lies in the hull, border included, belongs to it:
scikit-image's ``convex_hull_image``, here in whole numbers and from the ends of the rows alone.
"""

from __future__ import annotations

import numpy as np

from opsef_bridge.measure.compiled import compiled
from opsef_bridge.measure.overlap import Runs

__all__ = ["convex_hulls", "hull_widths"]


def convex_hulls(
    runs: Runs, size: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Measure the convex hull of each object.

    Parameters
    ----------
    runs : Runs
        Objects of a plane.
    size : (2,) ndarray of float, optional
        Height and width of a pixel: measure diameters too.

    Returns
    -------
    areas : (N,) ndarray of int64
        Pixels of the hulls; ``area_convex`` of scikit-image's ``regionprops``.
    diameters : (N,) ndarray of float64, or None
        Largest distance between two points of a hull's outline, which runs through the
        middles of the edges of its pixels, in the unit of `size`; ``feret_diameter_max`` of
        scikit-image's ``regionprops``.

    Examples
    --------
    >>> from opsef_bridge.measure.overlap import label_runs
    >>> runs = label_runs(np.array([[5, 0, 0], [5, 0, 0], [5, 5, 5]]))
    >>> areas, diameters = convex_hulls(runs, np.array([1.0, 1.0]))
    >>> areas, diameters.round(3)
    (array([6]), array([3.606]))
    """
    offset, rows, reach = _ends(runs.start, runs.stop, runs.index, runs.shape[1], len(runs))
    wanted = np.zeros(2) if size is None else np.asarray(size, float)
    areas, diameters = _hulls(offset, rows, reach, runs.shape[0], wanted)
    return areas, None if size is None else diameters


def hull_widths(runs: Runs, size: np.ndarray) -> np.ndarray:
    """Measure the smallest width of the convex hull of each object.

    Parameters
    ----------
    runs : Runs
        Objects of a plane.
    size : (2,) ndarray of float
        Height and width of a pixel.

    Returns
    -------
    (N,) ndarray of float64
        Least distance of two parallel lines that have the object, whole pixels, between them,
        in the unit of `size`; ``MinFeret`` of ImageJ 1.54p.

    Examples
    --------
    >>> from opsef_bridge.measure.overlap import label_runs
    >>> hull_widths(label_runs(np.array([[5, 5, 0], [5, 5, 5]])), np.array([1.0, 1.0]))
    array([2.])
    """
    offset, rows, reach = _ends(runs.start, runs.stop, runs.index, runs.shape[1], len(runs))
    return _widths(offset, rows, reach, runs.shape[0], np.asarray(size, float))


@compiled
def _ends(start, stop, index, width, count):  # pragma: no cover
    """List the rows of each object, and how far it reaches in them.

    Rows of object k are those from ``offset[k]`` to ``offset[k + 1]``; ``reach[0]`` is the
    last column, ``reach[1]`` minus the first.
    """
    row_of = np.empty(len(start), np.int32)
    last = np.full(count, -1, np.int32)
    offset = np.zeros(count + 1, np.int64)
    row = 0
    for k in range(len(start)):
        while start[k] >= (row + 1) * width:
            row += 1
        row_of[k] = row
        if last[index[k]] != row:
            last[index[k]] = row
            offset[index[k] + 1] += 1
    for k in range(count):
        offset[k + 1] += offset[k]
    rows = np.empty(offset[count], np.int64)
    reach = np.empty((2, offset[count]), np.int64)
    last[:] = -1
    free = offset[:-1].copy()
    for k in range(len(start)):
        row = row_of[k]
        if last[index[k]] != row:
            last[index[k]] = row
            rows[free[index[k]]] = row
            reach[1, free[index[k]]] = row * width - start[k]
            free[index[k]] += 1
        reach[0, free[index[k]] - 1] = stop[k] - 1 - row * width
    return offset, rows, reach


@compiled
def _hulls(offset, rows, reach, height, size):  # pragma: no cover
    """Pixels of each hull, and its diameter unless `size` is 0."""
    count = len(offset) - 1
    areas = np.empty(count, np.int64)
    diameters = np.zeros(count)
    ends = np.empty((2, height), np.int64)
    filled = np.empty(height, np.int64)
    filled_reach = np.empty((2, height), np.int64)
    spare = np.empty((height, 2), np.int64)
    corners = np.empty((2, 3 * height, 2), np.int64)
    length = np.empty(2, np.int64)
    for k in range(count):
        first, last = offset[k], offset[k + 1]
        for side in range(2):
            n = _outline(rows[first:last], reach[side, first:last], spare, corners[side])
            _reach_of_rows(corners[side], n, ends[side])
        full = 0
        areas[k] = 0
        for row in range(rows[first], rows[last - 1] + 1):
            pixels = ends[0, row] + ends[1, row] + 1
            if pixels > 0:  # a slim hull may pass between two pixels of a row
                areas[k] += pixels
                filled[full] = row
                filled_reach[:, full] = ends[:, row]
                full += 1
        if size[0] > 0:
            for side in range(2):
                half = filled_reach[side, :full]
                length[side] = _outline(filled[:full], half, spare, corners[side])
            diameters[k] = _diameter(corners, length, size)
    return areas, diameters


@compiled
def _outline(rows, reach, spare, corners):  # pragma: no cover
    """Write one side of the hull of the diamonds around pixels, in half pixels; count it.

    The hull of the diamonds is that of the diamonds around the corners of the hull of the
    centres: few are left to be replaced by the three points of a diamond.
    """
    n = 0
    for k in range(len(rows)):
        n = _push(spare, n, rows[k], reach[k])
    m = 0
    for k in range(n):
        row, far = 2 * spare[k, 0], 2 * spare[k, 1]
        m = _push(corners, m, row - 1, far)
        m = _push(corners, m, row, far + 1)
        m = _push(corners, m, row + 1, far)
    return m


@compiled
def _push(chain, n, row, reach):  # pragma: no cover
    """Add a point below the n points of a convex chain; return how many it then has."""
    while n > 0:
        if chain[n - 1, 0] == row:
            if chain[n - 1, 1] >= reach:
                return n
        elif n == 1:
            break
        else:
            down = chain[n - 1, 0] - chain[n - 2, 0]
            out = chain[n - 1, 1] - chain[n - 2, 1]
            if out * (row - chain[n - 2, 0]) > (reach - chain[n - 2, 1]) * down:
                break
        n -= 1
    chain[n, 0] = row
    chain[n, 1] = reach
    return n + 1


@compiled
def _reach_of_rows(corners, n, ends):  # pragma: no cover
    """Write the last pixel of each row that lies in the hull, from one side in half pixels."""
    for k in range(n - 1):
        row, far = corners[k]
        down = corners[k + 1, 0] - row
        out = corners[k + 1, 1] - far
        even = row + row % 2
        # Whole pixels and what is over, in parts of 2 * down: no division in each row.
        whole, over = divmod(far * down + out * (even - row), 2 * down)
        step, more = divmod(2 * out, 2 * down)
        for y in range(even // 2, (corners[k + 1, 0] + 1) // 2):
            ends[y] = whole
            whole += step
            over += more
            if over >= 2 * down:
                over -= 2 * down
                whole += 1


@compiled
def _diameter(corners, length, size):  # pragma: no cover
    """Largest distance of two corners of a hull, given by its two sides in half pixels.

    Of two corners on one side, the one that reaches less far out can be changed for the
    point on the other side in its row: that is no nearer. So it is enough to compare the
    sides with each other.
    """
    largest = 0.0
    for k in range(length[0]):
        for other in range(length[1]):
            y = (corners[0, k, 0] - corners[1, other, 0]) * size[0]
            x = (corners[0, k, 1] + corners[1, other, 1]) * size[1]  # one side is negated
            largest = max(largest, y * y + x * x)
    return np.sqrt(largest) / 2


@compiled
def _widths(offset, rows, reach, height, size):  # pragma: no cover
    """Smallest width of each hull of squares."""
    count = len(offset) - 1
    widths = np.empty(count)
    spare = np.empty((height, 2), np.int64)
    side = np.empty((2 * height, 2), np.int64)
    around = np.empty((4 * height, 2), np.int64)
    for k in range(count):
        first, last = offset[k], offset[k + 1]
        right = _square_outline(rows[first:last], reach[0, first:last], spare, side)
        around[:right] = side[:right]
        left = _square_outline(rows[first:last], reach[1, first:last], spare, side)
        for corner in range(left):  # upwards, and not negated
            around[right + corner, 0] = side[left - 1 - corner, 0]
            around[right + corner, 1] = -side[left - 1 - corner, 1]
        widths[k] = _smallest_width(around[: right + left], size)
    return widths


@compiled
def _square_outline(rows, reach, spare, corners):  # pragma: no cover
    """Write one side of the hull of the squares of pixels, in half pixels; count it."""
    n = 0
    for k in range(len(rows)):
        n = _push(spare, n, rows[k], reach[k])
    m = 0
    for k in range(n):
        row, far = 2 * spare[k, 0], 2 * spare[k, 1]
        m = _push(corners, m, row - 1, far + 1)
        m = _push(corners, m, row + 1, far + 1)
    return m


@compiled
def _smallest_width(corners, size):  # pragma: no cover
    """Smallest width of a convex polygon in half pixels, by rotating calipers.

    A smallest width is square to an edge. The corner farthest from it moves on with the edges.
    What is compared are whole numbers: sizes of pixels scale all areas alike.
    """
    count = len(corners)
    smallest = np.inf
    opposite = 1
    for k in range(count):
        row, column = corners[k]
        down = corners[(k + 1) % count, 0] - row
        out = corners[(k + 1) % count, 1] - column
        largest = 0
        while True:
            y, x = corners[opposite]
            area = down * (column - x) - out * (row - y)
            if area < largest:
                break
            largest = area
            opposite = (opposite + 1) % count
        opposite = (opposite - 1) % count
        edge = np.hypot(down * size[0], out * size[1])
        smallest = min(smallest, largest * size[0] * size[1] / edge)
    return smallest / 2
