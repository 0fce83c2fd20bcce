"""What the folders say of requests: which there are, which wait, which were cut off."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from opsef_bridge.errors import InputError, LockedError, NotFoundError, WorkerError
from opsef_bridge.files import patiently
from opsef_bridge.project import Project
from opsef_bridge.service.forms import (
    entries_of,
    files_of,
    is_id,
    odd_names,
    order_of,
    read_request,
    seen_of,
)
from opsef_bridge.service.states import (
    Job,
    Teller,
    cancel_mark,
    error_json,
    lives,
    lock_of,
    now,
    read_state,
)

__all__ = [
    "ONCE",
    "close",
    "is_job",
    "is_known",
    "job_of",
    "jobs_of",
    "open_jobs",
    "put_away",
    "settle",
]

ONCE = "once"
"""Folder of the inbox for what was asked for by an id but is no job: see `service.once`."""

MOST_TRIES = 2
"""A request whose process was killed is begun so often without getting further."""


def is_known(project: Project, id: str) -> bool:
    """Tell whether there is, or was, a request of that id, a job or not."""
    return is_job(project, id) or (project.inbox_folder / ONCE / f"{id}.json").exists()


def is_job(project: Project, id: str) -> bool:
    """Tell whether there is, or was, a job of that id."""
    files = [project.request_file(id), project.inbox_folder / "done" / f"{id}.json"]
    return any(file.exists() for file in files) or bool(read_state(project, id))


def put_away(project: Project, job: Job) -> None:
    """Move the files of a request that is over to ``inbox/done``, the JSON last.

    What came along with one that was done is removed: a revision keeps the zip as it came, and
    an image that belongs to no project was needed for its objects only. What came along with
    one that failed, such as a stale edit, is somebody's work and stays.
    """
    id = job.id
    done = project.inbox_folder / "done"
    done.mkdir(exist_ok=True)
    *attachments, request = files_of(project, id)
    for file in attachments:
        with contextlib.suppress(FileNotFoundError):
            if job.state == "done":
                file.unlink()
            else:
                os.replace(file, done / file.name)
    with contextlib.suppress(FileNotFoundError):
        os.replace(request, done / request.name)
    cancel_mark(project, id).unlink(missing_ok=True)
    # Who waits for this lock finds that the request is over, so it may go while it is held.
    lock_of(project, id).unlink(missing_ok=True)


def close(project: Project, id: str, **changes: Any) -> Job:
    """Write that a request which no process does is over, and put it away.

    Raises
    ------
    LockedError
        A process is doing it after all.
    """
    with patiently(lock_of(project, id), 0):
        job = job_of(project, id)
        if not job.ended_for_good:
            job = Teller(project, job, lambda job: None).change(**changes, ended=now())
        put_away(project, job)
    return job


def job_of(project: Project, id: str) -> Job:
    """Return what became of a request.

    Raises
    ------
    NotFoundError
        There is no such request.
    """
    job = read_state(project, id) if is_id(id) else None
    if job is not None and not (job.seen and job.seen != seen_of(project, id)):
        return job
    try:
        request, _ = read_request(project, id)
    except NotFoundError:
        if job is None:
            raise
        return job
    except InputError:
        return Job(id)  # why, is written down when it is tried
    job = Job(id, request.kind, request.author, at=request.at)
    if project.request_file(id).exists():
        return job
    return replace(job, state="done", message="its state is not known any more")


def jobs_of(
    project: Project,
    newest: int | None = None,
    read: Callable[[Project, str], Job] = job_of,
) -> list[Job]:
    """Return the jobs of a project, newest first; those that wait are among them."""
    names: dict[str, float] = {}
    for folder in (project.inbox_folder, project.inbox_folder / "jobs"):
        for entry in entries_of(folder):
            with contextlib.suppress(OSError):
                names[entry.name[:-5]] = entry.stat(follow_symlinks=False).st_mtime
    order = sorted(names, key=lambda id: (names[id], id), reverse=True)
    found = []
    for id in order[:newest]:
        with contextlib.suppress(NotFoundError):  # it was removed just now
            found.append(read(project, id))
    return found


def open_jobs(project: Project, read: Callable[[Project, str], Job] = job_of) -> list[Job]:
    """Return the requests of the inbox that are not over, in the order they were made."""
    _refuse_odd_names(project)
    found = []
    for entry in entries_of(project.inbox_folder):
        with contextlib.suppress(NotFoundError):
            job = read(project, entry.name[:-5])
            if not job.seen:  # one that is over was cut off on its way to done/
                found.append(job)
    return sorted(found, key=order_of)


def settle(project: Project, job: Job) -> Job:
    """Write down that the process of a running job is gone, where it is.

    The job is ``interrupted`` then. It may be begun again, unless it was begun twice without
    getting further the second time; in that case it is over, with an error.
    """
    if job.state != "running" or lives(project, job):
        return job
    with contextlib.suppress(LockedError), patiently(lock_of(project, job.id), 0):
        job = job_of(project, job.id)
        if job.state != "running":
            return job
        teller = Teller(project, job, lambda job: None)
        if job.tries < MOST_TRIES or job.current > job.reached:
            message = "its process ended in the middle; it is tried again"
            return teller.change(
                state="interrupted", message=message, ended=now(), reached=job.current
            )
        error = WorkerError(
            f"the process of {job.id} ended in the middle, {job.tries} times",
            hint="Its log may say why; too little memory is a frequent reason. What was finished "
            "stays: ask again to go on",
        )
        job = teller.change(
            state="interrupted", message=error.message, ended=now(), error=error_json(error)
        )
        put_away(project, job)
    return job


def _refuse_odd_names(project: Project) -> None:
    """Say of files that cannot be requests, by their names, why nothing is done."""
    for id, name in odd_names(project.inbox_folder).items():
        if read_state(project, id) is None:
            error = InputError(
                f"{name!r} in the inbox is no name of a request",
                hint="Use up to 64 letters, digits, '-' and '_', and the same as its id; or "
                "remove the file",
            )
            Teller(project, Job(id, at=now()), lambda job: None).change(
                state="failed", message=error.message, ended=now(), error=error_json(error)
            )
