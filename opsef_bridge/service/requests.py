"""Requests: written to the inbox, read from there, done once.

::

    inbox/<id>.json          {"opsef": 1, "id", "kind", "author", "at", "parameters", "attachment"}
                             and, where it is known, "sha256" of what came along
    inbox/<id>.zip           what came along; written before the JSON
    inbox/done/              the JSON, when it is over; and what came along, where it failed
    inbox/once/              images that were sent with an id (`opsef_bridge.service.once`)
    inbox/jobs/<id>.json     what became of it (`opsef_bridge.service.states.Job`)

`perform` is the one way in which a request is done: by the service at once, by a process of
its own, by ``opsef inbox run``. Only who holds the lock of a request does it. Kinds can be
called again after they were killed in the middle; the state is written before a request is
moved away. So it may be cut off anywhere and is done once.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from opsef_bridge.errors import (
    InputError,
    LockedError,
    NotFoundError,
    OpsefError,
    ProjectError,
)
from opsef_bridge.files import atomic_path, file_sha256, patiently, write_json
from opsef_bridge.project import Project
from opsef_bridge.service.forms import (
    Request,
    checked,
    is_id,
    new_id,
    read_request,
    seen_of,
)
from opsef_bridge.service.kinds import KINDS, Kind, Task
from opsef_bridge.service.ledger import (
    close,
    is_job,
    is_known,
    job_of,
    jobs_of,
    open_jobs,
    put_away,
    settle,
)
from opsef_bridge.service.states import (
    Job,
    Report,
    Teller,
    cancel_mark,
    error_json,
    error_of,
    here,
    lock_of,
    now,
)

__all__ = [
    "KINDS",
    "Job",
    "Request",
    "another_has",
    "close",
    "error_json",
    "error_of",
    "job_of",
    "jobs_of",
    "open_jobs",
    "perform",
    "read_request",
    "settle",
    "write_request",
]

PATIENCE = 5.0
"""Seconds to wait for others: for the same request, or for a lock that is held shortly."""


def write_request(
    project: Project,
    kind: str,
    parameters: Mapping[str, Any],
    *,
    author: str,
    attachment: bytes | Path | None = None,
    suffix: str = ".zip",
    id: str | None = None,
) -> str:
    """Check a request and put it into the inbox.

    Parameters
    ----------
    kind : str
        One of `KINDS`, which also say what `parameters` there are.
    author : str
        Who asks.
    attachment : bytes or Path, optional
        What comes along: its bytes, or a file to copy.
    suffix : str
        What kind of file the attachment is.
    id : str, optional
        Who sends a request anew, for want of an answer, gives the id that it had: then it is
        done once.

    Returns
    -------
    str
        The id.

    Raises
    ------
    InputError
        There is no such kind or parameter, or another request has this id.
    NotFoundError
        There is no such project.
    ProjectError
        The disk is full, or writing is not allowed.
    """
    id = new_id() if id is None else id
    name = None if attachment is None else f"{id}{suffix}"
    request = Request(id, kind, author, now(), dict(parameters), name)
    plain = checked(request).model_dump(mode="json", exclude_unset=True, by_alias=True)
    request = replace(request, author=author.strip(), parameters=plain)
    if not project.root.is_dir():
        raise NotFoundError(f"there is no folder {project.root}", hint="Make the project first")
    try:
        request = replace(request, sha256=_sha256_of(attachment))
        # Whoever does a request holds its lock, for hours if it is a sweep.
        if not is_known(project, id):
            with patiently(lock_of(project, id), PATIENCE):
                if not is_known(project, id):
                    _put(project, request, attachment)
                    return id
        _must_be_same(project, request)
    except OSError as error:
        raise _of_disk(project, error) from error
    return id


def _sha256_of(attachment: bytes | Path | None) -> str | None:
    if isinstance(attachment, bytes):
        return hashlib.sha256(attachment).hexdigest()
    return None if attachment is None else file_sha256(attachment)


def _put(project: Project, request: Request, attachment: bytes | Path | None) -> None:
    """Write what comes along, and then the request."""
    if request.attachment is not None and attachment is not None:
        with atomic_path(project.inbox_folder / request.attachment) as partial:
            if isinstance(attachment, bytes):
                partial.write_bytes(attachment)
            else:
                shutil.copyfile(attachment, partial)
    write_json(project.request_file(request.id), request.to_json())


def _must_be_same(project: Project, request: Request) -> None:
    """Refuse a second request of an id that asks for something else than the first."""
    same = False
    with contextlib.suppress(OpsefError, OSError):
        old, file = read_request(project, request.id)
        sha256 = old.sha256 or _sha256_of(file)  # scripts without a service do not say it
        same = replace(old, at=request.at, sha256=sha256) == request
    if not same:
        raise another_has(request.id)


def another_has(id: str) -> InputError:
    """Return the error for an id by which something else was asked for before."""
    return InputError(f"another request has the id {id!r}", hint="Send it with a new id")


def perform(
    project: Project,
    id: str,
    *,
    report: Report = lambda job: None,
    wait: bool = False,
    patience: float | None = None,
) -> dict[str, Any]:
    """Do a request in this process, and write what becomes of it.

    Parameters
    ----------
    id : str
        As `write_request` returned it.
    report : callable
        Called with the `Job` whenever its state was written.
    wait : bool
        Whether a request that others stand in the way of (a sweep of somebody else) goes on
        waiting. By default it has failed then.
    patience : float, optional
        Seconds to wait where another process does the same request; `PATIENCE` by default.

    Returns
    -------
    dict
        The result. A request that is over is not done again: its result is returned, or its
        error raised, as it was the first time.

    Raises
    ------
    NotFoundError
        There is no such request.
    LockedError
        Another process does it, or works on what it needs.
    OpsefError
        What was wrong with it; the state tells the same.
    KeyboardInterrupt
        The process was stopped; the request is ``interrupted`` and goes on the next time. (One
        that was cancelled raises an `OpsefError` with the code ``cancelled``.)
    """
    if not is_id(id) or not is_job(project, id):
        raise NotFoundError(f"there is no request {id!r}", hint="Send it first")
    with patiently(lock_of(project, id), PATIENCE if patience is None else patience):
        job = job_of(project, id)
        if not job.ended_for_good:
            teller = Teller(project, job, report)
            try:
                result = _do(project, id, teller, wait)
                message = next(iter(result.get("said", ())), "done")
                teller.change(state="done", message=message, ended=now(), result=result)
            except BaseException as error:
                _end_badly(project, teller, error, wait)
                if teller.job.state == "interrupted":
                    raise
            job = teller.job
        if job.ended_for_good and not job.seen:
            put_away(project, job)
        if job.state == "waiting":
            raise error_of(job.error or {})
    return _outcome(job)


def _do(project: Project, id: str, teller: Teller, wait: bool) -> dict[str, Any]:
    """Read a request and do it."""
    if cancel_mark(project, id).exists():
        raise _Cancelled
    request, attachment = read_request(project, id)
    if attachment is not None and (attachment.is_symlink() or not attachment.is_file()):
        raise _Incomplete(
            f"{attachment.name}, which comes along with the request, is not there",
            hint="It is done as soon as the file is in the inbox; or send it again",
        )
    kind = KINDS[request.kind]
    teller.change(
        kind=request.kind, author=request.author, at=request.at, state="running", message="",
        current=0, maximum=0, started=now(), ended=None, error=None, seen=None,
        tries=teller.job.tries + 1, **here(),
    )  # fmt: skip
    given = checked(request)
    tries = teller.job.tries
    task = Task(project, id, request.author.strip(), attachment, tries, teller.event)
    return _past_short_locks(kind, task, given)


class _Cancelled(Exception):
    """It was cancelled before it began."""


class _Incomplete(InputError):
    """What came along is not there (yet)."""


def _past_short_locks(kind: Kind, task: Task, given: Any) -> dict[str, Any]:
    """Do a request; of a fast kind again, while somebody holds a lock that it needs."""
    end = time.monotonic() + (PATIENCE if kind.fast else 0)
    while True:
        try:
            return kind.perform(task, given)
        except LockedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def _end_badly(project: Project, teller: Teller, error: BaseException, wait: bool) -> None:
    """Write down why a request was not done."""
    job = teller.job
    begun = job.state == "running"
    stopped = isinstance(error, _Cancelled | KeyboardInterrupt)
    if stopped and cancel_mark(project, job.id).exists():
        teller.change(state="cancelled", message="cancelled", ended=now())
    elif not isinstance(error, Exception):  # somebody ends this process: that is no fault of it
        teller.change(state="interrupted", message="stopped", ended=now(), reached=-1)
    elif isinstance(error, LockedError) and wait:
        told = error_json(error)
        teller.change(state="waiting", message=str(error), tries=job.tries - 1, error=told)
    else:
        if isinstance(error, OSError):
            error = _of_disk(project, error)
        elif not isinstance(error, OpsefError):  # into the log of the process
            lines = "".join(traceback.format_exception(error))
            print(lines.encode("utf-8", "backslashreplace").decode(), file=sys.stderr, flush=True)
        told = error_json(error)
        seen = None if begun else seen_of(project, job.id)
        teller.change(state="failed", message=told["message"], ended=now(), error=told, seen=seen)


def _of_disk(project: Project, error: OSError) -> ProjectError:
    return ProjectError(
        f"{error.filename or project.root} cannot be read or written ({error.strerror or error})",
        hint="Free some space there, or allow writing; then ask again",
    )


def _outcome(job: Job) -> dict[str, Any]:
    """Return the result of a job that is over, or raise why it has none."""
    if job.state == "done":
        return job.result or {}
    if job.state == "cancelled":
        told = {"code": "cancelled", "message": f"{job.id} was cancelled"}
        raise error_of(told | {"hint": "Ask again; what was finished stays"})
    raise error_of(job.error or {})
