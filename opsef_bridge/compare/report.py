"""``report.html``: one page that holds a run, readable from disk without a network.

Pure: the data of a run in, the text of the page out; equal data give equal text. The page
is a list of sections per group (`report_sections.SECTIONS`); a new section is one more
function. It works without scripts; ``report.js`` adds sorting, the enlarged view and copying,
``report_verdicts.js`` what a person thinks of a variant. Opened from disk the page keeps that
in the browser; a service that shows it gives it a place to send it to (`for_service`).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from opsef_bridge.compare.markup import Html, element, join
from opsef_bridge.compare.report_data import Drawing, Entry, Group, Page, Picture
from opsef_bridge.compare.report_sections import SECTIONS
from opsef_bridge.compare.report_sheet import FIRST_ROWS
from opsef_bridge.compare.report_verdicts import buttons, told_of_group
from opsef_bridge.compare.words import count_of

__all__ = [
    "FIRST_ROWS",
    "Drawing",
    "Entry",
    "Group",
    "Page",
    "Picture",
    "for_service",
    "render",
    "service_policy",
]

CAUTION = (
    "Agreement says how well a variant agrees with the other model families; it orders what "
    "to look at; it is not an estimate of accuracy."
)


# The browser itself refuses whatever would leave the page.
_POLICY = Html(
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
)


def render(page: Page) -> str:
    """Return the text of ``report.html``."""
    title = f"{page.project} · {page.run}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        _POLICY,
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
        element("script", Html(_script())),
        data_project=page.project,
        data_run=page.run,
        data_key=page.key,
    )
    return f'<!DOCTYPE html>\n<html lang="en">{head}{body}</html>\n'


def for_service(text: str, told: Mapping[str, str]) -> str:
    """Return a page as a service shows it: it is told where verdicts go.

    Its own policy, which forbids every connection, is taken out: the service must send the
    `service_policy`. A page of an earlier version stays as it is, and asks for nothing.

    Parameters
    ----------
    text : str
        Of `render`.
    told : mapping
        ``project``, the id of the project in the service; ``author``, who looks at it;
        ``key``, which the page sends along.
    """
    return text.replace(_POLICY, element("meta", name="opsef-service", content=json.dumps(told)), 1)


def service_policy() -> str:
    """Return the Content-Security-Policy of a page that a service shows.

    Only this version's script runs, whatever the file holds, and it reaches that service only.
    """
    digest = base64.b64encode(hashlib.sha256(_script().encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; connect-src 'self'; img-src data:; "
        "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _script() -> str:
    return _asset("report.js") + _asset("report_verdicts.js")


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
    images = dict.fromkeys([*(p.id for p in group.pictures), *(o["image"] for o in group.outcomes)])
    return element(
        "article", heading, *sections, id=f"g{number}", class_="group",
        data_images=json.dumps(list(images), ensure_ascii=False),
        data_told=told_of_group(group.verdicts),
    )  # fmt: skip


def _viewer() -> Html:
    def button(text: str, label: str, **more: Any) -> Html:
        return element("button", text, type="button", aria_label=label, title=label, **more)

    return element(
        "dialog",
        element("div", element("p", element("b", class_="who"), element("span", class_="what")),
                element("p", role="status"), button("✕", "Close (Esc)", class_="close"),
                class_="bar"),
        # Here Space means the outlines; on a button it presses that.
        element("div", element("img", alt=""), class_="view", tabindex=0, autofocus=True,
                role="img"),
        buttons(),
        element("div", button("←", "Image before (left)", data_step="0,-1"),
                button("→", "Next image (right)", data_step="0,1"),
                button("↑", "Variant ranked before (up)", data_step="-1,0"),
                button("↓", "Variant ranked next (down)", data_step="1,0"),
                button("Outlines", "Outlines on or off (Space)", class_="toggle"),
                button("Support", "Colours by support on or off (s)", class_="colours"),
                class_="bar"),
        id="viewer", aria_label="Enlarged picture",
    )  # fmt: skip
