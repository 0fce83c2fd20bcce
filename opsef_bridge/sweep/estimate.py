"""What a plan will cost, said before it starts."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from opsef_bridge.execute import free_cores
from opsef_bridge.project import ImageEntry, Project
from opsef_bridge.sweep.devices import devices_of_engines, weights_of_variants
from opsef_bridge.sweep.foreseen import foreseen
from opsef_bridge.sweep.plan import Plan, PlannedImage, Variant

__all__ = ["estimate"]

UNMEASURED = (1.0, 0.2)
"""Seconds per million pixels that an engine sees, of a pass and of decoding it, before any
was measured here."""

FRAMES, VIEWS = 16, 4
"""Of a comparison stack: frames at most, and 8-bit views each."""


def estimate(project: Project, plan: Plan) -> dict[str, Any]:
    """Return how many passes, seconds and bytes a plan needs.

    Labels that an earlier run finished cost nothing. The time comes from what earlier
    runs took per pixel and engine; ``measured`` is False where there was none to learn from.

    Returns
    -------
    dict
        variants, images, passes, new_passes, units, workers, devices (by engine), seconds,
        measured, disk_bytes, free_bytes, will_fail (sentences of
        `opsef_bridge.sweep.foreseen.foreseen`).
    """
    entries = {entry.id: entry for entry in project.images()}
    outcomes = [o for name in project.runs() for o in project.run(name).outcomes()]
    finished = {o["key"] for o in outcomes if o["status"] != "failed"}
    rates = _rates(project, entries)
    images = {image.id: image for image in plan.images}
    variants = {variant.id: variant for variant in plan.variants}
    passes: dict[str, float] = {}
    work = 0.0
    for unit in plan.units:
        for image, variant, key in unit.makes if unit.kind != "tiles" else ():
            v = variants[variant]
            seen = 0.0 if key in finished else _seen(images[image], entries, v)
            per_pass, per_decode = rates.get(v.engine, UNMEASURED)
            work += seen * per_decode
            one = v.pass_key(images[image])
            passes[one] = max(passes.get(one, 0.0), seen * per_pass)
    work += sum(passes.values())
    pixels = sum(_pixels(image, entries) for image in plan.images)
    workers = free_cores()
    return {
        "variants": len(plan.variants),
        "images": len(plan.images),
        "passes": len(passes),
        "new_passes": sum(cost > 0 for cost in passes.values()),
        "units": len(plan.units),
        "workers": workers,
        "devices": devices_of_engines(
            weights_of_variants(project, plan.variants), plan.config["sweep"]["device"]
        ),
        "seconds": round(work / workers, 1),
        "measured": bool(rates),
        # Labels deflate to about an eighth of a byte a pixel.
        "disk_bytes": round(
            pixels * (len(plan.variants) / 8 + min(len(plan.variants), FRAMES) * VIEWS)
        ),
        "free_bytes": shutil.disk_usage(project.root).free,
        "will_fail": foreseen(project, plan),
    }


def _rates(project: Project, entries: Mapping[str, ImageEntry]) -> dict[str, tuple[float, float]]:
    """Seconds per million pixels seen, of a pass and of decoding, by engine, in all runs."""
    sums: dict[str, list[float]] = {}
    for name in project.runs():
        run = project.run(name)
        plan = Plan.from_json(run.plan())
        images = {image.id: image for image in plan.images if image.id in entries}
        variants = {variant.id: variant for variant in plan.variants}
        for outcome in run.outcomes():
            if outcome["status"] == "failed" or outcome["image"] not in images:
                continue
            variant = variants[outcome["variant"]]
            total = sums.setdefault(variant.engine, [0.0, 0.0, 0.0])
            decoding = outcome["decode_seconds"]
            total[0] += outcome["seconds"] - decoding
            total[1] += decoding
            total[2] += _seen(images[outcome["image"]], entries, variant)
    return {
        engine: (network / seen, decoding / seen)
        for engine, (network, decoding, seen) in sums.items()
        if seen
    }


def _pixels(image: PlannedImage, entries: Mapping[str, ImageEntry]) -> float:
    """Pixels of the part of an image that is worked on; 0 where they are not known."""
    entry = entries[image.id]
    sides = dict(zip(entry.axes, entry.shape, strict=True))
    y, x = image.box[2:] if image.box else (sides.get("Y", 0), sides.get("X", 0))
    return float(y * x * sides.get("Z", 1))


def _seen(image: PlannedImage, entries: Mapping[str, ImageEntry], variant: Variant) -> float:
    """Millions of pixels that the engine sees of an image."""
    return _pixels(image, entries) * variant.scale**2 / 1e6
