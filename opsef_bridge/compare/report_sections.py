"""The sections of the report: each a function from a `Group` to HTML."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from opsef_bridge.compare.confidence import INTERVAL
from opsef_bridge.compare.markup import Html, element, join
from opsef_bridge.compare.report_charts import family_mark, heat_table, knob_plots
from opsef_bridge.compare.report_data import Entry, Group
from opsef_bridge.compare.report_sheet import contact_sheet
from opsef_bridge.compare.report_verdicts import said_of_variant
from opsef_bridge.compare.votes import SILENT
from opsef_bridge.compare.words import Confidence, count_of

__all__ = ["SECTIONS"]


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


def _command(group: Group, entry: Entry) -> tuple[str | Html, ...]:
    # By default commands take the newest sweep, where the same id is another variant.
    run = f" --run {shlex.quote(group.run)}" if group.run else ""
    if entry.family == SILENT:
        command = element("code", f"opsef rois export {entry.id}{run}")
        return ("A batch cannot make a consensus; its objects can be exported: ", command,
                _copy("Copy"))  # fmt: skip
    command = element("code", f"opsef adopt {entry.id} --group {shlex.quote(group.name)}{run}")
    return command, _copy("Copy")


def _copy(text: str) -> Html:
    """A button that copies the element before it."""
    return element("button", text, type="button", class_="copy")


def _ranking(number: int, group: Group) -> Html:
    words = ("Variant", "Family", "Recipe", "Parameters", "Status")
    scored = ("Score",) if group.answers else ()
    columns = ("Rank", "Variant", "Family", "Recipe", "Scale", "Parameters", "Object px",
               "Objects", "Seconds", *scored, "Agreement", "@0.7", "Plain mean", "Status",
               "Verdicts")  # fmt: skip
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
        element("p", _of_intervals(group), class_="hint"),
        element("div", element("table", element("thead", element("tr", *heads)),
                               element("tbody", *rows), class_="ranking"),
                class_="scroll", tabindex=0, role="region", aria_label="Ranking"),
    )  # fmt: skip


def _of_intervals(group: Group) -> str:
    """What the whiskers are, or why there are none."""
    if any(entry.interval for entry in group.entries):
        what = "score" if group.answers else "agreement"
        return (
            f"The line on a bar is the {INTERVAL:.0%} interval of the {what} when the images are "
            "drawn anew: where those of two variants overlap widely, other images might turn "
            "them round. It says nothing of faults that all models share."
        )
    if len({o["image"] for o in group.outcomes if o["status"] != "failed"}) < 2:
        return "No intervals: with a single image there is nothing to draw anew."
    return "No intervals: this run was ranked by an earlier version, or nothing was found."


def _ranking_row(group_number: int, group: Group, entry: Entry) -> Html:
    def number(value: float, digits: int) -> Html:
        return element("td", f"{value:.{digits}f}", class_="number", data_sort=value)

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
        element(
            "th",
            element("b", entry.id),
            element("small", entry.slug),
            scope="row",
            title=entry.slug,
        ),
        element("td", family_mark(entry.family), entry.family),
        element("td", entry.recipe),
        element("td", f"{entry.scale:g}", class_="number", data_sort=entry.scale),
        element("td", parameters),
        number(entry.object_px, 1),
        number(entry.objects, 0),
        number(entry.seconds, 2),
        _with_bar(entry.score if group.answers else entry.agreement, entry.interval),
        number(entry.agreement, 3) if group.answers else None,
        number(entry.agreement_07, 3),
        number(entry.plain_mean, 3),
        element("td", entry.status, class_=None if entry.status == "ok" else "bad"),
        said_of_variant("td", group.verdicts, entry.id),
        element("td", take),
    )


def _with_bar(value: float, interval: tuple[float, float] | None) -> Html:
    """A value with a bar from 0 to 1, and its interval as a line on it and in figures."""
    line, figures = None, None
    if interval:
        low, high = interval
        line = element("i", style=f"--low:{low:.3f};--high:{high:.3f}")
        figures = element("small", f"{low:.3f} to {high:.3f}")
    bar = element("span", line, class_="bar", style=f"--value:{value:.3f}")
    return element("td", bar, f"{value:.3f}", figures, class_="number scored", data_sort=value)


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
        held = f"{group.memory[name] / 2**20:,.0f} MiB" if name in group.memory else "-"
        head = element("th", family_mark(name), name, scope="row")
        memory = element("td", held, class_="number")
        rows.append(element("tr", head, *cells[:1], longest, memory, *cells[1:]))
    heads = ("Family", "All images", "Longest", "Memory", *(p.id for p in group.pictures))
    return element(
        "section",
        element("h3", "Time and memory"),
        element("p", "Median seconds that one variant takes for one image alone: its network pass "
                "and its own decoding. Memory: the most that a process of the family held, with "
                "all of its libraries, not that of a GPU; - where nothing had to be made anew.",
                class_="hint"),
        _table(heads, rows, "Time and memory", "number"),
    )  # fmt: skip


def _table(heads: Sequence[str], rows: Iterable[Html], label: str, kind: str = "") -> Html:
    names = (element("th", name, scope="col", class_=kind or None) for name in heads[1:])
    first = element("th", heads[0], scope="col")
    head = element("thead", element("tr", first, *names))
    table = element("table", head, element("tbody", *rows))
    return element("div", table, class_="scroll", tabindex=0, role="region", aria_label=label)


SECTIONS: tuple[Callable[[int, Group], Html | None], ...] = (
    _first_choice, contact_sheet, _ranking, _matrix, _knobs, _failures, _time,
)  # fmt: skip
