"""Pictures of the report: a grey or colour base, and outlines as transparent layers.

A base is stored once per image and the outlines of a variant lie over it as a picture of
six colours, a few kilobytes each. So a page holds hundreds of results, and outlines can
be switched off to see what is below. How well an object is supported is in the number of its
colour: the page shows it by another palette for the same picture.
"""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np
import PIL.Image

from opsef_bridge.compare.stack import display_range, to_8bit

__all__ = [
    "SUPPORT",
    "base_uri",
    "outlines_uri",
    "palettes",
    "support_classes",
    "thumbnail_shape",
    "view_shape",
]

THUMBNAIL = 220
"""Longest side of outlines in the contact sheet, in pixels."""

SMALLEST_VIEW, LARGEST_VIEW = 800, 1024
"""Longest side of the enlarged picture: small crops grow by whole factors up to the first,
so that outlines stay thin; large ones shrink to the second."""

YELLOW, HALO = (255, 225, 0), (0, 0, 0)

SUPPORT = {0.25: (255, 225, 0), 0.5: (239, 154, 62), 0.75: (238, 78, 139), 1.0: (76, 86, 175)}
"""Colours of outlines by support, below each number; the least supported are the brightest.

They keep that order, and differ enough, also for people who do not see red, green or blue
(simulated as by Machado et al. 2009); each has a contrast of 3 to the halo."""

_CLASSES = len(SUPPORT)
_PLTE = 33
"""Where the palette begins in a PNG with one, behind signature and header."""
_ALPHA = bytes([0, *[255] * _CLASSES, 120])


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


def support_classes(labels: np.ndarray, support: np.ndarray) -> np.ndarray:
    """Return the class of each label, 1 for the least supported, by label from 0.

    Parameters
    ----------
    labels : (n,) ndarray of int
        Labels of objects.
    support : (n,) ndarray of float
        Of each, from 0 to 1.

    Returns
    -------
    (max label + 1,) ndarray of uint8
        0 for what is no object.

    Examples
    --------
    >>> support_classes(np.array([1, 3]), np.array([0.2, 0.9])).tolist()
    [0, 1, 0, 4]
    """
    classes = np.zeros(int(labels.max(initial=0)) + 1, np.uint8)
    classes[labels] = 1 + np.digitize(support, list(SUPPORT)[:-1])
    return classes


def outlines_uri(
    labels: np.ndarray, shape: tuple[int, int], classes: np.ndarray | None = None
) -> str:
    """Return the outlines of labels (YX) as a transparent PNG of `shape` in a data URI.

    Outlines are drawn after resizing, one pixel wide at any size; a dark halo keeps them
    visible on bright pictures. `classes` are those of `support_classes`; they show with the
    second of the `palettes`.
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
    colour = np.zeros(shape, np.uint8)
    at = small[edge]
    colour[edge] = np.where(at > 0, _CLASSES if classes is None else classes[at], _CLASSES + 1)
    image = PIL.Image.frombytes("P", (shape[1], shape[0]), colour.tobytes())
    image.putpalette([value for one in _plain() for value in one])
    stream = io.BytesIO()
    image.save(stream, "PNG", bits=4, transparency=_ALPHA, compress_level=6)
    return _data_uri("png", _with_palette(stream, _plain()))


def palettes() -> tuple[str, str]:
    """Return the base64 texts of the palette in every picture of outlines, and of the one
    that takes its place to show support.

    Examples
    --------
    >>> plain, _ = palettes()
    >>> plain in outlines_uri(np.eye(9, dtype=int), (9, 9))
    True
    """
    by_support = [HALO, *SUPPORT.values(), HALO]
    plain, support = (base64.b64encode(_chunk(one)).decode() for one in (_plain(), by_support))
    return plain, support


def _plain() -> list[tuple[int, int, int]]:
    return [HALO, *[YELLOW] * _CLASSES, HALO]


def _chunk(colours: list[tuple[int, int, int]]) -> bytes:
    """The palette as a chunk of PNG: its bytes, as its place, are a multiple of three, so
    that they are a text of their own in base64."""
    body = b"PLTE" + bytes(value for one in colours for value in one)
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _with_palette(stream: io.BytesIO, colours: list[tuple[int, int, int]]) -> io.BytesIO:
    """Return a PNG with exactly these colours, however the writer pads a palette."""
    data = stream.getvalue()
    length = struct.unpack(">I", data[_PLTE : _PLTE + 4])[0] + 12
    return io.BytesIO(data[:_PLTE] + _chunk(colours) + data[_PLTE + length :])


def _scaled(shape: tuple[int, int], factor: float) -> tuple[int, int]:
    height, width = (max(1, round(side * factor)) for side in shape)
    return height, width


def _data_uri(kind: str, stream: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
