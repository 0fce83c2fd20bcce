"""What steps share: plane by plane, exact floats, and dtypes that do not wrap."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["as_dtype", "as_float", "by_plane", "fraction"]


def by_plane(function: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> np.ndarray:
    """Return `function` of a plane, or of every plane of a volume."""
    return function(image) if image.ndim == 2 else np.stack([function(plane) for plane in image])


def as_dtype(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return `values` as `dtype`, rounded and kept within its range where it is an integer.

    Examples
    --------
    >>> as_dtype(np.array([-3.0, 2.6, 300.0]), np.dtype(np.uint8))
    array([  0,   3, 255], dtype=uint8)
    """
    if dtype.kind == "f":
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)


def as_float(image: np.ndarray) -> np.ndarray:
    """Return `image` in a float dtype that holds its values exactly.

    That is float32 for 8 and 16 bit, else float64 (exact up to 2**53).
    """
    return image.astype(np.float64 if image.dtype.itemsize > 2 else np.float32, copy=False)


def fraction(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return `values` with `low` as 0 and `high` as 1; 0 throughout where both are equal."""
    if low == high:
        return np.zeros_like(values)
    return (values - low) / (high - low)
