"""Histograms of the tiles that CLAHE parts a plane into."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["BINS", "Line", "tile_counts"]

BINS = 256
"""Grey levels of a histogram."""


class Line(NamedTuple):
    """How tiles part one side of a plane.

    Parameters
    ----------
    source : ndarray of int
        The row (column) of the plane at each place; a plane that tiles do not part evenly
        is mirrored, so that some come twice.
    size : int
        Side of a tile in pixels.
    """

    source: np.ndarray
    size: int


def tile_counts(
    part: np.ndarray, rows: Line, columns: Line, at: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """Count what a part of a plane adds to the histograms of its tiles.

    Parameters
    ----------
    part : ndarray of whole numbers below `BINS`, axes YX
    rows, columns : Line
        Of the plane.
    at : (y, x)
        Where the part lies in the plane.

    Returns
    -------
    ndarray of int64, shape (tiles in Y, tiles in X, BINS)

    Examples
    --------
    >>> line = Line(np.array([0, 1, 2, 1]), 2)
    >>> tile_counts(np.array([[5, 6, 7]]), Line(np.array([0]), 1), line)[0, :, 5:8]
    array([[1, 1, 0],
           [0, 1, 1]])
    """
    down, right = len(rows.source) // rows.size, len(columns.source) // columns.size
    (y, tile_y), (x, tile_x) = (
        _places(line, start, side)
        for line, start, side in zip((rows, columns), at, part.shape, strict=True)
    )
    index = (tile_y[:, np.newaxis] * right + tile_x) * BINS + part[y[:, np.newaxis], x]
    counts = np.bincount(index.ravel(), minlength=down * right * BINS)
    return counts.reshape(down, right, BINS)


def _places(line: Line, start: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of a part on a line: where they lie in the part, and their tiles."""
    found = np.flatnonzero((line.source >= start) & (line.source < start + side))
    return line.source[found] - start, found // line.size
