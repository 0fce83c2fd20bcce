"""``opsef rois export|import``: objects as files for ImageJ and other programs, and back."""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from opsef_bridge.errors import InputError, NotFoundError, OpsefError, RoiError
from opsef_bridge.exchange.blind import hidden, new_token
from opsef_bridge.exchange.saving import (
    How,
    Imported,
    after_import,
    base_of_record,
    base_of_text,
    check_picture,
    save_objects,
)
from opsef_bridge.exchange.sources import (
    Remark,
    Subject,
    image_shape,
    record_of,
    subjects,
)
from opsef_bridge.files import file_sha256, read_json, write_json
from opsef_bridge.images import read_labels, write_labels
from opsef_bridge.project import ImageEntry, Project
from opsef_bridge.rois.geojson import write_geojson
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.revisions import Base, History, Saved, Source
from opsef_bridge.rois.sets import EditedError, read_roi_set, sidecar_path, write_roi_set

__all__ = ["FORMATS", "clear_objects", "export_objects", "import_path"]

FORMATS = {"imagej": "_ROIs.zip", "labels": ".tif", "geojson": ".geojson"}
"""End of the file names of each format."""

ROI_FILES = (".zip", ".roi")
LABEL_FILES = (".tif", ".tiff", ".png")


def export_objects(
    project: Project,
    variants: Sequence[str] = (),
    *,
    run: str | None = None,
    revision: str | None = None,
    images: Sequence[str] = (),
    format: Literal["imagej", "labels", "geojson"] = "imagej",
    to: Path | None = None,
    blind: bool = False,
    remark: Remark = lambda said: None,
) -> list[Path]:
    """Write the objects of each image to a file that other programs open.

    Beside each file lies a JSON that says which image it is of, what it was made from, and
    what ROI means which object; a file that a person changed since is never written over.

    Parameters
    ----------
    variants : sequence of str
        Variants (ids or slugs); more than one only with `blind`. Without: see `subject_of`.
    to : Path
        Folder; by default that of the variant in its run for `imagej`, else one in
        ``exchange/<format>`` named after the revision or variant.
    blind : bool
        Draw one of `variants` for each image and do not say which; the revision will.
    remark : callable
        Takes a sentence about each image whose class mask cannot be used: its objects are
        written without classes.

    Returns
    -------
    list of Path
        Images without objects have no file.

    Raises
    ------
    EditedError
        A person edited files that were written before. These are left as they are; the
        others are written.
    NotFoundError
        There is no such image, variant or revision, or there are no objects at all.
    """
    token = new_token() if blind else ""
    written: list[Path] = []
    edited: list[EditedError] = []
    wanted = subjects(
        project,
        variants,
        run=run,
        revision=revision,
        images=images,
        blind=blind,
        way="opsef rois export v0007",
        remark=remark,
    )
    for subject in wanted:
        file = _target(project, subject, format, to, token)
        try:
            if _write(file, subject, format, project, token):
                written.append(file)
        except EditedError as error:
            edited.append(error)
    if edited:
        raise EditedError(
            f"{len(written)} files are written, {len(edited)} are left as they are: "
            + "; ".join(error.message for error in edited),
            hint=edited[0].hint,
        )
    return written


def _target(project: Project, subject: Subject, format: str, to: Path | None, token: str) -> Path:
    """Return where a file goes: objects of another origin lie in another folder.

    The file may be open in ImageJ; nothing else is put in its place.
    """
    image, base = subject.image.id, subject.base
    name = f"{image}{FORMATS[format]}"
    if to is not None:
        return to / name
    if token:
        return project.exchange_folder("blind") / token / name
    if base.revision:
        return project.exchange_folder(format) / base.revision / name
    if format == "imagej":
        return project.run(base.run).rois_file(str(base.variant), image)
    return project.exchange_folder(format) / f"{base.run}-{base.variant}" / name


def _write(file: Path, subject: Subject, format: str, project: Project, token: str) -> bool:
    """Write one file with its JSON; False where there is no object."""
    entry, objects = subject.image, subject.objects
    names = project.config.classes
    record = record_of(subject)
    if token:
        record = hidden(project, record, subject.base)
    if format == "imagej":
        several = bool({"C", "T"} & set(entry.axes))
        return write_roi_set(file, objects, hyperstack=several, info=record, class_names=names)
    if file.exists() and _is_edited(file):
        keep = f"Keep what it holds with `opsef rois import {shlex.quote(str(file))}`, or move"
        raise EditedError(
            f"{file} was not written by this program, or was edited since",
            hint=f"{keep if file.suffix in LABEL_FILES else 'Move'} it away; then run the command "
            "again",
        )
    if not objects.ids:
        file.unlink(missing_ok=True)
        _beside(file).unlink(missing_ok=True)
        return False
    if format == "labels":
        size = entry.spacing or None
        write_labels(file, objects.labels, size, entry.unit, entry.info_text())
    else:
        told = {"calibration": entry.calibration()}
        write_geojson(file, objects, class_names=names, image=entry.id, members=told)
    write_json(_beside(file), record | {"sha256": file_sha256(file)})
    return True


def _beside(file: Path) -> Path:
    """Return the JSON of a file: of ``a_ROIs.zip`` ``a_ROIs.json``, of ``a.tif`` ``a.tif.json``."""
    return sidecar_path(file) if file.suffix == ".zip" else file.with_name(file.name + ".json")


def _is_edited(file: Path) -> bool:
    """Tell whether a file is another than its JSON tells of."""
    return _record_of(file).get("sha256") != file_sha256(file)


def _record_of(file: Path) -> dict[str, Any]:
    """Return the JSON of a file; empty where there is none."""
    beside = _beside(file)
    try:
        record = read_json(beside) if beside.is_file() else {}
    except ValueError as error:
        raise RoiError(
            f"{beside} is damaged ({error})",
            hint="Move it away, and say yourself what the file is of: --image and --base",
        ) from None
    return record if isinstance(record, dict) else {}


def import_path(
    project: Project,
    path: Path,
    how: How,
    *,
    image: str | None = None,
    base: str | None = None,
) -> list[Imported]:
    """Save the objects of a file, or of every file in a folder, as revisions.

    ROI zips, single ``.roi`` files and label images. The JSON that was written beside says
    which image it is and what it was made from; without it the name must be ``<image
    id>_ROIs.zip`` or that of the image file, and `base` must be told once there is a revision.
    Of a folder, files that nobody changed since they were written are passed over.

    Parameters
    ----------
    image : str
        Id of the image, for a single file.
    base : str
        As `base_of_text` reads it.

    Raises
    ------
    InputError
        It is no such file; or the image cannot be told.
    OpsefError
        For a single file, what is wrong with it; of a folder each file fails alone.
    """
    if path.is_dir():
        if image:
            raise InputError(f"{path} is a folder", hint="--image goes with a single file")
        return _import_folder(project, path, how, base)
    return [_import_file(project, path, how, image, base)]


def _import_folder(project: Project, folder: Path, how: How, base: str | None) -> list[Imported]:
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in (*ROI_FILES, *LABEL_FILES))
    if not files:
        raise InputError(
            f"{folder} holds no ROI zip and no label image",
            hint=f"Files end in {', '.join((*ROI_FILES, *LABEL_FILES))}",
        )
    return [_import_one(project, file, how, base) for file in files]


def _import_one(project: Project, file: Path, how: How, base: str | None) -> Imported:
    """Save one file of a folder; what is wrong with it is its own."""
    try:
        if _beside(file).is_file() and not _is_edited(file):
            said = "not changed since it was written; name the file itself to save it as looked at"
            return Imported("", file.name, said=(said,))
        return _import_file(project, file, how, None, base)
    except OpsefError as error:
        return Imported("", file.name, error=error)
    except OSError as error:
        return Imported("", file.name, error=OpsefError(f"{file}: {error}"))


def _import_file(
    project: Project, file: Path, how: How, image: str | None, base: str | None
) -> Imported:
    if not file.is_file():
        raise NotFoundError(f"there is no file {file}", hint="Name a ROI zip or a label image")
    if file.suffix.lower() not in (*ROI_FILES, *LABEL_FILES):
        raise InputError(
            f"{file.name} is no ROI zip and no label image",
            hint=f"Files end in {', '.join((*ROI_FILES, *LABEL_FILES))}",
        )
    record = _record_of(file)
    entry = _image_of(project, file, image, record)
    told, blind = base_of_record(project, record)
    if base:
        told, blind = base_of_text(project, base), False
    if not (image and base):
        check_picture(entry, record)
    with tempfile.TemporaryDirectory() as folder:
        # A copy: whoever saves in ImageJ at this moment must not have that taken for imported.
        copy = Path(folder) / file.name
        shutil.copyfile(file, copy)
        sha256 = file_sha256(copy)
        objects, notes, kind = _read(project, entry, copy, file)
        saved = save_objects(
            project,
            entry,
            objects,
            how,
            base=told,
            source=Source(file=file.name, sha256=sha256, kind=kind),
            received=copy,
            notes=notes,
            blind=blind,
            keep_classes=kind == "labels",
        )
    if record and saved.now is not None:
        try:
            write_json(_beside(file), after_import(record, saved) | {"sha256": sha256})
        except OSError as error:
            notes = [*notes, f"{_beside(file).name} could not be brought up to date ({error})"]
    return Imported(entry.id, file.name, saved, said=tuple(notes))


def _read(
    project: Project, entry: ImageEntry, copy: Path, file: Path
) -> tuple[Objects, list[str], str]:
    """Return the objects of a copy of a file, what was noticed, and its kind."""
    if file.suffix.lower() not in ROI_FILES:
        return Objects(read_labels(copy)), [], "labels"
    beside = sidecar_path(file)
    sidecar = beside if beside.is_file() else False
    objects, seen, _ = read_roi_set(copy, image_shape(project, entry), sidecar=sidecar)
    return objects, seen.lines(), "imagej-zip"


def _image_of(
    project: Project, file: Path, image: str | None, record: dict[str, Any]
) -> ImageEntry:
    """Return the image that a file belongs to, by what was said, its JSON, or its name."""
    told = record.get("image")
    if image and told and image != told:
        raise InputError(
            f"{file.name} was exported from {told}, not from {image}",
            hint=f"Leave --image out; or, if it really is of {image}, copy the file alone, "
            "without its JSON, to another folder",
        )
    if image or told:
        return project.image(image or told)
    stem = re.sub(r"_ROIs(_[0-9]+)?$", "", file.stem)
    fitting = [e for e in project.images() if stem in (e.id, Path(e.source).stem)]
    if len(fitting) != 1:
        raise InputError(
            f"{file.name} fits {len(fitting)} images of the project",
            hint="Say which one: --image ID; `opsef images list` shows them",
        )
    return fitting[0]


def clear_objects(project: Project, image: str, how: How, *, base: str | None = None) -> Imported:
    """Save that an image has no object: a revision too. (A missing file says nothing.)"""
    entry = project.image(image)
    head = History(project, image).head()
    told = base_of_text(project, base) if base else Base(revision=head.id) if head else None
    nothing = Objects(np.zeros(image_shape(project, entry), np.int32))
    digest = hashlib.sha256(f"empty {told}".encode()).hexdigest()
    source = Source(file="", sha256=digest, kind="empty")
    saved: Saved = save_objects(project, entry, nothing, how, base=told, source=source)
    return Imported(image, "", saved)
