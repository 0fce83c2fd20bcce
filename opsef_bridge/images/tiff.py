"""TIFF in: plain, ImageJ hyperstack and OME, by tifffile."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

from opsef_bridge.errors import ImageError
from opsef_bridge.images.axes import arrange, arrange_part, name_axes, without_pixels
from opsef_bridge.images.calibration import spacing_along
from opsef_bridge.images.image import AXES, Image, ImageInfo, Infos, each_info
from opsef_bridge.images.region import Region, part_index
from opsef_bridge.images.tiff_meaning import Meaning, ome_images, tiff_meaning
from opsef_bridge.images.tiff_part import native, read_series

__all__ = ["read_tiff", "tiff_array", "tiff_info", "tiff_infos", "tiff_names"]

INFLATION = 1100
"""No deflated file holds more than 1,032 times its own size: a header that claims more
than this is damaged, and is not given the memory."""


def read_tiff(
    path: Path, series: int = 0, axes: str | None = None, region: Region | None = None
) -> Image:
    """Read one series of a TIFF, or a part of it; see `opsef_bridge.images.read_image`.

    Pixels are as stored: an image with an inverting or a colour table (as ImageJ writes
    for 8-bit images shown in false colours) gives its values, not its looks. Of a
    pyramid the full resolution is read: series are images, not levels.

    Calibration is that of the OME or ImageJ description. Of a plain TIFF the resolution
    tags count only when they are finer than 20 um a pixel: 72, 300 or 1200 dpi say how
    to print, not what a pixel measures. Channel names are OME's; or the slice labels of
    an ImageJ hyperstack where all planes of a channel have the same.
    """
    with _series(path, series) as (tiff, found):
        letters = name_axes(found.shape, _letters(found), axes, path.name)

        def load(index: tuple[slice | list[int], ...]) -> np.ndarray:
            if region is None:
                return native(found.asarray(maxworkers=1))
            return read_series(found, index)

        colour = _colour(found, axes)
        data, axes = arrange_part(load, letters, found.shape, region, colour=colour)
        meaning = tiff_meaning(tiff, found, series)
    channels = meaning.channels if region is None else region.names(meaning.channels)
    return Image(data, axes, *spacing_along(meaning.spacing, axes), channels, meaning.time_step)


def tiff_info(path: Path, series: int = 0, axes: str | None = None) -> ImageInfo:
    """Describe one series of a TIFF without reading its pixels."""
    with _series(path, series) as (tiff, found):
        meaning = tiff_meaning(tiff, found, series)
        return _info(path, found, len(tiff.series), axes, meaning)


def tiff_infos(path: Path, axes: str | None = None) -> Infos:
    """Describe all series of a TIFF; see `opsef_bridge.images.image.each_info`."""
    with _no_complaints() as complaints, tifffile.TiffFile(path) as tiff:
        count, images = len(tiff.series), ome_images(tiff)
        if complaints:
            raise ValueError(complaints[0])

        def describe(series: int) -> ImageInfo:
            complaints.clear()  # they are of the pages of the series before
            found = tiff.series[series]
            _check_complete(path, tiff, found)
            meaning = tiff_meaning(tiff, found, series, images)
            info = _info(path, found, count, axes, meaning)
            if complaints:
                raise ValueError(complaints[0])
            return info

        told = each_info(describe, count)
        complaints.clear()
    return told


def _info(
    path: Path, found: tifffile.TiffPageSeries, count: int, axes: str | None, meaning: Meaning
) -> ImageInfo:
    letters = name_axes(found.shape, _letters(found), axes, path.name)
    nothing = without_pixels(found.shape, found.dtype)
    data, axes = arrange(nothing, letters, colour=_colour(found, axes))
    return ImageInfo(
        axes,
        data.shape,
        str(data.dtype),
        count,
        *spacing_along(meaning.spacing, axes),
        meaning.channels,
        meaning.time_step,
    )


def tiff_names(path: Path) -> list[str]:
    """Return the names of the series of an OME-TIFF; empty for other kinds."""
    with _no_complaints(), tifffile.TiffFile(path) as tiff:
        return [one.name if tiff.is_ome else "" for one in tiff.series]


def tiff_array(path: Path, region: Region | None = None) -> tuple[np.ndarray, str]:
    """Return the first series as stored, with the letters that tifffile gives its axes.

    Of a region all axes are kept; one that has no known letter counts as Z.
    """
    with _series(path, 0) as (_, found):
        letters = _letters(found)
        if region is None:
            return native(found.asarray(maxworkers=1)), letters
        unknown = [letter for letter in letters if letter not in AXES]
        if len(unknown) == 1 and "Z" not in letters:
            letters = letters.replace(unknown[0], "Z")
        region.shape(letters, found.shape)
        return read_series(found, part_index(region, letters, found.shape)), letters


@contextlib.contextmanager
def _series(path: Path, series: int) -> Iterator[tuple[tifffile.TiffFile, tifffile.TiffPageSeries]]:
    """Open `path` and yield the file and one of its series, known to be complete."""
    with _no_complaints() as complaints, tifffile.TiffFile(path) as tiff:
        if not 0 <= series < len(tiff.series):
            raise ImageError(
                f"{path.name} has no series {series}",
                hint=f"It has {len(tiff.series)}, counted from 0",
            )
        found = tiff.series[series]
        _check_complete(path, tiff, found)
        if complaints:
            raise ValueError(complaints[0])
        yield tiff, found


@contextlib.contextmanager
def _no_complaints() -> Iterator[list[str]]:
    """Turn what tifffile logs as an error (pages it skips) into one; drop its warnings."""
    logger = logging.getLogger("tifffile")
    errors: list[str] = []
    here = threading.get_ident()

    def collect(record: logging.LogRecord) -> bool:
        mine = record.thread == here  # other threads read other files
        if mine and record.levelno >= logging.ERROR:
            errors.append(record.getMessage())
        return not mine

    logger.addFilter(collect)
    try:
        yield errors
    finally:
        logger.removeFilter(collect)
    if errors:
        raise ValueError(errors[0])


def _check_complete(path: Path, tiff: tifffile.TiffFile, found: tifffile.TiffPageSeries) -> None:
    """Refuse files of which tifffile would read a part, or fill the rest with zeros."""
    pages = 1
    for letter, size in zip(found.axes, found.shape, strict=True):
        pages *= 1 if letter in "YXS" else size
    promised = (tiff.imagej_metadata or {}).get("images", 1) if tiff.is_imagej else 1
    if found.kind != "ome" and len(tiff.series) == 1 and promised > pages:
        raise ValueError(f"it holds {pages} of the {promised} planes that its header promises")
    _check_compression(path, found.keyframe)
    size = path.stat().st_size
    if found.nbytes > max(2**30, INFLATION * size):
        raise ValueError(f"its header claims {found.nbytes} bytes of pixels in {size} bytes")
    frame = found.keyframe
    pieces = 0 if frame.is_contiguous or frame.jpegheader else math.prod(frame.chunked)
    for page in found:
        if page is None:
            raise ValueError("planes that its OME header promises are missing")
        if len(page.dataoffsets) < pieces:
            raise ValueError(f"it holds {len(page.dataoffsets)} of {pieces} strips or tiles")


def _check_compression(path: Path, frame: tifffile.TiffPage) -> None:
    """Say which compression cannot be undone, before something obscure does."""
    try:
        if frame.compression != tifffile.COMPRESSION.NONE:
            tifffile.TIFF.DECOMPRESSORS[frame.compression]
    except (KeyError, AttributeError):
        name = getattr(frame.compression, "name", str(frame.compression))
        raise ImageError(
            f"{path.name} is compressed by {name}, which cannot be undone here",
            hint="Update the package imagecodecs, or save it uncompressed or deflated",
        ) from None


def _letters(found: tifffile.TiffPageSeries) -> str:
    """Return tifffile's letters, ``Q`` for an axis that it knows only by its size.

    `tifffile.imwrite` without options stores three or four planes as colours of one, so
    in its files separate samples may be anything.
    """
    separate = found.keyframe.planarconfig == tifffile.PLANARCONFIG.SEPARATE
    guessed = found.kind == "shaped" and separate and found.axes.startswith("S")
    return "Q" + found.axes[1:] if guessed else found.axes


def _colour(found: tifffile.TiffPageSeries, given: str | None) -> bool:
    photometric = found.keyframe.photometric
    return "S" in (given or "") or photometric in (
        tifffile.PHOTOMETRIC.RGB,
        tifffile.PHOTOMETRIC.YCBCR,
    )
