"""The child's side: import the function that was named, call it, report what happened."""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
import traceback
from typing import Any

from appose import python_worker

from opsef_bridge.errors import OpsefError
from opsef_bridge.workers.worker import Cancelled, end_of_stderr

__all__ = ["invoke", "main", "serving"]

serving = False
"""Whether this process is a worker. No thread of it sees Ctrl-C."""


def main() -> None:
    """Serve calls until stdin ends.

    Messages go to a copy of stdout, and stdout itself to stderr: what a library prints,
    be it from C, lands in the log and not in the middle of a message.
    """
    global serving
    serving = True
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    python_worker.print = functools.partial(print, file=messages)
    python_worker.main()


def invoke(task: Any, target: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call ``module:function`` and return ``{"value": ...}`` or ``{"error": ...}``.

    Parameters
    ----------
    task : appose.python_worker.Task
        Carries progress to the parent and the parent's wish to cancel.
    target : str
        ``"package.module:function"``.
    arguments : dict
        Keyword arguments; ``progress`` is added.
    """

    def progress(message: str, current: int, maximum: int) -> None:
        task.update(message, current, maximum)
        # A parent that was killed cannot cancel: its end shows as the end of our stdin.
        if task.cancel_requested or not task._worker.running:
            raise Cancelled

    try:
        module, _, name = target.partition(":")
        function = getattr(importlib.import_module(module), name)
        value = function(progress=progress, **arguments)
        json.dumps(value)  # Appose would send a reference to what is not JSON
        return {"value": value}
    except OpsefError as error:
        kind, message, hint = type(error).__name__, error.message, error.hint
    except Exception as error:
        traceback.print_exc(file=sys.stderr)  # into the unit's log
        kind, message = "WorkerFailed", f"{type(error).__name__}: {error}"
        hint = "The log of the unit holds the traceback"
    finally:
        sys.stdout.flush()
        print(end_of_stderr(task._uuid), file=sys.stderr, flush=True)
    return {"error": {"type": kind, "message": message, "hint": hint}}
