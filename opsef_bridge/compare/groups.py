"""The objects of all variants of one image, those that mean the same object together.

A group is what the variants say of one place: the best supported object (its head) and the
objects of other variants that share at least half of the union with it. Questions, the
consensus and the list of what a variant lacks are asked of groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from opsef_bridge.compare.votes import Labels, distinct_runs
from opsef_bridge.errors import InputError
from opsef_bridge.measure.moments import boxes
from opsef_bridge.measure.overlap import Runs, iou_pairs, reaches

__all__ = ["ObjectGroups", "object_groups"]

ALIKE = 0.5
"""IoU from which two objects are the same one."""


@dataclass(frozen=True)
class ObjectGroups:
    """The groups of one image, best supported first.

    Parameters
    ----------
    variant, label : (G,) ndarray of int64
        The head of each group: a variant that has it, and its label there.
    support : (G,) ndarray of float64
        Support of the head.
    area : (G,) ndarray of int64
        Pixels (voxels) of the head.
    box : (G, 2 D) ndarray of int64
        Bounding box of the head: first index along each of the D axes, then the ends.
    member : (G, V) ndarray of int64
        Label of the object by which each variant holds the group; 0 where it does not.
    """

    variant: np.ndarray
    label: np.ndarray
    support: np.ndarray
    area: np.ndarray
    box: np.ndarray
    member: np.ndarray

    def __len__(self) -> int:
        return len(self.label)


def object_groups(labels: Labels, supports: Sequence[np.ndarray]) -> ObjectGroups:
    """Group the objects of all variants of one image.

    The best supported object that is still free becomes a head; it takes every free object
    of another variant that shares an IoU of at least 0.5 with it (two halves of it: both).

    Parameters
    ----------
    labels : sequence over variants of ndarray of int, or None
        Label images of one shape, 2D or 3D; None where a variant failed.
    supports : sequence over variants of (n_v,) ndarray of float
        Of each object, ascending by label: ``q`` of `opsef_bridge.compare.support`.

    Returns
    -------
    ObjectGroups
        Every object of every variant is in exactly one group.

    Raises
    ------
    InputError
        Counts or shapes that do not fit.

    Notes
    -----
    Memory grows with the pairs of objects that are alike: about 12 bytes for each object
    and each variant that has the same. The rule is that of the experiment behind the ranking
    (``docs/ranking.md``); groups by transitive overlap would chain neighbours.

    Examples
    --------
    >>> import numpy as np
    >>> one, two = np.array([[1, 1, 0, 2]]), np.array([[5, 5, 5, 0]])
    >>> groups = object_groups([one, two], [np.array([0.9, 0.2]), np.array([0.8])])
    >>> groups.member.tolist()
    [[1, 5], [2, 0]]
    """
    distinct, which = distinct_runs(labels)
    if len(supports) != len(labels):
        raise InputError(f"{len(labels)} variants have supports for {len(supports)}")
    for variant, (kind, values) in enumerate(zip(which, supports, strict=True)):
        expected = len(distinct[kind]) if kind >= 0 else 0
        if len(values) != expected:
            raise InputError(
                f"variant {variant} has {expected} objects and {len(values)} supports",
                hint="Give one support for each object, as `support` returns them",
            )
    # Variants with equal labels are one here: their objects are the same objects.
    shown = [int(np.flatnonzero(which == kind)[0]) for kind in range(len(distinct))]
    offset = np.cumsum([0, *(len(runs) for runs in distinct)])
    support = np.concatenate([np.zeros(0), *(np.asarray(supports[v], float) for v in shown)])
    owner = np.repeat(np.arange(len(distinct)), np.diff(offset))
    group = _grouped(_alike(distinct, offset), support)
    heads = _heads(group, support)
    numbers = np.concatenate([np.zeros(0, np.int64), *(runs.labels for runs in distinct)])
    member = np.zeros((len(heads), len(distinct) + 1), np.int64)  # the last: failed variants
    member[group, owner] = numbers
    return ObjectGroups(
        variant=np.array(shown, np.int64)[owner[heads]],
        label=numbers[heads],
        support=support[heads],
        area=np.concatenate([np.zeros(0, np.int64), *(r.areas for r in distinct)])[heads],
        box=_boxes(distinct)[heads],
        member=member[:, which],
    )


def _alike(distinct: Sequence[Runs], offset: np.ndarray) -> sparse.csr_array:
    """IoU of all pairs of objects, of different label images, that are the same one."""
    rows, columns, values = [], [], []
    for p, a in enumerate(distinct):
        for q in range(p):
            pairs = iou_pairs(a, distinct[q])
            close = reaches(pairs.iou, ALIKE)
            i, j = pairs.i[close] + offset[p], pairs.j[close] + offset[q]
            rows += [i, j]
            columns += [j, i]
            values += [pairs.iou[close].astype(np.float32)] * 2
    if not rows:
        return sparse.csr_array((offset[-1], offset[-1]), dtype=np.float32)
    parts = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.coo_array(parts, shape=(offset[-1], offset[-1])).tocsr()


def _grouped(alike: sparse.csr_array, support: np.ndarray) -> np.ndarray:
    """The group of each object, from 0 by falling support of the heads."""
    group = np.full(len(support), -1)
    count = 0
    for head in np.argsort(-support, kind="stable"):
        if group[head] >= 0:
            continue
        group[head] = count
        partners = alike.indices[alike.indptr[head] : alike.indptr[head + 1]]
        group[partners[group[partners] < 0]] = count
        count += 1
    return group


def _heads(group: np.ndarray, support: np.ndarray) -> np.ndarray:
    """The best supported object of each group; of equal ones the first."""
    order = np.lexsort((np.arange(len(group)), -support, group))
    first = np.ones(len(group), bool)
    first[1:] = np.diff(group[order]) > 0
    return order[first]


def _boxes(distinct: Sequence[Runs]) -> np.ndarray:
    """Bounding boxes of all objects of all label images."""
    if not distinct:
        return np.zeros((0, 4), np.int64)
    return np.concatenate([np.concatenate(boxes(runs)[:2]).T for runs in distinct])
