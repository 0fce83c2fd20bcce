"""How good labels are against truth, over many images: counts, F1, and an interval."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

__all__ = ["THRESHOLDS", "bootstrap", "count_matches", "pooled_f1", "score_entry"]

THRESHOLDS = (0.5, 0.7, 0.9)
"""IoU from which two objects count as the same."""


def count_matches(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], thresholds: Sequence[float] = THRESHOLDS
) -> np.ndarray:
    """Count matches of (truth, labels) pairs.

    Returns
    -------
    ndarray of int, shape (images, thresholds, 3)
        True positives, false positives, false negatives.
    """
    from opsef_bridge.measure import match

    counts = [match(*pair, thresholds)[["tp", "fp", "fn"]].to_numpy() for pair in pairs]
    return np.array(counts, int).reshape(-1, len(thresholds), 3)


def pooled_f1(counts: np.ndarray) -> np.ndarray:
    """Return F1 per threshold with the objects of all images in one pool.

    Examples
    --------
    >>> pooled_f1(np.array([[[8, 2, 0]], [[0, 0, 2]]]))
    array([0.8])
    """
    tp, fp, fn = np.moveaxis(counts.sum(axis=0), -1, 0)
    return 2 * tp / np.maximum(2 * tp + fp + fn, 1)


def bootstrap(counts: np.ndarray, *, repeats: int = 2000, seed: int = 0) -> np.ndarray:
    """Return the 95 % interval of `pooled_f1` over images drawn with replacement.

    Draws of images in which there was nothing to find, and nothing was found, have no F1 and do
    not count.

    Returns
    -------
    ndarray of float, shape (2, thresholds)
        The 2.5th and the 97.5th percentile; NaN where no image has anything.
    """
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(counts), size=(repeats, len(counts)))
    drawn = np.array([pooled_f1(counts[draw]) for draw in draws])
    some = counts.any(axis=-1)
    drawn[~np.array([some[draw].any(axis=0) for draw in draws])] = np.nan
    if not some.any(axis=0).all():
        return np.full((2, counts.shape[1]), np.nan)
    return np.nanpercentile(drawn, (2.5, 97.5), axis=0)


def score_entry(counts: np.ndarray, *, over: str = "images") -> dict[str, Any]:
    """Return pooled F1 with its 95 % interval, as it stands in a card.

    Parameters
    ----------
    counts : ndarray of int, shape (images, thresholds, 3)
        Of `count_matches`; or summed over groups of images, which `over` then names.
    over : str
        What is drawn with replacement for the interval.

    Examples
    --------
    A single image says nothing of others.

    >>> one = np.array([[[8, 1, 1]] * len(THRESHOLDS)])
    >>> score_entry(one)["f1"]["0.7"]
    {'value': 0.8889, 'interval': None}
    """
    low, high = bootstrap(counts)
    several = len(counts) > 1
    return {
        over: len(counts),
        "objects": int(counts[:, 0, [0, 2]].sum()),
        "f1": {
            str(threshold): {
                "value": round(v, 4),
                "interval": [round(a, 4), round(b, 4)] if several else None,
            }
            for threshold, v, a, b in zip(
                THRESHOLDS, pooled_f1(counts).tolist(), low.tolist(), high.tolist(), strict=True
            )
        },
        "interval": f"95 %, bootstrap over {over}",
    }
