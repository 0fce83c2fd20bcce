"""How a picture looks at the objects of a label image, and whether models learned from the like.

Labels alone cannot tell that all models draw the objects of a blurred picture too large alike:
they agree. The picture can. Two figures of it are compared with what the shipped networks for
fluorescence learned from. What other models learned from is not known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Appearance", "Pictures", "appearance", "learned"]

MOST_OBJECTS = 60
"""Objects of a plane that are looked at, evenly spread."""

MOST_PLANES = 8
"""Planes of a volume that are looked at, evenly spread over those with objects."""

LEAST_PIXELS, LEAST_AROUND = 20, 3
"""Of an object that is looked at; of what lies around or inside it."""

DEEP, NEAR, FAR = 0.3, 0.5, 1.0
"""Inside is what lies deeper than this, around what lies between these, in radii."""

SHARE = 1 / 3
"""Of the images that must look unlike what the models learned from until a caution is due."""


@dataclass(frozen=True)
class Appearance:
    """How a picture looks at the objects of a label image: medians over the objects.

    Parameters
    ----------
    contrast : float
        Median inside less median around, over the standard deviation of both together. 2 or
        a little more for evenly bright objects on an even ground, less for noise and texture,
        near 0 where an outline has nothing to do with the picture, negative for dark objects.
    edge : float
        Width of the edge at the outline over the diameter of the object, 1 at most: that of a
        straight ramp from around to inside with the slope at the outline.
    objects : int
        How many were looked at.

    Notes
    -----
    Inside lies deeper than 0.3 radii; around lies half a radius to a radius outside, and
    nearer to no other object. The border of the picture is no outline. Both figures stay the
    same if the picture is enlarged, brightened or stretched. Volumes are looked at plane by plane.
    """

    contrast: float
    edge: float
    objects: int

    def unlike(self) -> tuple[str, ...]:
        """Return which figures lie outside of what the shipped networks learned from.

        Examples
        --------
        >>> Appearance(contrast=2.3, edge=0.2, objects=9).unlike()
        ()
        >>> Appearance(contrast=0.4, edge=0.2, objects=9).unlike()
        ('contrast',)
        """
        found = {
            "contrast": self.contrast < learned()["contrast_from"],
            "edge": self.edge > learned()["edge_to"],
        }
        return tuple(name for name, beyond in found.items() if beyond)


@dataclass(frozen=True)
class Pictures:
    """How the images of a ranking look at the objects of one variant.

    Parameters
    ----------
    variant : str
        Id.
    families : frozenset of str
        Whose variants voted.
    looks : mapping of str to Appearance
        By image; those without an object, and those that cannot be read, are not there.
    """

    variant: str
    families: frozenset[str]
    looks: Mapping[str, Appearance]

    @property
    def judged(self) -> bool:
        """Whether what they learned from is known of half of the families at least."""
        known = self.families & set(learned()["families"])
        return bool(known) and 2 * len(known) >= len(self.families)

    @property
    def unlike(self) -> dict[str, tuple[str, ...]]:
        """The images that look unlike what they learned from, and by which figures."""
        if not self.judged:
            return {}
        return {image: how for image, look in self.looks.items() if (how := look.unlike())}

    @property
    def cautioned(self) -> bool:
        """Whether so many of the images do that agreement is not to be relied on."""
        return bool(self.unlike) and len(self.unlike) >= SHARE * len(self.looks)


@cache
def learned() -> dict[str, Any]:
    """Return what the shipped networks for fluorescence learned from.

    Returns
    -------
    dict
        ``families``, and ``contrast_from`` and ``edge_to``, beyond each of which 2.5 % of the
        images lie that they were trained on; ``version``, ``source``, ``data_sha256``.
    """
    file = Path(__file__).with_name("appearance_constants.json")
    return json.loads(file.read_text("utf-8"))


def appearance(image: NDArray[Any], labels: NDArray[Any]) -> Appearance | None:
    """Return how a picture looks at its objects; None where there are none to look at.

    Parameters
    ----------
    image : ([Z,] Y, X) ndarray of any real dtype
    labels : ([Z,] Y, X) ndarray of int
        0 is background.

    Examples
    --------
    >>> y, x = np.indices((60, 60)) - 30
    >>> disc = np.hypot(y, x) < 12
    >>> sharp, soft = (ndimage.gaussian_filter(disc * 100.0, sigma) for sigma in (1, 4))
    >>> [round(appearance(one, disc.astype(int)).edge, 2) for one in (sharp, soft)]
    [0.13, 0.38]
    >>> appearance(-sharp, disc.astype(int)).contrast < -2
    True
    """
    found = [
        look
        for plane, picture in _planes(image, labels)
        for look in _looks(np.asarray(picture, np.float64), plane)
    ]
    if not found:
        return None
    contrast, edge = np.median(found, axis=0)
    return Appearance(float(contrast), float(edge), len(found))


def _planes(image: NDArray[Any], labels: NDArray[Any]) -> list[tuple[NDArray, NDArray]]:
    if labels.ndim == 2:
        return [(labels, image)]
    there = np.flatnonzero(labels.any(axis=(1, 2)))
    chosen = there[_spread(len(there), MOST_PLANES)]
    return [(labels[z], image[z]) for z in chosen]


def _spread(count: int, most: int) -> NDArray[np.intp]:
    """Return at most so many positions of `count`, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp))


def _looks(image: NDArray[np.float64], labels: NDArray[Any]) -> list[tuple[float, float]]:
    if not labels.any():
        return []
    boxes = [(i, box) for i, box in enumerate(ndimage.find_objects(labels), 1) if box]
    found = [_look(image, labels, *boxes[at]) for at in _spread(len(boxes), MOST_OBJECTS)]
    return [look for look in found if look is not None]


def _look(
    image: NDArray[np.float64], labels: NDArray[Any], label: int, box: tuple[slice, ...]
) -> tuple[float, float] | None:
    """Return contrast and edge of one object; None where it is small, or nothing is around."""
    area = np.count_nonzero(labels[box] == label)
    if area < LEAST_PIXELS:
        return None
    radius = np.sqrt(area / np.pi)
    margin = int(np.ceil(radius)) + 2
    window = tuple(slice(max(side.start - margin, 0), side.stop + margin) for side in box)
    picture = image[window]
    depth, free = _depth(labels[window], label)
    inside = picture[free & (depth > DEEP * radius)]
    around = picture[free & (depth < -NEAR * radius) & (depth > -FAR * radius)]
    if min(len(inside), len(around)) < LEAST_AROUND:
        return None
    if not np.isfinite(picture).all():
        return 0.0, 1.0
    step = np.median(inside) - np.median(around)
    spread = np.concatenate([inside, around]).std()
    before, after = (_mean(picture[free & (np.abs(depth - at) <= 0.75)]) for at in (-1, 1))
    slope = (after - before) / 2
    width = step / slope if step * slope > 0 else np.inf
    return (step / spread if spread else 0.0), min(width / (2 * radius), 1.0)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _depth(labels: NDArray[Any], label: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the distance to the outline, positive inside, and where no other object is nearer.

    The border of the picture, which cuts an object, is no outline of it.
    """
    own = labels == label
    inside = ndimage.distance_transform_edt(np.pad(own, 1, mode="edge"))[1:-1, 1:-1]
    outside = ndimage.distance_transform_edt(~own)
    depth = np.where(own, inside - 0.5, 0.5 - outside)
    other = (labels > 0) & ~own
    if not other.any():
        return depth, np.ones(own.shape, bool)
    away = ndimage.distance_transform_edt(~other)
    return depth, np.where(own, away > inside + 1, away > outside)
