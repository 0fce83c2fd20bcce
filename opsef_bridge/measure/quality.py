"""How good labels are against truth: panoptic quality and Dice beside the counts of `match`.

Truth may be known in a part of the image only: `judge` says which objects count then.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from opsef_bridge.errors import InputError
from opsef_bridge.measure.match import COLUMNS, check_thresholds, figures, matched, touching
from opsef_bridge.measure.overlap import Pairs, Runs, iou_pairs, label_runs

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Fates", "Judged", "fates", "judge", "quality"]

PANOPTIC = ("pq", "sq", "rq", "dice")


class Judged(NamedTuple):
    """What two label images have in common, and which of their objects count.

    Attributes
    ----------
    pairs : Pairs
        Overlapping objects of truth (`a`) and labels (`b`), all of them.
    truth, labels : (N,), (M,) ndarray of bool
        Which objects count, in the order of ``pairs.a.labels`` and ``pairs.b.labels``.
    shared, foreground : int
        Pixels where both have an object, and the sum of both foregrounds; in the valid part.
    """

    pairs: Pairs
    truth: np.ndarray
    labels: np.ndarray
    shared: int
    foreground: int


class Fates(NamedTuple):
    """What became of the objects that count, at one IoU threshold.

    Attributes
    ----------
    pairs : (P,) ndarray of int
        Positions of the matched pairs that count.
    found, missed : (N,) ndarray of bool
        Objects of truth with and without a partner; neither where it does not count.
    right, wrong : (M,) ndarray of bool
        Objects of the labels with and without a partner; neither where it does not count.
    """

    pairs: np.ndarray
    found: np.ndarray
    missed: np.ndarray
    right: np.ndarray
    wrong: np.ndarray


def judge(truth: np.ndarray, labels: np.ndarray, valid: np.ndarray | None = None) -> Judged:
    """Pair the objects of two label images and say which of them count.

    One rule for truth and labels: an object counts if at least half of its pixels are valid.
    Objects are matched with all their pixels, wherever these are. A matched pair counts if
    its object of truth does: who finds an object that was asked for has found it, although
    his own outline may lie outside by a bit more; who finds one that was not asked for is
    neither right nor wrong.

    Parameters
    ----------
    truth, labels : ndarray of int
        Label images of one shape, any integer dtype, 2D or 3D.
    valid : ndarray of bool, optional
        Where everything is vouched for, in the shape of the labels; by default everywhere.

    Raises
    ------
    InputError
        Shapes differ, or `valid` is not bool.

    Examples
    --------
    >>> truth, labels = np.array([[1, 1, 1, 0, 2]]), np.array([[5, 5, 5, 0, 6]])
    >>> judged = judge(truth, labels, np.array([[True, True, False, False, False]]))
    >>> judged.truth, judged.labels
    (array([ True, False]), array([ True, False]))
    """
    pairs = iou_pairs(truth, labels)
    if valid is None:
        foreground = int(pairs.a.areas.sum() + pairs.b.areas.sum())
        every = [np.ones(len(runs), bool) for runs in (pairs.a, pairs.b)]
        return Judged(pairs, *every, int(pairs.pixels.sum()), foreground)
    valid = np.asarray(valid)
    if valid.dtype != bool or valid.shape != pairs.a.shape:
        raise InputError(
            f"valid is {valid.dtype} of shape {valid.shape}, the labels have {pairs.a.shape}",
            hint="Give a bool array of the shape of the labels: mask > 0",
        )
    inside = label_runs(valid.view(np.uint8))
    pixels = [_shared_pixels(runs, inside) for runs in (pairs.a, pairs.b)]
    counts = [2 * own >= runs.areas for own, runs in zip(pixels, (pairs.a, pairs.b), strict=True)]
    both = (np.asarray(truth) > 0) & (np.asarray(labels) > 0) & valid
    return Judged(pairs, *counts, int(np.count_nonzero(both)), int(sum(map(np.sum, pixels))))


def _shared_pixels(runs: Runs, mask: Runs) -> np.ndarray:
    """Pixels of each object that lie in a mask."""
    shared = iou_pairs(runs, mask)
    return np.bincount(shared.i, shared.pixels, len(runs)).astype(np.int64)


def fates(judged: Judged, threshold: float) -> Fates:
    """Say what became of each object that counts, matched as `match` does it."""
    pairs = judged.pairs
    hit = matched(pairs, threshold)
    kept = np.flatnonzero(hit & judged.truth[pairs.i])
    found, right = np.zeros(len(pairs.a), bool), np.zeros(len(pairs.b), bool)
    found[pairs.i[kept]] = True
    right[pairs.j[kept]] = True
    wrong = judged.labels.copy()
    wrong[pairs.j[hit]] = False
    return Fates(kept, found, judged.truth & ~found, right, wrong)


def quality(
    truth: np.ndarray,
    labels: np.ndarray,
    thresholds: float | Iterable[float] = (0.5,),
    valid: np.ndarray | None = None,
) -> pd.DataFrame:
    """Count objects as `match` does, and say how good they are as a panoptic segmentation.

    Parameters
    ----------
    truth, labels : ndarray of int
        Label images of one shape, any integer dtype, 2D or 3D.
    thresholds : float or iterable of float, optional
        IoU that a pair must reach (``>=``, compared as float32), in (0, 1].
    valid : ndarray of bool, optional
        Where everything is vouched for; see `judge` for what counts then.

    Returns
    -------
    DataFrame
        One row per threshold, with the columns of `match` and

        - sq : segmentation quality, the mean IoU of the matched pairs
        - rq : recognition quality, ``tp / (tp + fp/2 + fn/2)``, which is F1
        - pq : panoptic quality, ``sq * rq`` [1]_
        - dice : ``2 |A and B| / (|A| + |B|)`` of the two foregrounds as masks [2]_, the
          same at all thresholds

        A figure whose divisor is 0 is 0.

    Raises
    ------
    InputError
        As `match` and `judge` raise it.

    Notes
    -----
    The paper defines pq at IoU *above* 0.5; here a pair of exactly 0.5 is matched too, as in
    ``stardist.matching.matching`` (``panoptic_quality``). For the paper's own figure ask for
    the next number, ``numpy.nextafter(numpy.float32(0.5), numpy.float32(1))``.

    References
    ----------
    .. [1] A. Kirillov et al., "Panoptic segmentation", CVPR 2019, equation 2.
    .. [2] L. R. Dice, "Measures of the amount of ecologic association between species",
       Ecology 26, 1945.

    Examples
    --------
    >>> truth, labels = np.array([[1, 1, 1, 0, 2, 2]]), np.array([[7, 7, 0, 0, 0, 9]])
    >>> quality(truth, labels, [0.5, 0.6])[["threshold", "tp", "pq", "sq", "rq", "dice"]].round(3)
       threshold  tp     pq     sq   rq  dice
    0        0.5   2  0.583  0.583  1.0  0.75
    1        0.6   1  0.333  0.667  0.5  0.75
    """
    import pandas as pd

    thresholds = check_thresholds(thresholds)
    judged = judge(truth, labels, valid)
    split, merged = touching(judged.pairs)
    errors = (int((split & judged.truth).sum()), int((merged & judged.labels).sum()))
    dice = 2 * judged.shared / max(judged.foreground, 1)
    rows = []
    for threshold in thresholds:
        fate = fates(judged, threshold)
        iou = judged.pairs.iou[fate.pairs]
        row = figures(iou, int(fate.wrong.sum()), int(fate.missed.sum()))
        f1, mean_iou = row[5], row[7]
        rows.append((threshold, *row, *errors, mean_iou * f1, mean_iou, f1, dice))
    columns = COLUMNS | dict.fromkeys(PANOPTIC, float)
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)
