"""Which objects of two label images share pixels, and how many.

A label image is first read into *runs*: the stretches of one label along the last axis.
Two lists of runs are then intersected in one merge, so that a pair of images costs its
outlines rather than its pixels, and comparing every image with every other reads each
image once. Nothing here allocates a table of objects by objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse

from opsef_bridge.errors import InputError
from opsef_bridge.measure.compiled import compiled

__all__ = ["Pairs", "Runs", "best_iou", "iou_pairs", "label_runs", "overlap", "reaches"]

LARGEST_ROW = 2**28
"""Largest label of the first image that `overlap` accepts: its row pointers take 4-8 bytes each."""


@dataclass(frozen=True)
class Runs:
    """The objects of a label image as runs along its last axis, in scan order.

    Parameters
    ----------
    start, stop : (R,) ndarray of int64
        Half-open flat positions of the runs; a run never crosses the end of a row.
    index : (R,) ndarray of int32
        Which object a run belongs to: its position in `labels`.
    labels : (N,) ndarray of int64
        Label values, ascending, without 0.
    areas : (N,) ndarray of int64
        Pixels (voxels) of each object.
    shape : tuple of int
        Shape of the label image.
    """

    start: np.ndarray
    stop: np.ndarray
    index: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.labels)


class Pairs(NamedTuple):
    """Overlapping objects of two label images: ``a.labels[i[k]]`` and ``b.labels[j[k]]``."""

    i: np.ndarray
    j: np.ndarray
    pixels: np.ndarray
    iou: np.ndarray
    a: Runs
    b: Runs


def label_runs(labels: np.ndarray) -> Runs:
    """Read a label image of any integer dtype and any shape into `Runs`.

    Memory: one byte per pixel while it works, about 20 bytes per run afterwards.

    Raises
    ------
    InputError
        `labels` is not of an integer dtype, has no axis, or holds a negative label.

    Examples
    --------
    >>> import numpy as np
    >>> runs = label_runs(np.array([[0, 7, 7], [0, 7, 3]]))
    >>> runs.labels, runs.areas
    (array([3, 7]), array([1, 3]))
    """
    labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim == 0:
        raise InputError(
            f"labels must be an array of integers, got {labels.dtype} of shape {labels.shape}",
            hint="Number the objects of a mask first (skimage.measure.label)",
        )
    if labels.size == 0:
        none = np.zeros(0, np.int64)
        return Runs(none, none, none.astype(np.int32), none, none, labels.shape)
    rows = labels.reshape(-1, labels.shape[-1])
    edge = np.ones(rows.shape, bool)
    np.not_equal(rows[:, 1:], rows[:, :-1], out=edge[:, 1:])
    start = np.flatnonzero(edge)
    value = rows.reshape(-1)[start].astype(np.int64)
    start, stop, value, lowest = _of_objects(start, value, labels.size)
    if lowest < 0:
        raise InputError(
            f"labels must lie between 0 and 2**63 - 1, found {labels.min()} to {labels.max()}",
            hint="0 is background; objects are numbered from 1",
        )
    numbers, index = _consecutive(value)
    areas = _pixels(start, stop, index, len(numbers))
    return Runs(start, stop, index, numbers, areas, labels.shape)


def overlap(a: np.ndarray, b: np.ndarray) -> sparse.csr_array:
    """Count the pixels that each object of one label image shares with each of another.

    Parameters
    ----------
    a, b : ndarray of int
        Label images of one shape, any integer dtype, 2D or 3D.

    Returns
    -------
    counts : csr_array of int64, shape (a.max() + 1, b.max() + 1)
        ``counts[i, j]`` pixels are labelled `i` in `a` and `j` in `b`. Row and column 0
        are background, so row sums are the areas of `a` and column sums those of `b`.

    Raises
    ------
    InputError
        Shapes differ, a dtype is not integer, a label is negative, or a label of `a` is
        above 2**28.

    Notes
    -----
    Memory grows with the runs of the images and the pairs that overlap, not with the
    product of the object counts. Only the row pointers of the result depend on label
    values: 4 to 8 bytes for every value up to ``a.max()``. `iou_pairs` has no such term.

    Examples
    --------
    >>> import numpy as np
    >>> counts = overlap(np.array([[1, 1, 0]]), np.array([[5, 0, 0]]))
    >>> int(counts[1, 5]), int(counts[1, 0]), int(counts[0, 0])
    (1, 1, 1)
    """
    pairs = iou_pairs(a, b)
    runs_a, runs_b = pairs.a, pairs.b
    rows = int(runs_a.labels[-1]) + 1 if len(runs_a) else 1
    columns = int(runs_b.labels[-1]) + 1 if len(runs_b) else 1
    if rows > LARGEST_ROW:
        raise InputError(
            f"label {rows - 1} is above {LARGEST_ROW - 1}, the largest row overlap can index",
            hint="Renumber the labels (skimage.segmentation.relabel_sequential) or use iou_pairs",
        )
    alone_a = runs_a.areas - np.bincount(pairs.i, pairs.pixels, len(runs_a)).astype(np.int64)
    alone_b = runs_b.areas - np.bincount(pairs.j, pairs.pixels, len(runs_b)).astype(np.int64)
    background = np.asarray(a).size - runs_a.areas.sum() - alone_b.sum()
    pixels = np.concatenate([pairs.pixels, alone_a, alone_b, [background]])
    i = np.concatenate([runs_a.labels[pairs.i], runs_a.labels, np.zeros(len(runs_b) + 1, int)])
    j = np.concatenate([runs_b.labels[pairs.j], np.zeros(len(runs_a), int), runs_b.labels, [0]])
    some = pixels > 0
    counts = sparse.coo_array((pixels[some], (i[some], j[some])), shape=(rows, columns)).tocsr()
    counts.sort_indices()
    return counts


def iou_pairs(a: np.ndarray | Runs, b: np.ndarray | Runs) -> Pairs:
    """List the overlapping objects of two label images with their intersection over union.

    Parameters
    ----------
    a, b : ndarray of int, or Runs
        Label images of one shape; pass `Runs` where an image is compared more than once.

    Returns
    -------
    Pairs
        Positions `i`, `j` (int32), shared `pixels` (int64) and `iou` (float64) of each
        pair, grouped by `i`; and the runs of both images.

    Raises
    ------
    InputError
        Shapes differ, a dtype is not integer, or a label is negative.

    Examples
    --------
    >>> import numpy as np
    >>> iou_pairs(np.array([[1, 1, 0]]), np.array([[0, 5, 5]])).iou.round(3)
    array([0.333])
    """
    a = a if isinstance(a, Runs) else label_runs(a)
    b = b if isinstance(b, Runs) else label_runs(b)
    if a.shape != b.shape:
        raise InputError(
            f"label images differ in shape: {a.shape} and {b.shape}",
            hint="Compare labels of the same image, crop and scale",
        )
    i, j, pixels = _joint(
        a.start, a.stop, a.index, b.start, b.stop, b.index, len(a.labels), len(b.labels)
    )
    return Pairs(i, j, pixels, pixels / (a.areas[i] + b.areas[j] - pixels), a, b)


def best_iou(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Highest IoU of each object of `a` and of each of `b` with any partner (float32, else 0)."""
    best_a = np.zeros(len(pairs.a), np.float32)
    best_b = np.zeros(len(pairs.b), np.float32)
    iou = pairs.iou.astype(np.float32)
    np.maximum.at(best_a, pairs.i, iou)
    np.maximum.at(best_b, pairs.j, iou)
    return best_a, best_b


def reaches(iou: np.ndarray, threshold: float) -> np.ndarray:
    """Where `iou` is at least `threshold`, compared as float32.

    An IoU of 3/5 reaches the 0.6000000000000001 that ``np.arange(0.5, 1, 0.05)`` gives;
    `stardist.matching` compares the same way.
    """
    return iou.astype(np.float32, copy=False) >= np.float32(threshold)


def _consecutive(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted distinct values, and the position of each value among them (int32)."""
    largest = int(values.max(initial=0))
    if largest > 4 * len(values) + 65_536:
        numbers, index = np.unique(values, return_inverse=True)
        return numbers, index.astype(np.int32)
    # A lookup table beats sorting where labels are dense, as they nearly always are.
    return _numbered(values, largest)


@compiled
def _of_objects(start, value, size):  # pragma: no cover
    """Starts, stops and values of the runs that are not background; the lowest value of all."""
    first = np.empty(len(start), np.int64)
    stop = np.empty(len(start), np.int64)
    label = np.empty(len(start), np.int64)
    lowest = 0
    count = 0
    for k in range(len(start)):
        if value[k] != 0:
            first[count] = start[k]
            stop[count] = start[k + 1] if k + 1 < len(start) else size
            label[count] = value[k]
            lowest = min(lowest, value[k])
            count += 1
    return first[:count].copy(), stop[:count].copy(), label[:count].copy(), lowest


@compiled
def _numbered(values, largest):  # pragma: no cover
    """Sorted distinct values, and the position of each value among them, by a table."""
    place = np.full(largest + 1, -1, np.int32)
    for k in range(len(values)):
        place[values[k]] = 0
    numbers = np.empty(largest + 1, np.int64)
    count = 0
    for value in range(largest + 1):
        if place[value] == 0:
            place[value] = count
            numbers[count] = value
            count += 1
    index = np.empty(len(values), np.int32)
    for k in range(len(values)):
        index[k] = place[values[k]]
    return numbers[:count].copy(), index


@compiled
def _pixels(start, stop, index, count):  # pragma: no cover
    """Sum of the lengths of each object's runs."""
    areas = np.zeros(count, np.int64)
    for k in range(len(start)):
        areas[index[k]] += stop[k] - start[k]
    return areas


@compiled
def _joint(start_a, stop_a, index_a, start_b, stop_b, index_b, n_a, n_b):  # pragma: no cover
    """Positions and shared pixels of overlapping objects, grouped by the first."""
    i, j, pixels = _intersect(start_a, stop_a, index_a, start_b, stop_b, index_b)
    # Counting sort by i, then add up repeats of j inside each group.
    offset = np.zeros(n_a + 1, np.int64)
    for k in range(len(i)):
        offset[i[k] + 1] += 1
    for k in range(n_a):
        offset[k + 1] += offset[k]
    order = np.empty(len(i), np.int64)
    free = offset.copy()
    for k in range(len(i)):
        order[free[i[k]]] = k
        free[i[k]] += 1
    place = np.full(n_b, -1, np.int64)
    out_i = np.empty(len(i), np.int32)
    out_j = np.empty(len(i), np.int32)
    out_pixels = np.empty(len(i), np.int64)
    size = 0
    for row in range(n_a):
        begin = size
        for position in range(offset[row], offset[row + 1]):
            k = order[position]
            if place[j[k]] < begin:
                place[j[k]] = size
                out_i[size], out_j[size], out_pixels[size] = row, j[k], pixels[k]
                size += 1
            else:
                out_pixels[place[j[k]]] += pixels[k]
    return out_i[:size].copy(), out_j[:size].copy(), out_pixels[:size].copy()


@compiled
def _intersect(start_a, stop_a, index_a, start_b, stop_b, index_b):  # pragma: no cover
    """Intersections of two sorted lists of disjoint runs: objects and length of each."""
    most = max(len(start_a) + len(start_b) - 1, 0)
    i = np.empty(most, np.int32)
    j = np.empty(most, np.int32)
    length = np.empty(most, np.int32)
    size = p = q = 0
    while p < len(start_a) and q < len(start_b):
        low = max(start_a[p], start_b[q])
        high = min(stop_a[p], stop_b[q])
        if low < high:
            i[size], j[size], length[size] = index_a[p], index_b[q], high - low
            size += 1
        if stop_a[p] <= stop_b[q]:
            p += 1
        else:
            q += 1
    return i[:size], j[:size], length[:size]
