"""The contact sheet of the report: a column per image, a row per variant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opsef_bridge.compare.markup import Html, element
from opsef_bridge.compare.report_charts import family_mark
from opsef_bridge.compare.report_data import Drawing, Entry, Group, Picture
from opsef_bridge.compare.report_pictures import SUPPORT, palettes
from opsef_bridge.compare.report_verdicts import said_of_cell, said_of_variant
from opsef_bridge.compare.words import count_of

__all__ = ["FIRST_ROWS", "contact_sheet"]

FIRST_ROWS = 12
"""Variants of the contact sheet that show at once; a button shows the rest."""


def contact_sheet(number: int, group: Group) -> Html:
    """Return the section of a group's contact sheet; `number` is that of the group."""
    drawn = {variant for _, variant in group.drawings}
    shown = [entry for i, entry in enumerate(group.entries) if i < FIRST_ROWS or entry.id in drawn]
    of = {(o["image"], o["variant"]): o for o in group.outcomes}
    names = [element("td", "variant")]
    bare = [element("th", "bare image", scope="row")]
    for i, picture in enumerate(group.pictures):
        name = element("th", element("span", picture.id), scope="col", title=picture.source)
        names.append(name)
        bare.append(_bare(f"p{number}-{i}", picture))
    rows = [element("tr", *bare, class_="bare")]
    for index, entry in enumerate(shown):
        cells = [
            _cell(f"p{number}-{i}", picture, entry, group, of.get((picture.id, entry.id)))
            for i, picture in enumerate(group.pictures)
        ]
        more = "more" if index >= FIRST_ROWS else None
        rows.append(element("tr", _row_head(entry, group), *cells, class_=more))
    more = len(shown) - FIRST_ROWS
    button = element("button", f"Show {count_of(more, 'more variant')}", type="button",
                     class_="all") if more > 0 else None  # fmt: skip
    return element(
        "section",
        element("h3", "Contact sheet"),
        element("p", "Rows in the order of rank; the number below a picture counts objects. "
                "Click one to enlarge it: arrow keys step through images and variants, "
                "Space hides the outlines, g, o, u and m say what you think of it: good, over "
                "(objects are split), under (they run together) or missed; the same key again "
                "takes it back.", class_="hint"),
        element("p", class_="hint keeping"),
        _tools(group),
        element("div", element("table", element("thead", element("tr", *names)),
                               element("tbody", *rows)),
                class_="scroll sheet", tabindex=0, role="region", aria_label="Contact sheet"),
        button,
    )  # fmt: skip


def _bare(base: str, picture: Picture) -> Html:
    if not picture.uri:
        return element("td", element("span", picture.note, class_="bad"))
    view = element("button", type="button", class_=f"cell {base}",
                   aria_label=f"{picture.id}, bare image", data_image=picture.id,
                   data_text=picture.note)  # fmt: skip
    return element("td", view, element("span", class_="count", data_image=picture.id))


def _tools(group: Group) -> Html:
    def slider(name: str, low: float, high: float, start: float) -> Html:
        attributes = {"min": low, "max": high, "value": start, "step": (high - low) / 100}
        ends = element("input", type="range", class_=name.lower(), **attributes)
        return element("label", name, " ", ends)

    box = element("input", type="checkbox", class_="outlines", checked=True)
    return element(
        "div", slider("Size", 90, 400, 180), slider("Brightness", 0.5, 4.5, 1),
        element("label", box, " Outlines"), *(_support() if group.supported else ()),
        element("button", "Export verdicts", type="button", class_="export", hidden=True),
        class_="tools",
    )  # fmt: skip


def _support() -> tuple[Html, Html]:
    """The switch that colours outlines by support, and its legend."""
    plain, coloured = palettes()
    box = element("input", type="checkbox", class_="support", data_plain=plain,
                  data_coloured=coloured)  # fmt: skip
    ends = [0.0, *SUPPORT]
    steps = [
        element("span", element("i", style=f"background:rgb{colour}".replace(" ", "")),
                f"{low:g} to {high:g}" if low else f"below {high:g}")
        for low, (high, colour) in zip(ends, SUPPORT.items(), strict=False)
    ]  # fmt: skip
    legend = element(
        "span", "Support of an object by the other model families: ", *steps, class_="legend"
    )
    return element("label", box, " Support"), legend


def _row_head(entry: Entry, group: Group) -> Html:
    figures = [f"agreement {entry.agreement:.3f}"]
    if group.answers:
        figures.insert(0, f"score {entry.score:.3f}")
    caption = " · ".join((f"#{entry.rank} {entry.id}", entry.caption, *figures))
    return element(
        "th",
        element("b", f"#{entry.rank} {entry.id}"),
        element("span", entry.caption),
        element("small", family_mark(entry.family), " · ".join(figures)),
        said_of_variant("small", group.verdicts, entry.id),
        scope="row",
        data_caption=caption,
    )


def _cell(
    base: str, picture: Picture, entry: Entry, group: Group, outcome: Mapping[str, Any] | None
) -> Html:
    if outcome is None:
        return element("td", element("span", "not run", class_="none"))
    if outcome["status"] == "failed":
        why = " ".join(filter(None, (outcome["message"] + ".", outcome["hint"])))
        code = element("button", outcome["code"], type="button", class_="cell failed", title=why,
                       data_image=picture.id, data_text=f"failed: {why}",
                       aria_label=f"{entry.id} failed on {picture.id}: {why}")  # fmt: skip
        return element("td", code, _count("failed", picture))
    objects = count_of(int(outcome["objects"]), "object")
    drawing: Drawing | None = group.drawings.get((picture.id, entry.id))
    image = drawing and element("img", src=drawing.thumbnail, alt="", loading="lazy")
    cell = element("button", image or "not drawn", type="button", data_image=picture.id,
                   class_=f"cell {base}" if picture.uri else "cell none", data_text=objects,
                   data_view=drawing.view or None if drawing else None, data_variant=entry.id,
                   aria_label=f"{entry.id} on {picture.id}: {objects}")  # fmt: skip
    said = said_of_cell(group.verdicts, picture.id, entry.id)
    return element("td", cell, _count(outcome["objects"], picture, said))


def _count(text: object, picture: Picture, said: Html | None = None) -> Html:
    return element("span", text, said, class_="count", data_image=picture.id)
