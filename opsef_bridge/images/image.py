"""What an image is inside the program: an array with named axes and calibration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from opsef_bridge.errors import ImageError

__all__ = ["AXES", "Image", "ImageInfo", "Infos", "each_info"]

AXES = "TZCYXS"
"""Axes that an image may have, in this order: time, Z, channel, Y, X, sample (RGB)."""


@dataclass(frozen=True)
class Image:
    """An image: pixels, the name of every axis, and what a pixel measures.

    Parameters
    ----------
    data : ndarray
        Pixels in the dtype of the file: nothing is rescaled or cast on reading.
    axes : str
        One letter of ``TZCYXS`` per dimension of `data`, in that order; ``S`` are the
        three samples of a colour image.
    spacing : dict of str to float
        Pixel size along ``Z``, ``Y``, ``X`` in `unit`; an axis without calibration is
        absent.
    unit : str
        Unit of `spacing`; ``"pixel"`` where there is none.
    channels : tuple of str
        Channel names; empty where the file has none.
    time_step : float
        Seconds from one time point to the next; 0 where it is not known.

    Raises
    ------
    ImageError
        `axes` does not fit `data`.
    """

    data: np.ndarray
    axes: str
    spacing: dict[str, float] = field(default_factory=dict)
    unit: str = "pixel"
    channels: tuple[str, ...] = ()
    time_step: float = 0.0

    def __post_init__(self) -> None:
        if len(self.axes) != self.data.ndim or len(set(self.axes)) != len(self.axes):
            raise ImageError(
                f"axes {self.axes!r} do not fit an array of shape {self.data.shape}",
                hint="Name each dimension once, with letters of " + AXES,
            )
        if [a for a in AXES if a in self.axes] != list(self.axes):
            raise ImageError(
                f"axes {self.axes!r} are unknown or out of order",
                hint=f"Use letters of {AXES}, in that order",
            )

    def with_data(self, data: np.ndarray, axes: str | None = None) -> Image:
        """Return a copy with other pixels (and axes), the calibration kept."""
        return replace(self, data=data, axes=self.axes if axes is None else axes)


@dataclass(frozen=True)
class ImageInfo:
    """What an image file holds, known without reading its pixels.

    Parameters
    ----------
    axes, spacing, unit, channels, time_step
        As those of the `Image` that the file would give.
    shape : tuple of int
        One size per letter of `axes`.
    dtype : str
        Name of the numpy dtype.
    series : int
        How many images the file holds.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: str
    series: int = 1
    spacing: dict[str, float] = field(default_factory=dict)
    unit: str = "pixel"
    channels: tuple[str, ...] = ()
    time_step: float = 0.0


Infos = list[ImageInfo | ImageError | None]


def each_info(describe: Callable[[int], ImageInfo], count: int) -> Infos:
    """Describe `count` series one after another.

    Parameters
    ----------
    describe : callable
        Takes the number of a series. It may raise what a library raises.
    count : int

    Returns
    -------
    list
        What `describe` returns, or its `ImageError`; None where it raises anything else.
    """
    told: Infos = []
    for series in range(count):
        try:
            told.append(describe(series))
        except ImageError as error:
            told.append(error)
        except Exception:  # each library has its own family of errors for damage
            told.append(None)
    return told
