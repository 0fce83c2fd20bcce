"""OpSeF run folders for AnnotatorJ: pictures, masks and ROIs of many images, there and back.

AnnotatorJ's import of an OpSeF run opens a list in ``10_ImportExport`` as one stack. The
folder written here avoids what breaks it: a list per image size, no images without objects,
no root line, every file in place. `read_run_folder` is the way back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from opsef_bridge.errors import InputError, RoiError
from opsef_bridge.files import atomic_folder, atomic_path, file_sha256, write_json, write_text
from opsef_bridge.rois.annotatorj import check_objects
from opsef_bridge.rois.file_pairs import (
    FOLDERS,
    LISTS,
    MASKS,
    PICTURES,
    ROIS,
    Pair,
    pairs_text,
)
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.run_contents import MANIFEST, VERSION
from opsef_bridge.rois.run_return import Returned, read_run_folder
from opsef_bridge.rois.sets import write_roi_set

__all__ = ["Item", "Returned", "Written", "read_run_folder", "write_run_folder"]

_SAFE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


@dataclass(frozen=True)
class Item:
    """One image for AnnotatorJ.

    Attributes
    ----------
    key : str
        Its name, such as an id; letters, digits, ``-``, ``_`` and dots.
    picture : (Y, X) uint8 or uint16 ndarray
        What the person sees.
    objects : Objects
        Of the same shape.
    record : mapping
        What shall come back with the objects, such as image, plane and base; JSON values.
    spacing : mapping
        Pixel size along Y and X in `unit`, where it is known. Run folders do not have it: their
        pictures are of the plain kind that AnnotatorJ was seen to import.
    unit : str
    """

    key: str
    picture: NDArray[Any]
    objects: Objects
    record: Mapping[str, Any] = field(default_factory=dict)
    spacing: Mapping[str, float] = field(default_factory=dict)
    unit: str = "pixel"


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes
    ----------
    folder : Path
    lists : list of Path
        To be opened in AnnotatorJ one after the other; one per image size.
    left_out : list of str
        Keys of the images without objects.
    notes : list of str
        Sentences for the person.
    """

    folder: Path
    lists: list[Path]
    left_out: list[str]
    notes: list[str]


def write_run_folder(
    folder: str | os.PathLike[str],
    items: Iterable[Item],
    *,
    name: str,
    class_names: Mapping[int, str] = {},
) -> Written:
    """Write pictures, masks, ROIs and lists for AnnotatorJ's import of an OpSeF run.

    Masks are numbered from 1 without gaps; the ids come back by ``opsef.json`` and by each
    ROI's property ``label``. Classes go as groups of the ROIs. The folder appears whole or
    not at all.

    Parameters
    ----------
    folder : path-like
        Must not exist, or be empty.
    items : iterable of Item
        Taken one at a time.
    name : str
        Part of the names of the lists; letters, digits, ``-``, ``_`` and dots.
    class_names : mapping of int to str
        Names of classes, for the record.

    Returns
    -------
    Written

    Raises
    ------
    RoiError
        The folder holds something; no image has an object; or objects are beyond AnnotatorJ
        (`opsef_bridge.rois.annotatorj.check_objects`).
    InputError
        A key is unfit or occurs twice; a picture is of another dtype or shape.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RoiError(
            f"{folder} holds something already, perhaps edits that were not brought in yet",
            hint="Import them (opsef annotatorj import), or choose another name",
        )
    _check_name(name)
    with atomic_folder(folder) as partial:
        written = _fill(partial, items, name, class_names)
    lists = [folder / LISTS / path for path in written.lists]
    return Written(folder, lists, written.left_out, written.notes)


def _fill(root: Path, items: Iterable[Item], name: str, class_names: Mapping[int, str]) -> Written:
    """Write everything into `root`; lists are returned as names."""
    for sub in FOLDERS:
        (root / sub).mkdir()
    manifest: dict[str, Any] = {}
    left_out: list[str] = []
    kinds: set[str] = set()
    stems: set[str] = set()
    for item in items:
        _check_item(item)
        stem = _stem(item.key)
        if stem.casefold() in stems:
            raise InputError(
                f"the key {item.key!r} is that of two images, or names the same files",
                hint="Give each image a key of its own",
            )
        stems.add(stem.casefold())
        if item.objects.ids:
            manifest[item.key] = _write_item(root, item, class_names)
            kinds.add(str(item.picture.dtype))
        else:
            left_out.append(item.key)
    if not manifest:
        raise RoiError(
            f"none of the {len(left_out)} images has an object, and AnnotatorJ cannot open "
            "images without",
            hint="Draw the first objects in ImageJ's ROI Manager, or choose other objects",
        )
    lists = _write_lists(root, name, manifest)
    notes = [f"{key} has no objects, so it is in no list" for key in left_out]
    if len(kinds) > 1:
        notes.append("Some pictures have 8 bits, others 16: AnnotatorJ shows all as the first")
    write_json(
        root / MANIFEST,
        {
            "version": VERSION,
            "layout": "opsef",
            "name": name,
            "class_names": {str(number): text for number, text in class_names.items()},
            "left_out": left_out,
            "items": manifest,
        },
    )
    write_text(root / LISTS / "README.txt", _readme(name, lists, left_out))
    return Written(root, [Path(one) for one in lists], left_out, notes)


def _write_item(root: Path, item: Item, class_names: Mapping[int, str]) -> dict[str, Any]:
    """Write the three files of an image, and return what the manifest says of it."""
    stem = _stem(item.key)
    mask_stem = f"000_OB_Mask_0_RGBInput_000_{stem}"
    picture, mask = f"{PICTURES}/8bitSum_{stem}.tif", f"{MASKS}/{mask_stem}.tif"
    rois = f"{ROIS}/{mask_stem}_ROIs.zip"
    ids = item.objects.ids
    numbers = item.objects.renumbered({label: k for k, label in enumerate(ids, 1)})
    _write_tiff(root / picture, item.picture)
    _write_tiff(root / mask, numbers.labels.astype(np.uint16))
    write_roi_set(
        root / rois, item.objects, info=item.record, consecutive=True, class_names=class_names
    )
    return {
        "record": dict(item.record),
        "picture": picture,
        "mask": mask,
        "zip": rois,
        "shape": list(item.picture.shape),
        "ids": ids,
        "classes": {str(label): number for label, number in item.objects.classes.items()},
        "mask_sha256": file_sha256(root / mask),
        "zip_sha256": file_sha256(root / rois),
    }


def _stem(key: str) -> str:
    """Return the part of the file names that stands for an image."""
    # AnnotatorJ names class masks by replacing _Mask_, so that must occur once.
    return re.sub("_(?=mask)", "-", key, flags=re.IGNORECASE)


def _write_tiff(path: Path, plane: NDArray[Any]) -> None:
    """Write a plain TIFF: the kind that AnnotatorJ's import was seen to read."""
    with atomic_path(path) as partial:
        tifffile.imwrite(partial, plane, photometric="minisblack", software=False)


def _write_lists(root: Path, name: str, manifest: Mapping[str, Any]) -> list[str]:
    """Write one list for each image size; AnnotatorJ cuts all images to the first one's."""
    pairs: dict[tuple[int, int], list[Pair]] = {}
    for told in manifest.values():
        pair = Pair(told["picture"], (told["mask"],))
        pairs.setdefault(tuple(told["shape"]), []).append(pair)
    names = []
    for (height, width), those in pairs.items():
        names.append(f"FilePairList_{name}_{height}x{width}.txt")
        write_text(root / LISTS / names[-1], pairs_text(those))
    return names


def _readme(name: str, lists: list[str], left_out: list[str]) -> str:
    """Return the note to the person who opens the folder."""
    lines = [
        "How to edit these objects in AnnotatorJ",
        "",
        "1. In ImageJ or Fiji: Plugins > AnnotatorJOpSef. Open a list of this folder:",
        *[f"     {file}" for file in lists],
        "   Each list has the images of one size. After one list is exported, open the next.",
        "2. Correct and classify. Use at most 8 classes.",
        "3. BEFORE Save and Export: turn the mouse wheel once, or switch class mode on.",
        "   AnnotatorJ forgets edits of the slice in view otherwise.",
        "4. Press Save, then Export ([^]).",
        f"5. Bring the objects in: opsef annotatorj import {name}",
        "",
        "Do not rename or move files here: opsef.json says what they are.",
        "An image all of whose objects you delete does not come back, since AnnotatorJ writes",
        "nothing for it. Import an empty label image for it instead (opsef rois import).",
    ]
    if left_out:
        lines += [
            "",
            "These images have no objects. AnnotatorJ cannot open them, so they are in no list:",
            *[f"     {key}" for key in left_out],
        ]
    return "\n".join(lines) + "\n"


def _check_name(name: str) -> None:
    if not _SAFE.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be the name of a file in a list",
            hint="Use letters, digits, '-', '_' and single dots",
        )


def _check_item(item: Item) -> None:
    _check_name(item.key)
    picture = item.picture
    if picture.ndim != 2 or picture.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"the picture of {item.key} is {picture.dtype} of shape {picture.shape}",
            hint="Give one plane of uint8 or uint16",
        )
    if picture.shape != item.objects.labels.shape:
        raise InputError(
            f"the picture of {item.key} has shape {picture.shape}, its objects "
            f"{item.objects.labels.shape}",
            hint="Give both for the same plane",
        )
    check_objects(item.objects)
