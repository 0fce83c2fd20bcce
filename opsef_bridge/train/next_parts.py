"""What can be corrected in one sitting: an image, or a box of one that is larger than a tile.

An image of 10,000 x 10,000 px is not corrected as a whole. Its boxes are of the kind that
``opsef truth add IMAGE y,x,height,width`` vouches for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.errors import InputError
from opsef_bridge.measure.moments import boxes
from opsef_bridge.measure.overlap import label_runs
from opsef_bridge.project import Project, Run
from opsef_bridge.rois.answers import Vouched, vouched
from opsef_bridge.sweep.planned import Plan, PlannedImage
from opsef_bridge.sweep.review import Doubt
from opsef_bridge.sweep.sample import Box
from opsef_bridge.sweep.sites import Site
from opsef_bridge.sweep.supported import Supported

__all__ = ["LEAST_TILE", "TILE", "Part", "grid", "parts_of"]

TILE = 1024
"""Side in pixels of what is corrected in one sitting at most."""

LEAST_TILE = 64
"""Smaller boxes would hold parts of objects."""


@dataclass(frozen=True, eq=False)
class Part:
    """An image, or a box of it.

    Parameters
    ----------
    image, variant : str
    box : (y, x, height, width) or None
        In pixels of the whole image; None is all of it.
    objects, places : int
        Objects of the variant with their middle in it, and places that are open.
    wrong : float
        Expected number of wrong and missing objects, of those nobody vouched for.
    share : float or None
        Share of its pixels that are known throughout; None where nothing is vouched for.
    edited : str or None
        Newest revision of the image's objects.
    look : (3,) ndarray
        How the labels look: logarithms of the number of objects per pixel and of their median
        size, and the spread of the latter.
    """

    image: str
    variant: str
    box: Box | None
    objects: int
    places: int
    wrong: float
    share: float | None
    edited: str | None
    look: NDArray[np.float64]

    @property
    def is_open(self) -> bool:
        """Whether anything is expected wrong in it that nobody vouched for."""
        return (self.share or 0) < 1 and self.wrong > 0


def parts_of(
    project: Project, run: Run, doubts: Iterable[Doubt], tile: int | None = TILE
) -> list[Part]:
    """Return what there is to correct of some images, box by box where they are large.

    Parameters
    ----------
    project : Project
    run : Run
        That `doubts` are of.
    doubts : iterable of Doubt
        Of `opsef_bridge.sweep.review.review_order`.
    tile : int or None
        Side in pixels; None takes images whole.

    Returns
    -------
    list of Part
        Those of which all is vouched for too. Where the run saw a crop of a large image, its
        boxes are in the crop.

    Raises
    ------
    InputError
        `tile` is below `LEAST_TILE`.
    NotFoundError, ProjectError
        As `opsef_bridge.sweep.review.review`.
    """
    if tile is not None and tile < LEAST_TILE:
        raise InputError(
            f"a tile of {tile} px is too small", hint=f"Take {LEAST_TILE} px or more, or none"
        )
    found: list[Part] = []
    seen = {one.id: one.box for one in Plan.from_json(run.plan()).images}
    for one in doubts:
        labels = run.labels(one.variant, one.image)
        said = vouched(project, one.image)
        whole = Part(
            image=one.image, variant=one.variant, box=None, objects=one.objects,
            places=one.doubtful + one.missing, wrong=one.doubt,
            share=None if said is None else float(said.known.mean()),
            edited=one.edited, look=_look(labels),
        )  # fmt: skip
        cut = None
        if tile is not None and (seen[one.image] or max(labels.shape[-2:]) > tile):
            cut = _boxes_of(project, run, whole, labels, said, tile)
        found += cut or [whole]
    return found


def grid(sides: Sequence[int], tile: int) -> list[NDArray[np.int64]]:
    """Return where boxes of nearly the same size begin and end along each side.

    Parameters
    ----------
    sides : sequence of int
        Height and width in pixels.
    tile : int
        Largest side of a box.

    Examples
    --------
    >>> [edges.tolist() for edges in grid((1000, 2100), 1024)]
    [[0, 1000], [0, 700, 1400, 2100]]
    """
    counts = [math.ceil(side / tile) for side in sides]
    return [
        np.linspace(0, side, count + 1).round().astype(np.int64)
        for side, count in zip(sides, counts, strict=True)
    ]


def _boxes_of(
    project: Project, run: Run, whole: Part, labels: NDArray[np.int32], said: Vouched | None,
    tile: int,
) -> list[Part] | None:  # fmt: skip
    """The boxes of an image; None where it is no larger than one."""
    looked = Supported.of_image(project, whole.image, whole.variant, run.id)
    planned = looked.planned(whole.image)
    site = looked.site(planned)
    site.labels(whole.variant)  # for the shape
    if max(site.shape[-2:]) <= tile:
        return None
    edges = grid(labels.shape[-2:], tile)
    counts, places, wrong = _spread(looked, planned, site, labels, edges)
    top, left = planned.box[:2] if planned.box else (0, 0)
    found = []
    for row, column in np.ndindex(wrong.shape):
        (y, bottom), (x, right) = edges[0][row : row + 2], edges[1][column : column + 2]
        box = (int(y + top), int(x + left), int(bottom - y), int(right - x))
        part = replace(
            whole, box=box, objects=int(counts[row, column]), places=int(places[row, column]),
            wrong=round(float(wrong[row, column]), 3), share=_share(said, box),
            look=_look(labels[..., y:bottom, x:right]),
        )  # fmt: skip
        found.append(part)
    return found


def _spread(
    looked: Supported,
    planned: PlannedImage,
    site: Site,
    labels: NDArray[np.int32],
    edges: Sequence[NDArray[np.int64]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Objects, open places and expected wrong objects of each box, by the middles of objects."""
    support, work = looked.work(planned)
    low, high, _ = boxes(label_runs(labels))
    around = np.concatenate([low, high]).T  # a row for each label, ascending, as in `support`
    doubts = 1 - np.fromiter(support.values(), float, len(support))
    if vouched(looked.project, planned.id) is not None:
        pairs = zip(support, around, strict=True)
        doubts[[site.decides(looked.chosen.id, label, box) for label, box in pairs]] = 0
    over = looked.decided(planned, site, work)
    open_ = [one for one, decided in zip(work, over, strict=True) if not decided]
    places = np.array([one.box for one in open_], np.int64).reshape(-1, around.shape[1])
    missing = [one.support if one.what == "missing" else 0.0 for one in open_]

    def total(around: NDArray[np.int64], values: Sequence[float] | None = None) -> Any:
        middles = (around[:, : labels.ndim] + around[:, labels.ndim :])[:, -2:] // 2
        return np.histogram2d(*middles.T, bins=edges, weights=values)[0]

    return total(around), total(places), total(around, doubts) + total(places, missing)


def _share(said: Vouched | None, box: Box) -> float | None:
    """Share of a box that is known throughout; None where nothing in it is vouched for."""
    if said is None:
        return None
    y, x, height, width = box
    window = (..., slice(y, y + height), slice(x, x + width))
    known = said.known[window]
    return float(known.mean()) if known.any() or said.labels[window].any() else None


def _look(labels: NDArray[np.int32]) -> NDArray[np.float64]:
    sizes = np.unique(labels[labels > 0], return_counts=True)[1]
    if not len(sizes):
        return np.array([np.log(1 / labels.size), 0.0, 0.0])
    logs = np.log(sizes)
    return np.array([np.log(len(sizes) / labels.size), np.median(logs), logs.std()])
