"""Snakemake on a leash: it ends with the process that started it, however that ended.

Without it, Snakemake would outlive an ``opsef`` that was killed, and give out jobs beside
the next one. The parent holds the other end of our stdin; when that closes, all of our
process group ends, the local jobs too. Jobs of a cluster go on: the next start takes what
they made.

The plugin for SLURM asks for its jobs ever more seldom, up to every third minute. Jobs of
minutes would wait longer than they work, so here it asks every `LONGEST` seconds at least, and
at once when a job has left its mark in ``jobs/``.

Run as ``python -m opsef_bridge.execute.leash OPTIONS OF SNAKEMAKE``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from pathlib import Path

__all__ = ["main", "until_marked"]

LONGEST = 15
"""Seconds between two questions for the state of all jobs."""

LOOK = 0.5
"""Seconds between two looks for marks of jobs that have ended."""

LINGER = 3
"""Seconds from the mark of a job to its end."""


def main() -> None:
    """Run Snakemake with the options of the command line."""
    leash = os.dup(0)  # which children do not get
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_end_with_parent, args=(leash,), daemon=True).start()
    if "slurm" in sys.argv:
        _ask_often()
    from snakemake.cli import main as snakemake

    snakemake(sys.argv[1:])


def _ask_often() -> None:
    from snakemake_executor_plugin_slurm import Executor

    asked = Executor.next_seconds_between_status_checks

    def ask_at(executor: Executor, seconds: float) -> None:
        asked.fset(executor, min(seconds, LONGEST))

    async def sleep(executor: Executor) -> None:
        folder = Path(sys.argv[sys.argv.index("--directory") + 1])
        await until_marked(folder, executor.next_seconds_between_status_checks)

    Executor.next_seconds_between_status_checks = property(asked.fget, ask_at)
    Executor.sleep = sleep


async def until_marked(folder: Path, seconds: float) -> None:
    """Wait until another job of the run in `folder` has ended well, or so long.

    A job makes its mark `LINGER` seconds, at most, before SLURM knows that it has ended.
    """

    def marks() -> set[str]:
        return {file.name for file in folder.glob("jobs/*.ok")}

    until, before = time.monotonic() + seconds, marks()
    while time.monotonic() < until:
        await asyncio.sleep(LOOK)
        if marks() != before:
            await asyncio.sleep(LINGER)
            return


def _end_with_parent(leash: int) -> None:
    while os.read(leash, 1024):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
