"""Leave one group out: choose on the others, score on it, pool the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from opsef_bridge.errors import InputError
from opsef_bridge.train.score import pooled_f1, score_entry

__all__ = ["RULE", "choose", "leave_one_out", "pooled_entry"]

RULE = "best mean of F1 at IoU 0.5, 0.7, 0.9 over the objects of all mosaics but the one scored"


def choose(tables: Mapping[str, Mapping[str, np.ndarray]], groups: Sequence[str]) -> str:
    """Return the candidate with the best mean F1 on `groups`; of equal ones the first.

    Parameters
    ----------
    tables : mapping
        Candidate to group to counts, (thresholds, 3) ndarray of int: true positives, false
        positives, false negatives.
    groups : sequence of str
    """
    return max(
        tables,
        key=lambda name: pooled_f1(np.stack([tables[name][group] for group in groups])).mean(),
    )


def leave_one_out(
    tables: Mapping[str, Mapping[str, np.ndarray]], groups: Sequence[str]
) -> tuple[np.ndarray, dict[str, str]]:
    """Score each group with the candidate that is best on the other groups.

    Parameters
    ----------
    tables : mapping
        See `choose`.
    groups : sequence of str

    Returns
    -------
    counts : ndarray of int, shape (groups, thresholds, 3)
    chosen : dict of str to str
        Candidate of each group.

    Raises
    ------
    InputError
        There are fewer than two groups, so nothing to choose on.
    """
    if len(groups) < 2:
        raise InputError(f"nothing is left to choose on: {len(groups)} groups")
    chosen = {
        group: choose(tables, [other for other in groups if other != group]) for group in groups
    }
    return np.stack([tables[name][group] for group, name in chosen.items()]), chosen


def pooled_entry(counts: np.ndarray) -> dict[str, Any]:
    """Return pooled F1 with its 95 % interval over groups, as it stands in a card.

    Parameters
    ----------
    counts : ndarray of int, shape (groups, thresholds, 3)
    """
    return score_entry(counts, over="mosaics")
