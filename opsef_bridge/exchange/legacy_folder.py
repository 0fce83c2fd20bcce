"""What lies in a run folder ``Processed_<run_ID>`` of the original OpSeF, by its names.

OpSeF writes one mask for each image, model, rescale factor and pipeline; a name says all of
them: ``000_CP_Mask_0.4_RGBInput_000_<image>.tif``. Of each image one mask is taken.
"""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from opsef_bridge.errors import ImageError, InputError
from opsef_bridge.images import image_info, read_labels
from opsef_bridge.rois.file_pairs import (
    CLASSES,
    FOLDERS,
    FROM_FIJI,
    LISTS,
    MASKS,
    PICTURES,
    RETURNED,
    ROIS,
    class_of,
    read_pairs,
    without_class,
)
from opsef_bridge.rois.objects import Objects

__all__ = [
    "CLASSIFIED",
    "MaskName",
    "Picture",
    "background_label",
    "choose_masks",
    "classified",
    "find_masks",
    "find_pictures",
    "was_edited",
]

CLASSIFIED = FOLDERS[7]
"""Where OpSeF itself puts the masks of its classes."""

_NAME = re.compile(r"(?P<variant>.+_Mask_.+?_RGBInput_\d+)_(?P<image>.+)\.tif")

KINDS = ("original", "Sum_", "8bitSum_")
"""Pictures of an image, best first: the file that OpSeF read, its sum, that sum in 8 bits."""

READABLE = ("uint8", "uint16", "float32")
"""Pixels that ImageJ reads too; OpSeF's sums of 8-bit images are 64 bits wide."""


@dataclass(frozen=True)
class MaskName:
    """What the name of a mask says.

    Examples
    --------
    >>> MaskName.of("000_CP_MaskClass02_0.4_RGBInput_001_leaf_7.tif")
    MaskName(name='000_CP_Mask_0.4_RGBInput_001_leaf_7.tif', \
variant='000_CP_Mask_0.4_RGBInput_001', image='leaf_7')
    """

    name: str
    variant: str
    image: str

    @classmethod
    def of(cls, name: str) -> MaskName | None:
        """Read a name, with or without a class; None where it is not one of OpSeF's."""
        plain = without_class(name)
        found = _NAME.fullmatch(plain)
        return cls(plain, found["variant"], found["image"]) if found else None


@dataclass(frozen=True)
class Picture:
    """The picture of an image that is taken.

    Attributes
    ----------
    file : Path
    kind : str
        One of `KINDS`.
    shape : (int, int)
    stack : bool
        Whether OpSeF had a stack of it.
    """

    file: Path
    kind: str
    shape: tuple[int, int]
    stack: bool


def was_edited(folder: Path) -> bool:
    """Whether AnnotatorJ has left something in a run folder."""
    lists = (folder / LISTS).glob(f"{FROM_FIJI}*.txt")
    files = (file for name in (RETURNED, ROIS, CLASSES) for file in (folder / name).glob("*.*"))
    return any(True for _ in lists) or any(True for _ in files)


def find_masks(folder: Path) -> list[MaskName]:
    """Return the masks that OpSeF or AnnotatorJ has left, without their classes, by name.

    Raises
    ------
    InputError
        There is none.
    """
    names = {
        file.name
        for place in (MASKS, CLASSIFIED, RETURNED)
        for file in (folder / place).glob("*.tif")
        if not file.name.startswith(".")
    }
    found = {mask.name: mask for mask in map(MaskName.of, names) if mask}
    if not found:
        raise InputError(
            f"{folder} has no masks of OpSeF in {MASKS}",
            hint="Name the folder Processed_<run_ID> that OpSeF wrote; its masks are called "
            "000_CP_Mask_0.4_RGBInput_000_<image>.tif",
        )
    return [found[name] for name in sorted(found)]


def choose_masks(
    masks: Iterable[MaskName], folder: Path, wanted: str | None = None
) -> dict[str, MaskName]:
    """Choose one mask for each image.

    What AnnotatorJ returned comes first, then what the lists of OpSeF pair.

    Parameters
    ----------
    masks : iterable of MaskName
    folder : Path
        The run folder, for its lists.
    wanted : str, optional
        Beginning of a name, or glob, that chooses.

    Returns
    -------
    dict of str to MaskName
        By image.

    Raises
    ------
    InputError
        Images have several masks and nothing says which; or `wanted` chooses none or several.
    """
    masks = list(masks)
    fitting = [mask for mask in masks if wanted is None or _fits(mask, wanted)]
    if not fitting:
        raise InputError(f"no mask is called {wanted!r}", hint=_choices(masks))
    by_image: dict[str, list[MaskName]] = {}
    for mask in fitting:
        by_image.setdefault(mask.image, []).append(mask)
    chosen = {image: those[0] for image, those in by_image.items() if len(those) == 1}
    open_ = {image: those for image, those in by_image.items() if len(those) > 1}
    if wanted is None:
        _settle(chosen, open_, folder)
    if open_:
        image, those = next(iter(open_.items()))
        raise InputError(
            f"{len(open_)} images have several masks ({image} has {len(those)})",
            hint=_choices(masks),
        )
    return chosen


def find_pictures(folder: Path) -> tuple[dict[str, Picture], list[str]]:
    """Return the best picture of each image of a run folder.

    Where possible all are of one kind: the files that OpSeF read (the folder ``tiff`` beside
    the run folder), if they are planes; its sums; or these in 8 bits.

    Returns
    -------
    dict of str to Picture, list of str
        By image; and sentences about what was taken and what not.
    """
    images: dict[str, dict[str, Path]] = {}
    for kind in KINDS[1:]:
        for file in sorted((folder / PICTURES).glob(f"{kind}*.tif")):
            images.setdefault(file.stem.removeprefix(kind), {})[kind] = file
    usable: dict[str, dict[str, Picture]] = {}
    for image, files in images.items():
        original = folder.parent / "tiff" / f"{image}.tif"
        usable[image] = _usable(({KINDS[0]: original} if original.is_file() else {}) | files)
    whole = [kind for kind in KINDS if all(kind in found for found in usable.values())]
    taken = {
        image: found[whole[0]] if whole else found[next(kind for kind in KINDS if kind in found)]
        for image, found in sorted(usable.items())
        if found
    }
    said = [_said(kind, count) for kind, count in Counter(p.kind for p in taken.values()).items()]
    lost = [image for image, found in usable.items() if not found]
    if lost:
        said.append(f"No picture of {', '.join(lost)} can be read, so they were left out.")
    return taken, said


def classified(folder: Path, mask: MaskName) -> tuple[list[Path], Objects | None]:
    """Return the class masks of a mask in a folder, and their objects with classes.

    An object in several classes has none. Without class masks: an empty list and None.

    Raises
    ------
    ImageError
        A class mask cannot be read.
    InputError
        Class masks of one image differ in shape.
    """
    files = [
        file
        for file in sorted(folder.glob("*_MaskClass*.tif"))
        if class_of(file.name) and without_class(file.name) == mask.name
    ]
    labels: np.ndarray | None = None
    classes: dict[int, int] = {}
    for file in files:
        part = read_labels(file)
        labels = np.zeros_like(part) if labels is None else labels
        if part.shape != labels.shape:
            raise InputError(f"{file.name} has another shape than the other class masks")
        labels = np.where(part > 0, part, labels)
        for label in Objects(part).ids:
            classes[label] = 0 if label in classes else class_of(file.name)
    return files, None if labels is None else Objects(labels, classes)


def background_label(labels: np.ndarray) -> int | None:
    """Return the label that is the background by its looks, if one is; OpSeF's U-Net had 1.

    It has more than half of the pixels of the image and more than half of those of its border.

    Examples
    --------
    >>> labels = np.ones((9, 9), int)
    >>> labels[3:5, 3:5] = 2
    >>> background_label(labels), background_label(np.where(labels == 1, 0, labels))
    (1, None)
    """
    if labels.ndim != 2 or not labels.size:
        return None
    border = np.concatenate([labels[0], labels[-1], labels[1:-1, 0], labels[1:-1, -1]])
    ids, counts = np.unique(border, return_counts=True)
    label = int(ids[counts.argmax()])
    most = 2 * int(counts.max()) > border.size
    return label if label and most and 2 * np.count_nonzero(labels == label) > labels.size else None


def _fits(mask: MaskName, wanted: str) -> bool:
    return mask.name.startswith(wanted) or any(
        fnmatch.fnmatchcase(text, wanted) for text in (mask.name, mask.variant)
    )


def _settle(chosen: dict[str, MaskName], open_: dict[str, list[MaskName]], folder: Path) -> None:
    """Move images from `open_` to `chosen` by what AnnotatorJ returned and OpSeF listed."""
    for names in (_returned(folder), _listed(folder)):
        for image, those in list(open_.items()):
            paired = [mask for mask in those if mask.name in names]
            if len(paired) == 1:
                chosen[image] = paired[0]
                del open_[image]
    # Lists leave out images without objects: these go with the others.
    variants = {mask.variant for mask in chosen.values()}
    for image, those in list(open_.items()):
        same = [mask for mask in those if {mask.variant} == variants]
        if same:
            chosen[image] = same[0]
            del open_[image]


def _choices(masks: list[MaskName]) -> str:
    counts = Counter(mask.variant for mask in masks)
    listed = ", ".join(f"{variant} ({count} images)" for variant, count in sorted(counts.items()))
    return f"Choose by the beginning of a name or a glob: --masks NAME. There are: {listed}"


def _returned(folder: Path) -> set[str]:
    """Names of the masks that AnnotatorJ gave back."""
    files = {without_class(file.name) for file in (folder / RETURNED).glob("*.tif")}
    return files | _listed(folder, FROM_FIJI)


def _listed(folder: Path, start: str = "FilePairList_") -> set[str]:
    """Names of the masks in the lists whose names begin so."""
    return {
        without_class(PurePosixPath(name).name)
        for file in sorted((folder / LISTS).glob(f"{start}*.txt"))
        if start == FROM_FIJI or not file.name.startswith(FROM_FIJI)
        for pair in read_pairs(file)
        for name in pair.files
    }


def _usable(files: Mapping[str, Path]) -> dict[str, Picture]:
    """Return the pictures of an image that are planes which ImageJ reads too."""
    planes: dict[str, Picture] = {}
    stack = False
    for kind, file in files.items():
        try:
            info = image_info(file)
        except ImageError:
            stack |= kind == KINDS[0] and _is_stack(file)
            continue
        stack |= kind == KINDS[0] and len(info.shape) > 2
        if info.axes == "YX" and info.dtype in READABLE:
            planes[kind] = Picture(file, kind, (info.shape[0], info.shape[1]), stack)
    sums = [planes[kind].shape for kind in KINDS[1:] if kind in planes]
    if KINDS[0] in planes and sums and planes[KINDS[0]].shape not in sums:
        del planes[KINDS[0]]  # another file of that name
    return planes


def _is_stack(file: Path) -> bool:
    """Whether a file that does not say what its axes are has more than two."""
    try:
        return len(image_info(file, axes="ZYX").shape) > 2
    except ImageError:
        return False


def _said(kind: str, count: int) -> str:
    what = {
        KINDS[0]: "the files that OpSeF read (folder tiff)",
        KINDS[1]: f"OpSeF's sums ({PICTURES}/Sum_...)",
        KINDS[2]: f"OpSeF's sums in 8 bits ({PICTURES}/8bitSum_...), stretched image by image, "
        "so that a value to subtract means something else",
    }
    return f"{count} image{'s' if count != 1 else ''} copied to data/: {what[kind]}."
