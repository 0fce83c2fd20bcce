"""Which images to correct next, so that an hour of correcting mends most.

`opsef_bridge.sweep.review.review_order` says how many objects of an image are expected wrong. A
person's time is what is scarce, so here that number is divided by the time that the image takes.
Among images that are worth about the same the one that looks least like those that were
corrected already comes first: a network learns more from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.errors import InputError
from opsef_bridge.execute import Event
from opsef_bridge.project import Project, Run
from opsef_bridge.rois.answers import vouched
from opsef_bridge.sweep.asking import compared_run
from opsef_bridge.sweep.review import Doubt, review_order

__all__ = ["NextUp", "in_order", "minutes_of", "next_up"]

OPEN, LOOK, MEND = 20.0, 0.5, 6.0
"""Seconds to open and save an image, to look at an object, to mend a place. They are
assumptions: others change the order only where images differ much in size."""

ALIKE = 0.8
"""Share of the best worth from which images count as worth about the same."""

Tell = Callable[[Event], None]


@dataclass(frozen=True)
class NextUp:
    """An image to correct.

    Parameters
    ----------
    image, run, variant : str
        Ids; the objects of this variant are what to start from.
    objects, places : int
        Objects of the variant, and places at which one is doubtful or missing.
    wrong : float
        Expected number of wrong and missing objects, of those nobody vouched for.
    minutes : float
        That correcting it is expected to take.
    per_minute : float
        `wrong` over `minutes`.
    unlike : float or None
        Distance to the nearest image that is vouched for or comes before it, in standard
        deviations of the images; None for the first where nothing is vouched for.
    edited : str or None
        Newest revision of the image's objects.
    """

    image: str
    run: str
    variant: str
    objects: int
    places: int
    wrong: float
    minutes: float
    per_minute: float
    unlike: float | None
    edited: str | None

    def to_json(self) -> dict[str, Any]:
        """Return what JSON holds of it."""
        return asdict(self)


def next_up(
    project: Project,
    *,
    run: str | None = None,
    variant: str | None = None,
    group: str | None = None,
    count: int | None = None,
    tell: Tell = lambda event: None,
) -> list[NextUp]:
    """Return the images that to correct next mends most, best first.

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
    tell : callable
        Takes an `Event` for each image.

    Returns
    -------
    list of NextUp
        Without images that are vouched for as a whole, and those in which nothing is
        expected wrong.

    Raises
    ------
    InputError
        `count` is below 1; or as `review_order`.
    NotFoundError, ProjectError
        As `review_order`.
    """
    if count is not None and count < 1:
        raise InputError(f"{count} images cannot be listed", hint="Ask for at least 1")
    folder = compared_run(project, run)
    doubts = review_order(project, run=folder.id, variant=variant, group=group, tell=tell)
    shares = {one.image: _vouched_share(project, one.image) for one in doubts}
    open_ = [one for one in doubts if (shares[one.image] or 0) < 1 and one.doubt > 0]
    looks = _looks(folder, doubts)
    known = [looks[image] for image, share in shares.items() if share is not None]
    worth = [one.doubt / minutes_of(one.objects, one.doubtful + one.missing) for one in open_]
    order = in_order(worth, [looks[one.image] for one in open_], known)
    return [_item(open_[at], folder, unlike) for at, unlike in order[:count]]


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


def _item(one: Doubt, run: Run, unlike: float | None) -> NextUp:
    places = one.doubtful + one.missing
    minutes = minutes_of(one.objects, places)
    return NextUp(
        image=one.image,
        run=run.id,
        variant=one.variant,
        objects=one.objects,
        places=places,
        wrong=one.doubt,
        minutes=round(minutes, 2),
        per_minute=round(one.doubt / minutes, 3),
        unlike=unlike,
        edited=one.edited,
    )


def _vouched_share(project: Project, image: str) -> float | None:
    """Share of the pixels that are known throughout; None where nothing is vouched for."""
    said = vouched(project, image)
    return None if said is None else float(said.known.mean())


def _looks(run: Run, doubts: Sequence[Doubt]) -> Mapping[str, NDArray[np.float64]]:
    """How the labels of images look: number and size of objects, as standard scores."""
    rows = np.array([_look(run.labels(one.variant, one.image)) for one in doubts])
    spread = rows.std(axis=0)
    scores = (rows - rows.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return {one.image: row for one, row in zip(doubts, scores, strict=True)}


def _look(labels: NDArray[np.int32]) -> list[float]:
    """Logarithms of the number of objects per pixel and of their median size, and its spread."""
    sizes = np.unique(labels[labels > 0], return_counts=True)[1]
    if not len(sizes):
        return [np.log(1 / labels.size), 0.0, 0.0]
    logs = np.log(sizes)
    return [float(np.log(len(sizes) / labels.size)), float(np.median(logs)), float(logs.std())]


def _distances(
    looks: Sequence[NDArray[np.float64]], one: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.array([np.linalg.norm(look - one) for look in looks])
