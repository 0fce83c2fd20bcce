"""The table of the objects of one image: what was measured, and what is known of the image.

One row per object, ascending by label. Columns that are always there, in this order:

- label : int64, the id of the object
- area : int64, pixels; or, calibrated, float64 in the square (of a volume the cube) of `unit`
- centroid_z (volumes), centroid_y, centroid_x : float64, in `unit` from the middle of the
  first pixel of the image
- class : int64, 0 for none
- mean_intensity : float64, of what is segmented; of colour images the luminance
- unit : of area, centroid and pixel size: that of the image, ``um`` as files give it; or
  ``pixel`` where the size is not known along every axis of the objects
- image, group, parent : of ``images/index.csv``; parent is empty for an image that is no part
- pixel_size_z (volumes), pixel_size_y, pixel_size_x : float64, in `unit`; 1 where it is
  ``pixel``. Area divided by their product is the number of pixels, always

Then those that there is something for:

- time_point : int64, where the image is a time point: its index in the file, from 0
- time : float64, seconds: index times time step, where the file or the index says the step
- z_from, y_from, x_from : int64, first plane, row and column in the file, from 0, where the
  image is a part of it: a substack, a tile, a crop. The centroid counts from there
- equivalent_diameter, bbox_y0, ..., touches_border, extent, eccentricity, perimeter, solidity,
  ... : those of ``analyse.properties`` (see `opsef_bridge.measure.region_table`), lengths in
  `unit`, boxes in pixels. What needs square pixels is NaN where they are not
- intensity_mean_X, intensity_median_X, intensity_min_X, ... : float64, the statistics of
  ``analyse.intensities`` for each channel X of ``images.measure`` (see `channel_endings`)
- mean_intensity_background, mean_intensity_corrected : float64, with ``analyse.background``: the
  level of what is segmented outside of all objects, and mean_intensity without it
- background_X, intensity_mean_corrected_X, intensity_median_corrected_X, ... : float64, the same
  for each channel X; of all its statistics but the standard deviation, which no level shifts
- ratio_X_Y : float64, for each pair of ``analyse.ratios``: mean of X by mean of Y, without
  their backgrounds if there is ``analyse.background``; NaN where that of Y is not above 0
- nearest_distance (float64, `unit`), touching, neighbours_within (int64): with
  ``analyse.neighbours``, see `opsef_bridge.measure.neighbours`
- the other columns of ``images/index.csv``, such as plate, well and field, as text; with
  ``index_`` before a name that this list has already, such as ``time``

Intensities are those of the pixels that were segmented: in the units of the file, of the
same crop and projection, before the recipe and without ``images.scale``.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from opsef_bridge.analysis.measures import background_level, corrected, ratio, shape_properties
from opsef_bridge.config import Config
from opsef_bridge.errors import ImageError
from opsef_bridge.exchange.sources import Subject
from opsef_bridge.measure import region_table
from opsef_bridge.measure.neighbours import neighbour_table
from opsef_bridge.measure.regions import object_columns
from opsef_bridge.project import ImageEntry, Project
from opsef_bridge.rois.records import Base
from opsef_bridge.rois.revisions import History
from opsef_bridge.sweep.predict import segmented_array

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["channel_endings", "made_from", "measured_channels", "object_table", "spacing_of"]

COLOURS = ("red", "green", "blue")
MEANT = re.compile(
    r"time(_point)?|[zyx]_from|centroid_z|pixel_size_z|(intensity|background|ratio)_.*|"
    r"mean_intensity_(background|corrected)|"
    r"run|variant|revision|touching|nearest_distance|neighbours_within"
)
"""Names that columns of other images of the project may have; a user's column has none of them,
so that a column means the same in every table."""


def object_table(project: Project, config: Config, subject: Subject) -> pd.DataFrame:
    """Measure the objects of an image.

    Parameters
    ----------
    project : Project
    config : Config
        Its ``images`` say what is segmented and which channels are measured.
    subject : Subject
        Image and objects, as `opsef_bridge.exchange.sources.subject_of` returns them.

    Returns
    -------
    DataFrame
        The columns that the docstring of this module lists, with the same dtypes where there
        is no object.

    Raises
    ------
    ImageError
        The image cannot be read, or lacks a channel of ``images.measure`` or
        ``analyse.ratios``.
    InputError
        The objects have another shape than what is segmented now: of another crop or
        projection.
    """
    import pandas as pd

    entry, labels, classes = subject.image, subject.objects.labels, subject.objects.classes
    how = config.analyse
    pixels, endings, numbers = _pixels(project, config, entry)
    spacing = spacing_of(entry, labels.ndim)
    axes = "zyx"[-labels.ndim :]
    shape, lacking = shape_properties(how.properties, axes, spacing)
    names = {
        f"intensity_{statistic}_{place}": f"intensity_{statistic}_{ending}"
        for place, ending in enumerate(endings, start=1)
        for statistic in dict.fromkeys(["mean", *how.intensities])
    }
    wanted = ["area", "centroid", "intensity_mean_0", *shape, *names]
    table = region_table(labels, pixels, spacing or None, wanted)
    table = table.rename(columns=names | {"intensity_mean_0": "mean_intensity"})
    first = ["label", "area", *(f"centroid_{axis}" for axis in axes)]
    count = len(table)
    columns = {name: table[name].to_numpy() for name in first}
    columns["class"] = np.array([classes.get(label, 0) for label in table["label"]], np.int64)
    columns["mean_intensity"] = table["mean_intensity"].to_numpy()
    columns["unit"] = _column(entry.unit if spacing else "pixel", count)
    columns |= {k: _column(v, count) for k, v in _of_image(entry, spacing, axes).items()}
    order = [*(name for name in table if name not in names.values()), *names.values()]
    columns |= {name: table[name].to_numpy() for name in order if name not in columns}
    columns |= {name: np.full(count, np.nan) for name in lacking}
    if how.background != "none":
        box = made_from(project, subject).box
        columns |= _backgrounds(columns, labels, pixels, endings, spacing, how.background, box)
    columns |= _ratios(columns, entry, how.ratios, dict(zip(numbers, endings, strict=True)))
    if how.neighbours != "none":
        near = neighbour_table(labels, spacing or None, within=how.neighbours)
        columns |= {name: near[name].to_numpy() for name in near if name != "label"}
    for name, text in _own_columns(entry, list(columns)).items():
        columns[name] = _column(text, count)
    return pd.DataFrame(columns)


def made_from(project: Project, subject: Subject) -> Base:
    """Return what objects are made from.

    Parameters
    ----------
    project : Project
    subject : Subject

    Returns
    -------
    Base
        Of a revision with the run, variant and box that its chain began with.
    """
    base = subject.base
    if not base.revision:
        return base
    history, seen = History(project, subject.image.id), set()
    at = base
    while at.revision and at.revision not in seen:
        seen.add(at.revision)
        at = history.get(at.revision).base
    return Base(revision=base.revision, run=at.run, variant=at.variant, box=at.box)


def spacing_of(entry: ImageEntry, ndim: int) -> dict[str, float]:
    """Return the pixel size along the axes of the objects of an image.

    Parameters
    ----------
    entry : ImageEntry
    ndim : {2, 3}

    Returns
    -------
    dict of axis to float
        In ``entry.unit``; empty unless it is known along every axis.
    """
    axes = "ZYX"[-ndim:]
    known = {axis: entry.spacing[axis] for axis in axes if axis in entry.spacing}
    return known if len(known) == ndim else {}


def measured_channels(entry: ImageEntry, wanted: str | Sequence[int | str]) -> list[int]:
    """Return the numbers of the channels of an image that are measured, each once.

    Parameters
    ----------
    entry : ImageEntry
    wanted : "all" or sequence of int or str
        Numbers from 0 and names that the file gives. A text that is no name counts as a
        number. Colour images have red, green and blue.

    Raises
    ------
    ImageError
        The image has no such channel; the hint lists those that it has.

    Examples
    --------
    >>> entry = ImageEntry("i00001-a", "a.tif", axes="CYX", shape=(2, 9, 9), channels="DAPI|GFP")
    >>> measured_channels(entry, ["GFP", 0, 1]), measured_channels(entry, "all")
    ([1, 0], [0, 1])
    """
    names, count = _names(entry), _count(entry)
    if wanted == "all":
        return list(range(count))
    found: dict[int, None] = {}
    for one in wanted:
        if isinstance(one, str) and one.strip() in names:
            number = names.index(one.strip())
        else:
            number = int(one) if str(one).strip().isdecimal() else -1
        if not 0 <= number < count:
            there = ", ".join(
                f"{k} ({names[k]})" if k < len(names) and names[k] else str(k) for k in range(count)
            )
            raise ImageError(
                f"{entry.id} has no channel {one!r}, which images.measure asks for",
                hint=f"It has {there}. Correct opsef.yaml, or measure all: channels: all",
            )
        found[number] = None
    return list(found)


def channel_endings(names: Sequence[str], count: int) -> list[str]:
    """Return what the names of columns end on, for each channel of an image.

    The name that the file gives, with ``_`` for all that is no letter, digit or ``_``; the
    number from 0 for a channel without a name, and for those whose names are alike. They
    follow from the names of all channels, whichever are measured.

    Parameters
    ----------
    names : sequence of str
        May be empty or shorter than the channels are many.
    count : int
        How many channels there are.

    Examples
    --------
    >>> channel_endings(["DAPI", "Alexa 488 (GFP)"], 3)
    ['DAPI', 'Alexa_488_GFP', '2']
    >>> channel_endings(["GFP", "GFP", "RFP"], 3), channel_endings(["1", ""], 2)
    (['0', '1', 'RFP'], ['0', '1'])
    """
    safe = [
        re.sub(r"\W+", "_", unicodedata.normalize("NFKC", name)).strip("_")
        for name in [*names, *[""] * count][:count]
    ]
    once = [name if safe.count(name) == 1 else "" for name in safe]
    endings = [name or str(number) for number, name in enumerate(once)]
    return endings if len(set(endings)) == count else [str(number) for number in range(count)]


def _names(entry: ImageEntry) -> tuple[str, ...]:
    if "S" in entry.axes:
        return COLOURS
    return entry.region.names(tuple(entry.channels.split("|"))) if entry.channels else ()


def _count(entry: ImageEntry) -> int:
    if "S" in entry.axes:
        return len(COLOURS)
    return entry.shape[entry.axes.index("C")] if "C" in entry.axes else 1


def _pixels(
    project: Project, config: Config, entry: ImageEntry
) -> tuple[np.ndarray, list[str], list[int]]:
    """Return what is segmented and the measured channels as one array, their endings, numbers."""
    grey = segmented_array(project, config, entry)
    wanted = config.images.measure.channels
    asked = [channel for pair in config.analyse.ratios for channel in pair]
    numbers = measured_channels(entry, wanted if wanted == "all" else [*wanted, *asked])
    endings = channel_endings(_names(entry), _count(entry))
    return (
        np.stack([grey, *_channels(project, config, entry, numbers)]),
        [endings[number] for number in numbers],
        numbers,
    )


def _backgrounds(
    columns: dict[str, np.ndarray],
    labels: np.ndarray,
    channels: np.ndarray,
    endings: Sequence[str],
    spacing: dict[str, float],
    percent: float,
    box: tuple[int, ...] | None,
) -> dict[str, np.ndarray]:
    """Return the backgrounds of what is segmented and of each channel, intensities without."""
    pixels = columns["area"] / math.prod(spacing.values())
    y, x, height, width = box or (0, 0, *labels.shape[-2:])
    # Outside of the box nobody looked for objects: what lies there may be some.
    seen = (..., slice(y, y + height), slice(x, x + width))
    of_all = background_level(channels[0][seen], labels[seen], percent)
    found = {
        "mean_intensity_background": np.full(len(pixels), of_all),
        "mean_intensity_corrected": columns["mean_intensity"] - of_all,
    }
    for channel, ending in zip(channels[1:], endings, strict=True):
        level = background_level(channel[seen], labels[seen], percent)
        found |= corrected(columns, pixels, level, ending)
    return found


def _ratios(
    columns: dict[str, np.ndarray],
    entry: ImageEntry,
    pairs: Sequence[tuple[int | str, int | str]],
    endings: dict[int, str],
) -> dict[str, np.ndarray]:
    """Return the ratios of the means of channels, without backgrounds where those are known."""
    found = {}
    for pair in pairs:
        above, below = (endings[measured_channels(entry, [channel])[0]] for channel in pair)
        known = f"intensity_mean_corrected_{above}" in columns
        start = "intensity_mean_corrected_" if known else "intensity_mean_"
        found[f"ratio_{above}_{below}"] = ratio(columns[start + above], columns[start + below])
    return found


def _channels(
    project: Project, config: Config, entry: ImageEntry, numbers: Sequence[int]
) -> list[np.ndarray]:
    """Read channels, each of the shape of what is segmented, one after the other."""
    if "S" in entry.axes and numbers:
        samples = segmented_array(project, config, entry, colour=True)
        return [samples[number] for number in numbers]
    return [
        segmented_array(project, config, replace(entry, segment_channel=str(number)))
        for number in numbers
    ]


def _of_image(
    entry: ImageEntry, spacing: dict[str, float], axes: str
) -> dict[str, str | int | float]:
    """Return the columns that say the same in every row."""
    region = entry.region
    told: dict[str, str | int | float] = {
        "image": entry.id,
        "group": entry.group,
        "parent": entry.parent,
    }
    told |= {f"pixel_size_{axis}": spacing.get(axis.upper(), 1.0) for axis in axes}
    if region.t is not None:
        told["time_point"] = region.t
        if entry.time_step:
            told["time"] = float(f"{region.t * entry.time_step:.9g}")
    starts = {"z_from": region.z, "y_from": region.y, "x_from": region.x}
    return told | {name: span[0] for name, span in starts.items() if span is not None}


def _own_columns(entry: ImageEntry, taken: list[str]) -> dict[str, str]:
    """Return the user's columns of the index, under names that mean nothing else."""
    meant = {*taken, *object_columns("yx"), *object_columns("zyx")}
    found: dict[str, str] = {}
    for name, value in entry.more.items():
        while name in meant or name in found or MEANT.fullmatch(name):
            name = f"index_{name}"
        found[name] = value
    return found


def _column(value: str | int | float, count: int) -> np.ndarray:
    """Return a column that says the same everywhere, of the same dtype where it has no row."""
    return np.full(count, value, object if isinstance(value, str) else None)
