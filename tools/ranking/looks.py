"""How the pictures of a set look at the objects of each variant: ``looks.json`` of its tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
from tables import BAD, raw_of, spoiled

import opsef_bridge
from opsef_bridge.compare.appearance import Appearance, Pictures, appearance, learned
from opsef_bridge.config import Config
from opsef_bridge.files import read_json, write_json
from opsef_bridge.project import Project, Run, read_csv
from opsef_bridge.sweep.planned import Plan, PlannedImage, Variant
from opsef_bridge.sweep.rank import seen_picture

__all__ = ["Looks", "cautioned", "fit_looks", "load_looks", "make_looks", "unlike_images"]

WITHIN = 97.5
"""Percent of the images that networks learned from, on the right side of each limit."""

CARDS = Path(opsef_bridge.__file__).parent / "engines" / "weights"
SET = "dsb2018/train (BBBC038v1)"
"""Of the cards of those networks whose range is fitted."""

Looks = Mapping[str, list[Appearance | None]]
"""By image, of each variant; None where it has no objects to look at."""


def make_looks(root: Path, folder: Path) -> None:
    """Write the looks of all images of a set whose sweeps are done, with its bad variants."""
    project = Project(root)
    variants = list(_variants(project))
    names = [f"{v.recipe} {v.model} {v.predict | v.decode}" for _, _, v in variants]
    models = {variant.model for _, _, variant in variants}
    base = {family: raw_of(family, names) for family in BAD if family in models}
    config = Config(**Plan.from_json(variants[0][0].plan()).config)
    made = {}
    for entry in project.images():
        rows, labels, pictures = [], [], {}
        for run, images, variant in variants:
            image = images[entry.id]
            if variant.recipe not in pictures:
                pictures[variant.recipe] = seen_picture(project, config, image, variant)
            labels.append(run.labels(variant.id, entry.id))
            rows.append(appearance(pictures[variant.recipe], labels[-1]))
        for family, number in base.items():
            bad = spoiled(labels[number], BAD[family])
            rows.append(appearance(pictures["raw"], bad))
        made[Path(entry.source).stem] = [looks and astuple(looks) for looks in rows]
    write_json(folder / "looks.json", made)
    print(f"{root.name}: looked at {len(made)} images", flush=True)


def load_looks(folder: Path) -> Looks:
    """Return the looks of a set."""
    found = read_json(folder / "looks.json")
    return {name: [row and Appearance(*row) for row in rows] for name, rows in found.items()}


def fit_looks(root: Path, folder: Path) -> dict[str, Any]:
    """Return what the networks learned from: of the variant that is first on those images."""
    cards = [read_json(file) for file in sorted(CARDS.glob("*.json"))]
    mine = [card for card in cards if card["data"]["set"] == SET]
    left_out = {name for card in mine for name in card["data"]["left_out"]}
    run = Project(root).run()
    first = read_csv(run.variants_file)[0]["id"]
    number = [v.id for v in Plan.from_json(run.plan()).variants].index(first)
    found = load_looks(folder).items()
    looks = [of[number] for image, of in found if image not in left_out and of[number]]
    return {
        "version": 1,
        "source": f"python tools/ranking --fit: {SET}, {len(looks)} images",
        "families": [card["family"] for card in mine],
        "contrast_from": round(float(np.percentile([o.contrast for o in looks], 100 - WITHIN)), 3),
        "edge_to": round(float(np.percentile([o.edge for o in looks], WITHIN)), 3),
    }


def unlike_images(looks: Looks, images: Iterable[str], variant: int) -> list[str]:
    """Return which images look unlike what the networks learned from, by a variant."""
    return [i for i in images if (look := looks[i][variant]) is not None and look.unlike()]


def cautioned(looks: Looks, images: Iterable[str], variant: int) -> bool:
    """Whether the program warns of these images because of how they look."""
    there = {i: look for i in images if (look := looks[i][variant]) is not None}
    return Pictures("", frozenset(learned()["families"]), there).cautioned


def _variants(project: Project) -> Iterator[tuple[Run, dict[str, PlannedImage], Variant]]:
    for name in project.runs():
        run = project.run(name)
        plan = Plan.from_json(run.plan())
        images = {image.id: image for image in plan.images}
        yield from ((run, images, variant) for variant in plan.variants)
