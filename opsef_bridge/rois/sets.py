"""The ROIs of one image as a file pair: the zip for ImageJ, the JSON for programs."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from roifile import ImagejRoi

from opsef_bridge.errors import InputError, RoiError
from opsef_bridge.files import atomic_path, file_sha256, read_json, write_json
from opsef_bridge.measure.changes import LARGEST_ID
from opsef_bridge.measure.trace import trace_rois
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.painting import Notes, paint
from opsef_bridge.rois.palette import stroke_of
from opsef_bridge.rois.zips import read_rois, write_rois

__all__ = [
    "BASE_KEYS",
    "EditedError",
    "read_roi_set",
    "read_sidecar",
    "sidecar_path",
    "write_roi_set",
]


BASE_KEYS = ("revision", "run", "variant", "blind")
"""Entries of the JSON that say what the objects were made from."""


class EditedError(RoiError):
    """A zip that would be written over holds what a person did, and that is nowhere else."""

    code = "edited-rois"


def write_roi_set(
    path: str | os.PathLike[str],
    labels: ArrayLike | Objects,
    *,
    offset: tuple[int, int] = (0, 0),
    hyperstack: bool = False,
    info: Mapping[str, Any] | None = None,
    consecutive: bool = False,
    class_names: Mapping[int, str] | None = None,
    overwrite: bool = False,
) -> bool:
    """Write objects as a ROI zip, with a JSON of the same name beside.

    Classes become groups, with the colours of `opsef_bridge.rois.palette`. The JSON maps
    each ROI's name to its label and class (``null``: not classified), and holds `info`, the
    shape of the labels, `offset`, and the ``sha256`` of the zip: by that an edit is seen.
    Without objects neither file is written, and what an earlier run left there is removed:
    ImageJ cannot open an empty zip.

    Parameters
    ----------
    path : path-like
        The zip, by convention ``<image>_ROIs.zip``.
    labels : ([Z,] Y, X) array_like of integer or bool, or Objects
        Label image, 0 is background. Of a volume an object has one ROI per plane.
    offset : (int, int)
        Row and column of the first pixel in the source image; not zero for a crop.
    hyperstack : bool
        Whether a source of volumes has channels or time points besides planes.
    info : mapping
        What else the JSON shall say, such as image and variant.
    consecutive : bool
        Name the objects 0001, 0002, ... without gaps, as AnnotatorJ needs it. Their labels
        are in the JSON and in the property ``label`` of each ROI.
    class_names : mapping of int to str
        Names of classes, for the JSON.
    overwrite : bool
        Whether to write over a zip that was edited.

    Returns
    -------
    bool
        Whether there was an object, and so a file.

    Raises
    ------
    EditedError
        A zip is there that is not the one its JSON tells of, or that has no JSON: a person
        changed or made it; or it was made from something else than `info` says, such as the
        revision that an edit of it has become. Nothing is written.
    InputError, RoiError
        As `opsef_bridge.measure.trace.trace_rois`.
    """
    path = Path(path)
    given = isinstance(labels, Objects)
    array, classes = (labels.labels, labels.classes) if given else (labels, {})
    rois = trace_rois(array, offset=offset, hyperstack=hyperstack)
    if not overwrite:
        _refuse_other(path, info or {})
    if not rois:
        if not overwrite:
            _refuse_edited(path)
        path.unlink(missing_ok=True)
        sidecar_path(path).unlink(missing_ok=True)
        return False
    table = dict(_dress(rois, classes, consecutive, class_names or {}))
    with atomic_path(path) as partial:
        write_rois(partial, rois)
        sha256 = file_sha256(partial)
        if not overwrite:
            _refuse_edited(path, sha256)
    record = {
        **(info or {}),
        "shape": list(np.shape(array)),
        "offset": [int(start) for start in offset],
        "sha256": sha256,
        "rois": table,
    }
    write_json(sidecar_path(path), record)
    return True


def _dress(
    rois: list[ImagejRoi],
    classes: Mapping[int, int],
    consecutive: bool,
    class_names: Mapping[int, str],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give ROIs groups, colours and final names; yield what the JSON says of each."""
    place = 0
    last = None
    for roi in rois:  # in ascending order of label
        text, dash, plane = roi.name.partition("-")
        label = int(text)
        if label != last:
            place, last = place + 1, label
        if consecutive:
            roi.name = f"{place:04d}{dash}{plane}"
            roi.properties = {"label": label}
        number = classes.get(label)
        entry = {"label": label, "class": number}
        if number:
            roi.group, roi.stroke_color = number, stroke_of(number)
            if number in class_names:
                entry["class_name"] = class_names[number]
        yield roi.name, entry


def _refuse_other(path: Path, info: Mapping[str, Any]) -> None:
    """Refuse to replace a zip that was made from something else than `info` says.

    It may be open in ImageJ; saved over the new one, it would be taken for an edit of that.
    """
    try:
        told = _sidecar(sidecar_path(path)) if path.exists() else {}
    except (RoiError, FileNotFoundError):
        return
    for key in BASE_KEYS:
        if told.get(key) is not None and told[key] != info.get(key):
            raise EditedError(
                f"{path} was made from {key} {told[key]}, and may be open in ImageJ",
                hint="Write to another folder (opsef rois export --to DIR), or move it away",
            )


def _refuse_edited(path: Path, sha256: str = "") -> None:
    """Refuse to replace a zip that a person made or changed.

    A zip that already is what would be written (`sha256`) may only lack its JSON, where
    writing was cut off between the two files.
    """
    if not path.exists():
        return
    written = _written_sha256(sidecar_path(path))
    if written is None or file_sha256(path) in (written, sha256):
        return
    what = "was edited since it was written" if written else "was not written by this program"
    raise EditedError(
        f"{path} {what}",
        hint=f"Keep what it holds with `opsef rois import {shlex.quote(str(path))}`, or move the "
        "file away; then run the command again",
    )


def _written_sha256(path: Path) -> str | None:
    """Return the checksum that a JSON has of its zip; "" if it is none of ours.

    None where it is from before checksums were kept: then an edit could not be told.
    """
    try:
        record = _sidecar(path)
    except (RoiError, FileNotFoundError):
        return ""
    return record.get("sha256") if "rois" in record else ""


def read_roi_set(
    path: str | os.PathLike[str],
    shape: tuple[int, ...] | None = None,
    *,
    sidecar: bool | str | os.PathLike[str] = True,
) -> tuple[Objects, Notes, dict[str, Any]]:
    """Read the objects of a ROI zip that anybody may have edited.

    Parameters
    ----------
    path : path-like
        A zip, or a ``.roi`` file.
    shape : ([int,] int, int), optional
        (Planes,) rows and columns of the whole image. By default what the JSON says: its
        ``source_shape``, else the shape and offset of the labels that were written, which
        together reach as far as those did.
    sidecar : bool or path-like
        Whether to use the JSON beside the zip, where there is one; or which other.

    Returns
    -------
    Objects
        Labels of the whole image, and classes. Where the JSON says which label a ROI had,
        that is its id (see `opsef_bridge.rois.painting.paint`).
    Notes
        What was not as it should be.
    dict
        The JSON; empty where there is none.

    Raises
    ------
    RoiError
        As `opsef_bridge.rois.zips.read_rois` and `opsef_bridge.rois.painting.paint`, or the
        JSON is damaged.
    InputError
        `shape` is not given and there is no JSON to take it from.
    FileNotFoundError
        There is no such zip, or no such JSON.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "cells_ROIs.zip"
    >>> write_roi_set(path, Objects(np.array([[0, 7], [9, 9]]), {9: 2}), consecutive=True)
    True
    >>> objects, notes, record = read_roi_set(path)
    >>> objects.labels.tolist(), objects.classes, list(record["rois"])
    ([[0, 7], [9, 9]], {9: 2}, ['0001', '0002'])
    """
    path = Path(path)
    rois = read_rois(path)
    beside = sidecar_path(path) if isinstance(sidecar, bool) else Path(sidecar)
    used = beside.exists() if sidecar is True else sidecar is not False
    record = _sidecar(beside) if used else {}
    ids = _ids(record, beside) if "rois" in record else None
    objects, notes = paint(rois, shape or _source_shape(record, path), ids=ids)
    return objects, notes, record


def _sidecar(path: Path) -> dict[str, Any]:
    """Read a JSON beside a zip, which must be an object."""
    try:
        record = read_json(path)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(record, dict):
        raise _damaged(path, "it holds no object")
    return record


def _damaged(path: Path, why: str) -> RoiError:
    return RoiError(
        f"{path.name} is not the JSON of a ROI zip, or is damaged ({why})",
        hint="Move it away: the zip alone can be read too, with the names of its ROIs as ids",
    )


def _ids(record: Mapping[str, Any], path: Path) -> dict[str, int]:
    """Return the label of each ROI by name, as a JSON has them."""
    try:
        ids = {name: entry["label"] for name, entry in record["rois"].items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise _damaged(path, "its ROIs have no labels") from error
    if not all(type(label) is int and 1 <= label <= LARGEST_ID for label in ids.values()):
        raise _damaged(path, f"labels are integers from 1 to {LARGEST_ID}")
    return ids


def _source_shape(record: Mapping[str, Any], path: Path) -> tuple[int, ...]:
    """Return the shape of the image that the JSON of a zip tells of."""
    shape, offset = record.get("source_shape"), (0, 0)
    if shape is None:
        shape, offset = record.get("shape"), record.get("offset", (0, 0))
    if shape is None:
        raise InputError(
            f"how large the image of {path.name} is, is not known",
            hint="Name its rows and columns, or the image",
        )
    try:
        *planes, rows, columns = (int(size) for size in shape)
        y, x = (int(start) for start in offset)
    except (TypeError, ValueError) as error:
        raise _damaged(sidecar_path(path), f"shape {shape}, offset {offset}") from error
    return (*planes, y + rows, x + columns)


def sidecar_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of the JSON that belongs to a ROI zip.

    Examples
    --------
    >>> sidecar_path("rois/cell_ROIs.zip").as_posix()
    'rois/cell_ROIs.json'
    """
    return Path(path).with_suffix(".json")


def read_sidecar(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the JSON that belongs to the ROI zip `path`."""
    return read_json(sidecar_path(path))
