"""What became of the objects of a label image: which are the same, which are not.

Identity comes from pixels, not from numbers: AnnotatorJ numbers the ROIs anew when it loads
them, so an object that comes back as ``0004`` need not be the one that went out as 4.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from opsef_bridge.errors import InputError
from opsef_bridge.measure.overlap import Pairs, iou_pairs

__all__ = ["LARGEST_ID", "Changes", "align", "changes", "present"]

LARGEST_ID = 2**31 - 1
"""Labels are int32."""


class Changes(NamedTuple):
    """Ids, ascending, of the objects that differ between two label images.

    Attributes
    ----------
    added, deleted : list of int
        Objects that only the second, only the first image has.
    changed : list of int
        Objects of both whose pixels differ.
    """

    added: list[int]
    deleted: list[int]
    changed: list[int]


def present(labels: ArrayLike) -> list[int]:
    """Return the labels that occur in an image, ascending, without the background 0.

    Parameters
    ----------
    labels : array_like of integer or bool
        Label image of any shape; negative values are listed like others.

    Raises
    ------
    InputError
        `labels` are no integers.

    Examples
    --------
    >>> present([[0, 9, 9], [2, 0, 9]])
    [2, 9]
    """
    flat = np.asarray(labels).ravel()
    if flat.dtype.kind == "b":
        flat = flat.view(np.uint8)
    if flat.dtype.kind not in "iu":
        raise InputError(
            f"labels of dtype {flat.dtype} are no objects", hint="Give integers, 0 for background"
        )
    if not flat.size:
        return []
    # One pixel of each stretch is enough, and objects have far fewer stretches than pixels.
    edge = np.ones(flat.size, bool)
    np.not_equal(flat[1:], flat[:-1], out=edge[1:])
    values = flat[edge]
    largest = int(values.max())
    if int(values.min()) < 0 or largest > 4 * len(values) + 65_536:
        found = np.unique(values)
    else:
        seen = np.zeros(largest + 1, bool)
        seen[values] = True
        found = np.flatnonzero(seen)
    return found[found != 0].tolist()


def align(base: ArrayLike, labels: ArrayLike, *, after: int = 0) -> dict[int, int]:
    """Say which object of `base` each object of `labels` is.

    In this order, each object being used once:

    1. an object with exactly the pixels of one of `base` is that one;
    2. a pair with an intersection over union of 0.5 or more is one object (the highest
       first; of equals the one that has the id as its label, then the lowest id and label);
    3. an object whose own label is the id of an object of `base` that is still free, and
       that shares a pixel with it, keeps it;
    4. all others are new, with ids above `after` and above all of `base`, in the order of
       their labels; where there are no ids yet, labels are ids.

    Parameters
    ----------
    base, labels : ([Z,] Y, X) array_like of integer
        Label images of one shape.
    after : int
        The largest id that was ever given, so that one of a deleted object is not used again.

    Returns
    -------
    dict of int to int
        Id by label of `labels`, ascending by label; all ids differ.

    Raises
    ------
    InputError
        Shapes differ, a label is negative or no integer, or new ids would be above
        2147483647.

    Examples
    --------
    >>> align([[3, 3, 0, 5]], [[1, 1, 2, 0]])
    {1: 3, 2: 6}
    """
    pairs = iou_pairs(np.asarray(base), np.asarray(labels))
    ids: dict[int, int] = {}
    used: set[int] = set()
    for id_, label in _same(pairs):
        if label not in ids and id_ not in used:
            ids[label] = id_
            used.add(id_)
    own = pairs.a.labels[pairs.i] == pairs.b.labels[pairs.j]
    for label in pairs.a.labels[pairs.i[own]].tolist():
        if label not in ids and label not in used:
            ids[label] = label
            used.add(label)
    everyone = pairs.b.labels.tolist()
    if not after and not len(pairs.a.labels):
        return {label: label for label in everyone}
    last = max([int(after), *pairs.a.labels[-1:].tolist()])
    new = [label for label in everyone if label not in ids]
    if new and last + len(new) > LARGEST_ID:
        raise InputError(
            f"{len(new)} new objects need ids above {last}, and {LARGEST_ID} is the largest",
            hint="Number the objects anew from 1 (skimage.segmentation.relabel_sequential)",
        )
    ids |= {label: last + 1 + k for k, label in enumerate(new)}
    return {label: ids[label] for label in everyone}


def changes(base: ArrayLike, labels: ArrayLike) -> Changes:
    """Compare two label images by id.

    Parameters
    ----------
    base, labels : array_like of integer
        Label images of one shape whose ids mean the same objects (see `align`).

    Raises
    ------
    InputError
        Shapes differ, or `labels` are no integers.

    Examples
    --------
    >>> changes([[1, 1, 2, 0, 3]], [[1, 1, 0, 4, 5]])
    Changes(added=[4, 5], deleted=[2, 3], changed=[])
    """
    base, labels = np.asarray(base), np.asarray(labels)
    if base.shape != labels.shape:
        raise InputError(
            f"label images differ in shape: {base.shape} and {labels.shape}",
            hint="Compare labels of the same image, crop and scale",
        )
    before, after = set(present(base)), set(present(labels))
    differ = base != labels
    moved = {*present(base[differ]), *present(labels[differ])}
    return Changes(sorted(after - before), sorted(before - after), sorted(moved & before & after))


def _same(pairs: Pairs) -> list[tuple[int, int]]:
    """Id and label of the pairs with an IoU of at least 0.5, best first (rules 1 and 2)."""
    total: NDArray[np.int64] = pairs.a.areas[pairs.i] + pairs.b.areas[pairs.j]
    half = 3 * pairs.pixels >= total  # IoU >= 1/2, without rounding
    id_, label = pairs.a.labels[pairs.i[half]], pairs.b.labels[pairs.j[half]]
    order = np.lexsort((label, id_, id_ != label, -pairs.iou[half]))
    return list(zip(id_[order].tolist(), label[order].tolist(), strict=True))
