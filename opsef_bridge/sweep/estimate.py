"""What a plan will cost, said before it starts."""

from __future__ import annotations

import math
import shutil
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from opsef_bridge.compare.stack import CHANNELS, affordable_frames
from opsef_bridge.config import Compare, Config
from opsef_bridge.execute import free_cores
from opsef_bridge.project import ImageEntry, Project
from opsef_bridge.sweep.devices import devices_of_engines, weights_of_variants
from opsef_bridge.sweep.foreseen import foreseen
from opsef_bridge.sweep.planned import Plan, Variant
from opsef_bridge.sweep.tiling import segmented_shape

__all__ = [
    "BATCH_BYTES",
    "BATCH_LARGEST",
    "SOURCE_BYTES",
    "channel_count",
    "disk_bytes",
    "estimate",
    "finished_keys",
    "padded_bytes",
    "unit_seconds",
]

UNMEASURED = (1.0, 0.2)
"""Seconds per million pixels that an engine sees, of a pass and of decoding it, before any
was measured here."""

GUESSED = 3.0
"""How much longer than `UNMEASURED` a job is taken to be: rather more jobs than one too long."""

BATCH_VIEWS = 3
"""Of each image in ``batch.tif``."""

BATCH_LARGEST = 2**24
"""Pixels of the largest image in tiles that is a frame of ``batch.tif``."""

BATCH_BYTES = 4_000_000_000
"""Of a ``batch.tif`` with volumes in it; of one that would be larger they are left out."""

SOURCE_BYTES = 2
"""Of a pixel in a stack that keeps the values: most images have 16 bits."""

LABEL_BYTES = 1 / 8
"""Of a pixel of labels, deflated."""


def estimate(project: Project, plan: Plan) -> dict[str, Any]:
    """Return how many passes, seconds and bytes a plan needs.

    Labels that an earlier run finished cost nothing. The time comes from what earlier
    runs took per pixel and engine; ``measured`` is False where there was none to learn from.

    Returns
    -------
    dict
        variants, images, passes, new_passes, units, workers, devices (by engine), seconds,
        measured, disk_bytes, of these label_bytes and stack_bytes, free_bytes, will_fail
        (sentences of `opsef_bridge.sweep.foreseen.foreseen`).
    """
    entries = {entry.id: entry for entry in project.images()}
    finished = finished_keys(project)
    rates = _rates(project, entries)
    images = {image.id: image for image in plan.images}
    shapes = _shapes(plan, entries)
    variants = {variant.id: variant for variant in plan.variants}
    passes: dict[str, float] = {}
    work = 0.0
    for unit in plan.units:
        for image, variant, key in unit.makes if unit.kind != "tiles" else ():
            v = variants[variant]
            seen = 0.0 if key in finished else _seen(shapes[image], v)
            per_pass, per_decode = rates.get(v.engine, UNMEASURED)
            work += seen * per_decode
            one = v.pass_key(images[image])
            passes[one] = max(passes.get(one, 0.0), seen * per_pass)
    work += sum(passes.values())
    labels, stacks = disk_bytes(project, plan, finished=finished)
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
        "disk_bytes": labels + stacks,
        "label_bytes": labels,
        "stack_bytes": stacks,
        "free_bytes": shutil.disk_usage(project.root).free,
        "will_fail": foreseen(project, plan),
    }


def unit_seconds(project: Project, plan: Plan) -> dict[str, float]:
    """Return about how long each unit that segments will take, by its id.

    As `estimate`, from what earlier runs took; for an executor that groups units into jobs.
    """
    entries = {entry.id: entry for entry in project.images()}
    finished = finished_keys(project)
    rates = _rates(project, entries)
    images = {image.id: image for image in plan.images}
    shapes = _shapes(plan, entries)
    variants = {variant.id: variant for variant in plan.variants}
    found: dict[str, float] = {}
    for unit in plan.units:
        passes: dict[str, float] = {}
        work = 0.0
        start, stop = unit.inputs.get("tiles", (0, 1))
        for image, variant, key in unit.makes:
            v = variants[variant]
            of = len(images[image].tile_boxes()) if unit.kind == "tiles" else 1
            seen = 0.0 if key in finished else _seen(shapes[image], v) / of
            if v.engine not in rates:
                seen *= GUESSED
            per_pass, per_decode = rates.get(v.engine, UNMEASURED)
            work += seen * per_decode
            one = v.pass_key(images[image])
            passes[one] = max(passes.get(one, 0.0), seen * per_pass * (stop - start))
        if unit.makes and unit.kind != "merge":  # it puts together what tiles have made
            found[unit.id] = work + sum(passes.values())
    return found


def finished_keys(project: Project) -> set[str]:
    """Return the keys of all labels that a run of the project has made."""
    outcomes = (o for name in project.runs() for o in project.run(name).outcomes())
    return {o["key"] for o in outcomes if o["status"] != "failed"}


def disk_bytes(
    project: Project, plan: Plan, *, finished: Collection[str] | None = None
) -> tuple[int, int]:
    """Return about how many bytes of labels and of stacks a plan will write.

    Labels that an earlier run finished are linked, not copied. Images whose size is not known
    count nothing.

    Parameters
    ----------
    project : Project
    plan : Plan
    finished : collection of str, optional
        As `finished_keys` returns it.
    """
    entries = {entry.id: entry for entry in project.images()}
    finished = finished_keys(project) if finished is None else finished
    shapes = _shapes(plan, entries)
    makes = [made for unit in plan.units if unit.kind != "tiles" for made in unit.makes]
    new = [image for image, _, key in makes if key not in finished]
    labels = sum(_pixels(shapes[image]) for image in new) * LABEL_BYTES
    if plan.purpose == "batch":
        return round(labels), _batch_bytes(plan, shapes)
    return round(labels), _comparison_bytes(plan, entries, shapes)


def _comparison_bytes(
    plan: Plan, entries: Mapping[str, ImageEntry], shapes: Mapping[str, Sequence[int]]
) -> int:
    """Return the bytes of the comparison stacks; none is above `STACK_BYTES` unless it has to."""
    how = Config(**plan.config).compare
    total = 0
    for image, shape in shapes.items():
        if not shape:
            continue
        channels = channel_count(entries[image], how)
        wide = SOURCE_BYTES if how.dtype == "source" else 1
        frames = min(how.top, len(plan.variants), affordable_frames(shape, channels * wide))
        total += frames * channels * wide * _pixels(shape)
    return total


def _batch_bytes(plan: Plan, shapes: Mapping[str, Sequence[int]]) -> int:
    """Return the bytes of ``batch.tif``."""
    wide = {image.id for image in plan.images if image.tiles}
    known = [
        shape
        for image, shape in shapes.items()
        if shape and (image not in wide or math.prod(shape[-2:]) <= BATCH_LARGEST)
    ]
    size = padded_bytes(known)
    return size if size <= BATCH_BYTES else padded_bytes([s for s in known if s[0] == 1])


def padded_bytes(shapes: Sequence[Sequence[int]]) -> int:
    """Return the bytes of a stack of images (Z, Y, X), each padded to the largest."""
    largest = [max(sides) for sides in zip(*shapes, strict=True)]
    return len(shapes) * BATCH_VIEWS * math.prod(largest) if shapes else 0


def channel_count(entry: ImageEntry, how: Compare) -> int:
    """Return how many channels the comparison stack of an image has."""
    sides = dict(zip(entry.axes, entry.shape, strict=True))
    more = max(sides.get("C", 1), sides.get("S", 1)) if how.channels == "all" else 1
    return len(CHANNELS) + (more if more > 1 else 0)


def _rates(project: Project, entries: Mapping[str, ImageEntry]) -> dict[str, tuple[float, float]]:
    """Seconds per million pixels seen, of a pass and of decoding, by engine, in all runs."""
    sums: dict[str, list[float]] = {}
    for name in project.runs():
        run = project.run(name)
        plan = Plan.from_json(run.plan())
        shapes = _shapes(plan, entries)
        variants = {variant.id: variant for variant in plan.variants}
        for outcome in run.outcomes():
            if outcome["status"] == "failed" or not shapes.get(outcome["image"]):
                continue
            variant = variants[outcome["variant"]]
            total = sums.setdefault(variant.engine, [0.0, 0.0, 0.0])
            decoding = outcome["decode_seconds"]
            total[0] += outcome["seconds"] - decoding
            total[1] += decoding
            total[2] += _seen(shapes[outcome["image"]], variant)
    return {
        engine: (network / seen, decoding / seen)
        for engine, (network, decoding, seen) in sums.items()
        if seen
    }


def _shapes(plan: Plan, entries: Mapping[str, ImageEntry]) -> dict[str, tuple[int, ...]]:
    """Z, Y and X of the part of each image that is worked on; empty where they are not known."""
    config, found = Config(**plan.config), {}
    for image in plan.images:
        entry = entries.get(image.id)
        if entry is None or not {"Y", "X"} <= set(entry.axes):
            found[image.id] = ()
            continue
        shape = segmented_shape(entry, config)
        sides = image.box[2:] if image.box else shape[-2:]
        found[image.id] = (math.prod(shape[:-2]), *sides)
    return found


def _pixels(shape: Sequence[int]) -> int:
    return math.prod(shape) if shape else 0


def _seen(shape: Sequence[int], variant: Variant) -> float:
    """Millions of pixels that the engine sees of an image."""
    return _pixels(shape) * variant.scale**2 / 1e6
