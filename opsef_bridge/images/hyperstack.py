"""ImageJ hyperstacks out: any axes in, TZCYX in the file, plane by plane.

What ImageJ 1.54p keeps of such a file: dimensions, calibration, slice labels, display
ranges, colour tables and the Info text (a test opens one in ImageJ).
"""

from __future__ import annotations

import itertools
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import tifffile

from opsef_bridge.errors import InputError
from opsef_bridge.files import atomic_path
from opsef_bridge.images.calibration import spacing_of

__all__ = ["write_hyperstack", "write_planes"]

AXES = "TZCYX"
DTYPES = {"uint8": 8, "uint16": 16, "float32": 32}
COMPOSITE_LIMIT = 7
"""Channels that ImageJ can overlay."""

CLASSIC_LIMIT = 2**32 - 2**25
"""Bytes of pixels up to which a TIFF has room for a directory of all its planes. Above,
the file has one directory and the planes follow each other, as ImageJ itself does it."""

Mode = Literal["composite", "color", "grayscale"]
Spacing = Mapping[str, float] | Sequence[float] | float | None


def write_hyperstack(
    path: str | os.PathLike[str],
    data: np.ndarray,
    axes: str,
    spacing: Spacing = None,
    labels: Sequence[str] | None = None,
    ranges: Sequence[tuple[float, float]] | None = None,
    info: str | None = None,
    *,
    unit: str = "um",
    luts: Sequence[np.ndarray] | None = None,
    mode: Mode | None = None,
    time_step: float = 0.0,
    channels: Sequence[str] = (),
) -> None:
    """Write an array as an ImageJ hyperstack.

    Parameters
    ----------
    path : path-like
        Written atomically; equal input gives equal bytes.
    data : ndarray of uint8, uint16 or float32
        Never changed; not copied as a whole.
    axes : str
        One letter of ``TZCYX`` per dimension of `data`, in its order, whatever that is.
    spacing, labels, ranges, info, unit, luts, mode, time_step
        As those of `write_planes`; a sequence `spacing` has one value per spatial axis
        in the order of `axes`.
    channels : sequence of str
        Channel names: without `labels` they become the slice labels, which is where
        ImageJ shows and `opsef_bridge.images.read_image` finds them.

    Raises
    ------
    InputError
        ImageJ could not hold it: the message says what and how to convert.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "stack.tif"
    >>> stack = np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5)
    >>> write_hyperstack(path, stack, "CTYX", ranges=[(0, 60), (0, 119)])
    >>> tifffile.imread(path).shape
    (3, 2, 4, 5)
    """
    data = np.asarray(data)
    known = set(axes) <= set(AXES) and len(set(axes)) == len(axes) == data.ndim
    if not known or not {"Y", "X"} <= set(axes):
        raise InputError(
            f"axes {axes!r} do not fit data of shape {data.shape}",
            hint=f"Name each dimension once with letters of {AXES}, Y and X among them; "
            "write colours as three channels",
        )
    arranged = data.transpose([axes.index(axis) for axis in AXES if axis in axes])
    missing = tuple(i for i, axis in enumerate(AXES) if axis not in axes)
    arranged = np.expand_dims(arranged, missing)
    if channels and labels is None:
        labels = _slice_labels(channels, arranged.shape)
    write_planes(
        path,
        (arranged[index] for index in np.ndindex(arranged.shape[:3])),
        arranged.shape,
        arranged.dtype,
        spacing=spacing_of(spacing, axes),
        labels=labels,
        ranges=ranges,
        info=info,
        unit=unit,
        luts=luts,
        mode=mode,
        time_step=time_step,
    )


def _slice_labels(channels: Sequence[str], shape: tuple[int, ...]) -> list[str]:
    if len(channels) != shape[2]:
        raise InputError(
            f"{len(channels)} channel names for {shape[2]} channels", hint="Give one per channel"
        )
    return list(channels) * (shape[0] * shape[1])


def write_planes(
    path: str | os.PathLike[str],
    planes: Iterable[np.ndarray],
    shape: tuple[int, int, int, int, int],
    dtype: Any,
    *,
    spacing: Spacing = None,
    labels: Sequence[str] | None = None,
    ranges: Sequence[tuple[float, float]] | None = None,
    info: str | None = None,
    unit: str = "um",
    luts: Sequence[np.ndarray] | None = None,
    mode: Mode | None = None,
    compress: bool = False,
    time_step: float = 0.0,
    rows: int | None = None,
) -> None:
    """Write an ImageJ hyperstack from planes as they come; no more than two are held.

    Parameters
    ----------
    path : path-like
    planes : iterable of ndarray, shape (Y, X)
        In the order of the file: channel fastest, then Z, then time.
    shape : tuple of int
        Sizes of T, Z, C, Y, X.
    dtype : dtype-like
        uint8, uint16 or float32: what ImageJ can hold.
    spacing : mapping, sequence or number, optional
        Pixel size by axis (``{"Z": 1, "Y": 0.2, "X": 0.2}``), or in the order Z, Y, X.
    labels : sequence of str, optional
        Slice labels, one per plane.
    ranges : sequence of (low, high), optional
        Display range of each channel.
    info : str, optional
        Text of the image's Info property (ImageJ: Image > Show Info).
    unit : str
        Unit of `spacing`.
    luts : sequence of ndarray of uint8, shape (3, 256), optional
        Colour table of each channel.
    mode : {"composite", "color", "grayscale"}, optional
        How channels are shown; by default "composite" with `luts`, if ImageJ can overlay
        that many (7), else "color"; "grayscale" without.
    compress : bool
        Deflate. ImageJ reads it but for slice labels, so those are then refused.
    time_step : float
        Seconds from one time point to the next; 0 where it is not known.
    rows : int, optional
        `planes` come in strips of so many rows, the last of a plane as it is left over:
        planes that are too large to be held. Needs `compress`.

    Raises
    ------
    InputError
        See `write_hyperstack`; or `planes` are too few, too many or unlike `shape`.
    """
    dtype = np.dtype(dtype).newbyteorder("<")
    shape = tuple(int(size) for size in shape)
    _check(shape, dtype, labels, ranges, luts, compress)
    options = _metadata(shape, spacing_of(spacing, "ZYX"), unit, labels, ranges, info, luts, mode)
    options["metadata"].update(_interval(time_step))
    size = int(np.prod(shape)) * dtype.itemsize
    written = (
        _checked(planes, shape, dtype) if rows is None else _strips(planes, shape, dtype, rows)
    )
    plain = not compress
    with atomic_path(path) as partial:
        place = tifffile.imwrite(
            partial,
            None if plain else written,
            shape=(*shape, 1),  # one sample: else tifffile takes an X of 1 for it
            dtype=dtype,
            byteorder="<",
            imagej=True,
            photometric="minisblack",
            compression="zlib" if compress else None,
            rowsperstrip=rows,
            maxworkers=1,
            truncate=size > CLASSIC_LIMIT and plain,
            software=False,
            returnoffset=plain,
            **options,
        )
        if plain:  # tifffile leaves room for them; to hand it plane by plane takes 8 % longer
            with open(partial, "r+b") as file:
                file.seek(place[0])
                for plane in written:
                    file.write(plane.data)


def _check(
    shape: tuple[int, ...],
    dtype: np.dtype,
    labels: Sequence[str] | None,
    ranges: Sequence[tuple[float, float]] | None,
    luts: Sequence[np.ndarray] | None,
    compress: bool,
) -> None:
    """Refuse what ImageJ cannot hold."""
    if dtype.name not in DTYPES:
        raise InputError(
            f"ImageJ has no images of {dtype.name}",
            hint="Convert to uint8, uint16 or float32; write label images with write_labels",
        )
    if len(shape) != 5 or min(shape) < 1:
        raise InputError(f"shape {shape} is no T, Z, C, Y, X", hint="Give five sizes above 0")
    count = shape[0] * shape[1] * shape[2]
    if labels is not None and len(labels) != count:
        raise InputError(
            f"{len(labels)} slice labels for {count} planes",
            hint="Give one per plane: channel fastest, then Z, then time",
        )
    for name, values in (("display ranges", ranges), ("colour tables", luts)):
        if values is not None and len(values) != shape[2]:
            raise InputError(
                f"{len(values)} {name} for {shape[2]} channels", hint="Give one per channel"
            )
    for lut in luts or ():
        if np.shape(lut) != (3, 256) or np.asarray(lut).dtype != np.uint8:
            raise InputError(
                f"a colour table of shape {np.shape(lut)}", hint="Give uint8 of shape (3, 256)"
            )
    if compress and labels is not None:
        raise InputError(
            "ImageJ does not read slice labels of compressed stacks",
            hint="Leave out labels or compress",
        )


def _interval(time_step: float) -> dict[str, Any]:
    """Return the time step as ImageJ's ``Image > Properties`` has it."""
    if not (math.isfinite(time_step) and time_step >= 0):
        raise InputError(f"time step {time_step!r}", hint="Give seconds, or 0 if it is not known")
    return {"finterval": time_step, "fps": 1 / time_step} if time_step else {}


def _metadata(
    shape: tuple[int, ...],
    spacing: dict[str, float],
    unit: str,
    labels: Sequence[str] | None,
    ranges: Sequence[tuple[float, float]] | None,
    info: str | None,
    luts: Sequence[np.ndarray] | None,
    mode: Mode | None,
) -> dict[str, Any]:
    """Return the keywords of `tifffile.imwrite` that say what the planes mean."""
    channels = shape[2]
    if mode is None and luts is not None:
        mode = "composite" if channels <= COMPOSITE_LIMIT else "color"
    if mode == "composite" and channels > COMPOSITE_LIMIT:
        raise InputError(
            f"ImageJ overlays at most {COMPOSITE_LIMIT} channels, not {channels}",
            hint="Use mode='color' or mode='grayscale'",
        )
    metadata: dict[str, Any] = {"axes": AXES + "S", "mode": mode or "grayscale"}
    options: dict[str, Any] = {"metadata": metadata}
    if spacing:
        if not unit.isascii():
            raise InputError(f"unit {unit!r} is not ASCII", hint="Write 'um' for micrometres")
        metadata["unit"] = unit
        if "Z" in spacing:
            metadata["spacing"] = spacing["Z"]
        if "X" in spacing and "Y" in spacing:
            options["resolution"] = (1 / spacing["X"], 1 / spacing["Y"])
            options["resolutionunit"] = "NONE"
    if labels is not None:
        metadata["Labels"] = [str(label) for label in labels]
    if info is not None:
        metadata["Info"] = info
    if ranges is not None:
        metadata["Ranges"] = tuple(float(v) for v in itertools.chain.from_iterable(ranges))
        if channels == 1:  # where ImageJ looks in compressed stacks of one channel
            metadata["min"], metadata["max"] = (float(v) for v in ranges[0])
    if luts is not None:
        metadata["LUTs"] = [np.asarray(lut) for lut in luts]
        if channels == 1:  # ImageJ takes the LUTs of composites only, else the ColorMap tag
            table = (np.asarray(luts[0]).astype(np.uint16) * 257).ravel()
            options["extratags"] = [(320, "H", 768, table.tolist(), True)]
    return options


def _strips(
    strips: Iterable[np.ndarray], shape: tuple[int, ...], dtype: np.dtype, rows: int
) -> Iterator[bytes]:
    """Yield deflated strips, as many and as large as promised; more are not asked for."""
    heights = [min(rows, shape[3] - row) for row in range(0, shape[3], rows)]
    given = iter(strips)
    for height in heights * math.prod(shape[:3]):
        strip = next(given, None)
        if strip is None or strip.shape != (height, shape[4]):
            raise InputError(
                f"a strip is {None if strip is None else strip.shape} where "
                f"{(height, shape[4])} is due",
                hint=f"Give all planes in strips of {rows} rows",
            )
        yield zlib.compress(np.ascontiguousarray(strip, dtype=dtype).tobytes(), 6)


def _checked(
    planes: Iterable[np.ndarray], shape: tuple[int, ...], dtype: np.dtype
) -> Iterator[np.ndarray]:
    """Yield contiguous little-endian planes, as many and as large as promised."""
    count = shape[0] * shape[1] * shape[2]
    seen = 0
    for seen, plane in enumerate(planes, start=1):
        plane = np.asarray(plane)
        if seen > count:
            raise InputError(f"more than {count} planes for shape {shape}", hint="Check shape")
        if plane.shape != shape[3:] or plane.dtype.newbyteorder("<") != dtype:
            raise InputError(
                f"plane {seen} is {plane.dtype.name} {plane.shape}, "
                f"not {dtype.name} {tuple(shape[3:])}",
                hint="All planes of a stack have the same shape and dtype",
            )
        yield np.ascontiguousarray(plane, dtype=dtype)[..., np.newaxis]
    if seen < count:
        raise InputError(f"{seen} planes for shape {shape}", hint=f"Give {count}")
