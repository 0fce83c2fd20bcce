"""Which images to correct next, so that an hour of correcting mends most.

`opsef_bridge.sweep.review.review_order` says how many objects of an image are expected wrong. A
person's time is what is scarce, so here that number is divided by the time that the image takes.
Among images that are worth about the same the one that looks least like those that were
corrected already comes first: a network learns more from it. Images larger than a tile are
listed box by box.

The minutes are assumptions. A project cannot correct them: a revision says when it was saved, not
when its image was opened, and between two saves there may be a break, other work or an import.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.errors import InputError
from opsef_bridge.execute import Event
from opsef_bridge.project import Project, Run
from opsef_bridge.sweep.asking import compared_run
from opsef_bridge.sweep.review import review_order
from opsef_bridge.sweep.sample import Box
from opsef_bridge.train.next_parts import TILE, Part, parts_of

__all__ = ["NextUp", "fitting", "in_order", "minutes_of", "next_up"]

OPEN, LOOK, MEND = 20.0, 0.5, 6.0
"""Seconds to open and save an image, to look at an object, to mend a place. They are
assumptions: others change the order only where images differ much in size."""

ALIKE = 0.8
"""Share of the best worth from which images count as worth about the same."""

Tell = Callable[[Event], None]


@dataclass(frozen=True)
class NextUp:
    """An image to correct, or a box of it.

    Parameters
    ----------
    image, run, variant : str
        Ids; the objects of this variant are what to start from.
    box : (y, x, height, width) or None
        Of an image larger than a tile, in its pixels; None is the whole image.
    objects, places : int
        Objects of the variant, and places at which one is doubtful or missing. Objects are
        counted in the box that has the middle of theirs.
    wrong : float
        Expected number of wrong and missing objects, of those nobody vouched for.
    minutes : float
        That correcting it is expected to take.
    per_minute : float
        `wrong` over `minutes`.
    unlike : float or None
        Distance to the nearest image or box that is vouched for or comes before it, in standard
        deviations of all; None for the first where nothing is vouched for.
    edited : str or None
        Newest revision of the image's objects.
    """

    image: str
    run: str
    variant: str
    box: Box | None
    objects: int
    places: int
    wrong: float
    minutes: float
    per_minute: float
    unlike: float | None
    edited: str | None

    @property
    def scope(self) -> str:
        """What `opsef_bridge.rois.truth.parse_scope` reads: the box, or ``whole``."""
        return "whole" if self.box is None else ",".join(map(str, self.box))

    def to_json(self) -> dict[str, Any]:
        """Return what JSON holds of it; ``scope`` too."""
        return {**asdict(self), "scope": self.scope}


def next_up(
    project: Project,
    *,
    run: str | None = None,
    variant: str | None = None,
    group: str | None = None,
    count: int | None = None,
    tile: int | None = TILE,
    tell: Tell = lambda event: None,
) -> list[NextUp]:
    """Return the images, and boxes of large ones, that to correct next mends most, best first.

    Parameters
    ----------
    project : Project
    run : str, optional
        A sweep, a refinement or a consensus; the newest sweep by default.
    variant : str, optional
        Whose objects are corrected; by default as in `opsef_bridge.sweep.review.review`.
    group : str, optional
        Only images of this group.
    count : int, optional
        So many at most; all by default.
    tile : int or None
        Side in pixels: of a larger image boxes are listed. None lists images only.
    tell : callable
        Takes an `Event` for each image.

    Returns
    -------
    list of NextUp
        Without images and boxes that are vouched for as a whole, and those in which nothing
        is expected wrong.

    Raises
    ------
    InputError
        `count` is below 1, or `tile` below 64; or as `review_order`.
    NotFoundError, ProjectError
        As `review_order`.
    """
    if count is not None and count < 1:
        raise InputError(f"{count} images cannot be listed", hint="Ask for at least 1")
    folder = compared_run(project, run)
    doubts = review_order(project, run=folder.id, variant=variant, group=group, tell=tell)
    parts = parts_of(project, folder, doubts, tile)
    looks = _standard([one.look for one in parts])
    known = [look for one, look in zip(parts, looks, strict=True) if one.share is not None]
    open_ = [at for at, one in enumerate(parts) if one.is_open]
    worth = [parts[at].wrong / _minutes(parts[at]) for at in open_]
    order = in_order(worth, [looks[at] for at in open_], known)
    return [_item(parts[open_[at]], folder, unlike) for at, unlike in order[:count]]


def fitting(found: Sequence[NextUp], minutes: float) -> int:
    """Return how many of the first fit in the time; the first always does.

    Raises
    ------
    InputError
        There is no time.
    """
    if not minutes > 0:
        raise InputError(f"{minutes:g} minutes are no time", hint="Give more than 0: 60")
    spent = np.cumsum([one.minutes for one in found])
    return max(min(1, len(found)), int(np.searchsorted(spent, minutes, side="right")))


def minutes_of(objects: int, places: int) -> float:
    """Return how long an image is expected to take, in minutes.

    Examples
    --------
    >>> minutes_of(objects=80, places=10)
    2.0
    """
    return (OPEN + LOOK * objects + MEND * places) / 60


def in_order(
    worth: Sequence[float],
    looks: Sequence[NDArray[np.float64]],
    known: Sequence[NDArray[np.float64]] = (),
) -> list[tuple[int, float | None]]:
    """Return the order of images, each with its distance to what is known or came before it.

    Parameters
    ----------
    worth : sequence of float
        Of each image; more is better.
    looks : sequence of (F,) ndarray
        How each image looks, in comparable units.
    known : sequence of (F,) ndarray
        How those look that a person has corrected.

    Returns
    -------
    list of (int, float or None)
        Positions; each time, of those that are worth at least 0.8 of the best that is left, the
        one that is farthest from all before it.

    Examples
    --------
    >>> import numpy as np
    >>> alike, other = np.zeros(2), np.ones(2)
    >>> [at for at, _ in in_order([10, 9.5, 9, 1], [alike, alike, other, other])]
    [0, 2, 1, 3]
    """
    far = np.full(len(worth), np.inf)
    for one in known:
        far = np.minimum(far, _distances(looks, one))
    left, order = sorted(range(len(worth)), key=lambda at: -worth[at]), []
    while left:
        level = ALIKE * worth[left[0]]
        near = [at for at in left if worth[at] >= level]
        taken = max(near, key=lambda at: far[at])  # the first of equals: that of most worth
        order.append((taken, None if np.isinf(far[taken]) else round(float(far[taken]), 3)))
        far = np.minimum(far, _distances(looks, looks[taken]))
        left.remove(taken)
    return order


def _minutes(part: Part) -> float:
    return minutes_of(part.objects, part.places)


def _item(one: Part, run: Run, unlike: float | None) -> NextUp:
    minutes = _minutes(one)
    return NextUp(
        image=one.image,
        run=run.id,
        variant=one.variant,
        box=one.box,
        objects=one.objects,
        places=one.places,
        wrong=one.wrong,
        minutes=round(minutes, 2),
        per_minute=round(one.wrong / minutes, 3),
        unlike=unlike,
        edited=one.edited,
    )


def _standard(looks: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Standard scores of how the labels look."""
    rows = np.array(looks)
    spread = rows.std(axis=0)
    return list((rows - rows.mean(axis=0)) / np.where(spread > 0, spread, 1))


def _distances(
    looks: Sequence[NDArray[np.float64]], one: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.array([np.linalg.norm(look - one) for look in looks])
