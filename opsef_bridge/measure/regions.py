"""Tables of objects: one row per label, one column per measured property.

All is measured from the runs of the labels, for all objects at once; only the shapes of
objects in volumes are left to scikit-image, object by object, and only when asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from opsef_bridge.errors import InputError
from opsef_bridge.measure.hulls import convex_hulls, hull_widths
from opsef_bridge.measure.intensities import (
    INTENSITY,
    QUANTILE,
    image_channels,
    intensities,
    object_pixels,
    quantile_columns,
    quantiles,
)
from opsef_bridge.measure.moments import boxes, covariances, second_moments
from opsef_bridge.measure.outlines import euler_numbers, perimeters, traced_perimeters
from opsef_bridge.measure.overlap import Runs, label_runs

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["object_columns", "object_properties", "region_table"]

DEFAULT = ("area", "centroid", "bbox", "equivalent_diameter", "touches_border")
BOX = ("centroid", "bbox", "extent", "touches_border")
AXES = ("axis_major_length", "axis_minor_length")
ELLIPSE = (*AXES, "eccentricity", "orientation")
OUTLINE = ("perimeter", "circularity")
SHAPE = ("solidity", "euler_number", "feret_diameter_max")
IMAGEJ = ("perimeter_imagej", "circularity_imagej")
WIDTH = "feret_diameter_min"
PROPERTIES = (*DEFAULT, "extent", *ELLIPSE, *OUTLINE, *IMAGEJ, *SHAPE, WIDTH)
FLAT_ONLY = ("eccentricity", "orientation", *OUTLINE, *IMAGEJ, WIDTH)

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
        - axis_major_length, axis_minor_length : longest and shortest axis of the ellipse (3D:
          ellipsoid) with the same second moments, as scikit-image's
        - eccentricity, orientation : 2D, of that ellipse; orientation in radians from the Y axis,
          0 for a round object
        - perimeter : 2D, square pixels, as scikit-image's
        - circularity : 2D, square pixels, ``4 pi area / perimeter**2`` as ImageJ defines it,
          with this perimeter; 1 for a disk. As in ImageJ, small objects that come out above 1
          have 1, and so have those whose perimeter is 0 (one or two pixels)
        - perimeter_imagej, circularity_imagej : 2D, the same as ImageJ 1.54p measures them
          (``Perim.``, ``Circ.``) for the ROIs of `opsef_bridge.measure.trace.trace_rois`, holes
          included; also where pixels are not square
        - solidity : share of the convex hull that is filled, as scikit-image's; in 3D NaN
          where all voxels lie in one plane, whose hull has no volume
        - euler_number : pieces less holes (3D: less tunnels, plus hollows), as scikit-image's
        - feret_diameter_max : of the convex hull, as scikit-image's; NaN as solidity
        - feret_diameter_min : 2D, least width of the convex hull of the whole pixels, as
          ImageJ's ``MinFeret``
        - intensity_mean, _min, _max, _sum, _std : with a channel axis one column per
          channel, ``intensity_mean_0``, ...
        - intensity_median, intensity_p5, intensity_p99.5, ... : median and percentiles, linear
          between pixels as NumPy's

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
    channels = None if intensity is None else image_channels(intensity, runs.shape)
    properties = None if properties is None else list(properties)
    wanted = _wanted(properties, runs, channels)
    makers: dict[str, Callable[[], Columns]] = {
        "area": lambda: _area(runs, None if spacing is None else size),
        "equivalent_diameter": lambda: _diameter(runs, size),
    }
    found = cache(lambda: boxes(runs))
    makers |= dict.fromkeys(BOX, lambda: _boxes(runs, size, *found()))
    ellipse = _ellipse if len(size) == 2 else _ellipsoid
    makers |= dict.fromkeys(ELLIPSE, lambda: ellipse(runs, size, found()[2]))
    makers |= dict.fromkeys(OUTLINE, lambda: _outline(runs, size))
    makers |= dict.fromkeys(IMAGEJ, lambda: _imagej(runs, size))
    makers |= dict.fromkeys(SHAPE, lambda: _shape(runs, size, list(wanted)))
    makers[WIDTH] = lambda: {WIDTH: hull_widths(runs, size)}
    pixels = cache(lambda: object_pixels(runs, channels or {}))
    makers |= dict.fromkeys(INTENSITY, lambda: intensities(runs, pixels(), list(wanted)))
    ordered = [name for name in wanted if QUANTILE.fullmatch(name)]
    makers |= dict.fromkeys(ordered, lambda: quantiles(runs, pixels(), ordered))
    table: Columns = {"label": runs.labels}
    measured: Columns = {}
    for name, columns in wanted.items():
        if columns[0] not in measured:
            measured |= makers[name]()
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


def object_properties(axes: str) -> list[str]:
    """Return the properties of `region_table` that need no intensities.

    Parameters
    ----------
    axes : {"yx", "zyx"}
    """
    return list(_columns(axes))


def _columns(axes: str) -> dict[str, list[str]]:
    """Each property that needs no intensities with its columns."""
    columns = {name: [name] for name in PROPERTIES}
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
        columns |= quantile_columns(properties or (), list(channels))
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


def _area(runs: Runs, size: np.ndarray | None) -> Columns:
    return {"area": runs.areas if size is None else runs.areas * size.prod()}


def _boxes(
    runs: Runs, size: np.ndarray, low: np.ndarray, high: np.ndarray, centre: np.ndarray
) -> Columns:
    axes = "zyx"[-len(size) :]
    columns = {f"centroid_{axis}": centre[k] * size[k] for k, axis in enumerate(axes)}
    columns |= {f"bbox_{axis}0": low[k] for k, axis in enumerate(axes)}
    columns |= {f"bbox_{axis}1": high[k] for k, axis in enumerate(axes)}
    border = (low == 0) | (high == np.array(runs.shape)[:, None])
    extent = runs.areas / np.prod(high - low, axis=0)
    return columns | {"extent": extent, "touches_border": border.any(axis=0)}


def _diameter(runs: Runs, size: np.ndarray) -> Columns:
    area = runs.areas * size.prod()
    flat = len(size) == 2
    diameter = np.sqrt(4 * area / np.pi) if flat else np.cbrt(6 * area / np.pi)
    return {"equivalent_diameter": diameter}


def _ellipse(runs: Runs, size: np.ndarray, centre: np.ndarray) -> Columns:
    """Axes of the ellipse with an object's second moments (scikit-image's definition)."""
    yy, xx, xy = second_moments(runs, centre)
    yy, xx, xy = yy * size[0] ** 2, xx * size[1] ** 2, xy * size.prod()
    middle, swing = (yy + xx) / 2, np.hypot((yy - xx) / 2, xy)
    major, minor = middle + swing, np.maximum(middle - swing, 0)
    ratio = np.divide(minor, major, out=np.ones_like(major), where=major > 0)
    return {
        "axis_major_length": 4 * np.sqrt(major),
        "axis_minor_length": 4 * np.sqrt(minor),
        "eccentricity": np.sqrt(1 - ratio),
        "orientation": np.arctan2(2 * xy, yy - xx) / 2,
    }


def _ellipsoid(runs: Runs, size: np.ndarray, centre: np.ndarray) -> Columns:
    """Longest and shortest axis of the ellipsoid with an object's second moments."""
    spread = np.linalg.eigvalsh(covariances(runs, centre) * np.outer(size, size))
    lengths = np.sqrt(20 * np.maximum(spread, 0))  # of a ball: a fifth of its radius squared
    return dict(zip(AXES, (lengths[:, -1], lengths[:, 0]), strict=True))


def _outline(runs: Runs, size: np.ndarray) -> Columns:
    if size[0] != size[1]:
        raise InputError(
            f"perimeter and circularity need square pixels, the spacing is {size.tolist()}",
            hint="Ask for other properties, or measure in pixels",
        )
    length = perimeters(runs)
    round_one = np.full(len(runs), np.inf)
    np.divide(4 * np.pi * runs.areas, length**2, out=round_one, where=length > 0)
    return {"perimeter": length * size[0], "circularity": np.minimum(round_one, 1)}


def _imagej(runs: Runs, size: np.ndarray) -> Columns:
    length = traced_perimeters(runs, size)
    round_one = 4 * np.pi * runs.areas * size.prod() / length**2
    return {"perimeter_imagej": length, "circularity_imagej": np.minimum(round_one, 1)}


def _shape(runs: Runs, size: np.ndarray, wanted: list[str]) -> Columns:
    if len(size) == 3:
        return _by_skimage(runs, size, [name for name in SHAPE if name in wanted])
    columns: Columns = {}
    if "euler_number" in wanted:
        columns["euler_number"] = euler_numbers(runs)
    if "feret_diameter_max" in wanted or "solidity" in wanted:
        areas, diameters = convex_hulls(runs, size if "feret_diameter_max" in wanted else None)
        columns["solidity"] = runs.areas / areas
        if diameters is not None:
            columns["feret_diameter_max"] = diameters
    return columns


def _by_skimage(runs: Runs, size: np.ndarray, names: list[str]) -> Columns:
    from skimage.measure import regionprops

    columns = {
        name: np.zeros(len(runs), np.int64)
        if name == "euler_number"
        else np.full(len(runs), np.nan)
        for name in names
    }
    if not len(runs):
        return columns
    # Consecutive numbers: scikit-image's memory grows with the largest label.
    numbered = np.zeros(runs.shape, np.int32)
    position = np.arange(runs.areas.sum()) + np.repeat(*_gaps(runs))
    numbered.reshape(-1)[position] = np.repeat(runs.index, runs.stop - runs.start) + 1
    hulls = [name for name in names if name != "euler_number"]
    for region in regionprops(numbered, spacing=tuple(size)):
        bulky = bool(hulls) and np.linalg.matrix_rank(region.coords - region.coords[0]) == 3
        for name in names if bulky else set(names) - set(hulls):
            columns[name][region.label - 1] = getattr(region, name)
    return columns


def _gaps(runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each run's pixels from their place in the list of object pixels."""
    length = runs.stop - runs.start
    return runs.start - (np.cumsum(length) - length), length
