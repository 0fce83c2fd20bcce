"""Processes that do one thing: started, called by function name, watched, ended.

A `Worker` is one child Python process on the Appose protocol (JSON lines on the child's
stdin and stdout; see the `appose` package). The parent names a function, the child imports
and calls it; state that the function keeps in its module stays warm between calls.

What can come back from a call::

    value           the function returned (JSON: dict, list, str, number, None)
    Cancelled       the parent asked, and the function stopped at its next progress report
    OpsefError      the function raised one; code, message and hint arrive unchanged
    WorkerFailed    the function raised something else; the traceback is in the log
    WorkerDied      the process is gone (killed, out of memory, a crash in native code)

So "the worker died" can never be read as "there were no objects".
"""

from opsef_bridge.workers.worker import (
    AWAKE,
    Cancelled,
    Progress,
    Worker,
    WorkerDied,
    WorkerFailed,
)

__all__ = ["AWAKE", "Cancelled", "Progress", "Worker", "WorkerDied", "WorkerFailed"]
