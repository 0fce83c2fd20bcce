"""TIFF in: plain, ImageJ hyperstack and OME, by tifffile."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile

from opsef_bridge.errors import ImageError
from opsef_bridge.images.axes import arrange, name_axes
from opsef_bridge.images.calibration import print_resolution, to_micrometres
from opsef_bridge.images.image import Image, ImageInfo

__all__ = ["read_tiff", "tiff_array", "tiff_info"]

INFLATION = 1100
"""No deflated file holds more than 1,032 times its own size: a header that claims more
than this is damaged, and is not given the memory."""


def read_tiff(path: Path, series: int = 0, axes: str | None = None) -> Image:
    """Read one series of a TIFF; see `opsef_bridge.images.read_image`.

    Pixels are as stored: an image with an inverting or a colour table (as ImageJ writes
    for 8-bit images shown in false colours) gives its values, not its looks.

    Calibration is that of the OME or ImageJ description. Of a plain TIFF the resolution
    tags count only when they are finer than 20 um a pixel: 72, 300 or 1200 dpi say how
    to print, not what a pixel measures.
    """
    with _series(path, series) as (tiff, found):
        letters = name_axes(found.shape, _letters(found), axes, path.name)
        data, axes = arrange(found.asarray(maxworkers=1), letters, colour=_colour(found, axes))
        spacing, channels = _calibration(tiff, found, series)
    return Image(data, axes, *_kept(spacing, axes), channels)


def tiff_info(path: Path, series: int = 0, axes: str | None = None) -> ImageInfo:
    """Describe one series of a TIFF without reading its pixels."""
    with _series(path, series) as (tiff, found):
        letters = name_axes(found.shape, _letters(found), axes, path.name)
        nothing = np.broadcast_to(np.zeros((), found.dtype), found.shape)
        data, axes = arrange(nothing, letters, colour=_colour(found, axes))
        spacing, channels = _calibration(tiff, found, series)
        count = len(tiff.series)
    return ImageInfo(axes, data.shape, str(data.dtype), count, *_kept(spacing, axes), channels)


def tiff_array(path: Path) -> tuple[np.ndarray, str]:
    """Return the first series as stored, with the letters that tifffile gives its axes."""
    with _series(path, 0) as (_, found):
        return found.asarray(maxworkers=1), _letters(found)


@contextlib.contextmanager
def _series(path: Path, series: int) -> Iterator[tuple[tifffile.TiffFile, tifffile.TiffPageSeries]]:
    """Open `path` and yield the file and one of its series, known to be complete."""
    with _no_complaints(), tifffile.TiffFile(path) as tiff:
        if not 0 <= series < len(tiff.series):
            raise ImageError(
                f"{path.name} has no series {series}",
                hint=f"It has {len(tiff.series)}, counted from 0",
            )
        found = tiff.series[series]
        _check_complete(path, tiff, found)
        yield tiff, found


@contextlib.contextmanager
def _no_complaints() -> Iterator[None]:
    """Turn what tifffile logs as an error (pages it skips) into one; drop its warnings."""
    logger = logging.getLogger("tifffile")
    errors: list[str] = []

    def collect(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            errors.append(record.getMessage())
        return False

    logger.addFilter(collect)
    try:
        yield
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
    if any(page is None for page in found):
        raise ValueError("planes that its OME header promises are missing")
    size = path.stat().st_size
    if found.nbytes > max(2**30, INFLATION * size):
        raise ValueError(f"its header claims {found.nbytes} bytes of pixels in {size} bytes")


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


def _kept(spacing: dict[str, float], axes: str) -> tuple[dict[str, float], str]:
    """Return the spacing of the axes that the image has, and its unit."""
    kept = {axis: spacing[axis] for axis in "ZYX" if axis in axes and axis in spacing}
    return kept, "um" if kept else "pixel"


def _calibration(
    tiff: tifffile.TiffFile, found: tifffile.TiffPageSeries, series: int
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return spacing by axis in micrometres, and channel names."""
    if tiff.is_ome and tiff.ome_metadata:
        return _ome(tiff.ome_metadata, len(tiff.series), series)
    tags = found.keyframe.tags
    sizes: dict[str, float | None] = {}
    for axis in "YX":
        tag = tags.get(f"{axis}Resolution")
        count, length = tag.value if tag is not None else (0, 1)
        sizes[axis] = length / count if count else None
    if tiff.is_imagej:
        metadata = tiff.imagej_metadata or {}
        unit = str(metadata.get("unit", ""))
        # ImageJ writes yunit and zunit only where they differ from unit.
        sizes["Z"] = abs(float(metadata["spacing"])) if "spacing" in metadata else None
        units = {axis: str(metadata.get(f"{axis.lower()}unit", unit)) for axis in "ZYX"}
        lengths = {axis: to_micrometres(size, units[axis]) for axis, size in sizes.items()}
    else:
        tag = tags.get("ResolutionUnit")
        unit = {2: "inch", 3: "cm"}.get(int(tag.value) if tag is not None else 2, "")
        lengths = {axis: to_micrometres(size, unit) for axis, size in sizes.items()}
        lengths = {a: None if s and print_resolution(s) else s for a, s in lengths.items()}
    return {axis: size for axis, size in lengths.items() if size}, ()


def _ome(xml: str, count: int, series: int) -> tuple[dict[str, float], tuple[str, ...]]:
    images = ElementTree.fromstring(xml).findall("{*}Image")
    pixels = images[series].find("{*}Pixels") if len(images) == count else None
    if pixels is None:
        return {}, ()
    lengths = {}
    for axis in "ZYX":
        size = pixels.get(f"PhysicalSize{axis}")
        unit = pixels.get(f"PhysicalSize{axis}Unit", "um")
        lengths[axis] = to_micrometres(float(size) if size else None, unit)
    names = [channel.get("Name") for channel in pixels.findall("{*}Channel")]
    channels = tuple(str(name) for name in names) if all(names) else ()
    return {axis: size for axis, size in lengths.items() if size}, channels
