"""ImageJ ROIs -> the closed loops that ImageJ fills, in pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil

import numpy as np
from numpy.typing import NDArray
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from opsef_bridge.errors import RoiError
from opsef_bridge.measure.compiled import compiled

__all__ = ["roi_loops"]

LARGEST = 2**17
"""Beyond every coordinate of the format: where boxes of damaged files are cut off."""

FARTHEST = 2**30
"""Largest coordinate of an outline: differences of larger ones leave float32."""

POLYGONS = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)


def roi_loops(
    rois: Sequence[ImagejRoi], *, offset: tuple[int, int] = (0, 0)
) -> tuple[NDArray[np.float64], NDArray[np.int64], list[int]]:
    """Return the closed loops that ImageJ fills for ROIs, as `fill.fill_loops` takes them.

    Parameters
    ----------
    rois : sequence of roifile.ImagejRoi
        Their names do not matter.
    offset : (int, int)
        Row and column of the first pixel of the label image.

    Returns
    -------
    vertices : (n, 2) float64 ndarray
        Corners x, y of all loops, in pixels of the label image.
    starts : (m + 1,) int64 ndarray
        Loop ``k`` is ``vertices[starts[k]:starts[k + 1]]``.
    owners : list of int
        The place in `rois` of each loop's ROI, ascending.

    Raises
    ------
    RoiError
        A ROI is not a plain area.
    """
    loops: list[NDArray[np.floating]] = []
    owners: list[int] = []
    for owner, roi in enumerate(rois):
        for loop in _loops_of(roi):
            loops.append(loop)
            owners.append(owner)
    starts = np.concatenate([[0], np.cumsum([len(loop) for loop in loops], dtype=np.int64)])
    vertices = np.concatenate(loops, dtype=np.float64) if loops else np.empty((0, 2))
    return vertices - np.array(offset[::-1]), starts, owners


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


def _finite(
    roi: ImagejRoi, points: NDArray[np.float32], limit: float = FARTHEST
) -> NDArray[np.float32]:
    if not (np.abs(points) <= limit).all():
        raise RoiError(
            f"ROI {roi.name!r} has coordinates that are not finite, or beyond {limit:g}",
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
        x, y, w, h = np.clip(
            _finite(roi, box, np.finfo(np.float32).max), -LARGEST, LARGEST
        ).tolist()
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
