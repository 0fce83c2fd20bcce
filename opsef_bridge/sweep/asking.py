"""Questions to a person about a sweep, and her answers.

A sweep's variants are put in order by their agreement. Where the leading ones disagree, a
person can say what is right with one look; a few such answers tell more than agreement
alone (``docs/ranking.md``). `questions` chooses the places, `answer` notes down what she
says; the ranking follows at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.compare.questions import next_questions
from opsef_bridge.config import Config
from opsef_bridge.errors import InputError, NotFoundError, OpsefError
from opsef_bridge.execute import Event
from opsef_bridge.project import Project, Run
from opsef_bridge.rois import read_roi_set
from opsef_bridge.rois.answers import (
    Answer,
    add_answer,
    list_answers,
    read_answers,
)
from opsef_bridge.rois.places import What
from opsef_bridge.sweep.planned import Plan, find_variant
from opsef_bridge.sweep.rank import rerank
from opsef_bridge.sweep.run import newest_run, variant_rows
from opsef_bridge.sweep.sample import Box
from opsef_bridge.sweep.sites import Site, groups_of

__all__ = ["ANSWERS", "Asked", "answer", "compared_run", "questions", "rank_again"]

ANSWERS = ("right", "drawn", "nothing")

Tell = Callable[[Event], None]


@dataclass(frozen=True)
class Asked:
    """A question: is this outline an object?

    Parameters
    ----------
    image, run, variant : str
        Ids.
    label : int
        Of the outline's object in the labels of the variant.
    box : (y, x, height, width)
        Bounding box in pixels of the whole image, also where the sweep saw a crop of it.
    plane : int or None
        Of a volume the plane in which the object is largest, from 0.
    share : float
        Share of the leading variants, weighted by their scores, that have the object.
    support : float
        Calibrated support of the object, in (0, 1).
    outline : tuple of tuple of (x, y)
        Corners of the outline in that plane, along pixel edges in pixels of the whole
        image; holes and further parts are loops of their own.
    """

    image: str
    run: str
    variant: str
    label: int
    box: Box
    plane: int | None
    share: float
    support: float
    outline: tuple[tuple[tuple[int, int], ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Return what JSON holds of it."""
        return asdict(self)


def questions(
    project: Project,
    run: str | None = None,
    group: str | None = None,
    count: int = 5,
    tell: Tell = lambda event: None,
) -> list[Asked]:
    """Return the places where the leading variants disagree most and nothing is said yet.

    Parameters
    ----------
    project : Project
    run : str, optional
        Id of a sweep that is ranked; the newest by default.
    group : str, optional
        Group of images; may be left out where the run has one.
    count : int
        How many, at least 1.
    tell : callable
        Takes an `Event` for each image. The first call reads the labels of all variants.

    Returns
    -------
    list of Asked
        Most disputed first; fewer than `count` where there are no more. No two are about the
        same pixels, and none is about a place of which something is vouched for: an object
        of which the outline shares half of the smaller of the two, an outline that was
        answered already, or a region that is known.

    Raises
    ------
    NotFoundError
        There is no such run or group, or the run is not ranked yet.
    InputError
        The run is a batch; the group is not named and there are several; or `count` is
        below 1.
    ProjectError
        Labels of the run are gone, or what is vouched for is of another part of an image.
    """
    if count < 1:
        raise InputError(f"{count} questions cannot be asked", hint="Ask at least 1")
    folder = compared_run(project, run)
    plan = Plan.from_json(folder.plan())
    group = _group(plan, folder, group)
    scores = {r["id"]: float(r["score"]) for r in variant_rows(folder) if r["group"] == group}
    images = [image for image in plan.images if image.group == group]
    variants = [variant for variant in plan.variants if variant.id in scores]
    outcomes = folder.outcomes()
    grouped = []
    for number, image in enumerate(images):
        tell(Event(number, len(images), image.id))
        grouped.append(groups_of(project, folder, image, variants, outcomes))
    tell(Event(len(images), len(images), "choosing places"))
    config = Config(**plan.config)
    sites = [Site(project, folder, image, config) for image in images]
    chosen: list[Asked] = []
    ordered = next_questions(
        grouped, np.array([scores[v.id] for v in variants]), count=sum(map(len, grouped))
    )
    for question in ordered:
        groups, place = grouped[question.image], question.group
        variant, label = variants[groups.variant[place]].id, int(groups.label[place])
        site = sites[question.image]
        if not site.decides(variant, label, groups.box[place]):
            shown = site.show(variant, label, groups.box[place])
            how = {"share": question.share, "support": float(groups.support[place])}
            chosen.append(Asked(**shown, **how))
            if len(chosen) == count:
                break
    return chosen


def answer(
    project: Project,
    image: str,
    variant: str,
    label: int,
    what: str,
    *,
    run: str | None = None,
    drawn: NDArray[Any] | Path | None = None,
    author: str,
    asked: bool = True,
) -> dict[str, Any]:
    """Note down what a person says of one outline of a variant.

    Parameters
    ----------
    project : Project
    image : str
        Id.
    variant : str
        Id or slug.
    label : int
        Of the object that the outline is of.
    what : {"right", "drawn", "nothing"}
        The outline is an object; the object is another one, `drawn`; nothing is there.
    run : str, optional
        The newest sweep by default.
    drawn : ndarray of int or bool, or Path, optional
        The one right object: labels of the whole image, or a file of ImageJ ROIs.
    author : str
    asked : bool
        False for a place that the person chose herself.

    Returns
    -------
    dict
        ``image``, ``run``, ``variant``, ``label``, ``answer``, ``asked``; ``replaced``, how
        many earlier answers do not count any more; how many ``answers`` count in the project;
        ``first``, the variant that comes first in the group of the image now; and ``words``,
        what to know of that ranking, or why it could not be made anew.

    Raises
    ------
    NotFoundError
        There is no such image, run, variant or object.
    InputError
        The answer is none of the three; what is drawn is not one object, or not where the
        outline is; or nothing is drawn although the answer says so.
    RoiError
        The file of ROIs cannot be read.
    ProjectError, LockedError
        As `opsef_bridge.rois.answers.add_answer`.
    """
    if what not in ANSWERS:
        raise InputError(f"{what!r} is no answer", hint=f"Choose from {', '.join(ANSWERS)}")
    folder = _sweep(project, run)
    plan = Plan.from_json(folder.plan())
    image = project.image(image).id
    planned = next((one for one in plan.images if one.id == image), None)
    if planned is None:
        known = ", ".join(one.id for one in plan.images)
        raise NotFoundError(f"{folder.id} has no image {image!r}", hint=f"It has {known}")
    id_ = find_variant(plan, variant, folder.id).id
    site = Site(project, folder, planned, Config(**plan.config))
    outline = site.pixels(id_, label)
    given = None if drawn is None else _one_object(drawn, site.shape, outline)
    said: What = what  # type: ignore[assignment]
    before = sum(one.replaced for one in read_answers(project, image)[1])
    answers = add_answer(
        project,
        image,
        Answer(said, folder.id, id_, label, author, outline, given, asked),
        site.shape,
    )
    ranking, words = rank_again(project, folder)
    told = ranking.get(planned.group, {})
    return {
        "image": image, "run": folder.id, "variant": id_, "label": label, "answer": what,
        "asked": asked, "replaced": sum(one.replaced for one in answers) - before,
        "answers": sum(one["answers"] for one in list_answers(project)),
        "first": told.get("first"), "words": [*told.get("words", ()), *words],
    }  # fmt: skip


def rank_again(
    project: Project, run: Run | None = None
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Rank a sweep anew with what is vouched for by now; what was said is safe in any case.

    Parameters
    ----------
    project : Project
    run : Run, optional
        The newest sweep by default. One that is not ranked yet is left alone: it will count
        what is vouched for.

    Returns
    -------
    dict
        As `opsef_bridge.sweep.rank.rerank`; empty where nothing was ranked.
    list of str
        A sentence where it could not be.
    """
    run = run or newest_run(project, "sweep")
    if run is None or not run.variants_file.is_file():
        return {}, []
    try:
        return rerank(project, run), []
    except OpsefError as error:
        return {}, [f"{run.id} could not be ranked anew: {error}"]


def _one_object(
    drawn: NDArray[Any] | Path, shape: tuple[int, ...], outline: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the pixels of the one object that is drawn, or raise InputError."""
    labels = drawn
    if isinstance(drawn, Path):
        labels = read_roi_set(drawn, shape, sidecar=False)[0].labels
    labels = np.asarray(labels)
    if labels.shape != shape:
        raise InputError(f"what is drawn is of shape {labels.shape}, the image of shape {shape}")
    count = len(np.unique(labels[labels != 0]))
    if count != 1:
        raise InputError(
            f"{count} objects are drawn", hint="Draw the one that is right in this place"
        )
    pixels = np.flatnonzero(labels)
    if not len(np.intersect1d(pixels, outline, assume_unique=True)):
        raise InputError(
            "what is drawn shares no pixel with the outline that was asked about",
            hint="Check the file and the label; where nothing is right, answer `nothing`",
        )
    return pixels


def compared_run(project: Project, run: str | None) -> Run:
    """Return a run whose variants are compared with each other; the newest sweep by default.

    Raises
    ------
    NotFoundError
        There is none.
    InputError
        It is a batch: each image has the labels of one variant.
    """
    folder = _sweep(project, run)
    if folder.plan()["purpose"] == "batch":
        sweep = newest_run(project, "sweep")
        named = f"Name a sweep: --run {sweep.id}" if sweep else "Start a sweep: opsef sweep run"
        raise InputError(
            f"{folder.id} is a batch: no two of its variants are of the same image, so none can "
            "be compared",
            hint=named,
        )
    return folder


def _sweep(project: Project, run: str | None) -> Run:
    folder = project.run(run) if run else newest_run(project, "sweep")
    if folder is None:
        raise NotFoundError("there is no sweep yet", hint="Start one: opsef sweep run")
    return folder


def _group(plan: Plan, run: Run, group: str | None) -> str:
    groups = list(dict.fromkeys(image.group for image in plan.images))
    if group is None and len(groups) == 1:
        return groups[0]
    if group is None:
        raise InputError(
            f"{run.id} has {len(groups)} groups of images", hint=f"Name one: {', '.join(groups)}"
        )
    if group not in groups:
        raise NotFoundError(
            f"{run.id} has no group {group!r}", hint=f"Choose of {', '.join(groups)}"
        )
    return group
