"""Parts of a TIFF: only the rows, strips and tiles that hold them are read."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tifffile

__all__ = ["native", "read_flat", "read_series"]

Index = tuple[slice | list[int], ...]


def read_series(found: tifffile.TiffPageSeries, index: Index) -> np.ndarray:
    """Read a part of a series.

    Parameters
    ----------
    found : TiffPageSeries
        Of an open file.
    index : tuple of slice or list of int
        One per dimension of ``found.shape``: slices of step 1 with start and stop.

    Returns
    -------
    ndarray
        In the byte order of the machine, all dimensions kept. What is held besides is
        one strip or tile; where the file's pages are not the last dimensions of the
        series (files of other programs of rare kinds) the whole series.
    """
    if found.dataoffset is not None and found.transform is None and not found.is_multifile:
        dtype = found.dtype.newbyteorder(found.keyframe.parent.byteorder)
        file = found.keyframe.parent.filehandle
        return native(read_flat(file, found.dataoffset, found.shape, dtype, index))
    frame = found.keyframe
    lead = len(found.shape) - len(frame.shape)
    plain = found.transform is None and frame.jpegheader is None and frame.nodata == 0
    fits = lead >= 0 and found.shape[lead:] == frame.shape and set(frame.axes) <= set("SZYX")
    if not (plain and fits and math.prod(found.shape[:lead]) == len(found)):
        whole = found.asarray(maxworkers=1)
        for i, taken in enumerate(index):
            whole = whole[(slice(None),) * i + (taken,)]
        return whole.copy()
    sizes = [_length(taken) for taken in index]
    out = np.zeros(sizes, found.dtype)
    pages = itertools.product(*(_positions(taken) for taken in index[:lead]))
    targets = itertools.product(*(range(size) for size in sizes[:lead]))
    for position, target in zip(pages, targets, strict=True):
        number = int(np.ravel_multi_index(position, found.shape[:lead])) if lead else 0
        _read_page(found[number], index[lead:], out[target])
    return out


def native(data: np.ndarray) -> np.ndarray:
    """Return `data`, which nobody else holds, in the machine's byte order; in place."""
    if data.dtype.isnative:
        return data
    return data.byteswap(inplace=True).view(data.dtype.newbyteorder("="))


def read_flat(
    file: Any, offset: int, shape: Sequence[int], dtype: np.dtype, index: Index
) -> np.ndarray:
    """Read a part of an array that lies uncompressed, in C order, in a file.

    Parameters
    ----------
    file : binary file
        With ``seek`` and ``readinto``.
    offset : int
        Where the array begins.
    shape, dtype
        Of the whole array.
    index : tuple of slice or list of int
        As that of `read_series`.

    Raises
    ------
    ValueError
        The file ends before.
    """
    sizes = [_length(taken) for taken in index]
    run = len(shape)  # the dimensions from here on are taken whole: one piece of the file
    while run > 0 and index[run - 1] == slice(0, shape[run - 1]):
        run -= 1
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    piece = math.prod(sizes[run:])
    starts: list[Sequence[int]] = [_positions(taken) for taken in index[:run]]
    if run and isinstance(index[run - 1], slice):
        piece *= sizes[run - 1]
        starts[-1] = starts[-1][:1]
    out = np.empty(math.prod(sizes) * dtype.itemsize, np.uint8)
    done, piece = 0, piece * dtype.itemsize
    for position in itertools.product(*starts):
        first = sum(i * stride for i, stride in zip(position, strides, strict=False))
        file.seek(offset + first * dtype.itemsize)
        target = out[done : done + piece]
        if file.readinto(memoryview(target)) != piece:
            raise ValueError(
                f"it ends before the {math.prod(shape) * dtype.itemsize} bytes of pixels"
            )
        done += piece
    return out.view(dtype).reshape(sizes)


def _length(taken: slice | list[int]) -> int:
    return len(taken) if isinstance(taken, list) else taken.stop - taken.start


def _positions(taken: slice | list[int]) -> Sequence[int]:
    return taken if isinstance(taken, list) else range(taken.start, taken.stop)


def _read_page(page: Any, index: Index, out: np.ndarray) -> None:
    """Read a part of one page (a `TiffPage` or `TiffFrame`) into `out`."""
    frame = page.keyframe
    with _opened(page.parent.filehandle) as file:
        if page.is_final:
            dtype = frame.dtype.newbyteorder(frame.parent.byteorder)
            out[...] = read_flat(file, page.dataoffsets[0], frame.shape, dtype, index)
            return
        with file.lock:
            frame.init_decode()
        # The page as its strips see it: separate sample, depth, row, column, sample.
        dims = [_dimension(i, frame.axes) for i in range(len(frame.axes))]
        boxes: list[slice | list[int]] = [slice(0, size) for size in frame.shaped]
        for dim, taken in zip(dims, index, strict=True):
            boxes[dim] = taken
        target = out.reshape([_length(box) for box in boxes])
        for segment, corner, shape in _segments(page, file, boxes):
            _paste(target, boxes, frame.shaped, segment, corner, shape)


def _dimension(i: int, axes: str) -> int:
    if axes[i] == "S":
        return 0 if i == 0 else 4
    return "ZYX".index(axes[i]) + 1


@contextlib.contextmanager
def _opened(file: Any) -> Iterator[Any]:
    """Open the file of a page for the block; files of a multi-file OME set are closed."""
    closed = file.closed
    if closed:
        file.open()
    try:
        yield file
    finally:
        if closed:
            file.close()


def _segments(page: Any, file: Any, boxes: Sequence[slice | list[int]]) -> Iterator[tuple]:
    """Yield (pixels or None, corner, shape) of the strips or tiles that touch the boxes."""
    frame = page.keyframe
    if frame.is_tiled:
        steps = (1, frame.tiledepth, frame.tilelength, frame.tilewidth)
    else:
        steps = (1, 1, min(frame.rowsperstrip, frame.imagelength), frame.imagewidth)
    grid = [-(-size // step) for size, step in zip(frame.shaped, steps, strict=False)]
    touched = [
        sorted({i // step for i in _positions(box)})
        for box, step in zip(boxes, steps, strict=False)
    ]
    numbers = [int(np.ravel_multi_index(at, grid)) for at in itertools.product(*touched)]
    if numbers and numbers[-1] >= len(page.dataoffsets):
        raise ValueError("strips or tiles are missing")
    extra = {"jpegtables": page.jpegtables} if frame.compression in (6, 7, 34892, 33007) else {}
    read = file.read_segments(
        [page.dataoffsets[i] for i in numbers],
        [page.databytecounts[i] for i in numbers],
        numbers,
        lock=file.lock,
        buffersize=2**22,
        flat=True,
    )
    for data, number in read:
        segment, corner, shape = frame.decode(data, number, **extra, _fullsize=False)
        yield segment, corner, shape


def _paste(
    target: np.ndarray,
    boxes: Sequence[slice | list[int]],
    whole: Sequence[int],
    segment: np.ndarray | None,
    corner: Sequence[int],
    shape: Sequence[int],
) -> None:
    """Copy what a strip or tile shares with the boxes into `target`."""
    if segment is None:  # not stored: TIFF says zeros, which `target` holds
        return
    to: list[slice | list[int]] = []
    of: list[slice | list[int]] = []
    lengths = (1, *shape[:3], whole[4])
    for box, start, length, size in zip(boxes, corner, lengths, whole, strict=True):
        stop = min(start + length, size)
        if isinstance(box, list):  # chosen samples: of this strip, in the order wanted
            here = [i for i, at in enumerate(box) if start <= at < stop]
            to.append(here)
            of.append([box[i] - start for i in here])
        else:
            low, high = max(box.start, start), min(box.stop, stop)
            to.append(slice(low - box.start, high - box.start))
            of.append(slice(low - start, high - start))
    target[tuple(to)] = segment[np.newaxis][tuple(of)]
