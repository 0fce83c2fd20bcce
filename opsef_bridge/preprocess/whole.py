"""Parts of an image for steps that look at the whole of it.

Such a step is registered with two functions more (see `opsef_bridge.preprocess.registry`):
``measure``, which goes through the pieces of the image and returns what the step must know
of it, and ``part``, which does in a part of the image, by that, what the step does in all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from opsef_bridge.preprocess.arrays import as_float

__all__ = [
    "Known",
    "Piece",
    "Pieces",
    "Place",
    "extremes",
    "percentiles",
    "whole_piece",
    "with_planes",
]

Known = dict[str, np.ndarray]
"""What a step knows of the whole image."""


class Piece(NamedTuple):
    """A piece of an image, with a rim.

    Parameters
    ----------
    array : ndarray, axes YX or ZYX
        The piece and its rim.
    at : tuple of int
        Where its first row and column lie in the image.
    inside : tuple of slice
        Rows and columns without the rim.
    """

    array: np.ndarray
    at: tuple[int, int]
    inside: tuple[slice, slice]


Pieces = Callable[[int], Iterator[Piece]]
"""``pieces(rim)`` goes through an image. Without their rims pieces do not overlap and leave
nothing out; a rim is as wide as asked for, or reaches the border of the image."""


@dataclass(frozen=True)
class Place:
    """What a step is told of the image that it gets a part of.

    Parameters
    ----------
    at : tuple of int
        Where the first row and column of the part lie in the image.
    of : tuple of int
        Rows and columns of the image.
    known : dict of str to ndarray
        What ``measure`` returned.
    """

    at: tuple[int, int]
    of: tuple[int, int]
    known: Mapping[str, np.ndarray] = field(default_factory=dict)


def with_planes(
    function: Callable[..., np.ndarray], image: np.ndarray, *known: np.ndarray
) -> np.ndarray:
    """Return ``function(plane, *what is known of it)`` of a plane, or of every plane.

    Parameters
    ----------
    known : ndarray
        Each with one entry for each plane along its first axis.

    Examples
    --------
    >>> with_planes(lambda plane, add: plane + add, np.zeros((2, 1, 2)), np.array([1, 5]))
    array([[[1., 1.]],
    <BLANKLINE>
           [[5., 5.]]])
    """
    if image.ndim == 2:
        return function(image, *(one[0] for one in known))
    return np.stack([function(plane, *of) for plane, *of in zip(image, *known, strict=True)])


def _groups(array: np.ndarray, per_plane: bool) -> np.ndarray:
    """Return the values of each plane, or of all, in rows."""
    return array.reshape(array.shape[0] if per_plane and array.ndim == 3 else 1, -1)


def extremes(pieces: Pieces, *, per_plane: bool = False) -> np.ndarray:
    """Return minimum and maximum of an image, or of each of its planes; one pass.

    Returns
    -------
    ndarray, shape (planes or 1, 2)
        In the dtype of the image.
    """
    found: np.ndarray | None = None
    for array, _, inside in pieces(0):
        groups = _groups(array[(..., *inside)], per_plane)
        here = np.stack([groups.min(axis=1), groups.max(axis=1)], axis=1)
        if found is not None:
            here[:, 0] = np.minimum(here[:, 0], found[:, 0])
            here[:, 1] = np.maximum(here[:, 1], found[:, 1])
        found = here
    assert found is not None, "an image has pieces"
    return found


def percentiles(
    pieces: Pieces, shape: Sequence[int], percents: Sequence[float], *, per_plane: bool = False
) -> np.ndarray:
    """Return percentiles of an image, or of each of its planes, equal to `numpy.percentile`.

    Nothing is kept but histograms. An image of 8 or 16 bits is gone through once, one of 32
    twice, one of 64 four times.

    Parameters
    ----------
    pieces : callable
    shape : sequence of int
        Of the image, axes YX or ZYX.
    percents : sequence of float
        0 to 100.
    per_plane : bool
        Whether each plane of a volume has percentiles of its own.

    Returns
    -------
    ndarray of float64, shape (planes or 1, percents)

    Examples
    --------
    >>> image = np.array([[1, 2, 4, 9]], np.uint16)
    >>> percentiles(lambda rim: iter([whole_piece(image)]), image.shape, (0, 50, 100))
    array([[1., 3., 9.]])
    """
    count = int(np.prod(shape[-2:] if per_plane else shape))
    wanted = (count - 1) * np.true_divide(percents, 100)
    below = np.floor(wanted).astype(np.int64)
    share = wanted - below
    ranks = np.concatenate([below, np.minimum(below + 1, count - 1)])
    found = as_float(_ranked(pieces, ranks, per_plane))
    low, high = np.split(found, 2, axis=1)
    # As numpy does it, so that both give the same bits.
    between = high - low
    return np.where(share >= 0.5, high - between * (1 - share), low + between * share)


def whole_piece(image: np.ndarray) -> Piece:
    """Return an image as the one piece of itself."""
    return Piece(image, (0, 0), (slice(None), slice(None)))


def _ranked(pieces: Pieces, ranks: np.ndarray, per_plane: bool) -> np.ndarray:
    """Return the values that would be at `ranks` if the image were sorted.

    They are found by 16 bits at a time, the highest first: a pass counts how often which
    follow the higher ones that are known already.

    Returns
    -------
    ndarray, shape (planes or 1, ranks)
        In the dtype of the image.
    """
    first = next(pieces(0)).array
    groups = len(_groups(first, per_plane))
    found = np.zeros((groups, len(ranks)), np.uint64)
    left = np.repeat(ranks[np.newaxis], groups, axis=0)
    shifts = range(max(first.dtype.itemsize * 8 - 16, 0), -1, -16)
    for shift in shifts:
        counts = _counted(pieces, found, shift, shift == shifts[0], per_plane)
        for group, prefixes in enumerate(found.copy()):
            for number, prefix in enumerate(prefixes):
                ends = np.cumsum(counts[group][int(prefix)])
                digit = int(np.searchsorted(ends, left[group, number], side="right"))
                left[group, number] -= ends[digit - 1] if digit else 0
                found[group, number] = int(prefix) << 16 | digit
    return _values(found, first.dtype)


def _counted(
    pieces: Pieces, found: np.ndarray, shift: int, first: bool, per_plane: bool
) -> list[dict[int, np.ndarray]]:
    """Return, of each group and known higher bits, how often which 16 bits follow them."""
    counts = [{int(prefix): np.zeros(2**16, np.int64) for prefix in row} for row in found]
    for array, _, inside in pieces(0):
        for group, values in enumerate(_groups(array[(..., *inside)], per_plane)):
            keys = _keys(values)
            for prefix, total in counts[group].items():
                chosen = keys if first else keys[keys >> (shift + 16) == prefix]
                digits = (chosen >> shift & 0xFFFF).astype(np.intp)
                total += np.bincount(digits, minlength=2**16)
    return counts


def _keys(values: np.ndarray) -> np.ndarray:
    """Return unsigned whole numbers that are in the order of `values`."""
    kind = np.dtype(f"u{values.dtype.itemsize}")
    bits, top = np.ascontiguousarray(values).view(kind), kind.type(1 << kind.itemsize * 8 - 1)
    if values.dtype.kind == "f":
        bits = np.where(bits & top, ~bits, bits | top)
    elif values.dtype.kind == "i":
        bits = bits ^ top
    return bits if kind.itemsize > 1 else bits.astype(np.uint16)


def _values(keys: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the values of `_keys`."""
    kind = np.dtype(f"u{dtype.itemsize}")
    bits, top = keys.astype(kind), kind.type(1 << kind.itemsize * 8 - 1)
    if dtype.kind == "f":
        bits = np.where(bits & top, bits ^ top, ~bits)
    elif dtype.kind == "i":
        bits = bits ^ top
    return bits.view(dtype)
