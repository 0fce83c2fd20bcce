"""The ``compare`` unit: comparison hyperstacks and ROI zips of a block of images."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from opsef_bridge.compare.stack import (
    CHANNELS,
    Frame,
    affordable_frames,
    display_range,
    stack_luts,
    stack_planes,
)
from opsef_bridge.config import Config
from opsef_bridge.errors import OpsefError
from opsef_bridge.execute import Job, Outcome, unit_kind
from opsef_bridge.images import read_labels, write_planes
from opsef_bridge.project import ImageEntry, Project, Run, read_csv
from opsef_bridge.rois import EditedError, Objects, write_roi_set
from opsef_bridge.sweep.cache import ArrayCache
from opsef_bridge.sweep.classes import classes_of
from opsef_bridge.sweep.parts import Whole, Windows
from opsef_bridge.sweep.plan import Box, Plan, PlannedImage, Variant
from opsef_bridge.sweep.predict import box_shape, open_parts, to_source
from opsef_bridge.sweep.rank import order_note, scale_seen
from opsef_bridge.sweep.remarks import remarking, to_log

__all__ = ["compare", "export_rois", "write_stack"]


@unit_kind("compare")
def compare(job: Job) -> Iterator[list[Outcome]]:
    """Write the stack and the ROI zips of each image of the unit."""
    plan = Plan.from_json(job.plan)
    config = Config(**plan.config)
    rows = read_csv(job.run.variants_file)
    with remarking(job) as remark:
        for image in plan.images:
            if image.id not in job.unit.inputs["images"]:
                continue
            job.report(image.id)
            ranked = [row for row in rows if row["group"] == image.group]
            try:
                write_stack(job.project, job.run, plan, image, ranked, remark)
            except OpsefError:
                continue  # an image that cannot be read has failed outcomes already
            for row in ranked[: config.compare.rois]:
                export_rois(job.project, job.run, plan, image, row["id"], remark)
    yield []


def write_stack(
    project: Project,
    run: Run,
    plan: Plan,
    image: PlannedImage,
    ranked: Sequence[Mapping[str, str]],
    remark: Callable[[str], None] = to_log,
) -> None:
    """Write ``compare/<image>.tif``; `ranked` are the group's rows of variants.csv.

    Where the recipe of the base picture cannot be applied the plain image takes its place:
    the Info text says so, and `remark` is told.
    """
    config = Config(**plan.config)
    entry = project.image(image.id)
    parts = open_parts(project, config, entry, image, ArrayCache(project.cache_folder))
    base, base_name = _base(parts, config, image, remark)
    note = order_note(ranked)
    ranked = ranked[: min(config.compare.top, affordable_frames(base.shape))]
    variants = {variant.id: variant for variant in plan.variants}
    outcomes = {o["variant"]: o for o in run.outcomes() if o["image"] == image.id}

    def frames() -> Iterator[Frame]:
        for row in ranked:
            variant = variants[row["id"]]
            file = run.label_file(variant.id, image.id)
            failed = outcomes[variant.id]["status"] == "failed"
            labels = np.zeros(base.shape, np.int32) if failed else read_labels(file)
            scale = scale_seen(variant, outcomes[variant.id])
            yield Frame(labels, _seen(parts, variant, image.box, base if failed else None), scale)

    depth = 1 if base.ndim == 2 else len(base)
    captions = [_caption(row, variants[row["id"]], outcomes[row["id"]]) for row in ranked]
    base_range = display_range(base)
    write_planes(
        run.compare_file(image.id),
        stack_planes(base, frames()),
        (len(ranked), depth, len(CHANNELS), *base.shape[-2:]),
        np.uint8,
        spacing=entry.spacing,
        unit=entry.unit,
        labels=[f"{text} | {c}" for text in captions for _ in range(depth) for c in CHANNELS],
        ranges=[(0, 255)] * len(CHANNELS),
        luts=stack_luts(),
        mode="color",
        info=_info(entry, image, base_name, base_range, ranked, note),
    )


def _base(
    parts: Whole | Windows, config: Config, image: PlannedImage, remark: Callable[[str], None]
) -> tuple[np.ndarray, str]:
    """Return the base picture in pixels of the source, and what it is."""
    name, steps = config.compare.base, config.base_steps()
    try:
        made = parts.part(steps, image.box)
    except Exception as error:  # steps come from anywhere, and the labels are there
        plain = parts.part((), image.box)
        remark(
            f"{image.id}: compare.base {name!r} cannot be applied to it, its comparison stack "
            f"shows the plain image: {error}"
        )
        return plain, f"the plain image, since {name} cannot be applied to it"
    return to_source(made, steps, box_shape(parts.shape, image.box), image.box), name


def _seen(
    parts: Whole | Windows, variant: Variant, box: Box | None, instead: np.ndarray | None
) -> np.ndarray:
    """Return what the network saw; of a variant that failed, and only there, maybe `instead`."""
    try:
        return parts.part(variant.steps, box)
    except Exception:
        if instead is None:
            raise
        return instead


def export_rois(
    project: Project,
    run: Run,
    plan: Plan,
    image: PlannedImage,
    variant: str,
    remark: Callable[[str], None] = to_log,
) -> bool:
    """Write the ROI zip of an image and variant, in pixels of the source.

    A zip that a person edited is left as it is; objects whose class mask cannot be used have
    no classes. `remark` is told both.

    Returns
    -------
    bool
        False where nothing is written: no labels, no object, or an edited zip.
    """
    file = run.label_file(variant, image.id)
    if not file.is_file():
        return False
    labels = read_labels(file)
    objects = Objects(labels, _classes(project, plan, image, labels, remark))
    slug = next(v.slug for v in plan.variants if v.id == variant)
    entry = project.image(image.id)
    info = {"image": image.id, "variant": variant, "slug": slug, "run": run.id}
    info |= {"calibration": entry.calibration()}
    offset = image.box[:2] if image.box else (0, 0)
    several = bool({"C", "T"} & set(entry.axes))
    target = run.rois_file(variant, image.id)
    try:
        return write_roi_set(target, objects, offset=offset, hyperstack=several, info=info)
    except EditedError as error:
        remark(f"{image.id}: its ROI zip is left as it is: {error}")
        return False


def _classes(
    project: Project,
    plan: Plan,
    image: PlannedImage,
    labels: np.ndarray,
    remark: Callable[[str], None],
) -> dict[int, int]:
    """Return the classes by the mask; a mask that cannot be used costs the classes only."""
    try:
        entry = project.image(image.id)
        return classes_of(project, Config(**plan.config), entry, labels, image.box)
    except OpsefError as error:
        remark(f"{image.id}: its objects have no classes: {error}")
        return {}


def _caption(row: Mapping[str, str], variant: Variant, outcome: Mapping[str, Any]) -> str:
    """``#1 v0007 median3 | unet | scale 1 threshold 0.5 | 61 objects | agreement 0.93``"""
    result = (
        f"failed: {outcome['message']}"
        if outcome["status"] == "failed"
        else f"{outcome['objects']} objects"
    )
    chosen = outcome.get("chosen") or {}
    own = "".join(f" | {name} {value:.3g} chosen" for name, value in sorted(chosen.items()))
    return (
        f"#{row['rank']} {variant.id} {variant.caption()}{own} | {result} | "
        f"agreement {float(row['agreement']):.3f}"
    )


def _info(
    entry: ImageEntry,
    image: PlannedImage,
    base: str,
    base_range: tuple[float, float],
    ranked: Sequence[Mapping[str, str]],
    note: str,
) -> str:
    """Text of the Info property: where the stack comes from and the table of variants."""
    lines = [
        f"image: {entry.id}",
        f"source: {entry.source}",
        *(f"{name}: {text}" for name, text in entry.origin().items()),
        f"group: {image.group}",
        f"ranking: {note or 'by agreement'}",
        f"base: {base}, shown from {base_range[0]:g} to {base_range[1]:g}",
        f"channels: {', '.join(CHANNELS)}",
    ]
    if image.box:
        lines.append(
            "box: " + json.dumps(dict(zip(("y", "x", "height", "width"), image.box, strict=True)))
        )
    columns = ("rank", "id", "slug", "objects", "agreement", "plain_mean", "status")
    lines += ["", "\t".join(columns)]
    lines += ["\t".join(row[column] for column in columns) for row in ranked]
    return "\n".join(lines)
