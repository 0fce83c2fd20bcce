"""What a pixel measures: units of length, and spacing as files and callers give it.

Inside the program the unit is micrometres (``"um"``) or there is none (``"pixel"``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from opsef_bridge.errors import InputError

__all__ = [
    "MICROMETRES",
    "print_resolution",
    "spacing_along",
    "spacing_of",
    "to_micrometres",
    "to_seconds",
]

MICROMETRES = {
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "pm": 1e-6,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "nanometre": 1e-3,
    "angstrom": 1e-4,
    "\u00c5": 1e-4,
    "mm": 1e3,
    "millimeter": 1e3,
    "millimetre": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "m": 1e6,
    "meter": 1e6,
    "metre": 1e6,
    "in": 25400.0,
    "inch": 25400.0,
}
"""Micrometres in one unit, by the names that ImageJ and OME use."""

SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
WRITTEN = {
    "sec": "s",
    "secs": "s",
    "second": "s",
    "seconds": "s",
    "msec": "ms",
    "millisecond": "ms",
    "milliseconds": "ms",
    "microsecond": "us",
    "nanosecond": "ns",
    "minute": "min",
    "minutes": "min",
    "hr": "h",
    "hour": "h",
    "hours": "h",
    "day": "d",
}
"""Other ways to write the units of time."""

COARSEST = 20.0
"""Micrometres a pixel above which a bare TIFF resolution (72 dpi, 300 dpi, 1200 dpi) is
taken for a print or screen setting that no microscope wrote."""


def to_micrometres(size: float | None, unit: str) -> float | None:
    """Return `size` in micrometres; None where it is no length.

    Both micro signs, and ImageJ's escaped one, are understood.

    Examples
    --------
    >>> to_micrometres(250, "nm")
    0.25
    >>> to_micrometres(1, "pixel") is None
    True
    """
    name = unit.strip().replace("\\u00B5", "u").replace("\u00b5", "u").replace("\u03bc", "u")
    factor = MICROMETRES.get(name) or MICROMETRES.get(name.lower())
    if factor is None or size is None or not (math.isfinite(size) and size > 0):
        return None
    # TIFF holds sizes as fractions of two integers: nine digits are what survives.
    length = float(f"{size * factor:.9g}")
    return length if 0 < length < math.inf else None


def to_seconds(time: float | None, unit: str) -> float:
    """Return a length of time in seconds; 0 where it is none.

    Examples
    --------
    >>> to_seconds(500, "ms"), to_seconds(2, "minutes"), to_seconds(-1, "s"), to_seconds(1, "?")
    (0.5, 120.0, 0.0, 0.0)
    """
    name = unit.strip().lower().replace("\u00b5", "u").replace("\u03bc", "u")
    factor = SECONDS.get(WRITTEN.get(name, name))
    if factor is None or time is None or not (math.isfinite(time) and time > 0):
        return 0.0
    seconds = float(f"{time * factor:.9g}")
    return seconds if seconds < math.inf else 0.0


def print_resolution(size: float) -> bool:
    """Tell whether a bare TIFF pixel size, in micrometres, is a print setting.

    Examples
    --------
    >>> print_resolution(25400 / 72), print_resolution(0.65)
    (True, False)
    """
    return size > COARSEST


def spacing_along(spacing: Mapping[str, float], axes: str) -> tuple[dict[str, float], str]:
    """Return the spacing of the axes that an image has, and its unit.

    Examples
    --------
    >>> spacing_along({"X": 0.5, "Z": 2.0}, "YX"), spacing_along({}, "YX")
    (({'X': 0.5}, 'um'), ({}, 'pixel'))
    """
    kept = {axis: spacing[axis] for axis in "ZYX" if axis in axes and axis in spacing}
    return kept, "um" if kept else "pixel"


def spacing_of(
    spacing: Mapping[str, float] | Sequence[float] | float | None, axes: str
) -> dict[str, float]:
    """Return `spacing` by axis.

    Parameters
    ----------
    spacing : mapping, sequence, number or None
        By axis letter; or one number per spatial axis of `axes` in their order; or one
        number for all of them.
    axes : str
        Axes of the image; its spatial ones are those in ``ZYX``.

    Raises
    ------
    InputError
        A value is not a positive number, or there are too many or too few.

    Examples
    --------
    >>> spacing_of((0.5, 0.1, 0.1), "ZYX")
    {'Z': 0.5, 'Y': 0.1, 'X': 0.1}
    """
    spatial = [axis for axis in axes if axis in "ZYX"]
    if spacing is None:
        return {}
    if isinstance(spacing, Mapping):
        found = dict(spacing)
    else:
        values = list(spacing) if isinstance(spacing, Sequence) else [spacing] * len(spatial)
        if len(values) != len(spatial):
            raise InputError(
                f"spacing has {len(values)} values, the image has {len(spatial)} spatial axes",
                hint=f"Give one value for each of {', '.join(spatial)}",
            )
        found = dict(zip(spatial, values, strict=True))
    for axis, value in found.items():
        if axis not in "ZYX" or not (math.isfinite(value) and value > 0):
            raise InputError(
                f"spacing of {axis!r} is {value!r}",
                hint="Give positive lengths for axes of Z, Y, X, or leave the axis out",
            )
    return {axis: float(value) for axis, value in found.items()}
