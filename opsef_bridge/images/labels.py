"""Label images on disk: ImageJ opens them calibrated and in colours, ids are exact."""

from __future__ import annotations

import colorsys
import os
from pathlib import Path

import numpy as np
import tifffile

from opsef_bridge.errors import ImageError, InputError
from opsef_bridge.images.calibration import spacing_of
from opsef_bridge.images.hyperstack import Spacing, write_planes
from opsef_bridge.images.ome_zarr import read_zarr
from opsef_bridge.images.png import png_array
from opsef_bridge.images.read import reading
from opsef_bridge.images.region import Region, part_index
from opsef_bridge.images.tiff import tiff_array

__all__ = ["label_lut", "read_labels", "write_labels"]

LARGEST_16 = 2**16 - 1
LARGEST_FLOAT = 2**24
"""Largest id up to which float32 holds every integer."""

DISPLAY_RANGE = (0, 255)
"""Ids 1 to 254 have their own colour; larger ones share one, but none is black. A range
up to the largest id would hide the first objects of a dense image in the background."""


def label_lut() -> np.ndarray:
    """Return a colour table for labels: 0 is black, neighbours in number differ in hue.

    Returns
    -------
    ndarray of uint8, shape (3, 256)

    Examples
    --------
    >>> lut = label_lut()
    >>> lut[:, 0].tolist(), len(np.unique(lut, axis=1).T)
    ([0, 0, 0], 256)
    """
    golden = 0.61803398875  # steps of the golden ratio spread hues evenly at any count
    colours = [
        colorsys.hsv_to_rgb(i * golden % 1, (1.0, 0.75, 0.5)[i % 3], (1.0, 0.8)[i // 3 % 2])
        for i in range(255)
    ]
    table = np.array([(0, 0, 0), *colours]) * 255
    return np.rint(table).astype(np.uint8).T


def write_labels(
    path: str | os.PathLike[str],
    labels: np.ndarray,
    spacing: Spacing = None,
    unit: str = "um",
    info: str | None = None,
) -> None:
    """Write a label image that ImageJ opens: TZCYX, calibrated, with a colour table.

    Parameters
    ----------
    path : path-like
        Written atomically and deflated.
    labels : ndarray of int or bool, shape (Y, X) or (Z, Y, X)
        Ids from 0 (background) to 2**24. The file has uint16, or float32 where an id is
        above 65,535: ids never wrap.
    spacing, unit, info
        As those of `write_planes`; a sequence `spacing` has a value per axis of `labels`.

    Raises
    ------
    InputError
        Ids are negative, above 2**24 or no integers; or `labels` is no plane or volume.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels.tif"
    >>> write_labels(path, np.array([[0, 1], [70000, 1]]), spacing=0.5)
    >>> read_labels(path)
    array([[    0,     1],
           [70000,     1]], dtype=int32)
    """
    labels = np.asarray(labels)
    if labels.ndim not in (2, 3) or labels.dtype.kind not in "iub" or labels.size == 0:
        raise InputError(
            f"labels of dtype {labels.dtype} and shape {labels.shape}",
            hint="Give integers with axes YX or ZYX",
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > LARGEST_FLOAT:
        raise InputError(
            f"ids from {low} to {high} cannot be written",
            hint=f"Ids go from 0 to {LARGEST_FLOAT}; renumber them "
            "(skimage.segmentation.relabel_sequential)",
        )
    dtype = np.uint16 if high <= LARGEST_16 else np.float32
    volume = labels if labels.ndim == 3 else labels[np.newaxis]
    depth, height, width = volume.shape
    axes = "ZYX"[-labels.ndim :]
    write_planes(
        path,
        (plane.astype(dtype) for plane in volume),
        (1, depth, 1, height, width),
        dtype,
        spacing=spacing_of(spacing, axes),
        unit=unit,
        info=info,
        ranges=[DISPLAY_RANGE],
        luts=[label_lut()],
        compress=True,
    )


def read_labels_info(path: str | os.PathLike[str]) -> str | None:
    """Return the text that `write_labels` was given as `info`; None where there is none.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.tif"
    >>> write_labels(path, np.zeros((4, 5), int), info="variant: raw_unet")
    >>> read_labels_info(path)
    'variant: raw_unet'
    """
    with tifffile.TiffFile(path) as tiff:
        return (tiff.imagej_metadata or {}).get("Info")


def read_labels(path: str | os.PathLike[str], region: Region | None = None) -> np.ndarray:
    """Read a label image, or a part of it.

    Parameters
    ----------
    path : path-like
        TIFF, PNG or OME-Zarr of any integer or float dtype; a stack without named axes
        is a volume. Of a palette image the indices are the ids.
    region : Region, optional
        The part wanted (its z, y and x). A volume of which one plane is taken is a plane.

    Returns
    -------
    ndarray of int32, shape (Y, X) or (Z, Y, X)

    Raises
    ------
    ImageError
        It cannot be read; it is a colour image, has channels or time points; or its
        values are negative, fractions or above 2**31 - 1.
    """
    path = Path(path)
    folder = path.suffix.lower() == ".zarr"
    with reading(path, folder=folder):
        if folder:
            image = read_zarr(path, region=region)
            data, axes = image.data, image.axes
        elif path.suffix.lower() == ".png":
            data = png_array(path, indices=True)
            axes = "YXS"[: data.ndim]
            if region is not None:
                region.shape(axes, data.shape)
                data = data[part_index(region, axes, data.shape)]
        else:
            data, axes = tiff_array(path, region)
    many = [axis for axis, size in zip(axes, data.shape, strict=True) if size > 1]
    large = [axis for axis in many if axis not in "YX"]
    if len(large) > 1 or set(large) & set("SCT"):
        raise ImageError(
            f"{path} of shape {data.shape} (axes {axes}) is no label image",
            hint="Labels are one plane or volume: save each channel or time point by itself",
        )
    index = tuple(
        slice(None) if axis in "YX" or size > 1 else 0
        for axis, size in zip(axes, data.shape, strict=True)
    )
    return _as_ids(path, data[index])


def _as_ids(path: Path, data: np.ndarray) -> np.ndarray:
    low, high = (data.min(), data.max()) if data.dtype.kind in "iubf" else (-1, -1)
    ok = bool(low >= 0 and high < 2**31)  # False for NaN too
    ids = data.astype(np.int32, copy=False) if ok else None
    if ids is None or (data.dtype.kind == "f" and not np.array_equal(ids, data)):
        raise ImageError(
            f"{path} holds values ({data.dtype}, {low} to {high}) that are no ids",
            hint="Ids are integers from 0 (background) to 2147483647",
        )
    return ids
