"""From a volume to one plane, or to shorter volumes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from opsef_bridge.errors import InputError

__all__ = ["PROJECTIONS", "project_volume", "substacks"]

PROJECTIONS = ("none", "max", "sum", "median", "mean")

STRIP = 2**22
"""Values of the strips that medians are taken of; a strip is one row at least."""


def project_volume(volume: np.ndarray, how: str) -> np.ndarray:
    """Project a volume along Z.

    Parameters
    ----------
    volume : ndarray, axes ZYX
        Any real dtype. An array with axes YX is returned as it is. A memory map or an array
        that is read when it is sliced does too: it is read plane by plane (for ``median``
        in strips of rows), and never held as a whole.
    how : {"none", "max", "sum", "median", "mean"}

    Returns
    -------
    ndarray, axes YX
        ``none`` returns `volume`. ``max`` keeps the dtype; ``sum`` of integers is int64 and
        cannot wrap, of floats float64. ``median`` and ``mean`` are not rounded: float32 for
        integers up to 16 bit and for floats up to 32 bit (halves and medians of these are
        exact), else float64.

    Raises
    ------
    InputError
        `how` is unknown; `volume` is no plane or volume of real numbers or has no pixel; or
        sums of 64-bit integers would wrap.

    Examples
    --------
    >>> volume = np.full((3, 1, 2), 200, np.uint8)
    >>> project_volume(volume, "sum")
    array([[600, 600]])
    """
    if how not in PROJECTIONS:
        raise InputError(f"projection {how!r} is unknown", hint=f"Choose of {PROJECTIONS}")
    if volume.ndim not in (2, 3) or volume.dtype.kind not in "biuf" or 0 in volume.shape:
        raise InputError(
            f"an array of dtype {volume.dtype} and shape {volume.shape} cannot be projected",
            hint="Give real numbers with axes ZYX",
        )
    if how == "none" or volume.ndim == 2:
        return volume
    if how == "max":
        return _highest(volume)
    if how == "sum":
        return _sum(volume)
    fine = np.float32 if volume.dtype.itemsize <= _exact(volume.dtype) else np.float64
    if how == "median":
        return np.concatenate([np.median(strip, axis=0).astype(fine) for strip in _strips(volume)])
    return (_sum(volume) / volume.shape[0]).astype(fine)


def substacks(depth: int, size: int, step: int | None = None) -> list[tuple[int, int]]:
    """Cut the planes of a volume into substacks.

    Parameters
    ----------
    depth : int
        Planes of the volume.
    size : int
        Planes of each substack.
    step : int, optional
        Planes from one start to the next; by default `size`. A smaller one makes them
        overlap, a larger one leaves planes out between them.

    Returns
    -------
    list of (start, stop)
        First plane, and the one behind the last. The last ends with the volume and is
        shorter than `size` where planes are left over (only that one can be); none lies
        within another.

    Raises
    ------
    InputError
        A number is below 1.

    Examples
    --------
    >>> substacks(9, 3), substacks(10, 4), substacks(7, 4, 2)
    ([(0, 3), (3, 6), (6, 9)], [(0, 4), (4, 8), (8, 10)], [(0, 4), (2, 6), (4, 7)])
    """
    step = size if step is None else step
    for name, number in {"depth": depth, "size": size, "step": step}.items():
        if number < 1:
            raise InputError(f"substacks: {name} is {number}", hint="Give 1 or more planes")
    last = max(depth - size, 0)  # the first start that reaches the end
    starts = range(0, min(-(-last // step) * step + 1, depth), step)
    return [(start, min(start + size, depth)) for start in starts]


def _exact(dtype: np.dtype) -> int:
    """Bytes up to which float32 holds every value of this kind and the halves between."""
    return 4 if dtype.kind == "f" else 2


def _planes(volume: np.ndarray) -> Iterator[np.ndarray]:
    return (np.asarray(volume[number]) for number in range(volume.shape[0]))


def _highest(volume: np.ndarray) -> np.ndarray:
    planes = _planes(volume)
    high = next(planes).copy()
    for plane in planes:
        np.maximum(high, plane, out=high)
    return high


def _sum(volume: np.ndarray) -> np.ndarray:
    wide = volume.dtype.kind != "f" and volume.dtype.itemsize == 8
    total = np.zeros(volume.shape[1:], np.float64 if volume.dtype.kind == "f" else np.int64)
    for plane in _planes(volume):
        if wide:
            _check_range(plane, volume.shape[0])
        total += plane.astype(total.dtype, copy=False)
    return total


def _check_range(plane: np.ndarray, depth: int) -> None:
    largest = max(int(plane.max()), -int(plane.min()))
    if largest * depth >= 2**63:
        raise InputError(
            f"sums of {depth} planes with values up to {largest} do not fit into 64 bits",
            hint="Choose the projection max or median",
        )


def _strips(volume: np.ndarray) -> Iterator[np.ndarray]:
    depth, height, width = volume.shape
    rows = max(STRIP // (depth * width), 1)
    for top in range(0, height, rows):
        strip = np.asarray(volume[:, top : top + rows])
        # numpy takes the mean of two halves as a half, and cannot take one of bools.
        narrow = strip.dtype.kind == "b" or strip.dtype == np.float16
        yield strip.astype(np.float32) if narrow else strip
