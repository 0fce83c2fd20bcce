"""The two answers that AnnotatorJ gives for an image, compared: the ROIs and the mask.

Neither can be trusted alone. AnnotatorJ 2020-12 was seen to leave the ROIs of another image in
a zip, to rename the last ROI, and to cut masks to the size of the first image of a list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.measure.changes import align, present
from opsef_bridge.rois.objects import Objects

__all__ = [
    "Comparison",
    "compare",
    "fingerprint",
    "fitted",
    "listing",
    "off_target",
    "with_classes_of",
    "with_ids",
]


@dataclass(frozen=True)
class Comparison:
    """Where the zip of an image is not its mask.

    Attributes
    ----------
    pixels : int
        Pixels that belong to different objects, objects with equal pixels being the same.
    objects : list of int
        Ids (of the mask; above them those that only the zip has) with such pixels.
    classes : list of int
        Ids of objects that both have, in different classes.
    renamed : dict of int to int
        Id in the mask by id in the zip, where an object has two.
    """

    pixels: int
    objects: list[int]
    classes: list[int]
    renamed: dict[int, int]

    def lines(self) -> list[str]:
        """Return sentences for a person: none where zip and mask agree."""
        lines = []
        if self.pixels:
            lines.append(
                f"zip and mask differ in {self.pixels} pixels of objects {listing(self.objects)}"
            )
        if self.classes:
            lines.append(f"zip and mask differ in the class of objects {listing(self.classes)}")
        return lines


def compare(mask: Objects, rois: Objects) -> Comparison:
    """Compare the objects of a mask and of a zip of the same shape.

    Examples
    --------
    >>> mask = Objects(np.array([[1, 1, 2, 0, 9]]), {1: 3})
    >>> rois = Objects(np.array([[1, 1, 2, 2, 8]]), {1: 4})
    >>> compare(mask, rois)
    Comparison(pixels=1, objects=[2], classes=[1], renamed={8: 9})
    """
    ids = align(mask.labels, rois.labels)
    same = rois.renumbered(ids)
    differ = mask.labels != same.labels
    both = set(mask.ids) & set(same.ids)
    return Comparison(
        int(np.count_nonzero(differ)),
        sorted({*present(mask.labels[differ]), *present(same.labels[differ])}),
        sorted(i for i in both if mask.classes.get(i) != same.classes.get(i)),
        {a: b for a, b in ids.items() if a != b and b in both},
    )


def with_classes_of(mask: Objects, rois: Objects) -> tuple[Objects, list[int]]:
    """Give the objects of a mask the classes of the ROIs with the very same pixels.

    Returns
    -------
    Objects, list of int
        And the ids of the objects that have no such ROI: they stay without a class.

    Examples
    --------
    >>> mask, rois = Objects(np.array([[1, 1, 2]])), Objects(np.array([[5, 5, 0]]), {5: 3})
    >>> found, unknown = with_classes_of(mask, rois)
    >>> found.classes, unknown
    ({1: 3}, [2])
    """
    same = rois.renumbered(align(mask.labels, rois.labels))
    differ = mask.labels != same.labels
    wrong = {*present(mask.labels[differ]), *present(same.labels[differ])}
    agreeing = set(mask.ids) - wrong
    classes = {i: number for i, number in same.classes.items() if i in agreeing}
    return replace(mask, classes=classes), sorted(set(mask.ids) - agreeing)


def off_target(base: Objects, rois: Objects) -> int:
    """Count the objects of a zip that share no pixel with an object of `base`.

    Examples
    --------
    >>> off_target(Objects(np.array([[1, 1, 0]])), Objects(np.array([[5, 6, 7]])))
    1
    """
    return len(set(rois.ids) - set(present(rois.labels[base.labels > 0])))


def fingerprint(labels: NDArray[np.int32]) -> str:
    """Return a text that is the same for equal outlines, whatever the numbers.

    Examples
    --------
    >>> a = fingerprint(np.array([[1, 1, 2, 0]]))
    >>> a == fingerprint(np.array([[7, 7, 3, 0]])), a == fingerprint(np.array([[1, 1, 1, 0]]))
    (True, False)
    """
    digest = hashlib.sha256(repr(labels.shape).encode())
    digest.update(np.packbits(labels > 0).tobytes())
    digest.update(np.packbits(labels[1:] != labels[:-1]).tobytes())
    digest.update(np.packbits(labels[:, 1:] != labels[:, :-1]).tobytes())
    return digest.hexdigest()


def fitted(
    labels: NDArray[np.int32], shape: tuple[int, int], base: Objects | None
) -> tuple[NDArray[np.int32] | None, str]:
    """Give a mask that AnnotatorJ cut or padded on the right and below its size back.

    Parameters
    ----------
    labels : (Y, X) int32 ndarray
    shape : (int, int)
        Rows and columns of the image.
    base : Objects or None
        What went out, if that is known.

    Returns
    -------
    ndarray or None, str
        None where objects were cut off; and a sentence, empty where the size is right.

    Examples
    --------
    >>> fitted(np.array([[1, 0], [0, 0]]), (1, 3), Objects(np.array([[1, 0, 0]])))[0]
    array([[1, 0, 0]], dtype=int32)
    """
    if labels.shape == tuple(shape):
        return labels, ""
    (rows, columns), (height, width) = labels.shape, shape
    sizes = f"the mask has {rows} x {columns} pixels, the image {height} x {width}"
    if rows < height or columns < width:
        if base is None:
            return None, f"{sizes}, and whether objects were cut off cannot be known"
        cut = sorted({*present(base.labels[rows:]), *present(base.labels[:, columns:])})
        if cut:
            return None, f"{sizes}, so objects {listing(cut)} were cut off"
    whole = np.zeros(shape, np.int32)
    common = (slice(min(rows, height)), slice(min(columns, width)))
    whole[common] = labels[common]
    beyond = sorted({*present(labels[height:]), *present(labels[:, width:])})
    more = f"; objects {listing(beyond)} lie outside it and were clipped" if beyond else ""
    return whole, f"{sizes}: AnnotatorJ gives all masks of a list one size{more}"


def with_ids(mask: Objects, ids: Sequence[int]) -> Objects:
    """Turn the numbers 1 to N of a mask into the ids that went out; others get new ids.

    Examples
    --------
    >>> with_ids(Objects(np.array([[1, 2, 5, 4]])), [7, 9]).labels
    array([[ 7,  9, 11, 10]], dtype=int32)
    """
    last = max(ids, default=0)
    news = [number for number in mask.ids if number > len(ids)]
    known = dict(enumerate(ids, 1))
    return mask.renumbered(known | {number: last + k for k, number in enumerate(news, 1)})


def listing(ids: Iterable[int | str], most: int = 10) -> str:
    """Return ids as text, the first few of many.

    Examples
    --------
    >>> listing([2, 3]), listing(range(1, 33), most=3)
    ('2, 3', '1, 2, 3 ... (32 in all)')
    """
    ids = list(ids)
    text = ", ".join(map(str, ids[:most]))
    return text if len(ids) <= most else f"{text} ... ({len(ids)} in all)"
