"""Put overlapping tiles of labels together again, one number per object.

`stitch` does it in memory. `stitch_onto` is the same on a canvas that may be a file
(`numpy.memmap`) and with tiles that come one at a time: it needs the memory of a tile and
of a few numbers per object, whatever the size of the image.
"""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from opsef_bridge.errors import InputError
from opsef_bridge.measure.overlap import iou_pairs, label_runs

__all__ = ["Objects", "blocks", "release", "stitch", "stitch_onto"]

JOIN = 0.5
"""Share of the smaller part, within the region that two tiles share, that joins two objects."""

BLOCK = (16, 1024, 1024)
"""Largest Z, Y and X of the blocks in which a canvas is gone through."""


@dataclass(frozen=True)
class Objects:
    """Size and place of the objects 1..N of a label image.

    Parameters
    ----------
    areas : (N,) ndarray of int64
        Pixels (voxels).
    low, high : (N, axes) ndarray of int64
        Bounding boxes, half-open.
    """

    areas: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def __len__(self) -> int:
        return len(self.areas)


def stitch(
    tiles: Sequence[np.ndarray],
    positions: Sequence[Sequence[int]],
    shape: Sequence[int],
    *,
    least: int | None = None,
    touching: bool = False,
) -> np.ndarray:
    """Merge overlapping label tiles into one label image.

    Parameters
    ----------
    tiles : sequence of ndarray of int
        Label images, 2D or 3D, each numbered on its own.
    positions : sequence of tuple of int
        Origin of each tile in the whole image, ``(y, x)`` or ``(z, y, x)``, in pixels.
    shape : tuple of int
        Shape of the whole image.
    least : int, optional
        Join objects that share at least so many pixels, whatever their size, as Zaki et
        al. [1]_ did (10 px, in tiles of 256 px with 50 px overlap). Neighbours of which one
        tile drew the border elsewhere may become one.
    touching : bool
        Join objects across the seam of tiles that share no pixel, too, where their edges on
        both sides of it face each other along at least half of the shorter edge (or along
        `least` pixels).

    Returns
    -------
    labels : ndarray of int32
        Objects numbered 1..N without gaps.

    Raises
    ------
    InputError
        Pixels that no tile covers, a tile that reaches beyond `shape`, counts or
        dimensions that do not fit, a tile that is no label image, or `least` below 1.

    Notes
    -----
    Two objects of different tiles are one object when they share at least half of the
    smaller of their two parts inside the region seen by both tiles, or `least` pixels
    where that is given; joining is transitive. Where tiles differ, the earlier tile keeps
    its objects and the later one fills their background. An object that the seam cuts is
    joined through the overlap; tiles that merely touch have none, so choose an overlap of at
    least one object.

    References
    ----------
    .. [1] G. Zaki et al., "A deep learning pipeline for nucleus segmentation", Cytometry A
       97:1248-1264, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> whole = np.array([[1, 1, 1, 1, 0, 2]])
    >>> stitch([whole[:, :3], whole[:, 2:]], [(0, 0), (0, 2)], whole.shape)
    array([[1, 1, 1, 1, 0, 2]], dtype=int32)
    """
    canvas = np.zeros(tuple(int(length) for length in shape), np.int32)
    stitch_onto(canvas, tiles, positions, least=least, touching=touching)
    return canvas


def stitch_onto(
    canvas: np.ndarray,
    tiles: Iterable[np.ndarray],
    positions: Sequence[Sequence[int]],
    *,
    least: int | None = None,
    touching: bool = False,
) -> Objects:
    """Merge label tiles, as `stitch` does, onto a canvas that may be larger than the memory.

    Parameters
    ----------
    canvas : ndarray or memmap of int32
        Zeros, in the shape of the whole image; becomes the labels. What was written to a
        memmap is handed back to the system tile by tile.
    tiles : iterable of ndarray of int
        Taken one at a time, in the order of `positions`.
    positions, least, touching
        As those of `stitch`.

    Returns
    -------
    Objects
        Of the objects 1..N on the canvas, in the order of their numbers.

    Raises
    ------
    InputError
        As `stitch`; the canvas is then of no use.
    """
    if least is not None and least < 1:
        raise InputError(
            f"objects cannot be joined by {least} shared pixels", hint="Give at least 1, or None"
        )
    seen = _Seen(canvas.shape, len(positions))
    first: list[np.ndarray] = []
    second: list[np.ndarray] = []
    painted = [np.zeros(1, np.int64)]
    count = 0
    for tile, box in _placed(tiles, positions, canvas.shape):
        numbered, found = _renumber(tile, count)
        before = np.array(canvas[box])
        shared = seen.before(box)
        parts = [(np.where(shared, before, 0), np.where(shared, numbered, 0))]
        if touching:
            parts += _faces(canvas, box, np.where(shared, 0, numbered))
        for a, b in parts:
            if a.any() and b.any():
                i, j = _same(a, b, least)
                first.append(i)
                second.append(j)
        fresh = np.where(before == 0, numbered, 0)
        canvas[box] = before + fresh
        painted.append(np.bincount(fresh[fresh > 0] - (count + 1), minlength=found))
        count += found
        seen.add(box)
        release(canvas)
    seen.check()
    number = _numbers(np.concatenate(painted) > 0, first, second)
    return _renumber_all(canvas, number)


def blocks(shape: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Yield the blocks that a large array is gone through in, in the order of its axes."""
    spans = [
        [slice(start, min(start + step, length)) for start in range(0, length, step)]
        for length, step in zip(shape, BLOCK[-len(shape) :], strict=True)
    ]
    yield from itertools.product(*spans)


def release(canvas: np.ndarray) -> None:
    """Hand the pages of a memmap back to the system, which writes them in its own time."""
    mapped = canvas.base
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _placed(
    tiles: Iterable[np.ndarray], positions: Sequence[Sequence[int]], shape: tuple[int, ...]
) -> Iterator[tuple[np.ndarray, tuple[slice, ...]]]:
    """Yield each tile and where it lies; refuse what does not fit."""
    count = -1
    for count, tile in enumerate(tiles):
        if count >= len(positions):
            continue
        size, position = np.shape(tile), positions[count]
        fits = len(size) == len(position) == len(shape) and all(
            p >= 0 and p + s <= n for p, s, n in zip(position, size, shape, strict=True)
        )
        if not fits:
            raise InputError(
                f"tile {count} of shape {size} at {tuple(position)} does not fit into {shape}",
                hint="Give each origin in pixels, in the order of the axes",
            )
        yield tile, tuple(slice(p, p + s) for p, s in zip(position, size, strict=True))
    if count + 1 != len(positions):
        raise InputError(f"{count + 1} tiles have {len(positions)} positions", hint="Give one each")


class _Seen:
    """The boxes of the tiles so far: which pixels they cover, without a mask of them all."""

    def __init__(self, shape: tuple[int, ...], count: int) -> None:
        self._shape = shape
        self._low = np.zeros((count, len(shape)), np.int64)
        self._high = np.zeros((count, len(shape)), np.int64)
        self._count = 0

    def add(self, box: tuple[slice, ...]) -> None:
        self._low[self._count] = [side.start for side in box]
        self._high[self._count] = [side.stop for side in box]
        self._count += 1

    def before(self, box: tuple[slice, ...]) -> np.ndarray:
        """Return where, inside of `box`, earlier tiles were."""
        start, stop = np.array([(side.start, side.stop) for side in box], np.int64).T
        low = np.maximum(self._low[: self._count], start) - start
        high = np.minimum(self._high[: self._count], stop) - start
        mask = np.zeros(stop - start, bool)
        for i in np.flatnonzero((low < high).all(axis=1)):
            mask[tuple(slice(a, b) for a, b in zip(low[i], high[i], strict=True))] = True
        return mask

    def check(self) -> None:
        """Refuse pixels that no tile covers; works on the grid of the edges of the tiles."""
        edges = [
            np.unique(np.concatenate([[0, n], self._low[:, axis], self._high[:, axis]]))
            for axis, n in enumerate(self._shape)
        ]
        covered = np.zeros([len(e) - 1 for e in edges], bool)
        for low, high in zip(self._low, self._high, strict=True):
            cells = [np.searchsorted(e, (a, b)) for e, a, b in zip(edges, low, high, strict=True)]
            covered[tuple(slice(a, b) for a, b in cells)] = True
        if covered.all():
            return
        missing = np.argwhere(~covered)
        sizes = [np.diff(e)[missing[:, axis]] for axis, e in enumerate(edges)]
        place = tuple(int(e[i]) for e, i in zip(edges, missing[0], strict=True))
        raise InputError(
            f"{int(np.prod(sizes, axis=0).sum())} pixels are in no tile, the first at {place}",
            hint="Tiles must cover the whole image; choose positions that overlap",
        )


def _renumber(tile: np.ndarray, offset: int) -> tuple[np.ndarray, int]:
    """The tile with its objects numbered from `offset` + 1, and how many there are."""
    runs = label_runs(tile)
    numbered = np.zeros(np.size(tile), np.int32)
    pixels = np.repeat(runs.index, runs.stop - runs.start) + np.int32(offset + 1)
    numbered[np.asarray(tile).reshape(-1) != 0] = pixels
    return numbered.reshape(np.shape(tile)), len(runs)


def _same(
    before: np.ndarray, after: np.ndarray, least: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the objects of two parts of a shared region that are one object."""
    pairs = iou_pairs(before, after)
    smaller = np.minimum(pairs.a.areas[pairs.i], pairs.b.areas[pairs.j])
    one = pairs.pixels >= (JOIN * smaller if least is None else least)
    return pairs.a.labels[pairs.i[one]], pairs.b.labels[pairs.j[one]]


def _faces(
    canvas: np.ndarray, box: tuple[slice, ...], numbered: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return what lies on both sides of the borders of a tile."""
    found = []
    for axis, side in enumerate(box):
        for outside, inside in ((side.start - 1, 0), (side.stop, numbered.shape[axis] - 1)):
            if 0 <= outside < canvas.shape[axis]:
                slab = (*box[:axis], slice(outside, outside + 1), *box[axis + 1 :])
                found.append((np.array(canvas[slab]), numbered.take([inside], axis=axis)))
    return found


def _numbers(used: np.ndarray, first: list[np.ndarray], second: list[np.ndarray]) -> np.ndarray:
    """Return the final number of each provisional one: joined objects share one, and what
    the canvas does not show has none in the count.
    """
    count = len(used)
    i = np.concatenate([np.zeros(0, np.int64), *first])
    j = np.concatenate([np.zeros(0, np.int64), *second])
    links = sparse.coo_array((np.ones(len(i), bool), (i, j)), shape=(count, count))
    # Background is component 0: node 0 comes first and has no link.
    component = connected_components(links, directed=False)[1]
    shown = np.zeros(count, np.int32)
    shown[component[used]] = 1
    shown[0] = 0
    number = np.cumsum(shown, dtype=np.int32)
    number[0] = 0
    return number[component]


def _renumber_all(canvas: np.ndarray, number: np.ndarray) -> Objects:
    """Give the canvas its final numbers, block by block, and say where each object lies."""
    axes = canvas.ndim
    count = int(number.max(initial=0))
    areas = np.zeros(count, np.int64)
    low = np.full((count, axes), np.iinfo(np.int64).max)
    high = np.zeros((count, axes), np.int64)
    for block in blocks(canvas.shape):
        part = number[canvas[block]]
        canvas[block] = part
        runs = label_runs(part)
        objects = runs.labels[runs.index] - 1
        np.add.at(areas, runs.labels - 1, runs.areas)
        places = np.unravel_index(runs.start, part.shape)
        for axis, place in enumerate(places):
            length = runs.stop - runs.start if axis == axes - 1 else 1
            start = place + block[axis].start
            np.minimum.at(low[:, axis], objects, start)
            np.maximum.at(high[:, axis], objects, start + length)
        release(canvas)
    return Objects(areas, low, high)
