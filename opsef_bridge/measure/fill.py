"""ImageJ ROIs -> label image, by ImageJ's own rule to the pixel.

The rule is that of ``ij.process.PolygonFiller`` in ImageJ 1.54p (public domain): an edge
from ``y1`` down to ``y2`` meets the rows from ``floor(y1 + 0.5)`` up to, not including,
``floor(y2 + 0.5)``, at the height of their centres; each meeting point moves right by
1e-8 and is rounded; a pixel is inside where an odd number of them lie at or left of it.
So a centre exactly on the left boundary is outside, one on the right boundary inside.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from copy import copy
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from roifile import ImagejRoi

from opsef_bridge.errors import InputError, RoiError
from opsef_bridge.measure.compiled import compiled
from opsef_bridge.measure.loops import roi_loops

__all__ = [
    "Stretches",
    "fill_loops",
    "fill_rois",
    "loop_stretches",
    "paint_stretches",
    "roi_labels",
]

TIE = 1e-8
"""What ImageJ adds to each meeting point, so that ties do not hang on rounding errors."""

MAX_CROSSINGS = 2**26
"""Most rows that all outlines of a plane may cross together: about 4 GiB of memory."""

PORTION = 2**15
"""About how many corners are worked on together: their arrays fit into a processor's cache."""

ENTIRE_NAME = re.compile(r"[0-9]{1,10}")
IN_PLANE = re.compile(r"([0-9]{1,10})-([0-9]{1,10})")


def fill_rois(
    rois: Iterable[ImagejRoi], shape: tuple[int, ...], *, offset: tuple[int, int] = (0, 0)
) -> NDArray[np.int32]:
    """Paint ROIs into a label image, each with the integer that is its name.

    In a volume names are label and plane, ``0007-0003``, as `trace_rois` gives them.

    Polygon, freehand and traced ROIs (whole or sub-pixel coordinates), rectangles, ovals
    and composites of straight lines get exactly the pixels that ImageJ gives them. Where
    ROIs overlap the later one wins; what lies outside `shape` is cut off. Position,
    group and colour are ignored.

    Parameters
    ----------
    rois : iterable of roifile.ImagejRoi
        ROIs with different positive integers as names.
    shape : ([int,] int, int)
        (Planes,) rows and columns of the label image.
    offset : (int, int)
        Row and column of its first pixel in the picture that the ROIs are for.

    Returns
    -------
    ([Z,] Y, X) int32 ndarray
        Label image, 0 where there is no ROI.

    Raises
    ------
    RoiError
        Names are no positive integers or occur twice, or a ROI is not a plain area.
    InputError
        `shape` is not two numbers of at least 0.

    See Also
    --------
    opsef_bridge.measure.trace.trace_rois : the way there.

    Examples
    --------
    >>> from opsef_bridge.measure.trace import trace_rois
    >>> labels = np.array([[0, 7, 7], [0, 7, 0], [2, 0, 0]])
    >>> np.array_equal(fill_rois(trace_rois(labels), labels.shape), labels)
    True
    """
    rois = list(rois)
    if len(shape) == 3:
        return _fill_volume(rois, shape, offset)
    values = roi_labels(rois)
    return fill_loops(*roi_loops(rois, offset=offset), values, shape)


def _fill_volume(
    rois: Sequence[ImagejRoi], shape: tuple[int, ...], offset: tuple[int, int]
) -> NDArray[np.int32]:
    """Fill a volume plane by plane."""
    planes: dict[int, list[ImagejRoi]] = {}
    for roi in rois:
        parts = IN_PLANE.fullmatch(roi.name)
        if parts is None or not 1 <= int(parts[2]) <= shape[0]:
            raise RoiError(
                f"the name {roi.name!r} is no label and plane of a volume of {shape[0]} planes",
                hint="In a volume ROIs are named like 0007-0003: object 7 in plane 3",
            )
        flat = copy(roi)
        flat.name = parts[1]
        planes.setdefault(int(parts[2]) - 1, []).append(flat)
    labels = np.zeros(shape, np.int32)
    for plane, those in planes.items():
        labels[plane] = fill_rois(those, shape[1:], offset=offset)
    return labels


def roi_labels(rois: Sequence[ImagejRoi]) -> NDArray[np.int32]:
    """Return the label that each ROI's name stands for.

    Raises
    ------
    RoiError
        A name is no integer from 1 to 2**31 - 1, or two names mean the same one.

    Examples
    --------
    >>> roi_labels([ImagejRoi(name="0007"), ImagejRoi(name="12000")]).tolist()
    [7, 12000]
    """
    way_out = "Rename them in ImageJ's ROI Manager, each to an integer of its own"
    limit = np.iinfo(np.int32).max
    values = [int(roi.name) if ENTIRE_NAME.fullmatch(roi.name) else 0 for roi in rois]
    bad = [roi.name for roi, v in zip(rois, values, strict=True) if not 0 < v <= limit]
    if bad:
        raise RoiError(
            f"{len(bad)} ROI names are no integers from 1 to {limit}: {_some(bad)}", hint=way_out
        )
    unique, counts = np.unique(values, return_counts=True)
    if (counts > 1).any():
        twice = [f"{value:04d}" for value in unique[counts > 1].tolist()]
        raise RoiError(f"{len(twice)} ROI names occur more than once: {_some(twice)}", hint=way_out)
    return np.array(values, np.int32)


def _some(names: list[str]) -> str:
    """List the first few names."""
    return ", ".join(repr(name) for name in names[:5]) + (", ..." if len(names) > 5 else "")


class Stretches(NamedTuple):
    """Stretches of pixels in a row, in the order in which they are painted.

    Attributes
    ----------
    owners, rows : (n,) int64 ndarray
        Which object a stretch belongs to, ascending, and its row.
    begins, ends : (n,) int64 ndarray
        First column, and the column after the last; those of an object never overlap.
    """

    owners: NDArray[np.int64]
    rows: NDArray[np.int64]
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]


def fill_loops(
    vertices: ArrayLike,
    starts: ArrayLike,
    owners: ArrayLike,
    values: ArrayLike,
    shape: tuple[int, int],
) -> NDArray[np.int32]:
    """Paint objects given by closed loops; all loops of an object count into one parity.

    Parameters
    ----------
    vertices : (n, 2) array_like of float
        Corners x, y of all loops, in pixels; a loop closes by itself.
    starts : (m + 1,) array_like of int
        Loop ``k`` is ``vertices[starts[k]:starts[k + 1]]``.
    owners : (m,) array_like of int
        Which object each loop belongs to. Objects are painted in ascending order.
    values : (k,) array_like of int
        The label of each object.
    shape : (int, int)
        Rows and columns of the result.

    Returns
    -------
    (Y, X) int32 ndarray

    Examples
    --------
    >>> square = [[1, 0], [3, 0], [3, 2], [1, 2]]
    >>> fill_loops(square, [0, 4], [0], [5], (2, 4)).tolist()
    [[0, 5, 5, 0], [0, 5, 5, 0]]
    """
    stretches = loop_stretches(vertices, starts, owners, shape)
    return paint_stretches(stretches, np.asarray(values), shape)


def loop_stretches(
    vertices: ArrayLike, starts: ArrayLike, owners: ArrayLike, shape: tuple[int, int]
) -> Stretches:
    """Return the pixels inside closed loops, cut to the image; parameters as `fill_loops`.

    Raises
    ------
    InputError
        `shape` is not two numbers of at least 0.
    RoiError
        The outlines cross rows so often that memory would run out, as a damaged file may.

    Examples
    --------
    >>> square = [[1, 0], [3, 0], [3, 2], [1, 2]]
    >>> loop_stretches(square, [0, 4], [0], (2, 4)).begins.tolist()
    [1, 1]
    """
    if len(shape) != 2 or min(shape) < 0:
        raise InputError(f"shape {shape} is not that of an image", hint="Give (rows, columns)")
    vertices = np.asarray(vertices, np.float64)
    starts, owners = np.asarray(starts, np.int64), np.asarray(owners, np.int64)
    parts, room = [], MAX_CROSSINGS
    for first, last in pairwise(_portions(starts, owners)):
        some = starts[first : last + 1]
        part = _stretches(
            vertices[some[0] : some[-1]], some - some[0], owners[first:last], shape, room
        )
        room -= 2 * len(part.rows)
        parts.append(part)
    return Stretches(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _portions(starts: NDArray[np.int64], owners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where to cut a list of loops, between owners, so that a portion fits the cache.

    Time then grows as the number of loops does, and memory does not.
    """
    ends = np.flatnonzero(owners[1:] != owners[:-1]) + 1
    if (owners[1:] < owners[:-1]).any():
        ends = ends[:0]
    portion = starts[ends] // PORTION
    cuts = ends[np.flatnonzero(np.diff(portion, prepend=0))]
    return np.concatenate([[0], cuts, [len(owners)]])


def _stretches(
    vertices: NDArray[np.float64],
    starts: NDArray[np.int64],
    owners: NDArray[np.int64],
    shape: tuple[int, int],
    room: int,
) -> Stretches:
    """Return the pixels inside some of the loops, unless they cross more than `room` rows."""
    height, width = (int(size) for size in shape)
    owner = np.repeat(owners, np.diff(starts))
    edge, row, column = _crossings(vertices, starts, height, width, room)
    # One sort brings the crossings of an object in a row together, from left to right. A
    # closed loop crosses a row an even number of times, so pairs never straddle two rows.
    keys = np.sort((owner[edge] * height + row) * (width + 1) + column)
    rows, columns = np.divmod(keys, width + 1)
    objects, rows = np.divmod(rows[::2], max(height, 1))
    return Stretches(objects, rows, columns[::2], columns[1::2])


def paint_stretches(
    stretches: Stretches, values: NDArray[np.integer], shape: tuple[int, int]
) -> NDArray[np.int32]:
    """Paint stretches into an image of zeros, in order: the later one wins.

    `values` has the label of each owner.

    Examples
    --------
    >>> one = np.array([0])
    >>> paint_stretches(Stretches(one, one, one + 1, one + 3), np.array([5]), (1, 4)).tolist()
    [[0, 5, 5, 0]]
    """
    labels = np.zeros(shape, np.int32)
    chosen = np.asarray(values, np.int32)[stretches.owners]
    _paint(labels, stretches.rows, stretches.begins, stretches.ends, chosen)
    return labels


def _crossings(
    vertices: NDArray[np.float64], starts: NDArray[np.int64], height: int, width: int, room: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return edge, row, and first column right of it, for each row that an edge crosses."""
    following = np.arange(1, len(vertices) + 1)
    filled = starts[1:] > starts[:-1]
    following[starts[1:][filled] - 1] = starts[:-1][filled]
    row1 = np.floor(vertices[:, 1] + 0.5)
    row2 = row1[following]
    edge = np.flatnonzero(row1 != row2)
    upward = (row1 > row2)[edge]
    upper = np.where(upward, following[edge], edge)
    x, y = vertices[upper].T
    x2, y2 = vertices[np.where(upward, edge, following[edge])].T
    first, last = row1[upper], np.maximum(row1, row2)[edge]
    slope = (x2 - x) / (y2 - y)
    x = x + (first - y + 0.5) * slope + TIE

    top = np.clip(first, 0, height).astype(np.int64)
    count = np.clip(last, 0, height).astype(np.int64) - top
    if (total := int(count.sum())) > room:
        more = MAX_CROSSINGS - room + total
        raise RoiError(
            f"the outlines of the ROIs cross rows {more} times; the limit is {MAX_CROSSINGS}",
            hint="A ROI is damaged: delete those that look wrong in ImageJ and save again",
        )
    each = np.repeat(np.arange(len(edge)), count)
    row = np.arange(len(each)) - np.repeat(np.cumsum(count) - count - top, count)
    column = np.floor(x[each] + (row - first[each]) * slope[each] + 0.5)
    return edge[each], row, np.clip(column, 0, width).astype(np.int64)


@compiled
def _paint(labels, rows, begins, ends, values):  # type: ignore[no-untyped-def]
    """Set runs of pixels, in order."""
    for k in range(len(rows)):
        labels[rows[k], begins[k] : ends[k]] = values[k]
