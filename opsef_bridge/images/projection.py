"""From a volume to one plane."""

from __future__ import annotations

import numpy as np

from opsef_bridge.errors import InputError

__all__ = ["PROJECTIONS", "project_volume"]

PROJECTIONS = ("none", "max", "sum", "median", "mean")


def project_volume(volume: np.ndarray, how: str) -> np.ndarray:
    """Project a volume along Z.

    Parameters
    ----------
    volume : ndarray, axes ZYX
        Any real dtype. An array with axes YX is returned as it is.
    how : {"none", "max", "sum", "median", "mean"}

    Returns
    -------
    ndarray, axes YX
        ``max`` keeps the dtype; ``sum`` of integers is 64 bit wide and cannot wrap, of
        floats float64; ``median`` and ``mean`` are float32 and are not rounded.

    Examples
    --------
    >>> volume = np.full((3, 1, 2), 200, np.uint8)
    >>> project_volume(volume, "sum")
    array([[600, 600]])
    """
    if how not in PROJECTIONS:
        raise InputError(f"projection {how!r} is unknown", hint=f"Choose of {PROJECTIONS}")
    if how == "none" or volume.ndim == 2:
        return volume
    if how == "max":
        return volume.max(axis=0)
    if how == "sum":
        return volume.sum(axis=0, dtype=np.float64 if volume.dtype.kind == "f" else np.int64)
    if how == "median":
        return np.median(volume, axis=0).astype(np.float32)
    return volume.mean(axis=0, dtype=np.float64).astype(np.float32)
