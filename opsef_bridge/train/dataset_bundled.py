"""The bundled images in a dataset: what a network knew is learned again, so it is not forgotten.

A network that goes on from weights forgets what it is no longer shown (catastrophic
interference: McCloskey and Cohen 1989; rehearsal: Robins 1995). The shipped weights never
learned from the bundled images nor from tiles of their fields, so these may judge, too.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from opsef_bridge.errors import InputError
from opsef_bridge.images.bundled import example_data
from opsef_bridge.project import Project
from opsef_bridge.train.data import Sample
from opsef_bridge.train.dataset_sources import Found, LabelFolder, find_in_folder
from opsef_bridge.train.dataset_split import Member, Shares, joined, split_members

__all__ = [
    "BUNDLED",
    "FLUORESCENCE",
    "NONE",
    "as_one_kind",
    "balanced",
    "drawn_from",
    "find_bundled",
    "is_bundled",
    "is_rehearsed",
    "rehearsed_groups",
    "split_apart",
    "without_doubles",
]

BUNDLED = "bundled"
"""Source of these images on the card of a dataset; their kinds are ``bundled-GROUP``."""

NONE, FLUORESCENCE, ALL = "none", "fluorescence", "all"
"""Words that stand for groups."""

LICENCE = "CC0-1.0"

One = TypeVar("One")


def rehearsed_groups(text: str) -> tuple[str, ...]:
    """Return the groups of bundled images that a person names.

    Parameters
    ----------
    text : str
        Groups of ``origin.csv`` parted by commas, ``fluorescence``, ``all``, or ``none``.

    Raises
    ------
    InputError
        There is no such group.

    Examples
    --------
    >>> rehearsed_groups("fluorescence"), rehearsed_groups("u2os, small"), rehearsed_groups("none")
    (('small', 'large', 'u2os'), ('u2os', 'small'), ())
    """
    rows = _rows()
    groups = list(dict.fromkeys(row["group"] for row in rows))
    words = {
        NONE: (),
        ALL: tuple(groups),
        FLUORESCENCE: tuple(dict.fromkeys(r["group"] for r in rows if r["kind"] == "fluo")),
    }
    if text.strip() in words:
        return words[text.strip()]
    named = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in named if name not in groups]
    if unknown or not named:
        raise InputError(
            f"there is no group {unknown[0] if unknown else text!r} of bundled images",
            hint=f"Choose of {', '.join(groups)} (parted by commas), {', '.join(words)}",
        )
    return named


def find_bundled(
    project: Project,
    groups: Sequence[str],
    beside: Iterable[Found] = (),
    remark: Callable[[str], object] = lambda text: None,
) -> list[Found]:
    """Find the bundled images of some groups, with their labels.

    Parameters
    ----------
    project : Project
    groups : sequence of str
        See `rehearsed_groups`.
    beside : iterable of Found
        What else goes into the dataset. A bundled image is left out where a file of the project
        is the same, also if only a crop of it is taken: the person's version counts.
    remark : callable
        Takes a sentence for a person.
    """
    folder = example_data()
    names = {one.image for one in beside}
    taken = {entry.sha256: entry.id for entry in project.images() if entry.id in names}
    labelled = find_in_folder(
        LabelFolder(folder / "images", folder / "labels", BUNDLED), project
    ) if groups else []  # fmt: skip
    files = {Path(one.image).name: one for one in labelled}
    found = []
    for row in _rows():
        if row["group"] not in groups:
            continue
        if row["sha256"] in taken:
            remark(_left_out(row["image"], taken[row["sha256"]]))
            continue
        found.append(
            replace(
                files[row["image"]],
                image=f"{BUNDLED}/{row['image']}",
                source=BUNDLED,
                kind=f"{BUNDLED}-{row['group']}",
                told={"origin": row["origin"], "licence": LICENCE},
            )
        )
    return found


def is_bundled(entry: Mapping[str, Any]) -> bool:
    """Tell whether a sample on the card of a dataset is a bundled image."""
    return bool(entry.get("source") == BUNDLED)


def is_rehearsed(kind: str) -> bool:
    """Tell whether samples of a kind are bundled images, or regions of them.

    Examples
    --------
    >>> [is_rehearsed(kind) for kind in ("bundled-u2os", "bundled", "u2os")]
    [True, True, False]
    """
    return kind.partition("-")[0] == BUNDLED


def without_doubles(
    entries: Sequence[dict[str, Any]], kept: Sequence[Mapping[str, Any]] = ()
) -> tuple[list[dict[str, Any]], list[str]]:
    """Leave out bundled images that stand among the others pixel by pixel; say which.

    Parameters
    ----------
    entries : sequence of dict
        Of the card of a dataset.
    kept : sequence of mapping
        More of them, that stay as they are.

    Returns
    -------
    entries : list of dict
    remarks : list of str

    Examples
    --------
    >>> mine = {"image": "i1", "source": "truth", "pixels_sha256": "a"}
    >>> theirs = [{"image": n, "source": "bundled", "pixels_sha256": n} for n in "ab"]
    >>> left, remarks = without_doubles([mine, *theirs])
    >>> [one["image"] for one in left], remarks
    (['i1', 'b'], ['a of the bundled images is left out: it is i1, whose labels count'])
    """
    own = {
        str(one["pixels_sha256"]): str(one["image"])
        for one in (*kept, *entries)
        if not is_bundled(one)
    }
    doubles = [one for one in entries if is_bundled(one) and one["pixels_sha256"] in own]
    left = [one for one in entries if one not in doubles]
    return left, [_left_out(Path(one["image"]).name, own[one["pixels_sha256"]]) for one in doubles]


def _left_out(image: str, own: str) -> str:
    return f"{image} of the bundled images is left out: it is {own}, whose labels count"


def split_apart(
    entries: Sequence[Mapping[str, Any]], shares: Shares, seed: int, by: str = "image"
) -> tuple[dict[str, str], dict[str, str]]:
    """Split as `opsef_bridge.train.dataset_split.split_members`: a person's images by themselves.

    So these stand where they would stand without any bundled ones. Where they are too few for
    all splits, they are learned from first, then judge; bundled images fill what is empty.

    Parameters
    ----------
    entries : sequence of mapping
        Of the card of a dataset: ``name``, ``tokens``, ``kind``, ``objects``, ``source``.
    shares : Shares
    seed : int
    by : str

    Returns
    -------
    split, group : dict of str to str
        By name.

    Raises
    ------
    InputError
        There are fewer groups than splits.

    Examples
    --------
    >>> def entry(name, source="truth"):
    ...     return {"name": name, "tokens": [name], "kind": "", "objects": 9, "source": source}
    >>> theirs = [entry(name, "bundled") for name in "uvwxyz"]
    >>> split, _ = split_apart([entry("mine"), *theirs], Shares(), seed=0)
    >>> split["mine"], sorted(set(split.values()))
    ('train', ['test', 'train', 'val'])
    """
    own, theirs = _members(entries, bundled=False), _members(entries, bundled=True)
    if not own or not theirs:
        return split_members([*own, *theirs], shares, seed, by)
    enough = len(set(joined(own).values())) >= len(shares.parts)
    split, group = split_members(own, _fitting(own, shares), seed, by)
    more = split_members(theirs, _fitting(theirs, shares) if enough else shares, seed, by)
    return split | more[0], group | more[1]


def _members(entries: Sequence[Mapping[str, Any]], *, bundled: bool) -> list[Member]:
    return [
        Member(one["name"], tuple(one["tokens"]), one["kind"], one["objects"])
        for one in entries
        if is_bundled(one) == bundled
    ]


def _fitting(members: Sequence[Member], shares: Shares) -> Shares:
    """Return the shares of as many splits as there are groups: to learn, to judge, to choose."""
    groups = len(set(joined(members).values()))
    if groups >= len(shares.parts):
        return shares
    return Shares(0, shares.test if groups > 1 else 0)


def balanced(own: Sequence[One], bundled: Sequence[One]) -> list[One]:
    """Repeat what a person corrected until it is at least a third of what is drawn from.

    Where it is a third nothing is repeated, else it is from a third to a half. The same objects
    stand there several times; nothing is copied. More costs old kinds and gains nothing: with
    five images of tissue as 36 % of the crops F1 at an IoU of 0.7 was .52 on tissue and .832 on
    the others, as 53 % .54 and .779; before .00 and .833 (``tools/corrections``, 900 steps).

    Examples
    --------
    >>> [" ".join(balanced(own, "uvw")) for own in ("a", "ab")]
    ['a a u v w', 'a b u v w']
    """
    times = max(math.ceil(len(bundled) / (2 * len(own))), 1) if own else 0
    return [*own] * times + [*bundled]


def drawn_from(samples: Sequence[Sample], card: Mapping[str, Any]) -> Sequence[Sample]:
    """Return samples so that a third of the crops, or more, are of what a person corrected.

    Parameters
    ----------
    samples : sequence of Sample
        To learn from.
    card : mapping
        Of their dataset; without bundled images in it, `samples` are returned as they are.
    """
    names = {one["name"] for one in card["samples"] if is_bundled(one)}
    if not names:
        return samples
    theirs = [sample for sample in samples if sample.name in names]
    return balanced([sample for sample in samples if sample.name not in names], theirs)


def as_one_kind(samples: Sequence[Sample], card: Mapping[str, Any]) -> list[Sample]:
    """Return samples with all bundled images of one kind, for what balances by kind.

    Regions are drawn of each kind in turn (`opsef_bridge.train.regions.Regions`). So no more
    than half of them are of bundled images, whatever groups these are of.
    """
    names = {one["name"] for one in card["samples"] if is_bundled(one)}
    return [replace(one, kind=BUNDLED) if one.name in names else one for one in samples]


def _rows() -> list[dict[str, str]]:
    with (example_data() / "origin.csv").open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))
