"""The parent's side: one child process and the calls made to it."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appose.service import Service, Task, TaskStatus

from opsef_bridge import errors
from opsef_bridge.errors import OpsefError, WorkerError

__all__ = [
    "AWAKE",
    "Cancelled",
    "Progress",
    "Worker",
    "WorkerDied",
    "WorkerFailed",
    "end_of_stderr",
]

Progress = Callable[[str, int, int], None]
"""Called with (message, current, maximum); raises `Cancelled` when it is time to stop."""

_CALL = """
from opsef_bridge.workers.inside import invoke
task.outputs.update(invoke(task, target, arguments))
"""

AWAKE = 0.5
"""Seconds after which whoever waits, perhaps in the main thread, wakes for a moment.

A signal may be taken by any thread of a process. Python answers it in the main thread, and would
not wake that: what was cancelled would go on to its end.
"""

_STDOUT_SECONDS = 5.0
"""How long the end of a child waits for what it said; a child of its own may keep the pipe open."""

_STDERR_SECONDS = 5.0
"""How long a call waits at its end for what the child has written to stderr."""

# Numerical libraries are held to the threads that the worker was given: several workers,
# one thread each, are faster on small images than one worker with many threads.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)


class Cancelled(WorkerError):
    """The call was cancelled by its caller."""

    code = "cancelled"

    def __init__(self, message: str = "cancelled", *, hint: str = "") -> None:
        super().__init__(message, hint=hint)


class WorkerDied(WorkerError):
    """The process ended in the middle of a call."""

    code = "worker-died"


class _Service(Service):
    """As Appose's, but word of the end of a process comes after all that it has said.

    Else the item that it died on could be lost: Appose drops what arrives for calls that ended.
    """

    def _monitor_loop(self) -> None:
        self._process.wait()
        self._stdout_thread.join(_STDOUT_SECONDS)
        super()._monitor_loop()


class _DiedIdle(WorkerDied):
    """The process ended between two calls."""


class WorkerFailed(WorkerError):
    """The function raised an error that is not of this package."""

    code = "unexpected"


class Worker:
    """One child process that calls functions, one call at a time.

    The process starts with the first call and is ready for the next call after a failure;
    after `WorkerDied` the next call starts a fresh process. Use as a context manager.

    Parameters
    ----------
    python : str, optional
        Absolute path of the interpreter; this one by default.
    threads : int
        Threads that numerical libraries may use in the child.
    environment : dict of str to str, optional
        More environment variables for the child.
    """

    def __init__(
        self,
        *,
        python: str | None = None,
        threads: int = 1,
        environment: dict[str, str] | None = None,
    ) -> None:
        self._python = python or sys.executable
        self._environment = {
            **os.environ,
            **dict.fromkeys(_THREAD_VARIABLES, str(threads)),
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        self._service: Service | None = None
        self._task: Task | None = None
        self._said = 0  # lines of the child's stderr that earlier calls have had
        self._calls = 0  # calls that this process has answered

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def call(
        self,
        target: str,
        arguments: dict[str, Any],
        *,
        on_progress: Progress | None = None,
        log: Path | None = None,
    ) -> Any:
        """Call ``module:function`` in the child with keyword `arguments` and wait for it.

        Parameters
        ----------
        target : str
            ``"package.module:function"``. The function gets ``progress`` (a `Progress`)
            besides `arguments`.
        arguments : dict
            JSON values.
        on_progress : callable, optional
            Called in a thread of this process with (message, current, maximum).
        log : Path, optional
            What the child printed during the call is appended to this file.

        Raises
        ------
        OpsefError
            As raised by the function; or `Cancelled`, `WorkerFailed`, `WorkerDied`.
        """
        try:
            return self._call(target, arguments, on_progress, log)
        except _DiedIdle:
            # It ended after its last call and was not yet known to be gone: nothing of this
            # call was begun, so it is safe to make it in a fresh process.
            return self._call(target, arguments, on_progress, log)

    def _call(
        self, target: str, arguments: dict[str, Any], on_progress: Progress | None, log: Path | None
    ) -> Any:
        service = self._start()
        task = service.task(_CALL, {"target": target, "arguments": arguments})
        begun, ended = threading.Event(), threading.Event()
        task.listen(lambda event: event.response_type.value == "LAUNCH" and begun.set())
        task.listen(lambda event: task.status.is_finished() and ended.set())
        if on_progress is not None:
            task.listen(lambda event: _forward(event, on_progress))
        self._task = task
        try:
            task.start()
            while not ended.wait(AWAKE):
                pass
        except OSError:  # the process ended before it could take the call
            service.kill()
        except BaseException:
            self.kill()
            raise
        finally:
            self._task = None
        died = task.status not in (TaskStatus.COMPLETE, TaskStatus.FAILED)
        if died:
            service.wait_for()  # its last words have arrived when this returns
        said = self._take_stderr(service, task.uuid, log)
        if died:
            self._service = None
            idle = self._calls > 0 and not begun.is_set()
            raise _died(_DiedIdle if idle else WorkerDied, service.wait_for(), said)
        self._calls += 1
        if task.status is not TaskStatus.COMPLETE:  # `invoke` itself could not run
            raise WorkerFailed(f"{target}: {_last_line(task.error or '')}")
        return _unpack(task.outputs)

    def cancel(self) -> None:
        """Ask the running call, if any, to stop at its next progress report."""
        if self._task is not None:
            with contextlib.suppress(OSError, ValueError):
                self._task.cancel()

    def close(self, timeout: float = 10) -> None:
        """End the process: gently, then, after `timeout` seconds, by force."""
        service, self._service = self._service, None
        if service is None or not service.is_alive():
            return
        with contextlib.suppress(OSError, ValueError):
            service.close()
        end = threading.Timer(timeout, service.kill)
        end.start()
        service.wait_for()
        end.cancel()

    def kill(self) -> None:
        """End the process at once."""
        service, self._service = self._service, None
        if service is not None and service.is_alive():
            service.kill()

    def _start(self) -> Service:
        if self._service is None or not self._service.is_alive():
            # The child ignores Ctrl-C: the parent alone decides what ends. Its threads, also those
            # that numpy starts, keep it out, too: a library may have put an answer of its own.
            boot = (
                "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
                "block = getattr(signal, 'pthread_sigmask', None); "
                "block and block(signal.SIG_BLOCK, [signal.SIGINT]); import numpy; "
                "from opsef_bridge.workers.inside import main; main()"
            )
            self._service = _Service(
                tempfile.gettempdir(), self._environment, self._python, "-P", "-c", boot
            )
            self._service.syntax("python").start()
            self._said = 0
            self._calls = 0
        return self._service

    def _take_stderr(self, service: Service, call: str, log: Path | None) -> list[str]:
        """Return what the child wrote to stderr in a call; append it to `log`.

        The end of the call comes through another pipe than stderr, and may be first.
        """
        end, patience = end_of_stderr(call), time.monotonic() + _STDERR_SECONDS
        while service.is_alive() and time.monotonic() < patience:
            if any(end in line for line in service.error_lines()[self._said :]):
                break
            time.sleep(0.001)
        lines = [line.rstrip("\n") for line in service.error_lines()[self._said :]]
        self._said += len(lines)
        lines = [text for line in lines if (text := line.replace(end, "")) or end not in line]
        if log is not None and lines:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a", encoding="utf-8") as file:
                file.writelines(line + "\n" for line in lines)
        return lines


def end_of_stderr(call: str) -> str:
    """Return the mark that the child writes to stderr when a call has ended."""
    return f"[end of call {call}]"


def _died(kind: type[WorkerDied], code: int, said: list[str]) -> WorkerDied:
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    last_words = f" ({said[-1].strip()})" if said else ""
    if code == -9:
        hint = "Signal 9 is often the system's answer to too little memory: use fewer workers"
    else:
        hint = "The log of the unit holds what it said last"
    return kind(f"the worker process {how}{last_words}", hint=hint)


def _forward(event: Any, on_progress: Progress) -> None:
    if event.response_type.value == "UPDATE":
        on_progress(event.message or "", event.current or 0, event.maximum or 0)


def _unpack(outputs: dict[str, Any]) -> Any:
    """Return the value of a call, or raise the error that it reported."""
    error = outputs.get("error")
    if error is None:
        return outputs["value"]
    if error["type"] == "Cancelled":
        raise Cancelled
    known = getattr(errors, error["type"], None)
    if known is None:
        raise WorkerFailed(error["message"], hint=error["hint"])
    raised: OpsefError = known(error["message"], hint=error["hint"])
    raise raised


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else "no reason given"
