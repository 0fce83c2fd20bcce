"""Colours of the page of objects: of classes, of kinds that everyone can tell apart, of numbers."""

from __future__ import annotations

import colorsys

import numpy as np

from opsef_bridge.rois.objects import LARGEST_CLASS
from opsef_bridge.rois.palette import colour_of

__all__ = ["class_colours", "kind_colours", "scale"]

OKABE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31")
VIRIDIS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30",
           "#fde725")  # fmt: skip
NONE = "#9a9a9a"


def class_colours() -> list[list[int]]:
    """Return the colours that Fiji shows, as red, green and blue; first that of no class.

    Examples
    --------
    >>> class_colours()[0]
    [154, 154, 154]
    """
    return [_rgb(NONE), *(list(colour_of(number)) for number in range(1, LARGEST_CLASS + 1))]


def kind_colours() -> list[list[int]]:
    """Return 256 colours: some that everyone can tell apart, then some that all differ.

    Notes
    -----
    The first are of Okabe and Ito, *Color Universal Design*.
    """
    more = (
        colorsys.hsv_to_rgb(k * 0.618034 % 1, 0.65, (0.85, 0.6)[k % 2])
        for k in range(len(OKABE), 256)
    )
    parts = ([round(255 * part) for part in colour] for colour in more)
    return [*(_rgb(one) for one in OKABE), *parts]


def scale() -> list[list[int]]:
    """Return 256 colours from low to high: viridis of matplotlib."""
    stops = np.array([_rgb(one) for one in VIRIDIS])
    at = np.linspace(0, len(stops) - 1, 256)
    return np.rint(
        np.column_stack([np.interp(at, range(len(stops)), stops[:, k]) for k in range(3)])
    ).astype(int).tolist()  # fmt: skip


def _rgb(colour: str) -> list[int]:
    return [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
