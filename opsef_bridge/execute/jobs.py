"""Units grouped into jobs of minutes, so that a cluster's wait for each job hardly counts.

Units that do not need each other stand on one level; a level is cut into as many jobs as
can run at a time, none of less than `LEAST` or of more than `MOST` seconds. Levels of one
job each are joined: a small sweep is one job, and ranking, stacks and report of a larger one
are one job at its end. A job is one process in which the engine of a turn stays loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from opsef_bridge.execute.units import Unit

__all__ = ["LEAST", "MEMORY", "MOST", "ClusterJob", "group_units"]

LEAST, MOST = 60.0, 600.0
"""Seconds that a job should take: less is mostly waiting, more loses much when it is killed."""

MEMORY = 4000
"""Megabytes of a job at its first try, where its units name none."""

UNKNOWN = 1.0
"""Seconds of a unit of which nothing is known."""


@dataclass(frozen=True)
class ClusterJob:
    """Units that one process does, one after the other.

    Parameters
    ----------
    name : str
        ``cpu-0001``, or ``gpu-0001`` where its units can use a GPU.
    units : tuple of str
        Ids, in the order of the plan.
    needs : tuple of str
        Names of the jobs that must have ended before.
    seconds : float
        What it will take, by estimate.
    threads, mem_mb : int
        What it asks for, at the first try.
    """

    name: str
    units: tuple[str, ...]
    needs: tuple[str, ...] = ()
    seconds: float = 0.0
    threads: int = 1
    mem_mb: int = MEMORY


def group_units(
    units: Sequence[Unit],
    *,
    done: Collection[str] = (),
    slots: int = 1,
    seconds: Callable[[Unit], float | None] = lambda unit: None,
    gpu: Callable[[Unit], bool] = lambda unit: False,
    least: float = LEAST,
    most: float = MOST,
) -> list[ClusterJob]:
    """Group the units that are not done into jobs.

    Parameters
    ----------
    units : sequence of Unit
        All units of the plan, each behind those that it needs.
    done : collection of str
        Ids of units that are done.
    slots : int
        Jobs that can run at a time.
    seconds, gpu : callable
        What a unit will take (None: not known), and whether it can use a GPU, where its
        `resources` do not say so.
    least, most : float
        Seconds of a job.

    Examples
    --------
    >>> makes = (("i", "v", "k"),)
    >>> predict = [Unit(f"u{k}", "predict", "unet", makes=makes) for k in range(4)]
    >>> rank = Unit("u9", "rank", "rank", needs=("u0", "u1", "u2", "u3"))
    >>> for job in group_units([*predict, rank], slots=2, seconds=lambda unit: 100):
    ...     print(job.name, *job.units, job.needs)
    cpu-0001 u0 u1 ()
    cpu-0002 u2 u3 ()
    cpu-0003 u9 ('cpu-0001', 'cpu-0002')
    """

    def cost(unit: Unit) -> float:
        found = unit.resources.get("seconds", seconds(unit))
        return UNKNOWN if found is None else found

    def place(unit: Unit) -> tuple[str, int]:
        wanted = unit.resources.get("gpu", gpu(unit))
        return "gpu" if wanted else "cpu", int(unit.resources.get("threads", 1))

    waiting = [unit for unit in units if unit.id not in done]
    levels: list[list[list[Unit]]] = []
    for level in _levels(waiting):
        chunks: list[list[Unit]] = []
        for _, alike in groupby(sorted(level, key=place), key=place):
            chunks += _chunks(list(alike), cost, slots, least, most)
        before = levels[-1] if levels else []
        if len(before) == len(chunks) == 1:
            both = before[0] + chunks[0]
            if len({place(unit) for unit in both}) == 1 and sum(map(cost, both)) <= most:
                levels[-1] = [both]
                continue
        levels.append(chunks)
    return list(_named([chunk for level in levels for chunk in level], cost, place))


def _levels(units: Iterable[Unit]) -> list[list[Unit]]:
    """Units by how many others stand before them in the longest chain of needs."""
    depth: dict[str, int] = {}
    levels: list[list[Unit]] = []
    for unit in units:
        depth[unit.id] = max((depth[need] + 1 for need in unit.needs if need in depth), default=0)
        while len(levels) <= depth[unit.id]:
            levels.append([])
        levels[depth[unit.id]].append(unit)
    return levels


def _chunks(
    units: list[Unit], cost: Callable[[Unit], float], slots: int, least: float, most: float
) -> list[list[Unit]]:
    """Cut units of one level into chunks of about the same cost."""
    total = sum(map(cost, units))
    count = max(1, min(slots, int(total / least) if least else slots))
    if total / count > most:  # whole rounds: one more job would be a round more
        count = slots * math.ceil(total / most / slots)
    count = min(len(units), count)
    chunks: list[list[Unit]] = [[] for _ in range(count)]
    spent = 0.0
    for unit in units:
        middle = (spent + cost(unit) / 2) / total if total else 0.0
        chunks[min(int(middle * count), count - 1)].append(unit)
        spent += cost(unit)
    return [chunk for chunk in chunks if chunk]


def _named(
    chunks: Sequence[Sequence[Unit]],
    cost: Callable[[Unit], float],
    place: Callable[[Unit], tuple[str, int]],
) -> Iterator[ClusterJob]:
    job_of: dict[str, str] = {}
    for number, chunk in enumerate(chunks, 1):
        where, threads = place(chunk[0])
        name = f"{where}-{number:04d}"
        needs = dict.fromkeys(job_of[n] for unit in chunk for n in unit.needs if n in job_of)
        memory = max(int(unit.resources.get("mem_mb", MEMORY)) for unit in chunk)
        yield ClusterJob(
            name, tuple(unit.id for unit in chunk), tuple(needs),
            round(sum(map(cost, chunk)), 1), threads, memory,
        )  # fmt: skip
        job_of |= {unit.id: name for unit in chunk}
