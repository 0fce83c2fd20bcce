"""Into how many images a file falls: series, time points, substacks, separate tiles."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from opsef_bridge.config import Images
from opsef_bridge.images import ImageInfo, Region
from opsef_bridge.images.projection import substacks
from opsef_bridge.images.tiles import tile_boxes

__all__ = ["Piece", "pieces_of", "remarks", "series_remarks"]

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


def remarks(info: ImageInfo, how: Images) -> list[str]:
    """Say what `pieces_of` leaves over, or does not find, of a series.

    Parameters
    ----------
    info : ImageInfo
        The series.
    how : Images
        ``times``, ``planes`` and ``substacks`` are used.

    Returns
    -------
    list of str
        Sentences about "it"; none where all is there and nothing is left over.

    Examples
    --------
    >>> info = ImageInfo(axes="ZYX", shape=(17, 64, 64), dtype="uint8")
    >>> remarks(info, Images(source=["a.tif"], substacks={"size": 5}))
    ['17 planes in substacks of 5: the last has 2']
    >>> remarks(info, Images(source=["a.tif"], planes=(10, 20)))
    ['planes [10, 20] are asked for, it has 17: [10, 17] is taken']
    """
    sides = dict(zip(info.axes, info.shape, strict=True))
    return [*_about_times(sides, how), *_about_planes(sides, how), *_about_substacks(sides, how)]


def series_remarks(count: int, how: Images) -> list[str]:
    """Say which of the chosen ``series`` a file of `count` series does not have.

    Examples
    --------
    >>> series_remarks(3, Images(source=["a.lif"], series=[0, 7, 9]))
    ['there is no series 7, 9: it has 3, counted from 0']
    """
    return list(_about_numbers("series", how.series, count))


def _about_numbers(what: str, chosen: str | Sequence[int], count: int) -> Iterator[str]:
    """Say which numbers are beyond `count`."""
    numbers = set() if isinstance(chosen, str) else set(chosen)
    absent = sorted(number for number in numbers if number >= count)
    if absent:
        end = ", so nothing of it is taken" if len(absent) == len(numbers) else ""
        yield f"there is no {what} {_listed(absent)}: it has {count}, counted from 0{end}"


def _about_times(sides: dict[str, int], how: Images) -> Iterator[str]:
    if "T" in sides:
        yield from _about_numbers("time point", how.times, sides["T"])
    elif how.times != "all" and max(how.times) > 0:
        yield f"times {_listed(sorted(how.times))} are asked for, it has one: it is taken whole"


def _about_planes(sides: dict[str, int], how: Images) -> Iterator[str]:
    depth = sides.get("Z", 1)
    first, stop = how.planes or (0, depth)
    if stop <= depth:
        return
    asked = f"planes [{first}, {stop}] are asked for, it has {depth}"
    if "Z" not in sides:
        yield f"{asked}: it is taken whole"
    elif first >= depth:
        yield f"{asked}: nothing of it is taken"
    else:
        yield f"{asked}: [{first}, {depth}] is taken"


def _about_substacks(sides: dict[str, int], how: Images) -> Iterator[str]:
    spans = [span for span, _ in _planes(sides, how) if span is not None]
    if how.substacks is None or not spans:
        return
    size, step = how.substacks.size, how.substacks.step or how.substacks.size
    first, stop = how.planes or (0, sides["Z"])
    stop = min(stop, sides["Z"])
    every = f", one every {step}" if step != size else ""
    what = f"{stop - first} {_some('plane', stop - first)} in substacks of {size}{every}"
    last = spans[-1][1] - spans[-1][0]
    if last < size:
        yield f"{what}: the {'last' if len(spans) > 1 else 'only one'} has {last}"
    outside = sorted(set(range(first, stop)) - {z for span in spans for z in range(*span)})
    if outside:
        verb = "is" if len(outside) == 1 else "are"
        yield f"{what}: {_some('plane', len(outside))} {_listed(outside)} {verb} in none"


def _some(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def _listed(numbers: Collection[int], most: int = 8) -> str:
    """Return numbers as words, the first few of many."""
    shown = ", ".join(map(str, list(numbers)[:most]))
    more = len(numbers) - most
    return f"{shown} and {more} more" if more > 0 else shown


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
