"""The unit: the smallest thing that is scheduled, resumed and retried.

A unit lives in ``plan.json``; what it has done so far lives in ``units/<unit>.json``, which
is written anew, atomically, after every step; ``units/<unit>.done`` says that it is
finished. `run_unit` is the one entry to the work: the local executor, Snakemake, the
service and ``opsef unit run`` all call it. It is idempotent: what is recorded is not done
again, so a unit may be killed at any time and simply run again.

Kinds of units register themselves with `unit_kind`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from opsef_bridge.errors import NotFoundError, OpsefError, WorkerError
from opsef_bridge.execute.memory import forget_peak, peak_bytes
from opsef_bridge.files import patiently, read_json, write_json, write_text
from opsef_bridge.project import Project, Run
from opsef_bridge.workers import Progress

__all__ = [
    "Job",
    "Outcome",
    "Unit",
    "fail_item",
    "forget_failures",
    "forget_outcomes",
    "run_unit",
    "unit_kind",
    "unit_lock",
    "unit_summary",
]


@dataclass(frozen=True)
class Unit:
    """A unit as the plan has it.

    Parameters
    ----------
    id : str
        ``u0001``.
    kind : str
        Name of a registered kind.
    turn : str
        Units of one turn may share the machine; turns follow each other. An engine is a
        turn, so that its workers end before the next engine loads.
    needs : tuple of str
        Ids of the units that must be done before.
    inputs : dict
        What the kind needs to know.
    makes : tuple of (image, variant, key)
        The labels it makes, for kinds that make labels.
    resources : dict of str to float
        What it asks of a cluster, where that is known when it is planned: ``threads``,
        ``mem_mb``, ``seconds``, ``gpu`` (1 or 0). They decide no result, so they belong to no
        key.
    """

    id: str
    kind: str
    turn: str
    needs: tuple[str, ...] = ()
    inputs: dict[str, Any] = field(default_factory=dict)
    makes: tuple[tuple[str, str, str], ...] = ()
    resources: dict[str, float] = field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        """Return what decides its results, for keys: all but `resources`."""
        return {name: value for name, value in asdict(self).items() if name != "resources"}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Unit:
        """Read what `dataclasses.asdict` wrote."""
        makes = tuple((image, variant, key) for image, variant, key in value["makes"])
        return cls(**value | {"needs": tuple(value["needs"]), "makes": makes})


@dataclass(frozen=True)
class Outcome:
    """What became of one image and one variant.

    `status` is ``ok``, ``empty`` (segmented, no object found: a result) or ``failed`` (then
    `code`, `message` and `hint` say why). `seconds` is what this variant costs alone: its
    network pass and its own decoding, which took `decode_seconds`. `diameter` is the median
    equivalent diameter of its objects in pixels of the image. `chosen` is what the engine
    chose itself for this image, e.g. the diameter to which `auto` came.
    """

    image: str
    variant: str
    key: str
    status: Literal["ok", "empty", "failed"]
    objects: int = 0
    diameter: float = 0.0
    seconds: float = 0.0
    decode_seconds: float = 0.0
    unit: str = ""
    code: str = ""
    message: str = ""
    hint: str = ""
    chosen: dict[str, float] = field(default_factory=dict)

    @classmethod
    def failed(cls, error: OpsefError, image: str, variant: str, key: str) -> Outcome:
        """Return the outcome of an image and variant that ended with `error`."""
        return cls(
            image, variant, key, "failed",
            code=error.code, message=error.message, hint=error.hint,
        )  # fmt: skip


@dataclass
class Job:
    """What a kind gets to work with: the project, the run, its unit and what is done."""

    project: Project
    run: Run
    plan: dict[str, Any]
    unit: Unit
    record: dict[str, Any]
    progress: Progress

    def open_makes(self) -> list[tuple[str, str, str]]:
        """Return those (image, variant, key) of the unit that have no outcome yet.

        Two images of the same pixels share their keys, but each has labels of its own.
        """
        done = {(o["image"], o["variant"], o["key"]) for o in self.record["outcomes"]}
        return [made for made in self.unit.makes if made not in done]

    def report(self, message: str) -> None:
        """Report progress: which item is in work, and how many outcomes there are."""
        self.progress(message, len(self.record["outcomes"]), max(len(self.unit.makes), 1))


PATIENCE = 60.0
"""Seconds to wait for another process that works on the same unit."""

Kind = Callable[[Job], Iterator[list[Outcome]]]
_KINDS: dict[str, Kind] = {}


def unit_kind(name: str) -> Callable[[Kind], Kind]:
    """Register a function as the kind `name` of units.

    The function does the work of its unit step by step, reports the item (an image) that
    it starts on, and yields the outcomes of each step; each yield is a point from which a
    killed unit goes on.
    """

    def register(function: Kind) -> Kind:
        _KINDS[name] = function
        return function

    return register


def run_unit(
    project: str, run: str, unit: str, progress: Progress = lambda message, done, of: None
) -> dict[str, int]:
    """Do a unit, or what is left of it.

    Parameters
    ----------
    project : str
        Folder of the project.
    run, unit : str
        Ids.

    Returns
    -------
    dict of str to int
        How many outcomes of each status the unit has, and ``passes``, the number of
        network passes that it took in all.
    """
    root = Project(project)
    folder = root.run(run)
    with _alone(folder, unit):
        job = _open_job(root, folder, unit, progress)
        if not folder.done_file(unit).is_file():
            try:
                kind = _KINDS[job.unit.kind]
            except KeyError:
                raise NotFoundError(
                    f"{unit} is of kind {job.unit.kind!r}", hint=f"Known: {', '.join(_KINDS)}"
                ) from None
            forget_peak()
            try:
                for outcomes in kind(job):
                    _add(job, outcomes)
                write_text(folder.done_file(unit), "done\n")
            except OSError as error:
                raise _disk_error(folder, unit, error) from error
        return _summary(job.record)


def fail_item(project: str, run: str, unit: str, item: str, error: OpsefError) -> int:
    """Record that the worker died on `item`; return how many outcomes that failed.

    The unit can then be run again and goes on behind the item.
    """
    root = Project(project)
    folder = root.run(run)
    with _alone(folder, unit):
        job = _open_job(root, folder, unit, lambda message, done, of: None)
        lost = [made for made in job.open_makes() if made[0] == item]
        _add(job, [Outcome.failed(error, *made) for made in lost])
        return len(lost)


def forget_failures(run: Run, unit: str) -> int:
    """Drop the failed outcomes of a unit, so that it tries them again; return how many."""
    return forget_outcomes(run, unit, lambda outcome: outcome["status"] == "failed")


def forget_outcomes(run: Run, unit: str, which: Callable[[dict[str, Any]], bool]) -> int:
    """Drop the outcomes of a unit that `which` says, so that it makes them again.

    Returns
    -------
    int
        How many were dropped.
    """
    file = run.unit_file(unit)
    if not file.is_file():
        return 0
    with _alone(run, unit):
        record = read_json(file)
        kept = [outcome for outcome in record["outcomes"] if not which(outcome)]
        dropped = len(record["outcomes"]) - len(kept)
        if dropped:
            # In this order: a unit that is not done looks for what it lacks.
            run.done_file(unit).unlink(missing_ok=True)
            write_json(file, record | {"outcomes": kept})
        return dropped


def _disk_error(run: Run, unit: str, error: OSError) -> WorkerError:
    """What is wrong with a file is often that the disk is full, and is seldom said so."""
    free = shutil.disk_usage(run.root).free
    again = "train resume" if run.root.parent.name == "trainings" else "sweep resume"
    return WorkerError(
        f"{unit} could not read or write a file ({error}); {run.root} has {free / 1e6:.1f} MB free",
        hint=f"Free some space there, or allow writing; `opsef {again}` goes on",
    )


def unit_lock(run: Run, unit: str) -> Path:
    """Return the file whose lock is held by who does a unit."""
    return run.unit_file(unit).with_suffix(".lock")


def _alone(run: Run, unit: str) -> AbstractContextManager[None]:
    """Hold the lock of a unit. A worker whose controller was killed may still be at it: it
    ends at its next report of progress, and until then its successor waits.
    """
    return patiently(unit_lock(run, unit), PATIENCE)


def _open_job(project: Project, run: Run, unit: str, progress: Progress) -> Job:
    plan = run.plan()
    found = next((value for value in plan["units"] if value["id"] == unit), None)
    if found is None:
        raise NotFoundError(
            f"{run.id} has no unit {unit!r}", hint=f"It has {len(plan['units'])} units, u0001 on"
        )
    file = run.unit_file(unit)
    kind = found["kind"]
    new = {"unit": unit, "kind": kind, "passes": 0, "outcomes": []}
    record = read_json(file) if file.is_file() else new
    return Job(project, run, plan, Unit.from_json(found), record, progress)


def _add(job: Job, outcomes: list[Outcome]) -> None:
    if outcomes:
        if job.record["passes"]:  # what was taken over says nothing of a network
            job.record["memory"] = max(job.record.get("memory", 0), peak_bytes())
        job.record["outcomes"] += [asdict(outcome) | {"unit": job.unit.id} for outcome in outcomes]
        write_json(job.run.unit_file(job.unit.id), job.record)


def unit_summary(run: Run, unit: str) -> dict[str, int]:
    """Return what `run_unit` returned when it last ran."""
    file = run.unit_file(unit)
    return _summary(read_json(file) if file.is_file() else {"passes": 0, "outcomes": []})


def _summary(record: dict[str, Any]) -> dict[str, int]:
    counts = {"ok": 0, "empty": 0, "failed": 0, "passes": record["passes"]}
    for outcome in record["outcomes"]:
        counts[outcome["status"]] += 1
    return counts
