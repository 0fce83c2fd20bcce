"""Two edits of the same objects: what each changed, and both in one where they do not meet.

Everything here goes by id: `identify` first gives the objects that came back the ids of the
objects they were made from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.errors import InputError
from opsef_bridge.measure.changes import align, changes
from opsef_bridge.measure.overlap import iou_pairs
from opsef_bridge.rois.objects import Objects

__all__ = ["Conflict", "Merged", "ObjectChanges", "identify", "merge", "object_changes"]


@dataclass(frozen=True)
class ObjectChanges:
    """What an edit did to the objects of an image.

    Attributes
    ----------
    added, deleted, changed : tuple of int
        Ids, ascending. A changed object has other pixels than before.
    reclassified : dict of int to (int, int)
        Old and new class by id, of objects from before that are still there; 0 means not
        classified. An object may be changed and reclassified.
    """

    added: tuple[int, ...] = ()
    deleted: tuple[int, ...] = ()
    changed: tuple[int, ...] = ()
    reclassified: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def touched(self) -> frozenset[int]:
        """The ids of all objects that the edit did something to."""
        return frozenset((*self.added, *self.deleted, *self.changed, *self.reclassified))

    def __bool__(self) -> bool:
        return bool(self.touched)

    def summary(self) -> str:
        """Return the counts as words for a person.

        Examples
        --------
        >>> ObjectChanges((7, 8), (), (3,), {1: (0, 2)}).summary()
        '2 added, 1 changed, 1 reclassified'
        >>> ObjectChanges().summary()
        'nothing changed'
        """
        counts = {name: len(getattr(self, name)) for name in _KINDS}
        said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        return said or "nothing changed"

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold; `from_json` reads it."""
        reclassified = {str(id_): list(both) for id_, both in self.reclassified.items()}
        return {
            "added": list(self.added),
            "deleted": list(self.deleted),
            "changed": list(self.changed),
            "reclassified": reclassified,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ObjectChanges:
        """Read what `to_json` gives; raises ValueError, KeyError or TypeError where it is not."""
        ids = [tuple(int(id_) for id_ in value[name]) for name in _KINDS[:3]]
        pairs = {int(id_): (int(a), int(b)) for id_, (a, b) in value["reclassified"].items()}
        return cls(*ids, reclassified=pairs)


_KINDS = ("added", "deleted", "changed", "reclassified")


@dataclass(frozen=True)
class Conflict:
    """One object that two edits want differently.

    Attributes
    ----------
    id : int
        The object; one that both sides numbered alike has the number it would get.
    base : str
        ``absent`` or ``present``: whether both edits started with it.
    theirs, ours : str
        What each side did: ``absent`` or ``present`` (nothing), ``added``, ``deleted``,
        ``changed``, ``reclassified 1 -> 2``, or ``changed, reclassified 1 -> 2``.
    others : tuple of int
        Ids of the objects of the other side that claim the same pixels.
    place : tuple of int
        [Z,] Y, X of one of its pixels, from 0.
    """

    id: int
    base: str
    theirs: str
    ours: str
    others: tuple[int, ...] = ()
    place: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {**vars(self), "others": list(self.others), "place": list(self.place)}

    def __str__(self) -> str:
        said = f"object {self.id}: theirs {self.theirs}, ours {self.ours}"
        if self.others:
            said += f", in the place of {', '.join(map(str, self.others))}"
        return said


@dataclass(frozen=True)
class Merged:
    """What became of a merge.

    Attributes
    ----------
    objects : Objects or None
        The objects with what both sides did; None where they conflict and nothing was said
        about who wins.
    conflicts : tuple of Conflict
        The objects both sides want differently, also where they were decided.
    taken : str
        In words, what came from where.
    """

    objects: Objects | None
    conflicts: tuple[Conflict, ...]
    taken: str


def identify(base: Objects, new: Objects, *, after: int = 0) -> Objects:
    """Return `new` by the ids that its objects have in `base`.

    Which object is which is decided by pixels, then by number: see
    `opsef_bridge.measure.changes.align`, also for `after` and for what it raises.

    Examples
    --------
    >>> base = Objects(np.array([[3, 3, 0, 5]]), {3: 1})
    >>> new = identify(base, Objects(np.array([[1, 1, 2, 0]]), {1: 2}))
    >>> new.labels.tolist(), new.classes
    ([[3, 3, 6, 0]], {3: 2})
    """
    return new.renumbered(align(base.labels, new.labels, after=after))


def object_changes(base: Objects, new: Objects) -> ObjectChanges:
    """Compare the objects of an image before and after an edit, by id.

    Raises
    ------
    InputError
        The images differ in shape.

    Examples
    --------
    >>> base = Objects(np.array([[3, 3, 0, 5]]), {3: 1})
    >>> object_changes(base, Objects(np.array([[3, 0, 0, 5]]), {3: 1, 5: 4})).summary()
    '1 changed, 1 reclassified'
    """
    added, deleted, changed = changes(base.labels, new.labels)
    gone = {*added, *deleted}
    both = {
        id_: (base.classes.get(id_, 0), new.classes.get(id_, 0))
        for id_ in sorted({*base.classes, *new.classes} - gone)
    }
    differ = {id_: pair for id_, pair in both.items() if pair[0] != pair[1]}
    return ObjectChanges(tuple(added), tuple(deleted), tuple(changed), differ)


def merge(
    base: Objects,
    theirs: Objects,
    ours: Objects,
    *,
    after: int = 0,
    resolve: Literal["ours", "theirs"] | None = None,
) -> Merged:
    """Join two edits of the same objects, object by object.

    What one side did to an object that the other left alone is taken; what both did alike is
    taken once; pixels changed by one and class changed by the other are both taken. In
    conflict are

    - an object that both reshaped or both reclassified, in different ways, or that one
      deleted and the other reshaped or reclassified;
    - objects that claim the same pixel, one added or reshaped by each side;
    - objects in whose place stands, on the other side, an object in conflict.

    Parameters
    ----------
    base : Objects
        What both edits were made from.
    theirs, ours : Objects
        The two edits, by the ids of `base` (see `identify`). Objects that `ours` added by an
        id that `theirs` has too get a new one, above all ids and above `after`; an object
        with the same pixels that both added gets that of `theirs`.
    after : int
        The largest id that was ever given.
    resolve : {"ours", "theirs"}, optional
        Who wins. Every object in conflict is then taken from that side whole, with its
        pixels and class, or is absent where that side has none. The loser's pixels of such
        an object are background unless the winner has an object there: no object is cut.

    Returns
    -------
    Merged

    Raises
    ------
    InputError
        The images differ in shape, or `resolve` is something else.

    Examples
    --------
    >>> base = Objects(np.array([[1, 1, 0, 2, 2]]))
    >>> theirs = Objects(np.array([[1, 0, 0, 2, 2]]))
    >>> ours = Objects(np.array([[1, 1, 0, 0, 0]]))
    >>> merge(base, theirs, ours).objects.labels.tolist()
    [[1, 0, 0, 0, 0]]
    >>> merge(base, theirs, Objects(np.array([[0, 1, 0, 2, 2]]))).conflicts[0].ours
    'changed'
    """
    if resolve not in (None, "ours", "theirs"):
        raise InputError(f"resolve is {resolve!r}", hint="Choose 'ours' or 'theirs'")
    ours = _without_clashes(base, theirs, ours, after)
    by_theirs, by_ours = object_changes(base, theirs), object_changes(base, ours)
    split = _Split(base, theirs, ours, by_theirs, by_ours)
    disputed = split.disputed()
    conflicts = _conflicts(split, disputed)
    if conflicts and resolve is None:
        return Merged(None, conflicts, f"nothing: {_count(len(conflicts), 'object')} in conflict")
    taken = f"theirs: {by_theirs.summary()}; ours: {by_ours.summary()}"
    if conflicts:
        taken += f"; {_count(len(conflicts), 'object')} in conflict taken from {resolve}"
    return Merged(split.joined(set(disputed), resolve == "ours"), conflicts, taken)


class _Split(NamedTuple):
    """The three states of the objects, and what each side did."""

    base: Objects
    theirs: Objects
    ours: Objects
    by_theirs: ObjectChanges
    by_ours: ObjectChanges

    def disputed(self) -> dict[int, set[int]]:
        """Return the objects in conflict, each with those of the other side in its place."""
        found: dict[int, set[int]] = {id_: set() for id_ in self._differently()}
        reshaped_theirs = {*self.by_theirs.added, *self.by_theirs.changed}
        reshaped_ours = {*self.by_ours.added, *self.by_ours.changed}
        open_ = _collisions(self.theirs.labels, self.ours.labels)
        while True:
            # An object that is put back needs its pixels: whoever took them is in conflict too.
            meet = [
                (t, o)
                for t, o in open_
                if (t in reshaped_theirs or t in found) and (o in reshaped_ours or o in found)
            ]
            if not meet:
                return dict(sorted(found.items()))
            for t, o in meet:
                found.setdefault(t, set()).add(o)
                found.setdefault(o, set()).add(t)
            open_ = sorted(set(open_) - set(meet))

    def _differently(self) -> set[int]:
        """Return the ids that both sides touched and left in different states."""
        theirs, ours = self.by_theirs, self.by_ours
        gone = set(theirs.deleted) ^ set(ours.deleted)
        pixels = {*theirs.added, *theirs.changed} & {*ours.added, *ours.changed}
        unlike = changes(self.theirs.labels, self.ours.labels).changed
        both_added = set(theirs.added) & set(ours.added)
        classes = {
            id_
            for id_ in both_added | (theirs.reclassified.keys() & ours.reclassified.keys())
            if self.theirs.classes.get(id_, 0) != self.ours.classes.get(id_, 0)
        }
        return (gone & theirs.touched & ours.touched) | (pixels & set(unlike)) | classes

    def joined(self, disputed: set[int], ours_wins: bool) -> Objects:
        """Return the objects of both sides; disputed ones are those of the winner."""
        ids_theirs, ids_ours = set(self.theirs.ids), set(self.ours.ids)
        theirs, ours = self.by_theirs, self.by_ours
        from_ours = {*ours.added, *ours.changed} - disputed
        deleted = {*theirs.deleted, *ours.deleted} | disputed
        from_theirs = ids_theirs - from_ours - deleted
        if ours_wins:
            from_ours |= disputed & ids_ours
        else:
            from_theirs |= disputed & ids_theirs
        new_class = {*ours.added, *ours.reclassified} - disputed
        new_class |= disputed if ours_wins else set()
        kept = from_ours | from_theirs
        classes = {
            id_: number
            for side, classes_of in ((True, self.ours.classes), (False, self.theirs.classes))
            for id_, number in classes_of.items()
            if id_ in kept and (id_ in new_class) == side
        }
        labels = _compose(self.theirs.labels, self.ours.labels, from_theirs, from_ours)
        return Objects(labels, classes)


def _without_clashes(base: Objects, theirs: Objects, ours: Objects, after: int) -> Objects:
    """Return `ours` with ids of added objects that mean no other object of `theirs`."""
    before, used = set(base.ids), set(theirs.ids)
    added = [id_ for id_ in ours.ids if id_ not in before]
    if not added:
        return ours
    pairs = iou_pairs(theirs.labels, ours.labels)
    same = (pairs.pixels == pairs.a.areas[pairs.i]) & (pairs.pixels == pairs.b.areas[pairs.j])
    t, o = pairs.a.labels[pairs.i[same]].tolist(), pairs.b.labels[pairs.j[same]].tolist()
    twins = {label: id_ for id_, label in zip(t, o, strict=True) if id_ not in before}
    ids = {label: twins[label] for label in added if label in twins}
    last = max([after, *before, *used, *ours.ids])
    clash = [label for label in added if label not in ids and label in used]
    return ours.renumbered(ids | {label: last + 1 + k for k, label in enumerate(clash)})


def _collisions(theirs: NDArray[np.int32], ours: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Return the pairs of different ids that share a pixel."""
    pairs = iou_pairs(theirs, ours)
    t, o = pairs.a.labels[pairs.i], pairs.b.labels[pairs.j]
    return list(zip(t[t != o].tolist(), o[t != o].tolist(), strict=True))


def _compose(
    theirs: NDArray[np.int32],
    ours: NDArray[np.int32],
    from_theirs: Iterable[int],
    from_ours: Iterable[int],
) -> NDArray[np.int32]:
    """Paint objects of two label images into one; where both agree there is no question."""
    labels = theirs.copy()
    differ = np.nonzero(theirs != ours)
    t, o = theirs[differ], ours[differ]
    t = np.where(np.isin(t, np.fromiter(from_theirs, np.int32)), t, 0)
    labels[differ] = np.where(np.isin(o, np.fromiter(from_ours, np.int32)), o, t)
    return labels


def _conflicts(split: _Split, disputed: Mapping[int, set[int]]) -> tuple[Conflict, ...]:
    """Describe the objects in conflict, ascending by id."""
    if not disputed:
        return ()
    before = set(split.base.ids)
    places = _places((split.ours, split.theirs, split.base), disputed)
    return tuple(
        Conflict(
            id_,
            "present" if id_ in before else "absent",
            _word(split.by_theirs, id_, id_ in before),
            _word(split.by_ours, id_, id_ in before),
            tuple(sorted(others)),
            places[id_],
        )
        for id_, others in disputed.items()
    )


def _word(made: ObjectChanges, id_: int, before: bool) -> str:
    """Say what one side did to an object."""
    words = [name for name in _KINDS[:3] if id_ in getattr(made, name)]
    if id_ in made.reclassified:
        words.append("reclassified {} -> {}".format(*made.reclassified[id_]))
    return ", ".join(words) or ("present" if before else "absent")


def _places(sides: Iterable[Objects], ids: Iterable[int]) -> dict[int, tuple[int, ...]]:
    """Return the first pixel of each object, on the first side that has it."""
    wanted = np.fromiter(ids, np.int32)
    places: dict[int, tuple[int, ...]] = {}
    for side in sides:
        at = np.flatnonzero(np.isin(side.labels, wanted))
        found, first = np.unique(side.labels.ravel()[at], return_index=True)
        pixels = np.unravel_index(at[first], side.labels.shape)
        for id_, *place in zip(found.tolist(), *(axis.tolist() for axis in pixels), strict=True):
            places.setdefault(id_, tuple(place))
    return places


def _count(number: int, noun: str) -> str:
    """Return the number with its noun."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
