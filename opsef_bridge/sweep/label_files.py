"""Label files of a run: what they say of themselves, and those that earlier runs have made."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.errors import OpsefError
from opsef_bridge.execute import Job, Outcome
from opsef_bridge.files import atomic_path
from opsef_bridge.images import Region, image_info, read_labels, write_labels
from opsef_bridge.images.labels import read_labels_info
from opsef_bridge.project import ImageEntry
from opsef_bridge.sweep.planned import Plan, PlannedImage, Variant

__all__ = ["finished_before", "label_info", "reuse"]

LARGEST_COPIED = 2**26
"""Pixels of the largest label image that is written again for a corrected calibration."""

LARGEST_CHECKED = 2**24
"""Pixels of the largest label image of an earlier run that is read through before it is used."""


def label_info(entry: ImageEntry, image: PlannedImage, variant: Variant) -> str:
    """Return the text of a label file: what made it, and of what."""
    info = {"variant": variant.slug, "key": variant.label_key(image), "image": image.id}
    info |= entry.origin()
    if image.box:
        info["box"] = "y {} x {} height {} width {}".format(*image.box)
    return "\n".join(f"{key}: {value}" for key, value in info.items())


def reuse(job: Job) -> tuple[list[Outcome], list[tuple[str, str, str]]]:
    """Take over what earlier runs finished; return that, and what is left to make.

    What cannot be taken over, since its file is damaged or gone, is left to make.
    """
    left = job.open_makes()
    earlier = finished_before(job, {key for _, _, key in left})
    if not earlier:
        return [], left
    plan = Plan.from_json(job.plan)
    entries = {entry.id: entry for entry in job.project.images()}
    images = {image.id: image for image in plan.images}
    variants = {variant.id: variant for variant in plan.variants}
    found: list[Outcome] = []
    rest: list[tuple[str, str, str]] = []
    for image, variant, key in left:
        if key not in earlier:
            rest.append((image, variant, key))
            continue
        source, outcome = earlier[key]
        entry = entries[image]
        info = label_info(entry, images[image], variants[variant])
        try:
            _take_over(source, job.run.label_file(variant, image), entry, info)
        except (OpsefError, FileNotFoundError) as error:
            _say_lost(source, error)
            rest.append((image, variant, key))
            continue
        found.append(replace(Outcome(**outcome), image=image, variant=variant))
    return found, rest


def finished_before(job: Job, keys: Collection[str]) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Return label file and outcome of those of `keys` that an earlier run finished.

    Of several the newest whose file can be read.
    """
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    for name in reversed(job.project.runs()):
        run = job.project.run(name)
        if name == job.run.id:
            continue
        for outcome in run.outcomes():
            key = outcome["key"]
            if key in keys and key not in found and outcome["status"] != "failed":
                file = run.label_file(outcome["variant"], outcome["image"])
                if file.is_file() and _intact(file):
                    found[key] = (file, outcome)
    return found


def _intact(file: Path) -> bool:
    """Whether a label file can be read; of one above `LARGEST_CHECKED` its header and end."""
    try:
        shape = image_info(file).shape
        ends = {axis: (side - 1, side) for axis, side in zip("xyz", shape[::-1], strict=False)}
        read_labels(file, Region(**ends) if np.prod(shape) > LARGEST_CHECKED else None)
    except OpsefError as error:
        _say_lost(file, error)
        return False
    return True


def _say_lost(file: Path, error: Exception) -> None:
    """Say in the log of the unit why labels are made again."""
    print(f"{file} is not taken over, its labels are made again: {error}", file=sys.stderr)


def _take_over(source: Path, target: Path, entry: ImageEntry, info: str) -> None:
    """Give a label file a second name, or, if calibration or text were corrected, copy it with
    these.

    Label files are never changed in place.
    """
    told = image_info(source)
    due = {axis: size for axis, size in entry.spacing.items() if axis in told.axes}
    same = set(due) == set(told.spacing) and np.allclose(
        [due[axis] for axis in due], [told.spacing[axis] for axis in due], rtol=1e-4
    )
    if np.prod(told.shape) <= LARGEST_COPIED and not (same and read_labels_info(source) == info):
        write_labels(target, read_labels(source), spacing=due, unit=entry.unit, info=info)
        return
    with atomic_path(target) as partial:
        try:
            os.link(source, partial)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, partial)
