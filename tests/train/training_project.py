"""A project with a small dataset of squares, and a training of it done in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tifffile

from opsef_bridge.images import write_labels
from opsef_bridge.project import Project, Run
from opsef_bridge.train.data import Sample
from opsef_bridge.train.dataset_make import Wish, make_dataset
from opsef_bridge.train.dataset_sources import collect, label_folders
from opsef_bridge.train.dataset_split import Shares
from opsef_bridge.train.kinds import run_unit
from opsef_bridge.train.networks import TrainPlan
from opsef_bridge.train.running import open_training
from tests.train.labelled_project import squares

CONFIG = """\
opsef: 1
images: {source: [data/*.tif]}
models: {classic: {engine: watershed}}
"""

TINY = {"batch": 2, "crop": 64, "width": 8, "depth": 2, "bfloat16": False}
"""Settings of a U-Net that learns a step in a few milliseconds."""


def dataset_project(folder: Path, count: int = 8, kinds: tuple[str, ...] = ("round", "flat")):
    """Make a project whose dataset d0001 has `count` images, of kinds in turn."""
    project = Project(folder)
    (folder / "data").mkdir(parents=True)
    project.config_file.write_text(CONFIG)
    places = []
    for kind in kinds:
        place = folder / "truth-files" / kind
        for n in range(count // len(kinds)):
            image, labels = squares(10 * kinds.index(kind) + n)
            (place / "images").mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(place / "images" / f"{kind}{n}.tif", image)
            write_labels(place / "labels" / f"{kind}{n}.tif", labels)
        places.append(place)
    found = collect(project, label_folders(places), truth=False)
    make_dataset(project, found, Wish(shares=Shares(0.25, 0.25)))
    return project


def write_train(project: Project, text: str) -> None:
    """Give ``opsef.yaml`` a section ``train``."""
    project.config_file.write_text(CONFIG + text)


def samples_given(patch: pytest.MonkeyPatch) -> list[Sequence[Sample]]:
    """Return a list to which every training from now on adds its samples; they train as ever."""
    from opsef_bridge.train import training

    real, given = training.train, []

    def watched(made: Any, samples: Sequence[Sample], *rest: Any, **ways: Any) -> Any:
        given.append(samples)
        return real(made, samples, *rest, **ways)

    patch.setattr(training, "train", watched)
    return given


def carry_out(
    project: Project,
    plan: TrainPlan,
    progress: Callable[[str, int, int], None] = lambda message, done, of: None,
) -> Run:
    """Do all units of a plan that are not done, in this process."""
    run = open_training(project, plan)
    for unit in run.plan()["units"]:
        run_unit(str(project.root), run.id, unit["id"], progress)
    return run


def tables_of(run: Run) -> dict[str, bytes]:
    """Return what the tables hold that do not depend on the clock."""
    files = (run.root / "tables").glob("*.csv")
    return {file.name: file.read_bytes() for file in files if file.name != "times.csv"}
