"""A mask from a channel: what is brighter than a share of Otsu's threshold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from opsef_bridge.errors import InputError
from opsef_bridge.preprocess import steps
from opsef_bridge.preprocess.disk import _extreme as disk_extreme
from opsef_bridge.preprocess.disk import disk_opening

__all__ = ["LARGEST_FILTER", "LARGEST_RADIUS", "Filter", "auto_mask"]

Filter = Literal["median", "mean", "gaussian", "none"]

LARGEST_FILTER = {"median": 20, "mean": 100, "gaussian": 100, "none": 100}
"""Largest radius by filter, in pixels: those of the steps of recipes."""

LARGEST_RADIUS = 100
"""Largest radius of a disk that shapes regions, in pixels."""

Mask = NDArray[np.bool_]


def auto_mask(
    channel: np.ndarray,
    *,
    filter: Filter = "median",
    radius: int = 2,
    factor: float = 0.6,
    opening: int = 2,
    closing: int = 0,
    erosion: int = 0,
    fill: bool = False,
    min_area: int = 0,
    legacy: bool = False,
) -> Mask:
    """Make a mask from a channel: filter, threshold, then shape the regions, in this order.

    Parameters
    ----------
    channel : ndarray, axes YX or ZYX
        Any real dtype. In a volume filters and disks work plane by plane; the threshold is
        that of the whole volume.
    filter : {"median", "mean", "gaussian", "none"}
        The steps of that name of `opsef_bridge.preprocess.steps`.
    radius : int
        Of the filter, in pixels; of ``gaussian`` sigma. 0 does not filter.
    factor : float
        Inside is what is above Otsu's threshold of the filtered channel times `factor`. So
        grey levels should start at about 0. The threshold is taken as the middle between the
        means of its two classes: where peaks are apart, every value between them is Otsu's,
        and of the lowest, which scikit-image gives, a share lies in the background.
    opening, closing, erosion : int
        Radii of ImageJ's disk, in pixels; 0 is off. What is beyond the border of the image
        does not count.
    fill : bool
        Fill the holes of the regions; in a volume those that are closed on all sides.
    min_area : int
        Remove regions of fewer pixels. Pixels that touch at a corner belong together.
    legacy : bool
        As OpSeF did: scale to 8 bit by the maximum first, fractions cut off, and take the
        lowest of Otsu's thresholds.

    Returns
    -------
    ndarray of bool
        Nothing is inside where the filtered channel has one value only.

    Raises
    ------
    InputError
        `channel` is no plane or volume of finite numbers, or a value is out of range.

    References
    ----------
    Otsu, N. (1979). A threshold selection method from gray-level histograms. IEEE Trans.
    Syst. Man Cybern. 9:62-66; `skimage.filters.threshold_otsu`. OpSeF's ``get_binary`` had
    as its defaults (``para_mp``) a mean over a disk of radius 5, factor 0.6, and OpenCV's
    ellipse of 5 pixels, opened twice, closed three times and eroded once; which is about
    ``filter="mean", radius=5, opening=4, closing=6, erosion=2, legacy=True`` here.

    Examples
    --------
    >>> image = np.zeros((9, 9), np.uint8)
    >>> image[2:7, 2:7] = 100
    >>> int(auto_mask(image, filter="none", opening=1).sum())
    25
    """
    channel = _checked_channel(channel)
    for name, value in {"opening": opening, "closing": closing, "erosion": erosion}.items():
        _within(name, value, LARGEST_RADIUS)
    if not 0 < factor <= 10:
        raise InputError(f"factor {factor}", hint="Give a number above 0, up to 10")
    smooth = _filtered(_eight_bit(channel) if legacy else channel, filter, radius)
    if smooth.min() == smooth.max():
        return np.zeros(smooth.shape, bool)
    mask = smooth > factor * (_otsu(smooth) if legacy else _middle(smooth))
    if opening:
        mask = _by_plane(lambda plane: disk_opening(plane, opening), mask)
    if closing:
        mask = ~_by_plane(lambda plane: disk_opening(plane, closing), ~mask)
    if erosion:
        mask = _by_plane(lambda plane: disk_extreme(plane, erosion, np.minimum), mask)
    if fill:
        mask = scipy.ndimage.binary_fill_holes(mask)
    return _without_specks(mask, min_area) if min_area > 1 else mask


def _checked_channel(channel: np.ndarray) -> np.ndarray:
    channel = np.asarray(channel)
    if channel.ndim not in (2, 3) or channel.dtype.kind not in "biuf" or channel.size == 0:
        raise InputError(
            f"a channel of dtype {channel.dtype} and shape {channel.shape}",
            hint="Give grey values with axes YX or ZYX",
        )
    if not np.isfinite(channel).all():
        raise InputError("the channel holds values that are no numbers", hint="Replace them first")
    kind = np.dtype(np.uint8) if channel.dtype.kind == "b" else channel.dtype
    return channel.astype(kind.newbyteorder("="), copy=False)


def _within(name: str, value: int, largest: int) -> None:
    if not 0 <= value <= largest:
        raise InputError(f"{name} is {value}", hint=f"Give 0 (off) to {largest} pixels")


def _eight_bit(channel: np.ndarray) -> np.ndarray:
    """Scale by the maximum; fractions are cut off, and what is below 0 becomes 0."""
    high = float(channel.max())
    if high <= 0:
        return np.zeros(channel.shape, np.uint8)
    return (255 * np.maximum(channel, 0).astype(float) / high).astype(np.uint8)


def _filtered(channel: np.ndarray, filter: Filter, radius: int) -> np.ndarray:
    if filter not in LARGEST_FILTER:
        choices = ", ".join(get_args(Filter))
        raise InputError(f"filter {filter!r} is unknown", hint=f"Choose of {choices}")
    _within(f"radius of {filter}", radius, LARGEST_FILTER[filter])
    if filter == "none" or radius == 0:
        return channel
    if filter == "gaussian":
        return steps.gaussian(channel, sigma=radius)
    return {"median": steps.median, "mean": steps.mean}[filter](channel, radius=radius)


def _otsu(image: np.ndarray) -> float:
    # Of wide integers scikit-image would count every single value.
    return float(threshold_otsu(image if image.dtype.itemsize <= 2 else image.astype(float)))


def _middle(image: np.ndarray) -> float:
    """The middle between the means of Otsu's two classes."""
    bright = image > _otsu(image)
    return (image[bright].mean(dtype=float) + image[~bright].mean(dtype=float)) / 2


def _by_plane(function: Callable[[Mask], Mask], mask: Mask) -> Mask:
    return function(mask) if mask.ndim == 2 else np.stack([function(plane) for plane in mask])


def _without_specks(mask: Mask, min_area: int) -> Mask:
    parts, _ = scipy.ndimage.label(mask, np.ones((3,) * mask.ndim))
    large = np.bincount(parts.reshape(-1)) >= min_area
    large[0] = False
    return large[parts]
