"""From the support of objects: one label image of all variants, and what to review first.

The original chose one network for all objects of a set; choosing object by object takes
the best of each. The choice is by support alone, nothing is trained.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from opsef_bridge.compare.groups import ObjectGroups
from opsef_bridge.compare.votes import Labels
from opsef_bridge.errors import InputError

__all__ = ["consensus", "work_list"]

SUPPORTED = 0.5
"""Support from which an object is more likely right than wrong."""

OVERLAP = 0.25
"""Share of an object that may be taken already; more, and it is another view of the same."""


def consensus(
    labels: Labels, groups: ObjectGroups, *, supported: float = SUPPORTED, overlap: float = OVERLAP
) -> np.ndarray:
    """Paint the best supported objects of all variants that do not lie on each other.

    Parameters
    ----------
    labels : sequence over variants of ndarray of int, or None
        The label images that `groups` were made of; at least one is not None.
    groups : ObjectGroups
    supported : float
        Objects of less support are left out.
    overlap : float
        An object is left out if more than this share of it is taken by better supported
        ones; else it gets the pixels that are free.

    Returns
    -------
    ndarray of int32
        1..N in the order of support, 0 background, the shape of the label images.

    Notes
    -----
    It is one more variant to look at, not the answer.

    Examples
    --------
    >>> from opsef_bridge.compare.groups import object_groups
    >>> one, two = np.array([[1, 1, 0, 0, 0]]), np.array([[5, 0, 0, 3, 3]])
    >>> groups = object_groups([one, two], [np.array([0.9]), np.array([0.7, 0.8])])
    >>> consensus([one, two], groups)
    array([[1, 1, 0, 2, 2]], dtype=int32)
    """
    for name, value in (("supported", supported), ("overlap", overlap)):
        if not 0 <= value <= 1:
            raise InputError(f"{name} is {value}", hint="Give a share from 0 to 1")
    shape = next((image.shape for image in labels if image is not None), None)
    if shape is None:
        raise InputError("no variant has labels", hint="Choose a run in which one succeeded")
    painted = np.zeros(shape, np.int32)
    number = 0
    for group in range(len(groups)):
        if groups.support[group] < supported:
            break  # they are in the order of support
        source = labels[int(groups.variant[group])]
        assert source is not None
        box = _slices(groups.box[group])
        here = np.asarray(source)[box] == groups.label[group]
        free = here & (painted[box] == 0)
        if np.count_nonzero(free) < (1 - overlap) * groups.area[group]:
            continue
        number += 1
        painted[box][free] = number
    return painted


def work_list(
    groups: ObjectGroups, variant: int, support: np.ndarray, *, supported: float = SUPPORTED
) -> list[tuple[Literal["doubtful", "missing"], int, float]]:
    """Return what of a variant to correct first.

    Parameters
    ----------
    groups : ObjectGroups
    variant : int
        Position of the chosen variant.
    support : (G,) ndarray of float
        Support of the chosen variant's object of each group; of groups that it lacks any
        value.
    supported : float
        Groups that the variant lacks are named from this support of their head on.

    Returns
    -------
    list of (what, group, support)
        First the objects of the variant, least supported first; then the objects that it
        lacks and others agree on, best supported first.

    Examples
    --------
    >>> from opsef_bridge.compare.groups import object_groups
    >>> one, two = np.array([[1, 1, 0, 0, 0]]), np.array([[5, 5, 0, 3, 3]])
    >>> groups = object_groups([one, two], [np.array([0.9]), np.array([0.7, 0.8])])
    >>> work_list(groups, 0, groups.support)
    [('doubtful', 0, 0.9), ('missing', 1, 0.7)]
    """
    mine = groups.member[:, variant] > 0
    support = np.asarray(support, float)
    own = np.flatnonzero(mine)
    own = own[np.argsort(support[own], kind="stable")]
    lacking = np.flatnonzero(~mine & (groups.support >= supported))
    found: list[tuple[Literal["doubtful", "missing"], int, float]] = []
    found += [("doubtful", int(group), float(support[group])) for group in own]
    found += [("missing", int(group), float(groups.support[group])) for group in lacking]
    return found


def _slices(box: np.ndarray) -> tuple[slice, ...]:
    low, high = np.split(box, 2)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
