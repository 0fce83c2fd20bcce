"""JPEG in: grey and colour of 8 bits. JPEG is lossy: its pixels are near what was seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image

from opsef_bridge.errors import ImageError
from opsef_bridge.images.axes import arrange, arrange_part, name_axes, without_pixels
from opsef_bridge.images.image import Image, ImageInfo
from opsef_bridge.images.region import Region

__all__ = ["jpeg_info", "read_jpeg"]


def read_jpeg(
    path: Path, series: int = 0, axes: str | None = None, region: Region | None = None
) -> Image:
    """Read a JPEG; see `opsef_bridge.images.read_image`. A region is cut from the whole.

    The compression has changed the pixels for good, edges most of all: measure in TIFF
    or PNG where there is a choice. Pixels are as stored: a camera's note on how to turn
    the picture (EXIF) is not followed. Four inks (CMYK) become red, green and blue.
    JPEG has no calibration, and no checksum: damage between its headers may pass unseen.
    """
    _check_series(path, series)
    with PIL.Image.open(path, formats=["JPEG"]) as file:
        file.load()
        data = np.asarray(file if file.mode in ("L", "RGB") else file.convert("RGB"))
    letters = name_axes(data.shape, "YXS"[: data.ndim], axes, path.name)
    return Image(*arrange_part(data.__getitem__, letters, data.shape, region, colour=True))


def jpeg_info(path: Path, series: int = 0, axes: str | None = None) -> ImageInfo:
    """Describe a JPEG without reading its pixels."""
    _check_series(path, series)
    with PIL.Image.open(path, formats=["JPEG"]) as file:
        shape = (file.height, file.width) if file.mode == "L" else (file.height, file.width, 3)
    letters = name_axes(shape, "YXS"[: len(shape)], axes, path.name)
    data, axes = arrange(without_pixels(shape, np.uint8), letters, colour=True)
    return ImageInfo(axes, data.shape, "uint8")


def _check_series(path: Path, series: int) -> None:
    if series != 0:
        raise ImageError(f"{path.name} has no series {series}", hint="A JPEG has only series 0")
