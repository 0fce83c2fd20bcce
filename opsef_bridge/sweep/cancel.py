"""Stop a run from outside: its process, and its jobs on a cluster."""

from __future__ import annotations

import os
import re
import signal
import socket
import time

from opsef_bridge.errors import LockedError
from opsef_bridge.execute import cancel_jobs
from opsef_bridge.files import lock
from opsef_bridge.project import Project, Run

__all__ = ["cancel_run"]

PATIENCE = 120.0
"""Seconds that the process has to end: SLURM may take its time to cancel jobs."""


def cancel_run(project: Project, run: Run) -> tuple[bool, int]:
    """Stop the process that works on a project, and cancel the run's jobs of SLURM.

    What was finished stays; ``opsef sweep resume`` goes on. A run of which all is done has no
    process: who works then works on another.

    Returns
    -------
    tuple of bool and int
        Whether a process was stopped, and how many jobs were left to be cancelled behind it.

    Raises
    ------
    LockedError
        The process is on another machine, is somebody else's, or does not end.
    """
    if all(run.done_file(unit["id"]).is_file() for unit in run.plan()["units"]):
        return False, cancel_jobs(run.root)
    stopped = False
    patience = time.monotonic() + PATIENCE
    while True:
        try:
            with lock(project.lock_file):
                return stopped, cancel_jobs(run.root)
        except LockedError as error:
            if not stopped:
                _interrupt(error)
                stopped = True
            elif time.monotonic() > patience:
                raise
        time.sleep(0.2)


def _interrupt(held: LockedError) -> None:
    """Send the signal of Ctrl-C to the process that holds a lock."""
    holder = re.search(r"process (\d+) on (\S+)$", held.message)
    if holder is None or holder[2] != socket.gethostname():
        raise LockedError(held.message, hint="Cancel it on that machine") from held
    try:
        os.kill(int(holder[1]), signal.SIGINT)
    except ProcessLookupError:
        return
    except PermissionError:
        raise LockedError(held.message, hint="It is another person's process") from held
