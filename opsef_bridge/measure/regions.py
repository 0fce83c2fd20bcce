"""Tables of objects: one row per label, one column per measured property.

Area, place, size, shape and intensity come from the runs of the labels in closed form,
for all objects at once. The few properties that need an object's own small picture
(perimeter, solidity, ...) are measured by scikit-image, and only when asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from opsef_bridge.errors import InputError
from opsef_bridge.measure.overlap import Runs, label_runs

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["object_columns", "region_table"]

DEFAULT = ("area", "centroid", "bbox", "equivalent_diameter", "touches_border")
ELLIPSE = ("axis_major_length", "axis_minor_length", "eccentricity", "orientation")
BY_SKIMAGE = ("perimeter", "solidity", "euler_number", "feret_diameter_max")
INTENSITY = tuple(f"intensity_{name}" for name in ("mean", "min", "max", "sum", "std"))
FLAT_ONLY = (*ELLIPSE, "perimeter")

Columns = dict[str, np.ndarray]
Spacing = Mapping[str, float] | Sequence[float] | None


def region_table(
    labels: np.ndarray,
    intensity: np.ndarray | None = None,
    spacing: Spacing = None,
    properties: Iterable[str] | None = None,
) -> pd.DataFrame:
    """Measure every object of a label image.

    Parameters
    ----------
    labels : ndarray of int
        Label image, ``(Y, X)`` or ``(Z, Y, X)``, any integer dtype.
    intensity : ndarray, optional
        Image to measure in the objects: the shape of `labels`, or one more axis, first or
        last, for channels (first, where both fit).
    spacing : mapping of axis to float, or sequence of float, optional
        Pixel size along each axis. Lengths, areas and places are then in that unit, else
        in pixels; ``bbox`` is always in pixels.
    properties : iterable of str, optional
        What to measure, by property or by column name. By default ``area``, ``centroid``,
        ``bbox``, ``equivalent_diameter``, ``touches_border`` and, with `intensity`, the
        intensities.

    Returns
    -------
    DataFrame
        One row per object, ascending by label; the same columns and dtypes where there
        is none. ``label`` (int64) is always the first column.

        - area : pixels (int64), or area/volume with `spacing` (float64)
        - centroid : ``centroid_z`` (3D), ``centroid_y``, ``centroid_x``
        - bbox : ``bbox_y0``, ``bbox_x0``, ``bbox_y1``, ``bbox_x1`` (3D: z first), half-open
        - equivalent_diameter : of the circle or ball with that area
        - extent : share of the bounding box that is filled
        - touches_border : has a pixel on the border of the image
        - axis_major_length, axis_minor_length, eccentricity, orientation : 2D, of the
          ellipse with the same second moments; orientation in radians from the Y axis, 0
          for a round object
        - perimeter (2D), solidity, euler_number, feret_diameter_max : as scikit-image
        - intensity_mean, _min, _max, _sum, _std : with a channel axis one column per
          channel, ``intensity_mean_0``, ...

    Raises
    ------
    InputError
        An unknown property, one that 3D labels do not have, an intensity property without
        `intensity`, or shapes that do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> table = region_table(np.array([[4, 4, 0], [4, 4, 9]]), properties=["area", "centroid"])
    >>> table
       label  area  centroid_y  centroid_x
    0      4     4         0.5         0.5
    1      9     1         1.0         2.0
    """
    import pandas as pd

    runs = label_runs(labels)
    if len(runs.shape) not in (2, 3):
        raise InputError(f"labels must be 2D or 3D, got shape {runs.shape}")
    size = _spacing(spacing, runs)
    channels = None if intensity is None else _channels(intensity, runs.shape)
    wanted = _wanted(properties, runs, channels)
    makers: dict[str, Callable[[], Columns]] = {
        "area": lambda: _area(runs, None if spacing is None else size),
        "centroid": lambda: _centroid(runs, size),
        "bbox": lambda: _bbox(runs),
        "equivalent_diameter": lambda: _diameter(runs, size),
        "extent": lambda: _extent(runs),
        "touches_border": lambda: _touches_border(runs),
    }
    table: Columns = {"label": runs.labels}
    measured: Columns = {}
    slow = [name for name in wanted if name in BY_SKIMAGE]
    for name, columns in wanted.items():
        if columns[0] not in measured:
            if name in makers:
                measured |= makers[name]()
            elif name in ELLIPSE:
                measured |= _ellipse(runs, size)
            elif name in BY_SKIMAGE:
                measured |= _by_skimage(runs, size, slow)
            else:
                measured |= _intensities(runs, channels, [n for n in wanted if n in INTENSITY])
        table |= {column: measured[column] for column in columns}
    return pd.DataFrame(table)


def object_columns(axes: str) -> list[str]:
    """Return the columns of `region_table` that need no intensities, without ``label``.

    Parameters
    ----------
    axes : {"yx", "zyx"}

    Examples
    --------
    >>> object_columns("yx")[:4]
    ['area', 'centroid_y', 'centroid_x', 'bbox_y0']
    """
    return [column for columns in _columns(axes).values() for column in columns]


def _columns(axes: str) -> dict[str, list[str]]:
    """Each property that needs no intensities with its columns."""
    columns = {name: [name] for name in (*DEFAULT, "extent", *ELLIPSE, *BY_SKIMAGE)}
    columns["centroid"] = [f"centroid_{axis}" for axis in axes]
    columns["bbox"] = [f"bbox_{axis}{end}" for end in (0, 1) for axis in axes]
    flat = len(axes) == 2
    return {name: names for name, names in columns.items() if flat or name not in FLAT_ONLY}


def _wanted(
    properties: Iterable[str] | None, runs: Runs, channels: Columns | None
) -> dict[str, list[str]]:
    """Each wanted property with its wanted columns, in the order asked for."""
    axes = "zyx"[-len(runs.shape) :]
    columns = _columns(axes)
    if channels is not None:
        columns |= {name: [name + end for end in channels] for name in INTENSITY}
    if properties is None:
        return {name: columns[name] for name in (*DEFAULT, *INTENSITY) if name in columns}
    owner = {column: name for name, group in columns.items() for column in group}
    wanted: dict[str, list[str]] = {}
    for name in properties:
        if name == "label":
            continue
        if name not in columns and name not in owner:
            without = "" if channels is not None else " (intensities need an intensity image)"
            raise InputError(
                f"unknown property {name!r} for {len(axes)}D labels{without}",
                hint="Choose from label, " + ", ".join(columns),
            )
        group = wanted.setdefault(owner.get(name, name), [])
        group += [c for c in columns.get(name, [name]) if c not in group]
    return wanted


def _spacing(spacing: Spacing, runs: Runs) -> np.ndarray:
    if isinstance(spacing, Mapping):  # an axis without calibration counts in pixels
        spacing = [spacing.get(axis, 1.0) for axis in "ZYX"[-len(runs.shape) :]]
    size = np.ones(len(runs.shape)) if spacing is None else np.asarray(spacing, float)
    if size.shape != (len(runs.shape),) or not np.all(np.isfinite(size) & (size > 0)):
        raise InputError(
            f"spacing {spacing!r} does not fit labels of shape {runs.shape}",
            hint="Give one pixel size above 0 for each axis",
        )
    return size


def _channels(intensity: np.ndarray, shape: tuple[int, ...]) -> Columns:
    """The image of each channel, by the ending of its columns."""
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


def _places(runs: Runs) -> list[np.ndarray]:
    """Pixel coordinates of the middle of each run, one array per axis."""
    *rows, first = np.unravel_index(runs.start, runs.shape)
    return [*rows, first + (runs.stop - runs.start - 1) / 2]


def _add(runs: Runs, per_run: np.ndarray) -> np.ndarray:
    return np.bincount(runs.index, per_run, len(runs)).astype(float)


def _area(runs: Runs, size: np.ndarray | None) -> Columns:
    return {"area": runs.areas if size is None else runs.areas * size.prod()}


def _centroid(runs: Runs, size: np.ndarray) -> Columns:
    length = runs.stop - runs.start
    axes = "zyx"[-len(size) :]
    return {
        f"centroid_{axis}": _add(runs, place * length) / runs.areas * step
        for axis, place, step in zip(axes, _places(runs), size, strict=True)
    }


def _bbox(runs: Runs) -> Columns:
    axes = "zyx"[-len(runs.shape) :]
    low = np.unravel_index(runs.start, runs.shape)
    high = np.unravel_index(runs.stop - 1, runs.shape)
    first = np.empty((len(axes), len(runs)), np.int64)
    last = np.zeros_like(first)
    for axis, length in enumerate(runs.shape):
        first[axis] = length
        np.minimum.at(first[axis], runs.index, low[axis])
        np.maximum.at(last[axis], runs.index, high[axis] + 1)
    starts = {f"bbox_{axis}0": first[k] for k, axis in enumerate(axes)}
    return starts | {f"bbox_{axis}1": last[k] for k, axis in enumerate(axes)}


def _diameter(runs: Runs, size: np.ndarray) -> Columns:
    area = runs.areas * size.prod()
    flat = len(size) == 2
    diameter = np.sqrt(4 * area / np.pi) if flat else np.cbrt(6 * area / np.pi)
    return {"equivalent_diameter": diameter}


def _extent(runs: Runs) -> Columns:
    bounds = np.stack(list(_bbox(runs).values()))
    low, high = np.split(bounds, 2)
    return {"extent": runs.areas / np.prod(high - low, axis=0)}


def _touches_border(runs: Runs) -> Columns:
    bounds = np.stack(list(_bbox(runs).values()))
    low, high = np.split(bounds, 2)
    border = (low == 0) | (high == np.array(runs.shape)[:, None])
    return {"touches_border": border.any(axis=0)}


def _ellipse(runs: Runs, size: np.ndarray) -> Columns:
    """Axes of the ellipse with an object's second moments (scikit-image's definition)."""
    length = runs.stop - runs.start
    centre = list(_centroid(runs, size).values())
    y, x = (
        place * step - middle[runs.index]
        for place, step, middle in zip(_places(runs), size, centre, strict=True)
    )
    yy = _add(runs, length * y * y) / runs.areas
    xy = _add(runs, length * x * y) / runs.areas
    inside = length * (length**2 - 1) / 12 * size[1] ** 2
    xx = _add(runs, length * x * x + inside) / runs.areas
    middle, swing = (yy + xx) / 2, np.hypot((yy - xx) / 2, xy)
    major, minor = middle + swing, np.maximum(middle - swing, 0)
    ratio = np.divide(minor, major, out=np.ones_like(major), where=major > 0)
    return {
        "axis_major_length": 4 * np.sqrt(major),
        "axis_minor_length": 4 * np.sqrt(minor),
        "eccentricity": np.sqrt(1 - ratio),
        "orientation": np.arctan2(2 * xy, yy - xx) / 2,
    }


def _by_skimage(runs: Runs, size: np.ndarray, names: list[str]) -> Columns:
    from skimage.measure import regionprops_table

    if "perimeter" in names and len(set(size.tolist())) > 1:
        raise InputError(
            f"perimeter needs square pixels, the spacing is {size.tolist()}",
            hint="Ask for other properties, or measure in pixels",
        )
    dtypes = {name: np.int64 if name == "euler_number" else np.float64 for name in names}
    if not len(runs):
        return {name: np.zeros(0, dtype) for name, dtype in dtypes.items()}
    # Consecutive numbers: scikit-image's memory grows with the largest label.
    numbered = np.zeros(runs.shape, np.int32)
    position = np.arange(runs.areas.sum()) + np.repeat(*_gaps(runs))
    numbered.reshape(-1)[position] = np.repeat(runs.index, runs.stop - runs.start) + 1
    table = regionprops_table(numbered, properties=names, spacing=tuple(size))
    return {name: table[name].astype(dtype) for name, dtype in dtypes.items()}


def _gaps(runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each run's pixels from their place in the list of object pixels."""
    length = runs.stop - runs.start
    return runs.start - (np.cumsum(length) - length), length


def _intensities(runs: Runs, channels: Columns, names: list[str]) -> Columns:
    columns: Columns = {}
    length = runs.stop - runs.start
    position = np.arange(runs.areas.sum()) + np.repeat(*_gaps(runs))
    owner = np.repeat(runs.index, length)
    first = np.cumsum(length) - length
    for end, channel in channels.items():
        values = channel.reshape(-1)[position].astype(float)
        total = np.bincount(owner, values, len(runs)).astype(float)
        mean = total / runs.areas
        made = {"intensity_mean": mean, "intensity_sum": total}
        for name, extreme, start in (
            ("min", np.minimum, np.inf),
            ("max", np.maximum, -np.inf),
        ):
            made[f"intensity_{name}"] = np.full(len(runs), start)
            if len(runs):
                per_run = extreme.reduceat(values, first)
                extreme.at(made[f"intensity_{name}"], runs.index, per_run)
        if "intensity_std" in names:
            square = np.bincount(owner, (values - mean[owner]) ** 2, len(runs))
            made["intensity_std"] = np.sqrt(square / runs.areas)
        columns |= {name + end: made[name] for name in names}
    return columns
