"""Charts of the report as HTML tables and inline SVG: no library, no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from opsef_bridge.compare.markup import Html, element, join

__all__ = ["family_mark", "heat_table", "knob_plots"]

_VIRIDIS = np.array(
    [(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], float
)
_LABEL, _WIDTH, _STRIP = 130, 300, 30
"""Pixels of a strip plot: names on the left, the axis, the height of a value's strip."""


def family_mark(family: str) -> Html:
    """Return a dot in the colour of a family: the same in every table of every page."""
    hue = int.from_bytes(blake2b(family.encode(), digest_size=2).digest(), "big") % 360
    return element("i", class_="mark", style=f"--hue:{hue}", title=family)


def heat_table(
    values: np.ndarray, names: Sequence[str], titles: Sequence[str], families: Sequence[str]
) -> Html:
    """Return a square matrix of values from 0 to 1 as a table with coloured cells.

    Parameters
    ----------
    values : (n, n) ndarray
    names, titles, families : sequences of n str
        Of rows and columns alike; titles show when the pointer rests on a name.
    """
    heads = [
        element("th", element("span", name), scope="col", title=title)
        for name, title in zip(names, titles, strict=True)
    ]
    rows = [
        element(
            "tr",
            element("th", family_mark(family), name, scope="row", title=title),
            *(
                _heat_cell(value, f"{name} with {other}")
                for value, other in zip(row, names, strict=True)
            ),
        )
        for row, name, title, family in zip(values, names, titles, families, strict=True)
    ]
    corner = element("td")
    table = element(
        "table",
        element("thead", element("tr", corner, *heads)),
        element("tbody", *rows),
        class_="heat",
    )
    return element(
        "div", table, class_="scroll", tabindex=0, role="region", aria_label="Agreement matrix"
    )


def _heat_cell(value: float, title: str) -> Html:
    place = float(np.clip(value, 0, 1)) * (len(_VIRIDIS) - 1)
    colour = [np.interp(place, range(len(_VIRIDIS)), channel) for channel in _VIRIDIS.T]
    red, green, blue = (round(c) for c in colour)
    # Black on what is lighter than this, else white, has a contrast of 4.5 or more (WCAG 2).
    linear = ((np.array(colour) / 255 + 0.055) / 1.055) ** 2.4
    ink = "#000" if linear @ (0.2126, 0.7152, 0.0722) > 0.179 else "#fff"
    style = f"background:rgb({red},{green},{blue});color:{ink}"
    return element("td", f"{value:.2f}".replace("0.", ".", 1), style=style, title=title)


def knob_plots(
    knobs: Sequence[Mapping[str, Any]], scores: Sequence[float], titles: Sequence[str]
) -> list[Html]:
    """Return a strip plot per knob that was turned, the one that matters most first.

    Parameters
    ----------
    knobs : sequence of mappings
        Of each variant, the value of every knob that it has.
    scores : sequence of float
        Of each variant, from 0 to 1.
    titles : sequence of str
        Shown when the pointer rests on a variant's dot.
    """
    plots = []
    for knob in dict.fromkeys(name for values in knobs for name in values):
        strips: dict[Any, list[int]] = {}
        for index, values in enumerate(knobs):
            if knob in values:
                strips.setdefault(values[knob], []).append(index)
        if len(strips) > 1:
            ordered = sorted(strips, key=lambda value: (isinstance(value, str), value))
            strips = {value: strips[value] for value in ordered}
            medians = [float(np.median([scores[i] for i in own])) for own in strips.values()]
            plots.append((max(medians) - min(medians), knob, strips))
    plots.sort(key=lambda plot: -plot[0])
    return [_strip_plot(*plot, scores, titles) for plot in plots]


def _strip_plot(
    spread: float,
    knob: str,
    strips: Mapping[Any, Sequence[int]],
    scores: Sequence[float],
    titles: Sequence[str],
) -> Html:
    height = _STRIP * len(strips) + 18
    parts = [_gridline(tick / 4, height - 18) for tick in range(5)]
    for row, (value, members) in enumerate(strips.items()):
        middle = _STRIP * (row + 0.5)
        text = f"{value:g}" if isinstance(value, float) else str(value)
        parts.append(element("text", _shortened(text), x=_LABEL - 8, y=middle + 4, class_="name"))
        for place, index in enumerate(members):
            shift = (place * 0.618 % 1 - 0.5) * (_STRIP - 14)  # apart, and the same every time
            title = element("title", f"{titles[index]}: {scores[index]:.3f}")
            y = f"{middle + shift:.1f}"
            parts.append(element("circle", title, cx=f"{_x(scores[index]):.1f}", cy=y, r=4))
        median = f"{_x(float(np.median([scores[i] for i in members]))):.1f}"
        top, low = middle - _STRIP / 2 + 4, middle + _STRIP / 2 - 4
        parts.append(element("line", x1=median, x2=median, y1=top, y2=low, class_="median"))
    svg = element(
        "svg",
        *parts,
        viewBox=f"0 0 {_LABEL + _WIDTH + 12} {height}",
        role="img",
        aria_label=f"Agreement by {knob}",
    )
    caption = element("figcaption", element("b", knob), f" medians differ by {spread:.2f}")
    return element("figure", caption, svg)


def _x(score: float) -> float:
    return _LABEL + score * _WIDTH


def _shortened(text: str) -> str:
    return text if len(text) <= 18 else text[:17] + "…"


def _gridline(score: float, height: int) -> Html:
    x = _x(score)
    line = element("line", x1=x, x2=x, y1=0, y2=height, class_="grid")
    return join(line, element("text", f"{score:g}", x=x, y=height + 14, class_="tick"))
