"""The tables of ``docs/consensus.md`` and ``docs/refine.md``, of ``docs/choosing.json``.

`tools/write_docs.py` puts them between their markers; ``tools/choosing`` makes the figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

__all__ = ["consensus_tables", "refine_tables"]

CHOICES = {
    "consensus": "**consensus**",
    "head": "the same, outlines of the best supported objects",
    "first": "first by agreement",
    "best": "truly best variant",
}
MODES = {
    "full": "all variants",
    "random": "3-6 families, any part",
    "inflated": "one family whole",
    "mostwrong": "wrong scales, 3 good",
    "onegood": "wrong scales, 1 good",
    "twofam": "two families",
}
SEARCHES = {"search": "`opsef sweep refine`", "chance": "by chance"}

Figures = Mapping[str, Any]


def consensus_tables(figures: Figures) -> dict[str, str]:
    """Return the text between each pair of markers of ``docs/consensus.md``, by their name."""
    found = figures["consensus"]
    return {
        "groups": "\n".join([_by(found["by_group"], found["mean"], "images"), "", _said(found)]),
        "kinds": _by(
            {name: found["by_mode"][mode] for mode, name in MODES.items()}, None, "variants"
        ),
        "settings": _settings(found),
        "unlike": _unlike(found),
    }


def refine_tables(figures: Figures) -> dict[str, str]:
    """Return the text between the markers of ``docs/refine.md``, by their name."""
    return {"gain": "\n".join([_gain(figures["refine"]), "", _searched(figures["refine"])])}


def _by(parts: Figures, mean: Figures | None, first: str) -> str:
    named = {**parts, **({} if mean is None else {"all": mean})}
    rows = [
        [name, *(_pair(values[key]) for key in CHOICES if key in values)]
        for name, values in named.items()
    ]
    return _table([first, *CHOICES.values()], rows)


def _said(found: Figures) -> str:
    more = found["more_than"]
    against = {
        "first": "the first variant",
        "best": "the truly best variant",
        "head": "the outlines of the best supported objects",
    }
    said = [
        f"{name} {_interval(more[key][0])} at IoU 0.5, {_interval(more[key][1])} at 0.7"
        for key, name in against.items()
    ]
    worse, better = (100 * found[key][0] for key in ("worse_by_.02", "better_by_.02"))
    chosen = [
        f"{group} {supported:g} and {overlap:g}"
        for group, (supported, overlap) in found["chosen"].items()
    ]
    return (
        f"F1 at IoU 0.5 / 0.7, mean of {found['projects']} random projects of {found['images']} "
        f"images and {found['variants']} variants. The consensus less others, with the 95 % "
        f"interval of a paired bootstrap over projects: {'; '.join(said)}. At IoU 0.5 it is "
        f"better than the first variant by more than 0.02 in {better:.0f} % of the projects, and "
        f"worse in {worse:.0f} %. `--supported` and `--overlap` are those that were best on the "
        f"other groups: {', '.join(chosen)}."
    )


def _settings(found: Figures) -> str:
    rows = [
        [
            f"{one['supported']:g}",
            f"{one['overlap']:g}",
            *map(_three, one["f1"]),
        ]
        for one in found["settings"]
    ]
    return _table(["supported", "overlap", "F1 at IoU 0.5", "at 0.7"], rows)


def _unlike(found: Figures) -> str:
    rows = [
        [one["set"], str(one["images"]), *(_pair(one[key]) for key in CHOICES)]
        for one in found["unlike"]
    ]
    return _table(["images", "count", *CHOICES.values()], rows)


def _gain(found: Figures) -> str:
    groups = [*dict.fromkeys(one["group"] for one in found["projects"]), "all"]
    by = {
        (group, kind): _mean(
            [
                one
                for one in found["projects"]
                if one["by"] == kind and group in (one["group"], "all")
            ]
        )
        for group in groups
        for kind in SEARCHES
    }
    rows = [
        [
            group,
            *(_pair(by[group, "search"][key]) for key in ("first", "before")),
            *(_pair(by[group, kind]["now"]) for kind in SEARCHES),
            *(_pair(by[group, "search"][key]) for key in ("best_before", "best")),
        ]
        for group in groups
    ]
    head = ["images", "first of the sweep", "its best by the objective", *SEARCHES.values()]
    return _table([*head, "truly best of the sweep", "truly best of all"], rows)


def _mean(some: Sequence[Figures]) -> dict[str, list[float]]:
    names = ("first", "before", "now", "best_before", "best")
    return {name: [fmean(one[name][at] for one in some) for at in (0, 1)] for name in names}


def _searched(found: Figures) -> str:
    parts = []
    for kind, name in SEARCHES.items():
        some = [one for one in found["projects"] if one["by"] == kind]
        gained = fmean(one["objective"][1] - one["objective"][0] for one in some)
        parts.append(
            f"{name}: the objective grew by {gained:.3f}, {fmean(o['passes'] for o in some):.0f} "
            f"passes and {fmean(o['seconds'] for o in some):.0f} s of one core"
        )
    return (
        f"F1 at IoU 0.5 / 0.7, {found['images']} images of each group, {found['crop']} x "
        f"{found['crop']} px; up to {found['trials']} trials and {found['passes']} network passes, "
        f"mean of {found['seeds']} searches of each. Mean of all: {'; '.join(parts)}."
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _pair(values: Sequence[float]) -> str:
    return " / ".join(map(_three, values))


def _interval(values: Sequence[float]) -> str:
    mean, low, high = values
    return f"{mean:.4f} ({low:.4f} to {high:.4f})"


def _three(value: float) -> str:
    return f"{value:.3f}"
