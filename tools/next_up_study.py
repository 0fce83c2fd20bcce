"""What the order of `opsef train next` is worth against a random one: numbers for docs/train.md.

    python tools/next_up_study.py DATA PROJECT

DATA is a folder with ``dsb2018`` (BBBC038v1) and ``bbbc039``, with ``images`` and ``labels`` (both
CC0). Images that the shipped networks did not learn from are copied to PROJECT and swept, if that
was not done. For each variant the images are put in order; its wrong objects are false positives
and false negatives at IoU 0.5. A ratio is how many wrong objects lie in the first 10 % of the
images (or of the expected minutes) over what a random order has there on average; beside it
those of other orders. Images are taken whole. What a network learns from them is not measured.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from opsef_bridge.files import write_text
from opsef_bridge.images import read_labels
from opsef_bridge.measure.match import match
from opsef_bridge.project import Project
from opsef_bridge.sweep import plan_sweep, run_plan
from opsef_bridge.sweep.planned import Plan
from opsef_bridge.train.next_up import NextUp, next_up

SETS = ("dsb2018/val", "dsb2018/other", "bbbc039")
SHARE = 0.1

ORDERS: dict[str, Callable[[NextUp], float]] = {
    "most objects first": lambda one: -one.objects,
    "most expected wrong first": lambda one: -one.wrong,
    "largest expected share of wrong first": lambda one: -one.wrong / (one.objects + one.wrong),
}
"""What `opsef train next` is compared with. The first needs no agreement."""

CONFIG = """\
opsef: 1
images: {source: [data/*]}
models:
  classic: {engine: watershed, scale: [0.5, 1.0], threshold: [otsu, local]}
  unet: {engine: unet, weights: nuclei-unet, scale: [0.5, 1.0, 2.0]}
  stardist: {engine: stardist, scale: [0.5, 1.0, 2.0]}
  fpn2ws: {engine: fpn2ws, scale: [1.0]}
sweep: {images: all, crop: none}
"""


def main() -> None:
    """Print a line for each variant, and the spread of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("project", type=Path)
    given = parser.parse_args()
    if not all((given.data / name / "images").is_dir() for name in SETS):
        raise SystemExit(f"skipped: {given.data} does not hold {', '.join(SETS)}")
    project = _project(given.data, given.project)
    run = project.run()
    truth = {
        one.id: read_labels(given.project / "labels" / f"{Path(one.source).stem}.tif")
        for one in project.images()
    }
    found = []
    for variant in Plan.from_json(run.plan()).variants:
        order = next_up(project, run=run.id, variant=variant.id, tile=None)
        wrong = {
            one.image: _wrong(truth[one.image], run.labels(variant.id, one.image)) for one in order
        }
        by_images, by_minutes = _ratios(order, wrong)
        others = [_ratios(sorted(order, key=key), wrong) for key in ORDERS.values()]
        found.append([by_images, by_minutes, *(ratio for pair in others for ratio in pair)])
        print(
            f"{variant.id} {len(order)} images, {sum(wrong.values())} wrong, expected "
            f"{sum(one.wrong for one in order):.0f}; of images {by_images:.2f}, of minutes "
            f"{by_minutes:.2f}  {variant.slug}"
        )
    names = [f"{of}, {order}" for order in ("train next", *ORDERS) for of in ("images", "minutes")]
    for name, ratios in zip(names, np.array(found).T, strict=True):
        low, middle, high = np.percentile(ratios, [0, 50, 100])
        print(f"10 % of {name}: median {middle:.2f}, from {low:.2f} to {high:.2f}, "
              f"{(ratios >= 1.5).sum()} of {len(ratios)} variants at 1.5 or more")  # fmt: skip


def _project(data: Path, folder: Path) -> Project:
    """Make and sweep the project, unless it was done."""
    project = Project(folder)
    if project.runs():
        return project
    for name in SETS:
        for label in sorted((data / name / "labels").iterdir()):
            image = next(iter((data / name / "images").glob(f"{label.stem}.*")), None)
            if image is None:
                continue
            stem = f"{name.replace('/', '-')}_{image.stem}"
            for file, target in ((image, "data"), (label, "labels")):
                (folder / target).mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, folder / target / f"{stem}{file.suffix}")
    write_text(folder / "opsef.yaml", CONFIG)
    run_plan(project, plan_sweep(project))
    return project


def _wrong(truth: np.ndarray, labels: np.ndarray) -> int:
    counts = match(truth, labels, (0.5,))
    return int(counts.fp[0] + counts.fn[0])


def _ratios(order: list[NextUp], wrong: dict[str, int]) -> tuple[float, float]:
    """How many times as many wrong objects as at random lie in the first images, and minutes."""
    total, minutes = sum(wrong.values()), sum(one.minutes for one in order)
    count = max(1, round(SHARE * len(order)))
    first = sum(wrong[one.image] for one in order[:count])
    spent, removed = 0.0, 0.0
    for one in order:  # of the last image the part that the time is enough for
        part = min(1.0, (SHARE * minutes - spent) / one.minutes)
        if part <= 0:
            break
        removed, spent = removed + part * wrong[one.image], spent + part * one.minutes
    return first / (total * count / len(order)), removed / (total * SHARE)


if __name__ == "__main__":
    main()
