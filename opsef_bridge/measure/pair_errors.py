"""How far the outlines of matched objects are apart, in lengths and free of their size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import KDTree

from opsef_bridge.errors import InputError
from opsef_bridge.measure.compiled import compiled
from opsef_bridge.measure.match import check_thresholds, matched
from opsef_bridge.measure.overlap import Pairs, Runs, iou_pairs

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "REFERENCE_RADIUS",
    "dimensions",
    "outline_distances",
    "pair_table",
    "radii",
    "radius_shift",
    "size_aware",
]

REFERENCE_RADIUS = 10.0
"""Radius, in pixels, of the object at which `size_aware` says what an error of outline costs."""

BY_LOOP = 1_000_000
"""Largest product of the lengths of two outlines up to which a plain loop beats a tree."""


def pair_table(
    truth: np.ndarray,
    labels: np.ndarray,
    spacing: Sequence[float] | None = None,
    *,
    threshold: float = 0.5,
    reference_radius: float | None = None,
) -> pd.DataFrame:
    """Say of each pair of matched objects how far their outlines are apart.

    Parameters
    ----------
    truth, labels : ndarray of int
        Label images of one shape, ``(Y, X)`` or ``(Z, Y, X)``. A volume of one plane is a
        plane.
    spacing : sequence of float, optional
        Pixel size along each axis; lengths and areas are then in that unit, else in pixels.
    threshold : float, optional
        IoU from which a pair is matched.
    reference_radius : float, optional
        See `size_aware`, in the unit of `spacing`; by default `REFERENCE_RADIUS` pixels (of
        the geometric mean of the pixel sizes).

    Returns
    -------
    DataFrame
        One row per pair that `match` counts as matched, ascending by the label of truth; an
        object without a partner has no row.

        - truth, label : the two labels (int64)
        - truth_area, label_area : pixels, or area (volume) with `spacing`
        - iou
        - boundary_mean, boundary_max : see `outline_distances`
        - radius_shift : see `radius_shift`
        - iou_size_aware : see `size_aware`

    Raises
    ------
    InputError
        As `match`; or labels that are neither 2D nor 3D, or a `spacing` that does not fit.

    Examples
    --------
    >>> truth = np.zeros((9, 9), int)
    >>> truth[2:7, 2:7] = 3
    >>> table = pair_table(truth, np.roll(truth, 1, axis=1))
    >>> table[["truth", "iou", "boundary_mean", "boundary_max", "radius_shift"]].round(3)
       truth    iou  boundary_mean  boundary_max  radius_shift
    0      3  0.667            0.5           1.0         0.518
    """
    import pandas as pd

    threshold = check_thresholds(threshold)[0]
    truth, labels = _flat(truth), _flat(labels)
    size = _pixel_size(spacing, truth.ndim)
    if reference_radius is None:
        reference_radius = REFERENCE_RADIUS * float(size.prod()) ** (1 / len(size))
    pairs = iou_pairs(truth, labels)
    chosen = np.flatnonzero(matched(pairs, threshold))
    i, j, iou = pairs.i[chosen], pairs.j[chosen], pairs.iou[chosen]
    mean, most = outline_distances(truth, labels, pairs, chosen, size)
    pixel = 1 if spacing is None else float(size.prod())
    shift = radius_shift(iou, radii(pairs, chosen, float(size.prod())), truth.ndim)
    table = {
        "truth": pairs.a.labels[i],
        "label": pairs.b.labels[j],
        "truth_area": pairs.a.areas[i] * pixel,
        "label_area": pairs.b.areas[j] * pixel,
        "iou": iou,
        "boundary_mean": mean,
        "boundary_max": most,
        "radius_shift": shift,
        "iou_size_aware": size_aware(shift, truth.ndim, reference_radius),
    }
    return pd.DataFrame(table)


def radii(pairs: Pairs, chosen: np.ndarray, pixel: float = 1.0) -> np.ndarray:
    """Return the radius of the disc (ball) as large as the larger object of each chosen pair."""
    area = np.maximum(pairs.a.areas[pairs.i[chosen]], pairs.b.areas[pairs.j[chosen]]) * pixel
    flat = dimensions(pairs.a.shape) == 2
    return np.sqrt(area / np.pi) if flat else np.cbrt(area * 0.75 / np.pi)


def dimensions(shape: tuple[int, ...]) -> int:
    """Return 2 for planes, also those of a volume with one plane, and 3 for volumes.

    Raises
    ------
    InputError
        It is neither.
    """
    if len(shape) not in (2, 3):
        raise InputError(
            f"labels of shape {shape} are no plane and no volume",
            hint="Outlines are measured in 2D (Y, X) and 3D (Z, Y, X)",
        )
    return 2 if len(shape) == 2 or shape[0] == 1 else 3


def radius_shift(iou: np.ndarray, radius: np.ndarray, ndim: int) -> np.ndarray:
    """Return by how much the radii of two concentric discs of that IoU differ.

    Of two concentric discs (balls) of radius ``R`` and ``R - d`` the smaller lies in the
    larger, so that their IoU is ``((R - d) / R) ** ndim``: ``d = R (1 - IoU ** (1 / ndim))``.
    So one pixel of outline, which is IoU 0.967 at radius 60 and 0.563 at radius 4 (the
    example of Zaki et al. 2020), is one pixel at both.

    Parameters
    ----------
    iou, radius : array_like of float
        IoU, and the radius of the larger of the two.
    ndim : int
        2 for discs, 3 for balls.

    Returns
    -------
    ndarray of float
        In the unit of `radius`; 0 for an IoU of 1.

    Examples
    --------
    >>> radius_shift([0.5625, 0.9669], [4, 60], 2).round(2)
    array([1., 1.])
    """
    return np.asarray(radius, float) * (1 - np.asarray(iou, float) ** (1 / ndim))


def size_aware(shift: np.ndarray, ndim: int, reference: float = REFERENCE_RADIUS) -> np.ndarray:
    """Return the IoU that a shift of the radius would be for an object of one set radius.

    ``(1 - shift / reference) ** ndim``, and 0 for a larger shift: the IoU, freed of the size
    of the object. Two objects whose outlines are equally far off get the same.

    Examples
    --------
    >>> size_aware(radius_shift([0.5625, 0.9669], [4, 60], 2), 2).round(2)
    array([0.81, 0.81])
    """
    return np.maximum(1 - np.asarray(shift, float) / reference, 0) ** ndim


def outline_distances(
    truth: np.ndarray,
    labels: np.ndarray,
    pairs: Pairs,
    chosen: np.ndarray,
    spacing: Sequence[float] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the largest distance between the outlines of pairs of objects.

    The outline of an object are its pixels beside a pixel that is not of it, or at the
    border of the image; holes have one too. From each pixel of one outline the distance to
    the nearest of the other is taken, both ways: their mean is the average symmetric surface
    distance, the largest the Hausdorff distance [1]_.

    Parameters
    ----------
    truth, labels : ndarray of int, 2D or 3D
        What `pairs` was made of.
    pairs : Pairs
    chosen : (P,) ndarray of int
        Positions of the pairs wanted.
    spacing : sequence of float, optional
        Pixel size along each axis.

    Returns
    -------
    mean, most : (P,) ndarray of float

    References
    ----------
    .. [1] T. Heimann et al., "Comparison and evaluation of methods for liver segmentation
       from CT datasets", IEEE Transactions on Medical Imaging 28, 2009.
    """
    truth, labels = _flat(truth), _flat(labels)
    size = _pixel_size(spacing, truth.ndim)
    a, ends_a = _outlines(truth, pairs.a, size)
    b, ends_b = _outlines(labels, pairs.b, size)
    i, j = pairs.i[chosen], pairs.j[chosen]
    small = np.diff(ends_a)[i] * np.diff(ends_b)[j] <= BY_LOOP
    distances = np.zeros((2, len(chosen)))
    distances[:, small] = _by_loop(a, ends_a, b, ends_b, i[small], j[small])
    for number in np.flatnonzero(~small):
        ours = a[ends_a[i[number]] : ends_a[i[number] + 1]]
        theirs = b[ends_b[j[number]] : ends_b[j[number] + 1]]
        both = np.concatenate([KDTree(ours).query(theirs)[0], KDTree(theirs).query(ours)[0]])
        distances[:, number] = both.mean(), both.max()
    return distances[0], distances[1]


@compiled
def _by_loop(a, ends_a, b, ends_b, i, j):  # pragma: no cover
    """Mean and largest distance of pairs of outlines: every point against every other."""
    found = np.zeros((2, len(i)))
    for number in range(len(i)):
        start_a, stop_a = ends_a[i[number]], ends_a[i[number] + 1]
        start_b, stop_b = ends_b[j[number]], ends_b[j[number] + 1]
        nearest = np.full(stop_b - start_b, np.inf)
        total, most = 0.0, 0.0
        for p in range(start_a, stop_a):
            near = np.inf
            for q in range(start_b, stop_b):
                square = 0.0
                for axis in range(a.shape[1]):
                    square += (a[p, axis] - b[q, axis]) ** 2
                near = min(near, square)
                nearest[q - start_b] = min(nearest[q - start_b], square)
            total += np.sqrt(near)
            most = max(most, near)
        total += np.sqrt(nearest).sum()
        found[0, number] = total / (stop_a - start_a + stop_b - start_b)
        found[1, number] = np.sqrt(max(most, nearest.max()))
    return found


def _outlines(labels: np.ndarray, runs: Runs, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the outlines of all objects, and where those of each object end."""
    edge = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim):
        values, border = np.moveaxis(labels, axis, 0), np.moveaxis(edge, axis, 0)
        differ = values[1:] != values[:-1]
        border[1:] |= differ
        border[:-1] |= differ
        border[[0, -1]] = True
    places = np.nonzero(edge & (labels != 0))
    owner = np.searchsorted(runs.labels, labels[places])
    order = np.argsort(owner, kind="stable")
    points = (np.stack(places, axis=1) * size)[order]
    return points, np.searchsorted(owner[order], np.arange(len(runs) + 1))


def _flat(labels: np.ndarray) -> np.ndarray:
    """Return labels with as many axes as they have dimensions."""
    labels = np.asarray(labels)
    return labels.reshape(labels.shape[-dimensions(labels.shape) :])


def _pixel_size(spacing: Sequence[float] | None, ndim: int) -> np.ndarray:
    if spacing is None:
        return np.ones(ndim)
    size = np.asarray(spacing, float)[-ndim:]
    if size.shape != (ndim,) or not np.all(np.isfinite(size) & (size > 0)):
        raise InputError(
            f"spacing {spacing!r} does not fit labels with {ndim} axes",
            hint="Give one pixel size above 0 for each axis",
        )
    return size
