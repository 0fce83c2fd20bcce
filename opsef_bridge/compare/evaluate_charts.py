"""Charts of an evaluation as SVG files of their own: no library, no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from opsef_bridge.compare.markup import Html, element, join

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["error_chart", "f1_chart"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito: they can be told apart with any kind of colour vision."""

DASHES = (None, "7 3", "2 2", "9 3 2 3")
"""Of the lines, one after the other: models differ without colour too."""

LEFT, TOP, WIDTH, HEIGHT, LINE = 60, 36, 420, 260, 18

ERRORS = {
    "missed": "missed",
    "invented": "invented",
    "splits": "over-split",
    "merges": "merged",
}


def f1_chart(pooled: Mapping[str, pd.DataFrame], over: str = "images") -> Html:
    """Return a chart of F1 against the IoU threshold, a line per model, with its interval.

    Parameters
    ----------
    pooled : mapping of name to DataFrame
        ``Evaluation.pooled`` of each model.
    over : str
        What the intervals are over.
    """
    thresholds = sorted({t for table in pooled.values() for t in table["threshold"]})
    low, high = thresholds[0], thresholds[-1]
    if low == high:
        low, high = low - 0.05, high + 0.05

    def place(threshold: float, f1: float) -> str:
        x = LEFT + (threshold - low) / (high - low) * WIDTH
        return f"{x:.1f},{TOP + (1 - f1) * HEIGHT:.1f}"

    parts = [_text(f"F1; bands: 95 %, bootstrap over {over}", LEFT, 20, "start")]
    parts += [_level(level / 5) for level in range(6)]
    parts += [
        _text(f"{t:g}", x, TOP + HEIGHT + 16, "middle")
        for t in _some(thresholds, 10)
        for x in [place(t, 0).partition(",")[0]]
    ]
    for number, table in enumerate(pooled.values()):
        table = table.sort_values("threshold")
        known = table.dropna(subset=["f1_low", "f1_high"])
        corners = [place(*row) for row in known[["threshold", "f1_high"]].to_numpy()]
        corners += [place(*row) for row in known[["threshold", "f1_low"]].to_numpy()[::-1]]
        if corners:
            band = {"points": " ".join(corners), "fill": _colour(number), "fill_opacity": 0.15}
            parts.append(element("polygon", **band))
    for number, (name, table) in enumerate(pooled.items()):
        table = table.sort_values("threshold")
        points = [place(*row) for row in table[["threshold", "f1"]].to_numpy()]
        parts.append(_line(points, number))
        for point, f1, t in zip(points, table["f1"], table["threshold"], strict=True):
            x, y = point.split(",")
            title = element("title", f"{name}: F1 {f1:.3f} at IoU {t:g}")
            parts.append(element("circle", title, cx=x, cy=y, r=3, fill=_colour(number)))
    below = TOP + HEIGHT + 34
    parts.append(_text("IoU threshold", LEFT + WIDTH / 2, below, "middle"))
    parts += _legend(list(pooled), below + 24)
    return _svg("F1 against IoU threshold", below + 24 + LINE * len(pooled), parts)


def error_chart(rows: Mapping[str, Mapping[str, float]], threshold: float) -> Html:
    """Return a bar chart of the kinds of errors, per 100 objects of truth.

    Parameters
    ----------
    rows : mapping of name to mapping
        Of each model ``tp``, ``fp``, ``fn``, ``splits`` and ``merges``, pooled.
    threshold : float
        IoU at which they were counted.
    """
    shares = {}
    for name, row in rows.items():
        truth = max(row["tp"] + row["fn"], 1)
        counts = {"missed": row["fn"], "invented": row["fp"], **row}
        shares[name] = [100 * float(counts[kind]) / truth for kind in ERRORS]
    most = max(max(share) for share in shares.values()) or 1.0
    group = 14 * len(rows) + 16
    left = LEFT + 30
    parts = []
    for place, label in enumerate(ERRORS.values()):
        top = TOP + place * group
        parts.append(_text(label, left - 8, top + 7 * len(rows) + 4, "end"))
        for number, (name, share) in enumerate(shares.items()):
            y, width = top + 14 * number, share[place] / most * (WIDTH - 70)
            title = element("title", f"{name}: {share[place]:.1f} {label} per 100 objects")
            bar = {"x": left, "y": y, "width": f"{width:.1f}", "height": 12}
            parts.append(element("rect", title, **bar, fill=_colour(number)))
            parts.append(_text(f"{share[place]:.1f}", f"{left + width + 5:.1f}", y + 10, "start"))
    below = TOP + group * len(ERRORS) + 12
    heading = f"Errors per 100 objects of truth, at IoU {threshold:g}"
    parts.append(_text(heading, left, 20, "start"))
    parts += _legend(list(rows), below, left)
    return _svg(heading, below + LINE * len(rows), parts)


def _svg(title: str, height: float, parts: Sequence[Html]) -> Html:
    size = {"width": LEFT + WIDTH + 40, "height": round(height) + 8}
    return element(
        "svg",
        element("title", title),
        element("rect", **size, fill="#fff"),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {size['width']} {size['height']}",
        **size,
        font_family="sans-serif",
        font_size=12,
        role="img",
        aria_label=title,
    )


def _level(f1: float) -> Html:
    y = round(TOP + (1 - f1) * HEIGHT, 1)
    line = element("line", x1=LEFT, x2=LEFT + WIDTH, y1=y, y2=y, stroke="#ddd")
    return join(line, _text(f"{f1:g}", LEFT - 8, y + 4, "end"))


def _legend(names: Sequence[str], top: float, bars: float | None = None) -> list[Html]:
    """Name the lines; with `bars`, their left edge, the bars."""
    parts = []
    for number, name in enumerate(names):
        y = top + LINE * number
        if bars is None:
            parts.append(_line([f"{LEFT},{y - 4}", f"{LEFT + 30},{y - 4}"], number))
        else:
            box = {"x": bars, "y": y - 10, "width": 12, "height": 12}
            parts.append(element("rect", **box, fill=_colour(number)))
        parts.append(_text(name, LEFT + 38 if bars is None else bars + 20, y, "start"))
    return parts


def _line(points: Sequence[str], number: int) -> Html:
    style = {"stroke_width": 2, "stroke_dasharray": DASHES[number % len(DASHES)]}
    path = {"points": " ".join(points), "fill": "none", "stroke": _colour(number)}
    return element("polyline", **path, **style)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _text(text: str, x: float | str, y: float, anchor: str) -> Html:
    return element("text", text, x=x, y=y, text_anchor=anchor)


def _some(values: Sequence[float], most: int) -> list[float]:
    """Return at most so many of the values, evenly spread."""
    places = np.linspace(0, len(values) - 1, min(most, len(values)))
    return [values[round(place)] for place in places]
