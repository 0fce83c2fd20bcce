"""What a report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from opsef_bridge.compare.words import Confidence

__all__ = ["Drawing", "Entry", "Group", "Page", "Picture"]


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
    `interval` has the ends between which the score lies when the images are drawn anew.
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
    score: float
    status: str
    snippet: str
    interval: tuple[float, float] | None = None


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
    words : sequence of str
        What keeps the order from being taken at its word (`opsef_bridge.compare.words`).
    confidence : Confidence, optional
        How sure the first place is.
    answers : int
        Vouched objects and places that the score counts.
    notes : sequence of str
        What else is to be said.
    supported : bool
        Whether the outlines tell the support of each object.
    verdicts : sequence of mapping
        ``image``, ``variant``, ``verdict``, ``author`` and ``at`` of the last of each person.
    memory : mapping of str to int
        By family the most bytes that a process that did its work held.
    run : str
        Id of the run that made the variants, for the commands that take one of them.
    """

    name: str
    entries: Sequence[Entry]
    pictures: Sequence[Picture]
    outcomes: Sequence[Mapping[str, Any]]
    drawings: Mapping[tuple[str, str], Drawing] = field(default_factory=dict)
    f1: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    words: Sequence[str] = ()
    confidence: Confidence | None = None
    answers: int = 0
    notes: Sequence[str] = ()
    supported: bool = False
    verdicts: Sequence[Mapping[str, str]] = ()
    memory: Mapping[str, int] = field(default_factory=dict)
    run: str = ""


@dataclass(frozen=True)
class Page:
    """The run as a whole. `facts` are shown as they are, in their order.

    `key` tells the plan from all others: under it a browser keeps verdicts.
    """

    project: str
    run: str
    date: str
    facts: Mapping[str, str]
    groups: Sequence[Group]
    key: str = ""
