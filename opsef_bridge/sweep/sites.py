"""One image of a sweep as questions see it: outlines of its variants, and what is said there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.compare.confidence import object_supports
from opsef_bridge.compare.groups import ObjectGroups, object_groups
from opsef_bridge.config import Config
from opsef_bridge.errors import NotFoundError, ProjectError
from opsef_bridge.files import key_of
from opsef_bridge.measure.trace import trace_loops
from opsef_bridge.project import Project, Run
from opsef_bridge.rois.answers import Vouched, read_answers, vouched
from opsef_bridge.rois.places import answered_places, iou_of
from opsef_bridge.sweep.cache import ArrayCache
from opsef_bridge.sweep.evidence import gather
from opsef_bridge.sweep.planned import PlannedImage, Variant
from opsef_bridge.sweep.tiling import segmented_shape

__all__ = ["Site", "groups_of"]

VERSION = "1"
"""Of the groups in the cache: part of their key."""

HELD = 4
"""Label images of one image that are held in memory."""

SAME = 0.5
"""IoU from which an outline is one that was answered already."""

DECIDED = 0.5
"""Share of the smaller of two outlines from which what is said of the one decides the other."""


def groups_of(
    project: Project,
    run: Run,
    image: PlannedImage,
    variants: Sequence[Variant],
    outcomes: Sequence[Mapping[str, Any]],
) -> ObjectGroups:
    """Return the objects of some variants of an image in groups; kept in the project's cache.

    Parameters
    ----------
    project : Project
    run : Run
    image : PlannedImage
    variants : sequence of Variant
        A variant that failed on the image is in no group.
    outcomes : sequence of mapping
        Of the run.

    Raises
    ------
    ProjectError
        Labels that the run has made are gone or damaged.
    """
    statuses = {o["variant"]: o["status"] for o in outcomes if o["image"] == image.id}
    there = [statuses.get(variant.id, "failed") != "failed" for variant in variants]
    families = [variant.family for variant in variants]
    names = [v.label_key(image) if ok else None for v, ok in zip(variants, there, strict=True)]
    key = key_of("groups", VERSION, names, families)
    cache = ArrayCache(project.cache_folder)
    found = cache.get(key)
    if found is not None:
        return ObjectGroups(**found[0])
    labels = [
        run.labels(variant.id, image.id) if ok else None
        for variant, ok in zip(variants, there, strict=True)
    ]
    of = {(o["image"], o["variant"]): o for o in outcomes}
    supports = gather(project, run, [image], variants, of).supports  # mostly kept by ranking
    nothing = [np.zeros(0)] * len(variants)  # all failed on the image
    q = object_supports(supports[0], families) if supports else nothing
    groups = object_groups(labels, q)
    cache.put(key, {name: getattr(groups, name) for name in ObjectGroups.__annotations__}, {})
    return groups


class Site:
    """One image of a run: its outlines, and what is said of it.

    Parameters
    ----------
    project : Project
    run : Run
    image : PlannedImage
    config : Config
        That of the run.
    """

    def __init__(self, project: Project, run: Run, image: PlannedImage, config: Config) -> None:
        self._project, self._run, self._image, self._config = project, run, image, config
        self._shown: list[NDArray[np.int64]] = []
        self._read: dict[str, NDArray[np.int32]] = {}

    def labels(self, variant: str) -> NDArray[np.int32]:
        """Return the labels of a variant; the last few are held."""
        if variant not in self._read:
            while len(self._read) >= HELD:
                self._read.pop(next(iter(self._read)))
            self._read[variant] = self._run.labels(variant, self._image.id)
        return self._read[variant]

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole image, once labels of it were read."""
        labels = next(iter(self._read.values()))
        if self._image.box is None:
            return labels.shape
        entry = self._project.image(self._image.id)
        shape = (*labels.shape[:-2], *segmented_shape(entry, self._config)[-2:])
        top, left, height, width = self._image.box
        if top + height > shape[-2] or left + width > shape[-1]:
            raise ProjectError(
                f"{self._run.id} saw the box {self._image.box} of {entry.id}, which is of shape "
                f"{shape} now",
                hint="The image has changed since; run a sweep on it as it is now",
            )
        return shape

    @cached_property
    def _said(self) -> tuple[Vouched | None, dict[int, int], list[NDArray[np.int64]]]:
        """What is vouched for, the areas of its objects, and the places of answers."""
        found = vouched(self._project, self._image.id)
        if found is None:
            return None, {}, []
        if found.labels.shape != self.shape:
            raise ProjectError(
                f"what is vouched for of {self._image.id} is of shape {found.labels.shape}, the "
                f"image of shape {self.shape}",
                hint="It has changed since; segment the same part of it again, or move its "
                "files in truth/ away",
            )
        numbers, areas = np.unique(found.labels[found.labels > 0], return_counts=True)
        places = answered_places(read_answers(self._project, self._image.id)[1])
        return found, dict(zip(numbers.tolist(), areas.tolist(), strict=True)), places

    def pixels(self, variant: str, label: int, box: NDArray[np.int64] | None = None) -> Any:
        """Return the pixels of an object in the whole image: flat positions, ascending.

        `box` is its bounding box in the labels, ``(first..., end...)``, where it is known.
        """
        labels = self.labels(variant)
        whole = np.array([[0] * labels.ndim, labels.shape])
        first, end = whole if box is None else box.reshape(2, -1)
        inner = tuple(map(slice, first, end))
        where = np.nonzero(labels[inner] == label) if label > 0 else ((),)
        if not len(where[0]):
            raise NotFoundError(
                f"{variant} of {self._run.id} has no object {label} in {self._image.id}",
                hint="`opsef truth ask` lists the variants and labels that it asks about",
            )
        offset = first + self._offset(labels.ndim)
        moved = tuple(axis + start for axis, start in zip(where, offset, strict=True))
        return np.ravel_multi_index(moved, self.shape)

    def decides(self, variant: str, label: int, box: NDArray[np.int64]) -> bool:
        """Whether what is said, or shown already, decides about an object.

        `box` is its bounding box in the labels.
        """
        if not self._read:
            self.labels(variant)  # for the shape
        if self._said[0] is not None and self._said[0].known[self._window(box)].all():
            return True  # without reading the labels
        pixels = self.pixels(variant, label, box)
        for other in self._shown:
            shared = np.intersect1d(pixels, other, assume_unique=True)
            if len(shared) >= DECIDED * min(len(pixels), len(other)):
                return True
        found, areas, places = self._said
        if found is None:
            return False
        if np.count_nonzero(found.known.reshape(-1)[pixels]) >= DECIDED * len(pixels):
            return True
        numbers, shares = np.unique(found.labels.reshape(-1)[pixels], return_counts=True)
        for number, shared in zip(numbers.tolist(), shares.tolist(), strict=True):
            if number and shared >= DECIDED * min(len(pixels), areas[number]):
                return True
        return any(iou_of(pixels, place) >= SAME for place in places)

    def _window(self, box: NDArray[np.int64]) -> tuple[slice, ...]:
        """Return where a box in the labels lies in the whole image."""
        low, high = box.reshape(2, -1) + self._offset(len(box) // 2)
        return tuple(map(slice, low, high))

    def _offset(self, axes: int) -> NDArray[np.int64]:
        offset = np.zeros(axes, np.int64)
        offset[-2:] = self._image.box[:2] if self._image.box else 0
        return offset

    def show(self, variant: str, label: int, box: NDArray[np.int64]) -> dict[str, Any]:
        """Return what a question shows of an object; later ones are not about its pixels."""
        pixels = self.pixels(variant, label, box)
        self._shown.append(pixels)
        where = np.array(np.unravel_index(pixels, self.shape))
        plane = None
        if len(where) == 3:
            plane = int(np.bincount(where[0]).argmax())
        (top, left), (bottom, right) = where[-2:].min(axis=1), where[-2:].max(axis=1) + 1
        y, x = where[-2:] if plane is None else where[-2:, where[0] == plane]
        mask = np.zeros((bottom - top, right - left), np.uint8)
        mask[y - top, x - left] = 1
        loops = trace_loops(mask)
        corners = (loops.vertices + np.array([left, top])).tolist()
        ends = zip(loops.starts[:-1], loops.starts[1:], strict=True)
        return {
            "image": self._image.id,
            "run": self._run.id,
            "variant": variant,
            "label": label,
            "box": (int(top), int(left), int(bottom - top), int(right - left)),
            "plane": plane,
            "outline": tuple(tuple(map(tuple, corners[a:b])) for a, b in ends),
        }
