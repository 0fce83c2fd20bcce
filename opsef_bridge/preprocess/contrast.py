"""Steps that change grey values: contrast, edges, 8 bits; rules as in `steps`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import scipy.ndimage
from pydantic import Field
from skimage.exposure import equalize_adapthist
from skimage.filters import roberts, sobel

from opsef_bridge.errors import ConfigError
from opsef_bridge.preprocess.arrays import as_dtype, as_float, by_plane, fraction
from opsef_bridge.preprocess.clahe_parts import (
    measure_opencv,
    measure_skimage,
    opencv_part,
    skimage_part,
)
from opsef_bridge.preprocess.opencv_clahe import opencv_clahe
from opsef_bridge.preprocess.registry import step
from opsef_bridge.preprocess.whole import Known, Pieces, Place, extremes, percentiles, with_planes

__all__ = ["clahe", "edges", "normalise", "to_8bit"]


def _planes_only(engine: str, volume: bool, **_: object) -> str | None:
    if volume and engine == "opencv":
        return "OpenCV's CLAHE is for planes: leave out volume, or choose engine: skimage"
    return None


def _eight_by(image: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Convert to 8 bits by minimum and maximum; 8 bits stay as they are."""
    if image.dtype == np.uint8:
        return image
    low, high = limits.astype(np.float64).tolist()
    return _eight_bits(image.astype(np.float64), "minmax", low, high, False)


def _measure_clahe(
    pieces: Pieces,
    shape: Sequence[int],
    *,
    tiles: int,
    clip: float,
    engine: str = "skimage",
    volume: bool = False,
) -> Known:
    if volume:
        raise ConfigError(
            "clahe with volume: true takes the whole image, here is a part",
            hint="Leave out volume",
        )
    if engine == "opencv":
        return measure_opencv(pieces, shape, tiles, clip, _eight_by)
    return measure_skimage(pieces, shape, tiles, clip)


def _clahe_part(
    image: np.ndarray, place: Place, *, tiles: int, engine: str = "skimage", **_: object
) -> np.ndarray:
    if engine == "opencv":
        return opencv_part(image, place, _eight_by)
    return skimage_part(image, place, tiles)


@step(
    dtype="float32",
    check=_planes_only,
    later=("engine", "volume"),
    measure=_measure_clahe,
    part=_clahe_part,
)
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
        the engine skimage, and of images that are not worked on in tiles.

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


def _log_is_new(filter: str, legacy: bool, **_: object) -> str | None:
    return "OpSeF had no log: leave out legacy" if legacy and filter == "log" else None


@step(dtype="float32", version=2, later=("legacy",), check=_log_is_new)
def edges(
    image: np.ndarray,
    *,
    filter: Literal["sobel", "roberts", "log"] = "sobel",
    sigma: Annotated[float, Field(gt=0, le=50)] = 2.0,
    legacy: bool = False,
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
    legacy : bool
        As OpSeF had them for `to_8bit`, which cuts fractions off: float64, integers as
        fractions of the largest of their dtype. Not with `log`.

    Returns
    -------
    ndarray of float32
        In grey levels of the image, scaled as `skimage.filters` does, `log` by
        ``-sigma**2``; 0 where the image is flat. With `legacy` float64.

    References
    ----------
    Marr, D. and Hildreth, E. (1980). Theory of edge detection. Proc. R. Soc. Lond. B 207,
    187-217 (`log`; its Laplacian is the second difference along Y plus that along X, as in
    Lindeberg, T. (1990). Scale-space for discrete signals. IEEE PAMI 12, 234-254);
    `skimage.filters.sobel`, `skimage.filters.roberts`.
    """

    def log(values: np.ndarray) -> np.ndarray:
        # First the differences, which are exactly 0 where it is flat; the second derivative of
        # a Gaussian that is cut off is not. Mirrored at the border, the order is of no matter.
        differences = scipy.ndimage.laplace(values, mode="reflect")
        return -(sigma**2) * scipy.ndimage.gaussian_filter(differences, sigma, mode="reflect")

    if legacy:
        exact = {"sobel": sobel, "roberts": roberts}[filter]
        return by_plane(lambda plane: exact(plane).astype(np.float64), image)
    kernel = {"sobel": sobel, "roberts": roberts, "log": log}[filter]
    return by_plane(lambda plane: kernel(as_float(plane)).astype(np.float32), image)


def _measure_percentiles(
    pieces: Pieces,
    shape: Sequence[int],
    *,
    low: float,
    high: float,
    per_plane: bool = False,
    **_: object,
) -> Known:
    found = percentiles(pieces, shape, (low, high, 0, 100), per_plane=per_plane)
    return {"percentiles": found}


def _normalise_part(
    image: np.ndarray, place: Place, *, clip: bool = False, per_plane: bool = False, **_: object
) -> np.ndarray:
    def scaled(part: np.ndarray, known: np.ndarray) -> np.ndarray:
        values = as_float(part)
        bottom, top, least, most = known
        if bottom == top:
            bottom, top = values.dtype.type(least), values.dtype.type(most)
        return _between(values, bottom, top, clip)

    known = place.known["percentiles"]
    return with_planes(scaled, image, known) if per_plane else scaled(image, known[0])


@step(
    dtype="float32",
    later=("clip", "per_plane"),
    measure=_measure_percentiles,
    part=_normalise_part,
)
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
        return _between(values, bottom, top, clip)

    return by_plane(scaled, image) if per_plane else scaled(image)


def _between(values: np.ndarray, bottom: float, top: float, clip: bool) -> np.ndarray:
    result = fraction(values, bottom, top).astype(np.float32)
    return np.clip(result, 0, 1) if clip else result


def _measure_extremes(
    pieces: Pieces, shape: Sequence[int], *, scale: str = "minmax", **_: object
) -> Known:
    return {} if scale == "none" else {"extremes": extremes(pieces)}


def _to_8bit_part(image: np.ndarray, place: Place, *, scale: str, legacy: bool) -> np.ndarray:
    values = image.astype(np.float64)
    low, high = (0, 0) if scale == "none" else place.known["extremes"][0].astype(np.float64)
    return _eight_bits(values, scale, float(low), float(high), legacy)


@step(dtype="uint8", measure=_measure_extremes, part=_to_8bit_part)
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
    return _eight_bits(values, scale, float(values.min()), float(values.max()), legacy)


def _eight_bits(
    values: np.ndarray, scale: str, low: float, high: float, legacy: bool
) -> np.ndarray:
    """Convert float64 by the minimum and maximum of the image."""
    if scale == "minmax":
        values = 255 * fraction(values, low, high)
    elif scale == "max":
        # Divided last, so that a whole number stays one and is not cut to the one below.
        values = 255 * values / high if high > 0 else np.zeros_like(values)
    if not legacy:
        return as_dtype(values, np.dtype(np.uint8))
    # Whole numbers modulo 256, by a rule instead of by what a processor makes of a cast.
    return np.mod(np.trunc(values), 256).astype(np.uint8)
