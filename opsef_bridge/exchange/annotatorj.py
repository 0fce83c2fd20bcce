"""``opsef annotatorj export``: objects to AnnotatorJ, in both its meanings.

``opsef`` is the layout of an OpSeF run, for *AnnotatorJ > OpSeF import* (many images as one
stack); ``zips`` is a folder of images with one zip each, for AnnotatorJ's Load and Save.
AnnotatorJ knows planes only: each plane of a volume goes out as an image of its own and
comes back into its place (`opsef_bridge.exchange.annotatorj_import`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from opsef_bridge.compare.stack import display_range, to_8bit
from opsef_bridge.errors import RoiError
from opsef_bridge.exchange.blind import hidden
from opsef_bridge.exchange.sources import (
    Subject,
    exchange_folder,
    record_of,
    subjects,
)
from opsef_bridge.files import atomic_folder, write_json
from opsef_bridge.images import write_hyperstack
from opsef_bridge.project import Project
from opsef_bridge.rois.annotatorj import (
    check_objects,
    check_stems,
    write_annotation,
)
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.run_contents import MANIFEST
from opsef_bridge.rois.run_folder import Item, write_run_folder
from opsef_bridge.sweep.predict import segmented_array

__all__ = ["LAYOUTS", "Exported", "export_annotatorj"]

LAYOUTS = ("opsef", "zips")


@dataclass(frozen=True)
class Exported:
    """What was written: the folder, what to open in AnnotatorJ, and what to know."""

    folder: Path
    open: tuple[Path, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def export_annotatorj(
    project: Project,
    name: str,
    variants: Sequence[str] = (),
    *,
    run: str | None = None,
    revision: str | None = None,
    images: Sequence[str] = (),
    layout: Literal["opsef", "zips"] = "opsef",
    class_folder: str = "normal",
    blind: bool = False,
) -> Exported:
    """Write ``exchange/<name>/`` with pictures and objects for AnnotatorJ.

    Parameters
    ----------
    variants, run, revision, images, blind
        What to export, as `opsef_bridge.exchange.files.export_objects`.
    layout : {"opsef", "zips"}
    class_folder : str
        Folder of the zips inside the image folder; AnnotatorJ offers ``normal``.

    Raises
    ------
    InputError
        A name is unfit.
    RoiError
        The folder holds something already; or objects are beyond what AnnotatorJ can take
        (eight classes, 65,535 objects).
    NotFoundError
        There are no objects.
    """
    folder = exchange_folder(project, name)
    if folder.is_dir() and any(folder.iterdir()):
        raise RoiError(
            f"{folder} holds an export, and perhaps edits, already",
            hint=f"Bring it in with `opsef annotatorj import {name}`, then use another name",
        )
    remarks: list[str] = []
    wanted = subjects(
        project,
        variants,
        run=run,
        revision=revision,
        images=images,
        blind=blind,
        way=f"opsef annotatorj export {name} v0007",
        remark=remarks.append,
    )
    items = (item for subject in wanted for item in _items(project, subject, blind))
    if layout == "opsef":
        written = write_run_folder(folder, items, name=name, class_names=project.config.classes)
        notes = (*remarks, *written.notes)
        return Exported(folder, tuple(written.lists), tuple(written.left_out), notes)
    zips = _write_zips(folder, list(items), class_folder, project.config.classes)
    return replace(zips, notes=(*remarks, *zips.notes))


def _items(project: Project, subject: Subject, blind: bool) -> Iterator[Item]:
    """Yield the planes of an image, each with its picture and objects."""
    entry, objects = subject.image, subject.objects
    array = segmented_array(project, project.config, entry)
    limits = display_range(array)
    record = record_of(subject)
    if blind:
        record = hidden(project, record, subject.base)
    size = {axis: entry.spacing[axis] for axis in "YX" if axis in entry.spacing}
    size, unit = (size, entry.unit) if len(size) == 2 else ({}, "pixel")
    if array.ndim == 2:
        told = {**record, "plane": None}
        yield Item(entry.id, to_8bit(array, limits), objects, told, size, unit)
        return
    for number, plane in enumerate(array):
        labels = objects.labels[number]
        here = set(np.unique(labels).tolist())
        classes = {label: c for label, c in objects.classes.items() if label in here}
        key = f"{entry.id}_z{number + 1:04d}"
        picture = to_8bit(plane, limits)
        told = {**record, "plane": number}
        yield Item(key, picture, Objects(labels, classes), told, size, unit)


def _write_zips(
    folder: Path, items: Sequence[Item], class_folder: str, class_names: Mapping[int, str]
) -> Exported:
    """Write a folder of images with one zip each."""
    check_stems([item.key for item in items])
    for item in items:
        check_objects(item.objects)
    manifest: dict[str, Any] = {}
    left_out = []
    with atomic_folder(folder) as partial:
        for item in items:
            key = item.key
            file, size = partial / f"{key}.tif", item.spacing or None
            write_hyperstack(file, item.picture, "YX", size, unit=item.unit)
            written = write_annotation(
                partial, class_folder, key, item.objects, info=item.record, class_names=class_names
            )
            if written is None:
                left_out.append(key)
            manifest[key] = {"record": dict(item.record), "shape": list(item.picture.shape)}
        write_json(partial / MANIFEST, {"version": 1, "layout": "zips", "items": manifest})
    notes = [f"{key} has no objects, so no zip: draw them and save" for key in left_out]
    return Exported(folder, (folder,), tuple(left_out), tuple(notes))
