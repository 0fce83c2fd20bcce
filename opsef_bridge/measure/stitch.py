"""Put overlapping tiles of labels together again, one number per object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from opsef_bridge.errors import InputError
from opsef_bridge.measure.overlap import iou_pairs, label_runs

__all__ = ["stitch"]

JOIN = 0.5
"""Share of the smaller part, within the region that two tiles share, that joins two objects."""


def stitch(
    tiles: Sequence[np.ndarray],
    positions: Sequence[Sequence[int]],
    shape: Sequence[int],
    *,
    least: int | None = None,
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
    if least is not None and least < 1:
        raise InputError(
            f"objects cannot be joined by {least} shared pixels", hint="Give at least 1, or None"
        )
    shape = tuple(int(length) for length in shape)
    boxes = _boxes(tiles, positions, shape)
    canvas = np.zeros(shape, np.int32)
    seen = np.zeros(shape, bool)
    first: list[np.ndarray] = []
    second: list[np.ndarray] = []
    count = 0
    for tile, box in zip(tiles, boxes, strict=True):
        numbered, found = _renumber(tile, count)
        count += found
        before, shared = canvas[box], seen[box]
        if shared.any():
            i, j = _same(np.where(shared, before, 0), np.where(shared, numbered, 0), least)
            first.append(i)
            second.append(j)
        canvas[box] = np.where(before == 0, numbered, before)
        seen[box] = True
    if not seen.all():
        place = tuple(int(p) for p in np.unravel_index(np.argmin(seen), shape))
        raise InputError(
            f"{np.count_nonzero(~seen)} pixels are in no tile, the first at {place}",
            hint="Tiles must cover the whole image; choose positions that overlap",
        )
    return _join(canvas, count, first, second)


def _boxes(
    tiles: Sequence[np.ndarray], positions: Sequence[Sequence[int]], shape: tuple[int, ...]
) -> list[tuple[slice, ...]]:
    """Where each tile lies; refuses what does not fit."""
    if len(tiles) != len(positions):
        raise InputError(
            f"{len(tiles)} tiles have {len(positions)} positions", hint="Give one each"
        )
    boxes = []
    for number, (tile, position) in enumerate(zip(tiles, positions, strict=True)):
        size = np.shape(tile)
        fits = len(size) == len(position) == len(shape) and all(
            p >= 0 and p + s <= n for p, s, n in zip(position, size, shape, strict=True)
        )
        if not fits:
            raise InputError(
                f"tile {number} of shape {size} at {tuple(position)} does not fit into {shape}",
                hint="Give each origin in pixels, in the order of the axes",
            )
        boxes.append(tuple(slice(p, p + s) for p, s in zip(position, size, strict=True)))
    return boxes


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


def _join(
    canvas: np.ndarray, count: int, first: list[np.ndarray], second: list[np.ndarray]
) -> np.ndarray:
    """Give joined objects one number, and number what is left without gaps."""
    i = np.concatenate([np.zeros(0, np.int64), *first])
    j = np.concatenate([np.zeros(0, np.int64), *second])
    links = sparse.coo_array((np.ones(len(i), bool), (i, j)), shape=(count + 1, count + 1))
    component = connected_components(links, directed=False)[1]
    component = component[canvas]
    # Background is component 0: node 0 comes first and has no link.
    used = np.zeros(count + 1, np.int32)
    used[component.reshape(-1)] = 1
    used[0] = 0
    number = np.cumsum(used, dtype=np.int32)
    number[0] = 0
    return number[component]
