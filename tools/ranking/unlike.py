"""Whether the warning comes: on the images as they are, and on those unlike what networks know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import study
from looks import Looks, cautioned, load_looks, unlike_images
from projects import Draw, part_of, true_f1
from tables import Table, Variants, load

from opsef_bridge.compare.words import LOOK_TWICE

__all__ = ["warnings_of", "warnings_on"]

LOSSES = {"lost below .05": (-1, 0.05), "lost .05 to .15": (0.05, 0.15), "lost more": (0.15, 2)}
"""Bounds of the F1 that a set has lost against the same images as they were."""


def warnings_on(
    folder: Path, constants: study.Constants, before: Mapping[str, Table], count: int
) -> dict[str, Any]:
    """Return how often the warning comes on a set, and what is wrong there.

    Parameters
    ----------
    folder : Path
        Tables and looks of the set.
    constants : dict
    before : mapping of str to Table
        By name the images as they were, where the set is made of them.
    count : int
        Random projects of 3 to 6 of the images, each of all variants or of any part.
    """
    tables, variants = load(folder)
    return warnings_of(folder.name, tables, variants, load_looks(folder), constants, before, count)


def warnings_of(
    name: str,
    tables: Sequence[Table],
    variants: Variants,
    looks: Looks,
    constants: study.Constants,
    before: Mapping[str, Table],
    count: int,
) -> dict[str, Any]:
    """As `warnings_on`, of some images."""
    every = np.arange(len(variants.names))
    whole = study.regrets(Draw("named", name, list(tables), every, list(variants.families)),
                          constants)  # fmt: skip
    first, names = whole["first"], [table.name for table in tables]
    single = np.array([true_f1([table], np.array([first]))[0] for table in tables])
    odd = unlike_images(looks, names, first)
    least = int(np.argmin(single))
    drawn = [_judged(draw, looks, constants, before) for draw in _draws(tables, variants, count)]
    return {
        "set": name,
        "images": len(tables),
        "by": variants.names[first],
        **{key: whole[key] for key in ("ef", "f1", "best")},
        "before": _before(tables, before),
        "pictures": sum(looks[image][first] is not None for image in names),
        "unlike": len(odd),
        "warned": {
            "agreement": bool(whole["ef"] < LOOK_TWICE),
            "pictures": cautioned(looks, names, first),
        },
        "worst": {
            "image": names[least], "f1": float(single[least]), "unlike": names[least] in odd
        },
        "projects": _shares(drawn),
    }  # fmt: skip


def _draws(tables: Sequence[Table], variants: Variants, count: int) -> Iterator[Draw]:
    random = np.random.default_rng(2)
    every, families = np.arange(len(variants.names)), np.unique(variants.families)
    for number in range(count):
        size = min(int(random.integers(3, 7)), len(tables))
        images = [tables[i] for i in random.choice(len(tables), size, replace=False)]
        chosen = every if number % 2 else part_of(every, families, variants, random)
        yield Draw("any", "", images, chosen, variants.families[chosen].tolist())


def _before(tables: Sequence[Table], before: Mapping[str, Table]) -> float | None:
    """F1 of the truly best variant on the same images as they were."""
    same = [before[table.name] for table in tables if table.name in before]
    if not same:
        return None
    return float(true_f1(same, np.arange(len(same[0].start) - 1)).max())


def _judged(
    draw: Draw, looks: Looks, constants: study.Constants, before: Mapping[str, Table]
) -> dict[str, Any]:
    first, agreement = study.first_of(draw, constants)
    best, f1 = _before(draw.images, before), true_f1(draw.images, np.array([first]))[0]
    return {
        "agreement": agreement < LOOK_TWICE,
        "pictures": cautioned(looks, [image.name for image in draw.images], first),
        "lost": None if best is None else best - f1,
    }


def _shares(drawn: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Share of projects that are warned of, and by what; all of them, and by what they lost."""
    parts = {"all": list(drawn)}
    for name, (low, high) in LOSSES.items():
        parts[name] = [d for d in drawn if d["lost"] is not None and low <= d["lost"] < high]
    return {
        name: {
            "count": len(some),
            "agreement": float(np.mean([d["agreement"] for d in some])),
            "pictures": float(np.mean([d["pictures"] for d in some])),
            "either": float(np.mean([d["agreement"] or d["pictures"] for d in some])),
        }
        for name, some in parts.items()
        if some
    }
