"""``opsef analyse``: the tables of a project, statistics by image, plots, one page to explore."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from opsef_bridge.analysis.clusters import Kind, cluster
from opsef_bridge.analysis.conditions import read_conditions
from opsef_bridge.analysis.dictionary import describe, units_shown
from opsef_bridge.analysis.embedding import Method, embed
from opsef_bridge.analysis.exploring import write_page
from opsef_bridge.analysis.features import features
from opsef_bridge.analysis.gather import Gathered, Tell, gather_tables
from opsef_bridge.analysis.plate import plate_grid, well_summary
from opsef_bridge.analysis.statistics import (
    as_sentences,
    compare_conditions,
    image_values,
    summarise_conditions,
)
from opsef_bridge.analysis.writing import write_columns, write_table
from opsef_bridge.errors import InputError
from opsef_bridge.execute import Event
from opsef_bridge.project import Project, Run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Analysed", "Wish", "add_conditions", "analyse", "explored"]

SHOWN = ("area", "circularity", "mean_intensity")
"""Columns that are plotted where none are named; ratios come along."""

MOST_PLATES = 12

OURS = re.compile(r"cluster|predicted_class|probability|(pca|tsne|umap)_[12]")
"""Columns that an analysis adds."""


@dataclass(frozen=True)
class Wish:
    """What an analysis makes besides the tables.

    Parameters
    ----------
    by : str, optional
        Column whose kinds are compared: a condition, ``class``, ``group``. By default the first
        column of ``analyse.conditions``, else what of ``class`` and ``group`` has several.
    unit : str
        What counts once in statistics: ``image``, or for example ``well``.
    reference : str, optional
        Condition that the others are compared with; the first in alphabetical order.
    columns : sequence of str
        Columns that are plotted and compared.
    embed : sequence of {"pca", "tsne", "umap"}
    cluster : {"kmeans", "ward", "hdbscan"}, optional
    count : int, optional
        Number of clusters.
    of : sequence of str, optional
        Features of embedding and clusters.
    plots : {"png", "svg", "pdf"} or None
        Kind of the plots; None makes none.
    violin : bool
        Violins instead of boxes.
    page : bool
        Whether the page to explore, ``plots/objects.html``, is written.
    seed : int
    """

    by: str | None = None
    unit: str = "image"
    reference: str | None = None
    columns: Sequence[str] = ()
    embed: Sequence[Method] = ("pca",)
    cluster: Kind | None = None
    count: int | None = None
    of: Sequence[str] | None = None
    plots: str | None = "png"
    violin: bool = False
    page: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Analysed:
    """What an analysis wrote and found.

    Attributes
    ----------
    objects, images : DataFrame
    compared : DataFrame or None
        See `opsef_bridge.analysis.statistics.compare_conditions`, with ``column``.
    files : tuple of Path
    said : tuple of str
    failed : tuple of str
        Images that could not be measured.
    """

    objects: pd.DataFrame
    images: pd.DataFrame
    compared: pd.DataFrame | None
    files: tuple[Path, ...]
    said: tuple[str, ...]
    failed: tuple[str, ...] = ()


def analyse(
    project: Project,
    wish: Wish | None = None,
    images: Sequence[str] = (),
    *,
    variant: tuple[Run, str] | None = None,
    revision: str | None = None,
    tell: Tell = lambda event: None,
) -> Analysed:
    """Measure the objects of a project; write ``tables/`` and ``plots/``.

    Parameters
    ----------
    project : Project
    wish : Wish, optional
    images, variant, revision, tell
        As `gather_tables`.

    Raises
    ------
    InputError
        A column that is asked for is not there, or too few objects; the tables are written
        before.
    """
    wish = wish or Wish()
    found = gather_tables(project, images, variant=variant, revision=revision, tell=tell)
    found, said = add_conditions(project, found)
    if project.config.analyse.background != "none" and not _has_background(found.objects):
        said.append("No background is taken off: images.measure names no channel to measure.")
    tell(Event(0, 1, "comparing"))
    objects, more, axes = explored(found.objects, wish)
    by = wish.by or _default_by(project, objects)
    tables = {"objects": objects, "images": found.images}
    if "well" in found.images:
        tables["wells"] = well_summary(found.images)
    columns = list(wish.columns) or [name for name in objects if _is_shown(name)]
    ndim = 3 if "centroid_z" in objects else 2
    files = _write(project, tables, ndim)
    compared, summary, told = _compared(objects, columns, by, wish)
    more_tables = {"conditions": summary, "comparison": compared}
    there = {name: table for name, table in more_tables.items() if table is not None}
    files += _write(project, there, ndim)
    files.append(write_columns(project.tables_folder, tables | there, ndim))
    if wish.plots is not None:
        tell(Event(0, 1, "drawing"))
        plots = _plots(objects, found.images, columns, by, axes, ndim, wish.violin)
        files += _written(project.root / "plots", plots, wish.plots)
    if wish.page and len(objects):
        tell(Event(0, 1, "cutting out objects"))
        files.append(
            write_page(project, objects, project.root / "plots" / "objects.html", seed=wish.seed)
        )
    tell(Event(1, 1, "done"))
    sentences = (*found.said, *said, *more, *told)
    return Analysed(objects, found.images, compared, tuple(files), sentences, found.failed)


def _write(project: Project, tables: dict[str, pd.DataFrame], ndim: int) -> list[Path]:
    files: list[Path] = []
    for name, table in tables.items():
        decimal = project.config.analyse.decimal
        files += write_table(project.tables_folder, name, table, decimal=decimal, ndim=ndim)
    return files


def add_conditions(project: Project, found: Gathered) -> tuple[Gathered, list[str]]:
    """Join the file of ``analyse.conditions`` to both tables, and the names of the classes.

    Returns
    -------
    Gathered
    list of str
        Sentences.
    """
    found = _named_classes(found, project.config.classes)
    name = project.config.analyse.conditions
    if name is None:
        return found, []
    images, said = read_conditions(project.root / name).join(found.images)
    new = [column for column in images if column not in found.images]
    at = {image: number for number, image in enumerate(images["image"])}
    rows = [at[image] for image in found.objects["image"]]
    objects = found.objects.copy()
    for column in new:
        taken = column in objects or OURS.fullmatch(column)
        name = f"condition_{column}" if taken else column
        objects[name] = images[column].to_numpy(object)[rows]
    return replace(found, objects=objects, images=images), said


def explored(
    objects: pd.DataFrame, wish: Wish
) -> tuple[pd.DataFrame, list[str], dict[str, tuple[str, str]]]:
    """Add embeddings and clusters to the table of objects.

    Returns
    -------
    DataFrame
        With ``pca_1``, ``pca_2`` and so on (NaN where an object was not drawn) and ``cluster``.
    list of str
        Sentences.
    dict
        By method, what its axes are.
    """
    if not (wish.embed or wish.cluster):
        return objects, [], {}
    asked = wish.of is not None or wish.cluster is not None or tuple(wish.embed) != Wish().embed
    try:
        made = features(objects, wish.of)
        said, axes = list(made.said), {}
        objects = objects.copy()
        for method in wish.embed:
            embedded = embed(made.values, method, seed=wish.seed)
            for k in (0, 1):
                objects[f"{method}_{k + 1}"] = _spread(embedded.points[:, k], made.rows, objects)
            said += embedded.said
            axes[method] = embedded.axes
        if wish.cluster:
            parted = cluster(made.values, wish.cluster, wish.count, seed=wish.seed)
            numbers = np.zeros(len(objects), np.int64)
            numbers[made.rows] = parted.numbers
            objects["cluster"] = numbers
            count = len(set(parted.numbers) - {0})
            said += [
                *parted.said,
                f"{wish.cluster} made {count} clusters, silhouette {parted.silhouette:.2f}.",
            ]
    except InputError as error:
        if asked:
            raise
        return objects, [f"No embedding: {error}"], {}
    return objects, said, axes


def _spread(values: np.ndarray, rows: np.ndarray, objects: pd.DataFrame) -> np.ndarray:
    column = np.full(len(objects), np.nan)
    column[rows] = values
    return column


def _named_classes(found: Gathered, names: dict[int, str]) -> Gathered:
    """Add the names of the classes, where opsef.yaml has any."""
    if not names:
        return found
    objects = found.objects.copy()
    named = [names.get(int(number), "") for number in objects["class"]]
    objects.insert(objects.columns.get_loc("class") + 1, "class_name", np.array(named, object))
    return replace(found, objects=objects)


def _default_by(project: Project, objects: pd.DataFrame) -> str | None:
    name = project.config.analyse.conditions
    told = read_conditions(project.root / name).columns if name else []
    given = [column for name in told for column in (f"condition_{name}", name)]
    for column in [*given, "class", "group"]:
        if column in objects and objects[column].nunique() > 1:
            return column
    return None


def _has_background(objects: pd.DataFrame) -> bool:
    return any(name.startswith("background_") for name in objects)


def _is_shown(name: str) -> bool:
    return name in SHOWN or name.startswith("ratio_")


def _compared(
    objects: pd.DataFrame, columns: Sequence[str], by: str | None, wish: Wish
) -> tuple[pd.DataFrame | None, pd.DataFrame | None, list[str]]:
    """Compare conditions by image; not images themselves, nor what an image has several of."""
    if by is None or by in ("class", "class_name", "cluster", wish.unit):
        return None, None, []
    if by not in objects:
        raise InputError(f"the table has no column {by!r}", hint="tables/columns.md lists them")
    if by in columns:
        raise InputError(f"{by!r} cannot be compared by itself", hint="Name another column: --by")
    columns, said = _comparable(objects, columns)
    tables, summaries = [], []
    for column in columns:
        values = image_values(objects, column, by, unit=wish.unit)
        summary = summarise_conditions(values, seed=wish.seed)
        summaries.append(summary.assign(column=column))
        if len(summary) > 1:
            table = compare_conditions(values, wish.reference, seed=wish.seed)
            said += as_sentences(table, column, wish.unit)
            tables.append(table.assign(column=column))
    return _below(tables), _below(summaries), said


def _comparable(objects: pd.DataFrame, columns: Sequence[str]) -> tuple[list[str], list[str]]:
    """The columns that mean the same in every row: no lengths in micrometres and in pixels."""
    units = units_shown(describe(objects.dtypes.to_dict(), set(objects["unit"])))
    known = describe({name: objects[name].dtype for name in objects}, ["um"])
    own = [one.name for one in known if one.unit.startswith(("um", "1/um")) and not units[one.name]]
    left = [name for name in columns if name in own]
    said = []
    if left:
        said.append(
            f"Not compared, since images are in {' and in '.join(sorted(set(objects['unit'])))}: "
            f"{', '.join(left)}. Give the pixel sizes in images/index.csv."
        )
    return [name for name in columns if name not in left], said


def _below(tables: Sequence[pd.DataFrame]) -> pd.DataFrame | None:
    """Put tables below each other, the column that they are of first."""
    import pandas as pd

    if not tables:
        return None
    whole = pd.concat(tables, ignore_index=True)
    return whole[["column", *(name for name in whole if name != "column")]]


def _plots(
    objects: pd.DataFrame,
    images: pd.DataFrame,
    columns: Sequence[str],
    by: str | None,
    axes: dict[str, tuple[str, str]],
    ndim: int,
    violin: bool,
) -> Iterable[tuple[str, Figure]]:
    """Yield name and figure of each plot; figures are large, so one at a time."""
    from opsef_bridge.analysis.plots import box_plot, histogram, plate_map, scatter

    described = describe(objects.dtypes.to_dict(), set(objects["unit"]), ndim)
    units = units_shown(described)
    for column in columns:
        yield f"histogram_{column}", histogram(objects, column, by, unit=units.get(column, ""))
        if by:
            kind = "violin" if violin else "box"
            made = box_plot(objects, column, by, violin=violin, unit=units[column])
            yield f"{kind}_{column}_by_{by}", made
    for one, two in zip(columns[:1] * len(columns), columns[1:], strict=False):
        labels = tuple(f"{name} ({units[name]})" if units[name] else name for name in (one, two))
        yield f"scatter_{one}_{two}", scatter(objects, one, two, by, labels=labels)
    colour = "cluster" if "cluster" in objects else by
    for method, names in axes.items():
        yield method, scatter(objects, f"{method}_1", f"{method}_2", colour, labels=names)
    if "well" in images:
        plates = images.groupby("plate") if "plate" in images else [("", images)]
        for plate, some in list(plates)[:MOST_PLATES]:
            for column in ("objects", *(f"{name}_median" for name in columns)):
                if column in some:
                    title = " ".join(filter(None, (str(plate), f"{column}, mean of images")))
                    name = "_".join(filter(None, ("plate", str(plate), column)))
                    try:
                        yield name, plate_map(plate_grid(some, column), title)
                    except InputError:
                        continue  # no well in this column is one


def _written(folder: Path, plots: Iterable[tuple[str, Figure]], kind: str) -> list[Path]:
    from opsef_bridge.analysis.plots import save_figure

    written: dict[Path, None] = {}
    for name, figure in plots:
        plain = re.sub(r"[^\w-]+", "_", name).strip("_")
        places = (folder / f"{plain}{end}.{kind}" for end in ("", *range(2, 1000)))
        file = next(place for place in places if place not in written)
        written[save_figure(figure, file)] = None
    return list(written)
