"""The projects that rankings are tried on: named sets, and random parts of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tables import Table, Variants

__all__ = ["GROUPS", "MODES", "Draw", "draws", "groups_of", "part_of", "true_f1"]

GROUPS = ("small", "medium", "large", "U2OS")
MODES = ("full", "random", "inflated", "mostwrong", "onegood", "twofam")
"""The list of variants as it is; 3 to 6 families, any part of them; one family whole and two of
each other; all of a wrong scale and all bad ones with three good, or one good; two families."""

RIGHT = {
    "small": {"cellpose": "'diameter': 12.0,", "classical": "'min_distance': 3,"},
    "medium": {"cellpose": "'diameter': 22.0,", "classical": "'min_distance': 6,"},
    "large": {"cellpose": "'diameter': 45.0,", "classical": "'min_distance': 12,"},
    "U2OS": {"cellpose": "'diameter': 22.0,", "classical": "'min_distance': 6,"},
}
"""What fits the size of the nuclei of a group, by family; of all others it is a scale."""

SCALES = {"small": 2.0, "medium": 1.0, "large": 0.5, "U2OS": 1.0}


@dataclass(frozen=True)
class Draw:
    """A project: images of one group, and which variants of which families were tried on them."""

    mode: str
    group: str
    images: list[Table]
    variants: np.ndarray
    families: list[str]


def groups_of(tables: Sequence[Table]) -> dict[str, list[Table]]:
    """Part the images by the median area of their true objects: 260 and 1000 px; U2OS apart."""
    found: dict[str, list[Table]] = {name: [] for name in GROUPS}
    for table in tables:
        area = np.median(table.truth_area)
        size = "small" if area < 260 else "medium" if area <= 1000 else "large"
        found["U2OS" if "_" in table.name else size].append(table)
    return found


def true_f1(images: Sequence[Table], variants: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """F1 of variants against the truth, objects pooled over the images."""
    hits = sum(np.count_nonzero(t.found[:, variants] >= threshold, axis=0) for t in images)
    objects = sum(np.diff(t.start)[variants] + len(t.truth_area) for t in images)
    return 2 * hits / np.maximum(objects, 1)


def draws(
    groups: dict[str, list[Table]], variants: Variants, count: int, seed: int
) -> Iterator[Draw]:
    """Yield random projects of 3 to 6 images of one group: `count` of each mode."""
    random = np.random.default_rng(seed)
    for mode in MODES:
        for number in range(count):
            group = GROUPS[number % len(GROUPS)]
            pool = groups[group]
            size = min(int(random.integers(3, 7)), len(pool))
            images = [pool[i] for i in random.choice(len(pool), size, replace=False)]
            chosen = _chosen(mode, group, variants, random)
            yield Draw(mode, group, images, chosen, variants.families[chosen].tolist())


def _chosen(mode: str, group: str, variants: Variants, random: np.random.Generator) -> np.ndarray:
    every, families = np.arange(len(variants.names)), np.unique(variants.families)
    if mode == "full":
        return every
    if mode == "inflated":
        whole = random.choice(families)
        parts = [
            every[variants.families == family]
            if family == whole
            else random.choice(every[variants.families == family], 2, replace=False)
            for family in families
        ]
        return np.sort(np.concatenate(parts))
    if mode == "twofam":
        return every[np.isin(variants.families, random.choice(families, 2, replace=False))]
    if mode == "random":
        return part_of(every, families, variants, random)
    good = np.array([_fits(name, group) for name in variants.names])
    some = random.choice(every[good], 3 if mode == "mostwrong" else 1, replace=False)
    return np.sort(np.concatenate([some, every[~good]]))


def part_of(
    every: np.ndarray, families: np.ndarray, variants: Variants, random: np.random.Generator
) -> np.ndarray:
    """Any part of 3 to 6 families, of 12 variants at least."""
    while True:
        chosen = random.choice(families, random.integers(3, 7), replace=False)
        pool = every[np.isin(variants.families, chosen)]
        if len(pool) < 12:
            continue
        part = np.sort(random.choice(pool, random.integers(12, len(pool) + 1), replace=False))
        if len(np.unique(variants.families[part])) >= 3:
            return part


def _fits(name: str, group: str) -> bool:
    kind, family, parameters = name.split(" ", 2)
    size = RIGHT[group].get(family, f"'scale': {SCALES[group]},")
    return kind not in ("bad", "inverted") and size in parameters
