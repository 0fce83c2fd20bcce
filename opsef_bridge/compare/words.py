"""What a ranking says in words: what keeps its order from being taken at its word.

One function makes the sentences of ``ranking.json``, the report and the command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from opsef_bridge.compare.appearance import Pictures, learned
from opsef_bridge.compare.votes import SILENT

__all__ = [
    "Confidence",
    "Ranked",
    "SizeBin",
    "count_of",
    "order_note",
    "plain_first",
    "ranking_words",
    "ties",
    "working",
]

FEWEST_FAMILIES, FEWEST_VARIANTS, LOOK_TWICE = 3, 10, 0.90
"""Below these a caution is due: ranking says little, is the plain mean, or the set is bad."""

APART = 0.05
"""Share of first places from which a variant may be the best one still."""

MOST_NAMED = 6


@dataclass(frozen=True)
class Ranked:
    """A variant of a group, as far as words need it. `caption` is what a person knows it by."""

    id: str
    caption: str
    family: str
    status: str
    objects: int
    agreement: float
    plain_mean: float
    score: float

    @classmethod
    def from_row(cls, row: Mapping[str, Any], caption: str = "") -> Ranked:
        """Read a row of ``variants.csv``."""
        return cls(
            row["id"], caption or row["slug"], row["family"], row["status"], int(row["objects"]),
            float(row["agreement"]), float(row["plain_mean"]), float(row["score"]),
        )  # fmt: skip


@dataclass(frozen=True)
class Confidence:
    """How often variants come first when what the ranking is made of is drawn anew.

    Parameters
    ----------
    shares : mapping of str to float
        Share of first places by id, those of at least `APART`, largest first.
    by : {"images", "answers"}
        What was drawn with replacement.
    count : int
        How many of them there are.
    """

    shares: Mapping[str, float]
    by: str
    count: int

    @property
    def drawn(self) -> str:
        """Return ``the 8 images are drawn anew``."""
        what = count_of(self.count, self.by.removesuffix("s"))
        return f"the {what} {'is' if self.count == 1 else 'are'} drawn anew"


@dataclass(frozen=True)
class SizeBin:
    """Images of like object size: their ids, sizes in pixels, and what is first there."""

    images: tuple[str, ...]
    low: float
    high: float
    first: str
    agreement: float
    score: float

    @property
    def text(self) -> str:
        """Return ``12 to 20 px``."""
        low, high = f"{self.low:.0f}", f"{self.high:.0f}"
        return f"{low} px" if low == high else f"{low} to {high} px"


def ranking_words(
    entries: Sequence[Ranked],
    *,
    answers: int = 0,
    confidence: Confidence | None = None,
    bins: Sequence[SizeBin] = (),
    pictures: Pictures | None = None,
) -> list[str]:
    """Return in sentences what a person must know of the order of a group.

    Parameters
    ----------
    entries : sequence of Ranked
        In the order of rank.
    answers : int
        Vouched objects and places that the score counts.
    confidence : Confidence, optional
    bins : sequence of SizeBin
        By size; a single one says nothing.
    pictures : Pictures, optional
        How the images look.

    Returns
    -------
    list of str
        Empty where nothing speaks against the order.

    Examples
    --------
    >>> one = Ranked("v0001", "raw", "unet", "ok", 40, 0.95, 0.9, 0.95)
    >>> two = Ranked("v0002", "raw", "stardist", "ok", 41, 0.94, 0.8, 0.94)
    >>> for sentence in ranking_words([one, two]):
    ...     print(sentence[:51])
    Order only, 2 families: with fewer than three model
    Only 2 variants: agreement is the plain mean here.
    """
    there = working(entries)
    if not any(entry.objects for entry in there):
        return ["No variant found an object: there is nothing to rank."]
    voters = [entry for entry in there if entry.family != SILENT]
    first, families = there[0], len({entry.family for entry in voters})
    by = "score" if answers else "agreement"
    judged = next(iter(voters), first)  # the consensus agrees with them by how it is made
    found = cautions(families, len(voters), judged.agreement)
    found += _of_pictures(pictures)
    same = ties(entries)
    if same:
        found.append(f"A tie: {_named(same)} cannot be told apart from the first, {first.id}.")
    other = plain_first(entries)
    if other:
        found.append(
            f"Two rankings, two first choices: by the plain mean {other.id} ({other.caption}) "
            f"comes first, by {by} {first.id}. Look at both."
        )
    if confidence and not set(confidence.shares) <= {first.id, *same}:
        found += _of_confidence(confidence)
    return [*found, *_of_sizes(bins)]


def cautions(families: int, variants: int, agreement: float) -> list[str]:
    """Return in sentences why an order says little, as far as figures tell.

    Parameters
    ----------
    families, variants : int
        That have a voice.
    agreement : float
        Of the first choice.
    """
    found = []
    if families < FEWEST_FAMILIES:
        found.append(
            f"Order only, {_families(families)}: with fewer than three model families agreement "
            "says which variants resemble each other, and little about which is right."
        )
    if variants < FEWEST_VARIANTS:
        found.append(f"Only {count_of(variants, 'variant')}: agreement is the plain mean here.")
    if agreement < LOOK_TWICE:
        found.append(
            f"The models disagree on these images: agreement of the first is "
            f"{agreement:.2f}, below {LOOK_TWICE:.2f}. Look twice."
        )
    return found


def ties(entries: Sequence[Ranked]) -> list[str]:
    """Return the ids whose score equals that of the first in three digits, without its own."""
    there = working(entries)
    return [e.id for e in there[1:] if round(e.score, 3) == round(there[0].score, 3)]


def plain_first(entries: Sequence[Ranked]) -> Ranked | None:
    """Return the first by the plain mean, where in three digits it is another than the first."""
    there = working(entries)
    if not there:
        return None
    other = max(there, key=lambda entry: round(entry.plain_mean, 3))  # of equal ones the first
    return other if round(other.plain_mean, 3) > round(there[0].plain_mean, 3) else None


def order_note(rows: Sequence[Mapping[str, str]]) -> str:
    """Return in few words what a person must know of the ranking of one group, or nothing.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of ``variants.csv``.

    Examples
    --------
    >>> order_note([{"family": "unet", "status": "ok"}])
    'order only, 1 family'
    """
    count = len({row["family"] for row in rows if row["status"] != "failed"} - {SILENT})
    return f"order only, {_families(count)}" if count < FEWEST_FAMILIES else ""


def working(entries: Sequence[Ranked]) -> list[Ranked]:
    """Return the variants that have not failed throughout."""
    return [entry for entry in entries if entry.status != "failed"]


def count_of(number: int, word: str) -> str:
    """Return a number with its word.

    Examples
    --------
    >>> count_of(1, "image"), count_of(1200, "image")
    ('1 image', '1,200 images')
    """
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def _of_confidence(confidence: Confidence) -> list[str]:
    if len(confidence.shares) < 2:
        only = next(iter(confidence.shares), "")
        return (
            [
                f"{only} comes first in {confidence.shares[only]:.0%} of the cases when "
                f"{confidence.drawn}: look at it too."
            ]
            if only
            else []
        )
    named = [f"{id_} ({share:.0%})" for id_, share in confidence.shares.items()]
    return [
        f"These cannot be told apart yet: {_named(named)}. Each comes first in so many of "
        f"the cases when {confidence.drawn}."
    ]


def _of_pictures(pictures: Pictures | None) -> list[str]:
    if pictures is None or not pictures.cautioned:
        return []
    unlike, said = pictures.unlike, []
    least, most = (learned()[key] for key in ("contrast_from", "edge_to"))
    for name, text in (
        ("contrast", f"{{where}} what is around them (contrast {{:.2f}}, {least:.2f} or more"),
        ("edge", f"soft at the edge ({{:.2f}} of the diameter, {most:.2f} or less"),
    ):
        values = [getattr(pictures.looks[image], name) for image in unlike if name in unlike[image]]
        if values:
            middle = float(np.median(values))
            where = "hardly brighter than" if middle >= 0 else "darker than"
            shown = text.format(middle, where=where)
            said.append(f"{shown} is usual; {count_of(len(values), 'image')})")
    images = count_of(len(pictures.looks), "image")
    return [
        f"{len(unlike)} of {images} {'looks' if len(unlike) == 1 else 'look'} unlike what the "
        f"models learned from. There the objects of {pictures.variant} are {'; '.join(said)}. All "
        "models may err alike, which agreement cannot show. Look twice."
    ]


def _of_sizes(bins: Sequence[SizeBin]) -> list[str]:
    if len(bins) < 2:
        return []
    parts = [f"{b.text} in {count_of(len(b.images), 'image')}: {b.first}" for b in bins]
    same = len({b.first for b in bins}) == 1
    return [
        f"The images have objects of different sizes, and one variant seldom fits all. First "
        f"choice by median diameter: {'; '.join(parts)}. "
        + (
            "It is the same for each."
            if same
            else "To adopt each for its own images: opsef adopt --by-size"
        )
    ]


def _families(count: int) -> str:
    return f"{count} {'family' if count == 1 else 'families'}"


def _named(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return ", ".join(ids[:MOST_NAMED]) + more
