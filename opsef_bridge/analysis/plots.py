"""Plots of tables, with Matplotlib: for papers as SVG, for slides as PNG.

Each function takes a table and returns a figure; `save_figure` writes it. Text stays text in SVG,
and colours are those of Okabe and Ito, which everyone can tell apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.analysis.embedding import drawn_rows
from opsef_bridge.analysis.statistics import shown
from opsef_bridge.errors import InputError
from opsef_bridge.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["box_plot", "histogram", "plate_map", "save_figure", "scatter"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "^", "s", "D", "v", "P", "X")
LINES = ("-", "--", ":", "-.")
"""When the colours are used up they begin anew, with the next marker or kind of line."""

NONE = "#9a9a9a"
"""Of what has no class, no cluster or no condition."""

NONE_IS_0 = ("class", "cluster")
"""Columns in which 0 says that there is none; a dose of 0 is one."""

MOST_POINTS = 50_000
"""Points of a scatter plot; of more a sample is drawn, and the title says so."""

MOST_BOXES = 40
RESOLUTION = 200
"""Dots per inch of PNG."""


def scatter(
    table: pd.DataFrame,
    x: str,
    y: str,
    colour: str | None = None,
    *,
    labels: tuple[str, str] | None = None,
    title: str = "",
    seed: int = 0,
) -> Figure:
    """Return a scatter plot of two columns.

    Parameters
    ----------
    table : DataFrame
    x, y : str
        Columns of numbers. Rows that lack one are left out.
    colour : str, optional
        Column of kinds (class, cluster, condition, image) that colours the points.
    labels : (str, str), optional
        Of the axes; the names of the columns by default.
    title : str
    seed : int
        Of the sample, where there are more than 50,000 rows.

    Raises
    ------
    InputError
        A column is not there, or holds no numbers.
    """
    _check(table, (x, y))
    some = table[np.isfinite(table[[x, y]].to_numpy(float)).all(axis=1)]
    rows, drawn = drawn_rows(len(some), MOST_POINTS, seed)
    some = some.iloc[rows]
    figure, axes = _figure(6.4, 4.8)
    size = float(np.clip(2e4 / max(len(some), 1), 3, 24))
    how: dict[str, Any] = {
        "s": size, "alpha": 0.7, "linewidths": 0, "rasterized": len(some) > 5_000,
    }  # fmt: skip
    for number, (name, paint, here) in enumerate(_parts(some, colour)):
        part, marker = some[here], MARKERS[number // len(COLOURS) % len(MARKERS)]
        axes.scatter(part[x], part[y], color=paint, marker=marker, label=name, **how)
    first, second = labels or (x, y)
    axes.set(xlabel=first, ylabel=second)
    _legend(axes, colour)
    count = f"{len(some):,} of {len(table):,} objects" if drawn else ""
    axes.set_title("; ".join(filter(None, (title, count))), fontsize=9)
    return figure


def histogram(table: pd.DataFrame, column: str, by: str | None = None, *, unit: str = "") -> Figure:
    """Return a histogram of a column; with `by`, one outline per kind, each of the same area.

    Parameters
    ----------
    table : DataFrame
    column : str
        Numbers.
    by : str, optional
        Column of kinds.
    unit : str
        Shown behind the name of the column.

    Raises
    ------
    InputError
        A column is not there, or holds no numbers.
    """
    _check(table, (column,))
    values = table[column].to_numpy(float)
    known = values[np.isfinite(values)]
    figure, axes = _figure(6.4, 3.6)
    if len(known):
        low, high = np.percentile(known, [0, 99.5])
        count = int(np.clip(np.sqrt(len(known)), 8, 60))
        edges = np.linspace(low, high if high > low else low + 1, count + 1)
        for number, (name, paint, here) in enumerate(_parts(table, by)):
            line = LINES[number // len(COLOURS) % len(LINES)]
            some = values[here]
            some = np.clip(some[np.isfinite(some)], edges[0], edges[-1])
            how: dict[str, Any] = (
                {"histtype": "step", "linewidth": 1.6, "linestyle": line, "density": True}
                if by
                else {"alpha": 0.85}
            )
            if len(some):
                axes.hist(some, edges, color=paint, label=name, **how)
        if known.max() > edges[-1]:
            axes.set_title("the last bin holds the largest 0.5 %", fontsize=8)
    axes.set(xlabel=_name(column, unit), ylabel="density of objects" if by else "objects")
    _legend(axes, by)
    return figure


def box_plot(
    table: pd.DataFrame,
    column: str,
    by: str,
    *,
    violin: bool = False,
    points: str | None = "image",
    unit: str = "",
) -> Figure:
    """Return boxes (or violins) of a column, one per kind, with one dot per image.

    Parameters
    ----------
    table : DataFrame
        One row per object.
    column : str
        Numbers.
    by : str
        Column of kinds, at most 40.
    violin : bool
        Violins instead of boxes.
    points : str or None
        Column of which each value becomes a dot at the median of its objects: the values that
        count (`opsef_bridge.analysis.statistics`).
    unit : str

    Raises
    ------
    InputError
        A column is not there or holds no numbers, or there are too many kinds.

    Notes
    -----
    Boxes hold the middle half of the objects, whiskers reach 1.5 times as far (Tukey).
    """
    _check(table, (column,))
    some = table[np.isfinite(table[column].to_numpy(float))]
    parts = list(_parts(some, by))
    if len(parts) > MOST_BOXES:
        raise InputError(
            f"{by!r} has {len(parts)} values, the limit is {MOST_BOXES}",
            hint="Choose a column with fewer kinds, such as condition or class",
        )
    figure, axes = _figure(max(3.6, 0.7 * len(parts) + 1.6), 4.2)
    values = [some[column].to_numpy(float)[here] for _, _, here in parts]
    places = np.arange(1, len(parts) + 1)
    if violin and parts and all(len(np.unique(one)) > 1 for one in values):
        made = axes.violinplot(values, places, showmedians=True, widths=0.8)
        for body, (_, paint, _) in zip(made["bodies"], parts, strict=True):
            body.set(facecolor=paint, alpha=0.35)
    elif parts:
        boxes = axes.boxplot(values, positions=places, showfliers=False, patch_artist=True)
        for box, (_, paint, _) in zip(boxes["boxes"], parts, strict=True):
            box.set(facecolor=paint, alpha=0.35)
        for line in boxes["medians"]:
            line.set(color="black")
    if points and points in some:
        for place, (_, paint, here) in zip(places, parts, strict=True):
            medians = some[here].groupby(points)[column].median()
            shift = np.linspace(-0.12, 0.12, len(medians)) if len(medians) > 1 else [0.0]
            axes.scatter(place + np.asarray(shift), medians, s=16, color=paint, edgecolor="white",
                         linewidth=0.5, zorder=3)  # fmt: skip
        axes.set_title(f"dots: median of each {points}", fontsize=8)
    names = [f"{name}\n{len(one):,}" for (name, _, _), one in zip(parts, values, strict=True)]
    turned = max((len(name) for name, _, _ in parts), default=0) > 10
    axes.set_xticks(places, names, rotation=40 if turned else 0, ha="right" if turned else "center")
    axes.set(ylabel=_name(column, unit), xlabel=by)
    return figure


def plate_map(grid: NDArray[np.float64], title: str = "") -> Figure:
    """Return a heat map of a plate.

    Parameters
    ----------
    grid : (rows, columns) ndarray of float
        As `opsef_bridge.analysis.plate.plate_grid` makes it; NaN is left grey.
    title : str
        What is shown.
    """
    rows, columns = grid.shape
    figure, axes = _figure(0.42 * columns + 1.6, 0.42 * rows + 1.0)
    axes.set_facecolor("#e4e4e4")
    shown = axes.imshow(np.ma.masked_invalid(grid), cmap="viridis")
    letters = [_row_name(row) for row in range(rows)]
    axes.set_xticks(range(columns), [str(column + 1) for column in range(columns)], fontsize=7)
    axes.set_yticks(range(rows), letters, fontsize=7)
    axes.xaxis.tick_top()
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="both", length=0)
    figure.colorbar(shown, ax=axes, shrink=0.8)
    axes.set_title(title, fontsize=9)
    return figure


def save_figure(figure: Figure, file: Path) -> Path:
    """Write a figure; the ending of the file says how.

    Raises
    ------
    InputError
        The ending is neither ``.png`` nor ``.svg`` nor ``.pdf``.
    """
    kind = file.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg", "pdf"):
        raise InputError(f"{file.name} is of no kind of plot", hint="Name it .png, .svg or .pdf")
    import matplotlib as mpl

    # No date in it: the same table gives the same file.
    no_date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with atomic_path(file) as temporary, mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(temporary, format=kind, dpi=RESOLUTION, metadata=no_date)
    return file


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure without a window; pyplot would keep it in memory for ever."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _parts(table: pd.DataFrame, by: str | None) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Yield (name, colour, which rows) of each kind; what has none comes first, in grey."""
    if by is None:
        yield "", COLOURS[0], np.ones(len(table), bool)
        return
    if by not in table:
        raise InputError(f"the table has no column {by!r}", hint="See tables/columns.md")
    column = table[by]
    empty = (column.isna() | (column.astype(str) == "")).to_numpy()
    if by in NONE_IS_0:
        empty |= (column == 0).to_numpy()
    if empty.any():
        yield "none", NONE, empty
    for number, kind in enumerate(sorted(column[~empty].unique())):
        here = (column == kind).to_numpy() & ~empty
        yield shown(kind), COLOURS[number % len(COLOURS)], here


def _check(table: pd.DataFrame, columns: Sequence[str]) -> None:
    for name in columns:
        if name not in table:
            raise InputError(f"the table has no column {name!r}", hint="See tables/columns.md")
        if table[name].dtype.kind not in "iufb":
            raise InputError(f"the column {name!r} holds no numbers", hint="Choose another one")


def _legend(axes: Axes, by: str | None) -> None:
    handles, names = axes.get_legend_handles_labels()
    if by and handles:
        shown = 20
        axes.legend(handles[:shown], names[:shown], title=by, fontsize=7, title_fontsize=8,
                    frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))  # fmt: skip


def _name(column: str, unit: str) -> str:
    return f"{column} ({unit})" if unit else column


def _row_name(row: int) -> str:
    return (chr(ord("A") + row // 26 - 1) if row >= 26 else "") + chr(ord("A") + row % 26)
