"""A review as JSON: the result of a job of the kind ``review``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opsef_bridge.compare.review_map import CLASSES
from opsef_bridge.compare.words import count_of
from opsef_bridge.execute import Event
from opsef_bridge.project import Project
from opsef_bridge.service.parameters import ReviewParameters
from opsef_bridge.sweep.asking import compared_run
from opsef_bridge.sweep.planned import Plan, find_variant
from opsef_bridge.sweep.review import Review, review, review_order, review_words

__all__ = ["told_of_review"]


def told_of_review(
    project: Project, given: ReviewParameters, tell: Callable[[Event], None]
) -> dict[str, Any]:
    """Return what a review says: ``support`` and ``work`` of an image, and ``images`` in order.

    Without an image the first is empty. ``variant`` is None where groups have several.

    Raises
    ------
    OpsefError
        As `opsef_bridge.sweep.review.review`.
    """
    one = None
    if given.image is not None:
        one = review(project, given.image, variant=given.variant, run=given.run, limit=given.count)
    group = one.group if one else given.group
    order = review_order(project, run=given.run, variant=given.variant, group=group, tell=tell)
    run = compared_run(project, given.run)
    variants = {row.variant for row in order}
    variant = one.variant if one else variants.pop() if len(variants) == 1 else None
    plan = Plan.from_json(run.plan())
    groups = {image.group for image in plan.images}
    return {
        "image": one.image if one else None,
        "run": run.id,
        "variant": variant,
        "slug": find_variant(plan, variant, run.id).slug if variant else None,
        "group": group or (groups.pop() if len(groups) == 1 else None),
        "support": sorted([label, value] for label, value in one.support.items()) if one else [],
        "classes": [kind.to_json() for kind in CLASSES],
        "work": [item.to_json() for item in one.work] if one else [],
        "left": dict(one.left) if one else {"doubtful": 0, "missing": 0},
        "images": [row.to_json() for row in order],
        "words": list(one.words) if one else review_words(project, run.id, group),
        "said": [_said(one) if one else f"{order[0].image} is to be corrected first"],
    }


def _said(one: Review) -> str:
    doubtful = count_of(one.left["doubtful"], "doubtful object")
    return f"{one.image} by {one.variant}: {doubtful}, {one.left['missing']} missing"
