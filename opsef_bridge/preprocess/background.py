"""Steps that remove background; see `opsef_bridge.preprocess.steps` for their rules."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import scipy.ndimage
from pydantic import Field

from opsef_bridge.errors import InputError
from opsef_bridge.images import read_image, segment_plane
from opsef_bridge.preprocess.arrays import as_dtype, as_float, by_plane
from opsef_bridge.preprocess.disk import disk_opening
from opsef_bridge.preprocess.registry import step
from opsef_bridge.preprocess.steps import bin, invert
from opsef_bridge.preprocess.whole import Known, Pieces, Place, with_planes

__all__ = ["flat_field", "gaussian_background", "rolling_ball", "subtract", "white_tophat"]

GAIN = 100
"""Most that `flat_field` brightens, so that dead corners do not become the brightest place."""


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
    if image.dtype.kind != "f" and value == int(value):
        if value > np.iinfo(image.dtype).max:
            return np.zeros_like(image)
        whole = image.dtype.type(value)
        return np.maximum(image, whole) - whole
    return as_dtype(np.maximum(as_float(image) - value, 0), image.dtype)


@step(dtype="same")
def white_tophat(
    image: np.ndarray, *, radius: Annotated[int, Field(ge=1, le=100)] = 50
) -> np.ndarray:
    """Remove background that is wider than a disk: the image minus its opening.

    Objects that hold the whole disk go too: the radius must be larger than theirs.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
        A volume is worked on plane by plane.
    radius : int
        In pixels, 1 to 100. The disk is whole, not approximated by smaller shapes.

    Returns
    -------
    ndarray
        Same dtype; for a float or unsigned image never below 0.
    """

    def tophat(plane: np.ndarray) -> np.ndarray:
        # In float, because a signed integer cannot always hold the difference.
        difference = as_float(plane) - disk_opening(plane, radius)
        return as_dtype(difference, image.dtype)

    return by_plane(tophat, image)


@step(dtype="same")
def gaussian_background(
    image: np.ndarray, *, sigma: Annotated[float, Field(gt=0, le=500)] = 50.0
) -> np.ndarray:
    """Subtract a heavy blur of the image; what would be negative becomes 0.

    Fast and smooth, but bright objects darken what is around them: choose a sigma of twice
    their diameter or more.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
        A volume is worked on plane by plane.
    sigma : float
        Standard deviation of the blur in pixels, above 0 up to 500.

    Returns
    -------
    ndarray
        Same dtype, rounded where it is an integer, never below 0.
    """

    def without(plane: np.ndarray) -> np.ndarray:
        values = as_float(plane)
        return as_dtype(np.maximum(values - _blur(values, sigma), 0), image.dtype)

    return by_plane(without, image)


def _blur(values: np.ndarray, sigma: float) -> np.ndarray:
    # Nothing is gained by a blur that is wider than the plane, but for time.
    widest = max(values.shape)
    return scipy.ndimage.gaussian_filter(
        values, sigma, mode="nearest", radius=int(min(4 * sigma + 0.5, widest))
    )


def _engine_can(engine: str, sliding: bool, **_: object) -> str | None:
    if sliding and engine == "skimage":
        return "scikit-image has no sliding paraboloid, choose engine: imagej"
    return None


@step(dtype="same", check=_engine_can)
def rolling_ball(
    image: np.ndarray,
    *,
    engine: Literal["imagej", "skimage"],
    radius: Annotated[float, Field(ge=1, le=500)] = 50.0,
    light: bool = False,
    sliding: bool = False,
) -> np.ndarray:
    """Subtract the background that a ball reaches when it rolls below the grey values.

    The two engines differ visibly, so one must be named, and neither ever takes the place
    of the other. ImageJ's smooths first (3 x 3), rolls a shrunken ball on a shrunken image,
    and is faster by far (50 times at radius 50). scikit-image's does as the definition says.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
        A volume is worked on plane by plane.
    engine : {"imagej", "skimage"}
        Who computes: ImageJ in its worker process (needs Java), or scikit-image.
    radius : float
        Of the ball in pixels, 1 to 500: larger than that of the largest object.
    light : bool
        The background is light, objects are dark: inverts, rolls, inverts again.
    sliding : bool
        A paraboloid slides instead of the ball; only with the engine imagej, and of images
        that are not worked on in tiles.

    Returns
    -------
    ndarray
        Same dtype, rounded where it is an integer.

    References
    ----------
    Sternberg, S. R. (1983). Biomedical image processing. Computer 16, 22-34; ImageJ:
    Process > Subtract Background (``rolling``, ``light``, ``sliding``);
    `skimage.restoration.rolling_ball`.
    """
    if engine == "imagej":
        from opsef_bridge.imagej import rolling_ball as imagej_rolling_ball

        result = imagej_rolling_ball(image, radius, light=light, sliding=sliding, smooth=True)
        return as_dtype(np.asarray(result), image.dtype)
    from skimage.restoration import rolling_ball as ball_below

    def without(plane: np.ndarray) -> np.ndarray:
        values = as_float(plane)
        return as_dtype(values - ball_below(values, radius=radius), image.dtype)

    return invert(by_plane(without, invert(image))) if light else by_plane(without, image)


def _measure_light(
    pieces: Pieces,
    shape: Sequence[int],
    *,
    reference: str | None,
    sigma: float,
    dark: float,
) -> Known:
    if reference is not None:
        light = _flat_of(reference, tuple(shape[-2:])) - dark
        mean = float(light.mean(dtype=np.float64))
        return {"mean": np.full(shape[0] if len(shape) == 3 else 1, mean)}
    total = np.zeros(1)
    for array, _, inside in pieces(int(4 * sigma + 0.5)):
        planes = as_float(array).reshape(-1, *array.shape[-2:])
        light = np.stack([_blur(plane, sigma)[inside] for plane in planes]) - dark
        total = total + light.sum(axis=(1, 2), dtype=np.float64)
    return {"mean": total / int(np.prod(shape[-2:]))}


def _flat_field_part(
    image: np.ndarray, place: Place, *, reference: str | None, sigma: float, dark: float
) -> np.ndarray:
    flat = None
    if reference is not None:
        (y, x), (height, width) = place.at, image.shape[-2:]
        flat = _flat_of(reference, place.of)[y : y + height, x : x + width]

    def corrected(plane: np.ndarray, mean: np.ndarray) -> np.ndarray:
        values = as_float(plane)
        light = (_blur(values, sigma) if flat is None else flat) - dark
        return _evened(values, light, float(mean), dark, image.dtype)

    return with_planes(corrected, image, place.known["mean"])


@step(dtype="same", files=("reference",), measure=_measure_light, part=_flat_field_part)
def flat_field(
    image: np.ndarray,
    *,
    reference: str | None = None,
    sigma: Annotated[float, Field(gt=0, le=500)] = 50.0,
    dark: Annotated[float, Field(ge=0, le=2**32)] = 0.0,
) -> np.ndarray:
    """Even out uneven light: ``(image - dark) / (flat - dark) * mean(flat - dark)``.

    `flat` is an image of nothing but the light, or, without a `reference`, a heavy blur of
    the image itself. The blur takes large objects for light: prefer a reference.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
        A volume is worked on plane by plane.
    reference : str, optional
        Path of an image of the same height and width, with empty field (of colour the
        luminance, of channels the first). In front of the step may stand `bin`.
    sigma : float
        Standard deviation of the blur in pixels, above 0 up to 500; without a reference.
    dark : float
        What the camera gives without light, in grey levels of the image, 0 to 2**32.

    Returns
    -------
    ndarray
        Same dtype, rounded where it is an integer, never below 0. The mean stays about
        the same (less `dark`); nothing is brightened more than 100 times.

    References
    ----------
    Likar, B. et al. (2000). Retrospective shading correction based on entropy minimization.
    J. Microsc. 197, 285-295 (the model); ImageJ: Calculator Plus, Divide, with the mean of
    the reference as k1.
    """
    given = None if reference is None else _flat_of(reference, image.shape[-2:])

    def corrected(plane: np.ndarray) -> np.ndarray:
        values = as_float(plane)
        light = (_blur(values, sigma) if given is None else given) - dark
        return _evened(values, light, float(light.mean(dtype=np.float64)), dark, image.dtype)

    return by_plane(corrected, image)


def _evened(
    values: np.ndarray, light: np.ndarray, mean: float, dark: float, dtype: np.dtype
) -> np.ndarray:
    gain = mean / np.maximum(light, mean / GAIN) if mean > 0 else 1.0
    return as_dtype(np.maximum(values - dark, 0) * gain, dtype)


def _flat_of(reference: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the reference on the grid of an image of `shape`."""
    path = Path(reference)
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(
            f"the reference {reference} of flat_field cannot be read: {error.strerror}",
            hint="Check its path",
        ) from None
    flat = _read_flat(reference, status.st_mtime_ns, status.st_size)
    factor = round(flat.shape[0] / shape[0])
    if 1 <= factor <= 16 and flat.shape != shape:
        flat = bin(flat, factor=factor)
    if flat.shape != shape:
        raise InputError(
            f"the reference {reference} of flat_field has {flat.shape} pixels, the image {shape}",
            hint="It must be taken by the same camera, uncropped",
        )
    return flat


@lru_cache(maxsize=4)
def _read_flat(reference: str, mtime: int, size: int) -> np.ndarray:
    flat = segment_plane(read_image(Path(reference)))
    if flat.ndim != 2:
        raise InputError(
            f"the reference {reference} of flat_field is a volume of {len(flat)} planes",
            hint="Give one plane, e.g. the mean of them",
        )
    return as_float(flat)
