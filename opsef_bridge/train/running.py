"""Carry a training out, go on with one, and say how far it is."""

from __future__ import annotations

import contextlib
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from opsef_bridge.engines.devices import gpu_names
from opsef_bridge.errors import ConfigError, OpsefError, ProjectError
from opsef_bridge.execute import (
    Unit,
    forget_failures,
    run_local,
    run_snakemake,
    working_on,
)
from opsef_bridge.files import lock, read_json, write_json
from opsef_bridge.project import Project, Run
from opsef_bridge.sweep import Executor
from opsef_bridge.sweep.record import now, versions
from opsef_bridge.train.foresight import unit_memory, unit_seconds
from opsef_bridge.train.networks import TrainPlan
from opsef_bridge.train.places import MADE, network_folder, plan_of
from opsef_bridge.train.planning import units_of

__all__ = [
    "TARGET",
    "TrainResult",
    "open_training",
    "resume_training",
    "run_training",
    "training_status",
]

TARGET = "opsef_bridge.train.kinds:run_unit"
"""What workers call; importing it registers the kinds of units."""

LIGHT = ("dataset", "augment", "score", "report")
"""Turns that need no GPU."""


@dataclass(frozen=True)
class TrainResult:
    """How a training stands.

    Parameters
    ----------
    training : str
    done, of : int
        Units.
    failed : int
        Images that could not be segmented.
    problems : dict of str to OpsefError
        Units that failed as a whole.
    units : list of dict
        Of each unit: ``unit``, ``kind``, ``network``, ``state`` (done, failed, begun, waiting),
        ``step``, ``steps``, ``loss``, ``seconds_left``.
    new : bool
        Whether anything was done.
    """

    training: str
    done: int
    of: int
    failed: int
    problems: dict[str, OpsefError]
    units: list[dict[str, Any]]
    new: bool = True

    @property
    def exit_code(self) -> int:
        """0 done, 1 some units failed or are open."""
        return 1 if self.failed or self.problems or self.done < self.of else 0


def run_training(
    project: Project, plan: TrainPlan, executor: Executor | None = None
) -> TrainResult:
    """Carry out a plan: in the newest training if that is of this plan, else in a new one.

    What any training of the project has made by the same key is taken over.

    Raises
    ------
    LockedError
        Another process trains in this project.
    ProjectError
        The disk is full, or may not be written to.
    KeyboardInterrupt
        What was finished stays; `resume_training` goes on.
    """
    with _alone(project):
        run = open_training(project, plan)
        return _carry_out(project, run, executor or Executor())


def open_training(project: Project, plan: TrainPlan) -> Run:
    """Return the training of this plan; where there is none, the next free one, with its plan."""
    known = [project.training(name) for name in reversed(project.trainings())]
    same = [run for run in known if run.plan()["key"] == plan.key]
    run = same[0] if same else project.new_training()
    if not same or _how(run.plan()) != (plan.device, plan.tensorboard):
        run.write_plan(_plan_json(project, plan))
    return run


def _how(plan: Mapping[str, Any]) -> tuple[str, bool]:
    """Return what may change within a training."""
    return plan["device"], bool(plan.get("tensorboard"))


def resume_training(project: Project, run: Run, executor: Executor | None = None) -> TrainResult:
    """Do what is left of a training, and again what failed. Raises as `run_training`."""
    with _alone(project):
        for unit in run.plan()["units"]:
            if forget_failures(run, unit["id"]):
                # What was counted without them is counted again.
                for later in run.plan()["units"]:
                    if later["kind"] in ("train-score", "train-report"):
                        run.done_file(later["id"]).unlink(missing_ok=True)
        return _carry_out(project, run, executor or Executor())


def training_status(run: Run, problems: Mapping[str, OpsefError] | None = None) -> TrainResult:
    """Say how far a training is: units, steps, losses, the time that is left."""
    if problems is None:
        record = read_json(run.record_file) if run.record_file.is_file() else {}
        problems = {unit: OpsefError(text) for unit, text in record.get("problems", {}).items()}
    problems = {unit: error for unit, error in problems.items() if not _is_done(run, unit)}
    rows = [_row(run, unit, problems) for unit in _units(run)]
    return TrainResult(
        run.id,
        sum(row["state"] == "done" for row in rows),
        len(rows),
        sum(outcome["status"] == "failed" for outcome in run.outcomes()),
        problems,
        rows,
    )


def _is_done(run: Run, unit: str) -> bool:
    return run.done_file(unit).is_file()


def _row(run: Run, unit: Unit, problems: Mapping[str, OpsefError]) -> dict[str, Any]:
    network = str(unit.inputs.get("network", unit.inputs.get("dataset", "")))
    state = "done" if _is_done(run, unit.id) else "waiting"
    row: dict[str, Any] = {
        "unit": unit.id,
        "kind": unit.kind.removeprefix("train-"),
        "network": network,
        "step": None,
        "steps": None,
        "loss": None,
        "seconds_left": None,
    }
    folder = network_folder(run, network)
    progress = folder / "progress.json"
    if unit.kind == "train" and progress.is_file():
        told = read_json(progress)
        row |= {name: told[name] for name in ("step", "steps", "loss", "seconds_left")}
        if state != "done":
            state = "begun"
        if (folder / MADE).is_file():
            row["seconds_left"] = 0.0
    row["state"] = "failed" if unit.id in problems else state
    return row


def _carry_out(project: Project, run: Run, executor: Executor) -> TrainResult:
    _forget_lost(run)
    units = _units(run)
    if all(_is_done(run, unit.id) for unit in units):
        done = training_status(run)
        return TrainResult(done.training, done.done, done.of, done.failed, {}, done.units, False)
    record = read_json(run.record_file) if run.record_file.is_file() else {"started": now()}
    write_json(run.record_file, _record(run, record["started"], training_status(run, {})))
    with working_on(run):
        problems = _execute(project, run, units, executor)
    _sweep_up(run)
    if problems:
        from opsef_bridge.train.reporting import write_report

        # What the others found is worth a report; without its dataset there is none.
        with contextlib.suppress(OpsefError):
            write_report(project, run, problems)
    result = training_status(run, problems)
    write_json(run.record_file, _record(run, record["started"], result))
    return result


def _forget_lost(run: Run) -> None:
    """Let networks be made again of which somebody has deleted the weights, or their card.

    Checkpoints that are still there are gone on with, so no step is done twice.
    """
    lost = set()
    for one in plan_of(run).networks:
        made = network_folder(run, one.id) / MADE
        if made.is_file():
            models = run.root / "models"
            files = (models / read_json(made)["file"], models / f"{one.candidate}.json")
            if not all(file.exists() for file in files):
                made.unlink()
                lost.add(one.id)
    for unit in _units(run):
        # Their scores stand on the card, too.
        if unit.kind in ("train", "train-score") and unit.inputs["network"] in lost:
            run.done_file(unit.id).unlink(missing_ok=True)


def _sweep_up(run: Run) -> None:
    """Remove what processes that were killed have half written."""
    for path in list(run.root.rglob(".*.partial*")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _execute(
    project: Project, run: Run, units: list[Unit], executor: Executor
) -> dict[str, OpsefError]:
    if executor.profile and executor.engine != "snakemake":
        raise ConfigError(
            f"a profile needs --engine snakemake, got {executor.engine}",
            hint="Leave out --profile, or add --engine snakemake",
        )
    root = str(project.root)
    if executor.engine == "snakemake":
        return run_snakemake(
            root, run, units,
            workers=executor.workers, profile=executor.profile, report=executor.report,
        )  # fmt: skip
    gpus = gpu_names() if run.plan()["device"] != "cpu" else ()
    return run_local(
        TARGET, root, run, units, workers=executor.workers, report=executor.report,
        gpus=lambda turn: () if turn in LIGHT else gpus,
    )  # fmt: skip


def _record(run: Run, started: str, result: TrainResult) -> dict[str, Any]:
    return {
        "run": run.id,
        "plan_key": run.plan()["key"],
        "versions": versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "started": started,
        "ended": now(),
        "result": {"done": result.done, "of": result.of, "failed": result.failed},
        "problems": {unit: str(error) for unit, error in result.problems.items()},
    }


def _plan_json(project: Project, plan: TrainPlan) -> dict[str, Any]:
    """Return what ``plan.json`` holds: as that of a run, with networks for variants."""
    seconds, memory = unit_seconds(project, plan), unit_memory(plan)
    units = []
    for unit in units_of(plan):
        gpu = unit.turn not in LIGHT and plan.device != "cpu"
        resources: dict[str, float] = {"gpu": float(gpu)}
        if unit.id in seconds:
            resources["seconds"] = seconds[unit.id]
        if unit.id in memory:
            resources["mem_mb"] = memory[unit.id]
        units.append(asdict(replace(unit, resources=resources)))
    return {**asdict(plan), "config": {}, "images": [], "variants": [], "units": units}


def _units(run: Run) -> list[Unit]:
    return [Unit.from_json(unit) for unit in run.plan()["units"]]


@contextlib.contextmanager
def _alone(project: Project) -> Iterator[None]:
    """Hold the lock of the trainings; say what is wrong with the disk."""
    try:
        with lock(project.trainings_folder / ".lock"):
            yield
    except OSError as error:
        where = error.filename or project.root
        raise ProjectError(
            f"{where} cannot be read or written ({error.strerror or error})",
            hint="Free some space there, or allow writing; `opsef train resume` goes on",
        ) from error
