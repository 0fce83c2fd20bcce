"""Perimeters and Euler numbers of all objects of a plane at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from opsef_bridge.measure.compiled import compiled
from opsef_bridge.measure.overlap import Runs

__all__ = ["euler_numbers", "perimeters", "traced_perimeters"]

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


def traced_perimeters(runs: Runs, size: Sequence[float] = (1.0, 1.0)) -> np.ndarray:
    """Measure the length of each object's outline as ImageJ does for traced ROIs.

    The outline runs along the edges of pixels, also those of holes; each corner that does not
    follow a counted corner by a side of one pixel is cut short.

    Parameters
    ----------
    runs : Runs
        Objects of a plane.
    size : (height, width)
        Of a pixel.

    Returns
    -------
    (N,) ndarray of float64
        In the unit of `size`: what ``Roi.getLength()`` of ImageJ 1.54p, its column ``Perim.``,
        gives for the ROIs of `opsef_bridge.measure.trace.trace_rois` on an image with pixels of
        that size (``PolygonRoi.getTracedPerimeter``; of composites the sum over their parts).

    Notes
    -----
    Whether a corner of a staircase counts depends on where the outline begins. Here, as in
    those ROIs, it begins at the first upper edge in the order of a scan. An outline that ImageJ
    has drawn itself may begin elsewhere, and then be longer or shorter by one corner: 0.59 pixels.

    Examples
    --------
    >>> from opsef_bridge.measure.overlap import label_runs
    >>> traced_perimeters(label_runs(np.full((4, 4), 9))).round(3)
    array([13.657])
    """
    found = _by_object(runs.start, runs.stop, runs.index, runs.shape[1], len(runs))
    along_x, corners = _traced(*found)
    height, width = size
    straight = 2 * np.diff(found[0]) * height + along_x * width
    return straight - corners * ((width + height) - np.hypot(width, height))


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


@compiled
def _by_object(start, stop, index, width, count):  # pragma: no cover
    """List the runs object by object: their rows, and the columns of their two ends.

    Those of object k are from ``offset[k]`` to ``offset[k + 1]``, in scan order; the ends of
    run j are numbers ``2 * j`` and ``2 * j + 1``.
    """
    offset = np.zeros(count + 1, np.int64)
    for k in range(len(start)):
        offset[index[k] + 1] += 1
    for k in range(count):
        offset[k + 1] += offset[k]
    rows = np.empty(len(start), np.int32)
    ends = np.empty(2 * len(start), np.int32)
    free = offset[:-1].copy()
    row = 0
    for k in range(len(start)):
        while start[k] >= (row + 1) * width:
            row += 1
        place = free[index[k]]
        free[index[k]] += 1
        rows[place] = row
        ends[2 * place] = start[k] - row * width
        ends[2 * place + 1] = stop[k] - row * width
    return offset, rows, ends


@compiled
def _traced(offset, rows, ends):  # pragma: no cover
    """Length along x of the outlines of each object, and their corners that ImageJ counts.

    An outline is a chain of the ends of runs: up along left ones, down along right ones.
    `after` has the end that follows each.
    """
    count = len(offset) - 1
    along_x = np.zeros(count, np.int64)
    corners = np.zeros(count, np.int64)
    after = np.empty(len(ends), np.int32)
    before_east = np.empty(len(ends), np.int32)
    walked = np.zeros(len(ends), np.bool_)
    left, right = ends[::2], ends[1::2]
    for k in range(count):
        found = _link(offset[k], offset[k + 1], rows, left, right, after, before_east)
        for end in before_east[:found]:
            if not walked[end]:
                pixels, turns = _walk(end, ends, after, walked)
                along_x[k] += pixels
                corners[k] += turns
    return along_x, corners


@compiled
def _link(first, last, rows, left, right, after, before_east):  # pragma: no cover
    """Chain the ends of one object's runs; list those before upper edges in scan order."""
    low = high = first  # runs of the row above
    found = 0
    while high < last or low < high:
        row = rows[low] + 1 if low < high else rows[high]
        end = high
        while end < last and rows[end] == row:
            end += 1
        found = _join(low, high, end, left, right, after, before_east, found)
        low, high = high, end
    return found


@compiled
def _join(low, middle, high, left, right, after, before_east, found):  # pragma: no cover
    """Chain the ends that meet between two rows, with runs from `low` and from `middle`.

    The object is kept on the right hand, and where it goes on to the left, also across a
    corner only, the outline turns left: as in `opsef_bridge.measure.trace`.
    """
    i, j = low, middle
    while i < middle or j < high:
        east = False
        if j == high or (i < middle and right[i] < left[j]):  # down along the right end of i
            below = j - 1
            if below >= middle and right[below] > right[i]:
                east = True
                joins = i + 1 < middle and left[i + 1] <= right[below]
                after[2 * i + 1] = 2 * (i + 1) if joins else 2 * below + 1
            elif below >= middle and right[below] >= left[i]:
                after[2 * i + 1] = 2 * below + 1
            else:
                after[2 * i + 1] = 2 * i
            end = 2 * i + 1
            i += 1
        else:  # up along the left end of j
            if i < middle and left[i] < left[j]:
                joins = j > middle and right[j - 1] >= left[i]
                after[2 * j] = 2 * (j - 1) + 1 if joins else 2 * i
            else:
                joins = i < middle and left[i] <= right[j]
                after[2 * j] = 2 * i if joins else 2 * j + 1
                east = not joins or left[i] > left[j]
            end = 2 * j
            j += 1
        if east:
            before_east[found] = end
            found += 1
    return found


@compiled
def _walk(first, ends, after, walked):  # pragma: no cover
    """Length along x of one outline, and its corners that ImageJ counts.

    Those are all but the ones that come one pixel after a counted corner.
    """
    pixels = corners = side = 0
    counted = False
    end = first
    while True:
        counted = side > 1 or not counted
        corners += counted
        side = abs(ends[after[end]] - ends[end])
        pixels += side
        counted = side > 1 or not counted
        corners += counted
        end = after[end]
        walked[end] = True
        side = 1
        while ends[after[end]] == ends[end]:
            end = after[end]
            walked[end] = True
            side += 1
        if end == first:
            return pixels, corners
