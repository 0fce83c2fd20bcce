"""The Snakemake executor: units in jobs of minutes, here or on a cluster.

Without a profile jobs run on this machine; with one (``--profile slurm-cpu``) they go where
it says. A job that is killed, for memory, for time or with its node, is tried again with
more of both. An image that fails is an outcome, and fails no job.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from opsef_bridge.errors import OpsefError, WorkerError
from opsef_bridge.execute import slurm
from opsef_bridge.execute.jobs import LEAST, ClusterJob, group_units
from opsef_bridge.execute.local import Event, free_cores
from opsef_bridge.execute.profiles import find_profile, read_profile
from opsef_bridge.execute.snakefile import snakefile
from opsef_bridge.execute.units import Unit
from opsef_bridge.files import write_text
from opsef_bridge.project import Run

__all__ = ["run_snakemake"]

PATIENCE = 90
"""Seconds that Snakemake has to cancel its jobs before it is made to end."""


def run_snakemake(
    project: str,
    run: Run,
    units: Sequence[Unit],
    *,
    workers: int | None = None,
    profile: str | Path | None = None,
    seconds: Callable[[Unit], float | None] = lambda unit: None,
    gpu: Callable[[Unit], bool] = lambda unit: False,
    least: float = LEAST,
    report: Callable[[Event], None] = lambda event: None,
) -> dict[str, OpsefError]:
    """Run the units that are not done, as jobs of Snakemake.

    Jobs that an earlier start left on the cluster are not lost: those that run are waited
    for, those that wait are cancelled and given anew.

    Parameters
    ----------
    workers : int, optional
        Jobs at a time; as many as there are free cores, or as the profile says, by default.
    profile : str or Path, optional
        Of Snakemake, see `opsef_bridge.execute.profiles.find_profile`.
    seconds, gpu : callable
        What a unit will take, and whether it can use a GPU; see `group_units`.
    least : float
        Seconds that a job should take at least.

    Returns
    -------
    dict of str to OpsefError
        Units that are not done when Snakemake has ended, with the reason.

    Raises
    ------
    WorkerError
        Snakemake, its plugin, or the commands of SLURM are not here.
    NotFoundError
        There is no such profile.
    KeyboardInterrupt
        After the jobs were cancelled; what was done is recorded.
    """
    settings = read_profile(find_profile(profile)) if profile else {}
    options, slots = _options(run, workers, profile, settings)
    on_slurm = "slurm" in options
    if "gpu_units" not in str(settings.get("set-resources", "")):
        # No job would get one, so none is kept apart for it.
        units = [replace(unit, resources=unit.resources | {"gpu": 0.0}) for unit in units]
    if on_slurm:
        _take_over(run, units, report)
    done = {unit.id for unit in units if run.done_file(unit.id).is_file()}
    jobs = group_units(units, done=done, slots=slots, seconds=seconds, gpu=gpu, least=least)
    if not jobs:
        report(_progress(run, units))
        return {}
    # Marks of an earlier start: its jobs bore the same names, and other units.
    shutil.rmtree(run.root / "jobs", ignore_errors=True)
    write_text(run.snakefile, snakefile(project, run.id, jobs))
    log = run.log_file("snakemake")
    log.parent.mkdir(parents=True, exist_ok=True)
    said_before = log.stat().st_size if log.is_file() else 0
    try:
        _run(run, units, options, log, report)
    except BaseException:
        if on_slurm:  # what was submitted while Snakemake was stopped
            slurm.cancel_jobs(run.root)
        raise
    shutil.rmtree(run.root / "jobs", ignore_errors=True)
    said = log.read_bytes()[said_before:].decode("utf-8", "replace")
    return _problems(run, jobs, said, log)


def _options(
    run: Run, workers: int | None, profile: str | Path | None, settings: dict[str, Any]
) -> tuple[list[str], int]:
    """Return the options that profile and machine ask for, and how many jobs run at a time."""
    if importlib.util.find_spec("snakemake") is None:
        raise WorkerError("Snakemake is not installed", hint="pip install 'opsef_bridge[cluster]'")
    if profile is None:
        cores = workers or free_cores()
        return ["--cores", str(cores)], cores
    file = find_profile(profile)
    options = ["--profile", str(file.parent if file.name == "config.yaml" else file)]
    executor = settings.get("executor", "local")
    if executor == "local":
        cores = workers or _number(settings.get("cores")) or free_cores()
        return [*options, "--cores", str(cores)], cores
    if workers:
        options += ["--jobs", str(workers)]
    if executor == "slurm":
        options += ["--executor", "slurm", *_slurm_options(run, settings)]
    jobs = workers or _number(settings.get("jobs")) or 100
    # More jobs than it has cores would only queue up behind each other.
    return options, min(jobs, slurm.cores() or jobs) if executor == "slurm" else jobs


def _slurm_options(run: Run, settings: dict[str, Any]) -> list[str]:
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        raise WorkerError(
            "Snakemake's plugin for SLURM is not installed",
            hint="pip install 'opsef_bridge[cluster]'",
        )
    slurm.check_slurm()
    options = ["--slurm-jobname-prefix", slurm.job_prefix(run.root)]
    if not slurm.has_accounting():
        options += ["--slurm-no-account"] * ("slurm-no-account" not in settings)
        if "slurm-status-command" not in settings:
            options += ["--slurm-status-command", "squeue"]
    return options


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _take_over(run: Run, units: Sequence[Unit], report: Callable[[Event], None]) -> None:
    """Wait for jobs that a start left behind which was killed; the limit is their own."""
    slurm.cancel_jobs(run.root, only_waiting=True)
    while left := slurm.jobs_of(run.root):
        event = _progress(run, units)
        message = f"waits for {len(left)} jobs of an earlier start ({', '.join(left)})"
        report(Event(event.done, event.total, message))
        time.sleep(1)


def _run(
    run: Run,
    units: Sequence[Unit],
    options: Sequence[str],
    log: Path,
    report: Callable[[Event], None],
) -> None:
    """Run Snakemake to its end, following what its jobs leave."""
    # No lock: the project has one already, and Snakemake's would outlive a killed process.
    command = [
        sys.executable, "-m", "opsef_bridge.execute.leash", "--snakefile", str(run.snakefile),
        "--directory", str(run.root), "--rerun-incomplete", "--rerun-triggers", "mtime",
        "--nolock", "--keep-going", "--nocolor", *options,
    ]  # fmt: skip
    with log.open("a", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
    try:
        while True:
            ended = process.poll() is not None
            report(_progress(run, units))
            if ended:
                return
            time.sleep(0.5)
    except BaseException:
        # Ctrl-C ends or cancels its jobs; the signal to terminate would wait for them.
        os.killpg(process.pid, signal.SIGINT)
        if "slurm" in options:  # at once: we may be made to end before Snakemake came to it
            slurm.cancel_jobs(run.root)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        raise
    finally:
        if process.stdin:
            process.stdin.close()


def _progress(run: Run, units: Sequence[Unit]) -> Event:
    """What the files say that the units leave."""
    total = sum(max(len(unit.makes), 1) for unit in units)
    made = len(run.outcomes(tiles=True))
    made += sum(not unit.makes and run.done_file(unit.id).is_file() for unit in units)
    return Event(min(made, total), total, "snakemake")


def _problems(run: Run, jobs: Sequence[ClusterJob], said: str, log: Path) -> dict[str, OpsefError]:
    """Return why units are not done, in words of the scheduler or of the job itself."""
    problems: dict[str, OpsefError] = {}
    broken: set[str] = set()
    for job in jobs:
        open_units = [unit for unit in job.units if not run.done_file(unit).is_file()]
        if not open_units:
            continue
        waited = sorted(broken & set(job.needs))
        broken.add(job.name)
        if waited:
            error = WorkerError(f"it needs {', '.join(waited)}, which failed")
        else:
            error = WorkerError(_reason(run, job, said), hint=f"See {log}")
        problems |= dict.fromkeys(open_units, error)
    return problems


def _reason(run: Run, job: ClusterJob, said: str) -> str:
    """Return what a job, SLURM or Snakemake said last of it."""
    refused = re.findall(r"sbatch failed\. The error message was '(.*?)'\.?\n", said, re.DOTALL)
    if refused:
        return "SLURM took no job: " + " ".join(refused[-1].split())
    own = run.log_file(job.name)
    told = own.read_text("utf-8", "replace").splitlines() if own.is_file() else []
    named = [line for line in told if line.startswith("opsef: ")]
    ended = re.findall(r"SLURM status is:? '(\w+)'", said)
    killed = f"SLURM ended job {job.name}: {ended[-1]}" if ended else ""
    if named:
        return f"job {job.name}: {named[-1].removeprefix('opsef: ')}"
    lines = said.strip().splitlines()
    last = lines[-1] if lines else "it said nothing"
    return killed or (f"job {job.name}: {told[-1]}" if told else f"Snakemake: {last}")
