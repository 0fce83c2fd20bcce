"""How well variants find what a person vouches for, and that together with agreement.

A few vouched objects say little alone and much beside agreement: five of them alone chose
worse than agreement without any, both together better than either (``docs/ranking.md``).
Everything here is arrays; where the answers lie is the project's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from opsef_bridge.compare.votes import Labels, distinct_runs
from opsef_bridge.errors import InputError
from opsef_bridge.measure.overlap import Runs, best_iou, iou_pairs, label_runs, reaches

__all__ = ["IOUS", "Tally", "combined", "first_places", "sparse_f1", "tally"]

IOUS = (0.5, 0.6, 0.7, 0.8)
"""At each of them an object can be found; one alone is too coarse for few objects."""

ASKED, DRAWN = 20, 10
"""Objects that agreement counts for, beside answers to questions that were asked where the
variants disagree, and beside objects that a person chose herself. Half or double of either
changed the regret by less than 0.005 in the experiment."""

INSIDE = 0.5
"""Share of an object that must lie in a region for the object to be judged by it."""


@dataclass(frozen=True)
class Tally:
    """What is vouched for of one image, and how each variant does there.

    Parameters
    ----------
    hits : (T, V) ndarray of float64
        For each vouched object the share of `IOUS` at which each variant has it.
    false : (F, V) ndarray of float64
        For each place where a variant has an object that is none: the share of `IOUS` at
        which it counts as wrong.
    empty : int
        Places that a person said are empty.
    """

    hits: np.ndarray
    false: np.ndarray
    empty: int = 0

    @property
    def answers(self) -> int:
        """How many objects and empty places are vouched for."""
        return len(self.hits) + self.empty


def tally(truth: np.ndarray, known: np.ndarray, labels: Labels, empty: int = 0) -> Tally:
    """Judge the variants of one image by what is vouched for of it.

    Parameters
    ----------
    truth : ndarray of int, axes YX or ZYX
        The vouched objects, each with all its pixels.
    known : ndarray of bool, the shape of `truth`
        Where everything is vouched for: each pixel is of the object that `truth` says, or
        of none. Single objects need no pixel of it.
    labels : sequence over variants of ndarray of int, or None
        As in `opsef_bridge.compare.agreement`; None where a variant failed: it finds nothing.
    empty : int
        Places in `known` that a person said are empty; they count as answers.

    Returns
    -------
    Tally

    Raises
    ------
    InputError
        The shapes differ.

    Notes
    -----
    An object of a variant is wrong where at least half of it lies in `known` and it is not
    the partner of a vouched object at that IoU. So what is cut by the border of a region
    belongs to the side that has most of it, and outside nothing is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.array([[1, 1, 0, 0, 0, 0]])
    >>> known = np.array([[True, True, True, True, True, False]])
    >>> judged = tally(truth, known, [truth, np.array([[0, 0, 0, 4, 4, 0]])])
    >>> judged.hits.tolist(), judged.false.tolist()
    ([[1.0, 0.0]], [[0.0, 1.0]])
    """
    if known.shape != truth.shape:
        raise InputError(f"truth has the shape {truth.shape}, its region {known.shape}")
    distinct, which = distinct_runs(labels)
    vouched = label_runs(truth)
    hits = np.zeros((len(vouched), len(distinct) + 1))  # the last: failed variants
    rows: list[np.ndarray] = []
    inside = label_runs(known.astype(np.uint8))
    for kind, runs in enumerate(distinct):
        best, back = best_iou(iou_pairs(vouched, runs))
        hits[:, kind] = _share(best)
        wrong = (1 - _share(back))[_within(runs, inside)]
        wrong = wrong[wrong > 0]
        row = np.zeros((len(wrong), len(distinct) + 1))
        row[:, kind] = wrong
        rows.append(row)
    false = np.concatenate([np.zeros((0, len(distinct) + 1)), *rows])
    return Tally(hits[:, which], false[:, which], empty)


def sparse_f1(tallies: Sequence[Tally], variants: int) -> np.ndarray:
    """F1 of each variant by what is vouched for, over all images: ``2 TP / (T + TP + FP)``.

    TP and FP are means over `IOUS`; 0 where nothing is vouched for.
    """
    found, wrong, objects = _sums(tallies, variants)
    total = objects + found + wrong
    return np.divide(2 * found, total, out=np.zeros(variants), where=total > 0)


def combined(agreement: np.ndarray, tallies: Sequence[Tally], *, asked: bool) -> np.ndarray:
    """Return the score: agreement and the answers, weighted by how much each can say.

    Parameters
    ----------
    agreement : (V,) ndarray of float
        Of `opsef_bridge.compare.score`.
    tallies : sequence over images of Tally
    asked : bool
        Whether the answers are to questions that were chosen by disagreement; else they
        are objects that a person chose, or regions.

    Returns
    -------
    (V,) ndarray of float64
        ``(a agreement + k S) / (a + k)`` with `k` answers, their F1 `S`, and `a` 20 or 10;
        equal to `agreement` without answers.

    Examples
    --------
    >>> import numpy as np
    >>> five = Tally(hits=np.array([[1.0, 0.0]] * 5), false=np.zeros((0, 2)))
    >>> combined(np.array([0.8, 0.9]), [five], asked=True)
    array([0.84, 0.72])
    """
    agreement = np.asarray(agreement, float)
    answers = sum(one.answers for one in tallies)
    weight = ASKED if asked else DRAWN
    found = sparse_f1(tallies, len(agreement))
    return (weight * agreement + answers * found) / (weight + answers)


def first_places(
    agreement: np.ndarray,
    tallies: Sequence[Tally],
    *,
    asked: bool,
    draws: int = 200,
    seed: int = 0,
) -> np.ndarray:
    """How often each variant comes first if the answers had been others of their kind.

    Vouched objects and false ones are drawn with replacement, as many as there are; equal
    scores share the place. Variants of at least 5 % are those that cannot be told apart yet.

    Returns
    -------
    (V,) ndarray of float64
        Shares, which add up to 1; all on the first by agreement where there are no answers.
    """
    agreement = np.asarray(agreement, float)
    variants = len(agreement)
    nothing = np.zeros((0, variants))
    hits = np.concatenate([nothing, *(one.hits for one in tallies)])
    false = np.concatenate([nothing, *(one.false for one in tallies)])
    empty = sum(one.empty for one in tallies)
    random = np.random.default_rng(seed)
    shares = np.zeros(variants)
    for _ in range(draws):
        drawn = Tally(
            hits[random.integers(0, max(len(hits), 1), len(hits))],
            false[random.integers(0, max(len(false), 1), len(false))],
            empty,
        )
        scores = combined(agreement, [drawn], asked=asked).round(6)
        first = scores == scores.max(initial=0)
        shares += first / max(np.count_nonzero(first), 1)
    return shares / draws


def _sums(tallies: Sequence[Tally], variants: int) -> tuple[np.ndarray, np.ndarray, int]:
    """True and false positives of each variant, and the number of vouched objects."""
    found, wrong, objects = np.zeros(variants), np.zeros(variants), 0
    for one in tallies:
        found += one.hits.sum(axis=0)
        wrong += one.false.sum(axis=0)
        objects += len(one.hits)
    return found, wrong, objects


def _share(iou: np.ndarray) -> np.ndarray:
    return np.mean([reaches(iou, level) for level in IOUS], axis=0)


def _within(runs: Runs, inside: Runs) -> np.ndarray:
    """Which objects have at least half of their pixels in a region (one object of 1s)."""
    pairs = iou_pairs(runs, inside)
    pixels = np.bincount(pairs.i, pairs.pixels, len(runs))
    return pixels >= INSIDE * runs.areas
