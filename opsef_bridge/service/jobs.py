"""Jobs in processes of their own: started, followed, cancelled, begun again.

A job outlives the service. What is known of it lies in the folders of the projects, so a new
`Jobs` of the same root follows what still runs and begins again what was killed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from opsef_bridge.errors import LockedError, NotFoundError, OpsefError, WorkerError
from opsef_bridge.project import Project
from opsef_bridge.service.forms import is_id
from opsef_bridge.service.inbox import BUSY
from opsef_bridge.service.kinds import KINDS
from opsef_bridge.service.requests import (
    close,
    job_of,
    jobs_of,
    open_jobs,
    perform,
    settle,
)
from opsef_bridge.service.scratch import SCRATCH, tidy
from opsef_bridge.service.states import (
    Job,
    cancel_mark,
    error_json,
    last_line,
    lives,
    log_of,
    signal_group,
)

__all__ = ["Jobs", "command_of"]

log = logging.getLogger("opsef_bridge.service")

GENTLE, FIRM, FINAL = 0.0, 10.0, 20.0
"""Seconds after a cancellation at which a process is asked, told, and made to end."""

LATER = 5.0
"""Seconds until a request that somebody stood in the way of is begun again."""

FAST_SECONDS = 10.0
"""So old is a fast request that whoever wrote it will not do it any more."""

Key = tuple[str, str]


def command_of(project: Path, id: str) -> list[str]:
    """Return the command that does a request."""
    opsef = [sys.executable, "-m", "opsef_bridge", "-p", str(project)]
    return [*opsef, "inbox", "perform", id]


class Jobs:
    """The jobs of all projects in a folder.

    Parameters
    ----------
    root : Path
        Folder of projects; the id of a project is the name of its folder.
    at_most : int
        Processes at a time in all; of a project there is one.
    command : callable
        Returns the command that does a request, by folder of the project and id.
    """

    def __init__(
        self,
        root: Path,
        *,
        at_most: int = 2,
        command: Callable[[Path, str], list[str]] = command_of,
    ) -> None:
        self.root = Path(root).resolve()
        self._at_most = at_most
        self._command = command
        self._lock = threading.RLock()
        self._mine: dict[Key, subprocess.Popen[bytes]] = {}
        self._later: dict[Key, float] = {}
        self._sent: dict[Key, int] = {}
        self._tidied = 0.0
        self._broken: dict[str, str] = {}
        self._known: dict[Path, tuple[tuple[int, ...], Job]] = {}

    def projects(self) -> list[str]:
        """Return the ids of the projects, sorted."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.root) as entries:
            return sorted(entry.name for entry in entries if self._folder(entry.name))
        return []

    def project(self, project_id: str) -> Project:
        """Return a project, or the folder `SCRATCH`.

        Raises
        ------
        NotFoundError
            There is none of that id. (What a link leads to outside of the root is none.)
        """
        if project_id == SCRATCH:
            folder = self.root / ".opsef" / "scratch"
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            return Project(folder)
        found = self._folder(project_id)
        if found is None:
            raise NotFoundError(
                f"there is no project {project_id!r}",
                hint="Projects are folders with an opsef.yaml, whose names are letters, digits, "
                "'-', '_' and '.'",
            )
        return Project(found)

    def _folder(self, project_id: str) -> Path | None:
        if not is_id(project_id.replace(".", "-")) or project_id[0] in "._":
            return None
        folder = (self.root / project_id).resolve()
        return folder if folder.parent == self.root and _is_project(folder) else None

    def get(self, project_id: str, job_id: str) -> Job:
        """Return a job; NotFoundError where there is none."""
        return self._job_of(self.project(project_id), job_id)

    def list(self, project_id: str | None = None, newest: int | None = None) -> list[Job]:
        """Return the jobs of a project, or of all projects, newest first in each."""
        names = self.projects() if project_id is None else [project_id]
        found: list[Job] = []
        for name in names:
            found += jobs_of(self.project(name), newest, self._job_of)
        return found

    def _job_of(self, project: Project, id: str) -> Job:
        """Return a job; its file is read again when it has changed."""
        if not is_id(id):
            return job_of(project, id)
        file = project.job_file(id)
        try:
            facts = file.stat()
        except FileNotFoundError:
            return job_of(project, id)
        stamp = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
        known = self._known.get(file)
        if known is None or known[0] != stamp or known[1].seen:
            known = stamp, job_of(project, id)
            self._known[file] = known
        return known[1]

    def start(self, project_id: str, request_id: str) -> Job:
        """Begin a request that was written, now or when it is its turn; return its job."""
        self.get(project_id, request_id)
        self.pump()
        return self.get(project_id, request_id)

    def cancel(self, project_id: str, job_id: str) -> Job:
        """Ask a job to stop, and return it; `pump` sees to it that it does.

        One that waits is cancelled at once; one that is over stays as it is.

        Raises
        ------
        NotFoundError
            There is no such job.
        """
        project = self.project(project_id)
        job = job_of(project, job_id)
        if not job.ended_for_good:
            mark = cancel_mark(project, job_id)
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch(exist_ok=True)
            self.pump()
        return job_of(project, job_id)

    def pump(self) -> None:
        """Take note of what ended, begin what waits, press on with what is cancelled.

        To be called about twice a second. What was killed with an earlier service is begun
        again, and what still runs is followed: all that is known of jobs lies in the folders.
        """
        with self._lock:
            self._reap()
            busy: set[str] = {name for name, _ in self._mine}
            running = len(self._mine)
            waiting: list[tuple[str, Project, Job]] = []
            for name, project in self._all():
                for job in self._open(name, project):
                    state = self._look(name, project, job)
                    if state == "running" and (name, job.id) not in self._mine:
                        busy.add(name)
                        running += 1
                    elif state == "waiting":
                        waiting.append((name, project, job))
            for name, project, job in sorted(waiting, key=lambda one: one[2].at):
                # Whoever segments an open image waits at the window: a sweep does not stand before.
                if running >= self._at_most + (name == SCRATCH) or name in busy:
                    continue
                try:
                    self._launch(name, project, job)
                except OSError as error:
                    log.warning("job %s of %s cannot be begun: %s", job.id, name, error)
                    continue
                busy.add(name)
                running += 1
            if time.monotonic() - self._tidied > 3600 or not self._tidied:
                self._tidied = time.monotonic()
                self._known.clear()
                if self._has_scratch():
                    tidy(self.project(SCRATCH))

    def _open(self, name: str, project: Project) -> list[Job]:
        """Return the jobs of a project that have not ended; none where its folder is broken.

        One project must not stop those of the others.
        """
        try:
            return open_jobs(project, self._job_of)
        except (OpsefError, OSError) as error:
            if self._broken.get(name) != str(error):
                log.warning("the inbox of %s cannot be read: %s", name, error)
            self._broken[name] = str(error)
            return []

    def catch_up(self) -> None:
        """Do what is quick and was left waiting, such as edits, before anything new comes.

        An edit that a service was killed with must not be saved after newer ones.
        """
        for name, project in self._all():
            waiting = [job for job in self._open(name, project) if job.state == "waiting"]
            for job in sorted(waiting, key=lambda one: one.at):
                kind = KINDS.get(job.kind)
                if kind is None or not kind.fast:
                    continue
                try:
                    perform(project, job.id)
                except (OpsefError, OSError) as error:  # its own state says so
                    log.warning("%s of %s: %s", job.id, name, error)

    def stop(self, *, patience: float = 10.0) -> None:
        """End the processes that this object began; their requests go on at the next start.

        Without it they outlive the service, and the next one follows them.
        """
        with self._lock:
            for process in self._mine.values():
                process.terminate()
            end = time.monotonic() + patience
            for process in self._mine.values():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, end - time.monotonic()))
                if process.poll() is None:
                    signal_group(process.pid, signal.SIGKILL)
                    process.wait()
            self._reap()

    def _all(self) -> Iterator[tuple[str, Project]]:
        """Yield the projects that can be opened."""
        names = self.projects()
        if self._has_scratch():
            names.append(SCRATCH)
        for name in names:
            with contextlib.suppress(OpsefError):  # its opsef.yaml or engines.json is broken
                yield name, self.project(name)

    def _reap(self) -> None:
        """Take note of the processes that ended."""
        for key, process in list(self._mine.items()):
            if process.poll() is None:
                continue
            del self._mine[key]
            with contextlib.suppress(OpsefError):
                self._ended(key, process)

    def _ended(self, key: Key, process: subprocess.Popen[bytes]) -> None:
        project = self.project(key[0])
        job = job_of(project, key[1])
        if job.ended_for_good or cancel_mark(project, job.id).exists():
            return
        if process.returncode == BUSY:
            self._later[key] = time.monotonic() + LATER
        elif job.pid != process.pid:  # it would not begin the next time either
            said = last_line(log_of(project, job.id))
            error = WorkerError(
                f"the process of {job.id} ended with exit code {process.returncode} before it "
                f"began{said}",
                hint=f"All that it said is in inbox/jobs/{job.id}.log",
            )
            told = error_json(error)
            close(project, job.id, state="failed", message=error.message, error=told)

    def _look(self, name: str, project: Project, job: Job) -> str:
        """Return ``running``, ``waiting`` (its turn may come) or nothing; set right what is not.

        With a mark of cancellation: press on, or write down that it is cancelled.
        """
        key = name, job.id
        alive = key in self._mine or lives(project, job)
        if cancel_mark(project, job.id).exists():
            if alive:
                self._press(key, project, job)
                return "running"
            self._close(project, job.id, state="cancelled", message="cancelled")
            return ""
        if alive:
            return "running"
        if job.ended_for_good:  # it was cut off on its way to done/
            self._close(project, job.id)
            return ""
        job = settle(project, job)
        if job.ended_for_good or time.monotonic() < self._later.get(key, 0.0):
            return ""
        return "" if _is_at_hand(project, job) else "waiting"

    @staticmethod
    def _close(project: Project, id: str, **changes: str) -> None:
        with contextlib.suppress(LockedError):  # it was begun just now: the next time
            close(project, id, **changes)

    def _launch(self, name: str, project: Project, job: Job) -> None:
        log = log_of(project, job.id)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            self._mine[name, job.id] = subprocess.Popen(
                self._command(project.root, job.id),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=project.root,
                start_new_session=True,
            )
        self._sent.pop((name, job.id), None)

    def _press(self, key: Key, project: Project, job: Job) -> None:
        """Send the next signal to a job that is cancelled, when it is time."""
        process = self._mine.get(key)
        pid = process.pid if process else job.pid
        if pid is None or pid == os.getpid() or (not process and job.host != socket.gethostname()):
            return
        with contextlib.suppress(OSError):
            age = time.time() - cancel_mark(project, job.id).stat().st_mtime
            step = sum(age >= seconds for seconds in (GENTLE, FIRM, FINAL))
            if step <= self._sent.get(key, 0):
                return
            self._sent[key] = step
            if step == 1 or os.getpgid(pid) != pid:  # a command that somebody runs by hand
                # The process alone: it ends its workers itself, and none of them as a failure.
                os.kill(pid, signal.SIGINT)
            else:
                signal_group(pid, signal.SIGTERM if step == 2 else signal.SIGKILL)

    def _has_scratch(self) -> bool:
        return (self.root / ".opsef" / "scratch").is_dir()


def _is_project(folder: Path) -> bool:
    try:
        return (folder / "opsef.yaml").is_file()
    except OSError:
        return False


def _is_at_hand(project: Project, job: Job) -> bool:
    """Tell whether a fast request is so new that its writer is about to do it."""
    kind = KINDS.get(job.kind)
    if kind is None or not kind.fast:
        return False
    with contextlib.suppress(OSError):
        # A clock that was ahead says nothing of how old a file is.
        return 0 <= time.time() - project.request_file(job.id).stat().st_mtime < FAST_SECONDS
    return True
