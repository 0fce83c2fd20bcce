"""What a sweep of 200 units costs over SLURM, beside the summed time of its units.

    python benchmarks/bench_cluster.py [--images 200] [--side 512] [--profile slurm-cpu]

The same sweep is done twice: by worker processes here, as many as there are cores, which
measure each unit; then as jobs of SLURM. The results must be the same, bit for bit, or this
program fails. Then the wall time of the second is divided by the summed unit time over the
cores. Needs a SLURM; as root on Debian, tests/tools/slurm_loopback starts one.

A unit is one image with four network passes here, so that there are as many units as images.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import yaml

from opsef_bridge.execute import free_cores, run_local, run_unit
from opsef_bridge.project import Project
from opsef_bridge.sweep import Executor, plan_sweep, planned_units, run_plan

SCALES = [0.75, 1.0, 1.25, 1.5]
MOST = 1.3


class Measured(Executor):
    """The local executor; each unit leaves its seconds in a file."""

    def run(self, project: Any, run: Any, plan: Any) -> dict[str, Any]:
        target = "bench_cluster:timed_unit"
        return run_local(target, str(project.root), run, plan.units, workers=self.workers)


def timed_unit(project: str, run: str, unit: str, progress: Any) -> dict[str, int]:
    """Do a unit and write down what it took; called in workers."""
    import opsef_bridge.sweep  # noqa: F401  (registers the kinds)

    started = time.perf_counter()
    counts = run_unit(project, run, unit, progress)
    file = Path(os.environ["UNIT_SECONDS"]) / unit
    file.write_text(str(time.perf_counter() - started))
    return counts


def make_project(root: Path, images: int, side: int) -> Project:
    """Discs on a noisy ground, other ones in each image."""
    (root / "data").mkdir(parents=True)
    y, x = np.mgrid[:side, :side]
    for number in range(images):
        rng = np.random.default_rng(number)
        image = rng.normal(200, 12, (side, side))
        for row in range(24, side - 24, 40):
            for column in range(24, side - 24, 40):
                centre = np.array([row, column]) + rng.integers(-6, 7, 2)
                distance = np.hypot(y - centre[0], x - centre[1])
                image[distance < rng.integers(8, 13)] += 1500
        tifffile.imwrite(root / "data" / f"{number:03d}.tif", image.clip(0).astype(np.uint16))
    model = {"engine": "unet", "weights": "nuclei-unet", "scale": SCALES}
    settings = {"opsef": 1, "images": {"source": ["data/*"]}, "models": {"unet": model},
                "sweep": {"images": "all", "crop": "none"}, "compare": {"top": 4}}  # fmt: skip
    (root / "opsef.yaml").write_text(yaml.safe_dump(settings))
    return Project(root)


def labels_of(project: Project) -> dict[str, bytes]:
    """Pixels of all labels by file."""
    folder = project.run().root / "labels"
    files = sorted(folder.glob("*/*.tif"))
    return {str(f.relative_to(folder)): tifffile.imread(f).tobytes() for f in files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--profile", default="slurm-cpu")
    given = parser.parse_args()
    planned_units.PASSES_PER_UNIT = len(SCALES)
    cores = free_cores()
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    )
    with tempfile.TemporaryDirectory() as folder:
        seconds = Path(folder) / "seconds"
        seconds.mkdir()
        os.environ["UNIT_SECONDS"] = str(seconds)
        walls = {}
        found = {}
        for name, executor in {
            "local": Measured(workers=cores),
            "slurm": Executor("snakemake", workers=cores, profile=given.profile),
        }.items():
            project = make_project(Path(folder) / name, given.images, given.side)
            plan = plan_sweep(project)
            load = os.getloadavg()[0]
            started = time.perf_counter()
            result = run_plan(project, plan, executor)
            walls[name] = time.perf_counter() - started
            if result.exit_code:
                sys.exit(f"{name}: {result}")
            found[name] = labels_of(project)
            print(
                f"{name}: {len(plan.units)} units, {walls[name]:.1f} s; load before {load:.1f}",
                flush=True,
            )
        if found["local"] != found["slurm"] or not found["local"]:
            sys.exit("the labels are not the same")
        total = sum(float(file.read_text()) for file in seconds.iterdir())
    ratio = walls["slurm"] / (total / cores)
    figures = {
        "labels": len(found["local"]),
        "cores": cores,
        "unit_seconds": round(total, 1),
        "unit_seconds_per_core": round(total / cores, 1),
        "local_wall": round(walls["local"], 1),
        "slurm_wall": round(walls["slurm"], 1),
        "ratio": round(ratio, 3),
        "at_most": MOST,
    }
    print(json.dumps(figures, indent=1))
    sys.exit(0 if ratio <= MOST else 1)


if __name__ == "__main__":
    main()
