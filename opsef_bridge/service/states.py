"""What became of a request: the state file, who writes it, and whether its process lives."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from opsef_bridge.errors import LockedError, OpsefError, StaleError
from opsef_bridge.execute import Event
from opsef_bridge.files import lock, read_json, write_json
from opsef_bridge.project import Project

__all__ = [
    "Job",
    "Report",
    "State",
    "Teller",
    "cancel_mark",
    "error_json",
    "error_of",
    "here",
    "last_line",
    "lives",
    "lock_of",
    "log_of",
    "now",
    "process_start",
    "read_state",
    "signal_group",
    "write_state",
]

State = Literal["waiting", "running", "done", "failed", "cancelled", "interrupted"]

SECONDS_BETWEEN = 0.2
"""Progress is written at most so often."""


@dataclass(frozen=True)
class Job:
    """What became of a request, as ``inbox/jobs/<id>.json`` has it.

    Attributes
    ----------
    id, kind, author : str
        Those of the request; empty where it cannot be read.
    state : {"waiting", "running", "done", "failed", "cancelled", "interrupted"}
        ``interrupted``: the process ended in the middle. It is tried again, unless there is
        an `error`.
    message : str
        What is in work, or how it ended, in words.
    current, maximum : int
        Progress; 0 of 0 where it cannot be told.
    at, started, ended : str or None
        When it was asked for, begun (for the last time), and over: ISO 8601, UTC.
    pid, pid_started, host : int, int, str or None
        The process, and by what it is known again.
    result : dict or None
        What the kind of request returned.
    error : dict or None
        ``code``, ``message``, ``hint``, of a stale edit also ``report``.
    tries : int
        How often it was begun.
    reached : int
        `current` when it was interrupted last: who gets further is tried again.
    seen : list or None
        Times and sizes of the files of a request that could not be understood. When they
        change it is looked at again.
    """

    id: str
    kind: str = ""
    author: str = ""
    state: State = "waiting"
    message: str = ""
    current: int = 0
    maximum: int = 0
    at: str = ""
    started: str | None = None
    ended: str | None = None
    pid: int | None = None
    pid_started: int | None = None
    host: str | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    tries: int = 0
    reached: int = 0
    seen: list[int] | None = None

    @property
    def ended_for_good(self) -> bool:
        """Whether it will not be begun (again)."""
        final = self.state in ("done", "failed", "cancelled")
        return final or (self.state == "interrupted" and self.error is not None)

    def to_json(self) -> dict[str, Any]:
        """Return what others may know of it: all but the process."""
        inner = ("pid", "pid_started", "host", "reached", "seen")
        return {key: value for key, value in asdict(self).items() if key not in inner}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Job:
        """Read a state file; raises ValueError or TypeError where it is none."""
        known = {field.name for field in fields(cls)}
        job = cls(**{key: item for key, item in value.items() if key in known})
        if job.state not in get_args(State):
            raise ValueError(f"{job.state!r} is no state")
        return job


Report = Callable[[Job], None]


def now() -> str:
    """Return the time in UTC, ISO 8601, to the microsecond: waiting requests are in order."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def lock_of(project: Project, id: str) -> Path:
    """Return the file whose lock is held by whoever does a request."""
    return project.job_file(id).with_suffix(".lock")


def log_of(project: Project, id: str) -> Path:
    """Return the file that has what the process of a request printed."""
    return project.job_file(id).with_suffix(".log")


def cancel_mark(project: Project, id: str) -> Path:
    """Return the file that says that a request shall not be done."""
    return project.job_file(id).with_suffix(".cancel")


def read_state(project: Project, id: str) -> Job | None:
    """Return the state of a request; None where there is none that can be read."""
    try:
        job = Job.from_json(read_json(project.job_file(id)))
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return job if job.id == id else None


def write_state(project: Project, job: Job) -> None:
    """Write the state of a request."""
    write_json(project.job_file(job.id), _sound(asdict(job)))


def _sound(value: Any) -> Any:
    """Return `value` with texts that UTF-8 can hold: error messages quote what came in."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_sound(str(key)): _sound(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_sound(item) for item in value]
    return value


class Teller:
    """Writes the progress of a job: at most five times a second, and the newest always.

    Parameters
    ----------
    project : Project
    job : Job
        Its state so far; `job` is what it is now.
    report : callable
        Called with the job after each writing.
    """

    def __init__(self, project: Project, job: Job, report: Report) -> None:
        self.job = job
        self._project = project
        self._report = report
        self._lock = threading.Lock()
        self._last = 0.0
        self._timer: threading.Timer | None = None
        self._ended = False

    def event(self, event: Event) -> None:
        """Take note of progress."""
        with self._lock:
            if self._ended:
                return
            self.job = replace(
                self.job, message=event.message, current=event.done, maximum=event.total
            )
            left = self._last + SECONDS_BETWEEN - time.monotonic()
            if left <= 0:
                self._write()
            elif self._timer is None:  # else nobody would know what a long step is at
                self._timer = threading.Timer(left, self._late)
                self._timer.daemon = True
                self._timer.start()

    def change(self, **changes: Any) -> Job:
        """Write other facts at once; after a state that is not ``running``, no progress."""
        with self._lock:
            self.job = replace(self.job, **changes)
            self._ended = self.job.state != "running"
            write_state(self._project, self.job)
            self._last = time.monotonic()
        self._tell()
        return self.job

    def _tell(self) -> None:
        with contextlib.suppress(OSError):  # a terminal that was closed
            self._report(self.job)

    def _late(self) -> None:
        with self._lock:
            self._timer = None
            if not self._ended:
                self._write()

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # progress is not worth to fail for
            write_state(self._project, self.job)
        self._last = time.monotonic()
        self._tell()


def here() -> dict[str, Any]:
    """Return by what this process is known again."""
    pid = os.getpid()
    return {"pid": pid, "pid_started": process_start(pid), "host": socket.gethostname()}


def process_start(pid: int) -> int | None:
    """Return when a process began, in ticks since the start of the machine.

    None where it does not live, or the system (macOS) does not say.
    """
    try:
        words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if words[0] in (b"Z", b"X") else int(words[19])


def lives(project: Project, job: Job) -> bool:
    """Tell whether the process that last wrote the state of a job is still doing it."""
    if job.state != "running" or job.pid is None:
        return False
    elsewhere = job.host != socket.gethostname()
    if elsewhere or job.pid == os.getpid() or job.pid_started is None:
        try:
            with lock(lock_of(project, job.id)):
                return False
        except LockedError:
            return True
    return process_start(job.pid) == job.pid_started


def error_json(error: BaseException) -> dict[str, Any]:
    """Return an error as state files and the service tell it."""
    if not isinstance(error, OpsefError):
        return {
            "code": "internal",
            "message": f"{type(error).__name__}: {error}",
            "hint": "This is a fault of the program: please report it, with the log of the job",
        }
    told: dict[str, Any] = {"code": error.code, "message": error.message, "hint": error.hint}
    if isinstance(error, StaleError):
        told["report"] = error.report
    return told


def error_of(told: Mapping[str, Any]) -> OpsefError:
    """Return the error that `error_json` told, of the same class.

    Examples
    --------
    >>> from opsef_bridge.errors import NotFoundError
    >>> error_of(error_json(NotFoundError("there is no image 'x'", hint="List them")))
    NotFoundError("there is no image 'x'", 'List them')
    """
    message, hint, code = (str(told.get(key, "")) for key in ("message", "hint", "code"))
    if code == StaleError.code:
        return StaleError(message, hint=hint, report=told.get("report"))
    kinds = [OpsefError]
    while kinds:
        kind = kinds.pop(0)  # parents first: children may share their code
        if kind.code == code:
            return kind(message, hint=hint)
        kinds += kind.__subclasses__()
    error = OpsefError(message, hint=hint)
    error.code = code  # a class of a module that is not loaded here
    return error


def signal_group(pid: int, number: int) -> None:
    """Send a signal to a process and those that it began; nothing if it is gone."""
    with contextlib.suppress(OSError):
        os.killpg(pid, number)


def last_line(log: Path) -> str:
    """Return the last line of a log in brackets, or nothing."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 2000))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
        if lines:
            return f" ({lines[-1].strip()[:300]})"
    return ""
