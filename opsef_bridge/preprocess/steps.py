"""The preprocessing steps: pure functions from image to image.

All work on YX and ZYX; in a volume those that look at neighbours or tiles work plane by
plane, because planes are further apart than pixels. Rules for the dtype of the result:

- filters, `subtract`, `invert` and `bin` keep the dtype; results are rounded, nothing wraps;
- `clahe`, `edges` and `normalise` give float32.

Lengths are in pixels of the image as it is when the step runs (so after `bin`, of the
binned one). A disk is ImageJ's: ``x**2 + y**2 <= radius**2 + 1``. Beyond the border,
filters see the nearest pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
import scipy.ndimage
from pydantic import Field
from skimage.exposure import equalize_adapthist
from skimage.filters import roberts, sobel

from opsef_bridge.preprocess.disk import disk, disk_mean, disk_opening
from opsef_bridge.preprocess.registry import step

__all__ = [
    "bin",
    "clahe",
    "edges",
    "gaussian",
    "invert",
    "mean",
    "median",
    "normalise",
    "subtract",
    "white_tophat",
]

Radius = Annotated[int, Field(ge=1, le=100)]


def _by_plane(function: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> np.ndarray:
    return function(image) if image.ndim == 2 else np.stack([function(plane) for plane in image])


def _as_dtype(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return `values` as `dtype`, rounded and kept within its range where it is an integer."""
    if dtype.kind == "f":
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)


def _float(image: np.ndarray) -> np.ndarray:
    """Return `image` in a float dtype that holds its values exactly."""
    return image.astype(np.float64 if image.dtype.itemsize > 2 else np.float32, copy=False)


@step(dtype="same")
def median(image: np.ndarray, *, radius: Annotated[int, Field(ge=1, le=20)] = 1) -> np.ndarray:
    """Median over a disk: removes single bright or dark pixels, keeps edges.

    Equal to ImageJ's Process > Filters > Median with the same radius.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
    radius : int
        In pixels, 1 to 20 (1 is 3 x 3 pixels). The time grows with its square.

    Returns
    -------
    ndarray
        Same dtype.
    """
    footprint = disk(radius)
    return _by_plane(
        lambda plane: scipy.ndimage.median_filter(plane, footprint=footprint, mode="nearest"),
        image,
    )


@step(dtype="same")
def mean(image: np.ndarray, *, radius: Radius = 1) -> np.ndarray:
    """Mean over a disk. (The original's "mean 7" was a disk of radius 7, not 7 x 7 pixels.)

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
    radius : int
        In pixels, 1 to 100 (1 is 3 x 3 pixels).

    Returns
    -------
    ndarray
        Same dtype, rounded where it is an integer.
    """
    return _by_plane(lambda plane: _as_dtype(disk_mean(plane, radius), image.dtype), image)


@step(dtype="same")
def gaussian(
    image: np.ndarray, *, sigma: Annotated[float, Field(gt=0, le=100)] = 1.0
) -> np.ndarray:
    """Gaussian blur.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
    sigma : float
        Standard deviation in pixels, above 0 up to 100; the kernel ends at 4 sigma.

    Returns
    -------
    ndarray
        Same dtype, rounded where it is an integer.
    """
    return _by_plane(
        lambda plane: _as_dtype(
            scipy.ndimage.gaussian_filter(_float(plane), sigma, mode="nearest"), image.dtype
        ),
        image,
    )


@step(dtype="same")
def subtract(
    image: np.ndarray, *, value: Annotated[float, Field(ge=0, le=2**32)] = 0.0
) -> np.ndarray:
    """Subtract a constant background; what would be negative becomes 0.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
    value : float
        In grey levels of the image, 0 to 2**32.

    Returns
    -------
    ndarray
        Same dtype, rounded where it is an integer, never below 0.

    Examples
    --------
    >>> subtract(np.array([[3, 200]], np.uint8), value=50)
    array([[  0, 150]], dtype=uint8)
    """
    return _as_dtype(np.maximum(_float(image) - value, 0), image.dtype)


@step(dtype="same")
def white_tophat(image: np.ndarray, *, radius: Radius = 50) -> np.ndarray:
    """Remove background that is wider than a disk: the image minus its opening.

    Objects that hold the whole disk go too: the radius must be larger than theirs.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
    radius : int
        In pixels, 1 to 100. The disk is whole, not approximated by smaller shapes.

    Returns
    -------
    ndarray
        Same dtype; for a float or unsigned image never below 0.
    """

    def tophat(plane: np.ndarray) -> np.ndarray:
        # In float, because a signed integer cannot always hold the difference.
        difference = _float(plane) - disk_opening(plane, radius)
        return _as_dtype(difference, image.dtype)

    return _by_plane(tophat, image)


@step(dtype="float32")
def clahe(
    image: np.ndarray,
    *,
    tiles: Annotated[int, Field(ge=1, le=64)] = 8,
    clip: Annotated[float, Field(gt=0, le=1)] = 0.01,
) -> np.ndarray:
    """Contrast limited adaptive histogram equalisation (scikit-image's, not ImageJ's).

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
    tiles : int
        Tiles along each side, 1 to 64.
    clip : float
        Limit of the slope, above 0 up to 1; more gives more contrast.

    Returns
    -------
    ndarray of float32
        From 0 to 1; 0 throughout where the image is constant.

    References
    ----------
    Zuiderveld, K. (1994). Contrast limited adaptive histogram equalization. Graphics
    Gems IV, 474-485; `skimage.exposure.equalize_adapthist`.
    """

    def equalised(plane: np.ndarray) -> np.ndarray:
        plane = _float(plane)
        low, high = plane.min(), plane.max()
        if low == high:
            return np.zeros(plane.shape, np.float32)
        tile = [max(size // tiles, 1) for size in plane.shape]
        result = equalize_adapthist((plane - low) / (high - low), kernel_size=tile, clip_limit=clip)
        return result.astype(np.float32)

    return _by_plane(equalised, image)


@step(dtype="float32")
def edges(image: np.ndarray, *, filter: Literal["sobel", "roberts"] = "sobel") -> np.ndarray:
    """Strength of edges: the length of the grey value gradient.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
    filter : {"sobel", "roberts"}
        Kernel: 3 x 3, or the sharper and noisier 2 x 2.

    Returns
    -------
    ndarray of float32
        In grey levels of the image, scaled as `skimage.filters` does; 0 where it is flat.
    """
    kernel = {"sobel": sobel, "roberts": roberts}[filter]
    return _by_plane(lambda plane: kernel(_float(plane)).astype(np.float32), image)


@step(dtype="same")
def invert(image: np.ndarray) -> np.ndarray:
    """Make dark bright, for bright-field images; the same rule as `skimage.util.invert`.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX

    Returns
    -------
    ndarray
        Same dtype: largest value of the dtype minus the image (unsigned), ``-1 - image``
        (signed), ``1 - image`` (float). None depends on the other pixels, so a crop of
        the result is the result of the crop.

    Examples
    --------
    >>> invert(np.array([[0, 255]], np.uint8))
    array([[255,   0]], dtype=uint8)
    """
    return 1 - image if image.dtype.kind == "f" else np.invert(image)


@step(dtype="float32")
def normalise(
    image: np.ndarray,
    *,
    low: Annotated[float, Field(ge=0, lt=50)] = 1.0,
    high: Annotated[float, Field(gt=50, le=100)] = 99.8,
) -> np.ndarray:
    """Scale so that two percentiles become 0 and 1; what is beyond them is kept, not clipped.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
        The percentiles are those of the whole plane or volume.
    low, high : float
        Percentiles: from 0 up to below 50, and above 50 up to 100. Where both have the same
        value (a few objects on black), minimum and maximum take their place.

    Returns
    -------
    ndarray of float32
        0 throughout where the image is constant.
    """
    values = _float(image)
    bottom, top = np.percentile(values, (low, high))
    if bottom == top:
        bottom, top = values.min(), values.max()
    if bottom == top:
        return np.zeros(image.shape, np.float32)
    return ((values - bottom) / (top - bottom)).astype(np.float32)


@step(dtype="same", shrinks="factor")
def bin(image: np.ndarray, *, factor: Annotated[int, Field(ge=1, le=16)] = 2) -> np.ndarray:
    """Mean of blocks of ``factor x factor`` pixels; Y and X shrink by `factor`, Z does not.

    Blocks cut by the right or lower border are the mean of what there is of them: no pixel
    is lost. `opsef_bridge.preprocess.to_source_grid` brings labels back.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
    factor : int
        Pixels a side, 1 to 16.

    Returns
    -------
    ndarray
        Same dtype, rounded where it is an integer; sides ``ceil(size / factor)``.

    Examples
    --------
    >>> bin(np.array([[250, 254, 9], [250, 254, 9]], np.uint8))
    array([[252,   9]], dtype=uint8)
    """
    work = np.float64 if image.dtype.kind == "f" else np.int64
    total, count = image, 1
    for axis in (-2, -1):
        size = image.shape[axis]
        starts = np.arange(0, size, factor)
        total = np.add.reduceat(total, starts, axis=axis, dtype=work)
        pixels = np.diff(starts, append=size)
        count = count * (pixels[:, np.newaxis] if axis == -2 else pixels)
    return _as_dtype(total / count, image.dtype)
