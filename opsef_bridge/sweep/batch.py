"""The ``batch`` unit: the results of an adopted variant on all images, to look through.

``batch.tif`` is one hyperstack with an image per frame: picture, outlines, labels. Smaller
images are padded on the right, below and behind to the size of the largest; the Info property
and the slice labels record the true sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from opsef_bridge.compare.stack import (
    display_range,
    false_colours,
    stack_luts,
    to_8bit,
    with_outlines,
)
from opsef_bridge.compare.unlike import image_figures, unlike
from opsef_bridge.config import Config
from opsef_bridge.errors import OpsefError
from opsef_bridge.execute import Job, Outcome, unit_kind
from opsef_bridge.images import image_info, write_planes
from opsef_bridge.project import ImageEntry
from opsef_bridge.sweep.estimate import BATCH_BYTES, BATCH_LARGEST, padded_bytes
from opsef_bridge.sweep.planned import Plan, PlannedImage
from opsef_bridge.sweep.predict import segmented_array
from opsef_bridge.sweep.rank import write_outcomes
from opsef_bridge.sweep.remarks import remarking
from opsef_bridge.sweep.stacks import export_rois

__all__ = ["batch"]

VIEWS = ("image", "outlines", "labels")

LARGEST = BATCH_LARGEST
"""Pixels of the largest image in tiles whose objects go into a ROI zip and that is a frame
of ``batch.tif``: each frame has the size of the largest, and is drawn in memory."""


@unit_kind("batch")
def batch(job: Job) -> Iterator[list[Outcome]]:
    """Write ``outcomes.csv``, a ROI zip per image, and ``batch.tif``.

    Of images in tiles with more than `LARGEST` pixels there is neither; a remark says so.
    Another says which images are unlike those that their variant was chosen on.
    """
    plan = Plan.from_json(job.plan)
    outcomes = {o["image"]: o for o in job.run.outcomes()}
    write_outcomes(job.run, outcomes.values())
    fine = [image for image in plan.images if outcomes[image.id]["status"] != "failed"]
    with remarking(job) as remark:
        for image in [image for image in fine if _is_large(image)]:
            fine.remove(image)
            height, width = image.tiles[2:] if image.tiles else (0, 0)
            remark(
                f"{image.id}: with {width} x {height} px it is too large for a ROI zip and a "
                "frame of batch.tif; its labels are written"
            )
        for image in fine:
            job.report(image.id)
            variant = outcomes[image.id]["variant"]
            export_rois(job.project, job.run, plan, image, variant, remark)
        for image, how in _unlike(job, plan, fine, outcomes):
            remark(f"{image}: unlike the images of the sweep: {'; '.join(how)}. Look at it.")
        shapes = {image.id: _shape(job, outcomes[image.id]) for image in fine}
        if padded_bytes(list(shapes.values())) > BATCH_BYTES:
            for image in [image for image in fine if shapes[image.id][0] > 1]:
                fine.remove(image)
                remark(
                    f"{image.id}: a volume, left out of batch.tif, which would take more than "
                    f"{BATCH_BYTES / 1e9:.0f} GB"
                )
    if fine:
        _write_stack(job, plan, fine, outcomes, shapes)
    yield []


def _is_large(image: PlannedImage) -> bool:
    return image.tiles is not None and image.tiles[2] * image.tiles[3] > LARGEST


def _labels(job: Job, outcome: Mapping[str, str]) -> np.ndarray:
    return job.run.labels(outcome["variant"], outcome["image"])


def _shape(job: Job, outcome: Mapping[str, str]) -> tuple[int, int, int]:
    """Z, Y and X of the labels of an image, which are not read."""
    told = image_info(job.run.label_file(outcome["variant"], outcome["image"]))
    sides = dict(zip(told.axes, told.shape, strict=True))
    return sides.get("Z", 1), sides["Y"], sides["X"]


def _unlike(
    job: Job, plan: Plan, images: list[PlannedImage], outcomes: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[str, list[str]]]:
    """Yield the images that are unlike those of the sweep, and by what.

    Those of a group are compared with the images of its sweep that are in the batch too,
    whatever group these are in now.
    """
    config = Config(**plan.config)
    entries = {entry.id: entry for entry in job.project.images()}
    adopted = job.project.adopted()
    for group in dict.fromkeys(image.group for image in images):
        sample = set(adopted.get(group, {}).get("sample", ()))
        new = [image for image in images if image.group == group and image.id not in sample]
        known_images = [image for image in images if image.id in sample]
        if not new or not known_images:
            continue  # nothing to compare, or nothing to compare with
        figures = {}
        for image in [*known_images, *new]:
            job.report(image.id)
            try:
                array = segmented_array(job.project, config, entries[image.id])
            except OpsefError:  # the file is gone since
                array = None
            figures[image.id] = image_figures(array, _labels(job, outcomes[image.id]))
        known = [found for id_, found in figures.items() if id_ in sample]
        for id_, found in figures.items():
            how = unlike(known, found) if id_ not in sample else []
            if how:
                yield id_, how


def _write_stack(
    job: Job,
    plan: Plan,
    images: list[PlannedImage],
    outcomes: Mapping[str, Mapping[str, str]],
    shapes: Mapping[str, tuple[int, int, int]],
) -> None:
    config = Config(**plan.config)
    entries = {entry.id: entry for entry in job.project.images()}
    depth, height, width = (max(shapes[i.id][axis] for i in images) for axis in range(3))

    def planes() -> Iterator[np.ndarray]:
        for image in images:
            labels = _labels(job, outcomes[image.id]).reshape(shapes[image.id])
            try:
                array = segmented_array(job.project, config, entries[image.id])
                limits = display_range(array)
                array = array.reshape(labels.shape)
            except (OpsefError, ValueError):  # the file is gone since, or is another one
                array, limits = np.zeros(labels.shape, np.uint8), (0.0, 255.0)
            padding = [(0, height - labels.shape[1]), (0, width - labels.shape[2])]
            for z in range(depth):
                if z >= len(labels):
                    yield from [np.zeros((height, width), np.uint8)] * len(VIEWS)
                    continue
                grey = to_8bit(array[z], limits)
                drawn = (grey, with_outlines(grey, labels[z]), false_colours(labels[z]))
                yield from (np.pad(view, padding) for view in drawn)

    captions = [
        f"{image.id} | {outcomes[image.id]['objects']} objects | {_size(shapes[image.id])} | {view}"
        for image in images
        for _ in range(depth)
        for view in VIEWS
    ]
    grey, _, outlines, colours = stack_luts()
    write_planes(
        job.run.batch_file,
        planes(),
        (len(images), depth, len(VIEWS), height, width),
        np.uint8,
        labels=captions,
        ranges=[(0, 255)] * len(VIEWS),
        luts=[grey, outlines, colours],
        mode="color",
        info=_info(images, entries, shapes, (depth, height, width)),
        **_common_calibration([entries[image.id] for image in images]),
    )


def _common_calibration(entries: list[ImageEntry]) -> dict[str, object]:
    """The pixel size, where all images share one; a stack can hold no more.

    Planes have none along Z, and say nothing of it.
    """
    flat = {(e.unit, e.pixel_size_y, e.pixel_size_x) for e in entries}
    deep = {e.pixel_size_z for e in entries if e.pixel_size_z}
    if len(flat) > 1 or len(deep) > 1 or not entries[0].spacing:
        return {}
    sizes = {"Z": max(deep, default=0.0)} | {a: entries[0].spacing.get(a, 0.0) for a in "YX"}
    spacing = {axis: size for axis, size in sizes.items() if size}
    return {"spacing": spacing, "unit": entries[0].unit}


def _size(shape: tuple[int, int, int]) -> str:
    """Return ``640 x 480 px``, of a volume with its planes."""
    depth, height, width = shape
    return f"{width} x {height} px" + (f", {depth} planes" if depth > 1 else "")


def _info(
    images: list[PlannedImage],
    entries: Mapping[str, ImageEntry],
    shapes: Mapping[str, tuple[int, int, int]],
    largest: tuple[int, int, int],
) -> str:
    where = "right, below and behind" if largest[0] > 1 else "right and below"
    lines = [
        f"frames: {len(images)} images, padded {where} to {_size(largest)}",
        f"channels: {', '.join(VIEWS)}",
        "",
        "\t".join(("frame", "image", "group", "width", "height", "depth", "source", "of it")),
    ]
    for frame, image in enumerate(images, start=1):
        depth, height, width = shapes[image.id]
        entry = entries[image.id]
        of_it = "; ".join(f"{name} {text}" for name, text in entry.origin().items())
        cells = (frame, image.id, image.group, width, height, depth, entry.source, of_it)
        lines.append("\t".join(map(str, cells)))
    return "\n".join(lines)
