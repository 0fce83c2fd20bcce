"""The ``batch`` unit: the results of an adopted variant on all images, to look through.

``batch.tif`` is one hyperstack with an image per frame: picture, outlines, labels. Smaller
images are padded on the right and below to the size of the largest; the Info property and
the slice labels record the true sizes.
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
from opsef_bridge.images import read_labels, write_planes
from opsef_bridge.project import ImageEntry
from opsef_bridge.sweep.plan import Plan, PlannedImage
from opsef_bridge.sweep.predict import segmented_array
from opsef_bridge.sweep.rank import write_outcomes
from opsef_bridge.sweep.remarks import remarking
from opsef_bridge.sweep.stacks import export_rois

__all__ = ["batch"]

VIEWS = ("image", "outlines", "labels")

LARGEST = 2**24
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
    flat = [image for image in fine if _labels(job, outcomes[image.id]).ndim == 2]
    if flat:
        _write_stack(job, plan, flat, outcomes)
    yield []


def _is_large(image: PlannedImage) -> bool:
    return image.tiles is not None and image.tiles[2] * image.tiles[3] > LARGEST


def _labels(job: Job, outcome: Mapping[str, str]) -> np.ndarray:
    return read_labels(job.run.label_file(outcome["variant"], outcome["image"]))


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
    job: Job, plan: Plan, images: list[PlannedImage], outcomes: Mapping[str, Mapping[str, str]]
) -> None:
    config = Config(**plan.config)
    entries = {entry.id: entry for entry in job.project.images()}
    shapes = {image.id: _labels(job, outcomes[image.id]).shape for image in images}
    height, width = (max(shape[axis] for shape in shapes.values()) for axis in (0, 1))

    def planes() -> Iterator[np.ndarray]:
        for image in images:
            labels = _labels(job, outcomes[image.id])
            try:
                array = segmented_array(job.project, config, entries[image.id])
                grey = to_8bit(array, display_range(array))
            except OpsefError:  # the file is gone since; the labels are still worth a look
                grey = np.zeros(labels.shape, np.uint8)
            for view in (grey, with_outlines(grey, labels), false_colours(labels)):
                yield np.pad(view, [(0, height - view.shape[0]), (0, width - view.shape[1])])

    captions = [
        f"{image.id} | {outcomes[image.id]['objects']} objects | "
        f"{shapes[image.id][1]} x {shapes[image.id][0]} px | {view}"
        for image in images
        for view in VIEWS
    ]
    grey, _, outlines, colours = stack_luts()
    write_planes(
        job.run.batch_file,
        planes(),
        (len(images), 1, len(VIEWS), height, width),
        np.uint8,
        labels=captions,
        ranges=[(0, 255)] * len(VIEWS),
        luts=[grey, outlines, colours],
        mode="color",
        info=_info(images, entries, shapes, (height, width)),
        **_common_calibration([entries[image.id] for image in images]),
    )


def _common_calibration(entries: list[ImageEntry]) -> dict[str, object]:
    """The pixel size, where all images share one; a stack can hold no more."""
    first = entries[0]
    if first.spacing and all((e.spacing, e.unit) == (first.spacing, first.unit) for e in entries):
        return {"spacing": first.spacing, "unit": first.unit}
    return {}


def _info(
    images: list[PlannedImage],
    entries: Mapping[str, ImageEntry],
    shapes: Mapping[str, tuple[int, ...]],
    size: tuple[int, int],
) -> str:
    lines = [
        f"frames: {len(images)} images, padded right and below to {size[1]} x {size[0]} px",
        f"channels: {', '.join(VIEWS)}",
        "",
        "\t".join(("frame", "image", "group", "width", "height", "source", "of it")),
    ]
    for frame, image in enumerate(images, start=1):
        height, width = shapes[image.id]
        entry = entries[image.id]
        of_it = "; ".join(f"{name} {text}" for name, text in entry.origin().items())
        cells = (frame, image.id, image.group, width, height, entry.source, of_it)
        lines.append("\t".join(map(str, cells)))
    return "\n".join(lines)
