"""What is measured beyond `opsef_bridge.measure.region_table`: backgrounds and ratios.

Pure functions on arrays and tables of one image.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.measure.regions import object_columns, object_properties

__all__ = ["background_level", "corrected", "ratio", "shape_properties"]

SQUARE_ONLY = ("perimeter", "circularity")
ALWAYS = ("area", "centroid")
"""Columns that every table has in its own place."""


def shape_properties(
    wanted: str | Iterable[str], axes: str, spacing: Mapping[str, float] | None = None
) -> tuple[list[str], list[str]]:
    """Return which properties of shape can be measured, and the columns of those that cannot.

    Parameters
    ----------
    wanted : "all" or iterable of str
        Properties or columns; those of planes are left out of volumes.
    axes : {"yx", "zyx"}
    spacing : mapping of axis to float, optional
        Perimeters need square pixels.

    Examples
    --------
    >>> shape_properties(["solidity", "perimeter", "area"], "yx", {"Y": 1.0, "X": 0.5})
    (['solidity'], ['perimeter'])
    """
    known = [*object_properties(axes), *object_columns(axes)]
    names = object_properties(axes) if wanted == "all" else list(wanted)
    there = [name for name in dict.fromkeys(names) if name in known]
    there = [name for name in there if name.partition("_")[0] not in ALWAYS]
    sizes = set(spacing.values()) if spacing else {1.0}
    if len(sizes) == 1:
        return there, []
    lacking = [name for name in there if name in SQUARE_ONLY]
    return [name for name in there if name not in lacking], lacking


def background_level(channel: NDArray, labels: NDArray, percent: float) -> float:
    """Return a percentile of the pixels of an image outside of all objects.

    Parameters
    ----------
    channel : ndarray of real
    labels : ndarray of int
        The shape of `channel`.
    percent : float
        0 to 100.

    Returns
    -------
    float
        NaN where objects cover the whole image.

    Examples
    --------
    >>> background_level(np.array([7, 9, 100]), np.array([0, 0, 1]), 50)
    8.0
    """
    outside = channel[labels == 0]
    return float(np.percentile(outside, percent)) if outside.size else float("nan")


def corrected(
    columns: Mapping[str, NDArray], pixels: NDArray, level: float, ending: str
) -> dict[str, NDArray]:
    """Take the background off those intensities of one channel that it shifts.

    Parameters
    ----------
    columns : mapping of str to (N,) ndarray
        ``intensity_<statistic>_<ending>``.
    pixels : (N,) ndarray
        How many pixels each object has.
    level : float
        Background of the channel.
    ending : str
        Of the channel's columns.

    Returns
    -------
    dict
        ``background_<ending>`` and for each statistic but ``std``, which no level shifts,
        ``intensity_<statistic>_corrected_<ending>``.
    """
    found = {f"background_{ending}": np.full(len(pixels), level)}
    known = re.compile(rf"intensity_(mean|median|sum|min|max|p[\d.]+)_{re.escape(ending)}")
    for column, values in columns.items():
        if match := known.fullmatch(column):
            shift = level * pixels if match[1] == "sum" else level
            found[f"intensity_{match[1]}_corrected_{ending}"] = np.asarray(values) - shift
    return found


def ratio(above: NDArray, below: NDArray) -> NDArray:
    """Divide means by means; NaN where the divisor is not above 0.

    Examples
    --------
    >>> ratio(np.array([4.0, 4.0]), np.array([2.0, 0.0]))
    array([ 2., nan])
    """
    found = np.full(len(above), np.nan)
    return np.divide(above, below, out=found, where=np.asarray(below) > 0)
