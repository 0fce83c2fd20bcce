"""From an image to the array that is segmented: one channel, grey, finite."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from opsef_bridge.errors import ImageError
from opsef_bridge.images.image import Image

__all__ = ["segment_plane", "segment_samples", "to_grey"]

LUMINANCE = (0.2125, 0.7154, 0.0721)
"""Weights of red, green and blue (Rec. 709), as `skimage.color.rgb2gray` has them."""


def to_grey(colour: np.ndarray) -> np.ndarray:
    """Return the luminance of a colour array.

    Parameters
    ----------
    colour : ndarray, shape (..., 3)
        Red, green, blue.

    Returns
    -------
    ndarray, shape (...)
        ``0.2125 R + 0.7154 G + 0.0721 B`` in the dtype of `colour`, rounded where that
        is an integer. The weights sum to 1: nothing wraps, and equal samples stay as
        they are.

    Examples
    --------
    >>> to_grey(np.full((1, 2, 3), 255, np.uint8))
    array([[255, 255]], dtype=uint8)
    """
    work = np.float64 if colour.dtype.itemsize > 2 else np.float32
    grey = np.zeros(colour.shape[:-1], work)
    for sample, weight in enumerate(LUMINANCE):
        grey += colour[..., sample] * work(weight)
    return grey.astype(colour.dtype) if colour.dtype.kind == "f" else _rounded(grey, colour.dtype)


def _rounded(grey: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return np.rint(grey, out=grey).astype(dtype)


def segment_plane(image: Image, channel: int = 0) -> np.ndarray:
    """Return the plane or volume of `image` that is segmented.

    Parameters
    ----------
    image : Image
        Axes of ``ZCYXS``. A colour image goes to grey by luminance (`to_grey`).
    channel : int
        Channel to take, from 0. Colour images and images of one channel have only 0.

    Returns
    -------
    ndarray, axes YX or ZYX
        In the dtype of the image.

    Raises
    ------
    ImageError
        A time series, a channel that does not exist, or pixels that are not finite.
    """
    data = _channel(image, channel)
    return _finite(to_grey(data) if "S" in image.axes else data)


def segment_samples(image: Image, channels: Sequence[int] = (0,)) -> np.ndarray:
    """Return the samples of a colour image, or the chosen channels, one before the other.

    Parameters
    ----------
    image : Image
        Axes of ``ZCYXS``.
    channels : sequence of int
        Channels to take, from 0; of a colour image red, green and blue are taken.

    Returns
    -------
    ndarray, axes SYX or SZYX
        In the dtype of the image. An alpha sample is left out.

    Raises
    ------
    ImageError
        As `segment_plane`.

    Examples
    --------
    >>> segment_samples(Image(np.zeros((5, 4, 3), np.uint8), "YXS")).shape
    (3, 5, 4)
    """
    if "S" in image.axes:
        return _finite(np.moveaxis(_channel(image, 0), -1, 0)[:3])
    return _finite(np.stack([_channel(image, channel) for channel in channels]))


def _channel(image: Image, channel: int) -> np.ndarray:
    """Return one channel; samples stay."""
    data, axes = image.data, image.axes
    if "T" in axes:
        raise ImageError(
            f"a time series of {data.shape[axes.index('T')]} time points is not one image",
            hint="Save each time point as its own file, or name the axis Z if it is depth",
        )
    count = data.shape[axes.index("C")] if "C" in axes else 1
    if not 0 <= channel < count:
        raise ImageError(
            f"channel {channel} does not exist: the image has {count} (axes {axes})",
            hint=f"Choose a channel from 0 to {count - 1}",
        )
    if "C" in axes:
        data = data.take(channel, axis=axes.index("C"))
    return data


def _finite(data: np.ndarray) -> np.ndarray:
    """Return `data`, or say how many pixels are not finite."""
    bad = data.size - int(np.isfinite(data).sum()) if data.dtype.kind == "f" else 0
    if bad:
        raise ImageError(
            f"{bad} of {data.size} pixels are NaN or infinite",
            hint="Replace them (ImageJ: Process > Math > NaN Background) and save again",
        )
    return data
