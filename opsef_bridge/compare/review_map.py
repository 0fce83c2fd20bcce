"""The review map: the objects of a variant, coloured by their support.

Pure drawing. The colours are five steps of viridis (matplotlib, CC0), in which lightness falls
with support: what is doubtful is brightest, also to those who do not see all colours, and in
print.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage.segmentation import find_boundaries

__all__ = [
    "CLASSES",
    "MISSING",
    "SupportClass",
    "class_of",
    "legend",
    "map_lut",
    "map_plane",
    "support_image",
    "support_lut",
]

FIRST, MISSING = 250, 255
"""Values of a map: from `FIRST` on the outlines of each class, and what is missing."""

PINK = (255, 0, 200)
"""Of what is missing: none of the classes, and no picture has it."""

LIGHTEST = 180
"""Grey of the brightest pixels, so that light outlines show in a bright field too."""

Loops = Sequence[Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class SupportClass:
    """Supports that are shown in one colour: ``low <= support < high``, the last with its end.

    Parameters
    ----------
    low, high : float
    colour : str
        ``#rrggbb``.
    """

    low: float
    high: float
    colour: str

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green and blue, 0 to 255."""
        red, green, blue = bytes.fromhex(self.colour[1:])
        return red, green, blue

    def to_json(self) -> dict[str, float | str]:
        """Return what JSON holds of it."""
        return {"from": self.low, "to": self.high, "colour": self.colour}


CLASSES = (
    SupportClass(0.0, 0.2, "#fde725"),
    SupportClass(0.2, 0.4, "#7ad151"),
    SupportClass(0.4, 0.6, "#22a884"),
    SupportClass(0.6, 0.8, "#2a788e"),
    SupportClass(0.8, 1.0, "#414487"),
)


def class_of(support: np.ndarray) -> np.ndarray:
    """Return the position in `CLASSES` of each support.

    Examples
    --------
    >>> class_of(np.array([0, 0.19, 0.2, 0.8, 1])).tolist()
    [0, 0, 1, 4, 4]
    """
    edges = np.array([one.high for one in CLASSES[:-1]])
    return np.searchsorted(edges, np.asarray(support, float), side="right")


def support_image(labels: np.ndarray, support: Mapping[int, float]) -> np.ndarray:
    """Paint each object with its support.

    Parameters
    ----------
    labels : ndarray of int
    support : mapping of int to float
        Of every label, in 0..1.

    Returns
    -------
    ndarray of uint8
        0 background; 1 to 255 for supports from 0 to 1, of the shape of `labels`.

    Examples
    --------
    >>> support_image(np.array([[0, 4, 9]]), {4: 0.0, 9: 1.0}).tolist()
    [[0, 1, 255]]
    """
    return _painted(labels, support, lambda values: 1 + np.rint(254 * values))


def support_lut() -> np.ndarray:
    """Return the colours of `support_image`, (3, 256) uint8: black, then the classes."""
    lut = np.zeros((3, 256), np.uint8)
    colours = np.array([one.rgb for one in CLASSES], np.uint8)
    lut[:, 1:] = colours[class_of(np.arange(255) / 254)].T
    return lut


def map_plane(
    grey: np.ndarray,
    labels: np.ndarray,
    support: Mapping[int, float],
    missing: Sequence[Loops] = (),
    zoom: int = 1,
) -> np.ndarray:
    """Draw the outlines of the objects of a plane onto it, in the colours of `map_lut`.

    Parameters
    ----------
    grey : (Y, X) ndarray of uint8
    labels : (Y, X) ndarray of int
    support : mapping of int to float
        Of every label.
    missing : sequence of loops
        Outlines of what the variant lacks: corners ``(x, y)`` along pixel edges, in pixels
        of the plane.
    zoom : int
        Each pixel becomes a block of so many.

    Returns
    -------
    (zoom * Y, zoom * X) ndarray of uint8
        0..249 the picture, 250..254 the outlines by class, 255 what is missing.
    """
    big = np.minimum(grey, FIRST - 1).repeat(zoom, axis=0).repeat(zoom, axis=1)
    objects = labels.repeat(zoom, axis=0).repeat(zoom, axis=1)
    border = find_boundaries(objects, mode="inner", connectivity=1)
    painted = _painted(labels, support, lambda values: FIRST + class_of(values))
    big[border] = painted.repeat(zoom, axis=0).repeat(zoom, axis=1)[border]
    picture = Image.fromarray(big)
    pen = ImageDraw.Draw(picture)
    for loop in (loop for loops in missing for loop in loops):
        corners = [(x * zoom, y * zoom) for x, y in loop]
        pen.line([*corners, corners[0]], fill=MISSING, width=1)
    return np.asarray(picture)


def map_lut() -> np.ndarray:
    """Return the colours of `map_plane`, (3, 256) uint8: grey, the classes, pink."""
    lut = np.zeros((3, 256), np.uint8)
    lut[:, :FIRST] = np.rint(np.arange(FIRST) * (LIGHTEST / (FIRST - 1)))
    lut[:, FIRST:MISSING] = np.array([one.rgb for one in CLASSES], np.uint8).T
    lut[:, MISSING] = PINK
    return lut


def legend(width: int, title: str) -> np.ndarray:
    """Draw what the colours mean, with a title of one line above.

    Returns
    -------
    (H, W, 3) ndarray of uint8
        W is `width`, or more where the words need it.
    """
    font = ImageFont.load_default(14)
    entries = [(one.rgb, f"{one.low:.1f} to {one.high:.1f}") for one in CLASSES]
    entries += [(PINK, "missing: others have it")]
    words = "Support: "
    places, x = [], 8 + round(font.getlength(words))
    for _, text in entries:
        places.append(x)
        x += 18 + round(font.getlength(text)) + 14
    width = max(width, x, 16 + round(font.getlength(title)))
    picture = Image.new("RGB", (width, 52), (32, 32, 32))
    pen = ImageDraw.Draw(picture)
    pen.text((8, 6), title, fill="white", font=font)
    pen.text((8, 28), words, fill="white", font=font)
    for (colour, text), left in zip(entries, places, strict=True):
        pen.rectangle((left, 30, left + 12, 42), outline=colour, width=3)
        pen.text((left + 18, 28), text, fill="white", font=font)
    return np.asarray(picture)


def _painted(
    labels: np.ndarray,
    support: Mapping[int, float],
    of: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Give the pixels of each object a value of uint8 that follows from its support."""
    numbers = np.array(sorted(support), np.int64)
    values = np.array([support[number] for number in numbers.tolist()], float)
    out = np.zeros(labels.shape, np.uint8)
    inside = labels > 0
    out[inside] = np.asarray(of(values)).astype(np.uint8)[np.searchsorted(numbers, labels[inside])]
    return out
