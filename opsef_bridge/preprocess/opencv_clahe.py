"""CLAHE by the rules of OpenCV, without OpenCV."""

from __future__ import annotations

import numpy as np

__all__ = ["opencv_clahe"]


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
    height, width = plane.shape
    whole = plane
    if height % tiles or width % tiles:
        # OpenCV adds a whole tile to a side that is even, if the other is not.
        for axis, side in enumerate(plane.shape):
            more = [(0, 0), (0, 0)]
            more[axis] = (0, tiles - side % tiles)
            whole = np.pad(whole, more, mode="reflect" if side > 1 else "edge")
    size = (whole.shape[0] // tiles, whole.shape[1] // tiles)
    tables = _tables(whole, tiles, size, limit)
    rows, columns = _between(height, size[0], tiles), _between(width, size[1], tiles)
    return _blended(plane, tables, rows, columns)


def _tables(whole: np.ndarray, tiles: int, size: tuple[int, int], limit: float) -> np.ndarray:
    """Return the new value of every grey level in every tile, shape (tiles, tiles, 256)."""
    area = size[0] * size[1]
    parts = whole.reshape(tiles, size[0], tiles, size[1]).transpose(0, 2, 1, 3)
    index = np.arange(tiles**2)[:, np.newaxis] * 256 + parts.reshape(tiles**2, area)
    counts = np.bincount(index.ravel(), minlength=256 * tiles**2).reshape(tiles**2, 256)
    most = max(int(limit * area / 256), 1)
    excess = np.maximum(counts - most, 0).sum(axis=1)
    counts = np.minimum(counts, most) + (excess // 256)[:, np.newaxis]
    for histogram, left in zip(counts, excess % 256, strict=True):
        if left:  # the rest goes to every so-manyth level
            histogram[:: max(256 // int(left), 1)][: int(left)] += 1
    scale = np.float32(255) / np.float32(area)
    values = np.rint(np.cumsum(counts, axis=1).astype(np.float32) * scale)
    return np.minimum(values, 255).astype(np.uint8).reshape(tiles, tiles, 256)


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
