"""CLAHE by the rules of OpenCV, without OpenCV."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from opsef_bridge.preprocess.tile_counts import Line, tile_counts

__all__ = ["opencv_blended", "opencv_clahe", "opencv_grid", "opencv_tables"]


def opencv_clahe(plane: np.ndarray, tiles: int, limit: float) -> np.ndarray:
    """Return what ``cv2.createCLAHE(limit, (tiles, tiles)).apply(plane)`` returns.

    Parameters
    ----------
    plane : ndarray of uint8, axes YX
    tiles : int
        Tiles a side. Where they do not part the plane evenly it is mirrored at the right
        and the lower border.
    limit : float
        Most that a grey level may count, as a multiple of what all would count if they
        were equally frequent.

    Returns
    -------
    ndarray of uint8, axes YX
    """
    rows, columns = opencv_grid(plane.shape, tiles)
    tables = opencv_tables(tile_counts(plane, rows, columns), limit)
    return opencv_blended(plane, tables, plane.shape, (0, 0))


def opencv_grid(shape: Sequence[int], tiles: int) -> tuple[Line, Line]:
    """Return how tiles part the rows and the columns of a plane.

    Where they do not part the plane evenly it is mirrored at the right and lower border.
    """
    more = [tiles - side % tiles if any(s % tiles for s in shape) else 0 for side in shape]
    # OpenCV adds a whole tile to a side that is even, if the other is not.
    rows, columns = (
        Line(
            np.pad(np.arange(side), (0, extra), mode="reflect" if side > 1 else "edge"),
            (side + extra) // tiles,
        )
        for side, extra in zip(shape, more, strict=True)
    )
    return rows, columns


def opencv_tables(counts: np.ndarray, limit: float) -> np.ndarray:
    """Return the new value of every grey level in every tile.

    Parameters
    ----------
    counts : ndarray of int, shape (tiles, tiles, 256)
        As `tile_counts` returns them.
    limit : float

    Returns
    -------
    ndarray of uint8, shape (tiles, tiles, 256)
    """
    shape = counts.shape
    counts = counts.reshape(-1, 256)
    area = int(counts[0].sum())
    most = max(int(limit * area / 256), 1)
    excess = np.maximum(counts - most, 0).sum(axis=1)
    counts = np.minimum(counts, most) + (excess // 256)[:, np.newaxis]
    for histogram, left in zip(counts, excess % 256, strict=True):
        if left:  # the rest goes to every so-manyth level
            histogram[:: max(256 // int(left), 1)][: int(left)] += 1
    scale = np.float32(255) / np.float32(area)
    values = np.rint(np.cumsum(counts, axis=1).astype(np.float32) * scale)
    return np.minimum(values, 255).astype(np.uint8).reshape(shape)


def opencv_blended(
    part: np.ndarray, tables: np.ndarray, shape: Sequence[int], at: tuple[int, int]
) -> np.ndarray:
    """Return the new values of a part of a plane of `shape` that lies at `at`."""
    lines = opencv_grid(shape, len(tables))
    rows, columns = (
        tuple(one[start : start + side] for one in _between(whole, line.size, len(tables)))
        for whole, line, start, side in zip(shape, lines, at, part.shape, strict=True)
    )
    return _blended(part, tables, rows, columns)


def _between(length: int, size: int, tiles: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each pixel the tiles whose middles are beside it, and how near the second is."""
    place = np.arange(length, dtype=np.float32) * (np.float32(1) / np.float32(size)) - 0.5
    first = np.floor(place).astype(np.intp)
    share = (place - first).astype(np.float32)
    return np.maximum(first, 0), np.minimum(first + 1, tiles - 1), share


def _blended(
    plane: np.ndarray,
    tables: np.ndarray,
    rows: tuple[np.ndarray, np.ndarray, np.ndarray],
    columns: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> np.ndarray:
    """Return the values of the four tables around each pixel, weighted by their nearness."""
    top, bottom, down = (part[:, np.newaxis] for part in rows)
    left, right, across = columns
    upper = tables[top, left, plane] * (1 - across) + tables[top, right, plane] * across
    lower = tables[bottom, left, plane] * (1 - across) + tables[bottom, right, plane] * across
    return np.clip(np.rint(upper * (1 - down) + lower * down), 0, 255).astype(np.uint8)
