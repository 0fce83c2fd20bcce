"""Images that show the same place: pieces of one field that were cut so that they overlap.

Where two pieces overlap their pixels are equal, whatever the offset. So of every window of
16 x 16 px a hash is taken, and of these hashes those are kept that end with eight zeros: the
same windows of both images, as for documents in [1]_. Pieces that are turned, mirrored,
scaled or in another contrast are not found, nor are those that only touch; whole images that
are turned or mirrored have one `turned_key`.

References
----------
.. [1] U. Manber, "Finding similar files in a large file system", USENIX Winter 1994:1-10.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from opsef_bridge.train.dataset import pixels_key

__all__ = ["landmarks", "overlap_remarks", "same_places", "turned_key"]

SIDE = 16
"""Of a window in px."""

EVERY = 256
"""Of so many windows one is kept; a power of 2."""

ENOUGH = 3
"""Windows that two images share, at least, to show the same place."""

FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)
"""Any large odd numbers."""

SHOWN = 5
"""Pairs that are told one by one."""


def landmarks(pixels: np.ndarray) -> np.ndarray:
    """Return hashes of windows of an image by which another piece of the same place is known.

    Windows in which fewer than half of the pixels differ from their neighbour are left out:
    even ground looks the same everywhere.

    Parameters
    ----------
    pixels : ndarray, shape ([Z,] Y, X) or ([Z,] Y, X, 3)
        Of any real dtype. Of a volume the middle plane is taken.

    Returns
    -------
    ndarray of uint64, shape (N,)
        Sorted, each once; none where the image is smaller than a window.

    Examples
    --------
    >>> field = np.random.default_rng(0).integers(0, 99, (200, 200))
    >>> one, other = landmarks(field[:, :120]), landmarks(field[40:, 70:])
    >>> len(np.intersect1d(one, other)) > ENOUGH, len(landmarks(np.zeros((200, 200))))
    (True, 0)
    """
    plane = _plane(pixels)
    if min(plane.shape) < SIDE:
        return np.zeros(0, np.uint64)
    # Equal numbers have equal bits, whatever dtype held them.
    hashes = _mixed(_windows(_mixed(plane.view(np.uint64)), *FACTORS))
    differs = (plane != np.roll(plane, 1, axis=1)).astype(np.uint64)
    lively = _windows(differs, 1, 1) * 2 >= SIDE**2
    return np.unique(hashes[lively & (hashes % np.uint64(EVERY) == 0)])


def same_places(marks: Mapping[str, np.ndarray]) -> list[tuple[str, str]]:
    """Return the pairs of images that share enough windows, by name.

    Parameters
    ----------
    marks : mapping of str to ndarray
        `landmarks` of each image.
    """
    holders: dict[int, list[str]] = defaultdict(list)
    shared: Counter[tuple[str, str]] = Counter()
    for name in sorted(marks):
        for mark in marks[name].tolist():
            shared.update((other, name) for other in holders[mark])
            holders[mark].append(name)
    return sorted(pair for pair, count in shared.items() if count >= ENOUGH)


def overlap_remarks(
    samples: Sequence[Mapping[str, Any]], marks: Mapping[str, np.ndarray]
) -> list[str]:
    """Say which images of a dataset show the same place, but stand in different splits.

    Parameters
    ----------
    samples : sequence of mapping
        ``name``, ``image`` and ``split`` of each.
    marks : mapping of str to ndarray
        `landmarks`, by name.
    """
    by_name = {one["name"]: one for one in samples}
    pairs = [
        (by_name[a], by_name[b])
        for a, b in same_places({name: marks[name] for name in by_name})
        if by_name[a]["split"] != by_name[b]["split"]
    ]
    said = [
        f"{a['image']} ({a['split']}) and {b['image']} ({b['split']}) show the same place: give "
        "them one parent, a column of images/index.csv or of a file of conditions"
        for a, b in pairs[:SHOWN]
    ]
    return said + [f"{len(pairs) - SHOWN} more pairs show the same place"] * (len(pairs) > SHOWN)


def turned_key(pixels: np.ndarray, colour: bool) -> str:
    """Return a key that an image shares with its quarter turns and mirror images.

    Parameters
    ----------
    pixels : ndarray, shape ([Z,] Y, X), or ([Z,] Y, X, 3)
    colour : bool
        Whether the last axis is red, green and blue.

    Examples
    --------
    >>> one = np.arange(6).reshape(2, 3)
    >>> keys = {turned_key(other, False) for other in (one, one.T, one[::-1], np.rot90(one))}
    >>> len(keys), turned_key(one + 1, False) in keys
    (1, False)
    """
    axes = (-3, -2) if colour else (-2, -1)
    turned = [np.rot90(pixels, quarters, axes) for quarters in range(4)]
    return min(pixels_key(one, colour) for way in turned for one in (way, np.flip(way, axes[0])))


def _plane(pixels: np.ndarray) -> np.ndarray:
    """Return one plane of numbers, (Y, X) float64: of colours a sum, of a volume its middle."""
    if pixels.ndim > 2 and pixels.shape[-1] == 3:
        pixels = pixels @ np.array([1.0, 257.0, 66049.0])
    if pixels.ndim == 3:
        pixels = pixels[len(pixels) // 2]
    return np.ascontiguousarray(pixels, np.float64) + 0.0  # -0 becomes 0


def _mixed(values: np.ndarray) -> np.ndarray:
    """Let every bit depend on all others: numbers that are whole end with many zeros."""
    for factor in FACTORS:
        values = values * np.uint64(factor)
        values ^= values >> np.uint64(32)
    return values


def _windows(values: np.ndarray, down: int, right: int) -> np.ndarray:
    """Return a sum over every window, each row and column with a power of its factor."""
    for factor in (down, right):
        rows = len(values) - SIDE + 1
        total = np.zeros((rows, values.shape[1]), np.uint64)
        for first in range(SIDE):
            total *= np.uint64(factor)
            total += values[first : first + rows]
        values = np.ascontiguousarray(total.T)
    return values
