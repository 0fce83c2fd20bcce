"""What the experiment needs of an image: every object against every variant and the truth."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.segmentation import find_boundaries

from opsef_bridge.compare.agreement import Compared, compare_images
from opsef_bridge.files import read_json, write_json
from opsef_bridge.images import read_labels
from opsef_bridge.measure.overlap import Pairs, iou_pairs, label_runs
from opsef_bridge.project import Project
from opsef_bridge.sweep.planned import Plan

__all__ = ["BAD", "Table", "Variants", "load", "make_tables", "raw_of", "spoiled"]

BAD = {
    "unet": "merged",
    "stardist": "few",
    "cellpose": "tight",
    "fpn2ws": "split",
    "maskrcnn": "tight",
    "classical": "merged",
}
"""One deliberately bad variant of each family, made of its raw one at scale 1."""


@dataclass(frozen=True)
class Variants:
    """Family and description of each variant of a set."""

    families: np.ndarray
    names: list[str]


@dataclass(frozen=True)
class Table:
    """One image.

    Parameters
    ----------
    start : (V + 1,) ndarray of int
        Where the objects of each variant begin among all `n`.
    best, partner : (n, V) ndarray
        Largest IoU of each object with each variant, and the number of that object there.
    matched : (2, V, V) ndarray of int
        Matched pairs at IoU 0.5 and 0.7.
    area : (n,) ndarray of int
    truth_iou, truth_partner : (n,) ndarray
        Largest IoU of each object with the truth, and with which of its objects.
    found, found_partner : (T, V) ndarray
        Largest IoU of each object of the truth with each variant.
    truth_area : (T,) ndarray of int
    """

    name: str
    start: np.ndarray
    best: np.ndarray
    partner: np.ndarray
    matched: np.ndarray
    area: np.ndarray
    truth_iou: np.ndarray
    truth_partner: np.ndarray
    found: np.ndarray
    truth_area: np.ndarray

    @cached_property
    def owner(self) -> np.ndarray:
        """Variant of each object."""
        return np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))

    def rows(self, variants: np.ndarray) -> np.ndarray:
        """Positions of the objects of some variants, which ascend."""
        return np.flatnonzero(np.isin(self.owner, variants))

    def compared(self, variants: np.ndarray) -> Compared:
        """Return what `opsef_bridge.compare` needs of some variants."""
        size = len(variants)
        parts = [slice(self.start[v], self.start[v + 1]) for v in variants]
        matched = np.zeros((2, size + 1, size + 1), np.int64)
        matched[:, :size, :size] = self.matched[:, variants[:, None], variants]
        return Compared(
            [np.arange(1, part.stop - part.start + 1) for part in parts],
            np.arange(size),
            [self.best[part][:, variants] for part in parts],
            matched,
        )


def make_tables(data: Path, root: Path, folder: Path) -> None:
    """Write the tables of all images of a set whose sweeps are done."""
    project = Project(root)
    runs = [project.run(name) for name in project.runs()]
    variants = [(run, v) for run in runs for v in Plan.from_json(run.plan()).variants]
    names = [f"{v.recipe} {v.model} {v.predict | v.decode}" for _, v in variants]
    families = [v.model for _, v in variants]
    base = {family: raw_of(family, names) for family in BAD}
    write_json(
        folder / "variants.json",
        {"families": [*families, *BAD], "names": [*names, *(f"bad {f} {BAD[f]}" for f in BAD)]},
    )
    for entry in project.images():
        stem = Path(entry.source).stem
        file = folder / f"{stem}.npz"
        if file.is_file():
            continue
        labels = [read_labels(run.label_file(v.id, entry.id)) for run, v in variants]
        labels += [spoiled(labels[base[family]], how) for family, how in BAD.items()]
        arrays = _compared(labels, read_labels(_truth(data, stem)))
        if not any(folder.glob("*.npz")):
            _check(arrays, labels)
        np.savez_compressed(file, **arrays)
        print(f"{root.name} {stem}: {len(arrays['truth_area'])} objects", flush=True)


def load(folder: Path) -> tuple[list[Table], Variants]:
    """Return the tables of a set."""
    told = read_json(folder / "variants.json")
    tables = []
    for file in sorted(folder.glob("*.npz")):
        with np.load(file) as arrays:
            names = [field.name for field in fields(Table)][1:]
            tables.append(Table(file.stem, **{name: arrays[name] for name in names}))
    return tables, Variants(np.array(told["families"]), told["names"])


def _truth(data: Path, stem: str) -> Path:
    places = ("dsb2018/val", "dsb2018/other", "bbbc039")
    return next(f for p in places if (f := data / p / "labels" / f"{stem}.tif").is_file())


def raw_of(family: str, names: list[str]) -> int:
    """Return the number of the variant that the bad one of a family is made of."""
    size = {"cellpose": "'diameter': 22", "classical": "'min_distance': 6"}.get(
        family, "'scale': 1.0"
    )
    wanted = re.compile(rf"raw {family} .*{re.escape(size)}\b")
    return next(number for number, name in enumerate(names) if wanted.match(name))


def spoiled(labels: np.ndarray, how: str) -> np.ndarray:
    """Merge what touches, keep one in four, shrink by 3 px, or cut in four."""
    if how == "merged":
        joined = ndimage.label(ndimage.binary_dilation(labels > 0))[0]
        return np.where(labels > 0, joined, 0)
    if how == "few":
        return np.where(labels % 4 == 1, labels, 0)
    if how == "tight":
        inside = (labels > 0) & ~find_boundaries(labels, mode="inner")
        return np.where(ndimage.distance_transform_edt(inside) > 2.5, labels, 0)
    y, x = np.indices(labels.shape)
    count = labels.max() + 1
    areas = np.bincount(labels.ravel(), minlength=count).clip(1)
    middle = [np.bincount(labels.ravel(), axis.ravel(), count) / areas for axis in (y, x)]
    quarter = (y > middle[0][labels]) + 2 * (x > middle[1][labels])
    return np.where(labels > 0, 4 * labels + quarter, 0)


def _compared(labels: list[np.ndarray], truth: np.ndarray) -> dict[str, np.ndarray]:
    runs, vouched = [label_runs(image) for image in labels], label_runs(truth)
    start = np.cumsum([0, *(len(one) for one in runs)])
    size = len(runs)
    best = np.ones((start[-1], size), np.float32)
    partner = np.zeros((start[-1], size), np.int32)
    truth_iou, truth_partner = np.zeros(start[-1], np.float32), np.zeros(start[-1], np.int32)
    found = np.zeros((len(vouched), size), np.float32)
    matched = np.zeros((2, size, size), np.int64)
    for a in range(size):
        here = slice(start[a], start[a + 1])
        partner[here, a] = np.arange(len(runs[a]))
        matched[:, a, a] = len(runs[a])
        pairs = iou_pairs(runs[a], vouched)
        truth_iou[here], truth_partner[here], found[:, a], _ = _best(pairs)
        for b in range(a):
            there = slice(start[b], start[b + 1])
            pairs = iou_pairs(runs[a], runs[b])
            best[here, b], partner[here, b], best[there, a], partner[there, a] = _best(pairs)
            for level, threshold in enumerate((0.5, 0.7)):
                reached = [
                    part >= np.float32(threshold) for part in (best[here, b], best[there, a])
                ]
                edges = np.count_nonzero(pairs.iou.astype(np.float32) >= np.float32(threshold))
                matched[level, a, b] = matched[level, b, a] = sum(map(np.sum, reached)) - edges
    return {
        "start": start,
        "best": best,
        "partner": partner,
        "matched": matched,
        "area": np.concatenate([one.areas for one in runs]),
        "truth_iou": truth_iou,
        "truth_partner": truth_partner,
        "found": found,
        "truth_area": vouched.areas,
    }


def _best(pairs: Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Largest IoU and its partner, -1 for none, of the objects of both sides."""
    order = np.argsort(pairs.iou, kind="stable")
    made: list[np.ndarray] = []
    for mine, other, runs in ((pairs.i, pairs.j, pairs.a), (pairs.j, pairs.i, pairs.b)):
        iou, partner = np.zeros(len(runs), np.float32), np.full(len(runs), -1, np.int32)
        iou[mine[order]], partner[mine[order]] = pairs.iou[order], other[order]
        made += [iou, partner]
    return made[0], made[1], made[2], made[3]


def _check(arrays: dict[str, Any], labels: list[np.ndarray]) -> None:
    """The tables are the program's own comparison."""
    own = compare_images(labels)
    for variant, kind in enumerate(own.which):
        part = slice(arrays["start"][variant], arrays["start"][variant + 1])
        np.testing.assert_array_equal(arrays["best"][part], own.best[kind][:, own.which])
    size = len(labels)
    np.testing.assert_array_equal(
        arrays["matched"], own.matched[:, own.which[:size, None], own.which]
    )
