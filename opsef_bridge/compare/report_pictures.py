"""Pictures of the report: a grey or colour base, and outlines as transparent layers.

A base is stored once per image and the outlines of a variant lie over it as a picture of
four colours, a few kilobytes each. So a page holds hundreds of results, and outlines can
be switched off to see what is below.
"""

from __future__ import annotations

import base64
import io

import numpy as np
import PIL.Image

from opsef_bridge.compare.stack import display_range, to_8bit

__all__ = ["base_uri", "outlines_uri", "thumbnail_shape", "view_shape"]

THUMBNAIL = 220
"""Longest side of outlines in the contact sheet, in pixels."""

SMALLEST_VIEW, LARGEST_VIEW = 800, 1024
"""Longest side of the enlarged picture: small crops grow by whole factors up to the first,
so that outlines stay thin; large ones shrink to the second."""

YELLOW, HALO = (255, 225, 0), (0, 0, 0)
_ALPHA = bytes([0, 255, 120])


def thumbnail_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) of outlines in the contact sheet."""
    return _scaled(shape, THUMBNAIL / max(shape))


def view_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) of enlarged outlines.

    Examples
    --------
    >>> view_shape((256, 256)), view_shape((512, 500)), view_shape((2048, 1024))
    ((768, 768), (512, 500), (1024, 512))
    """
    longest = max(shape)
    return _scaled(shape, min(max(1, SMALLEST_VIEW // longest), LARGEST_VIEW / longest))


def base_uri(picture: np.ndarray) -> str:
    """Return an image (YX of any real dtype, or YXS of uint8) as a JPEG in a data URI."""
    if picture.dtype == bool:
        picture = picture.astype(np.uint8)
    grey = to_8bit(picture, display_range(picture)) if picture.ndim == 2 else picture
    image = PIL.Image.fromarray(grey)
    if max(grey.shape[:2]) > LARGEST_VIEW:
        height, width = view_shape(grey.shape[:2])
        image = image.resize((width, height), PIL.Image.Resampling.BOX)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return _data_uri("jpeg", stream)


def outlines_uri(labels: np.ndarray, shape: tuple[int, int]) -> str:
    """Return the outlines of labels (YX) as a transparent PNG of `shape` in a data URI.

    Outlines are drawn after resizing, one pixel wide at any size; a dark halo keeps them
    visible on bright pictures.
    """
    rows, columns = (
        (np.arange(new) * old // new) for new, old in zip(shape, labels.shape, strict=True)
    )
    small = labels[rows[:, np.newaxis], columns]
    edge = np.zeros(shape, bool)
    for axis in (0, 1):
        differs = np.diff(small, axis=axis) != 0
        before, after = np.split(edge, [1], axis)[1], np.split(edge, [shape[axis] - 1], axis)[0]
        np.logical_or(before, differs, out=before)
        np.logical_or(after, differs, out=after)
    colour = np.where(small > 0, 1, 2).astype(np.uint8) * edge
    image = PIL.Image.frombytes("P", (shape[1], shape[0]), colour.tobytes())
    image.putpalette([0, 0, 0, *YELLOW, *HALO])
    stream = io.BytesIO()
    image.save(stream, "PNG", bits=2, transparency=_ALPHA, compress_level=6)
    return _data_uri("png", stream)


def _scaled(shape: tuple[int, int], factor: float) -> tuple[int, int]:
    height, width = (max(1, round(side * factor)) for side in shape)
    return height, width


def _data_uri(kind: str, stream: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
