"""How well one more variant agrees with variants that are there, and are not changed by it.

A search tries variants one after the other. Were each trial to vote, the trials would come
to vote for one another. So the voters stay those of the run that is refined, and a trial is
scored as `opsef_bridge.compare.score` scores one more variant, its own votes left out. All
voters have the same say in their family: the order of trials must not hang on which of them
leads.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from opsef_bridge.compare.agreement import _calibrated, _constants
from opsef_bridge.compare.votes import (
    LEVELS,
    SHARE,
    SHARE_07,
    Labels,
    add_votes,
    distinct_runs,
    image_support,
    support_by,
)
from opsef_bridge.errors import InputError
from opsef_bridge.measure.overlap import Runs, best_iou, iou_pairs, label_runs, reaches

__all__ = ["Voters", "hold_vote", "newcomer_score", "newcomer_support"]


@dataclass(frozen=True)
class Ballot:
    """One image of the voters: their different label images, and whose they are.

    `members` counts the variants of each family (column) that have each of the label images
    (row); `which` is the label image of each variant, -1 where it failed.
    """

    distinct: list[Runs]
    members: np.ndarray
    which: np.ndarray


@dataclass(frozen=True)
class Voters:
    """Variants that newcomers are compared with, prepared once.

    Parameters
    ----------
    families : tuple of str
        Family of each variant.
    names : tuple of str
        The different families, sorted.
    ballots : tuple of Ballot
        One per image.
    largest : dict
        Largest sum of supports of a variant among the voters, by whether support comes from
        the own family, and by level (`SHARE`, `SHARE_07`).
    """

    families: tuple[str, ...]
    names: tuple[str, ...]
    ballots: tuple[Ballot, ...]
    largest: dict[tuple[bool, int], float]


def hold_vote(labels: Iterable[Labels], families: Sequence[str]) -> Voters:
    """Prepare variants to be voters; of the labels those of one image are held at a time.

    Parameters
    ----------
    labels, families
        As in `opsef_bridge.compare.agreement`: over images over variants; None where a variant
        failed.

    Raises
    ------
    InputError
        As `opsef_bridge.compare.agreement`; or there is no image.
    """
    names = tuple(sorted(set(families)))
    column = np.array([names.index(name) for name in families], int)
    ballots = []
    cases = itertools.product((False, True), (SHARE, SHARE_07))
    sums = {case: np.zeros(len(families)) for case in cases}
    for variants in labels:
        image = image_support(variants, families)
        distinct, which = distinct_runs(variants)
        members = np.zeros((len(distinct), len(names)), np.int64)
        np.add.at(members, (which[which >= 0], column[which >= 0]), 1)
        ballots.append(Ballot(distinct, members, which))
        for alone, level in sums:
            tables = image.own if alone else image.others
            sums[alone, level] += [_right(one, alone, level) for one in tables]
    if not ballots:
        raise InputError("there is no image to compare variants on")
    largest = {key: float(each.max(initial=0)) for key, each in sums.items()}
    return Voters(tuple(families), names, tuple(ballots), largest)


def newcomer_support(
    ballot: Ballot, names: Sequence[str], new: Runs | None, family: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compare one more label image of an image with those of the voters.

    Parameters
    ----------
    ballot : Ballot
    names : sequence of str
        Families of the columns of `ballot`.
    new : Runs or None
        Of `label_runs`; None where the newcomer failed.
    family : str
        Of the newcomer.

    Returns
    -------
    others, own : (n, 4) ndarray of float32
        As in `ImageSupport`: what `image_support` would give this variant as one more.
    matched : (2, V) ndarray of int64
        Matched pairs with each voter at IoU 0.5 and 0.7.
    """
    if new is None:
        nothing = np.zeros((0, 4), np.float32)
        return nothing, nothing, np.zeros((2, len(ballot.which)), np.int64)
    if ballot.distinct and new.shape != ballot.distinct[0].shape:
        raise InputError(
            f"the new labels have shape {new.shape}, the others {ballot.distinct[0].shape}",
            hint="Compare variants of the same image, crop and scale",
        )
    columns = [*names] if family in names else [*names, family]
    more = len(columns) - len(names)
    members = np.pad(ballot.members, [(0, 0), (0, more)])
    table = np.zeros((len(new), 4, len(columns)))
    # The last is of zeros: where the index -1 of a failed variant leads.
    matched = np.zeros((2, len(ballot.distinct) + 1), np.int64)
    for kind, runs in enumerate(ballot.distinct):
        pairs = iou_pairs(new, runs)
        mine, theirs = best_iou(pairs)
        add_votes(table, mine, members[kind])
        for level, threshold in enumerate(LEVELS):
            nodes = reaches(mine, threshold).sum() + reaches(theirs, threshold).sum()
            matched[level, kind] = nodes - reaches(pairs.iou, threshold).sum()
    # As one more row of the members, which `_reduce` takes away again: no vote for oneself.
    itself = np.eye(len(columns), dtype=np.int64)[columns.index(family)]
    everyone = np.vstack([members, itself])
    others, own = support_by(table, everyone, itself, columns.index(family))
    return others, own, matched[:, ballot.which]


def newcomer_score(voters: Voters, new: Labels, family: str) -> dict[str, float]:
    """Score one more variant by the votes of those that are there.

    Parameters
    ----------
    voters : Voters
        Of `hold_vote`.
    new : sequence over images of ndarray of int, or None
        Labels of the newcomer; None where it failed: it misses all objects there.
    family : str
        Its family. The other families vote on it, and, where there is no other, its own.

    Returns
    -------
    dict
        ``agreement``, ``agreement_07``, ``plain_mean``, ``plain_mean_07`` and ``objects``, as
        `opsef_bridge.compare.score` gives them to a variant that is added to the voters but
        does not vote on them.

    Raises
    ------
    InputError
        Another number of images, or other shapes.

    Examples
    --------
    >>> import numpy as np
    >>> one, two = np.array([[1, 1, 0, 2, 2]]), np.array([[1, 1, 0, 0, 0]])
    >>> voters = hold_vote([[one, one]], ["unet", "stardist"])
    >>> newcomer_score(voters, [two], "watershed")["agreement"]
    0.6666666666666666
    """
    if len(new) != len(voters.ballots):
        raise InputError(f"labels of {len(new)} images, the voters have {len(voters.ballots)}")
    runs = [None if labels is None else label_runs(labels) for labels in new]
    compared = [
        newcomer_support(ballot, voters.names, one, family)
        for ballot, one in zip(voters.ballots, runs, strict=True)
    ]
    objects = np.array([0 if one is None else len(one) for one in runs], np.int64)
    plain = [_plain_mean(voters, objects, [m[level] for *_, m in compared]) for level in (0, 1)]
    found = plain
    if np.count_nonzero(_present(voters)) + 1 >= _constants()["fewest_variants"]:
        alone = {*_voices(voters), family} == {family}
        tables = [own if alone else others for others, own, _ in compared]
        count = int(objects.sum())
        found = [
            _expected(tables, count, alone, level, voters.largest) for level in (SHARE, SHARE_07)
        ]
    return {
        "agreement": found[0],
        "agreement_07": found[1],
        "plain_mean": plain[0],
        "plain_mean_07": plain[1],
        "objects": int(objects.sum()),
    }


def _expected(
    tables: Sequence[np.ndarray],
    objects: int,
    alone: bool,
    level: int,
    largest: dict[tuple[bool, int], float],
) -> float:
    """Expected F1 of the newcomer: see `opsef_bridge.compare.score`."""
    right = sum(_right(one, alone, level) for one in tables)
    truth = _constants()["truth_factor"] * max(right, largest[alone, level])
    return 2 * right / (objects + truth) if objects else 0.0


def _right(table: np.ndarray, alone: bool, level: int) -> float:
    """Sum of the supports of a variant's objects in an image."""
    return float(_calibrated(table.astype(float), alone, level).sum())


def _present(voters: Voters) -> np.ndarray:
    """Voters that have labels of any image."""
    return np.any([ballot.which >= 0 for ballot in voters.ballots], axis=0)


def _voices(voters: Voters) -> set[str]:
    return {name for name, there in zip(voters.families, _present(voters), strict=True) if there}


def _plain_mean(voters: Voters, objects: np.ndarray, matched: Sequence[np.ndarray]) -> float:
    """F1 against each voter, objects pooled; mean within each family, then over families."""
    theirs = np.zeros(len(voters.families), np.int64)
    mine = np.zeros(len(voters.families), np.int64)
    for ballot, count in zip(voters.ballots, objects, strict=True):
        sizes = np.array([*(len(runs) for runs in ballot.distinct), 0])
        theirs += sizes[ballot.which]
        mine += count * (ballot.which >= 0)
    total = mine + theirs
    f1 = np.divide(2 * sum(matched), total, out=np.zeros(len(total)), where=total > 0)
    present = _present(voters)
    families = np.array(voters.families)
    means = [f1[present & (families == name)].mean() for name in sorted(_voices(voters))]
    return float(np.mean(means)) if means else 0.0
