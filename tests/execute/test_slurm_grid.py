"""A grid of networks as a job of a real SLURM: the weights and tables that it has locally."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("snakemake")

from opsef_bridge.execute.slurm import jobs_of
from opsef_bridge.project import Project, Run
from opsef_bridge.train.curves import read_curves
from opsef_bridge.train.networks import TrainPlan
from opsef_bridge.train.places import weights_of
from opsef_bridge.train.running import training_status
from tests.train.training_project import dataset_project, tables_of, write_train

LONG = 400
GRID = """\
train:
  networks:
    u: {engine: unet, batch: 2, crop: 64, width: 8, depth: 2, bfloat16: false}
  start: [random, shipped]
  steps: 4
  every: 2
  train_images: 2
  device: cpu
"""


def grid(project: Project, *words: str) -> Run:
    """Run ``opsef train grid WORDS`` to its end."""
    command = [sys.executable, "-m", "opsef_bridge", "-p", str(project.root), "train", "grid"]
    done = subprocess.run(
        [*command, *words], capture_output=True, text=True, timeout=LONG, check=False,
        cwd=project.root.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    run = project.training()
    assert training_status(run).exit_code == 0
    return run


def found(run: Run) -> dict[str, object]:
    """Tables, labels and weights of a training: all that must not depend on where it ran."""
    labels = sorted((run.root / "labels").rglob("*.tif"))
    trained = [one for one in TrainPlan.from_json(run.plan()).networks if one.trained]
    return {
        "tables": tables_of(run),
        "labels": {str(file.relative_to(run.root)): file.read_bytes() for file in labels},
        "weights": {one.id: weights_of(run, one).sha256 for one in trained},
    }


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict[str, object]]:
    """A project, and what its grid comes to by worker processes of this machine."""
    project = dataset_project(tmp_path_factory.mktemp("grid") / "here")
    write_train(project, GRID)
    return project, found(grid(project))


def elsewhere(project: Project, folder: Path) -> Project:
    """Copy a project without what it trained."""
    shutil.copytree(project.root, folder, ignore=shutil.ignore_patterns("trainings"))
    return Project(folder)


def test_a_grid_on_slurm_is_bit_for_bit_the_local_one(slurm, local, tmp_path):
    there = grid(
        elsewhere(local[0], tmp_path / "there"), "--engine", "snakemake", "--profile", str(slurm)
    )
    said = (there.root / "logs" / "snakemake.txt").read_text()
    assert "SLURM jobid" in said  # it did go there
    assert found(there) == local[1]
    assert len(local[1]["tables"]) == 5 and len(local[1]["weights"]) == 2 and local[1]["labels"]


@pytest.mark.slow
def test_a_job_and_the_controller_are_killed_while_a_network_learns(slurm, tmp_path, until):
    project = dataset_project(tmp_path / "here")
    long = GRID.replace("[random, shipped]", "[random]").replace("steps: 4", "steps: 1200")
    write_train(project, long.replace("every: 2", "every: 100"))
    expected = found(grid(project))
    there = elsewhere(project, tmp_path / "there")
    process = subprocess.Popen(
        [sys.executable, "-m", "opsef_bridge", "-p", str(there.root), "train", "grid",
         "--engine", "snakemake", "--profile", str(slurm)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        until(lambda: there.trainings() and learned(there.training()), LONG)
        run = there.training()
        (first,) = jobs_of(run.root)
        subprocess.run(["scancel", first], check=True)
        until(lambda: jobs_of(run.root).keys() - {first} and learned(run) > 600, LONG)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
    assert process.returncode == -signal.SIGKILL
    command = [sys.executable, "-m", "opsef_bridge", "-p", str(there.root), "train", "resume"]
    done = subprocess.run(
        [*command, "--engine", "snakemake", "--profile", str(slurm)],
        capture_output=True, text=True, timeout=LONG, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert found(run) == expected
    assert jobs_of(run.root) == {}


def learned(run: Run) -> int:
    """The last step of the curves of all networks of a training, 0 before there is one."""
    files = (run.root / "networks").glob("*/curves.csv")
    return max((int(read_curves(file)[-1]["step"] or 0) for file in files), default=0)


@pytest.mark.slow
def test_a_grid_by_snakemake_on_this_machine_is_the_same(local, tmp_path):
    there = grid(elsewhere(local[0], tmp_path / "there"), "--engine", "snakemake")
    assert found(there) == local[1]
