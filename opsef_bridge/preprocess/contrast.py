"""Steps that change grey values: contrast, edges, 8 bits; rules as in `steps`."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import scipy.ndimage
from pydantic import Field
from skimage.exposure import equalize_adapthist
from skimage.filters import roberts, sobel

from opsef_bridge.preprocess.arrays import as_dtype, as_float, by_plane, fraction
from opsef_bridge.preprocess.opencv_clahe import opencv_clahe
from opsef_bridge.preprocess.registry import step

__all__ = ["clahe", "edges", "normalise", "to_8bit"]


def _planes_only(engine: str, volume: bool, **_: object) -> str | None:
    if volume and engine == "opencv":
        return "OpenCV's CLAHE is for planes: leave out volume, or choose engine: skimage"
    return None


@step(dtype="float32", check=_planes_only, later=("engine", "volume"))
def clahe(
    image: np.ndarray,
    *,
    tiles: Annotated[int, Field(ge=1, le=64)] = 8,
    clip: Annotated[float, Field(gt=0, le=1)] = 0.01,
    engine: Literal["skimage", "opencv"] = "skimage",
    volume: bool = False,
) -> np.ndarray:
    """Contrast limited adaptive histogram equalisation.

    For the one of Fiji, whose numbers differ, see the step `clahe_fiji`.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
    tiles : int
        Tiles along each side, 1 to 64.
    clip : float
        Limit of the slope, above 0 up to 1; more gives more contrast. It is the part of a
        tile's pixels that one of 256 grey levels may count for, so 256 times this is the
        ``clipLimit`` of OpenCV.
    engine : {"skimage", "opencv"}
        Whose rules: scikit-image's, or OpenCV's as OpSeF used them, which work on 8 bits
        (8-bit images as they are, others from minimum to maximum) and are computed here,
        without OpenCV.
    volume : bool
        Whether the tiles of a volume part its planes too; else plane by plane. Only with
        the engine skimage.

    Returns
    -------
    ndarray of float32
        From 0 to 1; 0 throughout where the image is constant (skimage), or 1/255 times
        OpenCV's grey levels.

    References
    ----------
    Zuiderveld, K. (1994). Contrast limited adaptive histogram equalization. Graphics
    Gems IV, 474-485; `skimage.exposure.equalize_adapthist`; ``cv::createCLAHE``.
    """

    def equalised(part: np.ndarray) -> np.ndarray:
        values = as_float(part)
        low, high = values.min(), values.max()
        if low == high:
            return np.zeros(part.shape, np.float32)
        tile = [max(size // tiles, 1) for size in part.shape]
        result = equalize_adapthist(fraction(values, low, high), kernel_size=tile, clip_limit=clip)
        return result.astype(np.float32)

    if engine == "opencv":
        eight = image if image.dtype == np.uint8 else to_8bit(image, scale="minmax")
        levels = by_plane(lambda plane: opencv_clahe(plane, tiles, 256 * clip), eight)
        return levels.astype(np.float32) / np.float32(255)
    return equalised(image) if volume else by_plane(equalised, image)


@step(dtype="float32")
def edges(
    image: np.ndarray,
    *,
    filter: Literal["sobel", "roberts", "log"] = "sobel",
    sigma: Annotated[float, Field(gt=0, le=50)] = 2.0,
) -> np.ndarray:
    """Strength of edges: the length of the grey value gradient, or the Laplacian of Gaussian.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
        A volume is worked on plane by plane.
    filter : {"sobel", "roberts", "log"}
        Kernel: 3 x 3, or the sharper and noisier 2 x 2. `log` is bright on the inner side
        of the edge of bright objects, negative on the outer side, 0 on the edge itself; spots
        of radius ``1.4 sigma`` answer most.
    sigma : float
        Of the Gaussian of `log`, in pixels, above 0 up to 50. No use to the others.

    Returns
    -------
    ndarray of float32
        In grey levels of the image, scaled as `skimage.filters` does, `log` by
        ``-sigma**2``; 0 where the image is flat. (OpSeF's edges are these by `to_8bit`.)

    References
    ----------
    Marr, D. and Hildreth, E. (1980). Theory of edge detection. Proc. R. Soc. Lond. B 207,
    187-217 (`log`); `skimage.filters.sobel`, `skimage.filters.roberts`.
    """

    def log(values: np.ndarray) -> np.ndarray:
        # Less an offset, which has no edges but would be rounded by the two sums.
        found = scipy.ndimage.gaussian_laplace(values - values.flat[0], sigma, mode="nearest")
        return -(sigma**2) * found

    kernel = {"sobel": sobel, "roberts": roberts, "log": log}[filter]
    return by_plane(lambda plane: kernel(as_float(plane)).astype(np.float32), image)


@step(dtype="float32", later=("clip", "per_plane"))
def normalise(
    image: np.ndarray,
    *,
    low: Annotated[float, Field(ge=0, lt=50)] = 1.0,
    high: Annotated[float, Field(gt=50, le=100)] = 99.8,
    clip: bool = False,
    per_plane: bool = False,
) -> np.ndarray:
    """Scale so that two percentiles become 0 and 1; minimum and maximum are 0 and 100.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
        The percentiles are those of the whole plane or volume.
    low, high : float
        Percentiles: from 0 up to below 50, and above 50 up to 100. Where both have the same
        value (a few objects on black), minimum and maximum take their place.
    clip : bool
        Whether what is beyond them becomes 0 or 1; else it is kept.
    per_plane : bool
        Whether each plane of a volume has percentiles of its own, as where light fades with
        depth.

    Returns
    -------
    ndarray of float32
        0 throughout where the image is constant.
    """

    def scaled(part: np.ndarray) -> np.ndarray:
        values = as_float(part)
        bottom, top = np.percentile(values, (low, high))
        if bottom == top:
            bottom, top = values.min(), values.max()
        result = fraction(values, bottom, top).astype(np.float32)
        return np.clip(result, 0, 1) if clip else result

    return by_plane(scaled, image) if per_plane else scaled(image)


@step(dtype="uint8")
def to_8bit(
    image: np.ndarray,
    *,
    scale: Literal["minmax", "max", "none"] = "minmax",
    legacy: bool = False,
) -> np.ndarray:
    """Convert to 8 bits; engines do not need it, some published pipelines do.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
        A volume has one scale.
    scale : {"minmax", "max", "none"}
        Minimum and maximum become 0 and 255; or only the maximum becomes 255; or grey
        levels stay as they are, and what does not fit becomes 0 or 255.
    legacy : bool
        As OpSeF: fractions are cut off, not rounded; with `none` what does not fit wraps
        (256 becomes 0), as its maximum and median projections of 16 bits did. Its sums and
        edges were scaled by `max`.

    Returns
    -------
    ndarray of uint8
        A constant image becomes 0 by `minmax`; by `max` 255, or 0 where it is not above 0.

    Examples
    --------
    >>> to_8bit(np.array([[100, 300]], np.uint16), scale="none")
    array([[100, 255]], dtype=uint8)
    >>> to_8bit(np.array([[100, 300]], np.uint16), scale="none", legacy=True)
    array([[100,  44]], dtype=uint8)
    """
    values = image.astype(np.float64)
    if scale == "minmax":
        values = 255 * fraction(values, float(values.min()), float(values.max()))
    elif scale == "max":
        top = float(values.max())
        # Divided last, so that a whole number stays one and is not cut to the one below.
        values = 255 * values / top if top > 0 else np.zeros_like(values)
    if not legacy:
        return as_dtype(values, np.dtype(np.uint8))
    # Whole numbers modulo 256, by a rule instead of by what a processor makes of a cast.
    return np.mod(np.trunc(values), 256).astype(np.uint8)
