"""Models against truth over many images: tables, size strata, and a paired comparison.

Everything is counted per image first. The image is what is drawn with replacement for all
intervals: objects of one image are not independent of each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from opsef_bridge.errors import InputError
from opsef_bridge.measure.match import check_thresholds, touching
from opsef_bridge.measure.overlap import Runs
from opsef_bridge.measure.pair_errors import (
    dimensions,
    outline_distances,
    radii,
    radius_shift,
    size_aware,
)
from opsef_bridge.measure.quality import Fates, Judged, fates, judge

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DRAWS", "SEED", "THRESHOLDS", "Case", "Evaluation", "compare", "evaluate"]

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""IoU from which two objects count as the same."""

DRAWS, SEED = 2000, 0
"""Of the bootstrap over images."""

OCTAVES = 32
PER_PAIR = ("iou", "boundary_mean", "boundary_max", "radius_shift", "iou_size_aware")
FIELDS = ("tp", "fp", "fn", "splits", "merges", "shared", "foreground", *PER_PAIR)
SIZES = ("truth", "found", "predicted", "right", *PER_PAIR[1:4])


class Case(NamedTuple):
    """An image: its name, truth, labels of a model, and where everything is vouched for."""

    name: str
    truth: np.ndarray
    labels: np.ndarray
    valid: np.ndarray | None = None


@dataclass(frozen=True)
class Evaluation:
    """How good a model is on a set of images.

    Attributes
    ----------
    thresholds : tuple of float
    names : tuple of str
        Of the images.
    images : DataFrame
        One row per image and threshold: ``image``, the columns of
        `opsef_bridge.measure.quality.quality`, and means over the matched pairs:
        ``boundary_mean``, ``boundary_max`` (of each pair the largest distance),
        ``radius_shift`` in pixels and ``iou_size_aware``, as in
        `opsef_bridge.measure.pair_errors.pair_table`; NaN where no pair is matched.
    pooled : DataFrame
        One row per threshold, all objects of all images in one pool: ``images``, the same
        columns, and ``f1_low``, ``f1_high``: the 95 % interval of F1 by a bootstrap over the
        images (NaN for a single image).
    strata : DataFrame
        One row per threshold and octave of size: ``from_px`` and ``to_px`` (equivalent
        diameter, half open), objects of ``truth`` of that size, how many were ``found``,
        ``recall``, ``predicted`` objects of that size, how many are ``right``,
        ``precision``, and the errors of outline of the pairs whose object of truth has that
        size. A share without objects is NaN. Recall goes by the size of truth, precision by
        that of the prediction: a missed object has no predicted size, an invented one no
        true one.
    counts : ndarray of int64, shape (images, thresholds, 3)
        True positives, false positives, false negatives.
    """

    thresholds: tuple[float, ...]
    names: tuple[str, ...]
    images: pd.DataFrame
    pooled: pd.DataFrame
    strata: pd.DataFrame
    counts: np.ndarray


def evaluate(
    cases: Iterable[Case | tuple], thresholds: float | Iterable[float] = THRESHOLDS
) -> Evaluation:
    """Score labels of one model against truth, image by image.

    Parameters
    ----------
    cases : iterable of Case or tuple
        Name, truth, labels, and, if not all of the image is vouched for, a mask of bool; see
        `opsef_bridge.measure.quality.judge` for what counts then. Taken one at a time.
    thresholds : float or iterable of float, optional
        IoU that a pair must reach.

    Raises
    ------
    InputError
        There is no image, two have one name, the shapes of one differ, no object of truth
        counts in any, there is no threshold, or one is outside (0, 1].

    Examples
    --------
    >>> truth = np.array([[1, 1, 1, 0, 2, 2]])
    >>> done = evaluate([("a", truth, truth), ("b", truth, truth * (truth < 2))], 0.5)
    >>> done.pooled[["threshold", "images", "tp", "fn", "f1"]].round(3)
       threshold  images  tp  fn     f1
    0        0.5       2   3   1  0.857
    """
    thresholds = check_thresholds(thresholds)
    if not thresholds:
        raise InputError("there is no IoU threshold", hint="0.5 is the usual one")
    names, sums = [], []
    sizes = np.zeros((len(thresholds), OCTAVES, len(SIZES)))
    for case in cases:
        case = Case(*case)
        _check(case, names)
        one, by_size = _measure(case, thresholds)
        names.append(case.name)
        sums.append(one)
        sizes += by_size
    if not names:
        raise InputError("there is no image to evaluate", hint="Give labels and their truth")
    every = np.array(sums)
    if not every[:, :, [0, 2]].any():
        raise InputError(
            f"truth has no object that counts in any of {len(names)} images",
            hint="Without an object there is nothing to be found: vouch for some, or bring others",
        )
    counts = every[:, :, :3].astype(np.int64)
    return Evaluation(
        tuple(thresholds),
        tuple(names),
        _image_table(names, every, thresholds),
        _pooled_table(every, counts, thresholds),
        _strata_table(sizes, thresholds),
        counts,
    )


def _check(case: Case, names: Sequence[str]) -> None:
    if case.name in names:
        raise InputError(f"two images have the name {case.name!r}", hint="Rename one of them")
    shapes = np.shape(case.truth), np.shape(case.labels)
    if shapes[0] != shapes[1]:
        raise InputError(
            f"{case.name}: truth is of shape {shapes[0]}, the labels are of {shapes[1]}",
            hint="Compare labels of the same image, crop and scale",
        )


def _measure(case: Case, thresholds: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Sums of `FIELDS` per threshold, and of `SIZES` per threshold and octave."""
    judged = judge(case.truth, case.labels, case.valid)
    pairs = judged.pairs
    ends = [fates(judged, threshold) for threshold in thresholds]
    chosen = np.unique(np.concatenate([end.pairs for end in ends]))
    errors = _pair_errors(case, judged, chosen)
    split, merged = touching(pairs)
    same = [
        np.count_nonzero(split & judged.truth),
        np.count_nonzero(merged & judged.labels),
        judged.shared,
        judged.foreground,
    ]
    octaves = [_octaves(runs) for runs in (pairs.a, pairs.b)]
    sums = [
        [len(end.pairs), end.wrong.sum(), end.missed.sum(), *same, *errors[end.pairs].sum(axis=0)]
        for end in ends
    ]
    by_size = [_by_size(end, judged, errors[end.pairs], *octaves) for end in ends]
    return np.array(sums, float), np.array(by_size)


def _pair_errors(case: Case, judged: Judged, chosen: np.ndarray) -> np.ndarray:
    """`PER_PAIR` of all pairs, NaN but for the chosen."""
    pairs = judged.pairs
    errors = np.full((len(pairs.iou), len(PER_PAIR)), np.nan)
    ndim = dimensions(pairs.a.shape)
    iou = pairs.iou[chosen]
    shift = radius_shift(iou, radii(pairs, chosen), ndim)
    distances = outline_distances(case.truth, case.labels, pairs, chosen)
    errors[chosen] = np.stack([iou, *distances, shift, size_aware(shift, ndim)], axis=1)
    return errors


def _octaves(runs: Runs) -> np.ndarray:
    """Floor of the binary logarithm of each object's equivalent diameter in pixels."""
    if dimensions(runs.shape) == 2:
        diameter = np.sqrt(4 * runs.areas / np.pi)
    else:
        diameter = np.cbrt(6 * runs.areas / np.pi)
    return np.clip(np.floor(np.log2(diameter)), 0, OCTAVES - 1).astype(int)


def _by_size(
    end: Fates, judged: Judged, errors: np.ndarray, of_truth: np.ndarray, of_labels: np.ndarray
) -> np.ndarray:
    """Sums of `SIZES` by octave."""

    def count(octaves: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.bincount(octaves, weights, OCTAVES)

    of_pairs = of_truth[judged.pairs.i[end.pairs]]
    columns = [
        count(of_truth, end.found | end.missed),
        count(of_truth, end.found),
        count(of_labels, end.right | end.wrong),
        count(of_labels, end.right),
        *(count(of_pairs, errors[:, 1 + k]) for k in range(3)),
    ]
    return np.stack(columns, axis=1)


def _figures(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of a table from rows of sums; the formulas of `quality`, for many rows."""
    of = dict(zip(FIELDS, sums.T, strict=True))
    tp, fp, fn = of["tp"], of["fp"], of["fn"]
    f1 = _share(2 * tp, 2 * tp + fp + fn)
    mean_iou = _share(of["iou"], tp)
    whole = {name: of[name].astype(np.int64) for name in ("tp", "fp", "fn")}
    return {
        **whole,
        "precision": _share(tp, tp + fp),
        "recall": _share(tp, tp + fn),
        "f1": f1,
        "ap": _share(tp, tp + fp + fn),
        "mean_iou": mean_iou,
        "splits": of["splits"].astype(np.int64),
        "merges": of["merges"].astype(np.int64),
        "pq": mean_iou * f1,
        "sq": mean_iou,
        "rq": f1,
        "dice": _share(2 * of["shared"], of["foreground"]),
        **{name: _share(of[name], tp, np.nan) for name in PER_PAIR[1:]},
    }


def _share(part: np.ndarray, whole: np.ndarray, none: float = 0.0) -> np.ndarray:
    """``part / whole``, and `none` where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), none), where=np.asarray(whole) > 0)


def _image_table(
    names: Sequence[str], every: np.ndarray, thresholds: Sequence[float]
) -> pd.DataFrame:
    import pandas as pd

    rows = every.reshape(-1, len(FIELDS))
    place = {"image": np.repeat(names, len(thresholds)), "threshold": thresholds * len(names)}
    return pd.DataFrame(place | _figures(rows))


def _pooled_table(
    every: np.ndarray, counts: np.ndarray, thresholds: Sequence[float]
) -> pd.DataFrame:
    import pandas as pd

    low = high = np.full(len(thresholds), np.nan)
    if len(every) > 1:
        drawn = np.concatenate(list(_drawn_f1([counts], DRAWS, SEED)), axis=1)[0]
        low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
    place = {"threshold": thresholds, "images": [len(every)] * len(thresholds)}
    interval = {"f1_low": low, "f1_high": high}
    return pd.DataFrame(place | _figures(every.sum(axis=0)) | interval)


def _strata_table(sizes: np.ndarray, thresholds: Sequence[float]) -> pd.DataFrame:
    import pandas as pd

    octaves = np.flatnonzero(sizes[:, :, [0, 2]].any(axis=(0, 2)))
    of = dict(zip(SIZES, sizes[:, octaves].reshape(-1, len(SIZES)).T, strict=True))
    shares = {
        "recall": _share(of["found"], of["truth"], np.nan),
        "precision": _share(of["right"], of["predicted"], np.nan),
    } | {name: _share(of[name], of["found"], np.nan) for name in SIZES[4:]}
    whole = {name: of[name].astype(np.int64) for name in SIZES[:4]}
    place = {
        "threshold": np.repeat(thresholds, len(octaves)),
        "from_px": np.tile(2**octaves, len(thresholds)),
        "to_px": np.tile(2 ** (octaves + 1), len(thresholds)),
    }
    order = [*place, "truth", "found", "recall", "predicted", "right", "precision", *SIZES[4:]]
    return pd.DataFrame(place | whole | shares)[order]


def compare(
    models: Mapping[str, Evaluation], *, draws: int = DRAWS, seed: int = SEED
) -> pd.DataFrame:
    """Compare models on the same images, two at a time, by a paired bootstrap over images.

    In each draw as many images as there are, taken with replacement, are the same for both
    models; F1 is taken over the pool of their objects.

    Parameters
    ----------
    models : mapping of name to Evaluation
        Of the same images and thresholds.
    draws, seed : int, optional
        Of numpy's default generator.

    Returns
    -------
    DataFrame
        One row per threshold and pair of models: ``threshold``, ``a``, ``b``, ``images``,
        ``f1_a``, ``f1_b``, ``difference`` (a - b), ``low`` and ``high`` (95 % interval of
        the difference), ``a_better`` (share of the draws in which a has the higher F1; a
        tie is half), ``draws``, ``seed``. The last three figures are NaN for a single image.

    Raises
    ------
    InputError
        The images or thresholds differ.
    """
    import pandas as pd

    first, *others = models.values()
    if any((one.names, one.thresholds) != (first.names, first.thresholds) for one in others):
        raise InputError(
            f"the models {', '.join(models)} were evaluated on different images or thresholds",
            hint="A paired comparison needs the same images for all",
        )
    counts = [one.counts for one in models.values()]
    several = len(first.names) > 1
    blocks = list(_drawn_f1(counts, draws, seed)) if several and len(models) > 1 else []
    drawn = np.concatenate(blocks, axis=1) if blocks else None
    rows = []
    for number, threshold in enumerate(first.thresholds):
        for (i, a), (j, b) in combinations(enumerate(models), 2):
            f1 = [_f1(counts[k].sum(axis=0))[number] for k in (i, j)]
            interval = (np.nan,) * 3
            if drawn is not None:
                gain = drawn[i, :, number] - drawn[j, :, number]
                better = ((gain > 0) + (gain == 0) / 2).mean()
                interval = (*np.percentile(gain, (2.5, 97.5)), better)
            rows.append((threshold, a, b, len(first.names), *f1, f1[0] - f1[1], *interval))
    columns = ["threshold", "a", "b", "images", "f1_a", "f1_b", "difference"]
    table = pd.DataFrame(rows, columns=[*columns, "low", "high", "a_better"])
    return table.assign(draws=draws, seed=seed)


def _f1(counts: np.ndarray) -> np.ndarray:
    """F1 of counts with tp, fp, fn along the last axis."""
    tp, fp, fn = np.moveaxis(counts.astype(float), -1, 0)
    return _share(2 * tp, 2 * tp + fp + fn)


def _drawn_f1(counts: Sequence[np.ndarray], draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield pooled F1 of (models, some draws, thresholds), the same images for all models."""
    rng = np.random.default_rng(seed)
    images, thresholds, _ = counts[0].shape
    flat = np.stack([one.reshape(images, -1) for one in counts]).astype(float)
    for start in range(0, draws, 250):
        times = rng.multinomial(images, np.full(images, 1 / images), min(250, draws - start))
        pooled = times.astype(float) @ flat
        yield _f1(pooled.reshape(len(counts), -1, thresholds, 3))
