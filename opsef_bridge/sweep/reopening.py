"""What a run that is opened again has to do again: what failed, and labels that are gone."""

from __future__ import annotations

from collections.abc import Iterator

from opsef_bridge.execute import Unit, forget_failures, forget_outcomes
from opsef_bridge.project import Run
from opsef_bridge.sweep.planned import Plan
from opsef_bridge.sweep.tiled import tile_id

__all__ = ["lost_labels", "open_failures", "open_lost"]

Labels = set[tuple[str, str]]
"""Ids of image and variant."""


def open_failures(run: Run, plan: Plan) -> None:
    """Open what failed again, and what was made from it."""
    if not sum(forget_failures(run, unit.id) for unit in plan.units):
        return
    for unit in plan.units:
        if not unit.makes:
            run.done_file(unit.id).unlink(missing_ok=True)
        elif unit.kind == "consensus":  # it is of all variants, those that come now too
            run.unit_file(unit.id).unlink(missing_ok=True)
            run.done_file(unit.id).unlink(missing_ok=True)


def lost_labels(run: Run) -> Labels:
    """Return of which image and variant a run has made labels whose file is gone.

    No file is read, only looked for.
    """
    return {
        (outcome["image"], outcome["variant"])
        for outcome in run.outcomes()
        if outcome["status"] != "failed"
        and not run.label_file(outcome["variant"], outcome["image"]).is_file()
    }


def open_lost(run: Run, plan: Plan) -> None:
    """Open labels that are gone again, and what is made from all labels: ranking, stacks.

    Labels of an image in tiles are merged from these, so lost tiles are opened with them.
    """
    lost = lost_labels(run)
    images = {image for image, _ in lost}
    for unit in plan.units if lost else ():
        if not unit.makes and unit.inputs.get("image", "") in {"", *images}:
            run.done_file(unit.id).unlink(missing_ok=True)
    for unit in plan.units:
        if unit.kind != "tiles" and not lost.isdisjoint((i, v) for i, v, _ in unit.makes):
            forget_outcomes(run, unit.id, lambda one: (one["image"], one["variant"]) in lost)
    _open_lost_tiles(run, plan)


def _open_lost_tiles(run: Run, plan: Plan) -> None:
    """Open tiles again that are gone before they were merged."""
    told = {(one["image"], one["variant"]) for one in run.outcomes()}
    for unit in plan.units:
        unmerged = {(image, variant) for image, variant, _ in unit.makes} - told
        if unit.kind != "tiles" or not unmerged or not run.unit_file(unit.id).is_file():
            continue
        gone = set(_gone_tiles(run, plan, unit, unmerged))
        forget_outcomes(
            run, unit.id, lambda one, gone=gone: one["status"] != "failed" and one["key"] in gone
        )


def _gone_tiles(run: Run, plan: Plan, unit: Unit, wanted: Labels) -> Iterator[str]:
    """Yield the keys of those tiles of a unit that have no label file."""
    images = {image.id: image for image in plan.images}
    variants = {variant.id: variant for variant in plan.variants}
    start, stop = unit.inputs["tiles"]
    for image_id, variant_id in wanted:
        image, variant = images[image_id], variants[variant_id]
        for box in image.tile_boxes()[start:stop]:
            if not run.tile_file(variant_id, image_id, tile_id(box)).is_file():
                yield variant.tile_key(image, box)
