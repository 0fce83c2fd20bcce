"""``opsef analyse``: the tables of a project, statistics by image, plots, one page to explore."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from opsef_bridge.analysis.clusters import Kind, cluster
from opsef_bridge.analysis.conditions import add_conditions
from opsef_bridge.analysis.dictionary import describe, units_shown
from opsef_bridge.analysis.embedding import Method, embed
from opsef_bridge.analysis.exploring import write_page
from opsef_bridge.analysis.features import features
from opsef_bridge.analysis.gather import (
    Gathered,
    Tell,
    dimensions_of,
    gather_tables,
    refuse_mixed,
)
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

__all__ = ["Analysed", "Wish", "analyse", "explored"]

SHOWN = ("area", "circularity", "mean_intensity")
"""Columns that are plotted where none are named; ratios come along."""

MOST_PLATES = 12


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
        Condition that the others are compared with; the first in alphabetical order, of numbers
        the smallest.
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
        A column that is asked for is not there, or too few objects; or planes and volumes are to
        be compared. The tables are written before.

    Notes
    -----
    Where some images are planes and some are volumes, the tables hold both, and it is said that
    nothing else is made.
    """
    wish = wish or Wish()
    found = gather_tables(project, images, variant=variant, revision=revision, tell=tell)
    found, said, conditions = add_conditions(project, found)
    tell(Event(0, 1, "comparing"))
    ndim = dimensions_of(found.objects)
    if ndim == 0:
        return _only_tables(project, found, wish, said)
    try:
        objects, more, axes = explored(found.objects, wish, conditions)
    except InputError:
        _write(project, _first_tables(found.objects, found.images), ndim)
        raise
    by = wish.by or _default_by(conditions, objects)
    tables = _first_tables(objects, found.images)
    columns = list(wish.columns) or [name for name in objects if _is_shown(name)]
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


def _only_tables(project: Project, found: Gathered, wish: Wish, said: Sequence[str]) -> Analysed:
    """Write the tables of planes and volumes together; refuse any further wish."""
    tables = _first_tables(found.objects, found.images)
    files = _write(project, tables, 0)
    files.append(write_columns(project.tables_folder, tables, 0))
    default = Wish()
    embed = tuple(wish.embed) not in ((), default.embed)
    try:
        refuse_mixed(found.objects)
    except InputError as error:
        if embed or wish.by or wish.columns or wish.cluster or wish.of:
            raise
        said = [*said, f"Only tables, no comparison and no plots: {error}"]
    sentences = (*found.said, *said)
    return Analysed(found.objects, found.images, None, tuple(files), sentences, found.failed)


def _first_tables(objects: pd.DataFrame, images: pd.DataFrame) -> dict[str, pd.DataFrame]:
    tables = {"objects": objects, "images": images}
    return tables | ({"wells": well_summary(images)} if "well" in images else {})


def _write(project: Project, tables: dict[str, pd.DataFrame], ndim: int) -> list[Path]:
    files: list[Path] = []
    for name, table in tables.items():
        decimal = project.config.analyse.decimal
        files += write_table(project.tables_folder, name, table, decimal=decimal, ndim=ndim)
    return files


def explored(
    objects: pd.DataFrame, wish: Wish, conditions: Sequence[str] = ()
) -> tuple[pd.DataFrame, list[str], dict[str, tuple[str, str]]]:
    """Add embeddings and clusters to the table of objects.

    Parameters
    ----------
    objects : DataFrame
    wish : Wish
    conditions : sequence of str
        Columns of `objects` that are no features unless they are asked for.

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
        made = features(objects, wish.of, without=conditions)
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


def _default_by(conditions: Sequence[str], objects: pd.DataFrame) -> str | None:
    for column in (*conditions, "class", "group"):
        if column in objects and objects[column].nunique() > 1:
            return column
    return None


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
            table = compare_conditions(values, wish.reference, seed=wish.seed, unit=wish.unit)
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
