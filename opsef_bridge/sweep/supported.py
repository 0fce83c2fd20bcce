"""The variants of a run on the images of one group: what each object is supported by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Literal

import numpy as np

from opsef_bridge.compare.confidence import object_supports
from opsef_bridge.compare.consensus import Work, work_list
from opsef_bridge.compare.votes import SILENT
from opsef_bridge.compare.words import order_note
from opsef_bridge.config import Config
from opsef_bridge.errors import InputError, NotFoundError
from opsef_bridge.files import key_of
from opsef_bridge.measure.moments import boxes
from opsef_bridge.measure.overlap import label_runs
from opsef_bridge.project import Project, Run
from opsef_bridge.rois.answers import vouched
from opsef_bridge.sweep.asking import compared_run
from opsef_bridge.sweep.cache import ArrayCache
from opsef_bridge.sweep.evidence import gather
from opsef_bridge.sweep.planned import Plan, PlannedImage, Variant, find_variant
from opsef_bridge.sweep.run import variant_rows
from opsef_bridge.sweep.sites import Site, groups_of

__all__ = ["WHATS", "Supported", "nobody"]

VERSION = "1"
"""Of the work list in the cache: part of its key."""

WHATS: tuple[Literal["doubtful", "missing"], ...] = ("doubtful", "missing")


class Supported:
    """The images of one group of a run, and the variant that is reviewed.

    Parameters
    ----------
    project : Project
    run : Run
        Ranked.
    plan : Plan
        Of the run.
    group : str
    variant : str, optional
        Id or slug; by default see `of`.
    """

    def __init__(
        self, project: Project, run: Run, plan: Plan, group: str, variant: str | None
    ) -> None:
        self.project, self.run, self.plan, self.group = project, run, plan, group
        self.rows = [row for row in variant_rows(run) if row["group"] == group]
        there = {row["id"] for row in self.rows}
        self.variants = [one for one in plan.variants if one.id in there]
        self.outcomes = {(o["image"], o["variant"]): o for o in run.outcomes()}
        self.named = variant is not None
        self._choose(find_variant(plan, variant or self.rows[0]["id"], run.id))

    @classmethod
    def of_image(
        cls, project: Project, image: str, variant: str | None, run: str | None
    ) -> Supported:
        """Open the group of an image; it must be one that several variants have labels of."""
        folder = compared_run(project, run)
        plan = Plan.from_json(folder.plan())
        id_ = project.image(image).id
        planned = next((one for one in plan.images if one.id == id_), None)
        if planned is None:
            known = ", ".join(one.id for one in plan.images)
            raise NotFoundError(
                f"{folder.id} has not seen {id_}, so nobody supports its objects",
                hint=f"It has {known}; sweep.images in opsef.yaml says of which a sweep is",
            )
        looked = cls(project, folder, plan, planned.group, variant).of(planned)
        if not looked.voices(planned):
            raise nobody(folder, id_)
        return looked

    def _choose(self, variant: Variant) -> None:
        self.chosen, self.position = variant, self.variants.index(variant)

    def of(self, image: PlannedImage) -> Supported:
        """Return the same about the variant that is reviewed of an image.

        It is the one that was named; else the adopted one of the group that the image is in
        today (or was in the run), if it is of this run; else the first by rank. One that failed
        on the image is passed over where it was not named.
        """
        if self.named:
            return self
        adopted = self.project.adopted()
        groups = (self.project.image(image.id).group, self.group)
        wanted = [adopted[g]["id"] for g in groups if adopted.get(g, {}).get("run") == self.run.id]
        wanted += [row["id"] for row in self.rows]
        by_id = {one.id: one for one in self.variants}
        there = (by_id[id_] for id_ in wanted if id_ in by_id and self._there(image, by_id[id_]))
        other = copy(self)
        other._choose(next(there, self.chosen))
        return other

    def planned(self, image: str) -> PlannedImage:
        """Return an image as the run knows it."""
        return next(one for one in self.plan.images if one.id == image)

    def site(self, image: PlannedImage) -> Site:
        """Return an image as questions see it."""
        return Site(self.project, self.run, image, Config(**self.plan.config))

    def voices(self, image: PlannedImage) -> int:
        """Return how many other variants that have a voice have labels of the image."""
        return sum(
            self._there(image, one) and one is not self.chosen and one.family != SILENT
            for one in self.variants
        )

    def words(self) -> list[str]:
        """Return what a person must know of the supports."""
        families = {row["family"] for row in self.rows if row["status"] != "failed"} - {SILENT}
        if len(families) == 1:
            return [
                f"One model family only ({next(iter(families))}): support says how well its own "
                "variants agree, and can be used for order only."
            ]
        note = order_note(self.rows)
        return [f"Support is for {note}."] if note else []

    def work(self, image: PlannedImage) -> tuple[dict[int, float], list[Work]]:
        """Return the support of the chosen variant's objects, and what to look at; cached."""
        names = [one.label_key(image) if self._there(image, one) else "" for one in self.variants]
        families = [one.family for one in self.variants]
        key = key_of("work", VERSION, names, families, self.position)
        cache = ArrayCache(self.project.cache_folder)
        found = cache.get(key)
        arrays = found[0] if found else self._worked_out(image)
        if not found:
            cache.put(key, arrays, {})
        support = dict(zip(arrays["labels"].tolist(), arrays["support"].tolist(), strict=True))
        parts = (arrays[name].tolist() for name in ("missing", "variant", "label", "value"))
        return support, [
            Work(WHATS[missing], position, label, value, box)
            for missing, position, label, value, box in zip(*parts, arrays["box"], strict=True)
        ]

    def _worked_out(self, image: PlannedImage) -> dict[str, np.ndarray]:
        groups = groups_of(
            self.project, self.run, image, self.variants, list(self.outcomes.values())
        )
        evidence = gather(self.project, self.run, [image], self.variants, self.outcomes)
        support = object_supports(evidence.supports[0], evidence.families)[self.position]
        made = work_list(lambda at: self._labels(image, at), groups, self.position, support)
        none = np.zeros((0, groups.box.shape[1]), np.int64)
        return {
            "labels": evidence.supports[0].labels[self.position],
            "support": support,
            "missing": np.array([WHATS.index(one.what) for one in made], np.int64),
            "variant": np.array([one.variant for one in made], np.int64),
            "label": np.array([one.label for one in made], np.int64),
            "value": np.array([one.support for one in made], float),
            "box": np.array([one.box for one in made], np.int64) if made else none,
        }

    def _labels(self, image: PlannedImage, position: int) -> np.ndarray | None:
        variant = self.variants[position]
        there = self._there(image, variant)
        return self.run.labels(variant.id, image.id) if there else None

    def _there(self, image: PlannedImage, variant: Variant) -> bool:
        outcome = self.outcomes.get((image.id, variant.id))
        return outcome is not None and outcome["status"] != "failed"

    def decided(self, image: PlannedImage, site: Site, work: Sequence[Work]) -> list[bool]:
        """Whether what is vouched for decides each place."""
        over = [False] * len(work)
        if vouched(self.project, image.id) is None:
            return over
        for at in self.by_variant(work):
            one = work[at]
            over[at] = site.decides(self.variants[one.variant].id, one.label, one.box)
        return over

    @staticmethod
    def by_variant(work: Sequence[Work]) -> list[int]:
        """Positions of the places so that the labels of each variant are read once."""
        return sorted(range(len(work)), key=lambda at: work[at].variant)

    def wrong(self, image: PlannedImage, site: Site, support: Mapping[int, float]) -> float:
        """Expected number of wrong objects of the variant, of those nobody vouched for."""
        labels, values = np.array(list(support), np.int64), np.array(list(support.values()))
        if not len(labels) or vouched(self.project, image.id) is None:
            return float((1 - values).sum())
        low, high, _ = boxes(label_runs(site.labels(self.chosen.id)))
        return sum(
            1 - value
            for label, value, box in zip(
                labels.tolist(), values.tolist(), np.concatenate([low, high]).T, strict=True
            )
            if not site.decides(self.chosen.id, label, box)
        )


def nobody(run: Run, images: str) -> InputError:
    """Return the error for images that a single variant has labels of."""
    return InputError(
        f"no other variant of {run.id} has labels of {images}, so nobody supports the objects",
        hint="Sweep several models or parameters, and review that run",
    )
