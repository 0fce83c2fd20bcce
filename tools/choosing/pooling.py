"""How good `opsef consensus` is on the projects of ``tools/ranking``, by their truth."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from projects import GROUPS, MODES, Draw, draws, groups_of, true_f1
from scipy import ndimage
from study import mean_interval
from tables import BAD, Table, Variants, load, raw_of, spoiled

from opsef_bridge.compare.agreement import ranked
from opsef_bridge.compare.confidence import object_supports
from opsef_bridge.compare.consensus import OVERLAP, SUPPORTED, consensus
from opsef_bridge.compare.groups import ObjectGroups, object_groups
from opsef_bridge.compare.questions import LEAD
from opsef_bridge.images import read_labels
from opsef_bridge.measure import match
from opsef_bridge.project import Project
from opsef_bridge.sweep.planned import Plan

__all__ = ["SETTINGS", "pooling", "truth_of"]

MODULE = sys.modules["opsef_bridge.compare.agreement"]
"""The function of that name hides it in the package."""

SHIPPED = (SUPPORTED, OVERLAP)
SETTINGS = (SHIPPED, (0.4, 0.25), (0.6, 0.25), (0.5, 0.5))
"""`supported` and `overlap` that are tried."""

HEADS = ("best", SHIPPED)
"""The outlines of the best supported objects; ``voted`` are those by vote of all that have it."""

ALIKE = {"medium": ("medium", "U2OS"), "U2OS": ("medium", "U2OS")}
UNLIKE = ("tissue", "blurred", "inverted")

Constants = Mapping[str, Any]


@dataclass(frozen=True)
class Judged:
    """A project, the agreement of its variants and, by image, the support of their objects."""

    draw: Draw
    agreement: np.ndarray
    supports: dict[str, list[np.ndarray]]

    def variant_f1(self) -> tuple[np.ndarray, np.ndarray]:
        """F1 at IoU 0.5 and 0.7 of the first, and of the truly best variant."""
        first = int(np.argmax(self.agreement.round(6)))
        found = [true_f1(self.draw.images, self.draw.variants, at) for at in (0.5, 0.7)]
        return np.array([f1[first] for f1 in found]), np.array([f1.max() for f1 in found])


def pooling(data: Path, sweeps: Path, fits: Mapping[str, Constants], count: int) -> dict[str, Any]:
    """Compare the consensus with the first and with the truly best variant of projects.

    Parameters
    ----------
    data : Path
        Folder of the images with their truth.
    sweeps : Path
        What ``tools/ranking`` left: a project of each set, and their ``tables``.
    fits : mapping
        Of each group the constants of support that were fitted without it.
    count : int
        Projects of each kind.

    Returns
    -------
    dict
        The part ``consensus`` of ``docs/choosing.json``; F1 at IoU 0.5 and at 0.7 each.
    """
    tables, variants = load(sweeps / "tables" / "fluorescence")
    groups = groups_of(tables)
    projects = [
        _judged(draw, {**MODULE._constants(), "expected_f1": fits[draw.group]})
        for draw in draws(groups, variants, count, seed=0)
    ]
    f1 = _consensus_f1(data, sweeps / "fluorescence", variants, projects)
    first, best = (np.array(f) for f in zip(*(p.variant_f1() for p in projects), strict=True))
    group = np.array([p.draw.group for p in projects])
    chosen = {name: _chosen(f1, group, name) for name in GROUPS}
    ours = np.array([f1["voted", chosen[g]][number] for number, g in enumerate(group)])
    named = {"first": first, "best": best, "consensus": ours, "head": f1[HEADS]}
    mode = np.array([p.draw.mode for p in projects])
    return {
        "projects": len(projects),
        "images": len(tables),
        "variants": len(variants.names),
        "chosen": {name: list(setting) for name, setting in chosen.items()},
        "settings": [
            {"supported": s, "overlap": o, "f1": _mean(f1["voted", (s, o)])} for s, o in SETTINGS
        ],
        "by_group": {g: {n: _mean(v[group == g]) for n, v in named.items()} for g in GROUPS},
        "by_mode": {m: {n: _mean(v[mode == m]) for n, v in named.items()} for m in MODES},
        "mean": {name: _mean(values) for name, values in named.items()},
        "more_than": {
            name: [mean_interval(ours[:, at] - named[name][:, at]) for at in (0, 1)]
            for name in ("first", "best", "head")
        },
        "worse_by_.02": [float(np.mean(ours[:, at] < first[:, at] - 0.02)) for at in (0, 1)],
        "better_by_.02": [float(np.mean(ours[:, at] > first[:, at] + 0.02)) for at in (0, 1)],
        "unlike": [_unlike(data, sweeps, name) for name in UNLIKE],
    }


def truth_of(data: Path, stem: str) -> Path:
    """Return the file of the true labels of an image."""
    places = ("dsb2018/val", "dsb2018/other", "bbbc039")
    return next(f for p in places if (f := data / p / "labels" / f"{stem}.tif").is_file())


def _unlike(data: Path, sweeps: Path, name: str) -> dict[str, Any]:
    """All images of a set that the networks saw nothing like, as one project."""
    tables, variants = load(sweeps / "tables" / name)
    every = np.arange(len(variants.names))
    draw = Draw("named", name, tables, every, variants.families.tolist())
    judged = _judged(draw, MODULE._constants())
    f1 = _consensus_f1(data, sweeps / name, variants, [judged], [SHIPPED])
    first, best = judged.variant_f1()
    named = {"first": first, "best": best, "consensus": f1["voted", SHIPPED][0]}
    named["head"] = f1[HEADS][0]
    told = {key: [round(float(v), 4) for v in values] for key, values in named.items()}
    return {"set": name, "images": len(tables), **told}


def _judged(draw: Draw, constants: Constants) -> Judged:
    with patch.object(MODULE, "_constants", lambda: constants):
        table, supports = ranked(
            [image.compared(draw.variants) for image in draw.images], draw.families
        )
        found = [object_supports(one, draw.families) for one in supports]
    named = {image.name: q for image, q in zip(draw.images, found, strict=True)}
    return Judged(draw, table["agreement"].to_numpy(), named)


def _consensus_f1(
    data: Path,
    root: Path,
    variants: Variants,
    projects: Sequence[Judged],
    settings: Sequence[tuple[float, float]] = SETTINGS,
) -> dict[tuple[str, tuple[float, float]], np.ndarray]:
    """F1 at IoU 0.5 and 0.7 of the consensus of each project, by outline and setting."""
    counts: dict[Any, np.ndarray] = defaultdict(lambda: np.zeros((len(projects), 2, 3)))
    for image, labels in _images(root, variants, projects):
        truth = read_labels(truth_of(data, image.name))
        boxes, numbers = _objects(labels)
        if image.name == projects[0].draw.images[0].name:
            _check(image, labels, boxes, numbers, projects[0])
        for at, project in enumerate(projects):
            if image.name not in project.supports:
                continue
            mine = [labels[v] for v in project.draw.variants]
            groups = _groups(image, project, boxes, numbers)
            says = np.exp((project.agreement - project.agreement.max()) / LEAD)
            for outline, (s, o) in (HEADS, *(("voted", setting) for setting in settings)):
                weights = says if outline == "voted" else None
                made = consensus(mine, groups, says=weights, supported=s, overlap=o)
                found = match(truth, made, (0.5, 0.7))[["tp", "fp", "fn"]].to_numpy()
                counts[outline, (s, o)][at] += found
        print(f"{root.name} {image.name}", flush=True)
    return {
        key: 2 * n[..., 0] / np.maximum(n[..., 0] + n.sum(axis=-1), 1) for key, n in counts.items()
    }


def _images(
    root: Path, variants: Variants, projects: Sequence[Judged]
) -> Iterator[tuple[Table, list[np.ndarray]]]:
    """The images of projects, and the labels of all variants of the sweeps of each."""
    wanted = {image.name: image for one in projects for image in one.draw.images}
    project = Project(root)
    runs = [project.run(name) for name in project.runs()]
    swept = [(run, v.id) for run in runs for v in Plan.from_json(run.plan()).variants]
    base = {family: raw_of(family, variants.names[: len(swept)]) for family in BAD}
    for entry in project.images():
        image = wanted.get(Path(entry.source).stem)
        if image is not None:
            labels = [run.labels(variant, entry.id) for run, variant in swept]
            yield image, [*labels, *(spoiled(labels[base[f]], how) for f, how in BAD.items())]


def _objects(labels: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes, (n, 4) as in `ObjectGroups`, and label numbers of all objects of all variants."""
    found = [
        ([s.start for s in box] + [s.stop for s in box], number)
        for image in labels
        for number, box in enumerate(ndimage.find_objects(image), start=1)
        if box is not None
    ]
    return np.array([box for box, _ in found]), np.array([number for _, number in found])


def _groups(image: Table, project: Judged, boxes: np.ndarray, numbers: np.ndarray) -> ObjectGroups:
    """Groups as `object_groups` makes them, by what the tables know of IoU."""
    variants, q = project.draw.variants, np.concatenate(project.supports[image.name])
    rows = image.rows(variants)
    place = np.full(len(image.owner), -1)
    place[rows] = np.arange(len(rows))
    best, partner = image.best[rows][:, variants], image.partner[rows][:, variants]
    near = (best >= np.float32(0.5)) & (image.owner[rows][:, None] != variants[None, :])
    other = np.where(near, place[image.start[variants][None, :] + partner], -1)
    group = np.full(len(rows), -1)
    heads = []
    for head in np.argsort(-q, kind="stable"):
        if group[head] < 0:
            group[head] = len(heads)
            mates = other[head][other[head] >= 0]
            group[mates[group[mates] < 0]] = len(heads)
            heads.append(head)
    first = np.array(heads, int)
    owner = np.searchsorted(variants, image.owner[rows])
    member = np.zeros((len(first), len(variants)), np.int64)
    member[group, owner] = numbers[rows]
    at = rows[first]
    return ObjectGroups(owner[first], numbers[at], q[first], image.area[at], boxes[at], member)


def _check(
    image: Table, labels: Sequence[np.ndarray], boxes: np.ndarray, numbers: np.ndarray, one: Judged
) -> None:
    """The groups by the tables paint what those of the program do."""
    mine = [labels[v] for v in one.draw.variants]
    own = object_groups(mine, one.supports[image.name])
    by_table = _groups(image, one, boxes, numbers)
    np.testing.assert_array_equal(consensus(mine, own), consensus(mine, by_table))


def _chosen(f1: Mapping[Any, np.ndarray], group: np.ndarray, name: str) -> tuple[float, float]:
    """The setting that is best on the other groups of images; of equal ones the first."""
    others = ~np.isin(group, ALIKE.get(name, (name,)))
    return max(SETTINGS, key=lambda setting: f1["voted", setting][others].mean().round(6))


def _mean(values: np.ndarray) -> list[float]:
    return [round(float(v), 4) for v in values.mean(axis=0)]
