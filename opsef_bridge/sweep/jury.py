"""Who judges the trials of `opsef_bridge.sweep.refine`: the run that is refined, and answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from opsef_bridge.compare.newcomer import Voters, hold_vote, newcomer_score
from opsef_bridge.compare.vouched import combined, tally
from opsef_bridge.images import read_labels
from opsef_bridge.project import Project, Run
from opsef_bridge.rois.answers import vouched
from opsef_bridge.sweep.evidence import cut_vouched, gather
from opsef_bridge.sweep.planned import PlannedImage, Variant

__all__ = ["Jury", "call_jury", "labelled", "labels_of", "objective"]

Labelled = set[tuple[str, str]]


@dataclass(frozen=True)
class Jury:
    """Who judges trials: the variants of a run, and what is vouched for.

    Parameters
    ----------
    voters : Voters
    truths : tuple of (labels, known, empty) or None
        Of each image, as `opsef_bridge.compare.vouched.tally` takes them; None where nothing is
        vouched for.
    asked : bool
        Whether most of it are answers to questions.
    answers : int
        How many objects and places are vouched for.
    """

    voters: Voters
    truths: tuple[tuple[np.ndarray, np.ndarray, int] | None, ...]
    asked: bool
    answers: int


def objective(jury: Jury, new: Sequence[np.ndarray | None], family: str) -> float | None:
    """Return how good a variant is by the jury; None where it has no labels at all.

    Agreement with the voters (`opsef_bridge.compare.newcomer`), combined with the answers as in
    ``score`` of ``variants.csv`` (`opsef_bridge.compare.vouched.combined`). It is the mean of
    ``agreement`` and ``agreement_07``: at IoU 0.5 alone a search gives away outlines, which
    cost nothing there (``docs/refine.md``). It orders variants and is no accuracy.

    Parameters
    ----------
    jury : Jury
    new : sequence over images of ndarray of int, or None
        Labels of the variant; None where it failed.
    family : str
        Its family.
    """
    if all(one is None for one in new):
        return None
    score = newcomer_score(jury.voters, new, family)
    agreed = (score["agreement"] + score["agreement_07"]) / 2
    tallies = [
        tally(truth[0], truth[1], [one], truth[2])
        for truth, one in zip(jury.truths, new, strict=True)
        if truth is not None
    ]
    return round(float(combined(np.array([agreed]), tallies, asked=jury.asked)[0]), 6)


def call_jury(
    project: Project, run: Run, images: Sequence[PlannedImage], variants: Sequence[Variant]
) -> Jury:
    """Make the variants of a run, and what is vouched for of its images, the jury.

    Parameters
    ----------
    run : Run
    images : sequence of PlannedImage
    variants : sequence of Variant
        The voters.
    """
    labels = labels_of(run, images, variants, labelled(run))
    voters = hold_vote(labels, [variant.family for variant in variants])
    of = {(o["image"], o["variant"]): o for o in run.outcomes()}
    evidence = gather(project, run, images, variants, of)
    truths: list[tuple[np.ndarray, np.ndarray, int] | None] = []
    for image in images:
        told = vouched(project, image.id) if image.id in evidence.tallies else None
        if told is None:
            truths.append(None)
        else:
            empty = evidence.tallies[image.id][0].empty
            truths.append((*cut_vouched(told.labels, told.known, image.box), empty))
    return Jury(voters, tuple(truths), evidence.asked, evidence.answers)


def labels_of(
    run: Run, images: Sequence[PlannedImage], variants: Sequence[Variant], there: Labelled
) -> Iterator[list[np.ndarray | None]]:
    """Yield, image by image, the labels of variants; None where one failed."""
    for image in images:
        yield [
            read_labels(run.label_file(one.id, image.id)) if (image.id, one.id) in there else None
            for one in variants
        ]


def labelled(run: Run) -> Labelled:
    """Return the images and variants of a run of which there are labels."""
    return {(o["image"], o["variant"]) for o in run.outcomes() if o["status"] != "failed"}
