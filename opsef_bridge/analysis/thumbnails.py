"""Thumbnails of objects: a picture of each with its outline, many to a sheet.

Pure arrays first, then sheets: a JPEG of the pictures and over it a transparent PNG of the
outlines, so that outlines can be switched off. A page of 20,000 objects keeps within a budget,
since thumbnails of crowded projects become smaller.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from opsef_bridge.compare.stack import display_range, to_8bit
from opsef_bridge.errors import InputError
from opsef_bridge.measure.moments import boxes
from opsef_bridge.measure.overlap import label_runs

__all__ = [
    "STEPS",
    "Sheet",
    "Tiles",
    "cut_tiles",
    "make_sheets",
    "outlines_of",
    "packed",
    "places_on",
]

STEPS = ((96, 85), (72, 80), (48, 80), (48, 60), (32, 60), (32, 40), (24, 40))
"""Side in pixels and JPEG quality of thumbnails, from the best to the smallest."""

ON_A_SHEET = 400
"""Thumbnails of a sheet: a browser decodes a whole sheet to show one of them."""

MARGIN = 1.5
"""Side of what is shown, in sides of the object."""

YELLOW, HALO = (255, 225, 0), (0, 0, 0)
ALPHA = bytes([0, 255, 130])


@dataclass(frozen=True)
class Tiles:
    """Thumbnails of N objects, all square.

    Attributes
    ----------
    pictures : (N, size, size) or, of colour images, (N, size, size, 3) ndarray of uint8
    masks : (N, size, size) ndarray of bool
        Where the object is.
    """

    pictures: NDArray[np.uint8]
    masks: NDArray[np.bool_]


@dataclass(frozen=True)
class Sheet:
    """Thumbnails of some objects in one picture, row by row.

    Attributes
    ----------
    picture : str
        JPEG in a data URI.
    outlines : str
        PNG in a data URI, transparent but for the outlines, of the same shape.
    size : int
        Side of a thumbnail in pixels.
    columns : int
        Thumbnails of a row.
    """

    picture: str
    outlines: str
    size: int
    columns: int

    @property
    def characters(self) -> int:
        """Length of both pictures in a page."""
        return len(self.picture) + len(self.outlines)


def cut_tiles(
    image: np.ndarray, labels: np.ndarray, ids: Sequence[int] | np.ndarray, size: int = 48
) -> Tiles:
    """Cut objects out of an image, each with some of what is around it.

    Objects of an image are shown at one scale, as far as they fit: half more than the median
    object is seen; of a larger one half more than itself. At the border the cut is moved
    inside. Grey values go from the 0.1 to the 99.9 percentile of the image; colours of 8 bits
    stay. Of an object of a volume the plane is shown where most of it is.

    Parameters
    ----------
    image : ndarray, axes YX, ZYX, YXS or ZYXS
        Any real dtype; with one more axis than `labels` its three samples are last.
    labels : ndarray of int, axes YX or ZYX
    ids : sequence of int
        Labels that are cut out, in this order.
    size : int
        Side of a thumbnail in pixels.

    Raises
    ------
    InputError
        The shapes differ, or there is no such object.

    Examples
    --------
    >>> labels = np.pad(np.full((4, 4), 7), 4)
    >>> tiles = cut_tiles(labels * 30.0, labels, [7], size=6)
    >>> tiles.masks[0].astype(int).sum(axis=0).tolist()
    [0, 4, 4, 4, 4, 0]
    """
    colour = image.ndim == labels.ndim + 1
    shape = (*labels.shape, 3) if colour else labels.shape
    if image.shape != shape:
        raise InputError(
            f"an image of shape {image.shape} has no thumbnails of labels of shape {labels.shape}",
            hint="Both must be of the same crop and projection; colours are red, green and blue",
        )
    low, high = _boxes(labels, ids)
    limits = _limits(image, colour)
    wanted = np.ceil(MARGIN * (high[-2:] - low[-2:]).max(axis=0)) if len(ids) else np.zeros(0)
    typical = np.median(wanted) if len(ids) else 0
    room = (len(ids), size, size)
    tiles = Tiles(np.zeros((*room, 3) if colour else room, np.uint8), np.zeros(room, bool))
    for k, label in enumerate(ids):
        side = max(int(max(wanted[k], typical)), 3)
        plane = _plane(labels, int(label), low[:, k], high[:, k])
        middle = (low[-2:, k] + high[-2:, k]) // 2
        (top, y), (left, x) = (
            _span(int(at), side, extent)
            for at, extent in zip(middle, labels.shape[-2:], strict=True)
        )
        part = to_8bit(image[(*plane, y, x)], limits)
        inside = labels[(*plane, y, x)] == label
        tiles.pictures[k] = _resized(_padded(part, top, left, side), size)
        near = np.arange(size) * side // size
        tiles.masks[k] = _padded(inside, top, left, side)[near[:, None], near]
    return tiles


def outlines_of(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return outlines around objects.

    Parameters
    ----------
    masks : (N, H, W) ndarray of bool

    Returns
    -------
    (N, H, W) ndarray of uint8
        1 on the pixels next to the object, 2 on those next to them, else 0.

    Examples
    --------
    >>> outlines_of(np.array([[[1, 0, 0, 0]]], bool)).tolist()
    [[[0, 1, 2, 0]]]
    """
    near = _grown(masks)
    edge = near & ~masks
    halo = _grown(near) & ~near
    return edge.astype(np.uint8) + 2 * halo.astype(np.uint8)


def packed(tiles: np.ndarray, columns: int) -> np.ndarray:
    """Return tiles as one picture, row by row; what is left over is 0.

    Parameters
    ----------
    tiles : (N, size, size, ...) ndarray
    columns : int
        Tiles of a row.

    Examples
    --------
    >>> packed(np.arange(1, 4).reshape(3, 1, 1), 2).tolist()
    [[1, 2], [3, 0]]
    """
    count, size = tiles.shape[:2]
    rows = -(-count // columns)
    room = np.zeros((rows * columns, *tiles.shape[1:]), tiles.dtype)
    room[:count] = tiles
    grid = room.reshape(rows, columns, size, size, *tiles.shape[3:]).swapaxes(1, 2)
    return grid.reshape(rows * size, columns * size, *tiles.shape[3:])


def make_sheets(
    image: np.ndarray,
    labels: np.ndarray,
    ids: Sequence[int] | np.ndarray,
    *,
    budget: float = np.inf,
    step: int = 0,
) -> tuple[list[Sheet], int]:
    """Return thumbnails of objects as sheets of `ON_A_SHEET`.

    Parameters
    ----------
    image, labels, ids
        As `cut_tiles` takes them.
    budget : float
        Characters that a thumbnail may have on average, in base64.
    step : int
        Which of `STEPS` is tried first.

    Returns
    -------
    list of Sheet
    int
        The step that keeps to the budget; the last one if none does.
    """
    while True:
        size, quality = STEPS[step]
        sheets = [
            _sheet(cut_tiles(image, labels, some, size), quality)
            for some in _parts(ids, ON_A_SHEET)
        ]
        used = sum(sheet.characters for sheet in sheets)
        if used <= budget * len(ids) or step == len(STEPS) - 1:
            return sheets, step
        step += 1


def places_on(count: int, first: int = 0) -> NDArray[np.int64]:
    """Return where `make_sheets` puts each of `count` objects.

    Parameters
    ----------
    count : int
    first : int
        Number of the first sheet.

    Returns
    -------
    (count, 2) ndarray of int64
        Number of the sheet, and the place on it.

    Examples
    --------
    >>> places_on(401, first=2)[[0, -1]].tolist()
    [[2, 0], [3, 0]]
    """
    sheet, place = np.divmod(np.arange(count), ON_A_SHEET)
    return np.column_stack([first + sheet, place])


def _sheet(tiles: Tiles, quality: int) -> Sheet:
    count, size = tiles.masks.shape[:2]
    columns = int(np.ceil(np.sqrt(count)))
    picture = PIL.Image.fromarray(packed(tiles.pictures, columns))
    outlines = packed(outlines_of(tiles.masks), columns)
    layer = PIL.Image.frombytes("P", outlines.shape[::-1], outlines.tobytes())
    layer.putpalette([*HALO, *YELLOW, *HALO])
    return Sheet(
        _uri(picture, "JPEG", quality=quality, optimize=True),
        _uri(layer, "PNG", bits=2, transparency=ALPHA, optimize=True),
        size,
        columns,
    )


def _uri(picture: PIL.Image.Image, kind: str, **how: object) -> str:
    stream = io.BytesIO()
    picture.save(stream, kind, **how)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _parts(ids: Sequence[int] | np.ndarray, most: int) -> Iterator[np.ndarray]:
    every = np.asarray(ids)
    for start in range(0, len(every), most):
        yield every[start : start + most]


def _boxes(labels: np.ndarray, ids: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return first and last index + 1 of some objects along each axis, (axes, N)."""
    runs = label_runs(labels)
    wanted = np.asarray(ids, np.int64)
    lacking = wanted[~np.isin(wanted, runs.labels)]
    if len(lacking):
        raise InputError(
            f"there is no object {lacking[0]} to make a thumbnail of",
            hint="The labels must be those of the table",
        )
    low, high, _ = boxes(runs)
    at = np.searchsorted(runs.labels, wanted)
    return low[:, at], high[:, at]


def _limits(image: np.ndarray, colour: bool) -> tuple[float, float]:
    if colour and image.dtype == np.uint8:
        return 0.0, 255.0
    return display_range(np.moveaxis(image, -1, 0) if colour else image)


def _plane(labels: np.ndarray, label: int, low: np.ndarray, high: np.ndarray) -> tuple[int, ...]:
    """Return the index of the plane that has most of an object; () in a plane."""
    if labels.ndim == 2:
        return ()
    box = tuple(slice(*ends) for ends in zip(low, high, strict=True))
    return (int(low[0] + (labels[box] == label).sum(axis=(1, 2)).argmax()),)


def _span(middle: int, side: int, extent: int) -> tuple[int, slice]:
    """Return how far from its start a cut is filled, and with what, along one axis.

    Examples
    --------
    >>> _span(1, 4, 10), _span(9, 4, 10), _span(1, 6, 3)
    ((0, slice(0, 4, None)), (0, slice(6, 10, None)), (1, slice(0, 3, None)))
    """
    if side > extent:
        return (side - extent) // 2, slice(0, extent)
    start = min(max(middle - side // 2, 0), extent - side)
    return 0, slice(start, start + side)


def _padded(part: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    if part.shape[:2] == (side, side):
        return part
    room = np.zeros((side, side, *part.shape[2:]), part.dtype)
    room[top : top + part.shape[0], left : left + part.shape[1]] = part
    return room


def _resized(part: np.ndarray, size: int) -> np.ndarray:
    how = PIL.Image.Resampling.BILINEAR
    return np.asarray(PIL.Image.fromarray(part).resize((size, size), how))


def _grown(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return masks and the pixels side by side with theirs."""
    grown = masks.copy()
    grown[:, 1:] |= masks[:, :-1]
    grown[:, :-1] |= masks[:, 1:]
    grown[:, :, 1:] |= masks[:, :, :-1]
    grown[:, :, :-1] |= masks[:, :, 1:]
    return grown
