"""The objects of one image, as everything that edits, saves or compares them holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.errors import InputError
from opsef_bridge.measure.changes import present

__all__ = ["LARGEST_CLASS", "Objects"]

LARGEST_CLASS = 255
"""ImageJ keeps the group of a ROI in a byte."""


@dataclass(frozen=True)
class Objects:
    """Labels and classes of the objects of an image.

    Attributes
    ----------
    labels : ([Z,] Y, X) int32 ndarray
        0 is background; an object of a volume has one label in all planes. The whole image:
        objects of a crop lie where they lie in the source.
    classes : dict of int to int
        Class, from 1 to 255, by label. Objects without an entry are not classified.

    Raises
    ------
    InputError
        `labels` are no plane or volume of integers; a class is out of range, or that of a
        label which does not occur.

    Examples
    --------
    >>> objects = Objects(np.array([[0, 7], [9, 9]]), {7: 2})
    >>> objects.ids, objects.classes
    ([7, 9], {7: 2})
    """

    labels: NDArray[np.int32]
    classes: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        if labels.ndim not in (2, 3) or labels.dtype.kind not in "iub":
            raise InputError(
                f"labels of dtype {labels.dtype} and shape {labels.shape} are no objects",
                hint="Give integers with axes YX or ZYX",
            )
        if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < 2**31:
            raise InputError(
                f"labels from {labels.min()} to {labels.max()} are no ids",
                hint="Ids are integers from 0 (background) to 2147483647",
            )
        object.__setattr__(self, "labels", labels.astype(np.int32, copy=False))
        known = set(self.ids)
        classes = {int(label): int(number) for label, number in self.classes.items() if number}
        for label, number in classes.items():
            if label not in known or not 1 <= number <= LARGEST_CLASS:
                raise InputError(
                    f"class {number} of object {label}",
                    hint=f"Classes are 1 to {LARGEST_CLASS}, of objects that the labels have",
                )
        object.__setattr__(self, "classes", dict(sorted(classes.items())))

    @property
    def ids(self) -> list[int]:
        """The labels that occur, ascending, without the background."""
        return present(self.labels)

    def renumbered(self, ids: Mapping[int, int]) -> Objects:
        """Return the same objects by other numbers; those that `ids` lacks keep theirs.

        Raises
        ------
        InputError
            Two objects would get the same number, or one a number below 1 or above 2147483647.
        """
        old = self.ids
        new = [int(ids.get(label, label)) for label in old]
        if old == new:
            return self
        if len(set(new)) < len(new):
            raise InputError(f"two of {len(old)} objects get one number", hint="Give each its own")
        if not 1 <= min(new) <= max(new) < 2**31:
            raise InputError(
                f"numbers from {min(new)} to {max(new)} are no ids",
                hint="Ids are integers from 1 to 2147483647",
            )
        if old[-1] <= self.labels.size + 65_536:
            table = np.zeros(old[-1] + 1, np.int32)
            table[old] = new
            labels = table[self.labels]
        else:  # a table by value would be larger than the image
            table = np.array([0, *new], np.int32)
            labels = table[np.searchsorted(np.array([0, *old]), self.labels)]
        both = dict(zip(old, new, strict=True))
        return Objects(labels, {both[label]: number for label, number in self.classes.items()})

    def same_as(self, other: Objects) -> bool:
        """Whether the same objects, by the same ids, have the same pixels and classes."""
        return dict(self.classes) == dict(other.classes) and np.array_equal(
            self.labels, other.labels
        )
