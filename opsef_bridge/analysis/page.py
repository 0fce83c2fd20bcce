"""``plots/objects.html``: one page to explore the objects of a project, and to give them classes.

Pure: a table and thumbnails in, the text of the page out; equal data give equal text. The page
needs no network and no library: its policy forbids every connection, and only its own script
runs. ``page.js`` reads the table and finds points, ``page_draw.js`` draws and shows the card of a
point, ``page_select.js`` selects, ``page_classes.js`` has the legend and controls, gives classes
and writes the file that ``opsef classify --from`` takes. ``page_save.js`` sends the classes to the
service that shows the page, if one does: `for_service` and `service_policy` are for that one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from opsef_bridge.analysis.page_colours import class_colours, kind_colours, scale
from opsef_bridge.analysis.thumbnails import Sheet
from opsef_bridge.compare.markup import Html, element
from opsef_bridge.compare.words import count_of
from opsef_bridge.errors import InputError
from opsef_bridge.files import key_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "MOST_POINTS",
    "PLACE",
    "PageData",
    "for_service",
    "number_columns",
    "render_page",
    "service_policy",
    "word_columns",
]

PLACE = ("plots", "objects.html")
"""Where `opsef analyse` writes the page, below the folder of the project."""

MOST_POINTS = 20_000
"""Points that the page is made for: it answers at once."""

SCRIPTS = ("page.js", "page_draw.js", "page_select.js", "page_save.js", "page_classes.js")
"""Parts of the script, in the order in which they run."""

KEYS = ("image", "run", "variant", "revision")

NO_NUMBER = re.compile(r"label|class|cluster|predicted_class|bbox_.+|pixel_size_.+|[zyx]_from")
"""Columns of numbers that are names, or say nothing along an axis."""

NO_WORD = re.compile(r"class_name|unit")

KINDS = ("cluster", "predicted_class")
"""Columns of whole numbers whose values are kinds."""


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
    head = element(
        "head",
        element("meta", charset="utf-8"),
        _own_policy(),
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
        element("script", Html(_script())),
    )  # fmt: skip
    return f'<!DOCTYPE html>\n<html lang="en">{head}{body}</html>\n'


def for_service(text: str, told: Mapping[str, Any]) -> str:
    """Return a page as a service shows it: it is told where classes go.

    Its own policy, which forbids every connection, is taken out: the service must send the
    `service_policy`.

    Parameters
    ----------
    text : str
        Of `render_page`.
    told : mapping
        ``project``, the id of the project in the service; ``author``, who looks at it; ``key``,
        which the page sends along; ``newest``, the newest revision of images by id.

    Raises
    ------
    InputError
        The page is of another version: its script would not run.
    """
    own = str(_own_policy())
    if own not in text[:4096]:
        raise InputError(
            "the page of objects is of another version of this program",
            hint="Make it anew: opsef analyse",
        )
    return text.replace(own, element("meta", name="opsef-service", content=_as_json(told)), 1)


def service_policy() -> str:
    """Return the Content-Security-Policy of a page that a service shows.

    Only this version's script runs, whatever the file holds, and it reaches that service only.
    """
    return f"{_policy()}; connect-src 'self'; frame-ancestors 'none'"


def _own_policy() -> Html:
    # Quotes of the policy stay as they are: the page is its only reader.
    return Html(f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">')


def _policy() -> str:
    digest = base64.b64encode(hashlib.sha256(_script().encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _script() -> str:
    return "".join(map(_asset, SCRIPTS))


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
        "classColours": class_colours(),
        "kindColours": kind_colours(),
        "scale": scale(),
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
                element("p", _button("Export classes", id="export"),
                        _button("Save classes", id="save", hidden=True), class_="tools"),
                element("ul", id="outcome", class_="cautions", role="status", hidden=True),
                element("p", "Classes stay in this browser. To bring them to the objects, export "
                        "them, then: ", element("code", "opsef classify --from FILE"),
                        class_="hint", id="keeping"),
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
