"""SLURM's own commands: is it here, which jobs of a run does it have, cancel them."""

from __future__ import annotations

import getpass
import hashlib
import shutil
import subprocess
from pathlib import Path

from opsef_bridge.errors import WorkerError

__all__ = ["cancel_jobs", "check_slurm", "cores", "has_accounting", "job_prefix", "jobs_of"]

LIMIT = 60
"""Seconds that SLURM may take to answer."""


def job_prefix(run: Path) -> str:
    """Return how the names of all jobs of a run begin: known to every start of it.

    Examples
    --------
    >>> job_prefix(Path("/data/cells/runs/run-0001"))
    'opsef-run-0001-a3575bc9'
    """
    return f"opsef-{run.name}-{hashlib.sha256(str(run).encode()).hexdigest()[:8]}"


def check_slurm() -> None:
    """Raise WorkerError where jobs cannot be given to SLURM."""
    if shutil.which("sbatch") is None:
        raise WorkerError(
            "the profile gives jobs to SLURM, but there is no command sbatch here",
            hint="Run it where SLURM's commands are (a login node), or use --profile local",
        )


def has_accounting() -> bool:
    """Say whether this SLURM keeps a database of jobs, which ``sacct`` reads."""
    told = _ask("scontrol", "show", "config").splitlines()
    kind = next((line for line in told if line.startswith("AccountingStorageType")), "")
    return bool(kind) and not kind.strip().endswith(("none", "(null)"))


def cores() -> int | None:
    """Return how many cores the cluster has in nodes that are up; None where it does not say."""
    try:
        allocated, idle, _, _ = _ask("sinfo", "-h", "-o", "%C").split()[0].split("/")
        return int(allocated) + int(idle) or None
    except (WorkerError, IndexError, ValueError):
        return None


def jobs_of(run: Path) -> dict[str, str]:
    """Return the jobs of a run that wait or run now: state by id."""
    found = {}
    user = getpass.getuser()
    for line in _ask("squeue", "-h", "-u", user, "-o", "%i|%T|%j").splitlines():
        number, state, name = line.split("|", 2)
        if name.startswith(job_prefix(run)):
            found[number] = state
    return found


def cancel_jobs(run: Path, *, only_waiting: bool = False) -> int:
    """Cancel the jobs of a run; return how many there were.

    Where there is no SLURM there are none.
    """
    if shutil.which("squeue") is None:
        return 0
    try:
        found = jobs_of(run)
    except WorkerError:
        return 0
    ids = [id for id, state in found.items() if not only_waiting or state == "PENDING"]
    if ids:
        _ask("scancel", *ids)
    return len(ids)


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WorkerError(f"SLURM's {command[0]} does not answer ({error})") from error
    if done.returncode:
        raise WorkerError(
            f"SLURM's {command[0]} says: {done.stderr.strip()}",
            hint="Is its controller up? `sinfo` tells",
        )
    return done.stdout
