"""The ``rank`` unit: from the labels of all variants to ``variants.csv``.

Ranking is per group, since one group may need what another does not. A variant that
failed on an image is absent there, which is not the same as having found nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from opsef_bridge.compare import image_support, score
from opsef_bridge.execute import Job, Outcome, unit_kind
from opsef_bridge.images import read_labels
from opsef_bridge.project import Run, write_csv
from opsef_bridge.sweep.plan import Plan, PlannedImage, Variant

__all__ = [
    "VARIANT_COLUMNS",
    "median_chosen",
    "order_note",
    "rank",
    "ranked_rows",
    "scale_seen",
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


@unit_kind("rank")
def rank(job: Job) -> Iterator[list[Outcome]]:
    """Write ``outcomes.csv`` and ``variants.csv``."""
    plan = Plan.from_json(job.plan)
    outcomes = sorted(job.run.outcomes(), key=lambda o: (o["image"], o["variant"]))
    write_outcomes(job.run, outcomes)
    rows: list[dict[str, Any]] = []
    for group in dict.fromkeys(image.group for image in plan.images):
        images = [image for image in plan.images if image.group == group]
        rows += ranked_rows(job, group, images, plan.variants, outcomes)
    write_csv(job.run.variants_file, rows, VARIANT_COLUMNS)
    yield []


def write_outcomes(run: Run, outcomes: Iterable[Mapping[str, Any]]) -> None:
    """Write ``outcomes.csv``; what an engine chose itself is JSON, empty where it chose nothing."""
    rows = (
        {**outcome, "chosen": json.dumps(outcome["chosen"]) if outcome.get("chosen") else ""}
        for outcome in outcomes
    )
    write_csv(run.outcomes_file, rows, OUTCOME_COLUMNS)


def ranked_rows(
    job: Job,
    group: str,
    images: Sequence[PlannedImage],
    variants: Sequence[Variant],
    outcomes: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Return the rows of ``variants.csv`` for one group, first rank first."""
    of: dict[tuple[str, str], Mapping[str, Any]] = {(o["image"], o["variant"]): o for o in outcomes}
    variants = [v for v in variants if any((image.id, v.id) in of for image in images)]
    families = [variant.family for variant in variants]
    supports = []
    for image in images:
        job.report(image.id)
        labels = [_labels(job.run, of.get((image.id, v.id))) for v in variants]
        if any(label is not None for label in labels):
            supports.append(image_support(labels, families))
    table = score(supports, families).to_dict("records")
    rows = []
    for variant, scores in zip(variants, table, strict=True):
        mine = [of[image.id, variant.id] for image in images if (image.id, variant.id) in of]
        rows.append(_row(variant, group, scores, mine))
    return sorted(rows, key=lambda row: row["rank"])


def order_note(rows: Sequence[Mapping[str, str]]) -> str:
    """Return what a person must know of the ranking of one group, or nothing.

    With fewer than three families agreement says which variants resemble each other, and
    little about which is right.
    """
    count = len({row["family"] for row in rows if row["status"] != "failed"})
    return f"order only, {count} {'family' if count == 1 else 'families'}" if count < 3 else ""


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


def _labels(run: Run, outcome: Mapping[str, Any] | None) -> np.ndarray | None:
    if outcome is None or outcome["status"] == "failed":
        return None
    return read_labels(run.label_file(outcome["variant"], outcome["image"]))


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
        "score": round(float(scores["agreement"]), 6),
        "status": status,
    }
