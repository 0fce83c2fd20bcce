"""The local executor: worker processes on this machine, one thread each.

Turns follow each other; inside a turn, every worker takes the next unit that waits. On a GPU
there is one worker per GPU, which sees no other. The
memory of an engine goes with its workers, at the end of its turn; others stay warm. A
worker that dies costs the item (the image) that it was on, recorded as failed; the unit
goes on behind it in a fresh process.
"""

from __future__ import annotations

import itertools
import os
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

from opsef_bridge.errors import NotFoundError, OpsefError
from opsef_bridge.execute.units import Unit, fail_item, unit_summary
from opsef_bridge.project import Run
from opsef_bridge.workers import AWAKE, Cancelled, Worker, WorkerDied

__all__ = ["Event", "free_cores", "run_local", "run_named"]


@dataclass(frozen=True)
class Event:
    """Progress of a run: `done` outcomes of `total`; `message` says what is in work."""

    done: int
    total: int
    message: str


def free_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_local(
    target: str,
    project: str,
    run: Run,
    units: Sequence[Unit],
    *,
    workers: int | None = None,
    gpus: Callable[[str], Sequence[str]] = lambda turn: (),
    report: Callable[[Event], None] = lambda event: None,
    deaths_are_outcomes: bool = True,
) -> dict[str, OpsefError]:
    """Run `units` that are not done yet, in their order.

    Parameters
    ----------
    target : str
        ``"module:function"`` of `opsef_bridge.execute.units.run_unit`, named through a
        module whose import registers the kinds.
    project : str
        Folder of the project.
    workers : int, optional
        Processes at a time; as many as there are free cores by default.
    gpus : callable
        Names of the GPUs (as ``CUDA_VISIBLE_DEVICES`` has them) that a turn works on; none for
        the CPU, which is the default.
    report : callable
        Called with an `Event` from several threads, one at a time.
    deaths_are_outcomes : bool
        A worker that dies costs the image that it was on. False: it costs the unit, of which
        no outcome is recorded for it, because the caller will try again with more memory.

    Returns
    -------
    dict of str to OpsefError
        Units that failed as a whole, with the reason. (Items that failed are outcomes.)

    Raises
    ------
    KeyboardInterrupt
        After the workers were ended; what was done is recorded.
    """
    board = _Board(units, run, report, deaths_are_outcomes)
    failed: dict[str, OpsefError] = {}
    team: list[Worker] = []
    try:
        for _, turn in itertools.groupby(units, key=lambda unit: unit.turn):
            waiting: queue.SimpleQueue[Unit] = queue.SimpleQueue()
            ready = [u for u in turn if not run.done_file(u.id).is_file()]
            for unit in ready:
                if any(need in failed for need in unit.needs):
                    failed[unit.id] = OpsefError(f"{unit.id} needs units that failed")
                else:
                    waiting.put(unit)
            if waiting.empty():
                continue
            names = gpus(ready[0].turn)
            count = min(workers or free_cores(), waiting.qsize(), len(names) or waiting.qsize())
            if names:  # each worker has a GPU of its own, so none can be taken over
                _end(team)
                team += [Worker(environment={"CUDA_VISIBLE_DEVICES": n}) for n in names[:count]]
            team += [Worker() for _ in range(count - len(team))]
            failed |= _run_turn(target, project, run, waiting, team[:count], board)
            if names or any(unit.makes for unit in ready):
                _end(team)
    finally:
        _end(team)
    return failed


def run_named(
    target: str, project: str, run: Run, ids: Sequence[str], *, tried_again: bool = False
) -> dict[str, int]:
    """Do units in one process beside this; return their outcomes by status.

    Takes no lock: an executor that holds it runs many of these side by side.

    Parameters
    ----------
    target, project : str
        As of `run_local`.
    ids : sequence of str
        Ids of units; they are done in the order of the plan.
    tried_again : bool
        Whoever calls this will call it again if a worker dies: no image has failed by that.

    Raises
    ------
    NotFoundError
        The run has no such unit.
    OpsefError
        A unit failed as a whole; those that do not need it are done.
    """
    known = {unit["id"]: unit for unit in run.plan()["units"]}
    for unit in ids:
        if unit not in known:
            raise NotFoundError(
                f"{run.id} has no unit {unit!r}", hint=f"It has {len(known)}, u0001 on"
            )
    planned = [Unit.from_json(value) for id, value in known.items() if id in set(ids)]
    failed = run_local(
        target, project, run, planned, workers=1, deaths_are_outcomes=not tried_again
    )
    for error in failed.values():
        raise error
    total: Counter[str] = Counter()
    for unit in planned:
        total.update(unit_summary(run, unit.id))
    return dict(total)


def _run_turn(
    target: str,
    project: str,
    run: Run,
    waiting: queue.SimpleQueue[Unit],
    team: Sequence[Worker],
    board: _Board,
) -> dict[str, OpsefError]:
    """Run the units of one turn on the workers of `team`; return those that failed."""
    failed: dict[str, OpsefError] = {}

    def work(worker: Worker) -> None:
        while not board.stopped.is_set():
            try:
                unit = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                _run_one(worker, target, project, run, unit, board)
            except Cancelled:
                return
            except OpsefError as error:
                failed[unit.id] = error

    with ThreadPoolExecutor(len(team)) as pool:
        futures = [pool.submit(work, worker) for worker in team]
        try:
            while wait(futures, timeout=AWAKE).not_done:
                pass
        except BaseException:
            board.stopped.set()
            for worker in team:
                worker.cancel()
            wait(futures, timeout=3)
            for worker in team:
                worker.kill()
            raise
    for future in futures:
        future.result()
    return failed


def _end(team: list[Worker]) -> None:
    """End all workers and dismiss the team."""
    while team:
        team.pop().close()


def _run_one(
    worker: Worker, target: str, project: str, run: Run, unit: Unit, board: _Board
) -> None:
    """Run one unit to its end, over as many deaths of the worker as it has items."""
    arguments = {"project": project, "run": run.id, "unit": unit.id}
    while True:
        item = ""

        def on_progress(message: str, done: int, maximum: int) -> None:
            nonlocal item
            item = message
            board.tell(unit, done, message)

        try:
            worker.call(target, arguments, on_progress=on_progress, log=run.log_file(unit.id))
        except WorkerDied as death:
            if board.stopped.is_set():  # it did not die, it was ended
                raise Cancelled from death
            if not board.deaths_are_outcomes:
                raise
            # Without progress on a known item, trying again could go on for ever.
            if not fail_item(project, run.id, unit.id, item, death):
                raise
        else:
            board.tell(unit, max(len(unit.makes), 1), "")
            return


class _Board:
    """What the threads of a run share: the progress so far, and the wish to stop."""

    def __init__(
        self, units: Iterable[Unit], run: Run, report: Callable[[Event], None], outcomes: bool
    ) -> None:
        self.deaths_are_outcomes = outcomes
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._report = report
        units = list(units)
        self._total = sum(max(len(unit.makes), 1) for unit in units)
        self._done = {
            unit.id: max(len(unit.makes), 1) for unit in units if run.done_file(unit.id).is_file()
        }

    def tell(self, unit: Unit, done: int, message: str) -> None:
        with self._lock:
            self._done[unit.id] = done
            text = f"{unit.turn} {message}".strip()
            self._report(Event(sum(self._done.values()), self._total, text))
