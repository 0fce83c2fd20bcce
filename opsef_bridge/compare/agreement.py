"""Order variants by how well they agree with the other model families, without truth.

The method is *expected F1 from calibrated object support*. Every object of a variant is
looked up in every other variant; how many families hold it too, and how exactly, gives
the object a support `q` between 0 and 1. The supports of a variant add up to the F1 it
would have if each object were right with probability `q`. It was chosen among about 60
alternatives (random choice loses .24 of F1 against the best variant, the plain mean
pairwise F1 .027-.038, this one .022-.030), but it is blind where all models are blind
together. So it is an order to look in: it is called agreement, never accuracy.

Images are reduced one at a time to an `ImageSupport` of a few numbers per object, in any
process; `score` then adds up the images.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from opsef_bridge.errors import InputError
from opsef_bridge.measure.overlap import Runs, best_iou, iou_pairs, label_runs, reaches

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ImageSupport", "agreement", "image_support", "pairwise_f1", "score", "support"]

LEVELS = (0.5, 0.7)
SHARE, SHARE_07, BEST, MEAN = range(4)
Labels = Sequence[np.ndarray | None]


@dataclass(frozen=True)
class ImageSupport:
    """What one image says about its variants: small arrays that can be sent and stored.

    Parameters
    ----------
    labels : list of (n_v,) ndarray of int64
        Label of each object of each variant; empty for a variant that failed.
    others, own : list of (n_v, 4) ndarray of float32
        Support of each object by the other families, and by the other variants of its
        own: the share that holds it at IoU 0.5 and at 0.7, the largest and the mean IoU.
    matched : (2, V, V) ndarray of int64
        Matched pairs of each two variants at IoU 0.5 and 0.7.
    present : (V,) ndarray of bool
        Whether the variant has labels of this image.
    """

    labels: list[np.ndarray]
    others: list[np.ndarray]
    own: list[np.ndarray]
    matched: np.ndarray
    present: np.ndarray


def agreement(labels: Sequence[Labels], families: Sequence[str]) -> pd.DataFrame:
    """Score and rank variants by their agreement, over all images.

    Parameters
    ----------
    labels : sequence over images of sequences over variants of ndarray of int
        Label images, 2D or 3D; the variants of one image share its shape. None where a
        variant failed: it has found nothing there, and no vote on what others found.
    families : sequence of str
        Family (engine + weights, whatever the recipe) of each variant. A family has one
        voice, however many variants it has.

    Returns
    -------
    DataFrame
        One row per variant in the given order, see `score`.

    Raises
    ------
    InputError
        Counts that do not fit, different shapes within an image, or no label images.

    Examples
    --------
    >>> import numpy as np
    >>> one, two = np.array([[1, 1, 0, 2, 2]]), np.array([[1, 1, 0, 0, 0]])
    >>> agreement([[one, one, two]], ["unet", "stardist", "watershed"])[["plain_mean", "rank"]]
       plain_mean  rank
    0    0.833333     1
    1    0.833333     2
    2    0.666667     3
    """
    return score([image_support(variants, families) for variants in labels], families)


def image_support(labels: Labels, families: Sequence[str]) -> ImageSupport:
    """Compare all variants of one image with each other.

    Parameters
    ----------
    labels : sequence over variants of ndarray of int, or None
        As in `agreement`, for one image. Equal label images are compared once.
    families : sequence of str
        Family of each variant.

    Returns
    -------
    ImageSupport
        About 40 bytes per object, and 16 per pair of variants.
    """
    if len(labels) != len(families):
        raise InputError(
            f"{len(labels)} variants have {len(families)} families", hint="Give one each"
        )
    distinct, which = distinct_runs(labels)
    names = sorted(set(families))
    family = np.array([names.index(name) for name in families], int)
    members = np.zeros((len(distinct), len(names)), np.int64)
    present = which >= 0
    np.add.at(members, (which[present], family[present]), 1)
    tables, matched = _compare(distinct, members)
    nothing = np.zeros((0, 4), np.float32)
    others = [nothing] * len(labels)
    own = [nothing] * len(labels)
    for variant, kind in enumerate(which):
        if kind >= 0:
            others[variant], own[variant] = _reduce(
                tables[kind], members, members[kind], family[variant]
            )
    pairs = matched[:, which[:, None], which]
    numbers = [distinct[k].labels if k >= 0 else np.zeros(0, np.int64) for k in which]
    return ImageSupport(numbers, others, own, pairs, present)


def score(supports: Sequence[ImageSupport], families: Sequence[str]) -> pd.DataFrame:
    """Rank variants from the supports of their images.

    Parameters
    ----------
    supports : sequence of ImageSupport
        One per image, all with the same variants.
    families : sequence of str
        Family of each variant.

    Returns
    -------
    DataFrame
        One row per variant in the given order, with the columns

        - agreement, agreement_07 : ``2 Q / (n + 1.02 max Q)`` with `n` objects and the sum
          `Q` of their supports, counting partners from IoU 0.5, or from 0.7; 0 for a
          variant without objects. Not an estimate of F1
        - plain_mean, plain_mean_07 : F1 against the other variants with objects pooled
          over the images, mean within each family, then over the families
        - objects : number of objects in all images
        - families : number of families that have labels at all
        - rank : 1 is first; by agreement, then plain_mean (six digits), then the given order
        - tie : equal to another variant in three digits of agreement
        - method : ``expected-f1``; ``one-family``, where support can only come from the
          own family; ``plain``, under ten variants, where agreement is plain_mean

    Notes
    -----
    A variant that failed on an image misses all objects there. It does not vote: its
    image is left out where others are compared with it.
    """
    import pandas as pd

    for image in supports:
        if len(image.present) != len(families):
            raise InputError(
                f"{len(image.present)} variants have {len(families)} families",
                hint="Give one family for each variant",
            )
    present = _present(supports, len(families))
    voices = len({name for name, there in zip(families, present, strict=True) if there})
    objects = _counts(supports, len(families)).sum(axis=0)
    plain = [_family_mean(pairwise_f1(supports, t), families, present) for t in LEVELS]
    method = "expected-f1" if voices > 1 else "one-family"
    if np.count_nonzero(present) < _constants()["fewest_variants"]:
        method, (ef, ef_07) = "plain", plain
    else:
        ef, ef_07 = (_expected_f1(supports, objects, voices == 1, s) for s in (SHARE, SHARE_07))
    # Sums in another order differ in the last bits; those must not decide the rank.
    order = np.lexsort((np.arange(len(ef)), -plain[0].round(6), -ef.round(6)))
    rank = np.empty(len(ef), np.int64)
    rank[order] = np.arange(1, len(ef) + 1)
    digits = pd.Series(ef.round(3))
    return pd.DataFrame(
        {
            "agreement": ef,
            "agreement_07": ef_07,
            "plain_mean": plain[0],
            "plain_mean_07": plain[1],
            "objects": objects,
            "families": voices,
            "rank": rank,
            "tie": digits.duplicated(keep=False),
            "method": method,
        }
    )


def support(labels: Labels, families: Sequence[str]) -> list[pd.DataFrame]:
    """Support of every object of one image: the map of what to review first.

    Parameters
    ----------
    labels, families
        As in `image_support`.

    Returns
    -------
    list of DataFrame
        Per variant one row per object, ascending by label: ``label``; over the other
        families, ``s``, the mean share of variants with a partner of IoU 0.5 or more,
        ``x``, the mean of the largest and ``u``, of the mean IoU; and ``q``, the
        calibrated support in (0, 1). With one family: over its other variants.
    """
    import pandas as pd

    image = image_support(labels, families)
    alone = len({name for name, there in zip(families, image.present, strict=True) if there}) <= 1
    tables = []
    for numbers, values in zip(image.labels, image.own if alone else image.others, strict=True):
        values = values.astype(float)
        s, x, u = values[:, SHARE], values[:, BEST], values[:, MEAN]
        q = _calibrated(values, alone, SHARE)
        tables.append(pd.DataFrame({"label": numbers, "s": s, "x": x, "u": u, "q": q}))
    return tables


def pairwise_f1(supports: Sequence[ImageSupport], threshold: float = 0.5) -> np.ndarray:
    """F1 of each variant (row) against each other (column), objects pooled over images.

    Images on which the column's variant failed are left out of it. 0 where neither has
    an object; the diagonal is 1 for variants with objects.

    Raises
    ------
    InputError
        `threshold` is not one of those that `image_support` counts, 0.5 and 0.7.
    """
    if threshold not in LEVELS:
        raise InputError(f"no pairs were matched at IoU {threshold}", hint=f"Choose from {LEVELS}")
    if not supports:
        return np.zeros((0, 0))
    matched = sum(image.matched[LEVELS.index(threshold)] for image in supports)
    counts = _counts(supports, len(supports[0].present))
    voting = np.array([image.present for image in supports])
    objects = counts.T @ voting + counts.sum(axis=0)
    return np.divide(2 * matched, objects, out=np.zeros(objects.shape), where=objects > 0)


@cache
def _constants() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("agreement_constants.json").read_text("utf-8"))


def distinct_runs(labels: Labels) -> tuple[list[Runs], np.ndarray]:
    """Return the different label images, and which of them each variant is (-1: none)."""
    distinct: list[Runs] = []
    known: dict[bytes, int] = {}
    which = np.full(len(labels), -1)
    for variant, image in enumerate(labels):
        if image is None:
            continue
        runs = label_runs(image)
        if distinct and runs.shape != distinct[0].shape:
            raise InputError(
                f"variant {variant} has shape {runs.shape}, others {distinct[0].shape}",
                hint="Compare variants of the same image, crop and scale",
            )
        key = blake2b()
        for part in (runs.start, runs.stop, runs.index, runs.labels):
            key.update(part)
        which[variant] = known.setdefault(key.digest(), len(distinct))
        if which[variant] == len(distinct):
            distinct.append(runs)
    return distinct, which


def _compare(distinct: list[Runs], members: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Sums over the variants of each family, per object; and the matched pairs.

    The tables are ``(objects, 4, families)``: variants that hold the object at IoU 0.5,
    at 0.7, its largest and its summed IoU with them, itself left out.
    """
    tables = [np.zeros((len(runs), 4, members.shape[1])) for runs in distinct]
    # One row and column more, of zeros: where the index -1 of a failed variant leads.
    matched = np.zeros((2, len(distinct) + 1, len(distinct) + 1), np.int64)
    for p, a in enumerate(distinct):
        matched[:, p, p] = len(a)
        for q in range(p):
            pairs = iou_pairs(a, distinct[q])
            best_a, best_b = best_iou(pairs)
            _add_votes(tables[p], best_a, members[q])
            _add_votes(tables[q], best_b, members[p])
            for level, threshold in enumerate(LEVELS):
                # From 0.5 on, competing pairs form stars of one match each, and a forest
                # has as many trees as it has nodes more than edges.
                nodes = reaches(best_a, threshold).sum() + reaches(best_b, threshold).sum()
                edges = reaches(pairs.iou, threshold).sum()
                matched[level, p, q] = matched[level, q, p] = nodes - edges
    return tables, matched


def _add_votes(table: np.ndarray, best: np.ndarray, members: np.ndarray) -> None:
    """Add the votes of variants with equal labels, `members` of each family."""
    for family in np.flatnonzero(members):
        count = members[family]
        table[:, SHARE, family] += count * reaches(best, LEVELS[0])
        table[:, SHARE_07, family] += count * reaches(best, LEVELS[1])
        table[:, MEAN, family] += count * best
        np.maximum(table[:, BEST, family], best, out=table[:, BEST, family])


def _reduce(
    table: np.ndarray, members: np.ndarray, twins: np.ndarray, family: int
) -> tuple[np.ndarray, np.ndarray]:
    """Support by the other families and by the own, of one variant's objects.

    `twins` counts the variants of each family with the same labels, the variant included.
    """
    twins, voters = twins.copy(), members.sum(axis=0)
    twins[family] -= 1
    voters[family] -= 1
    share = table.copy()
    _add_votes(share, np.ones(len(table)), twins)
    share[:, [SHARE, SHARE_07, MEAN]] /= np.maximum(voters, 1)
    voting = voters > 0
    voting[family] = False
    others = share[:, :, voting].mean(axis=2) if voting.any() else np.zeros((len(table), 4))
    return others.astype(np.float32), share[:, :, family].astype(np.float32)


def _present(supports: Sequence[ImageSupport], variants: int) -> np.ndarray:
    """Variants that have labels of any image."""
    return np.any([np.zeros(variants, bool), *(image.present for image in supports)], axis=0)


def _counts(supports: Sequence[ImageSupport], variants: int) -> np.ndarray:
    """Objects per image and variant."""
    counts = [[len(numbers) for numbers in image.labels] for image in supports]
    return np.array(counts, np.int64).reshape(len(supports), variants)


def _calibrated(values: np.ndarray, alone: bool, share: int) -> np.ndarray:
    """Support q of objects from the four sums of `ImageSupport`."""
    c = _constants()["one_family" if alone else "expected_f1"]
    logit = c["intercept"] + c["share"] * values[:, share]
    if not alone:
        logit = logit + c["best"] * values[:, BEST] + c["mean"] * values[:, MEAN]
    return 1 / (1 + np.exp(-logit))


def _expected_f1(
    supports: Sequence[ImageSupport], objects: np.ndarray, alone: bool, share: int
) -> np.ndarray:
    right = np.zeros(len(objects))
    for image in supports:
        values = image.own if alone else image.others
        right += [_calibrated(v.astype(float), alone, share).sum() for v in values]
    expected = objects + _constants()["truth_factor"] * right.max(initial=0)
    return np.divide(2 * right, expected, out=np.zeros(len(objects)), where=objects > 0)


def _family_mean(f1: np.ndarray, families: Sequence[str], present: np.ndarray) -> np.ndarray:
    """Mean over families of the mean F1 against their members, the variant left out."""
    members = {
        name: [v for v, other in enumerate(families) if other == name and present[v]]
        for name in sorted(set(families))
    }
    result = np.zeros(len(families))
    for variant in range(len(families)):
        others = [[w for w in group if w != variant] for group in members.values()]
        means = [f1[variant, group].mean() for group in others if group]
        result[variant] = np.mean(means) if means else 0.0
    return result
