"""Large images in tiles: where they lie, what they are called, and back to one image.

A tile is a box in Y and X; of a volume it has all planes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from opsef_bridge.errors import InputError
from opsef_bridge.measure.stitch import stitch

__all__ = ["Box", "grow_box", "stitch_images", "tile_boxes", "tile_name", "tile_origin"]

Box = tuple[int, int, int, int]
"""(y, x, height, width) in pixels."""

_NAME = re.compile(r"(?P<parent>.+)-y(?P<y>\d{5,})-x(?P<x>\d{5,})")


def tile_boxes(
    shape: Sequence[int], size: int, overlap: int = 0, *, shift: bool = True
) -> list[Box]:
    """Cut an image into overlapping tiles; every pixel is in one at least.

    Parameters
    ----------
    shape : sequence of int
        Shape of the image; the last two are Y and X.
    size : int
        Side of the tiles in pixels; a shorter side of the image is taken whole.
    overlap : int
        Pixels that neighbours share, 0 to below `size`. To stitch labels without seams it
        must be at least the size of one object: then each object lies whole in some tile.
    shift : bool
        Move the last tile of a row or column inwards, so that all have the same size and the
        last two share more; else it is smaller, as is due where the tiles are images of
        their own.

    Returns
    -------
    list of (y, x, height, width)
        Row by row.

    Raises
    ------
    InputError
        A side is below 1, `size` is below 1, or `overlap` is negative or not below `size`.

    Examples
    --------
    >>> tile_boxes((100, 250), 100, 20)
    [(0, 0, 100, 100), (0, 80, 100, 100), (0, 150, 100, 100)]
    >>> tile_boxes((100, 250), 100, shift=False)
    [(0, 0, 100, 100), (0, 100, 100, 100), (0, 200, 100, 50)]
    """
    if len(shape) < 2 or min(shape) < 1:
        raise InputError(f"an image of shape {tuple(shape)} has no tiles", hint="Give Y and X last")
    if size < 1 or not 0 <= overlap < size:
        raise InputError(
            f"tiles of {size} px cannot share {overlap} px",
            hint="Give a size of at least 1 and an overlap from 0 to below it",
        )
    rows, columns = (_spans(int(side), size, overlap, shift) for side in shape[-2:])
    return [(y, x, height, width) for y, height in rows for x, width in columns]


def _spans(length: int, size: int, overlap: int, shift: bool) -> list[tuple[int, int]]:
    """Return start and length of the tiles along one side."""
    if length <= size:
        return [(0, length)]
    step = size - overlap
    if shift:
        return [(start, size) for start in [*range(0, length - size, step), length - size]]
    return [(start, min(size, length - start)) for start in range(0, length - overlap, step)]


def grow_box(box: Box, margin: int, shape: Sequence[int], *, grid: int = 1) -> Box:
    """Widen a box by `margin` pixels on all sides, as far as the image reaches.

    Parameters
    ----------
    box : (y, x, height, width)
    margin : int
    shape : sequence of int
        Of the image; the last two are Y and X.
    grid : int
        The result starts at multiples of it and ends at one or with the image, so that
        blocks of so many pixels are those of the image.

    Examples
    --------
    >>> grow_box((100, 10, 50, 50), 20, (200, 300))
    (80, 0, 90, 80)
    """
    spans = []
    for start, side, length in zip(box[:2], box[2:], shape[-2:], strict=True):
        low = max(start - margin, 0) // grid * grid
        high = min(-(-(start + side + margin) // grid) * grid, length)
        spans.append((low, high - low))
    (y, height), (x, width) = spans
    return (y, x, height, width)


def tile_name(parent: str, box: Sequence[int]) -> str:
    """Return the name of a tile that is an image of its own.

    Examples
    --------
    >>> tile_name("kidney", (512, 1024, 512, 512))
    'kidney-y00512-x01024'
    """
    return f"{parent}-y{box[0]:05d}-x{box[1]:05d}"


def tile_origin(name: str) -> tuple[str, int, int]:
    """Return parent, y and x of a name of `tile_name`.

    Raises
    ------
    InputError
        It is not such a name.

    Examples
    --------
    >>> tile_origin("kidney-y00512-x01024")
    ('kidney', 512, 1024)
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(
            f"{name!r} does not name a tile", hint="Tiles are called like kidney-y00512-x01024"
        )
    return match["parent"], int(match["y"]), int(match["x"])


def stitch_images(
    tiles: Mapping[str, np.ndarray], shape: Sequence[int] | None = None
) -> np.ndarray:
    """Put the labels of tiles that were images of their own together again.

    Objects are joined where tiles overlap as `opsef_bridge.measure.stitch.stitch` does it,
    and across the seams of tiles that only touch: there, two objects become one that face
    each other along at least half of the shorter of their two cut edges.

    Parameters
    ----------
    tiles : mapping of str to ndarray of int
        Label images (YX or ZYX) by name, see `tile_name`; all of one parent.
    shape : sequence of int, optional
        Shape of the parent; by default as far as the tiles reach.

    Returns
    -------
    ndarray of int32
        Labels of the parent, 1..N without gaps.

    Raises
    ------
    InputError
        No tile, tiles of several parents, a name that is none; and what `stitch` refuses,
        a missing tile among it.

    Examples
    --------
    >>> left, right = np.array([[0, 1], [0, 1]]), np.array([[5, 0], [5, 7]])
    >>> stitch_images({"a-y00000-x00000": left, "a-y00000-x00002": right})
    array([[0, 1, 1, 0],
           [0, 1, 1, 2]], dtype=int32)
    """
    origins = {name: tile_origin(name) for name in tiles}
    parents = sorted({parent for parent, _, _ in origins.values()})
    if len(parents) != 1:
        raise InputError(
            f"the tiles are of {', '.join(parents) or 'no image'}",
            hint="Give the tiles of one image at a time",
        )
    names = sorted(tiles, key=lambda name: origins[name][1:])
    arrays = [np.asarray(tiles[name]) for name in names]
    if any(array.ndim not in (2, 3) for array in arrays):
        raise InputError("a tile is no plane or volume", hint="Give labels with axes YX or ZYX")
    corners = [
        (0,) * (array.ndim - 2) + origins[n][1:] for n, array in zip(names, arrays, strict=True)
    ]
    if shape is None:
        ends = [np.add(c, a.shape).tolist() for c, a in zip(corners, arrays, strict=True)]
        shape = tuple(max(sides) for sides in zip(*ends, strict=True))
    return stitch(arrays, corners, shape, touching=True)
