"""``plots/objects.html``: one page to explore the objects of a project, and to give them classes.

Pure: a table and thumbnails in, the text of the page out; equal data give equal text. The page
needs no network and no library: its policy forbids every connection, and only its own script
runs. ``page.js`` reads the table and finds points, ``page_draw.js`` draws and shows the card of a
point, ``page_select.js`` selects, ``page_classes.js`` has the legend and controls, gives classes
and writes the file that ``opsef classify --from`` takes.
"""

from __future__ import annotations

import base64
import colorsys
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from opsef_bridge.analysis.thumbnails import Sheet
from opsef_bridge.compare.markup import Html, element
from opsef_bridge.compare.words import count_of
from opsef_bridge.files import key_of
from opsef_bridge.rois.objects import LARGEST_CLASS
from opsef_bridge.rois.palette import colour_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MOST_POINTS", "PageData", "number_columns", "render_page", "word_columns"]

MOST_POINTS = 20_000
"""Points that the page is made for: it answers at once."""

SCRIPTS = ("page.js", "page_draw.js", "page_select.js", "page_classes.js")
"""Parts of the script, in the order in which they run."""

KEYS = ("image", "run", "variant", "revision")

NO_NUMBER = re.compile(r"label|class|cluster|predicted_class|bbox_.+|pixel_size_.+|[zyx]_from")
"""Columns of numbers that are names, or say nothing along an axis."""

NO_WORD = re.compile(r"class_name|unit")

KINDS = ("cluster", "predicted_class")
"""Columns of whole numbers whose values are kinds."""

OKABE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31")
VIRIDIS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30",
           "#fde725")  # fmt: skip
NONE = "#9a9a9a"


@dataclass(frozen=True)
class PageData:
    """What the page shows.

    Parameters
    ----------
    project : str
        Its name.
    objects : DataFrame
        One row an object; ``image``, ``label``, ``class``, ``run``, ``variant`` and ``revision``
        must be there.
    sheets : sequence of Sheet
        Thumbnails.
    places : (N, 2) ndarray of int
        Of each object its sheet and its number there; -1 where it has no thumbnail.
    units : mapping of str to str
        Of columns.
    class_names : mapping of int to str
    x, y : str
        Columns of numbers that are shown first; the first two by default.
    colour : str
        Column that colours the points first.
    total : int
        Objects that there are, if `objects` is a sample.
    said : sequence of str
        Sentences above the plot.
    """

    project: str
    objects: pd.DataFrame
    sheets: Sequence[Sheet] = ()
    places: np.ndarray | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    class_names: Mapping[int, str] = field(default_factory=dict)
    x: str = ""
    y: str = ""
    colour: str = "class"
    total: int = 0
    said: Sequence[str] = ()


def number_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns that can be an axis.

    Examples
    --------
    >>> import pandas as pd
    >>> number_columns(pd.DataFrame({"label": [1], "area": [2.0], "well": ["A1"], "cluster": [0]}))
    ['area']
    """
    return [
        name
        for name in table
        if table[name].dtype.kind in "iufb" and not NO_NUMBER.fullmatch(str(name))
    ]


def word_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns whose values are kinds of objects; first those that name objects.

    Examples
    --------
    >>> import pandas as pd
    >>> word_columns(pd.DataFrame({"image": ["a"], "area": [2.0], "well": ["A1"], "cluster": [0]}))
    ['image', 'well', 'cluster']
    """
    return [
        name
        for name in table
        if (table[name].dtype.kind not in "iuf" or name in KINDS)
        and not NO_WORD.fullmatch(str(name))
    ]


def render_page(page: PageData) -> str:
    """Return the text of the page."""
    script = "".join(map(_asset, SCRIPTS))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        # Quotes of the policy stay as they are: the page is its only reader.
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{page.project} · objects"),
        element("style", Html(_asset("page.css"))),
    )
    body = element(
        "body",
        _header(page),
        element("main", element("div", _plot_panel(), _side_panel(), class_="panels"), _summary()),
        element("div", element("canvas"), element("dl"), id="card", hidden=True),
        element("p", id="said", role="status"),
        # No text of a file can end this element.
        element("script", Html(_as_json(_payload(page)).replace("<", "\\u003c")), id="data",
                type="application/json"),
        element("script", Html(script)),
    )  # fmt: skip
    return f'<!DOCTYPE html>\n<html lang="en">{head}{body}</html>\n'


def _payload(page: PageData) -> dict[str, Any]:
    table = page.objects
    numbers = number_columns(table)
    words = [name for name in word_columns(table) if name in KEYS or table[name].nunique() > 1]
    places = page.places if page.places is not None else np.full((len(table), 2), -1)
    first = [*numbers, ""][0]
    colours = ["class", *words, *numbers]
    identity = [table[name].tolist() for name in ("image", "label", "run", "variant", "revision")]
    return {
        "project": page.project,
        "key": key_of("objects", *identity),
        "count": len(table),
        "numbers": {name: _packed(table[name], np.float32) for name in numbers},
        "words": {name: _kinds(table[name]) for name in words},
        "labels": _packed(table["label"], np.int32),
        "classes": _packed(table["class"], np.uint8),
        "places": _packed(places, np.int32),
        "sheets": [vars(sheet) for sheet in page.sheets],
        "units": {name: page.units.get(name, "") for name in numbers},
        "classNames": {str(number): name for number, name in page.class_names.items()},
        "classColours": [_rgb(NONE), *(list(colour_of(k)) for k in range(1, LARGEST_CLASS + 1))],
        "kindColours": _kind_colours(),
        "scale": _scale(),
        "x": page.x if page.x in numbers else first,
        "y": page.y if page.y in numbers else (numbers[1] if len(numbers) > 1 else first),
        "colour": page.colour if page.colour in colours else "class",
    }


def _packed(values: Any, dtype: type) -> str:
    """Return numbers as base64 of their little-endian bytes."""
    array = np.ascontiguousarray(np.asarray(values), np.dtype(dtype).newbyteorder("<"))
    return base64.b64encode(array.tobytes()).decode()


def _kinds(column: pd.Series) -> dict[str, Any]:
    """Return the kinds of a column in order, and which one each row is; "" is none."""
    texts = [_told(value) for value in column.tolist()]
    names = sorted(set(texts), key=lambda one: (one.isdecimal() and int(one), one))
    at = {name: number for number, name in enumerate(names)}
    return {"names": names, "codes": _packed([at[text] for text in texts], np.uint16)}


def _told(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    # 0 is no cluster; what is not equal to itself is missing.
    return "" if value is None or value != value or value == 0 else str(value)


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _rgb(colour: str) -> list[int]:
    return [int(colour[k : k + 2], 16) for k in (1, 3, 5)]


def _kind_colours() -> list[list[int]]:
    """Colours that everyone can tell apart first, then some that all differ."""
    more = (
        colorsys.hsv_to_rgb(k * 0.618034 % 1, 0.65, (0.85, 0.6)[k % 2])
        for k in range(len(OKABE), 256)
    )
    parts = ([round(255 * part) for part in colour] for colour in more)
    return [*(_rgb(one) for one in OKABE), *parts]


def _scale() -> list[list[int]]:
    """256 colours from low to high."""
    stops = np.array([_rgb(one) for one in VIRIDIS])
    at = np.linspace(0, len(stops) - 1, 256)
    return np.rint(
        np.column_stack([np.interp(at, range(len(stops)), stops[:, k]) for k in range(3)])
    ).astype(int).tolist()  # fmt: skip


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _header(page: PageData) -> Html:
    count, images = len(page.objects), page.objects["image"].nunique()
    what = f"{count_of(count, 'object')} of {count_of(images, 'image')}"
    if page.total > count:
        what += f", drawn at random from {page.total:,}"
    return element(
        "header",
        element("p", "OpSeF objects", class_="kicker"),
        element("h1", page.project),
        element("p", what, class_="date"),
        element("ul", *(element("li", one) for one in page.said), class_="cautions")
        if page.said
        else None,
        element("noscript", "This page draws with a script; the browser has scripts turned off."),
    )


def _button(text: str, label: str = "", **more: Any) -> Html:
    return element("button", text, type="button", aria_label=label or None, title=label or None,
                   **more)  # fmt: skip


def _chosen(name: str, text: str, *more: Html) -> Html:
    return element("span", element("label", text, " ", element("select", id=name)), *more,
                   class_="field")  # fmt: skip


def _plot_panel() -> Html:
    def log(axis: str) -> Html:
        return element("label", element("input", type="checkbox", id=f"log-{axis}"), "log")

    def mode(value: str, text: str) -> Html:
        radio = element("input", type="radio", name="mode", value=value, checked=value == "lasso")
        return element("label", radio, text)

    return element(
        "section",
        element("div", _chosen("x", "X", log("x")), _chosen("y", "Y", log("y")),
                _chosen("colour", "Colour"), class_="tools"),
        element("div",
                element("fieldset", element("legend", "Drag to"), mode("lasso", "lasso"),
                        mode("box", "select a box"), mode("pan", "move")),
                element("span", _button("-", "Zoom out", id="out"),
                        _button("+", "Zoom in", id="in"), _button("Whole plot", id="home"),
                        class_="field"),
                class_="tools"),
        element("div", element("canvas", id="points"),
                element("canvas", id="marks", tabindex=0, role="application",
                        aria_label="Scatter plot of the objects", aria_describedby="keys"),
                id="plot"),
        element("p", id="missing", class_="hint"),
        element("p", "Wheel: zoom. Shift while you drag adds to the selection, Alt takes away. "
                "With the plot focused: arrows move, + and - zoom, Home shows all, N and P go "
                "from object to object, Space selects it, 0 to 9 give the selection a class.",
                class_="hint", id="keys"),
        aria_label="Plot",
    )  # fmt: skip


def _side_panel() -> Html:
    return element(
        "aside",
        element("section", element("h2", "Colours"), element("div", id="legend"),
                element("p", _button("Show all", id="legend-all"),
                        _button("Hide all", id="legend-none"), class_="tools", id="legend-tools")),
        element("section", element("h2", "Selection"), element("p", id="chosen"),
                element("p", _button("All in view", id="in-view"), _button("Invert", id="invert"),
                        _button("Clear", id="clear"), class_="tools"),
                element("form",
                        element("label", "Class ", element("input", id="class", list="class-names",
                                autocomplete="off", size=12, required=True,
                                placeholder="number or name")),
                        element("datalist", id="class-names"),
                        element("button", "Set class", id="set"), id="give", class_="tools"),
                element("p", _button("No class", id="unset"), _button("Undo", id="undo"),
                        class_="tools"),
                element("p", _button("Export classes", id="export"), class_="tools"),
                element("p", "Classes stay in this browser. To bring them to the objects, export "
                        "them, then: ", element("code", "opsef classify --from FILE"),
                        class_="hint"),
                element("p", id="new-names", class_="hint")),
        element("section", element("h2", "Pictures"),
                element("label", element("input", type="checkbox", id="outlines", checked=True),
                        "outlines"),
                element("p", id="gallery-said", class_="hint"), element("div", id="gallery")),
    )  # fmt: skip


def _summary() -> Html:
    head = ("Column", "Unit", "Median of the selection", "Median of all")
    table = element(
        "table",
        element("thead", element("tr", *(element("th", name, scope="col",
                class_="number" if k > 1 else None) for k, name in enumerate(head)))),
        element("tbody", id="medians"),
    )  # fmt: skip
    return element(
        "section",
        element("h2", "Summary"),
        element("div", table, class_="scroll", tabindex=0, role="region", aria_label="Summary"),
    )
