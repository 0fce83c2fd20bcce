"""Parting objects that touch, at their necks: a distance watershed without false splits."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.morphology import local_maxima
from skimage.segmentation import watershed

from opsef_bridge.engines.scaling import drop_small

__all__ = ["join_shallow", "part"]

EIGHT = np.ones((3, 3))
"""Neighbourhood in an object: diagonal pixels are connected."""


def part(
    cores: np.ndarray, foreground: np.ndarray, prominence: float, *, blur: float = 1.0
) -> np.ndarray:
    """Part joined cores at their necks and let every part grow over the foreground.

    Every maximum of the cores' smoothed distance transform seeds a watershed of the same
    transform; then parts of which one hardly stands out above the neck between them
    are joined again.

    Parameters
    ----------
    cores : (M, N) ndarray of bool
        Insides of objects; touching objects may be joined.
    foreground : (M, N) ndarray of bool
        Where objects may grow.
    prominence : float
        Height in px by which the lower of two maxima must stand above the neck between
        them; larger values part less. 0 keeps every maximum.
    blur : float
        Sigma in px of the smoothing, which removes the maxima that a ragged outline makes.

    Returns
    -------
    labels : ndarray of int32
        1..N; every 8-connected piece of `cores` yields one object or more, pieces of
        `foreground` without a core none.

    Examples
    --------
    >>> y, x = np.mgrid[:40, :70]
    >>> discs = ((x - 22) ** 2 + (y - 20) ** 2 < 196) | ((x - 46) ** 2 + (y - 20) ** 2 < 196)
    >>> int(part(discs, discs, 0.75).max()), int(part(discs, discs, 10).max())
    (2, 1)
    """
    # Objects that the image's edge cuts go on beyond it: the edge is no outline.
    depth = ndimage.distance_transform_edt(np.pad(cores, 1, mode="edge"))[1:-1, 1:-1]
    depth = ndimage.gaussian_filter(depth, blur) * cores
    seeds, _ = ndimage.label(local_maxima(depth) & cores, structure=EIGHT)
    labels = watershed(-depth, seeds, mask=foreground | cores, connectivity=2)
    return drop_small(join_shallow(labels, depth, prominence), 1)


def join_shallow(labels: np.ndarray, depth: np.ndarray, prominence: float) -> np.ndarray:
    """Join neighbours where the lower maximum stands less than `prominence` above the neck.

    The neck of two neighbours is the deepest place where they touch; where depth is 0 they
    do not touch. The deepest necks are judged first, so that what is joined counts as one.

    Parameters
    ----------
    labels : (M, N) ndarray of int
        0 background.
    depth : (M, N) ndarray of float
        0 or more.
    prominence : float

    Returns
    -------
    ndarray of int
        `labels`, where every joined object has the number of its deepest part.

    Examples
    --------
    >>> depth = np.array([[1.0, 3.0, 2.5, 2.8, 1.0, 4.0]])
    >>> join_shallow(np.array([[1, 1, 1, 2, 2, 3]]), depth, 0.5)
    array([[1, 1, 1, 1, 1, 3]])
    """
    count = int(labels.max(initial=0))
    peaks = np.zeros(count + 1)
    np.maximum.at(peaks, labels.ravel(), depth.ravel())
    owner = np.arange(count + 1)

    def root(label: int) -> int:
        while owner[label] != label:
            label = owner[label]
        return label

    for first, second, neck in zip(*_necks(labels, depth), strict=True):
        low, high = sorted((root(first), root(second)), key=lambda label: peaks[label])
        if low != high and peaks[low] - neck < prominence:
            owner[low] = high
    return np.array([root(label) for label in owner])[labels]


def _necks(labels: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return neighbours (smaller label, larger label) and their necks, deepest first."""
    touches = []
    for here, there in _NEIGHBOURS:
        a, b = labels[here], labels[there]
        neck = np.minimum(depth[here], depth[there])
        touch = (a != b) & (a > 0) & (b > 0) & (neck > 0)
        touches.append([np.minimum(a, b)[touch], np.maximum(a, b)[touch], neck[touch]])
    first, second, neck = (np.concatenate(parts) for parts in zip(*touches, strict=True))
    order = np.lexsort((second, first, -neck))
    _, deepest = np.unique(np.stack([first, second])[:, order], axis=1, return_index=True)
    chosen = order[np.sort(deepest)]
    return first[chosen], second[chosen], neck[chosen]


_NEIGHBOURS = (
    (np.s_[:, :-1], np.s_[:, 1:]),
    (np.s_[:-1], np.s_[1:]),
    (np.s_[:-1, :-1], np.s_[1:, 1:]),
    (np.s_[:-1, 1:], np.s_[1:, :-1]),
)
"""Slices that lay every pixel over one of its eight neighbours, each pair once."""
