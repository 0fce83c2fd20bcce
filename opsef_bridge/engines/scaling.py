"""What engines share: checked input, normalisation, and the way to another size and back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from skimage import transform

from opsef_bridge.errors import InputError

__all__ = [
    "CLIP",
    "decode_on_finer_grid",
    "drop_small",
    "finite_plane",
    "normalise",
    "percentiles",
    "resize",
    "resize_labels",
    "resize_to",
]

CLIP = (-0.2, 4.0)
"""Bounds of normalised values: a burnt-out speck must not drown the rest."""


def finite_plane(image: np.ndarray, axes: frozenset[str]) -> np.ndarray:
    """Return `image` as native float32, or say why an engine cannot take it.

    Raises
    ------
    InputError
        Complex or non-numeric, no pixels, a number of dimensions that no entry of `axes`
        has, or NaN or infinity inside.
    """
    image = np.asarray(image)
    if image.dtype.kind not in "buif":
        raise InputError(
            f"images of dtype {image.dtype} cannot be segmented", hint="Use a real dtype"
        )
    if image.ndim not in {len(a) for a in axes} or not image.size:
        raise InputError(
            f"an image of shape {image.shape} does not fit an engine for {', '.join(sorted(axes))}",
            hint="Choose a channel or a projection in the configuration",
        )
    plane = image.astype(np.float32)
    if not np.isfinite(plane).all():
        count = int((~np.isfinite(plane)).sum())
        raise InputError(f"{count} pixels are NaN or infinite", hint="Replace them before")
    return plane


def percentiles(image: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Return the `low` and `high` percentiles of `image` as floats.

    Where both are one value (a few objects on a dead even ground) minimum and maximum take
    their place.
    """
    a, b = np.percentile(image, (low, high))
    return (float(a), float(b)) if b > a else (float(image.min()), float(image.max()))


def normalise(
    image: np.ndarray, limits: tuple[float, float], *, clip: tuple[float, float] | None = None
) -> np.ndarray:
    """Map `limits` to 0 and 1, linearly; a constant image becomes zeros.

    Returns
    -------
    ndarray of float32
        Values outside `limits` lie outside 0..1 unless `clip` bounds them.
    """
    low, high = limits
    if not high > low:
        return np.zeros(image.shape, np.float32)
    out = (image.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    return out if clip is None else np.clip(out, *clip)


def resize(image: np.ndarray, scale: float) -> np.ndarray:
    """Resize Y and X of a float image by `scale`, at least to one pixel; Z is kept."""
    if scale == 1:
        return image
    size = [max(1, round(side * scale)) for side in image.shape[-2:]]
    return resize_to(image, (*image.shape[:-2], *size))


def resize_to(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Resize a float image to `shape`: linear, smoothed beforehand where it shrinks."""
    if image.shape == tuple(shape):
        return image
    shrinks = any(new < old for new, old in zip(shape, image.shape, strict=True))
    out = transform.resize(
        image.astype(np.float32), shape, order=1, mode="edge", anti_aliasing=shrinks
    )
    return out.astype(np.float32)


def resize_labels(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Resize labels to `shape` by the nearest pixel: no new values, small ones may vanish."""
    if labels.shape == tuple(shape):
        return labels
    grids = [
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.intp), old - 1)
        for new, old in zip(shape, labels.shape, strict=True)
    ]
    return labels[np.ix_(*grids)]


def drop_small(labels: np.ndarray, min_size: int) -> np.ndarray:
    """Drop objects under `min_size` pixels and number the others 1..N, as int32."""
    area = np.bincount(labels.ravel())
    keep = area >= max(min_size, 1)
    keep[0] = False
    numbers = np.zeros(len(area), np.int32)
    numbers[keep] = np.arange(1, int(keep.sum()) + 1)
    return numbers[labels]


def decode_on_finer_grid(
    maps: np.ndarray,
    shape: tuple[int, ...],
    to_labels: Callable[[np.ndarray], np.ndarray],
    *,
    min_size: int,
) -> np.ndarray:
    """Make labels on the finer of two grids, the network's and the original.

    An image that was shrunk for the network would come back with blocky outlines if its
    labels were enlarged, so its maps are; one that was enlarged would lose the thin
    borders between objects if its maps were shrunk, so its labels are.

    Parameters
    ----------
    maps : (..., M, N) ndarray of float32
        On the grid of the network; leading axes (of maps, or Z) are not resized.
    shape : tuple of int
        Shape of the original image.
    to_labels : callable
        From maps to labels, on either grid.
    min_size : int
        Smaller objects are dropped; pixels of the original.

    Returns
    -------
    labels : ndarray of int32
        Of `shape`, 1..N without gaps.
    """
    if maps.shape[-1] < shape[-1] or maps.shape[-2] < shape[-2]:
        maps = resize_to(maps, (*maps.shape[:-2], *shape[-2:]))
    return drop_small(resize_labels(to_labels(maps), shape), min_size)
