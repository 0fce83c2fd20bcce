"""One label image of all variants of a run, as one more variant: ``opsef consensus``.

It is an ordinary run of the purpose ``consensus``: the variants of the source run, whose labels
are taken over, and behind them one of the engine ``consensus``. Its unit comes before the
ranking and takes, object by object, the best supported ones that do not lie on each other
(`opsef_bridge.compare.consensus`). Their outlines are a vote of the variants that have them,
with the weights ``exp((agreement - highest agreement) / 0.03)``. It is judged like any variant,
and has no voice itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from opsef_bridge.compare.confidence import object_supports
from opsef_bridge.compare.consensus import OVERLAP, SUPPORTED
from opsef_bridge.compare.consensus import consensus as painted
from opsef_bridge.compare.groups import object_groups
from opsef_bridge.compare.questions import LEAD
from opsef_bridge.compare.votes import SILENT
from opsef_bridge.errors import ConfigError, InputError, NotFoundError, OpsefError
from opsef_bridge.execute import Job, Outcome, unit_kind
from opsef_bridge.files import key_of, lock
from opsef_bridge.images import read_labels, write_labels
from opsef_bridge.project import Project, Run
from opsef_bridge.sweep.evidence import Evidence, gather
from opsef_bridge.sweep.label_files import label_info
from opsef_bridge.sweep.planned import STAGE, Plan, PlannedImage, Variant
from opsef_bridge.sweep.planned_units import Numbers, ranking_units, segmenting_units
from opsef_bridge.sweep.predict import failed_outcome, median_diameter
from opsef_bridge.sweep.run import Executor, Result, newest_run, resume_run, status, variant_rows

__all__ = ["LARGEST", "NoLabelsError", "consensus", "plan_consensus"]

VERSION = "2"
"""Of how objects are chosen and drawn: part of every key."""

LARGEST = 2**24
"""Pixels of the largest image of which the labels of all variants are held in memory here."""


class NoLabelsError(OpsefError):
    """No variant has labels of an image, so there is nothing to choose from."""

    exit_code = 1
    code = "no-labels"


def consensus(
    project: Project,
    *,
    run: str | None = None,
    supported: float = SUPPORTED,
    overlap: float = OVERLAP,
    executor: Executor | None = None,
) -> Result:
    """Make the consensus of the variants of a run, and rank it among them.

    Parameters
    ----------
    project : Project
    run : str, optional
        Id of a sweep, or of the last run of a refinement; the newest sweep by default.
    supported, overlap : float
        See `opsef_bridge.compare.consensus.consensus`.
    executor : Executor, optional

    Returns
    -------
    Result
        Of the run that holds the consensus, behind the variants. The same call finds it
        again, does what is left of it, and else nothing.

    Raises
    ------
    InputError, ConfigError, NotFoundError
        As `plan_consensus`.
    """
    source = project.run(run) if run else newest_run(project, "sweep")
    if source is None:
        raise NotFoundError("there is no sweep yet", hint="Start one: opsef sweep run")
    plan = plan_consensus(source, supported=supported, overlap=overlap)
    made = _run_of(project, plan)
    return resume_run(project, made, executor) if status(made).open else status(made)


def plan_consensus(source: Run, *, supported: float = SUPPORTED, overlap: float = OVERLAP) -> Plan:
    """Plan the variants of `source` and, behind them, their consensus.

    Raises
    ------
    InputError
        `supported` or `overlap` is no share.
    NotFoundError
        The run is not ranked yet.
    ConfigError
        It is a batch or holds a consensus; has a single variant; was made by other versions of
        its engines or steps; or an image is too large.
    """
    for name, value in (("supported", supported), ("overlap", overlap)):
        if not 0 <= value <= 1:
            raise InputError(f"{name} is {value}", hint="Give a share from 0 to 1")
    base = Plan.from_json(source.plan())
    _check(source, base)
    values = {"supported": float(supported), "overlap": float(overlap)}
    new = _variant(base, values)
    wanted = {image.id: [variant.id for variant in base.variants] for image in base.images}
    number = Numbers()
    segmenting = tuple(segmenting_units(base.images, base.variants, wanted, number))
    needs = tuple(unit.id for unit in segmenting)
    # A unit is a group: the voices of its variants are those of all its images.
    groups = dict.fromkeys(image.group for image in base.images)
    choosing = tuple(
        number.unit(
            "consensus", "consensus", needs=needs,
            makes=tuple(
                (i.id, new.id, new.label_key(i)) for i in base.images if i.group == group
            ),
        )
        for group in groups
    )  # fmt: skip
    ranking = tuple(ranking_units(base.images, (*segmenting, *choosing), number))
    key = key_of("consensus", base.key, new.key)
    variants = (*base.variants, new)
    units = (*segmenting, *choosing, *ranking)
    return Plan(key, "consensus", base.config, base.images, variants, units)


def _check(source: Run, base: Plan) -> None:
    if base.purpose not in ("sweep", "refine"):
        raise ConfigError(
            f"{source.id} is a run of the purpose {base.purpose}",
            hint="Name a sweep: opsef consensus --run R",
        )
    variant_rows(source)
    if len(base.variants) < 2:
        raise ConfigError(
            f"{source.id} has a single variant, which nobody supports",
            hint="Sweep several models or parameters",
        )
    if any(variant.key != variant.current_key() for variant in base.variants):
        raise ConfigError(
            f"{source.id} was made with other versions of its engines or steps",
            hint="Run `opsef sweep run` again, then take that run",
        )
    for image in base.images:
        height, width = image.tiles[2:] if image.tiles and not image.box else (0, 0)
        if height * width > LARGEST:
            raise ConfigError(
                f"{image.id} of {width} x {height} pixels is too large for a consensus",
                hint="Set sweep.crop, e.g. 512, sweep again, and take that run",
            )


def _variant(base: Plan, values: Mapping[str, float]) -> Variant:
    """The consensus as a variant; its key holds those of all labels that it is made from."""
    labels = [v.label_key(image) for image in base.images for v in base.variants]
    groups = [[image.id, image.group] for image in base.images]
    families = [variant.family for variant in base.variants]
    last = max(int(variant.id[1:]) for variant in base.variants)
    return Variant(
        id=f"v{last + 1:04d}",
        slug="_".join([SILENT, *(f"{name}-{value:g}" for name, value in values.items())]),
        recipe="-",
        steps=(),
        model=SILENT,
        engine=SILENT,
        weights="",
        weights_sha256="",
        predict={},
        decode=dict(values),
        postprocess={},
        named=tuple(values),
        key=key_of("consensus", STAGE, VERSION, values, labels, groups, families),
        family=SILENT,
        weights_key="",
    )


def _run_of(project: Project, plan: Plan) -> Run:
    """Return the run of this plan; a new one if there is none."""
    with lock(project.lock_file):
        for name in reversed(project.runs()):
            run = project.run(name)
            if run.plan()["key"] == plan.key:
                return run
        run = project.new_run()
        run.write_plan(plan.to_json())
        return run


@unit_kind("consensus")
def make_consensus(job: Job) -> Iterator[list[Outcome]]:
    """Choose the objects of the images of a group, by the voices of its variants."""
    plan = Plan.from_json(job.plan)
    left = job.open_makes()
    if not left:
        return
    new = next(variant for variant in plan.variants if variant.id == left[0][1])
    voters = [variant for variant in plan.variants if variant.family != SILENT]
    ids = {image for image, _, _ in job.unit.makes}
    images = [image for image in plan.images if image.id in ids]
    outcomes = {(o["image"], o["variant"]): o for o in job.run.outcomes()}
    evidence = gather(job.project, job.run, images, voters, outcomes, job.report)
    due = {image for image, _, _ in left}
    for image in images:
        if image.id not in due:
            continue
        job.report(image.id)
        try:
            outcome = _made(job, image, new, voters, outcomes, evidence)
        except Exception as error:
            outcome = failed_outcome(error, image, new)
        yield [outcome]


def _made(
    job: Job,
    image: PlannedImage,
    new: Variant,
    voters: Sequence[Variant],
    outcomes: Mapping[tuple[str, str], Mapping[str, Any]],
    evidence: Evidence,
) -> Outcome:
    """Choose and write the labels of one image."""
    if image.id not in evidence.images:
        raise NoLabelsError(
            f"no variant has labels of {image.id}",
            hint="outcomes.csv says why they failed; `opsef sweep resume --run "
            f"{job.run.id}` tries them again",
        )
    start = time.perf_counter()
    found = evidence.supports[evidence.images.index(image.id)]
    labels = [
        read_labels(job.run.label_file(variant.id, image.id)) if there else None
        for variant, there in zip(voters, found.present, strict=True)
    ]
    groups = object_groups(labels, object_supports(found, evidence.families))
    agreement = evidence.ranking[0]["agreement"].to_numpy()
    says = np.exp((agreement - agreement.max()) / LEAD)
    result = painted(labels, groups, says=says, **new.decode)
    entry = job.project.image(image.id)
    write_labels(
        job.run.label_file(new.id, image.id), result, spacing=entry.spacing, unit=entry.unit,
        info=label_info(entry, image, new),
    )  # fmt: skip
    area = np.bincount(result.ravel())[1:]
    seconds = round(time.perf_counter() - start, 4)
    return Outcome(
        image.id,
        new.id,
        new.label_key(image),
        "ok" if len(area) else "empty",
        objects=len(area),
        diameter=round(median_diameter(area, result.ndim), 2),
        seconds=seconds,
        decode_seconds=seconds,
    )
