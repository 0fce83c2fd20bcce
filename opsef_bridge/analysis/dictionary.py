"""What the columns of tables mean, and in which unit they are: ``tables/columns.md``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["Column", "as_markdown", "describe", "units_shown"]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Parameters
    ----------
    name, dtype : str
    unit : str
        Empty where it has none.
    meaning : str
    """

    name: str
    dtype: str
    unit: str
    meaning: str


LENGTH, SIZE, DENSITY, PIXELS = "length", "size", "density", "px"
MEANINGS: tuple[tuple[str, str, str], ...] = (
    ("image", "", "id of the image in images/index.csv"),
    ("label", "", "id of the object in its image: the value of its pixels, the name of its ROI"),
    ("run", "", "run whose labels these are, or that edits began with; empty where there is none"),
    ("variant", "", "variant of that run"),
    ("revision", "", "revision of the edits; empty where nobody edited"),
    ("class", "", "class of the object, the group of its ROI in ImageJ; 0 for none"),
    ("class_name", "", "name of the class, by `classes` of opsef.yaml"),
    ("area(_median|_mean)?", SIZE, "area; of volumes the volume"),
    ("centroid_[zyx]", LENGTH, "place of the centre, from the middle of the image's first pixel"),
    ("bbox_[zyx]0", PIXELS, "first pixel of the bounding box"),
    ("bbox_[zyx]1", PIXELS, "pixel after the last of the bounding box"),
    ("equivalent_diameter(_median)?", LENGTH, "diameter of the circle (ball) of the same area"),
    ("feret_diameter_max", LENGTH, "largest width of the convex hull"),
    ("feret_diameter_min", LENGTH, "smallest width of the convex hull of whole pixels"),
    ("axis_(major|minor)_length", LENGTH, "axis of the ellipse with the same second moments"),
    ("eccentricity", "", "of that ellipse: 0 round, towards 1 long"),
    ("orientation", "rad", "angle between the Y axis and the major axis"),
    ("perimeter", LENGTH, "length of the outline, as scikit-image estimates it"),
    ("perimeter_imagej", LENGTH, "length of the outline, as ImageJ measures a traced ROI"),
    ("circularity(_median)?", "", "4 pi area / perimeter^2, at most 1"),
    ("circularity_imagej", "", "the same with perimeter_imagej"),
    ("solidity(_median)?", "", "share of the convex hull that is filled"),
    ("extent", "", "share of the bounding box that is filled"),
    ("euler_number", "", "pieces less holes"),
    ("touches_border", "", "has a pixel on the border of the image: it may be cut off there"),
    ("mean_intensity(_median|_mean)?", "grey values", "mean of what was segmented"),
    ("mean_intensity_background", "grey values", "level of the same outside of all objects"),
    ("mean_intensity_corrected(_median)?", "grey values", "mean_intensity without that level"),
    ("background_.+", "grey values", "level of the channel outside of all objects of the image"),
    ("intensity_[^_]+_corrected_.+", "grey values", "without the background"),
    ("intensity_sum_.+", "grey values", "sum over the pixels of the object"),
    ("intensity_.+", "grey values", "of the pixels of the object in that channel"),
    ("ratio_.+", "", "mean of the first channel by mean of the second"),
    ("touching", "", "objects that have a pixel side by side with one of it"),
    ("nearest_distance", LENGTH, "from its centre to the nearest centre of another object"),
    ("neighbours_within", "", "objects whose centre is within `analyse.neighbours`"),
    ("unit", "", "unit of lengths, areas and places; pixel where the pixel size is not known"),
    ("group", "", "group of the image"),
    ("parent", "", "what the image is a part of: a time series, a tiled slide"),
    ("source", "", "file of the image"),
    ("pixel_size_[zyx]", LENGTH, "size of a pixel; 1 where it is not known"),
    ("time_point", "", "index of the time point in the file, from 0"),
    ("time", "s", "time of that point"),
    ("[zyx]_from", PIXELS, "where the image begins in the file, if it is a part of it"),
    ("objects", "", "objects of the image, or of the images together"),
    ("images", "", "images of the well"),
    ("covered", "", "share of the image that objects cover"),
    ("density", DENSITY, "objects by area (volume) of the image"),
    ("touching_border", "", "objects that the border of the image cuts"),
    ("cluster", "", "number of the cluster, the largest is 1; 0 for none"),
    ("predicted_class", "", "class that the learned classifier gives"),
    ("probability", "", "share of the trees that give it"),
)  # fmt: skip
OWN = "a column of images/index.csv or of the table of conditions"


def describe(dtypes: Mapping[str, object], units: Iterable[str], ndim: int = 2) -> list[Column]:
    """Return what is known of the columns of a table.

    Parameters
    ----------
    dtypes : mapping of str to dtype
        Of each column, as ``table.dtypes`` has them.
    units : iterable of str
        All values of its column ``unit``. With several, lengths have none of their own, and the
        row says which.
    ndim : {2, 3, 0}
        Of the images; 0 where some are planes and some are volumes.

    Examples
    --------
    >>> describe({"area": "float64", "well": "object"}, ["um"])[0]
    Column(name='area', dtype='float64', unit='um^2', meaning='area; of volumes the volume')
    """
    known = set(units)
    unit = known.pop() if len(known) == 1 else "`unit`" if known else "pixel"
    size = f"{unit}^{ndim}" if ndim else f"`{unit.strip('`')}`^2, of volumes ^3"
    shown = {LENGTH: unit, SIZE: size, DENSITY: f"1/{size}"}
    found = []
    for name, dtype in dtypes.items():
        kind, meaning = next(
            ((kind, text) for pattern, kind, text in MEANINGS if re.fullmatch(pattern, name)),
            ("", OWN),
        )
        told = "text" if str(dtype) in ("object", "str", "string") else str(dtype)
        found.append(Column(name, told, shown.get(kind, kind), meaning))
    return found


def units_shown(columns: Iterable[Column]) -> dict[str, str]:
    """Return the unit of each column for an axis; none where each row has its own.

    Examples
    --------
    >>> units_shown(describe({"area": "float64"}, ["um", "pixel"]))
    {'area': ''}
    """
    return {one.name: "" if "`" in one.unit else one.unit for one in columns}


def as_markdown(title: str, columns: Iterable[Column]) -> str:
    """Return a table in Markdown."""
    rows = [f"| {one.name} | {one.dtype} | {one.unit} | {one.meaning} |" for one in columns]
    head = ["| column | kind | unit | meaning |", "|---|---|---|---|"]
    return "\n".join([f"## {title}", "", *head, *rows, ""])
