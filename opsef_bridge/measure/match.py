"""Count right, wrong and missed objects of a label image against another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from opsef_bridge.errors import InputError
from opsef_bridge.measure.overlap import Pairs, iou_pairs, reaches

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "check_thresholds", "figures", "match", "matched", "touching"]

TOUCH = 0.1
"""IoU from which an object counts as part of a split or a merge (Zaki et al. 2020)."""


COLUMNS = {
    "threshold": float,
    **dict.fromkeys(("tp", "fp", "fn"), int),
    **dict.fromkeys(("precision", "recall", "f1", "ap", "mean_iou"), float),
    **dict.fromkeys(("splits", "merges"), int),
}


def match(
    truth: np.ndarray, labels: np.ndarray, thresholds: float | Iterable[float] = (0.5,)
) -> pd.DataFrame:
    """Match objects one to one and count them, at any number of IoU thresholds.

    Parameters
    ----------
    truth, labels : ndarray of int
        Label images of one shape, any integer dtype, 2D or 3D.
    thresholds : float or iterable of float, optional
        IoU that a pair must reach (``>=``, compared as float32), in (0, 1].

    Returns
    -------
    DataFrame
        One row per threshold in the given order, with the columns

        - threshold
        - tp, fp, fn : matched objects, unmatched ones of `labels`, unmatched of `truth`
        - precision, recall, f1 : ``tp/(tp+fp)``, ``tp/(tp+fn)``, ``2tp/(2tp+fp+fn)``
        - ap : ``tp / (tp + fp + fn)``
        - mean_iou : mean IoU of the matched pairs
        - splits : objects of `truth` that reach IoU 0.1 with more than one of `labels`
        - merges : objects of `labels` that reach IoU 0.1 with more than one of `truth`

        A figure whose divisor is 0 is 0; so all figures of two empty images are 0.

    Raises
    ------
    InputError
        A threshold outside (0, 1], or label images that `overlap` refuses.

    Notes
    -----
    Above 0.5 an object has at most one partner, so nothing needs to be assigned. At 0.5
    and below, where objects compete, the assignment with the most matches is taken and
    among those the one with the largest sum of IoU, matched or not: the rule of
    ``stardist.matching.matching``, solved on the overlapping pairs only.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.array([[1, 1, 1, 0, 2, 2]])
    >>> match(truth, np.array([[7, 7, 0, 0, 0, 9]]), [0.5, 0.6])[["threshold", "tp", "fp", "fn"]]
       threshold  tp  fp  fn
    0        0.5   2   0   0
    1        0.6   1   1   1
    """
    import pandas as pd

    thresholds = check_thresholds(thresholds)
    pairs = iou_pairs(truth, labels)
    splits, merges = (int(np.count_nonzero(many)) for many in touching(pairs))
    rows = []
    for threshold in thresholds:
        iou = pairs.iou[matched(pairs, threshold)]
        fp, fn = len(pairs.b) - len(iou), len(pairs.a) - len(iou)
        rows.append((threshold, *figures(iou, fp, fn), splits, merges))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def check_thresholds(thresholds: float | Iterable[float]) -> list[float]:
    """Return IoU thresholds as a list; raise InputError for one outside (0, 1]."""
    checked = np.atleast_1d(np.asarray(thresholds, float)).tolist()
    for threshold in checked:
        if not 0 < threshold <= 1:
            raise InputError(
                f"IoU threshold {threshold} is outside (0, 1]",
                hint="0.5 counts an object as found where half of the union is shared",
            )
    return checked


def figures(iou: np.ndarray, fp: int, fn: int) -> tuple[float, ...]:
    """Return tp, fp, fn, precision, recall, f1, ap and mean IoU.

    `iou` is that of the matched pairs; `fp` and `fn` are the objects without a partner.
    """
    tp = len(iou)
    if tp == 0:
        return 0, fp, fn, 0.0, 0.0, 0.0, 0.0, 0.0
    precision, recall = tp / (tp + fp), tp / (tp + fn)
    f1, ap = 2 * tp / (2 * tp + fp + fn), tp / (tp + fp + fn)
    return tp, fp, fn, precision, recall, f1, ap, float(iou.mean())


def touching(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Tell which objects of truth are split, and which of the labels are merged: two bools."""
    close = reaches(pairs.iou, TOUCH)
    split = np.bincount(pairs.i[close], minlength=len(pairs.a)) > 1
    return split, np.bincount(pairs.j[close], minlength=len(pairs.b)) > 1


def matched(pairs: Pairs, threshold: float) -> np.ndarray:
    """Tell which pairs `match` counts as matched at an IoU threshold: bool, one per pair."""
    good = reaches(pairs.iou, threshold)
    i, j = pairs.i[good], pairs.j[good]
    if np.bincount(i).max(initial=0) <= 1 and np.bincount(j).max(initial=0) <= 1:
        return good
    # Each row also has a column of its own ("no partner"), so that a full matching of the
    # rows exists; 1 is added everywhere because a stored 0 would count as no edge.
    n, m = len(pairs.a), len(pairs.b)
    gain = 1 + good + pairs.iou / (2 * min(n, m))
    rows = np.concatenate([pairs.i, np.arange(n)])
    columns = np.concatenate([pairs.j, m + np.arange(n)])
    weights = sparse.coo_array(
        (np.concatenate([gain, np.ones(n)]), (rows, columns)), shape=(n, m + n)
    )
    partner = np.empty(n, int)
    row, column = min_weight_full_bipartite_matching(weights.tocsr(), maximize=True)
    partner[row] = column
    return good & (partner[pairs.i] == pairs.j)
