"""Figures of a training: curves, F1 over thresholds, and what the axes do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opsef_bridge.compare.evaluate_charts import COLOURS
from opsef_bridge.train.report_tables import Scored, pooled_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_all"]

MOST = 12
"""Networks that a figure of F1 shows."""


def draw_all(
    scored: Sequence[Scored],
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    axes: Sequence[Mapping[str, Any]],
) -> dict[str, Figure]:
    """Return the figures that there is something for, by name."""
    found = {}
    if curves:
        found["curves"] = _curves(curves)
    judged = [one for one in scored if len(one.counts.get("test", ()))]
    if judged:
        found["f1"] = _f1(judged)
    if axes:
        found["axes"] = _axes(axes)
    return found


def _curves(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """A small plot per network: loss, and loss on val where it was taken."""
    from matplotlib.figure import Figure

    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.5 * rows), layout="constrained")
    for number, (name, points) in enumerate(curves.items(), 1):
        plot = figure.add_subplot(rows, columns, number)
        steps = [row["step"] for row in points]
        plot.plot(steps, [row["loss"] for row in points], color=COLOURS[0], label="training")
        judged = [(row["step"], row["val_loss"]) for row in points if row["val_loss"] is not None]
        if judged:
            plot.plot(*zip(*judged, strict=True), color=COLOURS[1], marker=".", label="val")
        plot.set_title(name, fontsize=9)
        plot.set(xlabel="step", ylabel="loss")
        plot.legend(fontsize=7)
    return figure


def _f1(scored: Sequence[Scored]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    plot = figure.add_subplot()
    for number, one in enumerate(scored[:MOST]):
        table = pooled_table(one.counts["test"], one.fields["test"])
        colour = COLOURS[number % len(COLOURS)]
        style = "-" if one.network.trained else "--"
        plot.plot(table["threshold"], table["f1"], style, color=colour, label=one.network.id)
        plot.fill_between(
            table["threshold"], table["f1_low"], table["f1_high"], color=colour, alpha=0.1, lw=0
        )
    plot.set(xlabel="IoU threshold", ylabel="F1 on test", ylim=(0, 1))
    plot.legend(fontsize=8, ncols=2)
    return figure


def _axes(axes: Sequence[Mapping[str, Any]]) -> Figure:
    """A bar per value of each axis: mean F1 at 0.7."""
    from matplotlib.figure import Figure

    names = [f"{row['axis']}: {row['value']}"[:60] for row in axes]
    figure = Figure(figsize=(7, 0.9 + 0.3 * len(names)), layout="constrained")
    plot = figure.add_subplot()
    order = list(dict.fromkeys(row["axis"] for row in axes))
    colours = [COLOURS[order.index(row["axis"]) % len(COLOURS)] for row in axes]
    plot.barh(range(len(names)), [row["f1_0.7"] for row in axes], color=colours)
    plot.set_yticks(range(len(names)), names, fontsize=8)
    plot.invert_yaxis()
    plot.set(xlabel="mean F1 at IoU 0.7 on test", xlim=(0, 1))
    return figure
