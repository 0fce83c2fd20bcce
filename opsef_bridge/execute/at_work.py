"""Who works on a run or a training, and how it is stopped from outside: its process, and its
jobs on a cluster.
"""

from __future__ import annotations

import os
import re
import signal
import socket
from contextlib import AbstractContextManager
from pathlib import Path

from opsef_bridge.errors import LockedError
from opsef_bridge.execute.slurm import cancel_jobs
from opsef_bridge.execute.units import unit_lock
from opsef_bridge.files import holder_of, patiently
from opsef_bridge.project import Run

__all__ = ["cancel_run", "who_works", "working_on"]

PATIENCE = 120.0
"""Seconds that the process has to end: SLURM may take its time to cancel jobs."""

LOOK = 5.0
"""Seconds to wait for those who look who works on it, and for a moment hold its lock."""


def working_on(run: Run) -> AbstractContextManager[None]:
    """Hold the lock that says who works on a run or a training."""
    return patiently(run.lock_file, LOOK)


def who_works(run: Run) -> str | None:
    """Return who works on a run or a training: ``process 12 on host``; None: nobody.

    Where its process was killed, a job of it that goes on is told, on a cluster whose shared
    file system knows the locks of other nodes.
    """
    open_units = [u["id"] for u in run.plan()["units"] if not run.done_file(u["id"]).is_file()]
    held = (holder_of(file) for file in [run.lock_file, *(unit_lock(run, u) for u in open_units)])
    return next((holder for holder in held if holder), None)


def cancel_run(run: Run) -> tuple[bool, int]:
    """Stop the process that works on a run or a training, and cancel its jobs of SLURM.

    What was finished stays; ``opsef sweep resume`` or ``opsef train resume`` goes on.

    Returns
    -------
    tuple of bool and int
        Whether a process was stopped, and how many jobs were left to be cancelled behind it.

    Raises
    ------
    LockedError
        The process is on another machine, is somebody else's, or does not end.
    """
    holder = holder_of(run.lock_file)
    if holder is None:
        return False, cancel_jobs(run.root)
    _interrupt(holder, run.lock_file)
    # The lock of all runs is what it lets go of last: who resumes then finds it free.
    with patiently(run.lock_of_all, PATIENCE):
        return True, cancel_jobs(run.root)


def _interrupt(holder: str, file: Path) -> None:
    """Send the signal of Ctrl-C to the process that holds a lock; if it ignores that, another."""
    process = re.fullmatch(r"process (\d+) on (\S+)", holder)
    if process is None or process[2] != socket.gethostname():
        raise LockedError(f"{file} is held by {holder}", hint="Cancel it on that machine")
    try:
        pid = int(process[1])
        os.kill(pid, signal.SIGTERM if _ignores_ctrl_c(pid) else signal.SIGINT)
    except ProcessLookupError:
        return
    except PermissionError:
        raise LockedError(
            f"{file} is held by {holder}", hint="It is another person's process"
        ) from None


def _ignores_ctrl_c(pid: int) -> bool:
    """Tell whether a process ignores Ctrl-C, as those do that a script began in the background.

    False where the system (macOS) does not say.
    """
    try:
        told = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    ignored = re.search(r"^SigIgn:\s+([0-9a-f]+)$", told, re.MULTILINE)
    return bool(ignored and int(ignored[1], 16) >> (signal.SIGINT - 1) & 1)
