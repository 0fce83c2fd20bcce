"""A small project that was really swept, for the tests of its report."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from opsef_bridge.files import write_json
from opsef_bridge.project import Project, Run
from opsef_bridge.sweep import plan_sweep, run_unit

AWKWARD = 'a<b>&"c.png'
"""A file name that is legal on Linux and would break a page that does not escape."""

CONFIG = """\
opsef: 1
images: {source: [data]}
preprocess:
  raw: []
  smooth: [{median: {radius: 1}}]
models:
  classic: {engine: watershed, scale: [0.5, 1.0], threshold: [otsu, 0.8, local]}
groups: {dim: "dim*", bright: "*"}
sweep: {images: all, crop: 64}
"""


def discs(seed: int, size: int = 96) -> np.ndarray:
    """Discs of radius 7 on a noisy ground, uint8."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    image = random.normal(20, 4, (size, size))
    for cy, cx in random.uniform(5, size - 5, (8, 2)):
        image[(y - cy) ** 2 + (x - cx) ** 2 < 49] += 120
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Run]:
    """A project with a readable, a colour, an empty and a broken image, and its run."""
    root = tmp_path_factory.mktemp("work") / "A & B"
    (root / "data").mkdir(parents=True)
    PIL.Image.fromarray(discs(1)).save(root / "data" / AWKWARD)
    PIL.Image.fromarray(np.dstack([discs(2)] * 2 + [discs(3)])).save(root / "data" / "dim1.png")
    PIL.Image.fromarray(np.full((64, 64), 9, np.uint8)).save(root / "data" / "dim2.png")
    (root / "data" / "broken.tif").write_bytes(b"II*\0 no tiff")
    (root / "opsef.yaml").write_text(CONFIG)
    project = Project(root)
    plan = plan_sweep(project)
    run = project.new_run()
    write_json(run.plan_file, plan.to_json())
    for unit in plan.units:
        run_unit(str(root), run.id, unit.id)
    return project, run
