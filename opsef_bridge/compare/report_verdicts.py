"""Verdicts in the report: the buttons, and what people have said so far."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from opsef_bridge.compare.markup import Html, element, join

__all__ = ["MEANING", "buttons", "said_of_cell", "said_of_variant", "tallied", "told_of_group"]

MEANING = {
    "good": "objects are right",
    "over": "objects are split",
    "under": "objects run together",
    "missed": "objects are not found",
}
"""The verdicts, and what they say."""

Verdicts = Sequence[Mapping[str, str]]


def tallied(verdicts: Iterable[str]) -> str:
    """Return how often each verdict was given.

    Examples
    --------
    >>> tallied(["over", "good", "good"])
    '2 good, 1 over'
    """
    counts = Counter(verdicts)
    return ", ".join(f"{counts[name]} {name}" for name in MEANING if counts[name])


def told_of_group(verdicts: Verdicts) -> str:
    """Return them as JSON for the script, also those on what the contact sheet does not show.

    Examples
    --------
    >>> told_of_group([dict(image="i1", variant="v1", author="Ann", verdict="good", at="2031")])
    '[["i1", "v1", "Ann", "good", "2031"]]'
    """
    parts = ("image", "variant", "author", "verdict", "at")
    return json.dumps([[one[part] for part in parts] for one in verdicts], ensure_ascii=False)


def said_of_cell(verdicts: Verdicts, image: str, variant: str) -> Html:
    """Return the line below a picture that sums up what was said of it."""
    mine = (o["verdict"] for o in verdicts if (o["image"], o["variant"]) == (image, variant))
    return element("span", tallied(mine), class_="said")


def said_of_variant(tag: str, verdicts: Verdicts, variant: str, **attributes: Any) -> Html:
    """Return an element that sums up what was said of a variant on all images."""
    mine = [one["verdict"] for one in verdicts if one["variant"] == variant]
    return element(
        tag,
        tallied(mine),
        class_="said",
        data_of=variant,
        data_sort=2 * mine.count("good") - len(mine),  # those who like it beyond who do not
        **attributes,
    )


def buttons() -> Html:
    """Return the buttons of the enlarged view; each has its first letter as its key."""
    found = (
        element(
            "button", name.capitalize(), " ", element("kbd", name[0]), type="button",
            title=f"{meaning} ({name[0]}; again takes it back)", data_verdict=name,
            aria_pressed="false", aria_keyshortcuts=name[0],
        )
        for name, meaning in MEANING.items()
    )  # fmt: skip
    told = element("span", class_="told")
    label = "Your verdict"
    return element(
        "div", element("span", label), join(*found), told, class_="bar judge", role="group",
        aria_label=label,
    )  # fmt: skip
