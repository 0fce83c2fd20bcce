"""Label images that are larger than the memory, to disk piece by piece."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tifffile

from opsef_bridge.errors import InputError
from opsef_bridge.files import atomic_path
from opsef_bridge.images.calibration import spacing_of
from opsef_bridge.images.hyperstack import Spacing, write_planes
from opsef_bridge.images.labels import DISPLAY_RANGE, LARGEST_16, LARGEST_FLOAT, label_lut

__all__ = ["write_large_labels"]

LARGEST_IMAGEJ = 2**31
"""Bytes of the largest stack that ImageJ and classic TIFF are trusted with."""

ROWS = 256
TILE = 512


def write_large_labels(
    path: str | os.PathLike[str],
    read: Callable[[tuple[slice, ...]], np.ndarray],
    shape: Sequence[int],
    highest: int,
    *,
    spacing: Spacing = None,
    unit: str = "um",
    info: str | None = None,
    largest: int = LARGEST_IMAGEJ,
) -> None:
    """Write labels that are asked for part by part.

    Up to 2 GB the file is that of `opsef_bridge.images.write_labels`, in strips of 256
    rows. Above, ImageJ could not open it: it is a tiled, deflated BigTIFF with OME metadata,
    which Bio-Formats, QuPath, napari and `opsef_bridge.images.read_labels` read part by
    part.

    Parameters
    ----------
    path : path-like
        Written atomically.
    read : callable
        Returns the labels, int32, of a part: one slice per axis.
    shape : tuple of int
        Y and X, or Z, Y and X.
    highest : int
        The largest id: up to 65,535 the file has uint16, up to 2**24 float32, above uint32
        (an OME BigTIFF only).
    spacing, unit, info
        As those of `write_labels`.
    largest : int
        Bytes of pixels up to which it is a file for ImageJ.

    Raises
    ------
    InputError
        `shape` is no plane or volume, or ids are above 2**24 in a file for ImageJ.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from opsef_bridge.images import read_labels
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels.tif"
    >>> labels = np.array([[0, 1], [7, 1]], np.int32)
    >>> write_large_labels(path, lambda part: labels[part], labels.shape, 7)
    >>> read_labels(path)
    array([[0, 1],
           [7, 1]], dtype=int32)
    """
    if len(shape) not in (2, 3):
        raise InputError(f"labels of shape {tuple(shape)}", hint="Give Y and X, or Z, Y and X")
    volume = (1, *shape) if len(shape) == 2 else tuple(shape)
    kind = np.uint16 if highest <= LARGEST_16 else np.float32
    dtype = np.dtype(kind if highest <= LARGEST_FLOAT else np.uint32)
    sizes = spacing_of(spacing, "ZYX"[-len(shape) :])

    def part(plane: int, rows: slice, columns: slice) -> np.ndarray:
        index = (rows, columns) if len(shape) == 2 else (slice(plane, plane + 1), rows, columns)
        return read(index).reshape(rows.stop - rows.start, -1).astype(dtype)

    if int(np.prod(volume, dtype=np.int64)) * dtype.itemsize > largest:
        _write_ome(path, part, volume, dtype, sizes, unit, info)
        return
    if dtype == np.uint32:
        raise InputError(f"id {highest} cannot be written", hint=f"Ids go to {LARGEST_FLOAT}")
    depth, height, width = volume
    write_planes(
        path,
        (
            part(plane, slice(row, min(row + ROWS, height)), slice(0, width))
            for plane in range(depth)
            for row in range(0, height, ROWS)
        ),
        (1, depth, 1, height, width),
        dtype,
        spacing=sizes,
        unit=unit,
        info=info,
        ranges=[DISPLAY_RANGE],
        luts=[label_lut()],
        compress=True,
        rows=ROWS,
    )


def _write_ome(
    path: str | os.PathLike[str],
    part: Callable[[int, slice, slice], np.ndarray],
    volume: tuple[int, ...],
    dtype: np.dtype,
    spacing: dict[str, float],
    unit: str,
    info: str | None,
) -> None:
    depth, height, width = volume

    def tiles() -> Iterator[np.ndarray]:
        for plane in range(depth):
            for y in range(0, height, TILE):
                for x in range(0, width, TILE):
                    rows = slice(y, min(y + TILE, height))
                    found = part(plane, rows, slice(x, min(x + TILE, width)))
                    rim = [(0, TILE - side) for side in found.shape]
                    yield np.pad(found, rim)

    metadata: dict[str, object] = {"axes": "ZYX" if depth > 1 else "YX"}
    for axis, size in spacing.items():
        metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": _ome_unit(unit)}
    if info is not None:
        metadata["Description"] = info
    with atomic_path(path) as partial:
        tifffile.imwrite(
            partial,
            tiles(),
            shape=volume if depth > 1 else volume[1:],
            dtype=dtype,
            bigtiff=True,
            ome=True,
            photometric="minisblack",
            tile=(TILE, TILE),
            compression="zlib",
            maxworkers=1,
            metadata=metadata,
        )


def _ome_unit(unit: str) -> str:
    return {"um": "\N{MICRO SIGN}m", "micron": "\N{MICRO SIGN}m"}.get(unit, unit)
