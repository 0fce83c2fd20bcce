"""ImageJ ROIs -> label image, by ImageJ's own rule to the pixel.

The rule is that of ``ij.process.PolygonFiller`` in ImageJ 1.54p (public domain): an edge
from ``y1`` down to ``y2`` meets the rows from ``floor(y1 + 0.5)`` up to, not including,
``floor(y2 + 0.5)``, at the height of their centres; each meeting point moves right by
1e-8 and is rounded; a pixel is inside where an odd number of them lie at or left of it.
So a centre exactly on the left boundary is outside, one on the right boundary inside.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from itertools import pairwise
from math import ceil

import numpy as np
from numpy.typing import ArrayLike, NDArray
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from opsef_bridge.errors import InputError, RoiError
from opsef_bridge.measure.compiled import compiled

__all__ = ["fill_loops", "fill_rois", "roi_labels"]

TIE = 1e-8
"""What ImageJ adds to each meeting point, so that ties do not hang on rounding errors."""

LARGEST = 2**17
"""Beyond every coordinate of the format: where boxes of damaged files are cut off."""

POLYGONS = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)
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
    loops: list[NDArray[np.floating]] = []
    owners: list[int] = []
    for owner, roi in enumerate(rois):
        for loop in _loops_of(roi):
            loops.append(loop)
            owners.append(owner)
    starts = np.concatenate([[0], np.cumsum([len(loop) for loop in loops], dtype=np.int64)])
    vertices = np.concatenate(loops, dtype=np.float64) if loops else np.empty((0, 2))
    return fill_loops(vertices - np.array(offset[::-1]), starts, owners, values, shape)


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
    if len(shape) != 2 or min(shape) < 0:
        raise InputError(f"shape {shape} is not that of an image", hint="Give (rows, columns)")
    height, width = (int(size) for size in shape)
    starts = np.asarray(starts, np.int64)
    owner = np.repeat(np.asarray(owners, np.int64), np.diff(starts))
    edge, row, column = _crossings(np.asarray(vertices, np.float64), starts, height, width)
    # One sort brings the crossings of an object in a row together, from left to right. A
    # closed loop crosses a row an even number of times, so pairs never straddle two rows.
    keys = np.sort((owner[edge] * height + row) * (width + 1) + column)
    rows, columns = np.divmod(keys, width + 1)
    objects, rows = np.divmod(rows[::2], max(height, 1))
    labels = np.zeros((height, width), np.int32)
    _paint(labels, rows, columns[::2], columns[1::2], np.asarray(values, np.int32)[objects])
    return labels


def _crossings(
    vertices: NDArray[np.float64], starts: NDArray[np.int64], height: int, width: int
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
    each = np.repeat(np.arange(len(edge)), count)
    row = np.arange(len(each)) - np.repeat(np.cumsum(count) - count - top, count)
    column = np.floor(x[each] + (row - first[each]) * slope[each] + 0.5)
    return edge[each], row, np.clip(column, 0, width).astype(np.int64)


@compiled
def _paint(labels, rows, begins, ends, values):  # type: ignore[no-untyped-def]
    """Set runs of pixels, in order."""
    for k in range(len(rows)):
        labels[rows[k], begins[k] : ends[k]] = values[k]


def _loops_of(roi: ImagejRoi) -> Iterator[NDArray[np.floating]]:
    """Yield the closed loops that ImageJ fills for a ROI, in pixels of the picture."""
    plain = roi.subtype == ROI_SUBTYPE.UNDEFINED and not roi.options & ROI_OPTIONS.SPLINE_FIT
    if plain and roi.roitype in POLYGONS and roi.integer_coordinates is not None:
        if roi.subpixel_coordinates is None:
            yield roi.integer_coordinates + np.array((roi.left, roi.top))
        else:
            points = _finite(roi, roi.subpixel_coordinates.astype(np.float32))
            # ImageJ stores the points relative to the first column and row in float32.
            low = points.min(axis=0, initial=np.inf)
            yield (points - low).astype(np.float64) + low
    elif plain and roi.roitype == ROI_TYPE.RECT and roi.multi_coordinates is not None:
        yield from _composite(roi)
    elif plain and roi.roitype == ROI_TYPE.RECT and not roi.rounded_rect_arc_size:
        left, top, width, height = _box(roi)
        right, bottom = left + width, top + height
        yield np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    elif plain and roi.roitype == ROI_TYPE.OVAL:
        yield _oval(*_box(roi))
    else:
        raise RoiError(
            f"ROI {roi.name!r} is a {_kind(roi)}, which cannot be filled exactly",
            hint="Delete it, or make it a plain area in ImageJ (Edit > Selection > Create Mask, "
            "then Create Selection)",
        )


def _kind(roi: ImagejRoi) -> str:
    """Name what kind of ROI it is, for a message."""
    if roi.options & ROI_OPTIONS.SPLINE_FIT:
        return "spline"
    if roi.subtype != ROI_SUBTYPE.UNDEFINED:
        return roi.subtype.name.lower()
    return "rounded rectangle" if roi.roitype == ROI_TYPE.RECT else roi.roitype.name.lower()


def _finite(roi: ImagejRoi, points: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(points).all():
        raise RoiError(
            f"ROI {roi.name!r} has coordinates that are not finite",
            hint="The file is damaged: delete this ROI in ImageJ and save again",
        )
    return points


def _composite(roi: ImagejRoi) -> Iterator[NDArray[np.float64]]:
    """Yield the sub-paths of a composite."""
    path = np.ascontiguousarray(roi.multi_coordinates, np.float32)
    points, starts = _read_path(path)
    if not len(starts):
        raise RoiError(
            f"ROI {roi.name!r} is a composite with curves, or its path is damaged",
            hint="In ImageJ: Edit > Selection > Create Mask, then Create Selection",
        )
    points = _finite(roi, points)
    # ImageJ stores the path relative to the whole column and row it begins in, in float32.
    low = np.floor(points.min(axis=0, initial=np.inf)).astype(np.float64)
    points = (points - low).astype(np.float32) + low
    for start, stop in pairwise(starts.tolist()):
        yield points[start:stop]


@compiled
def _read_path(path):  # type: ignore[no-untyped-def]
    """Return points and starts of the sub-paths; no starts where it is not all lines."""
    points = np.empty((len(path) // 3, 2), np.float32)
    starts = np.zeros(len(path) // 3 + 1, np.int64)
    k = count = loops = 0
    closed = True
    while k < len(path):
        code = path[k]
        if code == 4:
            closed = True
            k += 1
            continue
        if k + 2 >= len(path) or not (code == 0 or (code == 1 and not closed)):
            return points[:0], starts[:0]
        if code == 0:
            starts[loops] = count
            loops += 1
            closed = False
        points[count, 0] = path[k + 1]
        points[count, 1] = path[k + 2]
        count += 1
        k += 3
    starts[loops] = count
    return points[:count], starts[: loops + 1]


def _box(roi: ImagejRoi) -> tuple[int, int, int, int]:
    """Return left, top, width, height in whole pixels, as ImageJ rounds them."""
    left, top, width, height = roi.left, roi.top, roi.right - roi.left, roi.bottom - roi.top
    if roi.subpixelrect:
        box = np.array([roi.xd, roi.yd, roi.widthd, roi.heightd], np.float32)
        x, y, w, h = np.clip(_finite(roi, box), -LARGEST, LARGEST).tolist()
        left, top, width, height = int(x), int(y), ceil(w), ceil(h)
    return left, top, max(width, 1), max(height, 1)


def _oval(left: int, top: int, width: int, height: int) -> NDArray[np.int64]:
    """Return the outline of the pixels whose centres lie in the ellipse, as ImageJ's.

    The right half of a row begins at `middle`. How far it reaches is estimated by a square
    root; ImageJ's own comparison then decides about the columns around the estimate.
    """
    middle = width // 2
    y = np.arange(height) - (height / 2 - 0.5)
    above = y**2 / (height / 2) ** 2
    reach = np.floor(width / 2 * np.sqrt(1 - above) + width / 2 - 0.5).astype(np.int64)
    sure = np.maximum(reach - 1, middle)
    column = sure[:, None] + np.arange(4)
    x = column - (width / 2 - 0.5)
    end = sure + (x**2 / (width / 2) ** 2 + above[:, None] <= 1).sum(axis=1)
    rows = np.repeat(np.arange(height + 1), 2)[1:-1]
    x = np.concatenate([np.repeat(end, 2), np.repeat(width - end, 2)[::-1]])
    return np.stack([left + x, top + np.concatenate([rows, rows[::-1]])], axis=1)
