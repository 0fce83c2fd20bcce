"""What `opsef sweep refine` gains on small projects with truth, and what chance would."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import optuna
import tifffile

from opsef_bridge.errors import OpsefError
from opsef_bridge.execute import run_unit
from opsef_bridge.files import read_json, write_json
from opsef_bridge.images import read_image, read_labels
from opsef_bridge.measure import match
from opsef_bridge.project import Project, Run
from opsef_bridge.sweep import Executor, plan_sweep, run_plan
from opsef_bridge.sweep.planned import Plan
from opsef_bridge.sweep.refine import refine
from opsef_bridge.sweep.run import variant_rows

__all__ = ["CROP", "IMAGES", "PASSES", "SEEDS", "TRIALS", "refining"]

CROP = 256
"""Side of the middle part of each image that is taken, in px."""

IMAGES = 4
"""Of each group."""

TRIALS = 24
PASSES = 40
SEEDS = (0, 1, 2)

KEPT = "choosing.json"
"""In a project that was searched: what came of it."""

CONFIG = """\
opsef: 1
images: {source: data}
sweep: {images: all, crop: none, device: cpu}
compare: {top: 1, rois: 0}
models:
  unet:      {engine: unet, scale: [0.5, 1.0, 2.0], threshold: [0.4, 0.6]}
  stardist:  {engine: stardist, weights: nuclei-stardist, scale: [0.5, 1.0, 2.0], prob: [0.4, 0.6]}
  classical: {engine: watershed, threshold: [otsu, local], min_distance: [3, 12]}
"""


class Here(Executor):
    """All units in this process, so that the weights are read once."""

    def run(self, project: Project, run: Run, plan: Plan) -> dict[str, OpsefError]:
        """Do the units of a plan that are not done, in their order."""
        for unit in plan.units:
            run_unit(str(project.root), run.id, unit.id)
        return {}


Truths = Mapping[str, np.ndarray]
"""By the stem of the file."""


def refining(pictures: Mapping[str, Sequence[tuple[Path, Path]]], out: Path) -> dict[str, Any]:
    """Refine a project of each group, by the optimiser and by chance.

    Parameters
    ----------
    pictures : mapping
        Of each group the files of images and of their true labels; the first `IMAGES` count.
    out : Path
        Folder for the projects. Interrupted work goes on.

    Returns
    -------
    dict
        ``trials``, ``passes`` (allowed), ``images``, ``crop``, ``seeds``, and ``projects``: a
        list of what `_searched` returns.
    """
    found = []
    for group, files in pictures.items():
        root = out / group
        truths = _make_project(root, files[:IMAGES])
        project = Project(root)
        result = run_plan(project, plan_sweep(project), Here())
        if result.failed:
            raise SystemExit(f"{result.failed} of the sweep of {root} failed")
        for seed in SEEDS:
            for chance in (False, True):
                one = _searched(root, truths, seed, chance)
                found.append({"group": group, **one})
                print(found[-1], flush=True)
    return {
        "trials": TRIALS, "passes": PASSES, "images": IMAGES, "crop": CROP,
        "seeds": len(SEEDS), "projects": found,
    }  # fmt: skip


def _make_project(root: Path, files: Sequence[tuple[Path, Path]]) -> Truths:
    (root / "data").mkdir(parents=True, exist_ok=True)
    (root / "opsef.yaml").write_text(CONFIG, "utf-8")
    truths = {}
    for image, labels in files:
        tifffile.imwrite(root / "data" / f"{image.stem}.tif", _middle(read_image(image).data))
        truths[image.stem] = _middle(read_labels(labels))
    return truths


def _middle(array: np.ndarray) -> np.ndarray:
    y, x = ((size - CROP) // 2 for size in array.shape[-2:])
    return np.ascontiguousarray(array[..., max(y, 0) : y + CROP, max(x, 0) : x + CROP])


def _searched(root: Path, truths: Truths, seed: int, chance: bool) -> dict[str, Any]:
    """Refine a copy of a swept project; ``f1`` of each choice at IoU 0.5 and 0.7.

    ``first`` is the variant that the sweep ranks first. ``before`` and ``now`` are the best by
    the objective of the search, of the sweep and of all variants; ``best_before`` and ``best``
    the truly best. With `chance` points of the same space are drawn at random. ``seconds`` are
    those of the processor; they are kept with the rest, since a second call does nothing.
    """
    copy = root.with_name(f"{root.name}-{'chance' if chance else 'search'}-{seed}")
    if (copy / KEPT).is_file():
        return read_json(copy / KEPT)
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(root, copy)
    project = Project(copy)
    base = project.run("run-0001")
    sampler = patch.object(optuna.samplers, "TPESampler", _by_chance) if chance else nullcontext()
    start = time.process_time()
    with sampler:
        refined = refine(
            project, run=base.id, passes=PASSES, trials=TRIALS, seed=seed,
            executor=Here(),
        )  # fmt: skip
    seconds = time.process_time() - start
    old, new = _truly(project, base, truths), _truly(project, project.run(refined.run), truths)
    found = {
        "by": "chance" if chance else "search",
        "seed": seed,
        "first": old[variant_rows(base)[0]["id"]],
        "before": old[refined.before["id"]],
        "now": new[refined.now["id"]],
        "best_before": np.max(list(old.values()), axis=0).tolist(),
        "best": np.max(list(new.values()), axis=0).tolist(),
        "objective": [refined.before["objective"], refined.now["objective"]],
        "passes": refined.passes,
        "seconds": seconds,
    }
    write_json(copy / KEPT, found)
    return found


def _by_chance(seed: int, constant_liar: bool) -> optuna.samplers.BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


def _truly(project: Project, run: Run, truths: Truths) -> dict[str, list[float]]:
    """F1 at IoU 0.5 and 0.7 of each variant of a run, objects pooled over the images."""
    sums: dict[str, np.ndarray] = {}
    for entry in project.images():
        truth = truths[Path(entry.source).stem]
        for variant in Plan.from_json(run.plan()).variants:
            found = match(truth, run.labels(variant.id, entry.id), (0.5, 0.7))
            counts = found[["tp", "fp", "fn"]].to_numpy()
            sums[variant.id] = sums.get(variant.id, np.zeros((2, 3), int)) + counts
    return {name: (2 * s[:, 0] / (s[:, 0] + s.sum(axis=1))).tolist() for name, s in sums.items()}
