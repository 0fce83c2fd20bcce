"""ImageJ's disk, and sums and extremes over it in time linear in its radius."""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt

import numpy as np

__all__ = ["ball", "disk", "disk_mean", "disk_opening", "legacy_disk_mean"]


def _lines(radius: int) -> dict[int, list[int]]:
    """Return the rows of the disk, counted from its top, by their half width, ascending."""
    lines: dict[int, list[int]] = {}
    for row in range(2 * radius + 1):
        half = isqrt(radius**2 + 1 - (row - radius) ** 2)
        lines.setdefault(half, []).append(row)
    return dict(sorted(lines.items()))


def disk(radius: int) -> np.ndarray:
    """Return ImageJ's disk: the pixels with ``x**2 + y**2 <= radius**2 + 1``.

    Returns
    -------
    ndarray of bool, shape (2 radius + 1, 2 radius + 1)

    Examples
    --------
    >>> disk(1).all(), int(disk(2).sum())
    (np.True_, 21)
    """
    x = np.arange(-radius, radius + 1)
    mask = np.empty((x.size, x.size), bool)
    for half, rows in _lines(radius).items():
        mask[rows] = np.abs(x) <= half
    return mask


def disk_mean(plane: np.ndarray, radius: int) -> np.ndarray:
    """Return the mean over the disk, beyond the border that of the nearest pixel.

    Exact for integers: every line of the disk is a difference of two running sums.

    Returns
    -------
    ndarray of float64
    """
    height, width = plane.shape
    padded = np.pad(plane, ((radius, radius), (radius + 1, radius)), mode="edge")
    work = np.float64 if plane.dtype.kind == "f" else np.int64
    running = np.cumsum(padded, axis=1, dtype=work)
    total = np.zeros(plane.shape, work)
    for half, rows in _lines(radius).items():
        left, right = radius - half, radius + half + 1
        line = running[:, right : right + width] - running[:, left : left + width]
        for row in rows:
            total += line[row : row + height]
    return total / int(disk(radius).sum())


def ball(radius: int, z_radius: int) -> np.ndarray:
    """Return the ellipsoid that is `disk` in its middle plane.

    In plane ``z`` that is ``x**2 + y**2 <= (radius**2 + 1) * (1 - z**2 / (z_radius**2 + 1))``.

    Returns
    -------
    ndarray of bool, shape (2 z_radius + 1, 2 radius + 1, 2 radius + 1)
    """
    z, y, x = np.ogrid[-z_radius : z_radius + 1, -radius : radius + 1, -radius : radius + 1]
    # Whole numbers on both sides, so that no pixel on the rim depends on rounding.
    deep, wide = z_radius**2 + 1, radius**2 + 1
    return (x**2 + y**2) * deep <= wide * (deep - z**2)


def legacy_disk_mean(plane: np.ndarray, radius: int) -> np.ndarray:
    """Return the mean over scikit-image's disk, of pixels inside the plane only.

    That disk is ``x**2 + y**2 <= radius**2``. As `skimage.filters.rank.mean` the mean of an
    integer image is cut to a whole number (towards minus infinity).

    Returns
    -------
    ndarray
        Same dtype.
    """
    height, width = plane.shape
    work = np.float64 if plane.dtype.kind == "f" else np.int64
    total, count = np.zeros(plane.shape, work), np.zeros(plane.shape, np.int64)
    padded = np.pad(plane, ((0, 0), (radius + 1, radius)))
    running = np.cumsum(padded, axis=1, dtype=work)
    columns = np.arange(width)
    for down in range(-radius, radius + 1):
        half = isqrt(radius**2 - down**2)
        inside = np.minimum(columns + half + 1, width) - np.maximum(columns - half, 0)
        left, right = radius - half, radius + half + 1
        top, bottom = max(0, -down), min(height, height - down)
        if top < bottom:
            lines = running[top + down : bottom + down]
            total[top:bottom] += lines[:, right : right + width] - lines[:, left : left + width]
            count[top:bottom] += inside
    mean = total / count if plane.dtype.kind == "f" else total // count
    return mean.astype(plane.dtype)


def disk_opening(plane: np.ndarray, radius: int) -> np.ndarray:
    """Return the grey opening by the disk; pixels beyond the border do not count.

    Never above `plane`; same dtype.
    """
    return _extreme(_extreme(plane, radius, np.minimum), radius, np.maximum)


def _extreme(plane: np.ndarray, radius: int, extreme: Callable[..., np.ndarray]) -> np.ndarray:
    """Return the minimum or maximum over the disk.

    Each line of the disk is covered by two windows whose length is a power of two; those
    windows double as the lines grow. So a radius of 50 costs some 200 passes of a
    vectorised minimum, not the 7,845 of its pixels.
    """
    height, width = plane.shape
    # Repeating the border adds no value that is not in the neighbourhood anyway.
    window = np.pad(plane, radius, mode="edge")
    span = 1  # window[:, x] is the extreme of the padded pixels from x to x + span
    result: np.ndarray | None = None
    for half, rows in _lines(radius).items():
        length = 2 * half + 1
        while 2 * span <= length:
            window = extreme(window[:, :-span], window[:, span:])
            span *= 2
        left = radius - half
        right = left + length - span
        line = extreme(window[:, left : left + width], window[:, right : right + width])
        for row in rows:
            part = line[row : row + height]
            result = part.copy() if result is None else extreme(result, part, out=result)
    return result
