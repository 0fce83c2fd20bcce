"""What a report is made of, and the cautions that follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Drawing", "Entry", "Group", "Page", "Picture", "cautions", "count_of"]

FEWEST_FAMILIES, FEWEST_VARIANTS, LOOK_TWICE = 3, 10, 0.90
"""Below these a caution is due: ranking says little, is the plain mean, or the set is bad."""


@dataclass(frozen=True)
class Picture:
    """An image of a group: what its column shows. `shape` is (height, width)."""

    id: str
    source: str
    note: str
    shape: tuple[int, int]
    uri: str


@dataclass(frozen=True)
class Drawing:
    """Outlines of one variant on one image as data URIs; `view` may be empty (too many)."""

    thumbnail: str
    view: str = ""


@dataclass(frozen=True)
class Entry:
    """A variant in its group: a row of ``variants.csv`` and how to make it again.

    `parameters` and `knobs` are values by name: what the table shows beside the scale, and
    the axes of the sweep. `snippet` is the part of an ``opsef.yaml`` that makes this variant.
    """

    rank: int
    id: str
    slug: str
    caption: str
    family: str
    recipe: str
    scale: float
    parameters: Mapping[str, Any]
    knobs: Mapping[str, Any]
    object_px: float
    objects: int
    seconds: float
    agreement: float
    agreement_07: float
    plain_mean: float
    status: str
    snippet: str


@dataclass(frozen=True)
class Group:
    """What the page says about one group.

    Parameters
    ----------
    entries : sequence of Entry
        In the order of rank.
    outcomes : sequence of mapping
        Rows of ``outcomes.csv``.
    drawings : mapping of (image, variant) to Drawing
    f1 : (n, n) ndarray
        F1 at IoU 0.5 of the first n entries with each other.
    """

    name: str
    entries: Sequence[Entry]
    pictures: Sequence[Picture]
    outcomes: Sequence[Mapping[str, Any]]
    drawings: Mapping[tuple[str, str], Drawing] = field(default_factory=dict)
    f1: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Page:
    """The run as a whole. `facts` are shown as they are, in their order."""

    project: str
    run: str
    date: str
    facts: Mapping[str, str]
    groups: Sequence[Group]


def cautions(entries: Sequence[Entry]) -> list[str]:
    """Return in words what keeps the order of a group from being taken at its word.

    Parameters
    ----------
    entries : sequence of Entry
        In the order of rank.
    """
    working = [entry for entry in entries if entry.status != "failed"]
    if not any(entry.objects for entry in working):
        return ["No variant found an object: there is nothing to rank."]
    first, families = working[0], len({entry.family for entry in working})
    found = []
    if families < FEWEST_FAMILIES:
        word = "family" if families == 1 else "families"
        found.append(
            f"Order only, {families} {word}: with fewer than three model families agreement "
            "says which variants resemble each other, and little about which is right."
        )
    if len(working) < FEWEST_VARIANTS:
        found.append(f"Only {count_of(len(working), 'variant')}: agreement is the plain mean here.")
    if first.agreement < LOOK_TWICE:
        found.append(
            f"The models disagree on these images: agreement of the first is "
            f"{first.agreement:.2f}, below {LOOK_TWICE:.2f}. Look twice."
        )
    ties = [e.id for e in working[1:] if round(e.agreement, 3) == round(first.agreement, 3)]
    if ties:
        named = ", ".join(ties[:6]) + (f" and {len(ties) - 6} more" if len(ties) > 6 else "")
        found.append(f"A tie: {named} cannot be told apart from the first, {first.id}.")
    other = max(working, key=lambda entry: (round(entry.plain_mean, 3), -entry.rank))
    if round(other.plain_mean, 3) > round(first.plain_mean, 3):
        found.append(
            f"Two rankings, two first choices: by the plain mean {other.id} ({other.caption}) "
            f"comes first, by agreement {first.id}. Look at both."
        )
    return found


def count_of(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")
