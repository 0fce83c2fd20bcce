"""How much a picture that was sent would unpack to, found out before it is unpacked.

A few kilobytes can claim to be a picture of a terabyte, or hold one.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import tifffile

from opsef_bridge.errors import ImageError
from opsef_bridge.images import ImageInfo, image_info
from opsef_bridge.images.read import reading
from opsef_bridge.service.web import TooLargeError

__all__ = ["PIXEL_LIMIT", "sent_image_info"]

PIXEL_LIMIT = 2**31
"""Pixels of an image that is sent, over all channels, planes and time points: 4 GiB of 16 bits."""

_BOUNDED = {"NONE", "LZW", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "ZSTD", "LZMA"}
"""Compressions of which a reader unpacks what the header declares and no more. Others (JPEG,
JPEG 2000, PNG, WebP ...) bring a header of their own that may say anything."""

_ELSE = "Send a part of it, or put the file into the folder data of the project on the workstation"


def sent_image_info(file: Path, limit: int = PIXEL_LIMIT, axes: str | None = None) -> ImageInfo:
    """Describe an image that was sent, TIFF or PNG; none of its pixels is read.

    Parameters
    ----------
    file : Path
    limit : int
        Pixels that it may have.
    axes : str, optional
        As in `opsef_bridge.images.image_info`.

    Raises
    ------
    TooLargeError
        It declares more pixels; or its compression would not keep to what is declared.
    ImageError
        It is no image that can be read; or it is spread over other files, of which only the
        names came: these could be any files of the workstation.
    """
    if file.suffix.lower() == ".png":
        _check(_size_of_png(file), limit)  # the colours of a palette are looked up in its pixels
    info = image_info(file, axes=axes)
    if file.suffix.lower() != ".png":
        with reading(file), tifffile.TiffFile(file) as tiff:
            _check(sum(math.prod(series.shape) for series in tiff.series), limit)
            for series in tiff.series:
                _check_series(tiff, series)
    return info


def _check(pixels: int, limit: int) -> None:
    if pixels > limit:
        message = f"the image has {pixels:,} pixels; {limit:,} can be sent"
        raise TooLargeError(message, hint=_ELSE)


def _size_of_png(file: Path) -> int:
    """Return width times height; 0 where it is no PNG, which its reader says."""
    with file.open("rb") as content:
        head = content.read(24)
    if len(head) < 24 or head[12:16] != b"IHDR":
        return 0
    width, height = struct.unpack(">II", head[16:24])
    return width * height


def _check_series(tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> None:
    """Refuse what needs other files, or is packed in a way that keeps to no limit."""
    own = tiff.filehandle.path
    if series.is_multifile or any(page and page.parent.filehandle.path != own for page in series):
        raise ImageError(
            "the image is spread over several files, but one came",
            hint="Open it in ImageJ, save it as one TIFF, and send that",
        )
    kind = series.keyframe.compression
    name = getattr(kind, "name", str(kind))
    if name not in _BOUNDED:
        raise TooLargeError(
            f"the image is packed as {name}: what it unpacks to is not known before",
            hint="Save it without compression, or with LZW or deflate, and send that",
        )
