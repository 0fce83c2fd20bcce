"""Perimeters and Euler numbers of all objects of a plane at once."""

from __future__ import annotations

import numpy as np

from opsef_bridge.measure.compiled import compiled
from opsef_bridge.measure.overlap import Runs

__all__ = ["euler_numbers", "perimeters"]

KINDS = np.zeros(50, np.int8)
"""Kind of a border pixel by 1 + 2 x its neighbours by an edge + 10 x those by a corner."""
KINDS[[5, 7, 15, 17, 25, 27]] = 1
KINDS[[21, 33]] = 2
KINDS[[13, 23]] = 3

LENGTHS = np.array([0, 1, np.sqrt(2), (1 + np.sqrt(2)) / 2])
"""What a border pixel of each kind adds to the perimeter, in pixels."""


def perimeters(runs: Runs) -> np.ndarray:
    """Estimate the length of each object's outline, holes included.

    The border pixels of an object are those with a neighbour by an edge that is not of it.
    Each adds a length that depends on which of its neighbours are border pixels too.

    Parameters
    ----------
    runs : Runs
        Objects of a plane.

    Returns
    -------
    (N,) ndarray of float64
        Pixels; 0 for objects of one or two pixels. ``perimeter`` of scikit-image with its
        default ``neighborhood=4``.

    Notes
    -----
    After K. Benkrid and D. Crookes, *Design and FPGA implementation of a perimeter
    estimator*, The Queen's University of Belfast.

    Examples
    --------
    >>> from opsef_bridge.measure.overlap import label_runs
    >>> perimeters(label_runs(np.full((4, 4), 9)))
    array([12.])
    """
    height, width = runs.shape
    rows = np.searchsorted(runs.start, np.arange(height + 1) * width)
    kinds = _border_kinds(runs.start, runs.stop, runs.index, rows, width, len(runs), KINDS)
    return kinds @ LENGTHS


def euler_numbers(runs: Runs) -> np.ndarray:
    """Count the pieces of each object less its holes.

    Pixels that touch at a corner belong together.

    Parameters
    ----------
    runs : Runs
        Objects of a plane.

    Returns
    -------
    (N,) ndarray of int64
        ``euler_number`` of scikit-image's ``regionprops``.

    Examples
    --------
    >>> from opsef_bridge.measure.overlap import label_runs
    >>> euler_numbers(label_runs(np.array([[3, 3, 3, 0, 3], [3, 0, 3, 0, 0], [3, 3, 3, 0, 3]])))
    array([2])
    """
    return _euler(runs.start, runs.stop, runs.index, runs.shape[1], len(runs))


@compiled
def _euler(start, stop, index, width, count):  # pragma: no cover
    """Runs less the pairs of runs that touch in neighbouring rows: each hole closes a ring."""
    number = np.zeros(count, np.int64)
    above = 0
    for k in range(len(start)):
        number[index[k]] += 1
        column = start[k] % width
        low = start[k] - width - (column > 0)
        high = stop[k] - width + (stop[k] - start[k] + column < width)
        while above < k and stop[above] <= low:
            above += 1
        other = above
        while other < k and start[other] < high:
            if index[other] == index[k]:
                number[index[k]] -= 1
            other += 1
    return number


@compiled
def _border_kinds(start, stop, index, rows, width, count, kinds):  # pragma: no cover
    """How many border pixels of each kind every object has.

    Only four rows are held: one is drawn, the border of the row above it is then known, and
    the row above that can be counted.
    """
    found = np.zeros((count, 4), np.int64)
    height = len(rows) - 1
    drawn = np.full((4, width + 2), -1, np.int32)
    border = np.full((4, width + 2), -1, np.int32)
    for row in range(height + 2):
        drawn[row % 4] = -1
        if row < height:
            for k in range(rows[row], rows[row + 1]):
                first = start[k] - row * width + 1
                drawn[row % 4, first : first + stop[k] - start[k]] = index[k]
        border[(row - 1) % 4] = -1
        if 1 <= row <= height:
            for k in range(rows[row - 1], rows[row]):
                first = start[k] - (row - 1) * width + 1
                last = first + stop[k] - start[k] - 1
                _mark(drawn, border, row - 1, first, last, index[k])
        if row >= 2:
            for k in range(rows[row - 2], rows[row - 1]):
                first = start[k] - (row - 2) * width + 1
                last = first + stop[k] - start[k] - 1
                _count(border, row - 2, first, last, index[k], kinds, found[index[k]])
    return found


@compiled
def _mark(drawn, border, row, first, last, owner):  # pragma: no cover
    """Write an object's border pixels among those of one run."""
    above, here, below = drawn[(row - 1) % 4], border[row % 4], drawn[(row + 1) % 4]
    here[first] = owner
    here[last] = owner
    for x in range(first + 1, last):
        here[x] = owner if above[x] != owner or below[x] != owner else -1


@compiled
def _count(border, row, first, last, owner, kinds, found):  # pragma: no cover
    """Count the border pixels of one run by kind."""
    above, here, below = border[(row - 1) % 4], border[row % 4], border[(row + 1) % 4]
    for x in range(first, last + 1):
        if here[x] == owner:
            edges = (here[x - 1] == owner) + (here[x + 1] == owner)
            edges += (above[x] == owner) + (below[x] == owner)
            corners = (above[x - 1] == owner) + (above[x + 1] == owner)
            corners += (below[x - 1] == owner) + (below[x + 1] == owner)
            found[kinds[1 + 2 * edges + 10 * corners]] += 1
