"""AnnotatorJ's own files: one zip of ROIs per image, in a folder named after a class.

``<image folder>/<class folder>/<stem>_ROIs.zip``; the stem is the image's file name up to its
last dot. AnnotatorJ is a plugin of ImageJ (https://github.com/spreka/annotatorj). What it does
to the ROIs between Load and Save is behind most rules here: it names them 1, 2, 3 ... in their
order, pairs zips and images by a part of the name, has colours for eight classes, and saves to
the folder ``masks`` wherever they came from once classes were given.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from opsef_bridge.errors import InputError, RoiError
from opsef_bridge.files import file_sha256, read_json
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.painting import Notes
from opsef_bridge.rois.sets import read_roi_set, sidecar_path, write_roi_set

__all__ = [
    "MAX_CLASSES",
    "MAX_LABEL",
    "as_written",
    "check_objects",
    "check_stems",
    "find_annotations",
    "passed_over",
    "read_annotation",
    "write_annotation",
]

MAX_CLASSES = 8
"""AnnotatorJ's palette has colours for eight; the ninth class breaks Load half-way."""

MAX_LABEL = 65_535
"""AnnotatorJ's masks are 16-bit."""

_ZIP = re.compile(r"(?P<stem>.+)_ROIs(?:_(?P<number>[0-9]{1,9}))?\.zip", re.DOTALL)


def check_objects(objects: Objects) -> None:
    """Refuse objects that AnnotatorJ could not hold.

    Raises
    ------
    RoiError
        They are a volume, have more than eight classes or one above 8, or are more than
        65,535.

    Examples
    --------
    >>> import numpy as np
    >>> check_objects(Objects(np.array([[7, 9]]), {9: 8}))
    """
    if objects.labels.ndim != 2:
        raise RoiError(
            f"labels of shape {objects.labels.shape} are a volume; AnnotatorJ knows planes only",
            hint="Give one plane at a time, each as an image of its own",
        )
    classes = set(objects.classes.values())
    if classes and (max(classes) > MAX_CLASSES or len(classes) > MAX_CLASSES):
        raise RoiError(
            f"{len(classes)} classes, the largest is {max(classes)}; AnnotatorJ has colours for "
            f"classes 1 to {MAX_CLASSES}, and stops half-way at others",
            hint="Give the objects classes from 1 to 8, or export ImageJ zips "
            "(opsef rois export), which hold classes up to 255",
        )
    count = len(objects.ids)
    if count > MAX_LABEL:
        raise RoiError(
            f"{count} objects; AnnotatorJ's 16-bit masks hold {MAX_LABEL}",
            hint="Cut the image into tiles (images: tiles: in opsef.yaml), or export ImageJ zips "
            "(opsef rois export)",
        )


def check_stems(stems: Iterable[str]) -> None:
    """Refuse names of images between which AnnotatorJ could not tell.

    Its exporter takes the image whose name is a part of the zip's name: ``img_001`` would
    also get the zip of ``img_0010``.

    Raises
    ------
    InputError
        Two names are equal (but for capitals: some disks do not tell them apart), or one is
        a part of another.

    Examples
    --------
    >>> check_stems(["img_001", "img_010"])
    >>> check_stems(["img_001", "img_0010"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
     ...
    opsef_bridge.errors.InputError: ...
    """
    stems = list(stems)
    counts = Counter(stem.casefold() for stem in stems)
    twice = [stem for stem in stems if not stem or counts[stem.casefold()] > 1]
    if twice:
        raise InputError(
            f"the name {twice[0]!r} is empty, or that of two images",
            hint="Give each image a name of its own",
        )
    everything = "\0".join(stems)
    longest = max(map(len, stems), default=0)
    for stem in stems:
        if len(stem) < longest and everything.count(stem) > 1:
            other = next(other for other in stems if stem in other and other != stem)
            raise InputError(
                f"the name {stem!r} is a part of {other!r}, so AnnotatorJ would mix them up",
                hint="Use names of one length, such as img_0001 and img_0010",
            )


def write_annotation(
    image_folder: str | os.PathLike[str],
    class_folder: str,
    stem: str,
    objects: Objects,
    *,
    info: Mapping[str, Any] | None = None,
    class_names: Mapping[int, str] = {},
) -> Path | None:
    """Write the objects of an image as the zip that AnnotatorJ's Load takes.

    ROIs are named 0001 to N in the order of the ids, because AnnotatorJ would rename them
    so; the ids stay in each ROI's property ``label`` and in the JSON beside the zip.

    Parameters
    ----------
    image_folder : path-like
        Where the image lies.
    class_folder : str
        Folder in it; AnnotatorJ offers ``normal`` and ``cancerous`` unless it is told others.
    stem : str
        Name of the image's file without what follows the last dot.
    objects : Objects
        Of a plane, with at most eight classes.
    info, class_names
        As those of `opsef_bridge.rois.sets.write_roi_set`.

    Returns
    -------
    Path or None
        The zip; None and no file for no objects: AnnotatorJ cannot open an empty zip.

    Raises
    ------
    RoiError
        See `check_objects`; or a person has edited the zip that lies there.
    InputError
        `class_folder` or `stem` is no plain name.
    """
    for name in (class_folder, stem):
        if not name or name in (".", "..") or set(name) & set("/\\:\0"):
            raise InputError(
                f"{name!r} is no name of a file or folder",
                hint="Give one name without slashes, such as normal",
            )
    check_objects(objects)
    path = Path(image_folder) / class_folder / f"{stem}_ROIs.zip"
    written = write_roi_set(path, objects, info=info, consecutive=True, class_names=class_names)
    return path if written else None


def find_annotations(image_folder: str | os.PathLike[str]) -> list[tuple[str, str, Path]]:
    """List the zips in the class folders of an image folder, one for each image and folder.

    Where AnnotatorJ was told to rename instead of to overwrite (``<stem>_ROIs_1.zip``), the
    one with the highest number is taken. A zip that is still as it was written here is left
    out if another class folder has one of the same image: AnnotatorJ saves to ``masks`` what
    it loaded from elsewhere. `passed_over` says what was not taken.

    Returns
    -------
    list of (str, str, Path)
        Class folder, stem of the image and zip, sorted.
    """
    return _sorted_out(Path(image_folder))[0]


def passed_over(image_folder: str | os.PathLike[str]) -> list[str]:
    """Return a sentence for each zip that `find_annotations` does not take, and why."""
    return _sorted_out(Path(image_folder))[1]


def read_annotation(
    path: str | os.PathLike[str], shape: tuple[int, int]
) -> tuple[Objects, Notes, dict[str, Any]]:
    """Read a zip that AnnotatorJ saved, with the ids that its ROIs had before.

    The JSON with the ids is searched beside the zip, then for the same image in the other
    class folders (the newest is taken). Positions of ROIs do not matter, since AnnotatorJ
    stamps them at will.

    Parameters
    ----------
    path : path-like
        ``<image folder>/<class folder>/<stem>_ROIs.zip``, or such a name with a number.
    shape : (int, int)
        Rows and columns of the image.

    Returns
    -------
    Objects, Notes, dict
        The objects; what there is to say; the JSON, empty if there is none.

    Raises
    ------
    RoiError
        The zip is damaged or holds what is no area.
    """
    path = Path(path)
    if len(shape) != 2:
        raise InputError(
            f"an image of shape {tuple(shape)} for {path.name}",
            hint="AnnotatorJ's zips are of planes: give rows and columns",
        )
    return read_roi_set(path, tuple(shape), sidecar=_sidecar_of(path) or False)


def _sidecar_of(path: Path) -> Path | None:
    """Return the JSON that tells the ids of a zip, wherever AnnotatorJ has saved that."""
    if sidecar_path(path).is_file():
        return sidecar_path(path)
    parts = _ZIP.fullmatch(path.name)
    if parts is None:
        return None
    name = f"{parts['stem']}_ROIs.json"
    beside = path.with_name(name)
    if beside.is_file():
        return beside
    others = [folder / name for folder in _folders(path.absolute().parent.parent)]
    return max(
        (other for other in others if other.is_file()),
        key=lambda other: other.stat().st_mtime_ns,
        default=None,
    )


def _sorted_out(image_folder: Path) -> tuple[list[tuple[str, str, Path]], list[str]]:
    """Return the zips to take, and sentences about the others."""
    said: list[str] = []
    newest: dict[str, list[tuple[str, Path]]] = {}
    for folder in _folders(image_folder):
        for stem, paths in _saves(folder).items():
            *older, last = paths
            newest.setdefault(stem, []).append((folder.name, last))
            said += [
                f"{folder.name}/{path.name} was passed over: {last.name} was saved later"
                for path in older
            ]
    found = []
    for stem, those in newest.items():
        edited = [one for one in those if len(those) == 1 or not as_written(one[1])] or those
        found += [(folder, stem, path) for folder, path in edited]
        said += [
            f"{folder}/{path.name} was passed over: it is as it was exported, and "
            f"{' and '.join(other for other, _ in edited)} has a zip of the same image"
            for folder, path in those
            if (folder, path) not in edited
        ]
    return sorted(found), sorted(said)


def _folders(image_folder: Path) -> list[Path]:
    if not image_folder.is_dir():
        return []
    folders = (p for p in image_folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    return sorted(folders)


def _saves(folder: Path) -> dict[str, list[Path]]:
    """Return the zips of a class folder by stem, the one without a number first."""
    saves: dict[str, list[tuple[int, Path]]] = {}
    for path in folder.iterdir():
        parts = _ZIP.fullmatch(path.name)
        if parts and path.is_file() and not path.name.startswith("."):
            number = int(parts["number"] or 0)
            saves.setdefault(parts["stem"], []).append((number, path))
    return {stem: [path for _, path in sorted(those)] for stem, those in saves.items()}


def as_written(path: Path) -> bool:
    """Tell whether a zip still is what its JSON was written for."""
    try:
        told = read_json(sidecar_path(path)).get("sha256")
    except (OSError, json.JSONDecodeError, AttributeError, UnicodeDecodeError):
        return False
    return told == file_sha256(path)
