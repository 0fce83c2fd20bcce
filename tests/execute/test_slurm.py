"""A real SLURM of one node: the same labels, whatever is killed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from opsef_bridge.execute import slurm as commands
from opsef_bridge.sweep import status

LONG = 120
MODELS = {
    "classic": {"engine": "watershed", "threshold": ["otsu", 0.8]},
    "probe": {"engine": "probe", "pause": 0.6, "threshold": [0.3, 0.6]},
}


def leashes(run: Path) -> list[int]:
    """Snakemakes that work on a run."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"opsef_bridge.execute.leash" in words and str(run / "Snakefile").encode() in words:
            found.append(int(file.parent.name))
    return found


def end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)


def test_a_job_and_the_controller_are_killed_and_nothing_is_lost(slurm, bench, make_discs, until):
    images = {f"{k}.tif": make_discs(k) for k in range(8)}
    here = bench.project(images, name="here", models=MODELS)
    assert bench.sweep(here).failed == 0
    passes = bench.passes()
    there = bench.project(images, name="there", models=MODELS)
    bench.hold(passes + 4)
    words = ("sweep", "run", "--engine", "snakemake", "--profile", str(slurm))
    process = bench.start(there, *words)
    try:
        until(lambda: there.runs() and bench.passes() > passes + 1, LONG)
        run = there.run()
        (first,) = commands.jobs_of(run.root)
        subprocess.run(["scancel", first], check=True)
        until(lambda: commands.jobs_of(run.root).keys() - {first}, LONG)
        killed_at = bench.passes()
        until(lambda: bench.passes() > killed_at, LONG)
    finally:
        end(process)
    assert commands.jobs_of(run.root)  # it goes on without its controller
    bench.release()
    until(lambda: not leashes(run.root))
    code, out, err = bench.opsef(there, "sweep", "resume", "--engine", "snakemake",
                                 "--profile", str(slurm))  # fmt: skip
    assert code == 0, out + err
    assert bench.result(there) == bench.result(here)
    assert bench.passes() - passes <= 8 + 1  # only the pass in which a job was killed is lost
    assert bench.partials(there) == []
    assert commands.jobs_of(run.root) == {}


def test_slurm_says_how_many_cores_it_has(slurm):
    assert commands.cores() == os.cpu_count()


@pytest.mark.slow
def test_cancel_ends_process_and_jobs(slurm, bench, make_discs, until):
    images = {f"{k}.tif": make_discs(k) for k in range(30)}
    project = bench.project(images, models=MODELS)
    process = bench.start(project, "sweep", "run", "--engine", "snakemake", "--profile", str(slurm))
    try:
        until(lambda: bench.passes() > 1, LONG)
        code, out, err = bench.opsef(project, "sweep", "cancel")
        assert (code, "was stopped" in out) == (0, True), out + err
        _, told = process.communicate(timeout=LONG)
    finally:
        end(process)
    assert process.returncode == 130 and "sweep resume" in told
    run = project.run()
    until(lambda: not commands.jobs_of(run.root), LONG)
    stopped = status(run)
    assert stopped.failed == 0 and stopped.open > 0
    again = bench.opsef(project, "sweep", "cancel")
    assert (again[0], "No process" in again[1]) == (0, True)


@pytest.mark.slow
def test_a_partition_that_does_not_exist_is_told_as_sbatch_does(slurm, bench, tmp_path):
    profile = tmp_path / "wrong"
    profile.mkdir()
    text = (slurm / "config.yaml").read_text()
    (profile / "config.yaml").write_text(text + "default-resources:\n  slurm_partition: nowhere\n")
    project = bench.project(models={"classic": MODELS["classic"]})
    code, out, err = bench.opsef(
        project, "sweep", "run", "--engine", "snakemake", "--profile", str(profile)
    )
    assert code == 1, out + err
    assert "SLURM took no job" in out and "invalid partition" in out
