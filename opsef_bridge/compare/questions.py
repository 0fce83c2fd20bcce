"""What to ask a person next: the places where the leading variants disagree most.

A question shows one outline, the best supported of its place, and has three answers: it is
right, the right one is another (drawn by the person), or nothing is there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from opsef_bridge.compare.groups import ObjectGroups

__all__ = ["Question", "next_questions"]

LEAD = 0.03
"""Distance in score at which a variant's say falls to 1/e of that of the first."""


@dataclass(frozen=True)
class Question:
    """A place to ask about.

    Parameters
    ----------
    image, group : int
        Position of the image, and of the group in its `ObjectGroups`.
    share : float
        Weighted share of the variants that have the object.
    """

    image: int
    group: int
    share: float


def next_questions(
    images: Sequence[ObjectGroups],
    scores: np.ndarray,
    answered: Sequence[Collection[int]] = (),
    count: int = 5,
) -> list[Question]:
    """Return the places where the variants of the highest scores disagree, most first.

    Parameters
    ----------
    images : sequence over images of ObjectGroups
    scores : (V,) ndarray of float
        Score of each variant, `opsef_bridge.compare.vouched.combined`.
    answered : sequence over images of collections of int, optional
        Groups that are vouched for already, and are not asked about again.
    count : int
        How many.

    Returns
    -------
    list of Question
        Fewer than `count` where the variants agree on all that is left.

    Notes
    -----
    A variant has a say of ``exp((score - highest score) / 0.03)``; with `p` the share of the
    says that hold a group, ``p (1 - p)`` orders the groups, then the support of their heads
    (the method of the experiment behind the ranking; there one of the first five was asked).

    Examples
    --------
    >>> from opsef_bridge.compare.groups import object_groups
    >>> one, two = np.array([[1, 1, 0, 2]]), np.array([[5, 5, 0, 0]])
    >>> groups = object_groups([one, two], [np.array([0.9, 0.2]), np.array([0.8])])
    >>> next_questions([groups], np.array([0.9, 0.9]))
    [Question(image=0, group=1, share=0.5)]
    """
    scores = np.asarray(scores, float)
    says = np.exp((scores - scores.max(initial=0)) / LEAD) if len(scores) else scores
    found: list[tuple[float, float, Question]] = []
    for number, groups in enumerate(images):
        done = answered[number] if answered else ()
        shares = (groups.member > 0) @ says / max(says.sum(), 1e-12)
        doubt = (shares * (1 - shares)).round(9)  # sums in another order differ in last bits
        for group in np.flatnonzero(doubt > 0):
            if int(group) not in done:
                question = Question(number, int(group), float(shares[group]))
                found.append((-doubt[group], -groups.support[group], question))
    found.sort(key=lambda one: (one[0], one[1], one[2].image, one[2].group))
    return [question for _, _, question in found[:count]]
