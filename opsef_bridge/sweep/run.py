"""Plan a sweep and carry it out: what ``opsef sweep`` and the service call."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.config import Config
from opsef_bridge.engines import Weights, find_weights, verify
from opsef_bridge.errors import ConfigError, NotFoundError, OpsefError, ProjectError
from opsef_bridge.execute import Event, run_local, run_snakemake, working_on
from opsef_bridge.files import key_of, lock, read_json, write_json
from opsef_bridge.images.identity import identity
from opsef_bridge.project import ImageEntry, Project, Run, read_csv
from opsef_bridge.sweep.classes import mask_file
from opsef_bridge.sweep.devices import (
    devices_of_engines,
    gpus_of_turn,
    turns_with_networks,
    weights_of_variants,
)
from opsef_bridge.sweep.estimate import unit_seconds
from opsef_bridge.sweep.importing import import_images
from opsef_bridge.sweep.plan import make_batch_plan, make_plan, tiling
from opsef_bridge.sweep.planned import Plan, Variant
from opsef_bridge.sweep.predict import segmented_array
from opsef_bridge.sweep.record import now, run_record, versions
from opsef_bridge.sweep.remarks import remarks_in
from opsef_bridge.sweep.reopening import open_failures, open_lost
from opsef_bridge.sweep.sample import Box, choose_box, choose_box_in, sample_images
from opsef_bridge.sweep.tiling import segmented_shape

__all__ = [
    "Executor",
    "Result",
    "choose_box",
    "newest_run",
    "plan_batch",
    "plan_sweep",
    "resume_run",
    "run_plan",
    "status",
    "variant_rows",
    "versions",
]

TARGET = "opsef_bridge.sweep:run_unit"
"""What workers call; importing `opsef_bridge.sweep` registers the kinds of units."""


@dataclass(frozen=True)
class Executor:
    """Who does the units, and how many at a time.

    Parameters
    ----------
    engine : {"local", "snakemake"}
        Worker processes of this one, or jobs of Snakemake.
    workers : int, optional
        Processes or local jobs at a time; as many as there are free cores by default.
    profile : str or Path, optional
        A profile of Snakemake, for a cluster: the name of one, or its folder.
    report : callable
        Called with an `Event` now and then.
    """

    engine: str = "local"
    workers: int | None = None
    profile: str | Path | None = None
    report: Callable[[Event], None] = lambda event: None

    def run(self, project: Project, run: Run, plan: Plan) -> dict[str, OpsefError]:
        """Do the units of `plan` that are not done; return those that failed as a whole."""
        if self.profile and self.engine != "snakemake":
            raise ConfigError(
                f"a profile needs --engine snakemake, got {self.engine}",
                hint="Leave out --profile, or add --engine snakemake",
            )
        if self.engine == "snakemake":
            networks, estimated = turns_with_networks(plan), unit_seconds(project, plan)
            return run_snakemake(
                str(project.root), run, plan.units,
                workers=self.workers, profile=self.profile, report=self.report,
                seconds=lambda unit: estimated.get(unit.id), gpu=lambda unit: unit.turn in networks,
            )  # fmt: skip
        weights = weights_of_variants(project, plan.variants)
        wanted = plan.config["sweep"]["device"]
        return run_local(
            TARGET, str(project.root), run, plan.units, workers=self.workers, report=self.report,
            gpus=lambda turn: gpus_of_turn(turn, weights, wanted),
        )  # fmt: skip


@dataclass(frozen=True)
class Result:
    """How a run ended: outcomes by status, units that failed as a whole, and remarks."""

    run: str
    ok: int
    empty: int
    failed: int
    open: int
    passes: int
    problems: dict[str, OpsefError]
    remarks: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 done, 1 some units or outcomes failed or are open."""
        return 1 if self.failed or self.open or self.problems else 0


def plan_sweep(project: Project, say: Callable[[str], object] | None = None) -> Plan:
    """Import the images and plan what ``opsef.yaml`` asks for.

    `say` takes what the import has to say, as that of `import_images`.
    """
    config = project.config
    weights = weights_of(project, config)
    _check_device(config, weights.values())
    with _writable(project):
        entries = import_images(project, config, say)
    drawn = sample_images(entries, config.sweep.images, config.sweep.seed)
    _check_channel(config, drawn)
    _check_masks(project, config, drawn)
    boxes = {entry.id: _box_of(project, config, entry) for entry in drawn}
    return _with_masks(project, config, make_plan(config, drawn, weights, boxes), drawn)


def plan_batch(project: Project, say: Callable[[str], object] | None = None) -> Plan:
    """Plan the adopted variants on all included images.

    `say` takes what the import has to say, as that of `import_images`.

    Raises
    ------
    NotFoundError
        Nothing was adopted.
    """
    chosen = project.adopted()
    if not chosen:
        raise NotFoundError(
            "no variant is adopted yet", hint="Choose one: opsef adopt VARIANT [--group G]"
        )
    config = project.config
    adopted = {
        group: _of_today(project, Variant.from_json(what["variant"]))
        for group, what in chosen.items()
    }
    _check_device(config, weights_of_variants(project, adopted.values()))
    with _writable(project):
        entries = [entry for entry in import_images(project, config, say) if entry.include]
    _check_masks(project, config, entries)
    return _with_masks(project, config, make_batch_plan(config, entries, adopted), entries)


def weights_of(project: Project, config: Config) -> dict[str, Weights]:
    """Return the verified weights of every model of the configuration."""
    found = {
        model.name: find_weights(model.engine, model.weights, [project.models_folder])
        for model in config.model_settings()
    }
    for weights in found.values():
        verify(weights)
    return found


def newest_run(project: Project, purpose: str) -> Run | None:
    """Return the newest run of that purpose, ``sweep`` or ``batch``."""
    for name in reversed(project.runs()):
        run = project.run(name)
        if run.plan()["purpose"] == purpose:
            return run
    return None


def run_plan(project: Project, plan: Plan, executor: Executor | None = None) -> Result:
    """Carry out a plan: in the newest run if that is of this plan, else in a new one.

    What that run has made is not made again, unless its label file is gone.

    Raises
    ------
    LockedError
        Another process works on this project.
    KeyboardInterrupt
        What was finished stays; the run can be resumed.
    """
    with _writable(project), lock(project.lock_file):
        run = newest_run(project, plan.purpose)
        if run is None or run.plan()["key"] != plan.key:
            run = project.new_run()
            run.write_plan(plan.to_json())
        elif run.plan()["config"] != json.loads(json.dumps(plan.config)):
            # What is not part of the key (the device) is taken from now on, also by what
            # failed for want of it.
            run.write_plan(plan.to_json())
            open_failures(run, plan)
        return _carry_out(project, run, executor or Executor())


def resume_run(project: Project, run: Run, executor: Executor | None = None) -> Result:
    """Do what is left of a run, and again what failed or is gone. Raises as `run_plan`."""
    with _writable(project), lock(project.lock_file):
        open_failures(run, Plan.from_json(run.plan()))
        return _carry_out(project, run, executor or Executor())


def _carry_out(project: Project, run: Run, executor: Executor) -> Result:
    """Do what is left of a run, and write the record."""
    plan = Plan.from_json(run.plan())
    open_lost(run, plan)
    before = read_json(run.record_file) if run.record_file.is_file() else {}
    started = before.get("started", now())
    if not before:  # so that a run that is killed has a record
        write_json(run.record_file, _record(run, plan, started, status(run)))
    with working_on(run):
        problems = executor.run(project, run, plan)
    _sweep_up(run, project.cache_folder)
    result = status(run, problems)
    told = {"result": _counts(result), "remarks": list(result.remarks)}
    if any(before.get(name, []) != value for name, value in told.items()):
        write_json(run.record_file, _record(run, plan, started, result))
    return result


def _sweep_up(run: Run, cache: Path) -> None:
    """Remove half-written files of processes that were killed. Those still under way would
    hold the lock of a unit, and all units have been through our hands.
    """
    for folder in (run.root, cache):
        for file in folder.rglob(".*.partial*"):
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def _writable(project: Project) -> Iterator[None]:
    """Turn a full disk or a folder without permission into an error that names the file."""
    try:
        yield
    except OSError as error:
        where = error.filename or project.root
        raise ProjectError(
            f"{where} cannot be read or written ({error.strerror or error})",
            hint="Free some space there, or allow writing; then run the command again: what was "
            "finished stays",
        ) from error


def status(run: Run, problems: Mapping[str, OpsefError] | None = None) -> Result:
    """Count the outcomes of a run."""
    plan = run.plan()
    outcomes = run.outcomes()
    counts = {
        name: sum(o["status"] == name for o in outcomes) for name in ("ok", "empty", "failed")
    }
    total = sum(len(unit["makes"]) for unit in plan["units"] if unit["kind"] != "tiles")
    waiting = sum(not run.done_file(unit["id"]).is_file() for unit in plan["units"])
    records = [read_json(file) for file in sorted((run.root / "units").glob("u*.json"))]
    passes = sum(record["passes"] for record in records)
    unmade = total - len(outcomes)
    return Result(
        run.id, **counts, open=max(unmade, waiting), passes=passes,
        problems=dict(problems or {}), remarks=tuple(remarks_in(records)),
    )  # fmt: skip


def _box_of(project: Project, config: Config, entry: ImageEntry) -> Box | None:
    """The box of an image; an image that cannot be read gets none, and fails later."""
    if config.sweep.crop == "none":
        return None
    if len(entry.shape) == len(entry.axes) > 0:
        sides = dict(zip(entry.axes, entry.shape, strict=True))
        if max(sides.get("Y", 0), sides.get("X", 0)) <= config.sweep.crop:
            return None  # without reading a pixel
    try:
        if tiling(entry, config):
            return _box_of_large(project, config, entry)
        return choose_box(segmented_array(project, config, entry), config.sweep.crop)
    except (OpsefError, OSError):
        return None


def _box_of_large(project: Project, config: Config, entry: ImageEntry) -> Box | None:
    """The box of an image that is larger than a tile, of which some rows are read at a time."""
    height, width = segmented_shape(entry, config)[-2:]
    side = config.sweep.crop

    def read(row: int) -> np.ndarray:
        box = (row, 0, min(int(side), height), width)
        rows = segmented_array(project, config, entry, box=box)
        return rows if rows.ndim == 2 else rows.max(axis=0)

    return choose_box_in(read, (height, width), int(side))


def _of_today(project: Project, variant: Variant) -> Variant:
    """Complete a variant that was adopted when weights had no key of their card yet."""
    if not variant.weights or variant.weights_key != variant.weights_sha256:
        return variant
    weights = find_weights(variant.engine, variant.weights, [project.models_folder])
    if weights.sha256 != variant.weights_sha256:
        return variant  # the unit will say so
    return replace(variant, weights_key=weights.key, family=weights.family)


def _check_device(config: Config, weights: Iterable[Weights]) -> None:
    """Refuse a GPU that an engine cannot use, before a hundred variants fail for it."""
    if config.sweep.device == "cuda":
        devices_of_engines(weights, "cuda")


def _check_channel(config: Config, entries: Sequence[ImageEntry]) -> None:
    """Refuse a channel that no image has, before a hundred variants fail for it."""
    wanted = max(config.images.segment.channels())
    known = [dict(zip(e.axes, e.shape, strict=True)).get("C", 1) for e in entries if e.axes]
    if known and wanted >= max(known):
        raise ConfigError(
            f"images.segment.channel is {wanted}, the images have {max(known)}",
            hint=f"Channels count from 0: use 0 to {max(known) - 1}",
        )


def _with_masks(
    project: Project, config: Config, plan: Plan, entries: Sequence[ImageEntry]
) -> Plan:
    """Return a plan whose key knows what is in the masks: another mask is another run."""
    how = config.class_mask
    if how is None or how.source is None:
        return plan
    planned = {image.id for image in plan.images}
    used = [entry for entry in entries if entry.id in planned]
    if "{id" not in how.source:  # parts of a file share its mask
        used = list({Path(entry.source).stem: entry for entry in used}.values())
    masks = [identity(mask_file(project, how, entry))[0] for entry in used]
    return replace(plan, key=key_of(plan.key, masks))


def _check_masks(project: Project, config: Config, entries: Sequence[ImageEntry]) -> None:
    """Refuse masks that are not there, before a hundred zips lack their classes for it."""
    how = config.class_mask
    if how is None or how.source is None:
        return
    names = dict.fromkeys(how.source_of(Path(e.source).stem, e.id) for e in entries)
    lacking = [name for name in names if not (project.root / name).exists()]
    if lacking:
        raise ConfigError(
            f"class_mask.source: there is no file {lacking[0]}"
            + (f", and {len(lacking) - 1} more are missing" if lacking[1:] else ""),
            hint="Put one mask per image there; {stem} stands for the name of the file of the "
            "image, {id} for the id of the image (opsef images list)",
        )


def _counts(result: Result) -> dict[str, int]:
    return {name: getattr(result, name) for name in ("ok", "empty", "failed", "open", "passes")}


def _record(run: Run, plan: Plan, started: str, result: Result) -> dict[str, Any]:
    problems = {unit: str(error) for unit, error in result.problems.items()}
    return run_record(run, plan, started, _counts(result), problems)


def variant_rows(run: Run) -> list[dict[str, str]]:
    """Return the rows of ``variants.csv``, rank order within a group."""
    if not run.variants_file.is_file():
        raise NotFoundError(f"{run.id} is not ranked yet", hint="`opsef sweep resume` finishes it")
    return read_csv(run.variants_file)
