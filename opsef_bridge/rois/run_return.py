"""What AnnotatorJ left in an OpSeF run folder: masks (11_), ROIs (12_) and classes (13_)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.errors import InputError, NotFoundError, RoiError
from opsef_bridge.files import file_sha256
from opsef_bridge.images import read_labels
from opsef_bridge.rois.file_pairs import class_of, inside
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.painting import paint
from opsef_bridge.rois.run_contents import MANIFEST, Contents, Entry, read_contents
from opsef_bridge.rois.zip_and_mask import (
    compare,
    fingerprint,
    fitted,
    listing,
    off_target,
    with_classes_of,
    with_ids,
)
from opsef_bridge.rois.zips import read_rois

__all__ = ["MANIFEST", "Returned", "read_run_folder"]

MANY = 10
"""More images than these are named in one sentence."""

UNCHANGED = (
    "are as they went out; AnnotatorJ forgets edits of the slice in view unless the "
    "mouse wheel is turned once or class mode is on before Export"
)


@dataclass(frozen=True)
class Returned:
    """What came back of one image.

    Attributes
    ----------
    key : str
        That of the export; in a folder of another program the name of the picture.
    record : mapping
        That of the export, empty in a folder of another program.
    objects : Objects
        By the ids that went out; new objects have ids above them.
    source : Path
        The file that was taken.
    how : {"mask", "zip"}
    notes, differences : list of str
        What there is to know; and where zip and mask do not agree.
    files : dict of Path to str
        Every file of this image that AnnotatorJ left, with its sha256 as it was read.
    """

    key: str
    record: Mapping[str, Any]
    objects: Objects
    source: Path
    how: Literal["mask", "zip"]
    notes: list[str]
    differences: list[str]
    files: Mapping[Path, str] = field(default_factory=dict)


@dataclass
class _Found:
    """One image on its way: what lies there, and what is to be said.

    `prints` are the outlines that are known to be this image's: as exported, and of its mask.
    """

    entry: Entry
    mask_path: Path | None
    rois_path: Path | None
    saved: bool
    files: dict[Path, str] = field(default_factory=dict)
    absent: bool = False
    mask: Objects | None = None
    rois: Objects | None = None
    rois_print: str = ""
    rois_notes: list[str] = field(default_factory=list)
    off: int | None = None
    prints: set[str] = field(default_factory=set)
    said: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


def read_run_folder(
    folder: str | os.PathLike[str], *, prefer: Literal["mask", "zip"] = "mask"
) -> tuple[list[Returned], list[str]]:
    """Read what AnnotatorJ saved and exported in a run folder, whoever has made that.

    Where an image has a mask and a zip that differ, the mask is taken, because AnnotatorJ may
    leave the ROIs of another image in a zip. Where it has a zip only, that is taken, unless
    it looks like that of another image. Classes are those of the masks in 13_, else the
    groups of ROIs that have the pixels of the mask.

    The last ROI of a zip may have a wrong number (AnnotatorJ renames it);
    `opsef_bridge.rois.merging.identify` finds objects by their pixels.

    Parameters
    ----------
    folder : path-like
        With ``opsef.json`` (written by `write_run_folder`), or with lists of OpSeF.
    prefer : {"mask", "zip"}
        Which is taken where an image has both. With ``"zip"`` a zip that looks like that of
        another image is taken too.

    Returns
    -------
    list of Returned, list of str
        Images that came back; and sentences about those that did not, missing files, and
        lists that do not fit the files.

    Raises
    ------
    NotFoundError
        There is no such folder, or neither ``opsef.json`` nor a list is in it.
    RoiError, ImageError
        A file is damaged (the message names it), or a path leads out of the folder.
    """
    root = Path(folder)
    if prefer not in ("mask", "zip"):
        raise InputError(f"{prefer!r} cannot be preferred", hint="Choose 'mask' or 'zip'")
    if not root.is_dir():
        raise NotFoundError(f"{root} is no folder", hint="Name the folder that holds 00_InputRaw")
    contents = read_contents(root)
    found = [_find(contents, entry, prefer) for entry in contents.entries]
    owners: dict[str, list[str]] = {}
    for one in found:
        for outlines in one.prints:
            owners.setdefault(outlines, []).append(one.entry.key)
    returned = [_decide(one, owners, prefer) for one in found]
    said = [f"{one.entry.key}: {text}" for one in found for text in one.said]
    said = contents.said + _absent([one.entry.key for one in found if one.absent]) + said
    return [one for one in returned if one is not None], said


def _absent(keys: Sequence[str]) -> list[str]:
    """Say which images did not come back, in one sentence if they are many."""
    texts = [f"{key}: did not come back" for key in keys]
    if len(keys) > MANY:
        texts = [f"{len(keys)} images did not come back ({listing(keys, MANY)})"]
    return [
        f"{text}: there is no mask in 11_, and no zip that was saved. If you edited it, press "
        "Save and Export in AnnotatorJ"
        for text in texts
    ]


def _find(contents: Contents, entry: Entry, prefer: str) -> _Found:
    """Read the files of one image; of two answers one is kept, the other compared."""
    rois_path, mask_path = contents.zip_of(entry), contents.mask_of(entry)
    answers = [mask_path, *(contents.classes_of(entry)[0] or [])] if mask_path else []
    files = {path: file_sha256(path) for path in (*answers, rois_path) if path is not None}
    old = entry.imported
    saved = rois_path is not None and files[rois_path] not in {entry.zip_sha256, *old}
    one = _Found(entry, mask_path, rois_path, saved, files)
    if mask_path is not None and all(files[path] in old for path in answers):
        # What was imported once says nothing new; taken again it would undo what came after.
        one.mask_path = None
        one.said.append(
            "the mask is the one that was imported before; the zip was saved since then"
            if saved
            else "as it was imported before: nothing new"
        )
    one.absent = mask_path is None and not saved
    base = _exported(contents.root, one)
    if base is not None:
        one.prints.add(fingerprint(base.labels))
    if one.mask_path is not None:
        labels, classes = _read_mask(contents, one, base)
        if contents.left_out(entry):
            one.differences.append(
                "the mask is from an earlier export: the last one left this image out, as "
                "AnnotatorJ does if you deleted all its objects. Then import an empty label image"
            )
        if labels is not None:
            _read_zip(one, base, labels.shape)
            _settle_mask(one, labels, classes)
        elif prefer == "zip":
            _read_zip(one, base, None)
    elif saved:
        _read_zip(one, base, None)
    _keep(one, base, prefer)
    return one


def _exported(root: Path, one: _Found) -> Objects | None:
    """Return the objects that went out, without classes, if the files are still the same."""
    entry = one.entry
    paths = [inside(root, name) for name in entry.masks]
    if not paths or not all(path.is_file() for path in paths):
        return None
    if entry.mask_sha256 and file_sha256(paths[0]) != entry.mask_sha256:
        one.said.append(f"{entry.masks[0]} was changed since the export; it was not used")
        return None
    layers = [_plane(path) for path in paths]
    if len({layer.shape for layer in layers}) > 1:
        return None
    # The masks of a class list share one numbering and no pixel.
    labels = layers[0] if len(layers) == 1 else np.maximum.reduce(layers)
    return Objects(labels) if entry.ids is None else with_ids(Objects(labels), entry.ids)


def _plane(path: Path) -> NDArray[np.int32]:
    labels = read_labels(path)
    if labels.ndim != 2:
        raise RoiError(
            f"{path} is a stack of shape {labels.shape}, not the mask of one image",
            hint="Export again in AnnotatorJ, which writes one mask for each image",
        )
    return labels


def _read_mask(
    contents: Contents, one: _Found, base: Objects | None
) -> tuple[NDArray[np.int32] | None, dict[int, int] | None]:
    """Return the exported mask at the image's size, and the classes by its numbers."""
    assert one.mask_path is not None
    raw = _plane(one.mask_path)
    shape = one.entry.shape or (base.labels.shape if base else raw.shape)
    labels, note = fitted(raw, shape, base)
    if labels is None:
        one.said.append(
            f"{note}; the mask was not taken. AnnotatorJ cuts images to the size of the first "
            "one of their list: use one list for each size, or take the zip if that was saved"
        )
        return None, None
    if note:
        one.notes.append(note)
    return labels, _classes(contents, one, raw, set(Objects(labels).ids))


def _classes(
    contents: Contents, one: _Found, mask: NDArray[np.int32], there: set[int]
) -> dict[int, int] | None:
    """Return the classes that the masks in 13_ give; None if nothing is known of any."""
    paths, passed = contents.classes_of(one.entry)
    one.notes += passed
    if paths is None:
        return None
    found: dict[int, set[int]] = {}
    for path in paths:
        part = _plane(path)
        common = tuple(slice(min(sizes)) for sizes in zip(part.shape, mask.shape, strict=True))
        same = part[common][part[common] == mask[common]]
        for label in set(np.unique(same).tolist()) & there:
            found.setdefault(label, set()).add(class_of(path.name))
    twice = sorted(label for label, numbers in found.items() if len(numbers) > 1)
    if twice:
        one.notes.append(
            f"numbers {listing(twice)} of the mask are in two classes in 13_ (one may be left from "
            "an earlier export); they have no class now"
        )
    return {label: numbers.pop() for label, numbers in found.items() if len(numbers) == 1}


def _read_zip(one: _Found, base: Objects | None, shape: tuple[int, ...] | None) -> None:
    """Paint the zip of an image, if it has one, into `one`."""
    entry = one.entry
    if one.rois_path is None:
        return
    shape = entry.shape or (base.labels.shape if base else shape)
    if shape is None:
        one.said.append(f"{one.rois_path.name} was not taken: the size of the image is not known")
        return
    ids = None
    if entry.ids is not None:
        ids = {f"{number:04d}": label for number, label in enumerate(entry.ids, 1)}
    one.rois, notes = paint(read_rois(one.rois_path), tuple(shape), ids=ids)
    one.rois_notes = notes.lines()
    one.rois_print = fingerprint(one.rois.labels)
    if base is not None:
        one.off = off_target(base, one.rois)


def _settle_mask(one: _Found, labels: NDArray[np.int32], classes: Mapping[int, int] | None) -> None:
    """Give the mask its ids and classes, and compare it with the zip."""
    mask = Objects(labels, classes or {})
    if one.entry.ids is not None:
        mask = with_ids(mask, one.entry.ids)
    if classes is None and one.rois is not None and one.rois.classes:
        mask, unknown = with_classes_of(mask, one.rois)
        one.notes.append("there are no class masks in 13_; the classes are those of the zip")
        if unknown:
            one.notes.append(
                f"objects {listing(unknown)} have no class: the zip has other pixels for them"
            )
    one.mask = mask
    one.prints.add(fingerprint(mask.labels))
    if one.rois is not None and one.saved:
        comparison = compare(mask, one.rois)
        one.differences += comparison.lines()
        if comparison.renamed:
            pairs = [f"{there} is {here}" for there, here in comparison.renamed.items()]
            one.notes.append(
                f"the zip has other numbers for the same objects ({listing(pairs, 5)} in the "
                "mask): AnnotatorJ renames the last ROI of a list"
            )


def _keep(one: _Found, base: Objects | None, prefer: str) -> None:
    """Keep one answer, since all images are held at once; say if it is as exported."""
    if not one.saved:
        one.rois = None
    if one.mask is not None and one.rois is not None:
        if prefer == "zip":
            one.mask = None
        else:
            one.rois = None
    elif one.mask is not None and prefer == "zip":
        one.notes.append("no zip was saved since the export, so the mask was taken")
    kept = one.mask or one.rois
    if kept is not None and base is not None:
        # Which classes went out is known of our own folders only.
        alike = one.entry.classes in (None, dict(kept.classes))
        if alike and np.array_equal(kept.labels, base.labels):
            what = "outlines" if one.entry.classes is None else "objects"
            one.notes.append(f"all {what} {UNCHANGED}")


def _decide(one: _Found, owners: Mapping[str, Sequence[str]], prefer: str) -> Returned | None:
    """Make the result of one image; a zip without a mask may turn out to be another's."""
    twins = [] if one.rois_print in one.prints else owners.get(one.rois_print, [])
    if twins and one.saved:
        one.differences.append(
            f"the zip of this image equals the objects of image {', '.join(twins)}"
        )
    if one.mask is not None:
        return _returned(one, one.mask, one.mask_path, "mask")
    if one.rois is None:
        return None
    if one.mask_path is None:
        count = len(one.rois.ids)
        if prefer != "zip" and (twins or (one.off is not None and 2 * one.off >= count)):
            where = f", and {one.off} of its {count} ROIs lie where this image had no object"
            one.said += one.differences
            one.said.append(
                f"{one.rois_path.name} was saved but not exported{where if one.off else ''}. "
                "It may hold the ROIs of another image (an error of AnnotatorJ) and was passed "
                "over. Export in AnnotatorJ, or look at it and take it by preferring zips"
            )
            return None
        one.notes.append("the objects were saved but not exported; the zip was taken")
    one.notes += one.rois_notes
    return _returned(one, one.rois, one.rois_path, "zip")


def _returned(one: _Found, objects: Objects, source: Path, how: Literal["mask", "zip"]) -> Returned:
    entry = one.entry
    return Returned(
        entry.key, entry.record, objects, source, how, one.notes, one.differences, one.files
    )
