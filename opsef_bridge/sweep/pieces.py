"""Into how many images a file falls: series, time points, substacks, separate tiles."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from opsef_bridge.config import Images
from opsef_bridge.images import ImageInfo, Region
from opsef_bridge.images.projection import substacks
from opsef_bridge.images.tiles import tile_boxes

__all__ = ["Piece", "pieces_of"]

Range = tuple[int, int] | None


@dataclass(frozen=True)
class Piece:
    """A piece of a series that is an image of its own.

    `suffix` tells it from the other pieces in ids: ``-t003-z005-y0512-x1024``. It is empty,
    and so is `region`, where the series is one image.
    """

    region: Region
    suffix: str


def pieces_of(info: ImageInfo, how: Images) -> list[Piece]:
    """Return the pieces of a series, by time, plane, row and column.

    Parameters
    ----------
    info : ImageInfo
        The series.
    how : Images
        ``times``, ``planes``, ``substacks``, ``tiles`` are used; times and planes that the
        series does not have are left out. Substacks and tiles keep what is left over at the
        end: the last may be shorter, nothing is lost.

    Examples
    --------
    >>> info = ImageInfo(axes="TYX", shape=(3, 64, 64), dtype="uint8")
    >>> [piece.suffix for piece in pieces_of(info, Images(source=["a.tif"], times=[0, 2]))]
    ['-t000', '-t002']
    """
    sides = dict(zip(info.axes, info.shape, strict=True))
    return [
        Piece(Region(t=t, z=z, y=y, x=x), f"{at}{_from('z', z, 3, of_many)}{_place(y, x)}")
        for (t, at), (z, of_many), (y, x) in itertools.product(
            _times(sides, how), _planes(sides, how), _squares(sides, how)
        )
    ]


def _times(sides: dict[str, int], how: Images) -> Iterator[tuple[int | None, str]]:
    if "T" not in sides:
        yield None, ""
        return
    for t in range(sides["T"]):
        if how.times == "all" or t in how.times:
            yield t, f"-t{t:03d}"


def _planes(sides: dict[str, int], how: Images) -> Iterator[tuple[Range, bool]]:
    """Yield the ranges of planes, and whether there are several."""
    if "Z" not in sides or (how.planes is None and how.substacks is None):
        yield None, False
        return
    first, stop = how.planes or (0, sides["Z"])
    stop = min(stop, sides["Z"])
    if first >= stop:
        return  # the volume ends before
    if how.substacks is None:
        yield (first, stop), False
        return
    for low, high in substacks(stop - first, how.substacks.size, how.substacks.step):
        yield (first + low, first + high), True


def _squares(sides: dict[str, int], how: Images) -> Iterator[tuple[Range, Range]]:
    if how.tiles is None or not how.tiles.separate:
        yield None, None
        return
    shape = sides["Y"], sides["X"]
    if max(shape) <= how.tiles.size:
        yield None, None
        return
    for y, x, height, width in tile_boxes(shape, how.tiles.size, how.tiles.overlap, shift=False):
        yield (y, y + height), (x, x + width)


def _from(axis: str, span: Range, digits: int, shown: bool = True) -> str:
    return f"-{axis}{span[0]:0{digits}d}" if span and shown else ""


def _place(y: Range, x: Range) -> str:
    return _from("y", y, 5) + _from("x", x, 5)
