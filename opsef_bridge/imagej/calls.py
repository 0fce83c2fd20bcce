"""From an array to calls of the ImageJ worker, and back: planes, dtypes, shared memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from opsef_bridge.errors import InputError
from opsef_bridge.imagej import worker
from opsef_bridge.imagej.parameters import find_algorithm
from opsef_bridge.workers.shared_arrays import SharedArrays

__all__ = ["as_image", "run"]

NATIVE = ("uint8", "uint16", "float32")
"""The dtypes of ImageJ's grey images."""


def as_image(image: ArrayLike) -> np.ndarray:
    """Return `image` as an array that ImageJ can be given; bool becomes uint8.

    Raises
    ------
    InputError
        It is not of two or three axes of finite real numbers.
    """
    array = np.asarray(image)
    if array.ndim not in (2, 3) or array.size == 0 or array.dtype.kind not in "biuf":
        raise InputError(
            f"ImageJ is given an array of shape {array.shape} and dtype {array.dtype}",
            hint="Give real numbers with axes YX or ZYX",
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError("ImageJ is given NaN or infinite pixels", hint="Replace them first")
    return array.astype(np.uint8) if array.dtype.kind == "b" else array


def run(
    image: np.ndarray,
    plugin: str,
    parameters: dict[str, Any],
    timeout: float | None = None,
    colour: bool = False,
) -> tuple[np.ndarray, float | None]:
    """Run a plugin: on a plane or on what it takes for one, else plane by plane.

    Parameters
    ----------
    image : ndarray
        As `as_image` returns it.
    plugin : str
    parameters : dict
        As `opsef_bridge.imagej.parameters.checked` returns them.
    timeout : float, optional
        Seconds for one call.
    colour : bool
        The axes are YXS, for plugins of Fiji.

    Returns
    -------
    ndarray, float or None
        The image, the mask or the labels; and the number that ImageJ found beside it, if it
        did, and was given one plane.
    """
    algorithm = find_algorithm(plugin)
    if colour:
        if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
            raise InputError(
                f"ImageJ's {plugin} is given an array of shape {image.shape} and dtype "
                f"{image.dtype}",
                hint="It needs the colour image itself: axes YXS, uint8, three samples",
            )
        return _one(image, plugin, parameters, timeout, image.shape[:2])
    if algorithm.gives == "plane":
        if image.ndim != 3:
            raise InputError(
                f"an image of shape {image.shape} cannot be projected", hint="Give a ZYX volume"
            )
        return _one(image, plugin, parameters, timeout, image.shape[1:])
    if image.ndim == 2:
        return _one(image, plugin, parameters, timeout, image.shape)
    planes = [_one(plane, plugin, parameters, timeout, plane.shape)[0] for plane in image]
    if algorithm.gives == "labels":
        before = 0
        for labels in planes:
            count = int(labels.max())
            labels[labels > 0] += before
            before += count
    return np.stack(planes), None


def _one(
    image: np.ndarray,
    plugin: str,
    parameters: dict[str, Any],
    timeout: float | None,
    shape: tuple[int, ...],
) -> tuple[np.ndarray, float | None]:
    """Make one call; return its array in the dtype that the plugin promises, and its number."""
    algorithm = find_algorithm(plugin)
    native = image.dtype.newbyteorder("=")
    given = native if native.name in NATIVE else np.dtype(np.float32)
    wide = plugin == "project" and parameters["method"] in ("sum", "sd")
    result = {"mask": "|u1", "labels": "<u2"}.get(algorithm.gives, given.str)
    if wide or algorithm.provider == "imagej2":  # 8 and 16 bits fit into float32
        result = "<f4"
    with SharedArrays() as arrays:
        target = arrays.place(result, shape)
        arguments = {
            "name": plugin,
            "parameters": parameters,
            "source": arrays.put(np.ascontiguousarray(image, given)),
            "target": target,
        }
        doing = f"ImageJ's {plugin} on {'x'.join(map(str, image.shape))} pixels"
        value = worker.call(algorithm.provider, "apply", arguments, doing=doing, timeout=timeout)
        array = arrays.take(target)
    if algorithm.gives == "labels":
        return array.astype(np.int32), value
    return (array if wide or algorithm.gives == "mask" else _as_dtype(array, native)), value


def _as_dtype(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return `values` as `dtype`, rounded and kept within its range where it is an integer."""
    if values.dtype == dtype or dtype.kind == "f":
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    # In float64: float32 holds neither end of 32-bit integers.
    rounded = np.rint(values.astype(np.float64))
    return np.clip(rounded, limits.min, limits.max).astype(dtype)
