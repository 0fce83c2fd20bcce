"""The sections of the report: each a function from a `Group` to HTML."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from opsef_bridge.compare.markup import Html, element, join
from opsef_bridge.compare.report_charts import family_mark, heat_table, knob_plots
from opsef_bridge.compare.report_data import Drawing, Entry, Group, Picture
from opsef_bridge.compare.words import Confidence, count_of

__all__ = ["FIRST_ROWS", "SECTIONS"]

FIRST_ROWS = 12
"""Variants of the contact sheet that show at once; a button shows the rest."""


def _first_choice(number: int, group: Group) -> Html:
    warnings = [element("li", text) for text in group.words]
    warnings += [element("li", text, class_="note") for text in group.notes]
    found = next((e for e in group.entries if e.status != "failed" and e.objects), None)
    choice = found and element(
        "div",
        element("p", "First to look at", class_="kicker"),
        element("p", element("b", found.id), " ", found.caption, class_="choice"),
        element(
            "p",
            *([f"score {found.score:.3f} · "] if group.answers else []),
            f"agreement {found.agreement:.3f} · plain mean {found.plain_mean:.3f} · "
            f"{count_of(found.objects, 'object')} · status {found.status}",
        ),
        _sure(group.confidence, found.id),
        element("p", *_command(group, found)),
        class_="card",
    )
    listed = element("ul", *warnings, class_="cautions") if warnings else None
    return element("div", choice, listed, class_="top")


def _sure(confidence: Confidence | None, first: str) -> Html | None:
    """How often the variant stays the first one."""
    if confidence is None:
        return None
    return element(
        "p",
        f"first in {confidence.shares.get(first, 0):.0%} of the cases when {confidence.drawn}",
    )


def _command(group: Group, entry: Entry) -> tuple[Html, Html]:
    command = f"opsef adopt {entry.id} --group {shlex.quote(group.name)}"
    return element("code", command), _copy("Copy")


def _copy(text: str) -> Html:
    """A button that copies the element before it."""
    return element("button", text, type="button", class_="copy")


def _sheet(number: int, group: Group) -> Html:
    drawn = {variant for _, variant in group.drawings}
    shown = [entry for i, entry in enumerate(group.entries) if i < FIRST_ROWS or entry.id in drawn]
    of = {(o["image"], o["variant"]): o for o in group.outcomes}
    names = [element("td", "variant")]
    bare = [element("th", "bare image", scope="row")]
    for i, picture in enumerate(group.pictures):
        name = element("th", element("span", picture.id), scope="col", title=picture.source)
        names.append(name)
        view = element("button", type="button", class_=f"cell p{number}-{i}",
                       aria_label=f"{picture.id}, bare image", data_image=picture.id,
                       data_text=picture.note)  # fmt: skip
        bare.append(
            element("td", view if picture.uri else element("span", picture.note, class_="bad"))
        )
    rows = [element("tr", *bare, class_="bare")]
    for index, entry in enumerate(shown):
        cells = [
            _cell(f"p{number}-{i}", picture, entry, of.get((picture.id, entry.id)),
                  group.drawings.get((picture.id, entry.id)))
            for i, picture in enumerate(group.pictures)
        ]  # fmt: skip
        rows.append(
            element("tr", _row_head(entry), *cells, class_="more" if index >= FIRST_ROWS else None)
        )
    more = len(shown) - FIRST_ROWS
    button = element("button", f"Show {count_of(more, 'more variant')}", type="button",
                     class_="all") if more > 0 else None  # fmt: skip
    return element(
        "section",
        element("h3", "Contact sheet"),
        element("p", "Rows in the order of rank; the number below a picture counts objects. "
                "Click one to enlarge it: arrow keys step through images and variants, "
                "Space hides the outlines.", class_="hint"),
        _tools(),
        element("div", element("table", element("thead", element("tr", *names)),
                               element("tbody", *rows)),
                class_="scroll sheet", tabindex=0, role="region", aria_label="Contact sheet"),
        button,
    )  # fmt: skip


def _tools() -> Html:
    def slider(name: str, low: float, high: float, start: float) -> Html:
        attributes = {"min": low, "max": high, "value": start, "step": (high - low) / 100}
        ends = element("input", type="range", class_=name.lower(), **attributes)
        return element("label", name, " ", ends)

    box = element("input", type="checkbox", class_="outlines", checked=True)
    return element(
        "p", slider("Size", 90, 400, 180), slider("Brightness", 0.5, 4.5, 1),
        element("label", box, " Outlines"), class_="tools",
    )  # fmt: skip


def _row_head(entry: Entry) -> Html:
    return element(
        "th",
        element("b", f"#{entry.rank} {entry.id}"),
        element("span", entry.caption),
        element("small", family_mark(entry.family), f"agreement {entry.agreement:.3f}"),
        scope="row",
        data_caption=" · ".join(
            (f"#{entry.rank} {entry.id}", entry.caption, f"agreement {entry.agreement:.3f}")
        ),
    )


def _cell(
    base: str,
    picture: Picture,
    entry: Entry,
    outcome: Mapping[str, Any] | None,
    drawing: Drawing | None,
) -> Html:
    if outcome is None:
        return element("td", element("span", "not run", class_="none"))
    if outcome["status"] == "failed":
        why = " ".join(filter(None, (outcome["message"] + ".", outcome["hint"])))
        code = element("button", outcome["code"], type="button", class_="cell failed", title=why,
                       data_image=picture.id, data_text=f"failed: {why}",
                       aria_label=f"{entry.id} failed on {picture.id}: {why}")  # fmt: skip
        return element("td", code, element("span", "failed", class_="count"))
    objects = count_of(int(outcome["objects"]), "object")
    image = drawing and element("img", src=drawing.thumbnail, alt="", loading="lazy")
    cell = element("button", image or "not drawn", type="button", data_image=picture.id,
                   class_=f"cell {base}" if picture.uri else "cell none", data_text=objects,
                   data_view=drawing.view or None if drawing else None,
                   aria_label=f"{entry.id} on {picture.id}: {objects}")  # fmt: skip
    return element("td", cell, element("span", outcome["objects"], class_="count"))


def _ranking(number: int, group: Group) -> Html:
    words = ("Variant", "Family", "Recipe", "Parameters", "Status")
    columns = ("Rank", "Variant", "Family", "Recipe", "Scale", "Parameters", "Object px",
               "Objects", "Seconds", "Agreement", "@0.7", "Plain mean", "Status")  # fmt: skip
    heads = [
        element("th", element("button", name, type="button"), scope="col",
                class_=None if name in words else "number",
                aria_sort="ascending" if name == "Rank" else None)
        for name in columns
    ]  # fmt: skip
    heads.append(element("th", "Take it", scope="col"))
    rows = (_ranking_row(number, group, entry) for entry in group.entries)
    return element(
        "section",
        element("h3", "Ranking"),
        element("p", "Click a heading to sort. Object px: median diameter of the objects as the "
                "network saw them. @0.7: agreement where outlines must fit closely (IoU 0.7).",
                class_="hint"),
        element("div", element("table", element("thead", element("tr", *heads)),
                               element("tbody", *rows), class_="ranking"),
                class_="scroll", tabindex=0, role="region", aria_label="Ranking"),
    )  # fmt: skip


def _ranking_row(group_number: int, group: Group, entry: Entry) -> Html:
    def number(value: float, digits: int) -> Html:
        return element("td", f"{value:.{digits}f}", class_="number", data_sort=value)

    bar = element("span", class_="bar", style=f"--value:{entry.agreement:.3f}")
    parameters = ", ".join(f"{key} {value}" for key, value in entry.parameters.items())
    panel = f"g{group_number}-{entry.id}"
    take = join(
        element("button", "Recipe", type="button", popovertarget=panel,
                aria_label=f"Recipe of {entry.id}"),
        element("div", element("p", element("b", entry.id), " ", entry.caption),
                element("pre", entry.snippet), _copy("Copy recipe"),
                element("p", *_command(group, entry)), id=panel, popover=True),
    )  # fmt: skip
    return element(
        "tr",
        number(entry.rank, 0),
        element("th", element("b", entry.id), element("small", entry.slug), scope="row"),
        element("td", family_mark(entry.family), entry.family),
        element("td", entry.recipe),
        element("td", f"{entry.scale:g}", class_="number", data_sort=entry.scale),
        element("td", parameters),
        number(entry.object_px, 1),
        number(entry.objects, 0),
        number(entry.seconds, 2),
        element("td", bar, f"{entry.agreement:.3f}", class_="number", data_sort=entry.agreement),
        number(entry.agreement_07, 3),
        number(entry.plain_mean, 3),
        element("td", entry.status, class_=None if entry.status == "ok" else "bad"),
        element("td", take),
    )


def _matrix(number: int, group: Group) -> Html | None:
    if len(group.f1) < 2:
        return None
    entries = group.entries[: len(group.f1)]
    return element(
        "section",
        element("h3", "Agreement matrix"),
        element("p", f"F1 at IoU 0.5 of the first {len(entries)} variants with each other. Blocks "
                "along the diagonal are variants that find the same objects.", class_="hint"),
        heat_table(
            group.f1, [f"#{e.rank} {e.id}" for e in entries], [e.caption for e in entries],
            [e.family for e in entries],
        ),
    )  # fmt: skip


def _knobs(number: int, group: Group) -> Html | None:
    working = [entry for entry in group.entries if entry.status != "failed"]
    plots = knob_plots(
        [entry.knobs for entry in working],
        [entry.agreement for entry in working],
        [f"#{entry.rank} {entry.id} {entry.caption}" for entry in working],
    )
    if not plots:
        return None
    return element(
        "section",
        element("h3", "Which knob matters"),
        element("p", "Agreement of every variant (0 to 1), parted by the values of each parameter; "
                "a line marks the median. The first plot has the largest difference.",
                class_="hint"),
        element("div", *plots, class_="knobs"),
    )  # fmt: skip


def _failures(number: int, group: Group) -> Html:
    same: dict[tuple[str, ...], list[str]] = {}
    for o in group.outcomes:
        if o["status"] == "failed":
            key = (o["image"], o["code"], o["message"], o["hint"], o["unit"])
            same.setdefault(key, []).append(o["variant"])
    if not same:
        return element("section", element("h3", "Failures"), element("p", "None: every image was "
                       "segmented by every variant.", class_="hint"))  # fmt: skip
    rows = (
        element("tr", element("th", image, scope="row"), element("td", _variants(variants)),
                element("td", element("code", code)), element("td", message), element("td", hint),
                element("td", element("code", f"logs/{unit}.txt")))
        for (image, code, message, hint, unit), variants in same.items()
    )  # fmt: skip
    heads = ("Image", "Variants", "Code", "Message", "What to do", "Log")
    return element("section", element("h3", "Failures"), _table(heads, rows, "Failures"))


def _variants(ids: Sequence[str]) -> str:
    text = ", ".join(ids[:4])
    return text if len(ids) <= 4 else f"{text} and {len(ids) - 4} more"


def _time(number: int, group: Group) -> Html:
    family = {entry.id: entry.family for entry in group.entries}
    spent: dict[tuple[str, str], list[float]] = {}
    for o in group.outcomes:
        if o["status"] != "failed" and o["variant"] in family:
            spent.setdefault((family[o["variant"]], o["image"]), []).append(float(o["seconds"]))
    rows = []
    for name in sorted(set(family.values())):
        per_image = [spent.get((name, picture.id), []) for picture in group.pictures]
        together = [s for seconds in per_image for s in seconds]
        cells = [
            element("td", f"{np.median(s):.2f}" if s else "-", class_="number")
            for s in [together, *per_image]
        ]
        longest = element("td", f"{max(together, default=0):.2f}", class_="number")
        head = element("th", family_mark(name), name, scope="row")
        rows.append(element("tr", head, *cells[:1], longest, *cells[1:]))
    heads = ("Family", "All images", "Longest", *(picture.id for picture in group.pictures))
    return element(
        "section",
        element("h3", "Time"),
        element("p", "Median seconds that one variant takes for one image alone: its network pass "
                "and its own decoding.", class_="hint"),
        _table(heads, rows, "Time", "number"),
    )  # fmt: skip


def _table(heads: Sequence[str], rows: Iterable[Html], label: str, kind: str = "") -> Html:
    names = (element("th", name, scope="col", class_=kind or None) for name in heads[1:])
    first = element("th", heads[0], scope="col")
    head = element("thead", element("tr", first, *names))
    table = element("table", head, element("tbody", *rows))
    return element("div", table, class_="scroll", tabindex=0, role="region", aria_label=label)


SECTIONS: tuple[Callable[[int, Group], Html | None], ...] = (
    _first_choice, _sheet, _ranking, _matrix, _knobs, _failures, _time,
)  # fmt: skip
