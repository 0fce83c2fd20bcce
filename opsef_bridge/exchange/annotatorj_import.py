"""``opsef annotatorj import``: what AnnotatorJ left of an export becomes revisions.

Two things make this more than reading files. What was imported before is no news, though it
still lies there: taken again it would undo what came after. And AnnotatorJ gives other numbers
and may mix up images, so objects are told by their pixels.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from opsef_bridge.errors import NotFoundError, OpsefError, RoiError
from opsef_bridge.exchange.saving import (
    How,
    Imported,
    after_import,
    base_of_record,
    check_picture,
    newest,
    save_objects,
)
from opsef_bridge.exchange.sources import (
    base_subject,
    exchange_folder,
)
from opsef_bridge.files import file_sha256, read_json, write_json
from opsef_bridge.project import Project
from opsef_bridge.rois.annotatorj import (
    as_written,
    find_annotations,
    passed_over,
    read_annotation,
)
from opsef_bridge.rois.merging import identify
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.revisions import Base, History, Saved, Source
from opsef_bridge.rois.run_contents import MANIFEST
from opsef_bridge.rois.run_folder import Returned, read_run_folder
from opsef_bridge.rois.sets import sidecar_path

__all__ = ["import_annotatorj"]


@dataclass(frozen=True)
class Piece:
    """One plane that came back: of which image and plane, its objects, the file, what to know.

    `files` are all that AnnotatorJ left of it, with their sha256 as they were read.
    """

    record: Mapping[str, Any]
    objects: Objects
    file: Path
    notes: tuple[str, ...]
    files: Mapping[Path, str]


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
    folder = exchange_folder(project, name)
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
            Piece(
                newest(one.record, _sidecar_of(one.files)),
                one.objects,
                one.source,
                (*one.differences, *one.notes, *_choice(one, prefer)),
                one.files,
            )
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
            _note_import(folder / MANIFEST, mine, one.saved)
        done.append(one)
    return done, said


def _choice(one: Returned, prefer: str) -> list[str]:
    """Say how to take the other of two answers that differ."""
    if one.differences and one.how == prefer == "mask":
        return ["the mask was taken; --prefer zip takes the zip"]
    return []


def _sidecar_of(files: Mapping[Path, str]) -> Mapping[str, Any]:
    """Return the JSON beside the zip among the files; empty where there is none."""
    for file in files:
        beside = sidecar_path(file)
        if file.suffix == ".zip" and beside.is_file():
            try:
                told = read_json(beside)
            except ValueError:
                return {}
            return told if isinstance(told, dict) and "plane" in told else {}
    return {}


def _note_import(manifest: Path, pieces: Sequence[Piece], saved: Saved) -> None:
    """Write down what the files in the folder are now: forms of a revision, and no news."""
    told = read_json(manifest)
    known = [sha256 for piece in pieces for sha256 in piece.files.values()]
    for item in told["items"].values():
        if item["record"]["image"] == pieces[0].record["image"]:
            item["record"] = after_import({**item["record"], **_base_of(pieces[0].record)}, saved)
            if saved.now is not None:
                item["imported"] = sorted({*item.get("imported", ()), *known})
    write_json(manifest, told)


def _base_of(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key in ("revision", "own")}


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
        told = manifest[stem]
        sha256 = file_sha256(path)
        if as_written(path) or sha256 in told.get("imported", ()):
            said.append(f"{place}/{path.name} is as it was exported or imported: nothing to import")
            continue
        objects, notes, sidecar = read_annotation(path, tuple(told["shape"]))
        record = newest(told["record"], sidecar if "plane" in sidecar else {})
        pieces.append(Piece(record, objects, path, tuple(notes.lines()), {path: sha256}))
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
    check_picture(entry, record)
    source = Source(file=pieces[0].file.name, sha256=_content(objects, base), kind="annotatorj")
    with tempfile.TemporaryDirectory() as folder:
        saved = save_objects(
            project,
            entry,
            objects,
            how,
            base=base,
            source=source,
            received=_bundle(Path(folder) / "received.zip", pieces),
            notes=notes,
            blind=blind,
        )
    return Imported(image, pieces[0].file.name, saved, said=tuple(notes))


def _bundle(path: Path, pieces: Sequence[Piece]) -> Path:
    """Put all files that AnnotatorJ left of an image into one zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in {file: None for piece in pieces for file in piece.files}:
            archive.write(file, f"{file.parent.name}/{file.name}")
    return path


def _as_exported(project: Project, image: str, base: Base) -> Objects:
    """Return the objects that went out."""
    if base.revision:
        history = History(project, image)
        return history.own(base.revision) if base.own else history.objects(base.revision)
    # `save_objects` makes the same remarks.
    found = base_subject(project, project.image(image), base, lambda said: None)
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
        # Which is which is decided by pixels: AnnotatorJ gives other numbers. What is new in
        # two planes is two objects, whatever their numbers.
        part = identify(Objects(volume.labels[plane]), piece.objects, after=fresh)
        fresh = max([fresh, *part.ids])
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
