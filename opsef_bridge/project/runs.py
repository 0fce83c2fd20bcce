"""The folder of a run or a training: where its files lie."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.errors import ImageError, NotFoundError, ProjectError
from opsef_bridge.files import read_json, write_json
from opsef_bridge.images import read_labels
from opsef_bridge.preprocess.step_files import map_plan_files, relative_to, whole_in
from opsef_bridge.project.entries import safe_name

__all__ = ["Run"]


class Run:
    """The folder of one run: where its files lie.

    Parameters
    ----------
    root : Path
        ``runs/<run>`` of a project; need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.id = root.name
        self.lock_file = root / ".lock"
        """Held by the process that works on it."""
        self.lock_of_all = root.parent / ".lock"
        """Held by the process that works on any run of the project, or any training."""
        self.plan_file = root / "plan.json"
        self.record_file = root / "run.json"
        self.variants_file = root / "variants.csv"
        self.outcomes_file = root / "outcomes.csv"
        self.snakefile = root / "Snakefile"
        self.report_file = root / "report.html"
        self.batch_file = root / "batch.tif"

    def unit_file(self, unit: str) -> Path:
        return self.root / "units" / f"{unit}.json"

    def done_file(self, unit: str) -> Path:
        return self.root / "units" / f"{unit}.done"

    def log_file(self, unit: str) -> Path:
        return self.root / "logs" / f"{unit}.txt"

    def label_file(self, variant: str, image: str) -> Path:
        return self.root / "labels" / safe_name(variant) / f"{safe_name(image)}.tif"

    def rois_file(self, variant: str, image: str) -> Path:
        return self.root / "rois" / safe_name(variant) / f"{safe_name(image)}_ROIs.zip"

    def compare_file(self, image: str) -> Path:
        return self.root / "compare" / f"{safe_name(image)}.tif"

    def labels(self, variant: str, image: str) -> np.ndarray:
        """Return labels that it has made: int32, 0 is background.

        Raises
        ------
        ProjectError
            Their file is gone or damaged.
        """
        file = self.label_file(variant, image)
        again = f"`opsef sweep resume --run {self.id}` makes it again"
        if not file.is_file():
            raise ProjectError(f"{file} is gone, which {self.id} has made", hint=again)
        try:
            return read_labels(file)
        except ImageError as error:
            raise ProjectError(
                f"{file} is damaged ({error.message})", hint=f"Delete it; then {again}"
            ) from error

    def plan(self) -> dict[str, Any]:
        """Return the parsed ``plan.json``; files that steps name have whole paths."""
        if not self.plan_file.is_file():
            raise NotFoundError(f"{self.id} has no plan", hint="Start it with `opsef sweep run`")
        return map_plan_files(read_json(self.plan_file), whole_in(self.project_root))

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Write ``plan.json``; files in the project are named relative to it."""
        write_json(self.plan_file, map_plan_files(plan, relative_to(self.project_root)))

    @property
    def project_root(self) -> Path:
        """The folder of the project."""
        return self.root.parents[1]

    def tile_file(self, variant: str, image: str, tile: str) -> Path:
        """Labels of one tile of an image, until they are merged."""
        return self.root / "tiles" / safe_name(variant) / safe_name(image) / f"{tile}.tif"

    def outcomes(self, *, tiles: bool = False) -> list[dict[str, Any]]:
        """Return what the units have recorded so far, in the order of the units.

        Those of single tiles only with `tiles`: of the image the merge unit has one.
        """
        found: list[dict[str, Any]] = []
        for file in sorted((self.root / "units").glob("u*.json")):
            record = read_json(file)
            if tiles or record.get("kind") != "tiles":
                found += record["outcomes"]
        return found
