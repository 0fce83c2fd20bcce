"""The ``report`` unit: gathers a finished run and writes its ``report.html``."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from opsef_bridge.compare import pairwise_f1
from opsef_bridge.compare.confidence import object_supports
from opsef_bridge.compare.report import Drawing, Entry, Group, Page, render
from opsef_bridge.compare.report_pictures import support_classes
from opsef_bridge.compare.votes import SILENT
from opsef_bridge.compare.words import Confidence
from opsef_bridge.config import Config
from opsef_bridge.errors import NotFoundError, OpsefError
from opsef_bridge.execute import Job, Outcome, unit_kind
from opsef_bridge.files import read_json, write_text
from opsef_bridge.project import Run, read_csv
from opsef_bridge.sweep.evidence import Evidence, gather
from opsef_bridge.sweep.planned import Plan, PlannedImage, Variant
from opsef_bridge.sweep.rank import median_chosen
from opsef_bridge.sweep.ranking import read_ranking, words_of_run
from opsef_bridge.sweep.remarks import first_of, remarks_of
from opsef_bridge.sweep.reporting_pictures import drawings_of, labels_of, picture_of
from opsef_bridge.sweep.run import versions
from opsef_bridge.sweep.verdicts import read_verdicts

__all__ = ["report", "run_to_report", "variant_snippet"]

PICTURE_BYTES = 9_000_000
"""Of pictures in a page, so that it stays below 12 MB; each image has an equal share."""

MOST_IMAGES = 24
"""Columns of a group's contact sheet."""

MOST_VARIANTS = 60
"""Rows of a contact sheet, as far as the share of an image allows."""

MATRIX_SIDE = 24
"""Variants of the agreement matrix."""


def run_to_report(purposes: Mapping[str, str], run: str | None = None) -> str:
    """Return the id of the run whose report is meant.

    Parameters
    ----------
    purposes : mapping of str to str
        What each run is for (`Plan.purpose`), by id, oldest first.
    run : str, optional
        Id; by default the newest run that has a report, or will have one: not a batch.

    Raises
    ------
    NotFoundError
        That run is a batch, or there is no other.

    Examples
    --------
    >>> run_to_report({"run-0001": "sweep", "run-0002": "batch"})
    'run-0001'
    """
    newest = next((id for id in reversed(purposes) if purposes[id] != "batch"), None)
    way = f"There is one of {newest}: opsef report {newest}" if newest else "Start a sweep first"
    if run is not None and purposes.get(run) == "batch":
        raise NotFoundError(f"{run} is a batch, and a batch has no report", hint=way)
    if run is None and newest is None:
        raise NotFoundError("there is no run with a report yet", hint=way)
    return run or newest or ""


@unit_kind("report")
def report(job: Job) -> Iterator[list[Outcome]]:
    """Write ``report.html``."""
    plan = Plan.from_json(job.plan)
    rows = read_csv(job.run.variants_file)
    outcomes = job.run.outcomes()
    by_group: dict[str, list[PlannedImage]] = {}
    for image in plan.images:
        by_group.setdefault(image.group, []).append(image)
    share = PICTURE_BYTES // sum(min(len(i), MOST_IMAGES) for i in by_group.values())
    groups = [
        _group(job, plan, name, images, [row for row in rows if row["group"] == name],
               outcomes, share)
        for name, images in by_group.items()
    ]  # fmt: skip
    planned = datetime.datetime.fromtimestamp(job.run.plan_file.stat().st_mtime)
    page = Page(
        job.project.root.name,
        job.run.id,
        f"started {planned:%Y-%m-%d %H:%M}",
        _facts(job.run, plan, outcomes),
        groups,
        plan.key,
    )
    write_text(job.run.report_file, render(page))
    yield []


def variant_snippet(variant: Variant) -> str:
    """Return the part of an ``opsef.yaml`` that makes this variant and no other."""
    values = {**variant.predict, **variant.decode}
    if variant.family == SILENT:
        words = " ".join(f"--{name} {value:g}" for name, value in values.items())
        return f"# no file makes it, but a command: opsef consensus {words}\n"
    weights = {"weights": variant.weights} if variant.weights else {}
    model = {"engine": variant.engine, **weights, **{key: values[key] for key in variant.named}}
    steps = [{name: parameters} for name, parameters in variant.steps]
    blocks: dict[str, Any] = {
        "preprocess": {variant.recipe: steps},
        "models": {variant.model: model},
        "postprocess": variant.postprocess,
    }
    return yaml.safe_dump(blocks, sort_keys=False, default_flow_style=None, width=88)


def _group(
    job: Job,
    plan: Plan,
    name: str,
    images: Sequence[PlannedImage],
    rows: Sequence[Mapping[str, str]],
    outcomes: Sequence[Mapping[str, Any]],
    share: int,
) -> Group:
    """Gather a group: every label image that is drawn is read once."""
    config = Config(**plan.config)
    variants = {variant.id: variant for variant in plan.variants}
    ids = {image.id for image in images}
    mine = [outcome for outcome in outcomes if outcome["image"] in ids]
    told = read_ranking(job.run).get(name, {})
    entries = [
        _entry(row, variants[row["id"]], [o for o in mine if o["variant"] == row["id"]],
               told.get("intervals", {}))
        for row in rows
    ]  # fmt: skip
    # In the order in which they were compared for the ranking, which is kept.
    compared = [v for v in plan.variants if v.id in {entry.id for entry in entries}]
    evidence, trouble = _evidence(job, images, compared, mine)
    drawings: dict[tuple[str, str], Drawing] = {}
    pictures = []
    for image in images[:MOST_IMAGES]:
        job.report(image.id)
        labels = {e.id: labels_of(job.run, e.id, image.id) for e in entries[:MOST_VARIANTS]}
        picture = picture_of(job.project, config, image, labels.values())
        pictures.append(picture)
        classes = _classes(evidence, image.id, compared) if evidence else {}
        drawn = drawings_of(labels, picture.shape, share - len(picture.uri), classes)
        drawings |= {(image.id, variant): drawing for variant, drawing in drawn.items()}
    notes = first_of([one for one in remarks_of(job.run) if one.partition(":")[0] in ids])
    if len(images) > len(pictures):
        notes = [f"Pictures show the first {MOST_IMAGES} of {len(images)} images.", *notes]
    return Group(
        name, entries, pictures, mine, drawings,
        f1=_matrix(evidence, compared, entries[:MATRIX_SIDE]),
        words=words_of_run(job.run).get(name, ()),
        confidence=_confidence(told.get("confidence")),
        answers=told.get("answers", 0),
        notes=[*notes, *trouble],
        supported=evidence is not None,
        verdicts=[v.to_json() for v in read_verdicts(job.project, job.run.id) if v.image in ids],
        memory=_memory(job.run, plan),
        run=job.run.id,
    )  # fmt: skip


def _evidence(
    job: Job,
    images: Sequence[PlannedImage],
    variants: Sequence[Variant],
    outcomes: Sequence[Mapping[str, Any]],
) -> tuple[Evidence | None, list[str]]:
    """What the ranking was made from, mostly kept by it; or why it is not there any more."""
    of = {(o["image"], o["variant"]): o for o in outcomes}
    try:
        found = gather(job.project, job.run, images, variants, of)
    except OpsefError as error:
        return None, [f"Neither support nor agreement matrix: {error.message}"]
    return (found if found.images else None), []


def _matrix(
    evidence: Evidence | None, variants: Sequence[Variant], entries: Sequence[Entry]
) -> np.ndarray:
    """F1 of entries with each other."""
    if evidence is None:
        return np.zeros((0, 0))
    at = {variant.id: number for number, variant in enumerate(variants)}
    which = [at[entry.id] for entry in entries]
    return pairwise_f1(evidence.supports)[np.ix_(which, which)]


def _classes(evidence: Evidence, image: str, variants: Sequence[Variant]) -> dict[str, np.ndarray]:
    """The class of support of each object of an image, by variant."""
    if image not in evidence.images:
        return {}
    found = evidence.supports[evidence.images.index(image)]
    supports = object_supports(found, evidence.families)
    return {
        variant.id: support_classes(numbers, support)
        for variant, numbers, support in zip(variants, found.labels, supports, strict=True)
    }


def _memory(run: Run, plan: Plan) -> dict[str, int]:
    """By family the most bytes that a worker held while it made labels of it."""
    family = {variant.id: variant.family for variant in plan.variants}
    most: dict[str, int] = {}
    for unit in plan.units:
        file = run.unit_file(unit.id)
        held = read_json(file).get("memory", 0) if unit.makes and file.is_file() else 0
        for name in {family[variant] for _, variant, _ in unit.makes} if held else ():
            most[name] = max(most.get(name, 0), held)
    return most


def _confidence(told: Mapping[str, Any] | None) -> Confidence | None:
    return Confidence(told["shares"], told["by"], told["count"]) if told else None


def _entry(
    row: Mapping[str, str],
    variant: Variant,
    outcomes: Sequence[Mapping[str, Any]],
    intervals: Mapping[str, Sequence[float]],
) -> Entry:
    values = {**variant.predict, **variant.decode}
    named = {key: values[key] for key in variant.named}
    own = {key: value for key, value in named.items() if key != "scale"}
    knobs = {"recipe": variant.recipe, "model": variant.model}
    knobs |= {"scale": named["scale"]} if "scale" in named else {}
    knobs |= {f"{variant.model}: {key}": value for key, value in own.items()}
    medians = {
        f"{key} chosen (median)": f"{value:g}" for key, value in median_chosen(outcomes).items()
    }
    return Entry(
        rank=int(row["rank"]),
        id=variant.id,
        slug=variant.slug,
        caption=variant.caption(),
        family=variant.family,
        recipe=variant.recipe,
        scale=float(row["scale"]),
        parameters=own | medians,
        knobs=knobs,
        object_px=float(row["object_px"]),
        objects=int(row["objects"]),
        seconds=float(row["seconds"]),
        agreement=float(row["agreement"]),
        agreement_07=float(row["agreement_07"]),
        plain_mean=float(row["plain_mean"]),
        score=float(row["score"]),
        status=row["status"],
        snippet=variant_snippet(variant),
        interval=(*intervals[variant.id],) if variant.id in intervals else None,
    )


def _facts(run: Run, plan: Plan, outcomes: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    recipes = {variant.recipe: variant.steps for variant in plan.variants}
    models = dict.fromkeys(variant.model for variant in plan.variants)
    sizes = sorted({image.box[2:] for image in plan.images if image.box})
    counts = {s: sum(o["status"] == s for o in outcomes) for s in ("ok", "empty", "failed")}
    devices = {
        read_json(file).get("device", "") for file in (run.root / "units").glob("u*.json")
    } - {""}
    facts = {
        "Variants": f"{len(plan.variants)}: {len(recipes)} recipes, {len(models)} models",
        "Recipes": "; ".join(
            f"{name}: {' → '.join(map(_step, steps)) or 'the image as it is'}"
            for name, steps in recipes.items()
        ),
    }
    for model in models:
        facts[f"Model {model}"] = _model([v for v in plan.variants if v.model == model])
    boxes = ", ".join(f"{height} x {width} px" for height, width in sizes)
    facts["Images"] = f"{len(plan.images)}, " + (
        f"of large ones a box of {boxes}" if boxes else "whole"
    )
    facts["Results"] = "{ok} with objects, {empty} without, {failed} failed".format(**counts)
    facts["Device"] = ", ".join(sorted(devices)) or "not recorded"
    facts["Versions"] = ", ".join(f"{name} {version}" for name, version in versions().items())
    return facts


def _model(variants: Sequence[Variant]) -> str:
    """Return ``unet:nuclei-unet; scale 0.5, 1.0; threshold 0.4, 0.5``."""
    values = [{**v.predict, **v.decode} for v in variants]
    axes = (
        f"{key} {', '.join(dict.fromkeys(str(of[key]) for of in values))}"
        for key in variants[0].named
    )
    return "; ".join([variants[0].family, *axes])


def _step(step: tuple[str, Mapping[str, Any]]) -> str:
    name, parameters = step
    text = ", ".join(f"{key} {json.dumps(value)}" for key, value in parameters.items())
    return f"{name} ({text})" if text else name
