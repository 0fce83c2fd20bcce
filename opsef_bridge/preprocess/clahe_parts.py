"""CLAHE of parts of a plane, bit for bit that of the whole plane.

Every pixel gets a mean of what the histograms of up to four tiles make of it. These
histograms are taken first, piece by piece, from the whole plane. scikit-image has no
functions for parts; what is done here around its own is equal to
`skimage.exposure.equalize_adapthist` of the version that is installed, as the tests say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from skimage import img_as_uint
from skimage.exposure import rescale_intensity

# Its two rules for histograms have no public name.
from skimage.exposure._adapthist import NR_OF_GRAY, clip_histogram, map_histogram

from opsef_bridge.preprocess.arrays import as_float, fraction
from opsef_bridge.preprocess.opencv_clahe import opencv_blended, opencv_grid, opencv_tables
from opsef_bridge.preprocess.tile_counts import BINS, Line, tile_counts
from opsef_bridge.preprocess.whole import Known, Pieces, Place, extremes, with_planes

__all__ = ["measure_opencv", "measure_skimage", "opencv_part", "skimage_part"]

Levels = Callable[..., np.ndarray]


def measure_skimage(pieces: Pieces, shape: Sequence[int], tiles: int, clip: float) -> Known:
    """Return what `skimage_part` must know; three passes.

    Parameters
    ----------
    pieces : callable
    shape : sequence of int
        Of the image, axes YX or ZYX.
    tiles, clip
        As of the step ``clahe``.
    """
    known = {"extremes": extremes(pieces, per_plane=True)}
    lines = _grid(shape[-2:], tiles)
    counts = _counts(pieces, lines, _levels, known["extremes"])
    area = lines[0].size * lines[1].size
    most = int(np.clip(clip * area, 1, None))
    clipped = np.apply_along_axis(clip_histogram, -1, counts, clip_limit=most)
    # As small as they can be: there may be 64 x 64 of each plane.
    known["tables"] = map_histogram(clipped, 0, NR_OF_GRAY - 1, area).astype(np.uint16)
    place = Place((0, 0), (shape[-2], shape[-1]), known)
    low, high = np.full(len(counts), NR_OF_GRAY), np.zeros(len(counts), np.int64)
    for array, at, _ in pieces(0):
        planes = array.reshape(-1, *array.shape[-2:])
        for z, plane in enumerate(planes):
            made = _mapped(plane, known["extremes"][z], known["tables"][z], place, at, tiles)
            low[z], high[z] = min(low[z], made.min()), max(high[z], made.max())
    return known | {"range": np.stack([low, high], axis=1)}


def skimage_part(image: np.ndarray, place: Place, tiles: int) -> np.ndarray:
    """Return the step ``clahe`` of a part of an image, by scikit-image's rules."""

    def equalised(
        plane: np.ndarray, limits: np.ndarray, tables: np.ndarray, found: np.ndarray
    ) -> np.ndarray:
        if limits[0] == limits[1]:
            return np.zeros(plane.shape, np.float32)
        levels = _mapped(plane, limits, tables, place, place.at, tiles)
        values = levels.astype(as_float(plane).dtype)
        return rescale_intensity(values, in_range=tuple(found.tolist())).astype(np.float32)

    known = place.known
    return with_planes(equalised, image, known["extremes"], known["tables"], known["range"])


def measure_opencv(
    pieces: Pieces, shape: Sequence[int], tiles: int, clip: float, to_8bit: Levels
) -> Known:
    """Return what `opencv_part` must know; one pass of 8 bits, of others two.

    Parameters
    ----------
    to_8bit : callable
        ``to_8bit(image, extremes)`` brings an image from its minimum and maximum to uint8.
    """
    first = next(pieces(0)).array
    limits = np.zeros((1, 2), np.uint8) if first.dtype == np.uint8 else extremes(pieces)
    lines = opencv_grid(shape[-2:], tiles)
    every = np.repeat(limits, shape[0] if len(shape) == 3 else 1, axis=0)
    counts = _counts(pieces, lines, to_8bit, every)
    tables = np.stack([opencv_tables(one, BINS * clip) for one in counts])
    return {"extremes": every, "tables": tables}


def opencv_part(image: np.ndarray, place: Place, to_8bit: Levels) -> np.ndarray:
    """Return the step ``clahe`` of a part of an image, by OpenCV's rules."""

    def equalised(plane: np.ndarray, limits: np.ndarray, tables: np.ndarray) -> np.ndarray:
        return opencv_blended(to_8bit(plane, limits), tables, place.of, place.at)

    levels = with_planes(equalised, image, place.known["extremes"], place.known["tables"])
    return levels.astype(np.float32) / np.float32(255)


def _counts(
    pieces: Pieces, lines: tuple[Line, Line], levels: Levels, limits: np.ndarray
) -> np.ndarray:
    """Return the histograms of the tiles of each plane, shape (planes, Y, X, BINS)."""
    total: np.ndarray | None = None
    for array, at, _ in pieces(0):
        planes = array.reshape(-1, *array.shape[-2:])
        pairs = zip(planes, limits, strict=True)
        found = np.stack([tile_counts(levels(plane, of), *lines, at) for plane, of in pairs])
        total = found if total is None else total + found
    assert total is not None, "an image has pieces"
    return total


def _grid(shape: Sequence[int], tiles: int) -> tuple[Line, Line]:
    """Return how scikit-image parts a plane: tiles are rounded down, so there may be more."""
    lines = []
    for side in shape:
        size = max(side // tiles, 1)
        lines.append(Line(np.pad(np.arange(side), (0, -side % size), mode="reflect"), size))
    return lines[0], lines[1]


def _levels(plane: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Return the grey levels that are counted, of a plane by its minimum and maximum."""
    values = as_float(plane)
    low, high = limits.astype(values.dtype)
    # At the rim of a part, which is cut off, a filter before may have left anything.
    sixteen = img_as_uint(np.clip(fraction(values, low, high), 0, 1))
    scaled = rescale_intensity(sixteen, in_range=(0, 65535), out_range=(0, NR_OF_GRAY - 1))
    return np.round(scaled).astype(np.int64) // (1 + NR_OF_GRAY // BINS)


def _mapped(
    plane: np.ndarray,
    limits: np.ndarray,
    tables: np.ndarray,
    place: Place,
    at: tuple[int, int],
    tiles: int,
) -> np.ndarray:
    """Return the mean of what the four tables around each pixel make of its grey level."""
    (first_y, share_y), (first_x, share_x) = (
        _between(line.size, start, side)
        for line, start, side in zip(_grid(place.of, tiles), at, plane.shape, strict=True)
    )
    levels = _levels(plane, limits)
    around = np.pad(tables, ((1, 1), (1, 1), (0, 0)), mode="edge")
    result = np.zeros(plane.shape, np.float32)
    for down in (0, 1):
        for right in (0, 1):
            values = around[(first_y + down)[:, np.newaxis], first_x + right, levels]
            across = share_x if right else 1 - share_x
            weights = across * (share_y if down else 1 - share_y)[:, np.newaxis]
            result += (values * weights).astype(np.float32)
    return result.astype(np.uint16)


def _between(size: int, start: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return for each pixel the tile whose middle is before it, and how near the next one is."""
    place = np.arange(start, start + side) + size // 2
    return place // size, place % size / size
