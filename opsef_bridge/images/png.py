"""PNG in: grey and colour of 8 and 16 bits, palettes, masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image

from opsef_bridge.errors import ImageError
from opsef_bridge.images.axes import arrange, arrange_part, name_axes, without_pixels
from opsef_bridge.images.image import Image, ImageInfo
from opsef_bridge.images.region import Region

__all__ = ["png_array", "png_info", "read_png"]

GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6  # colour types of PNG


def read_png(
    path: Path, series: int = 0, axes: str | None = None, region: Region | None = None
) -> Image:
    """Read a PNG; see `opsef_bridge.images.read_image`. A region is cut from the whole.

    Alpha is dropped, whatever its values. A palette becomes colours, or grey values
    where all its entries are grey. PNG has no calibration.
    """
    _check_series(path, series)
    data = png_array(path)
    letters = name_axes(data.shape, "YXS"[: data.ndim], axes, path.name)
    return Image(*arrange_part(data.__getitem__, letters, data.shape, region, colour=True))


def png_info(path: Path, series: int = 0, axes: str | None = None) -> ImageInfo:
    """Describe a PNG without reading its pixels, but for palettes, whose colours it needs."""
    _check_series(path, series)
    width, height, bits, kind = _header(path)
    if kind == PALETTE:
        image = read_png(path, axes=axes)
        return ImageInfo(image.axes, image.data.shape, str(image.data.dtype))
    dtype = "bool" if bits == 1 else f"uint{max(bits, 8)}"
    shape = (height, width, 3) if kind in (COLOUR, COLOUR_ALPHA) else (height, width)
    letters = name_axes(shape, "YXS"[: len(shape)], axes, path.name)
    data, axes = arrange(without_pixels(shape, dtype), letters, colour=True)
    return ImageInfo(axes, data.shape, dtype)


def png_array(path: Path, *, indices: bool = False) -> np.ndarray:
    """Return the pixels, axes YX or YXS.

    Parameters
    ----------
    path : Path
    indices : bool
        Return the indices of a palette image rather than its colours: label images are
        often saved like that.
    """
    _, _, bits, kind = _header(path)
    with PIL.Image.open(path, formats=["PNG"]) as file:
        if getattr(file, "n_frames", 1) > 1:
            raise ImageError(
                f"{path.name} is an animation of {file.n_frames} frames",
                hint="Save the frames as a TIFF stack or as single images",
            )
        file.load()  # also checks every checksum
        if bits == 16 and kind != GREY:
            data = _sixteen_bits(path)  # Pillow would keep 8 of the 16
        elif kind == PALETTE and not indices:
            data = np.asarray(file.convert("RGB"))
        else:
            data = np.asarray(file)
    if data.ndim == 3:
        data = data[..., 0] if data.shape[-1] == 2 else data[..., :3]
    if kind == PALETTE and not indices and (data == data[..., :1]).all():
        data = data[..., 0]
    return data.astype(np.uint16) if bits == 16 else data


def _sixteen_bits(path: Path) -> np.ndarray:
    import imagecodecs

    return imagecodecs.png_decode(path.read_bytes())


def _header(path: Path) -> tuple[int, int, int, int]:
    """Return width, height, bits per sample and colour type."""
    with open(path, "rb") as file:
        head = file.read(26)
    if len(head) < 26 or not head.startswith(b"\x89PNG\r\n\x1a\n") or head[12:16] != b"IHDR":
        raise ValueError("it is not a PNG")
    width, height = (int.from_bytes(head[i : i + 4], "big") for i in (16, 20))
    return width, height, head[24], head[25]


def _check_series(path: Path, series: int) -> None:
    if series != 0:
        raise ImageError(f"{path.name} has no series {series}", hint="A PNG has only series 0")
