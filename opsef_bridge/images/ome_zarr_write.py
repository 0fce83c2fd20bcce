"""OME-Zarr out: images and labels too large for a TIFF, whole or tile by tile."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.errors import InputError
from opsef_bridge.files import atomic_folder
from opsef_bridge.images.calibration import spacing_of, to_micrometres
from opsef_bridge.images.hyperstack import Spacing
from opsef_bridge.images.ome_zarr import zarr_library

__all__ = ["write_zarr"]

CHUNK = 1024
"""Pixels along Y and X of a chunk; along other axes it has one."""

KINDS = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}
DTYPES = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]

Tile = tuple[tuple[int, ...], np.ndarray]


def write_zarr(
    path: str | os.PathLike[str],
    data: np.ndarray | Iterable[Tile],
    axes: str,
    spacing: Spacing = None,
    unit: str = "um",
    *,
    shape: Sequence[int] | None = None,
    dtype: Any = None,
    channels: Sequence[str] = (),
    time_step: float = 0.0,
    chunk: int = CHUNK,
) -> None:
    """Write an image or labels as OME-Zarr (OME-NGFF 0.4, one level, zstd with checksums).

    Parameters
    ----------
    path : path-like
        A folder; its name ends on ``.zarr``. It appears when all is written; an OME-Zarr
        that is there is replaced.
    data : ndarray, or iterable of (start, block)
        The whole; or blocks as they come, each with the index of its first pixel: one
        number per axis. Of blocks one is held at a time; those on multiples of `chunk`
        are written fastest. Pixels that no block covers are 0; where blocks overlap the
        last one counts.
    axes : str
        Letters of ``TCZYX``, in that order, which is the format's.
    spacing, unit
        As those of `opsef_bridge.images.write_planes`; a sequence `spacing` has a value
        per spatial axis of `axes`. `unit` is a unit of length or ``"pixel"``.
    shape, dtype
        Of the whole image; needed for blocks only.
    channels : sequence of str
        Channel names.
    time_step : float
        Seconds from one time point to the next; 0 where it is not known.
    chunk : int
        Pixels along Y and X of a stored chunk.

    Raises
    ------
    InputError
        The axes, a block or the dtype do not fit, or something that is no OME-Zarr has
        that name.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from opsef_bridge.images import Region, read_image
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "large.zarr"
    >>> tiles = (((0, x), np.full((4, 3), x, np.int32)) for x in (0, 3))
    >>> write_zarr(path, tiles, "YX", spacing=0.5, shape=(4, 6), dtype="int32")
    >>> read_image(path, region=Region(y=(0, 1))).data
    array([[0, 0, 0, 3, 3, 3]], dtype=int32)
    """
    path = Path(path)
    whole = isinstance(data, np.ndarray)
    shape = tuple(int(size) for size in (data.shape if whole else shape or ()))
    if not whole and dtype is None:
        raise InputError("blocks without a dtype", hint="Give shape and dtype of the whole image")
    dtype = np.dtype(data.dtype if whole else dtype)
    tiles = _blocks(data, axes, shape, chunk) if whole else data
    _check(path, axes, shape, dtype, channels)
    zarr = zarr_library(path)
    from numcodecs import Zstd

    old = path.with_name(f".{uuid.uuid4().hex[:8]}.partial")
    with atomic_folder(path) as partial:
        group = zarr.open_group(str(partial), mode="w", zarr_format=2)
        group.attrs.update(
            _metadata(path.name, axes, spacing_of(spacing, axes), unit, channels, time_step)
        )
        array = group.create_array(
            "0",
            shape=shape,
            dtype=dtype,
            chunks=tuple(
                min(chunk, size) if axis in "YX" else 1
                for axis, size in zip(axes, shape, strict=True)
            ),
            compressors=Zstd(level=1, checksum=True),
            fill_value=0,
            chunk_key_encoding={"name": "v2", "separator": "/"},
            # An empty chunk that is written cannot be confused with one that was lost.
            config={"write_empty_chunks": True},
        )
        for start, block in tiles:
            array[_place(start, block, shape, dtype)] = block
        if path.exists():
            path.rename(old)
    shutil.rmtree(old, ignore_errors=True)


def _check(
    path: Path, axes: str, shape: tuple[int, ...], dtype: np.dtype, channels: Sequence[str]
) -> None:
    ordered = [axis for axis in "TCZYX" if axis in axes]
    if list(axes) != ordered or not axes.endswith("YX") or len(axes) != len(shape):
        raise InputError(
            f"axes {axes!r} do not fit an OME-Zarr of shape {shape}",
            hint="Name each dimension with letters of TCZYX, in that order, Y and X among them",
        )
    if dtype.name not in DTYPES or min(shape) < 1:
        raise InputError(f"pixels of {dtype.name} {shape}", hint=f"Write {', '.join(DTYPES)}")
    if channels and len(channels) != (shape[axes.index("C")] if "C" in axes else 1):
        raise InputError(
            f"{len(channels)} channel names for shape {shape}", hint="Give one per channel"
        )
    kept = path.is_dir() and any((path / name).is_file() for name in (".zgroup", "zarr.json"))
    if path.suffix.lower() != ".zarr" or (path.exists() and not kept):
        raise InputError(
            f"{path} cannot become an OME-Zarr",
            hint="Choose a name that ends on .zarr and is not taken by something else",
        )


def _blocks(data: np.ndarray, axes: str, shape: tuple[int, ...], chunk: int) -> Iterator[Tile]:
    """Yield an array plane by plane, in rows of chunks."""
    lead = len(axes) - 2
    for index in np.ndindex(shape[:lead]):
        for y in range(0, shape[-2], chunk):
            block = data[index][y : y + chunk]
            yield (*index, y, 0), block.reshape((1,) * lead + block.shape)


def _place(
    start: Sequence[int], block: np.ndarray, shape: tuple[int, ...], dtype: np.dtype
) -> tuple[slice, ...]:
    ends = [int(i) + size for i, size in zip(start, block.shape, strict=False)]
    fits = len(start) == block.ndim == len(shape) and min(start) >= 0
    if not fits or any(end > size for end, size in zip(ends, shape, strict=True)):
        raise InputError(
            f"a block of {block.shape} at {tuple(start)} is outside of {shape}",
            hint="Give the index of its first pixel, one number per axis",
        )
    if not np.can_cast(block.dtype, dtype, "same_kind"):
        raise InputError(f"a block of {block.dtype} for {dtype}", hint="Convert it before")
    return tuple(slice(int(i), end) for i, end in zip(start, ends, strict=True))


def _metadata(
    name: str,
    axes: str,
    spacing: dict[str, float],
    unit: str,
    channels: Sequence[str],
    time_step: float,
) -> dict[str, Any]:
    """Return the attributes of OME-NGFF 0.4; lengths are written in micrometres."""
    described, scale = [], []
    for axis in axes:
        one = {"name": axis.lower(), "type": KINDS[axis]}
        size = to_micrometres(spacing.get(axis), unit) if axis in "ZYX" else None
        if axis == "T" and time_step > 0:
            one["unit"], size = "second", float(time_step)
        elif size is not None:
            one["unit"] = "micrometer"
        described.append(one)
        scale.append(1.0 if size is None else size)
    change = {"type": "scale", "scale": scale}
    found: dict[str, Any] = {
        "multiscales": [
            {
                "version": "0.4",
                "name": name.split(".")[0],
                "axes": described,
                "datasets": [{"path": "0", "coordinateTransformations": [change]}],
            }
        ]
    }
    if channels:
        found["omero"] = {
            "version": "0.4",
            "channels": [
                {"label": str(channel), "active": True, "color": "FFFFFF", "window": _WINDOW}
                for channel in channels
            ],
        }
    return found


_WINDOW = {"min": 0, "max": 65535, "start": 0, "end": 65535}
