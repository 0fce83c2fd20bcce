"""Label image -> ImageJ ROIs, exactly: each object becomes its outline along pixel edges.

Coordinates are ImageJ's: pixel (x, y) covers x..x+1 and y..y+1, so an outline that runs
along the edges between pixels has integer corners and encloses exactly the pixels of the
object. ImageJ's filler, and `opsef_bridge.measure.fill.fill_rois`, give them back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from roifile import ROI_TYPE, ImagejRoi

from opsef_bridge.errors import InputError, RoiError
from opsef_bridge.measure.compiled import compiled

__all__ = ["Loops", "trace_loops", "trace_rois"]

COORDINATE_RANGE = (-5000, 60535)
"""Smallest and largest coordinate that ImageJ's ROI format holds."""

ROI_VERSION = 228
"""First version of the format with groups; later ones hold what ImageJ 1.54p cannot read."""


class Loops(NamedTuple):
    """Closed outlines of the objects of a label image, sorted by label.

    Attributes
    ----------
    vertices : (n, 2) int32 ndarray
        Corners x, y of all loops; the first corner of a loop is not repeated.
    starts : (m + 1,) int64 ndarray
        Loop ``k`` is ``vertices[starts[k]:starts[k + 1]]``.
    labels : (m,) int32 ndarray
        The label that each loop belongs to, ascending. The first loop of a label is an
        outer one (clockwise on the screen); holes run the other way.
    """

    vertices: NDArray[np.int32]
    starts: NDArray[np.int64]
    labels: NDArray[np.int32]


def trace_rois(
    labels: ArrayLike, *, offset: tuple[int, int] = (0, 0), hyperstack: bool = False
) -> list[ImagejRoi]:
    """Return one ImageJ ROI per label: same pixels, named by the label.

    An object with one outline becomes a TRACED ROI, an object with holes or several
    parts a composite. Group and colour are not set, and the position is in volumes only:
    there an object has one ROI in each plane that it reaches, named by label and plane
    (``0007-0003``), which ImageJ shows in that plane (the first is 1).

    Parameters
    ----------
    labels : ([Z,] Y, X) array_like of integer or bool
        Label image, 0 is background.
    offset : (int, int)
        Row and column of the first pixel in the picture that the ROIs are for, in
        pixels; not zero for a crop.
    hyperstack : bool
        Whether the picture that the ROIs of a volume are for has channels or time points
        besides planes: ImageJ counts positions otherwise then.

    Returns
    -------
    list of roifile.ImagejRoi
        In ascending order of label, then of plane; the name is the label with at least
        four digits.

    Raises
    ------
    InputError
        `labels` is neither 2D nor 3D, not of an integer dtype, negative, or above 2**31 - 1.
    RoiError
        An object lies outside the coordinates that ImageJ can store (-5000..60535).

    See Also
    --------
    opsef_bridge.measure.fill.fill_rois : the way back.

    Examples
    --------
    >>> labels = np.array([[0, 7, 7], [0, 7, 0], [2, 0, 0]])
    >>> [(roi.name, roi.roitype.name) for roi in trace_rois(labels)]
    [('0002', 'TRACED'), ('0007', 'TRACED')]
    >>> trace_rois(labels)[1].coordinates().tolist()
    [[1, 0], [3, 0], [3, 1], [2, 1], [2, 2], [1, 2]]
    """
    if np.ndim(labels) == 3:
        return _trace_volume(np.asarray(labels), offset, hyperstack)
    loops = trace_loops(labels)
    if not len(loops.labels):
        return []
    vertices = loops.vertices + np.array(offset[::-1], np.int32)
    _check_range(vertices)
    return list(_rois(Loops(vertices, loops.starts, loops.labels)))


def _trace_volume(
    labels: NDArray[Any], offset: tuple[int, int], hyperstack: bool
) -> list[ImagejRoi]:
    """Return the ROIs of all planes, object by object."""
    found = []
    for number, plane in enumerate(labels, 1):
        for roi in trace_rois(plane, offset=offset):
            found.append((int(roi.name), number, roi))
            roi.name = f"{roi.name}-{number:04d}"
            # With both set ImageJ would show it in every plane of a plain stack.
            if hyperstack:
                roi.z_position = number
            else:
                roi.position = number
    return [roi for *_, roi in sorted(found, key=lambda one: one[:2])]


def trace_loops(labels: ArrayLike) -> Loops:
    """Return the outlines of all objects of a label image, along pixel edges.

    Pixels of a label that touch only at a corner belong to one loop (8-connected), as
    with ImageJ's own "Create Selection".

    Parameters
    ----------
    labels : (Y, X) array_like of integer or bool
        Label image, 0 is background.

    Returns
    -------
    Loops
        Corners in pixels of `labels`.

    Examples
    --------
    >>> loops = trace_loops([[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    >>> np.diff(loops.starts).tolist(), loops.labels.tolist()
    ([4, 4], [1, 1])
    """
    vertices, starts, values = _trace(_as_labels(labels))
    order = np.argsort(values, kind="stable")
    lengths = np.diff(starts)[order]
    sorted_starts = np.concatenate([[0], np.cumsum(lengths)])
    source = np.arange(len(vertices)) + np.repeat(starts[order] - sorted_starts[:-1], lengths)
    return Loops(vertices[source], sorted_starts, values[order])


def _as_labels(labels: ArrayLike) -> NDArray[np.int32]:
    """Return `labels` as the one kind of array that the compiled code is made for."""
    labels = np.asarray(labels)
    if labels.ndim != 2:
        raise InputError(
            f"labels have {labels.ndim} dimensions (shape {labels.shape}); ROIs are flat",
            hint="Give one (Y, X) plane at a time: labels[z] of a volume",
        )
    if labels.dtype.kind not in "iub":
        raise InputError(
            f"labels are {labels.dtype}, not integers",
            hint="Convert them: labels.astype('int32')",
        )
    if labels.size and labels.min() < 0:
        raise InputError(
            f"labels contain the negative value {labels.min()}",
            hint="Use 0 for background and positive numbers for objects",
        )
    if labels.size and labels.max() > np.iinfo(np.int32).max:
        raise InputError(
            f"label {labels.max()} is above {np.iinfo(np.int32).max}, the largest allowed",
            hint="Renumber the objects: skimage.segmentation.relabel_sequential",
        )
    return np.require(labels, np.int32, ["C", "W"])


def _check_range(vertices: NDArray[np.int32]) -> None:
    low, high = COORDINATE_RANGE
    for value in (vertices.min(), vertices.max()):
        if not low <= value <= high:
            raise RoiError(
                f"an object reaches pixel {value}, outside ImageJ's range {low}..{high}",
                hint="Cut the image into tiles (images: tiles: in opsef.yaml) of less than "
                f"{high} pixels and write one set of ROIs for each",
            )


def _rois(loops: Loops) -> Iterator[ImagejRoi]:
    """Make the ROI objects: all arithmetic at once, then one slice for each object."""
    vertices, starts, labels = loops
    firsts = np.concatenate([[0], np.flatnonzero(np.diff(labels)) + 1, [len(labels)]])
    low = np.minimum.reduceat(vertices, starts[firsts[:-1]])
    high = np.maximum.reduceat(vertices, starts[firsts[:-1]])
    relative = vertices - np.repeat(low, np.diff(starts[firsts]), axis=0)
    path = _path(vertices, starts)
    starts_list, boxes = starts.tolist(), np.hstack([low, high]).tolist()
    names = labels[firsts[:-1]].tolist()
    bounds = zip(firsts[:-1].tolist(), firsts[1:].tolist(), strict=True)
    for value, (left, top, right, bottom), (loop, end) in zip(names, boxes, bounds, strict=True):
        roi = ImagejRoi(
            name=f"{value:04d}", version=ROI_VERSION, left=left, top=top, right=right, bottom=bottom
        )
        start, stop = starts_list[loop], starts_list[end]
        if end == loop + 1:
            roi.roitype = ROI_TYPE.TRACED
            roi.n_coordinates = stop - start
            roi.integer_coordinates = relative[start:stop]
        else:
            roi.roitype = ROI_TYPE.RECT
            roi.multi_coordinates = path[3 * start + loop : 3 * stop + end]
            roi.shape_roi_size = len(roi.multi_coordinates)
        yield roi


def _path(vertices: NDArray[np.int32], starts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return all loops in the code of composite ROIs: 0 x y moves, 1 x y draws, 4 closes."""
    path = np.full(3 * len(vertices) + len(starts) - 1, 4, np.float32)
    at = 3 * np.arange(len(vertices)) + np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    path[at] = 1
    path[at[starts[:-1]]] = 0
    path[at + 1] = vertices[:, 0]
    path[at + 2] = vertices[:, 1]
    return path


@compiled
def _trace(labels):  # type: ignore[no-untyped-def]
    """Walk every loop once, in the order in which a raster scan meets its first top edge.

    A loop always has a top edge (an edge below which its object lies), and the first one
    that the scan meets begins at a corner: were it the middle of a straight line, the
    edge to its left would have been met before. So `walked` needs only the top edges.
    """
    height, width = labels.shape
    walked = np.zeros((height, width), np.bool_)
    vertices = np.empty((4096, 2), np.int32)
    starts = np.zeros(1024, np.int64)
    values = np.empty(1024, np.int32)
    count = loops = 0
    for y in range(height):
        x = _next_edge(labels, walked, 0, y)
        while x < width:
            vertices, count = _walk(labels, walked, x, y, vertices, count)
            if loops + 2 > len(starts):
                starts = np.concatenate((starts, np.empty_like(starts)))
                values = np.concatenate((values, np.empty_like(values)))
            values[loops] = labels[y, x]
            loops += 1
            starts[loops] = count
            x = _next_edge(labels, walked, x, y)
    return vertices[:count].copy(), starts[: loops + 1].copy(), values[:loops].copy()


@compiled
def _next_edge(labels, walked, x, y):  # type: ignore[no-untyped-def]
    """Return the next column of row y with a top edge not walked yet, or the width.

    A function of its own because numba makes a loop over pixels fast (by a factor of 4)
    only where nothing in it can allocate.
    """
    width = labels.shape[1]
    while x < width:
        value = labels[y, x]
        if value != 0 and not walked[y, x] and (y == 0 or labels[y - 1, x] != value):
            break
        x += 1
    return x


@compiled
def _walk(labels, walked, x0, y0, vertices, count):  # type: ignore[no-untyped-def]
    """Append the corners of the loop that begins along the top of pixel (x0, y0).

    The object is kept on the right hand. Where it continues on the left, also across a
    corner only, the walk turns left: that joins diagonal neighbours into one loop.
    """
    value = labels[y0, x0]
    x, y, dx, dy = x0, y0, 1, 0
    while True:
        if count == len(vertices):
            vertices = np.concatenate((vertices, np.empty_like(vertices)))
        vertices[count, 0] = x
        vertices[count, 1] = y
        count += 1
        while True:
            if dx == 1:
                walked[y, x] = True
            x += dx
            y += dy
            # The pixels ahead of this corner: on the left hand, on the right hand.
            if _is(labels, x + ((dx + dy - 1) >> 1), y + ((dy - dx - 1) >> 1), value):
                dx, dy = dy, -dx
                break
            if not _is(labels, x + ((dx - dy - 1) >> 1), y + ((dx + dy - 1) >> 1), value):
                dx, dy = -dy, dx
                break
        if x == x0 and y == y0 and dx == 1:
            return vertices, count


@compiled
def _is(labels, x, y, value):  # type: ignore[no-untyped-def]
    """Tell whether pixel (x, y) exists and has this value."""
    height, width = labels.shape
    return 0 <= y < height and 0 <= x < width and labels[y, x] == value
