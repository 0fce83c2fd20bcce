"""What a group of images is ranked by: object supports, object sizes, vouched objects.

Each takes the labels of all variants of an image, so what follows from them is kept in the
project's cache under the keys of the labels. Ranking anew after an answer then reads the
labels of one image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from opsef_bridge.compare import Compared, ImageSupport, compare_images, ranked
from opsef_bridge.compare.confidence import object_supports
from opsef_bridge.compare.sizes import object_size
from opsef_bridge.compare.votes import Labels, support_of, voting
from opsef_bridge.compare.vouched import INSIDE, Tally, tally
from opsef_bridge.config import Config
from opsef_bridge.errors import OpsefError, ProjectError
from opsef_bridge.files import key_of
from opsef_bridge.project import Project, Run
from opsef_bridge.rois.answers import Vouched, read_answers, vouched
from opsef_bridge.sweep.cache import ArrayCache
from opsef_bridge.sweep.planned import PlannedImage, Variant
from opsef_bridge.sweep.sample import Box
from opsef_bridge.sweep.tiling import segmented_shape

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Evidence", "cut_vouched", "gather"]

VERSION = "2"
"""Of what is kept: part of every key."""

Outcomes = Mapping[tuple[str, str], Mapping[str, Any]]


@dataclass(frozen=True)
class Evidence:
    """What the ranking of some images is made from.

    Parameters
    ----------
    families : tuple of str
        Of each variant.
    images : tuple of str
        Ids of those images that any variant has labels of.
    compared : tuple of Compared
        Of each image.
    sizes : tuple of float
        Median diameter of the objects of each image in pixels, 0 where there are none.
    tallies : mapping of str to (Tally, bool)
        By image, where something is vouched for; whether by answers to questions.
    troubles : tuple of str
        Sentences: why something that is vouched for does not count.
    """

    families: tuple[str, ...]
    images: tuple[str, ...]
    compared: tuple[Compared, ...]
    sizes: tuple[float, ...]
    tallies: Mapping[str, tuple[Tally, bool]]
    troubles: tuple[str, ...] = ()

    @cached_property
    def ranking(self) -> tuple[pd.DataFrame, list[ImageSupport]]:
        """The table of the variants by agreement, and the supports that it is made from."""
        return ranked(self.compared, self.families)

    @property
    def supports(self) -> list[ImageSupport]:
        """Support of the objects of each image, by the voices of these images."""
        return self.ranking[1]

    @property
    def judged(self) -> list[Tally]:
        """The tallies of all images."""
        return [self.tallies[image][0] for image in self.images if image in self.tallies]

    @property
    def answers(self) -> int:
        """How many objects and places are vouched for."""
        return sum(one.answers for one in self.judged)

    @property
    def asked(self) -> bool:
        """Whether most of them are answers to questions."""
        asked = sum(one.answers for one, was_asked in self.tallies.values() if was_asked)
        return 2 * asked > sum(one.answers for one, _ in self.tallies.values())

    def of(self, images: Sequence[str]) -> Evidence:
        """Return that of some of the images."""
        at = [self.images.index(image) for image in images]
        return Evidence(
            self.families,
            tuple(images),
            tuple(self.compared[i] for i in at),
            tuple(self.sizes[i] for i in at),
            {image: self.tallies[image] for image in images if image in self.tallies},
        )


def gather(
    project: Project,
    run: Run,
    images: Sequence[PlannedImage],
    variants: Sequence[Variant],
    outcomes: Outcomes,
    report: Callable[[str], object] = lambda image: None,
) -> Evidence:
    """Gather what `images` are ranked by.

    Parameters
    ----------
    outcomes : mapping of (image, variant) to outcome
    report : callable
        Takes the id of the image that is in work.

    Raises
    ------
    ProjectError
        Labels that the run has made are gone or damaged, and nothing is kept of them.
    """
    kept, tallies, troubles = {}, {}, []
    for image in images:
        report(image.id)
        looked = _Look(project, run, image, variants, outcomes)
        if not any(looked.keys):
            continue
        kept[image.id] = looked.compared()
        try:
            judged = looked.tally()
        except OpsefError as error:
            troubles.append(f"What is vouched for of {image.id} does not count: {error}")
            continue
        if judged and judged[0].answers:
            tallies[image.id] = judged
    return Evidence(
        tuple(variant.family for variant in variants),
        tuple(kept),
        tuple(compared for compared, _ in kept.values()),
        tuple(size for _, size in kept.values()),
        tallies,
        tuple(troubles),
    )


def cut_vouched(
    labels: np.ndarray, known: np.ndarray, box: Box | None
) -> tuple[np.ndarray, np.ndarray]:
    """Cut what is vouched for of a whole image to the box that a sweep works on.

    An object of which less than half lies in the box is nobody's there: it is taken out, and
    nothing is known where it was.

    Parameters
    ----------
    labels : ([Z,] Y, X) ndarray of int
    known : ([Z,] Y, X) ndarray of bool
    box : (y, x, height, width) or None

    Examples
    --------
    >>> labels, known = np.array([[1, 1, 1, 2, 2, 0]]), np.ones((1, 6), bool)
    >>> cut_vouched(labels, known, (0, 2, 1, 4))[0].tolist()
    [[0, 2, 2, 0]]
    """
    if box is None:
        return labels, known
    y, x, height, width = box
    cut = labels[..., y : y + height, x : x + width]
    whole = np.bincount(labels.ravel())
    inside = np.bincount(cut.ravel(), minlength=len(whole))
    stays = inside >= INSIDE * whole
    stays[0] = True
    known = known[..., y : y + height, x : x + width] & stays[cut]
    return np.where(stays[cut], cut, 0), known


class _Look:
    """One image of a run: its labels are read once, and only where they are needed."""

    def __init__(
        self,
        project: Project,
        run: Run,
        image: PlannedImage,
        variants: Sequence[Variant],
        outcomes: Outcomes,
    ) -> None:
        self.project, self.run, self.image, self.variants = project, run, image, variants
        of = [outcomes.get((image.id, variant.id)) for variant in variants]
        self.keys = [o["key"] if o and o["status"] != "failed" else None for o in of]
        self.families = [variant.family for variant in variants]
        self._cache = ArrayCache(project.cache_folder)
        self._labels: list[np.ndarray | None] | None = None

    def compared(self) -> tuple[Compared, float]:
        """Return the comparison of all variants, and the median diameter of the objects."""
        key = key_of("compared", VERSION, self.keys, self.families)
        found = self._cache.get(key)
        if found is not None:
            arrays, values = found
            return _unpacked(arrays), values["size"]
        made = compare_images(self.labels())
        supports = object_supports(support_of(made, self.families), self.families)
        votes = voting(self.families)
        labels = [one if v else None for one, v in zip(self.labels(), votes, strict=True)]
        size = object_size(labels, supports)
        self._cache.put(key, _packed(made), {"size": size})
        return made, size

    def tally(self) -> tuple[Tally, bool] | None:
        """Return how the variants do where something is vouched for."""
        told = vouched(self.project, self.image.id)
        if told is None:
            return None
        truth, known = cut_vouched(told.labels, told.known, self.image.box)
        empty = min(told.empty, self._empty_inside(told.labels.shape))
        digest = hashlib.blake2b(np.ascontiguousarray(truth), digest_size=16)
        digest.update(np.ascontiguousarray(known))
        shapes = told.labels.shape, truth.shape
        key = key_of("tally", VERSION, self.keys, *shapes, digest.hexdigest(), empty)
        found = self._cache.get(key)
        if found is not None:
            return Tally(found[0]["hits"], found[0]["false"], empty), told.asked
        self._check_place(told, bool(truth.any() or known.any() or empty))
        there = next(labels for labels in self.labels() if labels is not None)
        if there.shape != truth.shape:
            raise ProjectError(
                f"it is of shape {truth.shape}, the labels of {self.run.id} of {there.shape}",
                hint="Sweep again the part of the image that was vouched for",
            )
        made = tally(truth, known, self.labels(), empty)
        self._cache.put(key, {"hits": made.hits, "false": made.false}, {})
        return made, told.asked

    def _check_place(self, told: Vouched, inside: bool) -> None:
        """Refuse what is vouched for of another shape, or outside of the crop of the sweep."""
        if self.image.box is None:
            return
        entry, shape = self.project.image(self.image.id), told.labels.shape
        config = Config(**self.run.plan()["config"])
        whole = segmented_shape(entry, config) if entry.axes else shape
        if shape != whole:
            raise ProjectError(
                f"it is of shape {shape}, the image of {whole}",
                hint="Sweep again the part of the image that was vouched for",
            )
        if not inside and (told.labels.any() or told.known.any()):
            y, x, height, width = self.image.box
            raise ProjectError(
                f"none of it lies in the crop that {self.run.id} saw (y {y}, x {x}, height "
                f"{height}, width {width})",
                hint="Vouch for objects in the crop, or sweep whole images (sweep.crop: none)",
            )

    def labels(self) -> Labels:
        """Return the labels of all variants."""
        if self._labels is None:
            self._labels = [
                self.run.labels(variant.id, self.image.id) if key else None
                for variant, key in zip(self.variants, self.keys, strict=True)
            ]
        return self._labels

    def _empty_inside(self, shape: tuple[int, ...]) -> int:
        """How many places that a person said are empty lie, by half, in the box."""
        _, answers = read_answers(self.project, self.image.id)
        empty = [a.outline for a in answers if a.answer == "nothing" and not a.replaced]
        if self.image.box is None:
            return len(empty)
        y, x, height, width = self.image.box
        count = 0
        for outline in empty:
            *_, rows, columns = np.unravel_index(outline, shape)
            inside = (rows >= y) & (rows < y + height) & (columns >= x) & (columns < x + width)
            count += bool(inside.mean() >= INSIDE)
        return count


def _packed(image: Compared) -> dict[str, np.ndarray]:
    return {
        "counts": np.array([len(numbers) for numbers in image.labels], np.int64),
        "labels": np.concatenate([np.zeros(0, np.int64), *image.labels]),
        "which": image.which,
        "best": np.concatenate([np.zeros((0, len(image.best)), np.float32), *image.best]),
        "matched": image.matched,
    }


def _unpacked(arrays: Mapping[str, np.ndarray]) -> Compared:
    ends = np.cumsum(arrays["counts"])[:-1]
    labels, best = (np.split(arrays[name], ends) for name in ("labels", "best"))
    return Compared(labels, arrays["which"], best, arrays["matched"])
