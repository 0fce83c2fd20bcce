"""``report.html``: one page that holds a run, readable from disk without a network.

Pure: the data of a run in, the text of the page out; equal data give equal text. The page
is a list of sections per group (`report_sections.SECTIONS`); a new section is one more
function. It works without scripts; ``report.js`` adds sorting, the enlarged view and copying.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from opsef_bridge.compare.markup import Html, element, join
from opsef_bridge.compare.report_data import Drawing, Entry, Group, Page, Picture
from opsef_bridge.compare.report_sections import FIRST_ROWS, SECTIONS
from opsef_bridge.compare.words import count_of

__all__ = ["FIRST_ROWS", "Drawing", "Entry", "Group", "Page", "Picture", "render"]

CAUTION = (
    "Agreement says how well a variant agrees with the other model families; it orders what "
    "to look at; it is not an estimate of accuracy."
)


def render(page: Page) -> str:
    """Return the text of ``report.html``."""
    title = f"{page.project} · {page.run}"
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        # The browser itself refuses whatever would leave the page.
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        element("title", f"{title} · OpSeF report"),
        element("style", Html(_asset("report.css"))),
        element("style", Html("".join(_picture_rules(page)))),
    )
    body = element(
        "body",
        _header(page),
        _tabs(page.groups),
        element("main", *(_group(number, group) for number, group in enumerate(page.groups))),
        _viewer(),
        element("p", id="said", role="status"),
        element("script", Html(_asset("report.js"))),
    )
    return f'<!DOCTYPE html>\n<html lang="en">{head}{body}</html>\n'


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _picture_rules(page: Page) -> Iterator[str]:
    """A style rule per image: its base is stored once, however many cells show it."""
    for g, group in enumerate(page.groups):
        for i, picture in enumerate(group.pictures):
            height, width = picture.shape
            base = f'--base:url("{picture.uri}");' if picture.uri else ""
            yield f".p{g}-{i}{{{base}--ratio:{width / height:.4f}}}\n"


def _header(page: Page) -> Html:
    facts = (join(element("dt", key), element("dd", value)) for key, value in page.facts.items())
    return element(
        "header",
        element("p", "OpSeF report", class_="kicker"),
        element("h1", page.project, " ", element("span", page.run)),
        element("p", page.date, class_="date"),
        element("p", CAUTION, class_="lead"),
        element("details", element("summary", "What was swept"), element("dl", *facts), open=True),
    )


def _tabs(groups: Sequence[Group]) -> Html | None:
    if len(groups) < 2:
        return None
    links = (
        element("a", group.name, " ", element("small", count_of(len(group.pictures), "image")),
                href=f"#g{number}")
        for number, group in enumerate(groups)
    )  # fmt: skip
    return element("nav", *links, aria_label="Groups")


def _group(number: int, group: Group) -> Html:
    sections = (section(number, group) for section in SECTIONS)
    heading = element("h2", "Group ", element("em", group.name))
    return element("article", heading, *sections, id=f"g{number}", class_="group")


def _viewer() -> Html:
    def button(text: str, label: str, **more: Any) -> Html:
        return element("button", text, type="button", aria_label=label, title=label, **more)

    return element(
        "dialog",
        element("div", element("p", element("b", class_="who"), element("span", class_="what")),
                button("✕", "Close (Esc)", class_="close"), class_="bar"),
        element("div", element("img", alt=""), class_="view"),
        element("div", button("←", "Image before (left)", data_step="0,-1"),
                button("→", "Next image (right)", data_step="0,1"),
                button("↑", "Variant ranked before (up)", data_step="-1,0"),
                button("↓", "Variant ranked next (down)", data_step="1,0"),
                button("Outlines", "Outlines on or off (Space)", class_="toggle"), class_="bar"),
        id="viewer", aria_label="Enlarged picture",
    )  # fmt: skip
