"""Requests without the service: what lies in the inbox of a project is done here.

Somebody put it there by a shared or copied folder; ``opsef inbox run`` or ``watch`` does it.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from pathlib import Path
from types import FrameType

from opsef_bridge.errors import LockedError, OpsefError
from opsef_bridge.project import Project
from opsef_bridge.service.requests import job_of, open_jobs, perform, settle
from opsef_bridge.service.states import Job, Report, lives

__all__ = ["perform_main", "run", "watch"]

DONE, FAILED, BUSY, STOPPED = 0, 1, 75, 130
"""Exit codes of a process that does one request."""


def run(project: Project, report: Report = lambda job: None) -> list[Job]:
    """Do all waiting requests, in the order they were made, in this process.

    One that fails does not keep the others from being done; one that another process works
    on, or that has to wait for one, is left for the next time.

    Parameters
    ----------
    report : callable
        Called with the `Job` whenever the state of one was written.

    Returns
    -------
    list of Job
        What became of each that was not over before, and is not being done elsewhere.

    Raises
    ------
    KeyboardInterrupt
        It was stopped; the request that was in work goes on the next time.
    """
    done = []
    for found in open_jobs(project):
        if lives(project, found):
            continue
        job = settle(project, found)
        if not job.ended_for_good or job is found:  # one that is over only has to be put away
            with contextlib.suppress(OpsefError):  # its state says it
                perform(project, job.id, report=report, wait=True)
        done.append(job_of(project, job.id))
    return done


def watch(
    project: Project,
    stop: threading.Event,
    interval: float = 2.0,
    report: Report = lambda job: None,
) -> None:
    """Do what comes into the inbox, until `stop` is set.

    Parameters
    ----------
    interval : float
        Seconds between two looks.
    report : callable
        As in `run`.
    """
    while not stop.is_set():
        run(project, report)
        stop.wait(interval)


def perform_main(project: Path | str, id: str) -> int:
    """Do one request as the only thing of this process; return its exit code.

    Returns
    -------
    int
        0: it is done, also if it was before. 1: it failed. 75: another process does it, or
        works on what it needs; it waits. 130: it was cancelled or stopped.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # A process that was started in the background of a shell ignores Ctrl-C, and so would we.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    opened = Project(project)
    try:
        perform(opened, id, wait=True)
    except KeyboardInterrupt:
        return STOPPED
    except LockedError as error:
        print(f"opsef: {error}", flush=True)
        return BUSY if not job_of(opened, id).ended_for_good else FAILED
    except OpsefError as error:
        print(f"opsef: {error}", flush=True)
        return STOPPED if error.code == "cancelled" else FAILED
    return DONE
