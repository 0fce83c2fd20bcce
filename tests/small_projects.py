"""Small projects that tests share: discs, one cheap engine, all units in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from opsef_bridge.execute import run_unit
from opsef_bridge.project import Project
from opsef_bridge.sweep import Executor, plan_sweep, run_plan

CONFIG = """\
opsef: 1
images: {source: [data/*]}
models: {classic: {engine: watershed, threshold: [otsu, 0.8]}}
classes: {1: resting, 2: dividing}
sweep: {crop: CROP}
"""

THRESHOLDS = "[otsu, 0.8]"


class Here(Executor):
    """All units in this process."""

    def run(self, project, run, plan):
        for unit in plan.units:
            run_unit(str(project.root), run.id, unit.id)
        return {}


def discs(
    seed: int, shape: tuple[int, int] = (72, 80), first: tuple[int, int] = (0, 4)
) -> np.ndarray:
    """Return bright discs on a dark ground, well apart; some at the border, by `first`."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    image = rng.normal(200, 12, shape)
    for y in range(first[0], shape[0], 24):
        for x in range(first[1], shape[1], 24):
            radius = rng.integers(5, 9)
            image[np.hypot(rows - y, columns - x) < radius] += 1500
    return image.clip(0).astype(np.uint16)


def swept(
    folder: Path,
    files: dict[str, np.ndarray],
    *,
    crop: str = "none",
    thresholds: str = THRESHOLDS,
) -> Project:
    """Make a project of images and sweep it, a variant for each threshold."""
    (folder / "data").mkdir(parents=True)
    for name, image in files.items():
        axes = "ZYX"[-image.ndim :]
        tifffile.imwrite(folder / "data" / name, image, imagej=True, metadata={"axes": axes})
    config = CONFIG.replace("CROP", crop).replace(THRESHOLDS, thresholds)
    (folder / "opsef.yaml").write_text(config, "utf-8")
    project = Project(folder)
    result = run_plan(project, plan_sweep(project), Here())
    assert result.failed == 0 and result.ok > 0
    return project


def swept_to_judge(folder: Path) -> Project:
    """Make a project of two images, ``a.tif`` and ``b.tif``, on which four variants disagree."""
    files = {f"{name}.tif": discs(seed) for seed, name in enumerate("ab")}
    return swept(folder, files, thresholds="[0.05, 0.1, 0.8, otsu]")
