"""The preprocessing steps: pure functions from image to image.

This module has those that smooth, invert and bin; `opsef_bridge.preprocess.background`,
`contrast` and `colour` have the others. All work on YX and ZYX; in a volume those that look
at neighbours or tiles work plane by plane, because planes are further apart than pixels,
unless a parameter says otherwise. Rules for the dtype of the result:

- filters, background, `invert` and `bin` keep the dtype; results are rounded, nothing wraps;
- `clahe`, `edges`, `normalise` and `colour_deconvolution` give float32, `to_8bit` uint8.

Lengths are in pixels of the image as it is when the step runs (so after `bin`, of the
binned one). A disk is ImageJ's: ``x**2 + y**2 <= radius**2 + 1``. Beyond the border,
filters see the nearest pixel. ``legacy: true`` computes what OpSeF-IV computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import scipy.ndimage
from pydantic import Field

from opsef_bridge.errors import ConfigError
from opsef_bridge.preprocess.arrays import as_dtype, as_float, by_plane, fraction
from opsef_bridge.preprocess.disk import ball, disk, disk_mean, legacy_disk_mean
from opsef_bridge.preprocess.registry import step
from opsef_bridge.preprocess.whole import Known, Pieces, Place, extremes, with_planes

__all__ = ["bin", "denoise", "gaussian", "invert", "mean", "median"]


@step(dtype="same", later=("z_radius", "legacy"))
def median(
    image: np.ndarray,
    *,
    radius: Annotated[int, Field(ge=1, le=20)] = 1,
    z_radius: Annotated[int, Field(ge=0, le=20)] = 0,
    legacy: bool = False,
) -> np.ndarray:
    """Median over a disk: removes single bright or dark pixels, keeps edges.

    Equal to ImageJ's Process > Filters > Median with the same radius.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
    radius : int
        In pixels, 1 to 20 (1 is 3 x 3 pixels). The time grows with its square.
    z_radius : int
        Planes above and below that count too, 0 to 20: the disk becomes an ellipsoid. With 0
        a volume is worked on plane by plane.
    legacy : bool
        As OpSeF: the square of ``2 radius + 1`` pixels a side (its kernel 3 is radius 1).

    Returns
    -------
    ndarray
        Same dtype.
    """
    if legacy:
        footprint = np.ones((2 * radius + 1, 2 * radius + 1), bool)
    elif z_radius and image.ndim == 3:
        return scipy.ndimage.median_filter(image, footprint=ball(radius, z_radius), mode="nearest")
    else:
        footprint = disk(radius)
    return by_plane(
        lambda plane: scipy.ndimage.median_filter(plane, footprint=footprint, mode="nearest"),
        image,
    )


@step(dtype="same", later=("z_radius", "legacy"))
def mean(
    image: np.ndarray,
    *,
    radius: Annotated[int, Field(ge=1, le=100)] = 1,
    z_radius: Annotated[int, Field(ge=0, le=20)] = 0,
    legacy: bool = False,
) -> np.ndarray:
    """Mean over a disk. (The original's "mean 7" was a disk of radius 7, not 7 x 7 pixels.)

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
    radius : int
        In pixels, 1 to 100 (1 is 3 x 3 pixels).
    z_radius : int
        Planes above and below that count too, 0 to 20: the disk becomes an ellipsoid. With 0
        a volume is worked on plane by plane.
    legacy : bool
        As OpSeF: the disk ``x**2 + y**2 <= radius**2``, cut at the border, the mean of an
        integer image cut to a whole number (`skimage.filters.rank.mean`).

    Returns
    -------
    ndarray
        Same dtype, rounded where it is an integer.
    """
    if legacy:
        return by_plane(lambda plane: legacy_disk_mean(plane, radius), image)
    if z_radius and image.ndim == 3:
        return as_dtype(_ball_mean(image, radius, z_radius), image.dtype)
    return by_plane(lambda plane: as_dtype(disk_mean(plane, radius), image.dtype), image)


def _ball_mean(volume: np.ndarray, radius: int, z_radius: int) -> np.ndarray:
    """Return the mean over the ellipsoid: a sum of lines of pixels, as that over the disk."""
    inside = ball(radius, z_radius)
    padded = np.pad(volume, [(z_radius, z_radius), (radius, radius), (radius, radius)], "edge")
    work = np.float64 if volume.dtype.kind == "f" else np.int64
    running = np.pad(np.cumsum(padded, axis=2, dtype=work), [(0, 0), (0, 0), (1, 0)])
    depth, height, width = volume.shape
    total = np.zeros(volume.shape, work)
    for z, y in np.argwhere(inside.any(axis=2)):
        half = int(inside[z, y].sum()) // 2
        lines = running[z : z + depth, y : y + height]
        left, right = radius - half, radius + half + 1
        total += lines[..., right : right + width] - lines[..., left : left + width]
    return total / int(inside.sum())


@step(dtype="same", later=("z_sigma",))
def gaussian(
    image: np.ndarray,
    *,
    sigma: Annotated[float, Field(gt=0, le=100)] = 1.0,
    z_sigma: Annotated[float, Field(ge=0, le=100)] = 0.0,
) -> np.ndarray:
    """Gaussian blur.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
    sigma : float
        Standard deviation in pixels, above 0 up to 100; the kernel ends at 4 sigma.
    z_sigma : float
        The same across planes, in planes, 0 to 100. With 0 a volume is worked on plane by
        plane.

    Returns
    -------
    ndarray
        Same dtype, rounded where it is an integer.
    """
    sigmas = (z_sigma, sigma, sigma)[-image.ndim :]
    blurred = scipy.ndimage.gaussian_filter(as_float(image), sigmas, mode="nearest")
    return as_dtype(blurred, image.dtype)


def _measure_range(pieces: Pieces, shape: Sequence[int], *, method: str, **_: object) -> Known:
    if method == "tv":
        raise ConfigError(
            "denoise by tv takes the whole image, here is a part",
            hint="Choose method: nl_means or bilateral",
        )
    return {"extremes": extremes(pieces, per_plane=True)}


def _denoise_part(
    image: np.ndarray, place: Place, *, method: str, strength: float, radius: int
) -> np.ndarray:
    def denoised(plane: np.ndarray, known: np.ndarray) -> np.ndarray:
        values = as_float(plane)
        low, high = float(known[0]), float(known[1])
        if low == high:
            return plane
        # At the rim of a part, which is cut off, a filter before may have left anything.
        scaled = np.clip(fraction(values, low, high), 0, 1)
        if method == "bilateral":
            # The extremes of the whole image, out of sight of every pixel of the part:
            # scikit-image makes its table of weights by them.
            scaled = np.pad(np.pad(scaled, radius, mode="edge"), ((0, 1), (0, 0)))
            scaled[-1, 0] = 1
        found = _denoised(scaled, method, strength, radius)
        if method == "bilateral":
            found = found[radius : -radius - 1, radius:-radius]
        found = found.reshape(plane.shape).astype(values.dtype)
        return as_dtype(found * (high - low) + low, image.dtype)

    return with_planes(denoised, image, place.known["extremes"])


@step(dtype="same", measure=_measure_range, part=_denoise_part)
def denoise(
    image: np.ndarray,
    *,
    method: Literal["tv", "nl_means", "bilateral"] = "tv",
    strength: Annotated[float, Field(gt=0, le=10)] = 0.1,
    radius: Annotated[int, Field(ge=1, le=15)] = 5,
) -> np.ndarray:
    """Remove noise and keep edges: total variation, non-local means, or a bilateral filter.

    Slower than the other filters, bilateral at large radii most.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
        A volume is worked on plane by plane.
    method : {"tv", "nl_means", "bilateral"}
        Total variation makes areas even; non-local means averages places that look alike
        (5 x 5 pixels are compared) and keeps texture; bilateral averages neighbours of
        similar grey. Images that are worked on in tiles take the last two only.
    strength : float
        Above 0 up to 10, as part of the plane's range from minimum to maximum: the weight
        of total variation, the ``h`` of non-local means, the ``sigma_color`` of bilateral.
    radius : int
        In pixels, 1 to 15: how far non-local means looks, or half the bilateral window
        (whose ``sigma_spatial`` is half of it). No use to total variation.

    Returns
    -------
    ndarray
        Same dtype, rounded where it is an integer.

    References
    ----------
    Chambolle, A. (2004). An algorithm for total variation minimization and applications.
    J. Math. Imaging Vis. 20, 89-97; Buades, A. et al. (2005). A non-local algorithm for
    image denoising. CVPR, 60-65; Tomasi, C. and Manduchi, R. (1998). Bilateral filtering
    for gray and color images. ICCV, 839-846; `skimage.restoration`.
    """

    def denoised(plane: np.ndarray) -> np.ndarray:
        values = as_float(plane)
        low, high = float(values.min()), float(values.max())
        if low == high:
            return plane
        found = _denoised(fraction(values, low, high), method, strength, radius)
        # scikit-image drops axes of length 1.
        found = found.reshape(plane.shape).astype(values.dtype)
        return as_dtype(found * (high - low) + low, image.dtype)

    return by_plane(denoised, image)


def _denoised(values: np.ndarray, method: str, strength: float, radius: int) -> np.ndarray:
    from skimage import restoration

    if method == "tv":
        return restoration.denoise_tv_chambolle(values, weight=strength)
    if method == "nl_means":
        return restoration.denoise_nl_means(
            values, patch_size=5, patch_distance=radius, h=strength, fast_mode=True
        )
    return restoration.denoise_bilateral(
        values,
        win_size=2 * radius + 1,
        sigma_color=strength,
        sigma_spatial=radius / 2,
        mode="edge",
    )


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


@step(dtype="same", shrinks="factor", later=("legacy",))
def bin(
    image: np.ndarray,
    *,
    factor: Annotated[int, Field(ge=1, le=16)] = 2,
    legacy: bool = False,
) -> np.ndarray:
    """Mean of blocks of ``factor x factor`` pixels; Y and X shrink by `factor`, Z does not.

    Blocks cut by the right or lower border are the mean of what there is of them: no pixel
    is lost. `opsef_bridge.preprocess.to_source_grid` brings labels back.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
    factor : int
        Pixels a side, 1 to 16.
    legacy : bool
        As OpSeF: bilinear, which sees the middle of each block only (its 1 or 2 x 2 middle
        pixels) and so keeps the noise. Cut blocks are kept here too.

    Returns
    -------
    ndarray
        Same dtype, rounded where it is an integer; sides ``ceil(size / factor)``.

    Examples
    --------
    >>> bin(np.array([[250, 254, 9], [250, 254, 9]], np.uint8))
    array([[252,   9]], dtype=uint8)
    """
    if legacy:
        return _bilinear(image, factor)
    work = np.float64 if image.dtype.kind == "f" else np.int64
    total, count = image, 1
    for axis in (-2, -1):
        size = image.shape[axis]
        starts = np.arange(0, size, factor)
        total = np.add.reduceat(total, starts, axis=axis, dtype=work)
        pixels = np.diff(starts, append=size)
        count = count * (pixels[:, np.newaxis] if axis == -2 else pixels)
    return as_dtype(total / count, image.dtype)


def _bilinear(image: np.ndarray, factor: int) -> np.ndarray:
    values = as_float(image)
    for axis in (-2, -1):
        last = image.shape[axis] - 1
        starts = np.arange(0, last + 1, factor)
        first = np.minimum(starts + (factor - 1) // 2, last)
        second = np.minimum(starts + factor // 2, last)
        values = (values.take(first, axis) + values.take(second, axis)) / 2
    return as_dtype(values, image.dtype)
