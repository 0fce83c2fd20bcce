"""What a pixel measures: units of length, and spacing as files and callers give it.

Inside the program the unit is micrometres (``"um"``) or there is none (``"pixel"``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from opsef_bridge.errors import InputError

__all__ = ["MICROMETRES", "print_resolution", "spacing_of", "to_micrometres"]

MICROMETRES = {
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "pm": 1e-6,
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "in": 25400.0,
    "inch": 25400.0,
}
"""Micrometres in one unit, by the names that ImageJ and OME use."""

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
    return float(f"{size * factor:.9g}")


def print_resolution(size: float) -> bool:
    """Tell whether a bare TIFF pixel size, in micrometres, is a print setting.

    Examples
    --------
    >>> print_resolution(25400 / 72), print_resolution(0.65)
    (True, False)
    """
    return size > COARSEST


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
