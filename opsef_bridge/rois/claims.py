"""What a claim says of the objects of an image, on arrays alone.

A claim vouches for a revision in one of three scopes: the whole image, a box, or only the
objects that the revision touched. Claims are folded one after the other; the later one wins
where it speaks, and where it contradicts an earlier one without speaking of it, nothing is
vouched for any more. So every object in truth has exactly the pixels that it has in the
revision of some claim: truth never holds a cut object.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.errors import InputError
from opsef_bridge.measure.changes import present
from opsef_bridge.rois.merging import ObjectChanges
from opsef_bridge.rois.objects import Objects

__all__ = ["Box", "Effect", "Scope", "Touched", "Truth", "Whole", "fold", "parse_scope"]


@dataclass(frozen=True)
class Whole:
    """The whole image is checked: every object, and that there are no others."""

    def __str__(self) -> str:
        return "whole"


@dataclass(frozen=True)
class Touched:
    """Only the objects that the revision added, changed, reclassified or deleted."""

    def __str__(self) -> str:
        return "touched"


@dataclass(frozen=True)
class Box:
    """Everything in a box is checked, in all planes of a volume.

    Attributes
    ----------
    y, x : int
        Row and column of the first pixel, from 0.
    height, width : int
        Number of rows and columns.
    """

    y: int
    x: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.y},{self.x},{self.height},{self.width}"

    def clipped(self, shape: tuple[int, ...]) -> Box:
        """Return the part of the box that lies in an image of ([Z,] Y, X) `shape`.

        A box drawn over the border is a common slip that leaves no doubt about what is
        meant; one without a pixel in the image is a mistake, such as x before y.

        Raises
        ------
        InputError
            The box is empty or lies outside.
        """
        rows, columns = shape[-2:]
        y, x = max(self.y, 0), max(self.x, 0)
        height = min(self.y + self.height, rows) - y
        width = min(self.x + self.width, columns) - x
        if min(self.height, self.width, height, width) < 1:
            raise InputError(
                f"the box {self} has no pixel in an image of {rows} rows and {columns} columns",
                hint="Give y,x,height,width: the first row and column, counted from 0, and sizes",
            )
        return Box(y, x, height, width)


Scope = Whole | Box | Touched


def parse_scope(text: str) -> Scope:
    """Read a scope as people write it; ``str(scope)`` is the inverse.

    Parameters
    ----------
    text : str
        ``whole``, ``touched``, or a box as ``y,x,height,width`` in pixels.

    Raises
    ------
    InputError
        It is none of these.

    Examples
    --------
    >>> parse_scope("0, 128, 64, 64")
    Box(y=0, x=128, height=64, width=64)
    >>> str(parse_scope("touched"))
    'touched'
    """
    word = text.strip().lower()
    if word == "whole":
        return Whole()
    if word == "touched":
        return Touched()
    numbers = re.fullmatch(r"\s*,\s*".join([r"([+-]?[0-9]{1,9})"] * 4), word)
    if numbers is None:
        raise InputError(
            f"{text!r} says nothing about where the objects are true",
            hint="Choose 'whole', 'touched', or a box as y,x,height,width in pixels",
        )
    return Box(*map(int, numbers.groups()))


@dataclass(frozen=True)
class Truth:
    """What is vouched for of an image, and nothing else.

    A pixel that is not `known` and has no label is open: there may be an object or not.

    Attributes
    ----------
    labels : ([Z,] Y, X) int32 ndarray
        The objects that are vouched for, each with all its pixels; ids are those of the
        image's revisions.
    classes : dict of int to int
        Class by id. An object without one is not classified, which claims nothing.
    known : ([Z,] Y, X) bool ndarray
        Where everything is vouched for: each pixel belongs to the object that `labels`
        says, and to none where it says 0.
    record : dict
        The content of the JSON file: all claims, oldest first.
    """

    labels: NDArray[np.int32]
    classes: Mapping[int, int]
    known: NDArray[np.bool_]
    record: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def objects(self) -> frozenset[int]:
        """Ids of the objects that are vouched for one by one.

        Those with pixels outside `known`: touched objects, and objects that reach out of a
        box. All other objects of `labels` lie in `known` entirely.
        """
        return frozenset(present(np.where(self.known, 0, self.labels)))

    def same_as(self, other: Truth) -> bool:
        """Whether both vouch for the same, by whatever claims."""
        return (
            dict(self.classes) == dict(other.classes)
            and np.array_equal(self.labels, other.labels)
            and np.array_equal(self.known, other.known)
        )


class Effect(NamedTuple):
    """What a claim did to the truth of an image; lists of ids, ascending."""

    vouched: list[int]
    """Objects that the claim vouches for."""
    reaching_out: list[int]
    """Those of them that reach out of the box."""
    removed: list[int]
    """Objects of truth that the claim says are none."""
    withdrawn: list[int]
    """Objects of truth that the claim contradicts without speaking of them."""


def fold(
    truth: Truth | None, objects: Objects, scope: Scope, changes: ObjectChanges
) -> tuple[Truth, Effect]:
    """Add a claim to the truth of an image.

    ``Whole``: truth is what the revision has, whatever it was before. ``Box``: the objects
    with a pixel in the box become true with all their pixels, also outside of it: who
    checks a box checks the objects in it. ``Touched``: the objects that the revision added,
    changed or reclassified become true, those that it deleted are removed; around them
    nothing becomes known.

    Ids of an image's revisions are never used again, so an object of truth with the id of
    one that becomes true is that object and is replaced. An object that loses pixels to
    others, or that truth has in the box and the revision only elsewhere, is withdrawn: no
    claim says what it looks like now, and its other pixels are not known any more.

    Parameters
    ----------
    truth : Truth or None
        What is vouched for so far.
    objects : Objects
        The objects of the revision.
    scope : Whole, Box or Touched
        A box is clipped to the image.
    changes : ObjectChanges
        What the revision did to the objects that it was made from.

    Returns
    -------
    Truth
        Without a record.
    Effect

    Raises
    ------
    InputError
        The revision touched nothing, the box lies outside, or the shapes differ.

    Examples
    --------
    >>> objects = Objects(np.array([[7, 7, 0, 8]]))
    >>> truth, _ = fold(None, objects, Box(0, 1, 1, 2), ObjectChanges())
    >>> truth.labels.tolist(), truth.known.tolist(), sorted(truth.objects)
    ([[7, 7, 0, 0]], [[False, True, True, False]], [7])
    """
    new = objects.labels
    if truth is None or isinstance(scope, Whole):
        before = present(truth.labels) if truth else []
        truth = Truth(np.zeros_like(new), {}, np.zeros(new.shape, bool))
    else:
        _check_shape(truth, objects)
        before = []
    old, ids = truth.labels, set(objects.ids)
    area, spoken, gone, doubted = _spoken_of(old, objects, scope, changes)
    put = np.isin(new, _array(spoken))
    covered = set(present(np.where(put, old, 0))) - spoken - gone
    withdrawn = doubted | covered
    taken = np.isin(old, _array(spoken | gone | withdrawn)) & ~put
    # What an object gave up is background, as the revision says, unless the revision has
    # an object there that nobody vouched for.
    open_ = taken & ((new != 0) | np.isin(old, _array(withdrawn)))
    labels = np.where(put, new, np.where(taken, 0, old)).astype(np.int32)
    known = truth.known & ~open_
    known[area] = True
    outside = put.copy()
    outside[area] = False
    reaching = [] if isinstance(scope, Touched) else present(np.where(outside, new, 0))
    left = set(present(old)) - withdrawn - gone - spoken
    classes = {id_: number for id_, number in truth.classes.items() if id_ in left}
    classes |= {id_: number for id_, number in objects.classes.items() if id_ in spoken}
    removed = (gone & set(present(old))) | (set(before) - ids)
    effect = Effect(sorted(spoken), reaching, sorted(removed), sorted(withdrawn))
    return Truth(labels, dict(sorted(classes.items())), known), effect


def _spoken_of(
    old: NDArray[np.int32], objects: Objects, scope: Scope, changes: ObjectChanges
) -> tuple[Any, set[int], set[int], set[int]]:
    """Return the index of the area that a claim makes known, and three sets of ids.

    The objects that it vouches for, those that it says are none, and those of truth that it
    denies in the area without saying what they look like elsewhere.
    """
    ids = set(objects.ids)
    if isinstance(scope, Touched):
        if not changes:
            raise InputError(
                "the revision touched no object",
                hint="Say where it is true: 'whole', or a box as y,x,height,width",
            )
        # The empty index: no pixel.
        nothing = (slice(0, 0),)
        return nothing, set(changes.touched) & ids, set(changes.touched) - ids, set()
    if isinstance(scope, Whole):
        return ..., ids, set(), set()
    box = scope.clipped(old.shape)
    area = (..., slice(box.y, box.y + box.height), slice(box.x, box.x + box.width))
    spoken, denied = set(present(objects.labels[area])), set(present(old[area]))
    denied -= spoken
    return area, spoken, denied - ids, denied & ids


def _check_shape(truth: Truth, objects: Objects) -> None:
    if truth.labels.shape != objects.labels.shape:
        raise InputError(
            f"the revision has the shape {objects.labels.shape}, truth {truth.labels.shape}",
            hint="The image has changed since: vouch for the whole of it, which starts anew",
        )


def _array(ids: Iterable[int]) -> NDArray[np.int32]:
    return np.fromiter(ids, np.int32)
