"""The ``rank`` unit: from the labels of all variants to ``variants.csv`` and ``ranking.json``.

Ranking is per group, since one group may need what another does not. A variant that
failed on an image is absent there, which is not the same as having found nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from opsef_bridge.compare.appearance import Appearance, Pictures, appearance
from opsef_bridge.compare.votes import SILENT
from opsef_bridge.compare.words import order_note
from opsef_bridge.config import Config
from opsef_bridge.errors import NotFoundError
from opsef_bridge.execute import Job, Outcome, unit_kind
from opsef_bridge.files import key_of, patiently, write_json
from opsef_bridge.project import Project, Run, write_csv
from opsef_bridge.sweep.boxes import box_shape, to_source
from opsef_bridge.sweep.cache import ArrayCache
from opsef_bridge.sweep.evidence import gather
from opsef_bridge.sweep.planned import Plan, PlannedImage, Variant
from opsef_bridge.sweep.predict import open_parts
from opsef_bridge.sweep.ranking import ranked_table, ranking_file, read_ranking, told_of_group

__all__ = [
    "VARIANT_COLUMNS",
    "median_chosen",
    "order_note",
    "rank",
    "rerank",
    "scale_seen",
    "seen_picture",
    "write_outcomes",
]

VARIANT_COLUMNS = [
    "rank", "id", "slug", "group", "family", "recipe", "engine", "model", "scale", "parameters",
    "object_px", "objects", "seconds", "agreement", "agreement_07", "plain_mean",
    "plain_mean_07", "score", "status",
]  # fmt: skip

OUTCOME_COLUMNS = [
    "image", "variant", "status", "objects", "diameter", "seconds", "unit", "code", "message",
    "hint", "key", "chosen",
]  # fmt: skip


LOOKS_VERSION = "1"
"""Of what is kept of pictures: part of their key."""

PATIENCE = 60.0
"""Seconds to wait for another process that ranks the same run."""


@unit_kind("rank")
def rank(job: Job) -> Iterator[list[Outcome]]:
    """Write ``outcomes.csv``, ``variants.csv`` and ``ranking.json``."""
    outcomes = sorted(job.run.outcomes(), key=lambda o: (o["image"], o["variant"]))
    write_outcomes(job.run, outcomes)
    with patiently(job.run.root / ".ranking.lock", PATIENCE):
        _write(job.project, job.run, Plan.from_json(job.plan), outcomes, job.report)
    yield []


def rerank(
    project: Project, run: Run, report: Callable[[str], object] = lambda image: None
) -> dict[str, dict[str, Any]]:
    """Rank a run anew, with what is vouched for by now: ``variants.csv``, ``ranking.json``.

    What the labels say of each other is kept, so only those of images are read of which
    something else is vouched for than the last time. Comparison stacks and the report stay as
    they are; the words say so where their order is another.

    Parameters
    ----------
    project : Project
    run : Run
        A sweep.
    report : callable
        Takes the id of the image that is in work.

    Returns
    -------
    dict
        What ``ranking.json`` says of each group (`opsef_bridge.sweep.ranking.told_of_group`).

    Raises
    ------
    NotFoundError
        The run is not ranked yet: then it will count what is vouched for by itself.
    LockedError
        Another process ranks it for more than a minute.
    """
    if not run.variants_file.is_file():
        raise NotFoundError(f"{run.id} is not ranked yet", hint="`opsef sweep resume` finishes it")
    outcomes = sorted(run.outcomes(), key=lambda o: (o["image"], o["variant"]))
    with patiently(run.root / ".ranking.lock", PATIENCE):
        shown = {group: told["shown"] for group, told in read_ranking(run).items()}
        return _write(project, run, Plan.from_json(run.plan()), outcomes, report, shown)


def _write(
    project: Project,
    run: Run,
    plan: Plan,
    outcomes: Sequence[Mapping[str, Any]],
    report: Callable[[str], object],
    shown: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Rank each group and write both files."""
    of = {(o["image"], o["variant"]): o for o in outcomes}
    rows: list[dict[str, Any]] = []
    told = {}
    for group in dict.fromkeys(image.group for image in plan.images):
        images = [image for image in plan.images if image.group == group]
        variants = [v for v in plan.variants if any((i.id, v.id) in of for i in images)]
        evidence = gather(project, run, images, variants, of, report)
        table = ranked_table(evidence)
        new = [
            _row(variant, group, scores, [of[i.id, variant.id] for i in images
                                          if (i.id, variant.id) in of])
            for variant, scores in zip(variants, table, strict=True)
        ]  # fmt: skip
        new.sort(key=lambda row: row["rank"])
        method = table[0]["method"] if table else ""
        pictures = _pictures(project, run, plan, images, new, of)
        told[group] = told_of_group(
            new, variants, evidence, method, (shown or {}).get(group, ()), pictures
        )
        rows += new
    write_csv(run.variants_file, rows, VARIANT_COLUMNS)
    write_json(ranking_file(run), {"run": run.id, "groups": told})
    return told


def seen_picture(
    project: Project, config: Config, image: PlannedImage, variant: Variant
) -> np.ndarray:
    """Return an image, or its box, as a variant saw it: after its recipe, in source pixels.

    Returns
    -------
    ([Z,] Y, X) ndarray
        Colour is grey here, whatever the network takes.

    Raises
    ------
    ImageError
        The file cannot be read, or has changed since it was planned.
    """
    cache = ArrayCache(project.cache_folder)
    parts = open_parts(project, config, project.image(image.id), image, cache)
    seen = parts.part(variant.steps, image.box)
    return to_source(seen, variant.steps, box_shape(parts.shape, image.box), image.box)


def _pictures(
    project: Project,
    run: Run,
    plan: Plan,
    images: Sequence[PlannedImage],
    rows: Sequence[Mapping[str, Any]],
    outcomes: Mapping[tuple[str, str], Mapping[str, Any]],
) -> Pictures | None:
    """How the images of a group look at the objects of its first variant, by rank of `rows`.

    The consensus of others is not taken: it saw no picture.
    """
    voters = [row for row in rows if row["status"] != "failed" and row["family"] != SILENT]
    if not voters:
        return None
    variant = next(one for one in plan.variants if one.id == voters[0]["id"])
    config, looks = Config(**plan.config), {}
    for image in images:
        outcome = outcomes.get((image.id, variant.id))
        if outcome is None or outcome["status"] != "ok":
            continue
        found = _look(project, run, config, image, variant, outcome["key"])
        if found is not None:
            looks[image.id] = found
    return Pictures(variant.id, frozenset(row["family"] for row in voters), looks)


def _look(
    project: Project, run: Run, config: Config, image: PlannedImage, variant: Variant, key: str
) -> Appearance | None:
    """Look at one image; what was seen is kept under the key of the labels."""
    cache, key = ArrayCache(project.cache_folder), key_of("appearance", LOOKS_VERSION, key)
    kept = cache.get(key)
    if kept is not None:
        return Appearance(**kept[1]) if kept[1] else None
    try:
        picture = seen_picture(project, config, image, variant)
        found = appearance(picture, run.labels(variant.id, image.id))
    except Exception:  # a file that is gone costs this look, not the ranking
        return None
    cache.put(key, {}, asdict(found) if found else {})
    return found


def write_outcomes(run: Run, outcomes: Iterable[Mapping[str, Any]]) -> None:
    """Write ``outcomes.csv``; what an engine chose itself is JSON, empty where it chose nothing."""
    rows = (
        {**outcome, "chosen": json.dumps(outcome["chosen"]) if outcome.get("chosen") else ""}
        for outcome in outcomes
    )
    write_csv(run.outcomes_file, rows, OUTCOME_COLUMNS)


def scale_seen(variant: Variant, outcome: Mapping[str, Any]) -> float:
    """Return the factor by which the network saw an image enlarged: the one that it chose
    itself, else that of the variant."""
    return float((outcome.get("chosen") or {}).get("scale", variant.scale))


def median_chosen(outcomes: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the median over images of what an engine chose itself, by name.

    The scale has a column of its own.
    """
    chosen = [outcome.get("chosen") or {} for outcome in outcomes]
    names = sorted({name for values in chosen for name in values} - {"scale"})
    return {
        name: round(float(np.median([values[name] for values in chosen if name in values])), 2)
        for name in names
    }


def _row(
    variant: Variant, group: str, scores: dict[str, Any], outcomes: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    fine = [o for o in outcomes if o["status"] != "failed"]
    scales = [scale_seen(variant, outcome) for outcome in fine] or [variant.scale]
    sizes = [o["diameter"] * scale_seen(variant, o) for o in fine if o["objects"]]
    failed = len(outcomes) - len(fine)
    status = "failed" if not fine else "partly failed" if failed else "ok" if sizes else "empty"
    return {
        "rank": scores["rank"],
        "id": variant.id,
        "slug": variant.slug,
        "group": group,
        "family": variant.family,
        "recipe": variant.recipe,
        "engine": variant.engine,
        "model": variant.model,
        "scale": round(float(np.median(scales)), 4),
        "parameters": json.dumps(variant.parameters()),
        "object_px": round(float(np.median(sizes)), 1) if sizes else 0.0,
        "objects": scores["objects"],
        "seconds": round(sum(o["seconds"] for o in fine), 3),
        **{
            key: round(float(scores[key]), 6)
            for key in ("agreement", "agreement_07", "plain_mean", "plain_mean_07")
        },
        "score": round(float(scores["score"]), 6),
        "status": status,
    }
