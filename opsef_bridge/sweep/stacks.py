"""The ``compare`` unit: comparison hyperstacks and ROI zips of a block of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from opsef_bridge.compare.montage import Tile, montage
from opsef_bridge.compare.stack import (
    CHANNELS,
    affordable_frames,
    display_range,
    stack_luts,
    stack_planes,
    to_8bit,
)
from opsef_bridge.config import Config
from opsef_bridge.errors import OpsefError
from opsef_bridge.execute import Job, Outcome, unit_kind
from opsef_bridge.files import atomic_path
from opsef_bridge.images import read_labels, write_planes
from opsef_bridge.project import Project, Run, read_csv
from opsef_bridge.rois import EditedError, Objects, write_roi_set
from opsef_bridge.sweep.classes import classes_of
from opsef_bridge.sweep.planned import Plan, PlannedImage
from opsef_bridge.sweep.remarks import remarking, to_log
from opsef_bridge.sweep.shown import Shown, figures_of, open_shown, result_of

__all__ = ["affordable", "compare", "export_rois", "write_montage", "write_shown", "write_stack"]


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

    It shows as many of the first as the run asks for, if they fit into
    `opsef_bridge.compare.stack.STACK_BYTES`. Where the recipe of the base picture cannot be
    applied the plain image takes its place: the Info text says so, and `remark` is told.
    """
    settings = Config(**plan.config).compare
    shown = open_shown(project, run, plan, image, ranked, remark, settings=settings)
    shown = affordable(shown.first(settings.top), settings.dtype)
    write_shown(run.compare_file(image.id), shown, settings.dtype)


def affordable(shown: Shown, dtype: str) -> Shown:
    """Return the same with as many variants as a stack has that nobody asked to be larger."""
    wide = shown.values_dtype.itemsize if dtype == "source" else 1
    return shown.first(affordable_frames(shown.base.shape, len(shown.channels) * wide))


def write_shown(path: Path, shown: Shown, dtype: str) -> None:
    """Write the hyperstack of an image and its variants.

    Parameters
    ----------
    path : Path
    shown : Shown
    dtype : {"8bit", "source"}
        Whether base picture and further channels are mapped to 8 bit, or keep their values.
    """
    values = shown.values_dtype if dtype == "source" else None
    views = [(0.0, 255.0)] * len(CHANNELS)
    further = [(0.0, 255.0)] * len(shown.more)
    if dtype == "source":
        views[0] = display_range(shown.base)
        further = [display_range(array) for array in shown.more.values()]
    write_planes(
        path,
        stack_planes(shown.base, shown.frames(), list(shown.more.values()), values=values),
        (len(shown.rows), shown.depth, len(shown.channels), *shown.base.shape[-2:]),
        np.uint8 if values is None else values,
        spacing=shown.entry.spacing,
        unit=shown.entry.unit,
        labels=shown.slice_labels(),
        ranges=[*views, *further],
        luts=stack_luts(len(shown.more)),
        mode="color",
        info=shown.info(),
    )


def write_montage(path: Path, shown: Shown) -> None:
    """Write a PNG with the outlines of each variant on the middle plane of the base picture."""
    middle = shown.depth // 2
    base = shown.base if shown.base.ndim == 2 else shown.base[middle]

    def tiles() -> Iterator[Tile]:
        for row in shown.rows:
            labels = shown.labels(row["id"])
            by = figures_of(row).partition(" | ")
            yield Tile(
                labels if labels.ndim == 2 else labels[middle],
                f"#{row['rank']} {row['id']} | {by[2] or by[0]}",
                f"{shown.variants[row['id']].caption()} | {result_of(shown.outcomes[row['id']])}",
            )

    picture = montage(
        to_8bit(base, display_range(shown.base)), tiles(), len(shown.rows), _header(shown, middle)
    )
    with atomic_path(path) as partial:
        PIL.Image.fromarray(picture).save(partial, "PNG")


def _header(shown: Shown, middle: int) -> list[str]:
    height, width = shown.base.shape[-2:]
    size = f"{height} x {width} px"
    spacing = shown.entry.spacing
    if "X" in spacing and "Y" in spacing:
        unit = shown.entry.unit
        size += f", {height * spacing['Y']:.4g} x {width * spacing['X']:.4g} {unit}"
    plane = f", plane {middle + 1} of {shown.depth}" if shown.depth > 1 else ""
    title = f"{shown.entry.id} of {shown.run.id}: {len(shown.rows)} of {shown.total} variants"
    note = shown.note or "by agreement"
    return [title, f"Base {shown.base_name}, {size}{plane}; ranking {note}"]


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
