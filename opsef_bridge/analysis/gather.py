"""The table of the objects of a project, and one row per image.

Which object is which: `image` and `label` name it in what its image has now; `revision`, or
`run` and `variant`, say what that is. Rows are never told apart by their position.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from opsef_bridge.analysis.tables import made_from, object_table, spacing_of
from opsef_bridge.errors import ImageError, InputError, NotFoundError, OpsefError
from opsef_bridge.exchange.sources import chosen_images, subject_of
from opsef_bridge.execute import Event
from opsef_bridge.project import ImageEntry, Project, Run
from opsef_bridge.rois.records import Base

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Gathered", "dimensions_of", "gather_tables", "image_summary", "joined", "refuse_mixed"]

KEYS = ("image", "label", "run", "variant", "revision", "class")

SUMMARIES = {
    "area": ("median", "mean"),
    "equivalent_diameter": ("median",),
    "circularity": ("median",),
    "solidity": ("median",),
    "mean_intensity": ("median", "mean"),
    "mean_intensity_corrected": ("median",),
}
"""Columns of objects and what the table of images tells of them."""

Tell = Callable[[Event], None]


@dataclass(frozen=True)
class Gathered:
    """The tables of a project.

    Attributes
    ----------
    objects : DataFrame
        One row per object; see `gather_tables`.
    images : DataFrame
        One row per image, also of those without objects; see `image_summary`.
    said : tuple of str
        Sentences: which images have nothing to measure, and why.
    failed : tuple of str
        Ids of the images that could not be measured.
    """

    objects: pd.DataFrame
    images: pd.DataFrame
    said: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def gather_tables(
    project: Project,
    images: Sequence[str] = (),
    *,
    variant: tuple[Run, str] | None = None,
    revision: str | None = None,
    tell: Tell = lambda event: None,
) -> Gathered:
    """Measure the objects of the images of a project.

    Parameters
    ----------
    project : Project
        Its ``opsef.yaml`` says what is measured: ``images.measure``, ``analyse``.
    images : sequence of str
        Ids; all that are included by default.
    variant, revision
        Whose objects, as `opsef_bridge.exchange.sources.subject_of` takes them; by default the
        newest revision of each image, else those of the newest batch.
    tell : callable
        Takes an `Event` for each image.

    Returns
    -------
    Gathered
        First of its `objects` are the columns ``image``, ``label``, ``run``, ``variant``,
        ``revision`` (empty text where there is none) and ``class``, then those of
        `opsef_bridge.analysis.object_table`. A column that some images lack is missing (NaN,
        or empty text) in their rows.

    Raises
    ------
    NotFoundError
        There is no such image, or no object source for any of the images.
    """
    entries = chosen_images(project, images)
    config = project.config
    tables, summaries, said, failed = [], [], [], []
    for number, entry in enumerate(entries):
        tell(Event(number, len(entries), entry.id))
        try:
            subject = subject_of(project, entry, variant=variant, revision=revision)
            if subject is None:
                said.append(f"{entry.id}: no objects yet, so it is in no table")
                continue
            table = object_table(project, config, subject)
        except OpsefError as error:
            said.append(f"{entry.id}: not measured: {error}")
            failed.append(entry.id)
            continue
        of = made_from(project, subject)
        if of.box:
            table = _cut_by_box(table, of.box)
            y, x, height, width = of.box
            said.append(
                f"{entry.id}: only {width} x {height} px at x {x}, y {y} were segmented; objects "
                "at their edge count as touching the border"
            )
        tables.append(_with_keys(table, of))
        summaries.append(image_summary(table, entry, of, subject.objects.labels))
    tell(Event(len(entries), len(entries), "images measured"))
    if not tables:
        if failed:
            raise ImageError(f"no image could be measured; {said[0]}")
        raise NotFoundError(
            "there are no objects to measure",
            hint="Name a variant of a sweep, or run `opsef batch`, or save objects from Fiji",
        )
    import pandas as pd

    return Gathered(joined(tables), pd.DataFrame(summaries), tuple(said), tuple(failed))


def joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put tables of images below each other; a column keeps its kind where some lack it.

    Parameters
    ----------
    tables : sequence of DataFrame
        At least one.

    Returns
    -------
    DataFrame
        The columns of all, in the order of the first that has most of them. What an image lacks
        is empty text in columns of text, NaN in columns of numbers, False in those of yes and
        no; integers stay integers where every table has the column.

    Examples
    --------
    >>> import pandas as pd
    >>> one = pd.DataFrame({"label": [1], "well": ["A1"], "euler_number": [1]})
    >>> joined([one, pd.DataFrame({"label": [2]})])
       label well  euler_number
    0      1   A1           1.0
    1      2                NaN
    """
    import pandas as pd

    widest = max(tables, key=lambda table: table.shape[1])
    names = dict.fromkeys([*widest, *(name for table in tables for name in table)])
    columns = {}
    for name in names:
        having = [table[name] for table in tables if name in table]
        text = any(column.dtype == object for column in having)
        kind = object if text else np.result_type(*(column.dtype for column in having))
        kind = np.dtype(kind)
        if len(having) < len(tables) and kind.kind in "iu":
            kind = np.dtype(float)
        empty = {"O": "", "b": False}.get(kind.kind, np.nan)
        parts = [
            table[name].to_numpy() if name in table else np.full(len(table), empty, kind)
            for table in tables
        ]
        columns[name] = np.concatenate(parts).astype(kind)
    return pd.DataFrame(columns)


def dimensions_of(objects: pd.DataFrame) -> int:
    """Return whether objects are of planes (2), of volumes (3), or of both (0).

    Examples
    --------
    >>> import pandas as pd
    >>> dimensions_of(pd.DataFrame({"area": [4.0, 8.0], "centroid_z": [np.nan, 1.0]}))
    0
    """
    if "centroid_z" not in objects:
        return 2
    flat = objects["centroid_z"].isna()
    return 2 if len(flat) and flat.all() else 0 if flat.any() else 3


def refuse_mixed(objects: pd.DataFrame) -> None:
    """Refuse objects of planes together with objects of volumes.

    Parameters
    ----------
    objects : DataFrame

    Raises
    ------
    InputError
        There are both. An area is no volume, though both stand in the column ``area``.
    """
    if dimensions_of(objects) == 0:
        flat = objects["centroid_z"].isna()
        plane, volume = (objects.loc[here, "image"].iloc[0] for here in (flat, ~flat))
        raise InputError(
            f"{plane} has planes and {volume} volumes, whose sizes cannot be compared",
            hint="Choose images of one kind: --image ID, once for each",
        )


def image_summary(
    table: pd.DataFrame, entry: ImageEntry, of: Base, labels: np.ndarray
) -> dict[str, object]:
    """Return the row of an image.

    Parameters
    ----------
    table : DataFrame
        Its objects.
    entry : ImageEntry
    of : Base
        What the objects are made from.
    labels : ndarray of int
        Label image, YX or ZYX.

    Returns
    -------
    dict
        ``image``, ``source``, ``group``, ``parent``, ``run``, ``variant``, ``revision``;
        ``objects``, how many; ``covered``, the share that they cover of what was segmented;
        ``density``: objects per square (volumes: cube) of ``unit`` of that;
        ``touching_border``, how many are cut by the border; ``area_median``, ``area_mean`` and
        so on, NaN where there is no object;
        channels' ``intensity_mean_X_median``; ratios' ``ratio_X_Y_median``; the user's columns
        of ``images/index.csv``.
    """
    spacing = spacing_of(entry, labels.ndim)
    plane = of.box[2:] if of.box else labels.shape[-2:]
    seen = math.prod((*labels.shape[:-2], *plane))
    size = seen * math.prod(spacing.values())
    row: dict[str, object] = {
        "image": entry.id, "source": entry.source, "group": entry.group, "parent": entry.parent,
        "run": of.run or "", "variant": of.variant or "", "revision": of.revision or "",
        "objects": len(table),
        "covered": float(np.count_nonzero(labels) / seen),
        "density": len(table) / size,
        "unit": entry.unit if spacing else "pixel",
    }  # fmt: skip
    if "touches_border" in table:
        row["touching_border"] = int(table["touches_border"].sum())
    means = {name: ("median",) for name in table if name.startswith(("intensity_mean_", "ratio_"))}
    for name, statistics in (SUMMARIES | means).items():
        for statistic in statistics if name in table else ():
            row[f"{name}_{statistic}"] = float(getattr(table[name].dropna(), statistic)())
    return row | {name: value for name, value in entry.more.items() if name not in row}


def _cut_by_box(table: pd.DataFrame, box: tuple[int, ...]) -> pd.DataFrame:
    """Let objects at the edge of what was segmented count as touching the border."""
    if not {"touches_border", "bbox_y0"} <= set(table):
        return table
    y, x, height, width = box
    cut = (table["bbox_y0"] <= y) | (table["bbox_y1"] >= y + height)
    cut |= (table["bbox_x0"] <= x) | (table["bbox_x1"] >= x + width)
    return table.assign(touches_border=table["touches_border"] | cut)


def _with_keys(table: pd.DataFrame, of: Base) -> pd.DataFrame:
    """Put what names an object first."""
    origin = {"run": of.run or "", "variant": of.variant or "", "revision": of.revision or ""}
    for name, value in origin.items():
        table[name] = np.full(len(table), value, object)
    return table[[*KEYS, *(name for name in table if name not in KEYS)]]
