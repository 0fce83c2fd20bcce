"""Intensities of all objects at once, from their pixels listed object by object."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from opsef_bridge.errors import InputError
from opsef_bridge.measure.compiled import compiled
from opsef_bridge.measure.overlap import Runs

__all__ = [
    "INTENSITY",
    "QUANTILE",
    "image_channels",
    "intensities",
    "object_pixels",
    "quantile_columns",
    "quantiles",
]

INTENSITY = tuple(f"intensity_{name}" for name in ("mean", "min", "max", "sum", "std"))
QUANTILE = re.compile(r"intensity_(median|p\d{1,2}(?:\.\d+)?|p100)")
"""Intensities that order the pixels of an object: on request only, since that takes longest."""

Columns = dict[str, np.ndarray]


def image_channels(intensity: np.ndarray, shape: tuple[int, ...]) -> Columns:
    """Return the image of each channel, by the ending of its columns.

    Parameters
    ----------
    intensity : ndarray
        An image of `shape`, or one with one more axis, first or last, for channels.
    shape : tuple of int
        Shape of the labels.

    Raises
    ------
    InputError
        The shapes do not fit.

    Examples
    --------
    >>> list(image_channels(np.zeros((2, 5, 6)), (5, 6)))
    ['_0', '_1']
    """
    intensity = np.asarray(intensity)
    if intensity.shape == shape:
        return {"": intensity}
    if intensity.shape[1:] == shape:
        return {f"_{number}": channel for number, channel in enumerate(intensity)}
    if intensity.shape[:-1] == shape:
        return {f"_{number}": intensity[..., number] for number in range(intensity.shape[-1])}
    raise InputError(
        f"intensity of shape {intensity.shape} does not fit labels of shape {shape}",
        hint="Give the same shape, or one more axis, first or last, for channels",
    )


def quantile_columns(properties: Iterable[str], ends: Sequence[str]) -> dict[str, list[str]]:
    """Return those medians and percentiles that are asked for, by property or by column.

    Examples
    --------
    >>> quantile_columns(["area", "intensity_p5"], ["_0", "_1"])
    {'intensity_p5': ['intensity_p5_0', 'intensity_p5_1']}
    """
    found: dict[str, list[str]] = {}
    for asked in properties:
        for end in ("", *ends):
            name = asked.removesuffix(end)
            if asked.endswith(end) and QUANTILE.fullmatch(name):
                found[name] = [name + end for end in ends]
                break
    return found


def object_pixels(runs: Runs, channels: Mapping[str, np.ndarray]) -> Columns:
    """Return the pixels of all objects of each channel as float64.

    They are in the order of ``runs.labels``: the first ``runs.areas[0]`` are those of the first.
    """
    positions = _positions(runs.start, runs.stop, runs.index, runs.areas)
    return {end: channel.reshape(-1)[positions].astype(float) for end, channel in channels.items()}


def intensities(runs: Runs, pixels: Mapping[str, np.ndarray], wanted: Sequence[str]) -> Columns:
    """Measure those of `INTENSITY` that are wanted, of each channel.

    Parameters
    ----------
    runs : Runs
    pixels : mapping of str to ndarray of float64
        Of `object_pixels`.
    wanted : sequence of str
        Others than those of `INTENSITY` do not matter.

    Returns
    -------
    dict of str to (N,) ndarray of float64
        The property with the ending of the channel. NaN where a pixel is NaN.

    Examples
    --------
    >>> from opsef_bridge.measure.overlap import label_runs
    >>> runs = label_runs(np.array([[2, 2, 5]]))
    >>> pixels = object_pixels(runs, {"": np.array([[1, 3, 7]], np.uint8)})
    >>> intensities(runs, pixels, ["intensity_mean"])
    {'intensity_mean': array([2., 7.])}
    """
    made = {
        "intensity_mean": lambda values: _reduced(np.add, runs, values) / runs.areas,
        "intensity_min": lambda values: _reduced(np.minimum, runs, values),
        "intensity_max": lambda values: _reduced(np.maximum, runs, values),
        "intensity_sum": lambda values: _reduced(np.add, runs, values),
        "intensity_std": lambda values: _spread(runs, values),
    }
    return {
        name + end: make(values)
        for end, values in pixels.items()
        for name, make in made.items()
        if name in wanted
    }


def quantiles(runs: Runs, pixels: Mapping[str, np.ndarray], names: Sequence[str]) -> Columns:
    """Measure medians and percentiles of each channel, linear between pixels as NumPy's.

    Parameters
    ----------
    runs : Runs
    pixels : mapping of str to ndarray of float64
        Of `object_pixels`.
    names : sequence of str
        Such as ``intensity_median``, ``intensity_p5``.

    Returns
    -------
    dict of str to (N,) ndarray of float64
        The property with the ending of the channel. NaN where a pixel is NaN.

    Examples
    --------
    >>> from opsef_bridge.measure.overlap import label_runs
    >>> runs = label_runs(np.array([[2, 2, 5]]))
    >>> pixels = object_pixels(runs, {"": np.array([[1, 3, 7]], np.uint8)})
    >>> quantiles(runs, pixels, ["intensity_p75"])
    {'intensity_p75': array([2.5, 7. ])}
    """
    columns: Columns = {}
    first = np.cumsum(runs.areas) - runs.areas
    for end, values in pixels.items():
        ordered = _ordered(values, runs.areas)
        incomplete = np.isnan(ordered[first + runs.areas - 1])  # NaN is sorted to the end
        for name in names:
            percent = name.removeprefix("intensity_").removeprefix("p")
            share = 0.5 if percent == "median" else float(percent) / 100
            place = share * (runs.areas - 1)
            below = np.floor(place).astype(np.int64)
            above = np.minimum(below + 1, runs.areas - 1)
            low, high = ordered[first + below], ordered[first + above]
            column = low + (high - low) * (place - below)
            columns[name + end] = np.where(incomplete, np.nan, column)
    return columns


def _reduced(ufunc: np.ufunc, runs: Runs, values: np.ndarray) -> np.ndarray:
    """One value of the pixels of each object."""
    if not len(runs):  # reduceat refuses to reduce nothing
        return np.zeros(0)
    return ufunc.reduceat(values, np.cumsum(runs.areas) - runs.areas)


def _spread(runs: Runs, values: np.ndarray) -> np.ndarray:
    """Standard deviations: means first, since a difference of large squares is not exact."""
    mean = _reduced(np.add, runs, values) / runs.areas
    beyond = values - np.repeat(mean, runs.areas)
    return np.sqrt(_reduced(np.add, runs, beyond * beyond) / runs.areas)


@compiled
def _positions(start, stop, index, areas):  # pragma: no cover
    """Flat positions of the pixels of each object, object after object."""
    free = np.cumsum(areas) - areas
    positions = np.empty(areas.sum(), np.int64)
    for k in range(len(start)):
        place = free[index[k]]
        for position in range(start[k], stop[k]):
            positions[place] = position
            place += 1
        free[index[k]] = place
    return positions


@compiled
def _ordered(values, areas):  # pragma: no cover
    """Pixels of each object in ascending order, object after object."""
    ordered = values.copy()
    first = 0
    for area in areas:
        ordered[first : first + area].sort()
        first += area
    return ordered
