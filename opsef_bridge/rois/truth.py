"""Truth: what a person vouches for of the objects of an image, in its files.

A revision is what somebody saved, whether checked or not. It becomes truth only where its
author says so, by a claim (see `opsef_bridge.rois.claims`).

Truth is kept in three files: ``truth/<image>.json`` with the claims, and, made from them,
``<image>.tif`` (labels) and ``<image>.known.tif`` (1 where every pixel is vouched for).
The claims and the revisions are what counts: labels that are missing, or that somebody
changed, are made again from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.errors import InputError, NotFoundError, ProjectError
from opsef_bridge.files import file_sha256, lock, read_json, write_json
from opsef_bridge.images import read_labels, write_labels
from opsef_bridge.measure.changes import present
from opsef_bridge.project import Project
from opsef_bridge.rois.claims import (
    Box,
    Effect,
    Scope,
    Touched,
    Truth,
    Whole,
    fold,
    parse_scope,
)
from opsef_bridge.rois.revisions import Base, History, Revision

__all__ = [
    "Box",
    "Effect",
    "Scope",
    "Touched",
    "Truth",
    "Whole",
    "add_truth",
    "fold",
    "list_truth",
    "parse_scope",
    "read_truth",
]


def add_truth(
    project: Project, image: str, revision_id: str, scope: Scope, *, author: str
) -> dict[str, Any]:
    """Vouch for a revision of an image where `scope` says; see `fold` for what it does.

    The same claim of the same author again, where nothing would change, is not recorded
    again; that of somebody else is.

    Parameters
    ----------
    project : Project
    image, revision_id : str
        Ids of the image and its revision.
    scope : Whole, Box or Touched
        See `parse_scope`.
    author : str
        Who vouches.

    Returns
    -------
    dict
        The record of the image's truth as written, and besides ``new``: whether this claim
        is its last one, or was there before.

    Raises
    ------
    NotFoundError
        There is no such image or revision.
    InputError
        There is no author, or `fold` refuses.
    LockedError
        Somebody else adds to it in this moment.
    """
    author = author.strip()
    if not author:
        raise InputError("nobody vouches for it", hint="Give the name of the author")
    entry = project.image(image)
    history = History(project, image)
    with lock(project.truth_folder / f".{image}.lock"):
        revision = history.get(revision_id)
        objects = history.objects(revision_id)
        if isinstance(scope, Box):
            scope = scope.clipped(objects.labels.shape)
        before = _read(project, image)
        truth, effect = fold(before, objects, scope, revision.changes)
        claim = _claim(history, revision, scope, author, effect)
        claims = list(before.record["claims"]) if before else []
        if before and before.same_as(truth) and any(_equal(claim, one) for one in claims):
            return {**before.record, "new": False}
        file = project.truth_file(image)
        known = truth.known.astype(np.uint8)
        for path, labels in zip(_pictures(file), (truth.labels, known), strict=True):
            told = entry.info_text()
            write_labels(path, labels, spacing=entry.spacing, unit=entry.unit, info=told)
        record = _record(image, truth, [*claims, claim], file)
        write_json(file, record)
    return {**record, "new": True}


def _claim(
    history: History, revision: Revision, scope: Scope, author: str, effect: Effect
) -> dict[str, Any]:
    """Return what is recorded of a claim."""
    origin = _origin(history, revision)
    box = [scope.y, scope.x, scope.height, scope.width] if isinstance(scope, Box) else None
    return {
        "scope": "box" if box else str(scope),
        "box": box,
        "revision": revision.id,
        "author": author,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "blind": revision.blind,
        "run": origin.run,
        "variant": origin.variant,
        "objects": len(effect.vouched),
        "ids": None if isinstance(scope, Whole) else effect.vouched,
        "reaching_out": effect.reaching_out,
        "removed": effect.removed,
        "withdrawn": effect.withdrawn,
    }


def _origin(history: History, revision: Revision) -> Base:
    """Follow the chain to what the first revision in it was made from."""
    base = revision.base
    while base.revision is not None:
        base = history.get(base.revision).base
    return base


def _equal(claim: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether the same author vouches for the same."""
    return all(claim[key] == other[key] for key in ("scope", "box", "revision", "author"))


def _record(image: str, truth: Truth, claims: list[dict[str, Any]], file: Path) -> dict[str, Any]:
    labels, known = _pictures(file)
    return {
        "image": image,
        "shape": list(truth.labels.shape),
        "objects": len(present(truth.labels)),
        "one_by_one": len(truth.objects),
        "known_pixels": int(np.count_nonzero(truth.known)),
        "classes": {str(id_): number for id_, number in truth.classes.items()},
        "claims": claims,
        "labels_sha256": file_sha256(labels),
        "known_sha256": file_sha256(known),
    }


def read_truth(project: Project, image: str) -> Truth:
    """Return what is vouched for of an image.

    Raises
    ------
    NotFoundError
        Nothing is.
    ProjectError
        The record cannot be understood.
    RoiError
        The labels must be made again, and a revision was changed since it was saved.
    """
    truth = _read(project, image)
    if truth is None:
        raise NotFoundError(
            f"nobody has vouched for objects of image {image!r}",
            hint="`opsef truth add` makes a revision true, where its author says so; "
            "`opsef truth list` shows what there is",
        )
    return truth


def list_truth(project: Project) -> list[dict[str, Any]]:
    """Return the records of all images that have truth, by image.

    Raises
    ------
    ProjectError
        A record cannot be understood.
    """
    files = sorted(project.truth_folder.glob("*.json"))
    return [_read_record(file) for file in files if not file.name.endswith(".answers.json")]


def _read(project: Project, image: str) -> Truth | None:
    """Read truth from its files, or fold its claims again where these are not as written."""
    try:
        file = project.truth_file(image)
    except ValueError as error:
        raise NotFoundError(str(error)) from None
    if not file.is_file():
        return None
    record = _read_record(file)
    labels, known = _pictures(file)
    if _is(labels, record["labels_sha256"]) and _is(known, record["known_sha256"]):
        classes = {int(id_): number for id_, number in record["classes"].items()}
        return Truth(read_labels(labels), classes, read_labels(known) > 0, record)
    history, truth = History(project, image), None
    for claim in record["claims"]:
        id_ = claim["revision"]
        scope = Box(*claim["box"]) if claim["box"] else parse_scope(claim["scope"])
        truth, _ = fold(truth, history.objects(id_), scope, history.get(id_).changes)
    return None if truth is None else Truth(truth.labels, truth.classes, truth.known, record)


def _read_record(file: Path) -> dict[str, Any]:
    """Read a record, and check that it has what the rest relies on."""
    needed = {"image", "classes", "claims", "labels_sha256", "known_sha256"}
    try:
        record = read_json(file)
        missing = needed - record.keys()
    except (ValueError, AttributeError) as error:
        raise _damaged(file, str(error)) from None
    if missing:
        raise _damaged(file, f"it has no {', '.join(sorted(missing))}")
    return record


def _damaged(file: Path, why: str) -> ProjectError:
    return ProjectError(
        f"{file} cannot be understood ({why})",
        hint="Correct it, or move it away and vouch for the revisions again: opsef truth add",
    )


def _pictures(file: Path) -> tuple[Path, Path]:
    """Return the paths of labels and mask beside a record."""
    return file.with_suffix(".tif"), file.with_suffix(".known.tif")


def _is(file: Path, sha256: str) -> bool:
    return file.is_file() and file_sha256(file) == sha256
