"""From the support of objects: one label image of all variants, and what to review first.

The original chose one network for all objects of a set; choosing object by object takes
the best of each. The choice is by support alone, nothing is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from opsef_bridge.compare.groups import ObjectGroups
from opsef_bridge.compare.votes import Labels
from opsef_bridge.errors import InputError
from opsef_bridge.measure.moments import boxes
from opsef_bridge.measure.overlap import label_runs

__all__ = ["SUPPORTED", "Work", "consensus", "work_list"]

SUPPORTED = 0.5
"""Support from which an object is more likely right than wrong."""

OVERLAP = 0.25
"""Share of an object that may be taken already; more, and it is another view of the same."""

SILENCE = 1e-3
"""Share of the largest weight up to which a vote is not counted, to save time."""


@dataclass(frozen=True)
class Work:
    """A place to look at.

    Parameters
    ----------
    what : {"doubtful", "missing"}
        An object that hardly anybody else has, or one that others have and this one lacks.
    variant, label : int
        Position of the variant that has the object, and its label there.
    support : float
    box : (2 D,) ndarray of int64
        First index along each of the D axes, then the ends.
    """

    what: Literal["doubtful", "missing"]
    variant: int
    label: int
    support: float
    box: np.ndarray


def consensus(
    labels: Labels,
    groups: ObjectGroups,
    *,
    says: np.ndarray | None = None,
    supported: float = SUPPORTED,
    overlap: float = OVERLAP,
) -> np.ndarray:
    """Paint the best supported objects of all variants that do not lie on each other.

    Parameters
    ----------
    labels : sequence over variants of ndarray of int, or None
        The label images that `groups` were made of; at least one is not None.
    groups : ObjectGroups
    says : (V,) ndarray of float, optional
        Weight of each variant, above 0. The variants that have an object then vote on each of
        its pixels, and it gets those that more than half of their weight covers; where it is
        half, the best supported object decides. By default that alone is painted.
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
    It is one more variant to look at, not the answer. Votes are counted in the box of the best
    supported object, grown by its own size to each side.

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
        box, here = _outline(labels, groups, group, says)
        free = here & (painted[box] == 0)
        if not free.any() or np.count_nonzero(free) < (1 - overlap) * np.count_nonzero(here):
            continue
        number += 1
        painted[box][free] = number
    return painted


def _outline(
    labels: Labels, groups: ObjectGroups, group: int, says: np.ndarray | None
) -> tuple[tuple[slice, ...], np.ndarray]:
    """A box, and the pixels of a group in it: those of its head, or by vote."""
    source = labels[int(groups.variant[group])]
    assert source is not None
    if says is None:
        box = _slices(groups.box[group])
        return box, np.asarray(source)[box] == groups.label[group]
    low, high = np.split(groups.box[group], 2)
    side = high - low
    grown = np.concatenate([np.maximum(low - side, 0), np.minimum(high + side, source.shape)])
    box = _slices(grown)
    votes = np.zeros(np.subtract(*np.split(grown, 2)[::-1]))
    holders = np.flatnonzero(groups.member[group])
    holders = holders[says[holders] > SILENCE * says[holders].max()]
    for holder in holders:
        votes += says[holder] * (np.asarray(labels[holder])[box] == groups.member[group, holder])
    total = says[holders].sum()
    votes += 1e-9 * total * (np.asarray(source)[box] == groups.label[group])
    return box, votes > (0.5 + 1e-10) * total


def work_list(
    labels: Callable[[int], np.ndarray | None],
    groups: ObjectGroups,
    variant: int,
    support: np.ndarray,
    *,
    supported: float = SUPPORTED,
    overlap: float = OVERLAP,
) -> list[Work]:
    """Return what of a variant to look at and correct first.

    Parameters
    ----------
    labels : callable
        Takes the position of a variant and returns its label image, None where it failed.
        It is called once for each variant whose pixels are needed.
    groups : ObjectGroups
    variant : int
        Position of the chosen variant.
    support : (n,) ndarray of float
        Support of the objects of the chosen variant, ascending by label.
    supported : float
        Below it an object of the variant is doubtful; from it on the head of a group that
        the variant lacks is missing.
    overlap : float
        What others have is not missing if more than this share of it is taken by objects
        of the variant that are supported as well, or by what is missing with better support.

    Returns
    -------
    list of Work
        First the doubtful objects of the variant, least supported first; then what it lacks,
        best supported first.

    Raises
    ------
    InputError
        There is not one support for each object.

    Examples
    --------
    >>> from opsef_bridge.compare.groups import object_groups
    >>> one, two = np.array([[1, 1, 0, 0, 0]]), np.array([[5, 5, 0, 3, 3]])
    >>> groups = object_groups([one, two], [np.array([0.3]), np.array([0.8, 0.3])])
    >>> found = work_list([one, two].__getitem__, groups, 0, np.array([0.3]))
    >>> [(one.what, one.variant, one.label, one.support) for one in found]
    [('doubtful', 0, 1, 0.3), ('missing', 1, 3, 0.8)]
    """
    support = np.asarray(support, float)
    image = labels(variant)
    own = np.zeros((1, 1), np.int32) if image is None else np.asarray(image)
    runs = label_runs(own)
    if len(runs) != len(support):
        raise InputError(f"variant {variant} has {len(runs)} objects and {len(support)} supports")
    low, high, _ = boxes(runs)
    order = np.argsort(support, kind="stable")
    found = [
        Work("doubtful", variant, int(runs.labels[i]), float(support[i]),
             np.concatenate([low[:, i], high[:, i]]))
        for i in order[support[order] < supported]
    ]  # fmt: skip
    lacking = np.flatnonzero((groups.member[:, variant] == 0) & (groups.support >= supported))
    if not len(lacking):
        return found
    masks, shape = _masks(labels, groups, lacking)
    taken = np.zeros(shape, np.float32)  # by what support each pixel is taken
    if len(runs):
        taken[own > 0] = support[np.searchsorted(runs.labels, own[own > 0])]
    return found + [
        Work("missing", int(groups.variant[group]), int(groups.label[group]),
             float(groups.support[group]), groups.box[group])
        for group in _not_taken(taken, groups, lacking, masks, overlap)
    ]  # fmt: skip


def _not_taken(
    taken: np.ndarray,
    groups: ObjectGroups,
    chosen: np.ndarray,
    masks: Mapping[int, np.ndarray],
    overlap: float,
) -> Iterator[int]:
    """Those groups, best supported first, of which better ones have not taken the pixels."""
    for group in chosen:  # all groups are in the order of support
        mask, worth = masks[int(group)], np.float32(groups.support[group])
        here = taken[_slices(groups.box[group])]
        if np.count_nonzero(mask & (here >= worth)) <= overlap * groups.area[group]:
            here[mask & (here < worth)] = worth
            yield int(group)


def _masks(
    labels: Callable[[int], np.ndarray | None], groups: ObjectGroups, chosen: np.ndarray
) -> tuple[dict[int, np.ndarray], tuple[int, ...]]:
    """The pixels of the heads of some groups in their boxes, and the shape of the image."""
    found: dict[int, np.ndarray] = {}
    shape: tuple[int, ...] = ()
    for variant in np.unique(groups.variant[chosen]):
        image = np.asarray(labels(int(variant)))
        shape = image.shape
        for group in chosen[groups.variant[chosen] == variant]:
            found[int(group)] = image[_slices(groups.box[group])] == groups.label[group]
    return found, shape


def _slices(box: np.ndarray) -> tuple[slice, ...]:
    low, high = np.split(box, 2)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
