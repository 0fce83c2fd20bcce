"""``opsef annotatorj export|import``: objects to AnnotatorJ and back, in both its meanings.

``opsef`` is the layout of an OpSeF run, for *AnnotatorJ > OpSeF import* (many images as one
stack); ``zips`` is a folder of images with one zip each, for AnnotatorJ's Load and Save.
AnnotatorJ knows planes only: each plane of a volume goes out as an image of its own and
comes back into its place.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from opsef_bridge.compare.stack import display_range, to_8bit
from opsef_bridge.errors import InputError, NotFoundError, OpsefError, RoiError
from opsef_bridge.exchange.blind import draw, hide
from opsef_bridge.exchange.saving import (
    How,
    Imported,
    after_import,
    base_of_record,
    save_objects,
)
from opsef_bridge.exchange.sources import (
    Subject,
    base_subject,
    chosen_images,
    subject_of,
    variant_of,
)
from opsef_bridge.files import read_json, write_json
from opsef_bridge.images import write_hyperstack
from opsef_bridge.project import Project
from opsef_bridge.rois.annotatorj import (
    as_written,
    check_objects,
    check_stems,
    find_annotations,
    passed_over,
    read_annotation,
    write_annotation,
)
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.revisions import Base, History, Saved, Source
from opsef_bridge.rois.run_contents import MANIFEST
from opsef_bridge.rois.run_folder import Item, read_run_folder, write_run_folder
from opsef_bridge.sweep.predict import segmented_array

__all__ = ["LAYOUTS", "Exported", "export_annotatorj", "import_annotatorj"]

LAYOUTS = ("opsef", "zips")


@dataclass(frozen=True)
class Exported:
    """What was written: the folder, what to open in AnnotatorJ, and what to know."""

    folder: Path
    open: tuple[Path, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Piece:
    """One plane that came back: of which image and plane, its objects, the file, what to know."""

    record: Mapping[str, Any]
    objects: Objects
    file: Path
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
    if len(variants) > 1 and not blind:
        raise InputError(
            f"{len(variants)} variants were named", hint="Name one, or add --blind to draw one"
        )
    folder = _folder(project, name)
    if folder.is_dir() and any(folder.iterdir()):
        raise RoiError(
            f"{folder} holds an export, and perhaps edits, already",
            hint=f"Bring it in with `opsef annotatorj import {name}`, then use another name",
        )
    choices = [variant_of(project, variant, run) for variant in variants]
    subjects = [
        subject
        for entry in chosen_images(project, images)
        if (
            subject := subject_of(
                project,
                entry,
                variant=draw(choices) if choices else None,
                revision=revision,
            )
        )
    ]
    if not subjects:
        raise NotFoundError(
            "there are no objects to export",
            hint=f"Name a variant (opsef annotatorj export {name} v0007), or adopt one and "
            "run `opsef batch`",
        )
    items = (item for subject in subjects for item in _items(project, subject, blind))
    if layout == "opsef":
        written = write_run_folder(folder, items, name=name, class_names=project.config.classes)
        return Exported(folder, tuple(written.lists), tuple(written.left_out), tuple(written.notes))
    return _write_zips(folder, list(items), class_folder, project.config.classes)


def _folder(project: Project, name: str) -> Path:
    try:
        return project.exchange_folder(name)
    except ValueError:
        raise InputError(
            f"{name!r} cannot be the name of a folder in exchange/",
            hint="Use letters, digits, '-', '_' and single dots",
        ) from None


def _items(project: Project, subject: Subject, blind: bool) -> Iterator[Item]:
    """Yield the planes of an image, each with its picture and objects."""
    entry, objects = subject.image, subject.objects
    array = segmented_array(project, project.config, entry)
    limits = display_range(array)
    record: dict[str, Any] = {"image": entry.id, "source_shape": list(objects.labels.shape)}
    if blind:
        record["blind"] = hide(project, entry.id, subject.base)
    else:
        record |= {k: v for k, v in subject.base.to_json().items() if v is not None}
    if array.ndim == 2:
        yield Item(entry.id, to_8bit(array, limits), objects, {**record, "plane": None})
        return
    for number, plane in enumerate(array):
        labels = objects.labels[number]
        here = set(np.unique(labels).tolist())
        classes = {label: c for label, c in objects.classes.items() if label in here}
        key = f"{entry.id}_z{number + 1:04d}"
        picture = to_8bit(plane, limits)
        yield Item(key, picture, Objects(labels, classes), {**record, "plane": number})


def _write_zips(
    folder: Path, items: Sequence[Item], class_folder: str, class_names: Mapping[int, str]
) -> Exported:
    """Write a folder of images with one zip each."""
    check_stems([item.key for item in items])
    for item in items:
        check_objects(item.objects)
    partial = folder.with_name(f".{uuid.uuid4().hex[:8]}.partial")
    manifest: dict[str, Any] = {}
    left_out = []
    try:
        for item in items:
            key = item.key
            write_hyperstack(partial / f"{key}.tif", item.picture, "YX")
            written = write_annotation(
                partial, class_folder, key, item.objects, info=item.record, class_names=class_names
            )
            if written is None:
                left_out.append(key)
            manifest[key] = {"record": dict(item.record), "shape": list(item.picture.shape)}
        write_json(partial / MANIFEST, {"version": 1, "layout": "zips", "items": manifest})
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    notes = [f"{key} has no objects, so no zip: draw them and save" for key in left_out]
    return Exported(folder, (folder,), tuple(left_out), tuple(notes))


def import_annotatorj(
    project: Project, name: str, how: How, *, prefer: Literal["mask", "zip"] = "mask"
) -> tuple[list[Imported], list[str]]:
    """Save what AnnotatorJ left in ``exchange/<name>/``, an image at a time.

    Parameters
    ----------
    name : str
        Of the export.
    prefer : {"mask", "zip"}
        Which of the two is taken where they differ. AnnotatorJ may leave the ROIs of another
        image in a zip, so that the mask is the safer.

    Returns
    -------
    list of Imported, list of str
        One entry for each image that came back; and what else there is to know.

    Raises
    ------
    NotFoundError
        There is no such export.
    RoiError, ImageError
        A file cannot be read: nothing is saved then.
    """
    folder = _folder(project, name)
    if not (folder / MANIFEST).is_file():
        raise NotFoundError(
            f"{folder} is no export of this project",
            hint="`opsef annotatorj export NAME` makes one; run folders of the original OpSeF "
            "come in by `opsef import-legacy`",
        )
    if _is_zips(folder / MANIFEST):
        pieces, said = _zip_pieces(folder)
    else:
        returned, said = read_run_folder(folder, prefer=prefer)
        pieces = [
            Piece(one.record, one.objects, one.source, (*one.differences, *one.notes))
            for one in returned
        ]
    done = []
    for image in dict.fromkeys(piece.record["image"] for piece in pieces):
        mine = [piece for piece in pieces if piece.record["image"] == image]
        try:
            one = _save(project, image, mine, how)
        except OpsefError as error:
            one = Imported(image, mine[0].file.name, error=error)
        if one.saved:
            _note_import(folder / MANIFEST, image, one.saved)
        done.append(one)
    return done, said


def _note_import(manifest: Path, image: str, saved: Saved) -> None:
    """Write down that what lies in the folder now is a form of a revision."""
    told = read_json(manifest)
    for item in told["items"].values():
        if item["record"]["image"] == image:
            item["record"] = after_import(item["record"], saved)
    write_json(manifest, told)


def _is_zips(manifest: Path) -> bool:
    """Tell the layout of an export."""
    try:
        return read_json(manifest).get("layout") == "zips"
    except (ValueError, AttributeError):
        raise RoiError(
            f"{manifest} cannot be understood",
            hint="Get it back from a backup, or save the zips one by one: opsef rois import",
        ) from None


def _zip_pieces(folder: Path) -> tuple[list[Piece], list[str]]:
    """Read the zips that lie in the class folders of an image folder."""
    manifest = read_json(folder / MANIFEST)["items"]
    pieces, said = [], passed_over(folder)
    for place, stem, path in find_annotations(folder):
        if stem not in manifest:
            said.append(f"{place}/{path.name} is of no image of this export; it was passed over")
            continue
        if as_written(path):
            said.append(f"{place}/{path.name} is as it was exported: nothing to import")
            continue
        told = manifest[stem]
        objects, notes, _ = read_annotation(path, tuple(told["shape"]))
        pieces.append(Piece(told["record"], objects, path, tuple(notes.lines())))
    return pieces, said


def _save(project: Project, image: str, pieces: Sequence[Piece], how: How) -> Imported:
    entry = project.image(image)
    planes = [piece.record["plane"] for piece in pieces]
    if len(set(planes)) < len(planes):
        raise RoiError(
            f"{image} has {len(pieces)} edited zips: "
            + ", ".join(f"{piece.file.parent.name}/{piece.file.name}" for piece in pieces),
            hint="Which one counts is not known: move the others away",
        )
    record = pieces[0].record
    base, blind = base_of_record(project, record)
    if record["plane"] is None:
        objects = pieces[0].objects
    else:
        objects = _into_volume(_as_exported(project, image, base or Base()), pieces)
    notes = [
        note if piece.record["plane"] is None else f"plane {piece.record['plane'] + 1}: {note}"
        for piece in pieces
        for note in piece.notes
    ]
    source = Source(file=pieces[0].file.name, sha256=_content(objects, base), kind="annotatorj")
    saved = save_objects(
        project,
        entry,
        objects,
        how,
        base=base,
        source=source,
        received=pieces[0].file if len(pieces) == 1 else None,
        notes=notes,
        blind=blind,
    )
    return Imported(image, pieces[0].file.name, saved, said=tuple(notes))


def _as_exported(project: Project, image: str, base: Base) -> Objects:
    """Return the objects that went out."""
    if base.revision:
        return History(project, image).objects(base.revision)
    found = base_subject(project, project.image(image), base)
    if found is None:
        raise NotFoundError(
            f"what {image} was made from is not known", hint="Export it again, then edit"
        )
    return found.objects


def _into_volume(volume: Objects, pieces: Sequence[Piece]) -> Objects:
    """Put planes into the volume that they came from; what is new there gets new ids."""
    labels = volume.labels.copy()
    classes = dict(volume.classes)
    fresh = max(volume.ids, default=0)
    for piece in pieces:
        plane = piece.record["plane"]
        known = set(np.unique(labels[plane]).tolist())
        # Planes count new objects apart: the same number in two of them means nothing.
        news = [label for label in piece.objects.ids if label not in known]
        ids = {label: fresh + k for k, label in enumerate(news, 1)}
        fresh += len(news)
        part = piece.objects.renumbered(ids)
        labels[plane] = part.labels
        for label in part.ids:
            number = part.classes.get(label, 0)
            if number != volume.classes.get(label, 0):
                classes[label] = number
    alive = set(np.unique(labels).tolist())
    return Objects(labels, {label: c for label, c in classes.items() if c and label in alive})


def _content(objects: Objects, base: Base | None) -> str:
    """Return a sha256 of what came back: several files of AnnotatorJ make it up.

    With what was edited, so that going back to an earlier state is an edit like any other.
    """
    told = [objects.labels.shape, list(objects.classes.items()), str(base)]
    digest = hashlib.sha256(json.dumps(told).encode())
    digest.update(np.ascontiguousarray(objects.labels).tobytes())
    return digest.hexdigest()
